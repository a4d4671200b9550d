//! The B-tree: find, put and remove on the pages of a draft.
//!
//! A B+tree: values in the leaves, separators and children in the branches, all leaves at one
//! depth, no links between neighbours (a copy-on-write tree would have to copy along them).
//!
//! Most changes leave the shape of the tree alone: the leaf takes the cell in place, and the branches above
//! only learn its new address, as far up as they are not this transaction's own yet. The others
//! change the shape ([`super::reshape`]).
//!
//! Left out: the error of one step leaves the tree half changed. The transaction around it refuses
//! everything after and rolls back.

use bytes::Bytes;

use crate::storage::append::{Edge, append, is_behind};
use crate::storage::cache::{Guard, pin};
use crate::storage::draft::Draft;
use crate::storage::error::StorageError;
use crate::storage::node::{
    Cell, MAX_INLINE_VALUE_BYTES, MAX_TREE_KEY_BYTES, MAX_VALUE_HEAD_BYTES, Node, NodeMut, Payload,
};
use crate::storage::page::PageRef;
use crate::storage::pager::{Pages, StoredValue};
use crate::storage::reshape::{self, UNDERFULL_BYTES};
use crate::storage::root::Tree;
use crate::storage::split::build;

/// A branch on the way down, and the slot of the child that the way goes on with.
#[derive(Clone, Copy)]
pub struct Step {
    at: PageRef,
    slot: usize,
    child: PageRef,
}

/// Finds `key` and reads what its cell carries.
pub fn find<T>(
    pages: &impl Pages,
    tree: Tree,
    key: &[u8],
    guard: &Guard,
    read: impl FnOnce(Payload<'_>) -> Result<T, StorageError>,
) -> Result<Option<T>, StorageError> {
    let Some(root) = tree.root else { return Ok(None) };
    let mut page = pages.node(root, guard)?;
    loop {
        let node = Node::of(&page);
        if node.is_leaf() {
            return match node.search(key) {
                Ok(slot) => read(node.payload(slot)).map(Some),
                Err(_) => Ok(None),
            };
        }
        let (child, level) = (node.child(node.child_slot(key)), node.level() - 1);
        page = pages.child(child, level, guard)?;
    }
}

/// The value of `key`.
pub fn get(
    pages: &impl Pages,
    tree: Tree,
    key: &[u8],
) -> Result<Option<StoredValue>, StorageError> {
    let guard = &pin();
    find(pages, tree, key, guard, |payload| pages.value(payload, guard))
}

/// Lends what of the value of `key` lies in its leaf.
pub fn read_head<T>(
    pages: &impl Pages,
    tree: Tree,
    key: &[u8],
    read: impl FnOnce(&[u8]) -> T,
) -> Result<Option<T>, StorageError> {
    find(pages, tree, key, &pin(), |payload| Ok(read(payload.head())))
}

/// Most keys that `prefetch` takes at once: about as many lines as a processor core fetches at a time.
pub const PREFETCH_KEYS: usize = 16;

/// Has the way to `keys` fetched into the processor's cache: for keys that are about to be changed. Goes down by
/// levels, so that the waits for memory of all keys overlap. Of the leaves it fetches what a search reads; what
/// copies them after that fetches the rest as well as more of this would.
pub fn prefetch(pages: &impl Pages, tree: Tree, keys: &[&[u8]]) -> Result<(), StorageError> {
    let guard = &pin();
    let Some(root) = tree.root else { return Ok(()) };
    let mut nodes = [root; PREFETCH_KEYS];
    let mut level = Node::of(&pages.node(root, guard)?).level();
    while level > 0 {
        for (at, key) in nodes.iter_mut().zip(keys) {
            let page = pages.child(*at, level, guard)?;
            let node = Node::of(&page);
            *at = node.child(node.child_slot(key));
        }
        level -= 1;
        nodes.iter().take(keys.len()).for_each(|&at| pages.prefetch(at, false));
    }
    Ok(())
}

/// Lends the value of `key` where it lies; one that lies in two places is put together.
pub fn read<T>(
    pages: &impl Pages,
    tree: Tree,
    key: &[u8],
    read: impl FnOnce(&[u8]) -> T,
) -> Result<Option<T>, StorageError> {
    let guard = &pin();
    find(pages, tree, key, guard, |payload| match payload {
        Payload::Inline(value) => Ok(read(value)),
        payload => Ok(read(&pages.value(payload, guard)?.into_bytes())),
    })
}

/// Refuses an entry that no tree can hold, before anything changed.
pub fn check_size(key: &[u8], head: &[u8], body: &[u8]) -> Result<(), StorageError> {
    if key.len() > MAX_TREE_KEY_BYTES {
        return Err(StorageError::KeyTooLong { len_bytes: key.len() });
    }
    if u32::try_from(head.len() + body.len()).is_err() {
        return Err(StorageError::ValueTooLong { len_bytes: head.len() + body.len() });
    }
    assert!(head.len() <= MAX_VALUE_HEAD_BYTES, "a value's head is short by construction");
    Ok(())
}

/// What a key has when it is put over: lent where it lies.
pub struct Present<'a> {
    payload: Payload<'a>,
    draft: &'a Draft,
    guard: &'a Guard,
}

