//! The B-tree: find, put and remove on the pages of a draft.
//!
//! A B+tree: values in the leaves, separators and children in the branches, all leaves at one
//! depth, no links between neighbours (a copy-on-write tree would have to copy along them). A change
//! walks down to the leaf, changes it, and hands each parent on the way up what became of its child
//! ([`Pieces`]): nothing, one page or several. The parent adopts them, which may make pieces of it
//! in turn.
//!
//! A node whose cells need more than a page is cut into several ([`super::split`]). One of which a
//! change leaves less than a third is joined with a sibling, or evened out with it when both do not
//! fit one page; a third, not half, so that a put right after does not split again. Every branch has
//! at least two children. Nodes of several pages are rebuilt on each change rather than edited.
//!
//! Left out: the error of one step leaves the tree half changed. The transaction around it refuses
//! everything after and rolls back.

use std::ops::Range;

use bytes::Bytes;

use crate::storage::catalog::Tree;
use crate::storage::draft::Draft;
use crate::storage::error::StorageError;
use crate::storage::node::{
    Cell, MAX_INLINE_VALUE_BYTES, MAX_TREE_KEY_BYTES, Node, NodeMut, Payload,
};
use crate::storage::page::{PAGE_BYTES, PageRef, span_of_payload};
use crate::storage::pager::Pages;
use crate::storage::split::{Pieces, build, pack};

/// A node that uses less is joined with a sibling.
const UNDERFULL_BYTES: usize = PAGE_BYTES / 3;

/// What a change below a node did.
struct Change {
    pieces: Pieces,
    /// Whether the key was there before.
    was_present: bool,
    /// Whether the node may have become underfull.
    shrunk: bool,
}

/// The value of `key`.
pub fn get(pages: &impl Pages, tree: Tree, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
    let Some(root) = tree.root else { return Ok(None) };
    let mut page = pages.node(root)?;
    loop {
        let node = Node::of(&page);
        if node.is_leaf() {
            return match node.search(key) {
                Ok(slot) => pages.value_of(&page, slot).map(Some),
                Err(_) => Ok(None),
            };
        }
        page = pages.child(node.child(node.child_slot(key)), node.level() - 1)?;
    }
}

/// Refuses an entry that no tree can hold, before anything changed.
pub fn check_size(key: &[u8], value: &[u8]) -> Result<(), StorageError> {
    if key.len() > MAX_TREE_KEY_BYTES {
        return Err(StorageError::KeyTooLong { len_bytes: key.len() });
    }
    if u32::try_from(value.len()).is_err() {
        return Err(StorageError::ValueTooLong { len_bytes: value.len() });
    }
    Ok(())
}