impl Present<'_> {
    /// What of the value lies in the leaf: all of a short one.
    pub fn head(&self) -> &[u8] {
        self.payload.head()
    }

    /// The rest of the value; empty for a short one.
    pub fn body(&self) -> Result<Bytes, StorageError> {
        match self.payload {
            Payload::Inline(_) => Ok(Bytes::new()),
            payload => Ok(self.draft.value(payload, self.guard)?.body),
        }
    }
}

/// Sets `key` to a value that `decide` gives the first part of, having seen what the key has, and `body`
/// the rest; nothing is done if `decide` says no. Of a value too long for a leaf the first part, which has at
/// most [`MAX_VALUE_HEAD_BYTES`], stays there all the same. If it was set, says whether the key was there before.
pub fn replace(
    draft: &mut Draft,
    tree: &mut Tree,
    key: &[u8],
    body: &[u8],
    decide: impl FnOnce(Option<Present<'_>>, &mut Vec<u8>) -> Result<bool, StorageError>,
) -> Result<Option<bool>, StorageError> {
    let guard = &pin();
    let place = match tree.root {
        Some(root) if !is_behind(draft, root, key, guard)? => {
            Some(find_place(draft, root, key, guard)?)
        }
        _ => None,
    };
    let mut value = std::mem::take(&mut draft.value);
    value.clear();
    let is_set = match place {
        None => decide(None, &mut value),
        Some(Place { leaf, found, .. }) => {
            let page = draft.page(leaf, guard)?;
            let present = found.ok().map(|slot| Node::of(&page).payload(slot));
            decide(present.map(|payload| Present { payload, draft, guard }), &mut value)
        }
    }?;
    let was_present = match is_set {
        true => Some(put_at(draft, tree, place, key, &mut value, body, guard)?),
        false => None,
    };
    draft.value = value;
    Ok(was_present)
}

/// Puts `head` and `body` where `key` belongs: at `place`, or behind all others if that is none. Says whether the
/// key was there before.
fn put_at(
    draft: &mut Draft,
    tree: &mut Tree,
    place: Option<Place>,
    key: &[u8],
    head: &mut Vec<u8>,
    body: &[u8],
    guard: &Guard,
) -> Result<bool, StorageError> {
    debug_assert!(check_size(key, head, body).is_ok());
    let len = head.len() + body.len();
    let payload = if len > MAX_INLINE_VALUE_BYTES {
        let page = draft.create_value(body, guard)?;
        Payload::Outline { head, len_bytes: len as u32, page }
    } else {
        head.extend_from_slice(body);
        Payload::Inline(head)
    };
    let was_present = match (tree.root, place) {
        (Some(root), None) if append(draft, root, &Cell { key, payload }, guard)? => false,
        (Some(root), place) => {
            let place = match place {
                Some(place) => place,
                None => find_place(draft, root, key, guard)?,
            };
            change(draft, tree, root, place, key, Some(payload), guard)?
        }
        (None, _) => {
            let pieces = build(draft, 0, &[Cell { key, payload }], false, guard)?;
            tree.root = pieces.first;
            false
        }
    };
    tree.len += u64::from(!was_present);
    Ok(was_present)
}

/// Removes `key`; says whether it was there.
pub fn remove(draft: &mut Draft, tree: &mut Tree, key: &[u8]) -> Result<bool, StorageError> {
    let Some(root) = tree.root else { return Ok(false) };
    let guard = &pin();
    let place = find_place(draft, root, key, guard)?;
    let was_present = change(draft, tree, root, place, key, None, guard)?;
    tree.len -= u64::from(was_present);
    Ok(was_present)
}

/// Gives up all pages of the tree.
pub fn clear(draft: &mut Draft, tree: &mut Tree) -> Result<(), StorageError> {
    let mut nodes: Vec<(PageRef, Option<u8>)> =
        tree.root.map(|root| (root, None)).into_iter().collect();
    while let Some((at, level)) = nodes.pop() {
        let guard = &pin();
        let page = match level {
            Some(level) => draft.child(at, level, guard)?,
            None => draft.node(at, guard)?,
        };
        let node = Node::of(&page);
        let mut values = Vec::new();
        for slot in 0..node.count() {
            match node.payload(slot) {
                Payload::Child(child) => nodes.push((child, Some(node.level() - 1))),
                Payload::Outline { page, .. } => values.push(page),
                Payload::Inline(_) => {}
            }
        }
        drop(page);
        values.into_iter().try_for_each(|value| draft.discard(value))?;
        draft.discard(at)?;
    }
    *tree = Tree::default();
    Ok(())
}

/// Where a key belongs. The branches above the leaf are in the draft's path.
#[derive(Clone, Copy)]
struct Place {
    leaf: PageRef,
    /// Whether the leaf is the tree's last.
    is_last: bool,
    /// The slot that the key has in the leaf, or would have.
    found: Result<usize, usize>,
}

/// Puts (`Some`) or removes (`None`) a cell, in place if that is possible. Says whether the key was there before.
fn change(
    draft: &mut Draft,
    tree: &mut Tree,
    root: PageRef,
    place: Place,
    key: &[u8],
    new: Option<Payload<'_>>,
    guard: &Guard,
) -> Result<bool, StorageError> {
    match change_in_place(draft, tree, root, place, key, new, guard)? {
        Some(was_present) => Ok(was_present),
        None => reshape::change(draft, tree, root, key, new, guard),
    }
}

/// Puts (`Some`) or removes (`None`) a cell where that changes no node's cells but the leaf's. Says
/// whether the key was there before, or nothing when the shape of the tree must change: then nothing
/// was done.
fn change_in_place(
    draft: &mut Draft,
    tree: &mut Tree,
    root: PageRef,
    Place { leaf, is_last, found }: Place,
    key: &[u8],
    new: Option<Payload<'_>>,
    guard: &Guard,
) -> Result<Option<bool>, StorageError> {
    let done = change_leaf_in_place(draft, leaf, found, key, new, guard)?;
    let Some((was_present, changed)) = done else { return Ok(None) };
    let path = std::mem::take(&mut draft.path);
    // The branches above a leaf that the transaction had made already are its own too.
    if is_last && new.is_some() && (was_present, changed) == (false, leaf) {
        draft.edge = Some(Edge { root, parent: path.last().map(|step| step.at), leaf });
    }
    if let Some(root) = relink(draft, &path, changed, guard)? {
        tree.root = Some(root);
    }
    draft.path = path;
    Ok(Some(was_present))
}

/// Finds the leaf that `key` belongs to, and notes the branches on the way.
fn find_place(
    draft: &mut Draft,
    root: PageRef,
    key: &[u8],
    guard: &Guard,
) -> Result<Place, StorageError> {
    let mut path = std::mem::take(&mut draft.path);
    path.clear();
    let place = walk_down(draft, root, key, &mut path, guard)?;
    draft.path = path;
    Ok(place)
}

fn walk_down(
    draft: &Draft,
    root: PageRef,
    key: &[u8],
    path: &mut Vec<Step>,
    guard: &Guard,
) -> Result<Place, StorageError> {
    let mut at = root;
    let mut is_last = true;
    let mut page = draft.node(at, guard)?;
    loop {
        let node = Node::of(&page);
        if node.is_leaf() {
            return Ok(Place { leaf: at, is_last, found: node.search(key) });
        }
        let slot = node.child_slot(key);
        is_last &= slot + 1 == node.count();
        let (child, level) = (node.child(slot), node.level() - 1);
        path.push(Step { at, slot, child });
        at = child;
        page = draft.child(at, level, guard)?;
    }
}

/// Changes the leaf at `at`, where `key` was `found`, in place, if that leaves it one page that is not underfull.
/// Returns whether the key was there before, and where the leaf is now.
fn change_leaf_in_place(
    draft: &mut Draft,
    at: PageRef,
    found: Result<usize, usize>,
    key: &[u8],
    new: Option<Payload<'_>>,
    guard: &Guard,
) -> Result<Option<(bool, PageRef)>, StorageError> {
    let page = draft.page(at, guard)?;
    let node = Node::of(&page);
    let (slot, was_present, gone_bytes) = match found {
        Ok(slot) => (slot, true, node.cell_size(slot)),
        Err(slot) => (slot, false, 0),
    };
    let Some(payload) = new else {
        if !was_present {
            return Ok(Some((false, at)));
        }
        if at.span > 1 || node.count() == 1 || node.used_bytes() - gone_bytes < UNDERFULL_BYTES {
            return Ok(None);
        }
        let value = value_page(node.payload(slot));
        drop(page);
        value.map_or(Ok(()), |value| draft.discard(value))?;
        let at = draft.edit(at, guard, |bytes| NodeMut::of(bytes).remove(slot))?;
        return Ok(Some((true, at)));
    };
    let cell = Cell { key, payload };
    let shrinks_under = gone_bytes > cell.size(node.prefix_len())
        && node.used_bytes() - gone_bytes < UNDERFULL_BYTES;
    if at.span > 1 || shrinks_under || !node.has_room_for(&cell, gone_bytes) {
        return Ok(None);
    }
    let value = if was_present { value_page(node.payload(slot)) } else { None };
    drop(page);
    value.map_or(Ok(()), |value| draft.discard(value))?;
    let at = draft.edit(at, guard, |bytes| {
        let mut node = NodeMut::of(bytes);
        if was_present { node.set_value(slot, &cell) } else { node.insert(slot, &cell) }
    })?;
    Ok(Some((was_present, at)))
}

/// The page that a cell's value has of its own.
pub fn value_page(payload: Payload<'_>) -> Option<PageRef> {
    match payload {
        Payload::Outline { page, .. } => Some(page),
        Payload::Inline(_) | Payload::Child(_) => None,
    }
}

/// Tells the branches above that the last one's child is at `child` now. Returns the root if all of
/// them had to be told.
fn relink(
    draft: &mut Draft,
    path: &[Step],
    mut child: PageRef,
    guard: &Guard,
) -> Result<Option<PageRef>, StorageError> {
    for step in path.iter().rev() {
        if step.child == child {
            return Ok(None);
        }
        let set_child = |bytes: &mut [u8]| NodeMut::of(bytes).set_child(step.slot, child);
        child = draft.edit(step.at, guard, set_child)?;
    }
    Ok(Some(child))
}