/// Sets `key` to `value`, whose sizes were checked; says whether the key was there before.
pub fn put(
    draft: &mut Draft,
    tree: &mut Tree,
    key: &[u8],
    value: &[u8],
) -> Result<bool, StorageError> {
    debug_assert!(check_size(key, value).is_ok());
    let payload = if value.len() > MAX_INLINE_VALUE_BYTES {
        let page = draft.create_value(value, span_of_payload(value.len()))?;
        Payload::Value { page, len_bytes: value.len() as u32 }
    } else {
        Payload::Inline(value)
    };
    let was_present = match tree.root {
        Some(root) => change(draft, tree, root, key, Some(payload))?,
        None => {
            let pieces = build(draft, 0, &[Cell { key, payload }], false)?;
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
    let was_present = change(draft, tree, root, key, None)?;
    tree.len -= u64::from(was_present);
    Ok(was_present)
}

/// Gives up all pages of the tree.
pub fn clear(draft: &mut Draft, tree: &mut Tree) -> Result<(), StorageError> {
    let mut nodes: Vec<(PageRef, Option<u8>)> =
        tree.root.map(|root| (root, None)).into_iter().collect();
    while let Some((at, level)) = nodes.pop() {
        let page = match level {
            Some(level) => draft.child(at, level)?,
            None => draft.node(at)?,
        };
        let node = Node::of(&page);
        for cell in node.cells() {
            match cell.payload {
                Payload::Child(child) => nodes.push((child, Some(node.level() - 1))),
                Payload::Value { page, .. } => draft.discard(page),
                Payload::Inline(_) => {}
            }
        }
        draft.discard(at);
    }
    *tree = Tree::default();
    Ok(())
}

/// Puts (`Some`) or removes (`None`) a cell under the root, then makes what is left of the root one
/// node again: more branches above pieces, fewer above a single child.
fn change(
    draft: &mut Draft,
    tree: &mut Tree,
    root: PageRef,
    key: &[u8],
    new: Option<Payload<'_>>,
) -> Result<bool, StorageError> {
    let mut level = Node::of(&*draft.node(root)?).level();
    let Change { mut pieces, was_present, .. } = change_under(draft, root, level, key, new, true)?;
    while let Some(first) = pieces.first.filter(|_| !pieces.rest.is_empty()) {
        level += 1;
        let children: Vec<Cell<'_>> = std::iter::once((&[][..], first))
            .chain(pieces.rest.iter().map(|(key, page)| (&key[..], *page)))
            .map(|(key, page)| Cell { key, payload: Payload::Child(page) })
            .collect();
        pieces = build(draft, level, &children, true)?;
    }
    while let Some(root) = pieces.first {
        let page = draft.page(root)?;
        let node = Node::of(&page);
        if node.is_leaf() || node.count() > 1 {
            break;
        }
        draft.discard(root);
        pieces.first = Some(node.child(0));
    }
    tree.root = pieces.first;
    Ok(was_present)
}

/// Puts or removes a cell under the node at `at`. `on_edge`: no key of the tree is right of it.
fn change_under(
    draft: &mut Draft,
    at: PageRef,
    level: u8,
    key: &[u8],
    new: Option<Payload<'_>>,
    on_edge: bool,
) -> Result<Change, StorageError> {
    let page = draft.child(at, level)?;
    let node = Node::of(&page);
    if node.is_leaf() {
        return change_leaf(draft, at, key, new, on_edge);
    }
    let slot = node.child_slot(key);
    let (child, on_edge) = (node.child(slot), on_edge && slot + 1 == node.count());
    drop(page); // or the edit below would copy the page for this reader
    let below = change_under(draft, child, level - 1, key, new, on_edge)?;
    let mut pieces = adopt(draft, at, slot, below.pieces, on_edge)?;
    if let (Some(at), true) = (pieces.only(), below.shrunk) {
        pieces = relieve(draft, at, slot)?;
    }
    Ok(Change { pieces, ..below })
}

fn change_leaf(
    draft: &mut Draft,
    at: PageRef,
    key: &[u8],
    new: Option<Payload<'_>>,
    on_edge: bool,
) -> Result<Change, StorageError> {
    let page = draft.page(at)?;
    let (found, old) = match Node::of(&page).search(key) {
        Ok(slot) => (slot..slot + 1, Some(Node::of(&page).cell(slot))),
        Err(slot) => (slot..slot, None),
    };
    let new = new.map(|payload| Cell { key, payload });
    let was_present = old.is_some();
    let shrunk = old.map_or(0, |old| old.size()) > new.map_or(0, |new| new.size());
    if let Some(Payload::Value { page, .. }) = old.map(|old| old.payload) {
        draft.discard(page);
    }
    drop(page);
    let pieces = if !was_present && new.is_none() {
        Pieces::one(at)
    } else {
        splice(draft, at, found, new.as_slice(), on_edge)?
    };
    Ok(Change { pieces, was_present, shrunk })
}

/// Lets the branch at `at` take `pieces` in place of its child at `slot`.
fn adopt(
    draft: &mut Draft,
    at: PageRef,
    slot: usize,
    pieces: Pieces,
    on_edge: bool,
) -> Result<Pieces, StorageError> {
    let Some(first) = pieces.first else {
        return disown(draft, at, slot);
    };
    let at = if Node::of(&*draft.page(at)?).child(slot) == first {
        at
    } else {
        draft.edit(at, |page| NodeMut::of(page).set_child(slot, first))?
    };
    if pieces.rest.is_empty() {
        return Ok(Pieces::one(at));
    }
    splice(draft, at, slot + 1..slot + 1, &children(&pieces.rest), on_edge)
}

/// Takes the child at `slot`, of which nothing is left, out of the branch at `at`.
fn disown(draft: &mut Draft, at: PageRef, slot: usize) -> Result<Pieces, StorageError> {
    let page = draft.page(at)?;
    let node = Node::of(&page);
    if slot > 0 || node.count() == 1 {
        drop(page);
        return splice(draft, at, slot..slot + 1, &[], false);
    }
    // The next child becomes the first and loses its lower bound.
    let heir = Cell { key: &[], payload: Payload::Child(node.child(1)) };
    drop(page);
    splice(draft, at, 0..2, &[heir], false)
}

/// Joins the child at `slot` of the branch at `at` with a sibling, or evens the two out, when it is
/// underfull.
fn relieve(draft: &mut Draft, at: PageRef, slot: usize) -> Result<Pieces, StorageError> {
    let unchanged = Pieces::one(at);
    let parent = draft.page(at)?;
    let node = Node::of(&parent);
    // A child that vanished left its place to the next one, or to none.
    let slot = slot.min(node.count() - 1);
    let level = node.level() - 1;
    let child = draft.child(node.child(slot), level)?;
    if node.count() == 1 || !is_underfull(&Node::of(&child)) {
        return Ok(unchanged);
    }
    drop(child);
    let left_slot = slot.saturating_sub(1);
    let (left_at, right_at) = (node.child(left_slot), node.child(left_slot + 1));
    let separator = node.key(left_slot + 1).to_vec();
    drop(parent);

    let (left, right) = (draft.child(left_at, level)?, draft.child(right_at, level)?);
    let left_count = Node::of(&left).count();
    let mut cells: Vec<Cell<'_>> =
        Node::of(&left).cells().chain(Node::of(&right).cells()).collect();
    if level > 0 {
        cells[left_count].key = &separator; // it stood in the parent only
    }
    if let [only, last] = &pack(&cells, level, false)[..]
        && (only.end, last.start) == (left_count, left_count)
    {
        return Ok(unchanged); // they cannot be evened out better
    }
    let pieces = build(draft, level, &cells, false)?;
    draft.discard(left_at);
    draft.discard(right_at);
    let first = pieces.first.expect("two nodes have cells");
    let at = draft.edit(at, |page| NodeMut::of(page).set_child(left_slot, first))?;
    let right_slot = left_slot + 1;
    splice(draft, at, right_slot..right_slot + 1, &children(&pieces.rest), false)
}

fn is_underfull(node: &Node<'_>) -> bool {
    node.used_bytes() < UNDERFULL_BYTES || (!node.is_leaf() && node.count() < 2)
}

fn children(pieces: &[(Vec<u8>, PageRef)]) -> Vec<Cell<'_>> {
    pieces.iter().map(|(key, page)| Cell { key, payload: Payload::Child(*page) }).collect()
}

/// Replaces the cells in `slots` of the node at `at` by `new`: in place where they fit a page,
/// otherwise by building its pieces anew.
fn splice(
    draft: &mut Draft,
    at: PageRef,
    slots: Range<usize>,
    new: &[Cell<'_>],
    on_edge: bool,
) -> Result<Pieces, StorageError> {
    let page = draft.page(at)?;
    let node = Node::of(&page);
    let gone: usize = slots.clone().map(|slot| node.cell(slot).size()).sum();
    let size = node.used_bytes() - gone + new.iter().map(Cell::size).sum::<usize>();
    let count = node.count() - slots.len() + new.len();
    if count == 0 {
        draft.discard(at);
        return Ok(Pieces { first: None, rest: Vec::new() });
    }
    if at.span == 1 && size <= PAGE_BYTES {
        drop(page);
        let at = draft.edit(at, |page| {
            let mut node = NodeMut::of(page);
            slots.clone().for_each(|_| node.remove(slots.start));
            new.iter().enumerate().for_each(|(nth, cell)| node.insert(slots.start + nth, *cell));
        })?;
        return Ok(Pieces::one(at));
    }
    let appends = on_edge && slots.end == node.count() && new.len() > slots.len();
    let mut cells: Vec<Cell<'_>> = node.cells().collect();
    cells.splice(slots, new.iter().copied());
    let pieces = build(draft, node.level(), &cells, appends)?;
    draft.discard(at);
    Ok(pieces)
}
