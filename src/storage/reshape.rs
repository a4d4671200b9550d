//! Changes that alter the shape of the tree: splits, joins, more levels and fewer.
//!
//! A change walks down to the leaf, changes it, and hands each parent on the way up what became of
//! its child ([`Pieces`]): nothing, one page or several. The parent adopts them, which may make
//! pieces of it in turn.
//!
//! A node whose cells need more than a page is cut into several ([`super::split`]). One of which a
//! change leaves less than a third is joined with a sibling if both fit one page; a third, not half, so
//! that a put right after does not split again. If they do not fit, it stays as it is: two neighbours
//! then are more than half full together, and a tree that loses its keys from one end does not even
//! out its last leaf with each. Every branch has at least two children, and takes some from a sibling if it must. Nodes of several pages are rebuilt on each change rather than edited.

use std::ops::Range;

use crate::storage::btree::value_page;
use crate::storage::cache::Guard;
use crate::storage::draft::Draft;
use crate::storage::error::StorageError;
use crate::storage::node::{Cell, NODE_HEADER_BYTES, Node, NodeMut, Payload};
use crate::storage::page::{PAGE_BYTES, PageRef};
use crate::storage::pager::Pages;
use crate::storage::root::Tree;
use crate::storage::split::{Copies, Pieces, build, lay, pack};

/// A node that uses less is joined with a sibling.
pub const UNDERFULL_BYTES: usize = PAGE_BYTES / 3;

/// How full two leaves may become in place of three: fuller ones would be cut again soon.
const SPREAD_BYTES: usize = PAGE_BYTES / 32 * 29;

/// What a change below a node did.
struct Change {
    pieces: Pieces,
    /// Whether the key was there before.
    was_present: bool,
    /// Whether the node may have become underfull.
    shrunk: bool,
}

/// Puts (`Some`) or removes (`None`) a cell under the root.
pub fn change(
    draft: &mut Draft,
    tree: &mut Tree,
    root: PageRef,
    key: &[u8],
    new: Option<Payload<'_>>,
    guard: &Guard,
) -> Result<bool, StorageError> {
    let level = Node::of(&draft.node(root, guard)?).level();
    let below = change_under(draft, root, level, key, new, true, guard)?;
    tree.root = crown(draft, level, below.pieces, guard)?;
    Ok(below.was_present)
}

/// Makes what became of a root at `level` one node again: more branches above pieces, fewer above a
/// single child.
pub fn crown(
    draft: &mut Draft,
    mut level: u8,
    mut pieces: Pieces,
    guard: &Guard,
) -> Result<Option<PageRef>, StorageError> {
    while let Some(first) = pieces.first.filter(|_| !pieces.rest.is_empty()) {
        level += 1;
        let children: Vec<Cell<'_>> = std::iter::once((&[][..], first))
            .chain(pieces.rest.iter().map(|(key, page)| (&key[..], *page)))
            .map(|(key, page)| Cell { key, payload: Payload::Child(page) })
            .collect();
        pieces = build(draft, level, &children, true, guard)?;
    }
    while let Some(root) = pieces.first {
        let page = draft.page(root, guard)?;
        let node = Node::of(&page);
        if node.is_leaf() || node.count() > 1 {
            break;
        }
        let only = node.child(0);
        drop(page);
        draft.discard(root)?;
        pieces.first = Some(only);
    }
    Ok(pieces.first)
}

/// Puts or removes a cell under the node at `at`. `on_edge`: no key of the tree is right of it.
fn change_under(
    draft: &mut Draft,
    at: PageRef,
    level: u8,
    key: &[u8],
    new: Option<Payload<'_>>,
    on_edge: bool,
    guard: &Guard,
) -> Result<Change, StorageError> {
    let page = draft.child(at, level, guard)?;
    let node = Node::of(&page);
    if node.is_leaf() {
        drop(page);
        return change_leaf(draft, at, key, new, on_edge, guard);
    }
    let slot = node.child_slot(key);
    let (child, on_edge) = (node.child(slot), on_edge && slot + 1 == node.count());
    drop(page);
    if level == 1
        && !on_edge
        && let Some(payload) = new
        && let Some(change) = spread(draft, at, slot, &Cell { key, payload }, guard)?
    {
        return Ok(change);
    }
    let below = change_under(draft, child, level - 1, key, new, on_edge, guard)?;
    let mut pieces = adopt(draft, at, slot, below.pieces, on_edge, guard)?;
    if let (Some(at), true) = (pieces.only(), below.shrunk) {
        pieces = relieve(draft, at, slot, guard)?;
    }
    Ok(Change { pieces, ..below })
}

fn change_leaf(
    draft: &mut Draft,
    at: PageRef,
    key: &[u8],
    new: Option<Payload<'_>>,
    on_edge: bool,
    guard: &Guard,
) -> Result<Change, StorageError> {
    let page = draft.page(at, guard)?;
    let node = Node::of(&page);
    let (found, old) = match node.search(key) {
        Ok(slot) => (slot..slot + 1, Some((node.cell_size(slot), value_page(node.payload(slot))))),
        Err(slot) => (slot..slot, None),
    };
    let new = new.map(|payload| Cell { key, payload });
    let was_present = old.is_some();
    let new_size = new.map_or(0, |new| new.size(node.prefix_len()));
    let shrunk = old.is_some_and(|(size, _)| size > new_size);
    drop(page);
    if let Some((_, Some(value))) = old {
        draft.discard(value)?;
    }
    let pieces = if !was_present && new.is_none() {
        Pieces::one(at)
    } else {
        splice(draft, at, found, new.as_slice(), on_edge, guard)?
    };
    Ok(Change { pieces, was_present, shrunk })
}

/// Lets the branch at `at` take `pieces` in place of its child at `slot`.
pub fn adopt(
    draft: &mut Draft,
    at: PageRef,
    slot: usize,
    pieces: Pieces,
    on_edge: bool,
    guard: &Guard,
) -> Result<Pieces, StorageError> {
    let Some(first) = pieces.first else {
        return disown(draft, at, slot, guard);
    };
    let present = Node::of(&draft.page(at, guard)?).child(slot);
    let at = if present == first {
        at
    } else {
        draft.edit(at, guard, |bytes| NodeMut::of(bytes).set_child(slot, first))?
    };
    if pieces.rest.is_empty() {
        return Ok(Pieces::one(at));
    }
    splice(draft, at, slot + 1..slot + 1, &children(&pieces.rest), on_edge, guard)
}

/// Puts `cell` into the leaf at `slot` of the branch at `at`, which has no room for it, by laying that leaf and a sibling
/// with room anew; does nothing when no sibling has the room. Random inserts then leave leaves four fifths
/// full, where cutting alone leaves them two thirds full (a B*-tree: Knuth, vol. 3, section 6.2.4).
fn spread(
    draft: &mut Draft,
    at: PageRef,
    slot: usize,
    cell: &Cell<'_>,
    guard: &Guard,
) -> Result<Option<Change>, StorageError> {
    let parent = draft.page(at, guard)?;
    let node = Node::of(&parent);
    let leaf_at = node.child(slot);
    let page = draft.child(leaf_at, 0, guard)?;
    let leaf = Node::of(&page);
    let found = leaf.search(cell.key);
    let (gone_bytes, value) = match found {
        Ok(slot) => (leaf.cell_size(slot), value_page(leaf.payload(slot))),
        Err(_) => (0, None),
    };
    let bytes = leaf.used_bytes() - gone_bytes + cell.size(leaf.prefix_len());
    if leaf_at.span > 1 || bytes <= PAGE_BYTES {
        return Ok(None);
    }
    let left = slot.checked_sub(1);
    let right = Some(slot + 1).filter(|&right| right < node.count());
    let mut sibling: Option<(usize, usize)> = None;
    for slot in left.into_iter().chain(right) {
        let used = Node::of(&draft.child(node.child(slot), 0, guard)?).used_bytes();
        sibling = Some(sibling.map_or((used, slot), |other| other.min((used, slot))));
    }
    let Some((sibling_bytes, sibling)) = sibling else { return Ok(None) };
    if sibling_bytes + bytes + NODE_HEADER_BYTES > 2 * SPREAD_BYTES {
        return Ok(None);
    }
    let left = slot.min(sibling);
    let leaves = [node.child(left), node.child(left + 1)];
    // Where the leaf's cells begin among those of both.
    let before =
        if sibling < slot { Node::of(&draft.child(leaves[0], 0, guard)?).count() } else { 0 };
    drop((parent, page));
    if let Some(value) = value {
        draft.discard(value)?;
    }
    let copies = Copies::of(draft, &leaves, 0, guard)?;
    let mut cells = copies.cells();
    match found {
        Ok(slot) => cells[before + slot] = *cell,
        Err(slot) => cells.insert(before + slot, *cell),
    }
    let pieces = build(draft, 0, &cells, false, guard)?;
    leaves.into_iter().try_for_each(|leaf| draft.discard(leaf))?;
    // One leaf may hold both under a longer prefix than they had, and then the branch has lost a child.
    let shrunk = pieces.only().is_some();
    let pieces = replace_pair(draft, at, left, pieces, guard)?;
    Ok(Some(Change { pieces, was_present: found.is_ok(), shrunk }))
}

/// Lets the branch at `at` take `pieces` in place of its children at `left_slot` and right of it.
fn replace_pair(
    draft: &mut Draft,
    at: PageRef,
    left_slot: usize,
    pieces: Pieces,
    guard: &Guard,
) -> Result<Pieces, StorageError> {
    let first = pieces.first.expect("what was built from two nodes is not nothing");
    let at = draft.edit(at, guard, |bytes| NodeMut::of(bytes).set_child(left_slot, first))?;
    let right_slot = left_slot + 1;
    splice(draft, at, right_slot..right_slot + 1, &children(&pieces.rest), false, guard)
}

/// Takes the child at `slot`, of which nothing is left, out of the branch at `at`.
fn disown(
    draft: &mut Draft,
    at: PageRef,
    slot: usize,
    guard: &Guard,
) -> Result<Pieces, StorageError> {
    let page = draft.page(at, guard)?;
    let node = Node::of(&page);
    if slot > 0 || node.count() == 1 {
        drop(page);
        return splice(draft, at, slot..slot + 1, &[], false, guard);
    }
    // The next child becomes the first and loses its lower bound.
    let heir = Cell { key: &[], payload: Payload::Child(node.child(1)) };
    drop(page);
    splice(draft, at, 0..2, &[heir], false, guard)
}

/// Joins the child at `slot` of the branch at `at` with a sibling when it is underfull and both fit one
/// page; a branch of one child is evened out with a sibling otherwise.
pub fn relieve(
    draft: &mut Draft,
    at: PageRef,
    slot: usize,
    guard: &Guard,
) -> Result<Pieces, StorageError> {
    let unchanged = Pieces::one(at);
    let parent = draft.page(at, guard)?;
    let node = Node::of(&parent);
    // A child that vanished left its place to the next one, or to none.
    let slot = slot.min(node.count() - 1);
    let level = node.level() - 1;
    let child = draft.child(node.child(slot), level, guard)?;
    if node.count() == 1 || !is_underfull(&Node::of(&child)) {
        return Ok(unchanged);
    }
    let left_slot = slot.saturating_sub(1);
    let (left_at, right_at) = (node.child(left_slot), node.child(left_slot + 1));
    let (left, right) = (draft.child(left_at, level, guard)?, draft.child(right_at, level, guard)?);
    let (left, right) = (Node::of(&left), Node::of(&right));
    let left_count = left.count();
    let too_few = level > 0 && left_count.min(right.count()) < 2;
    if !too_few && left.used_bytes() + right.used_bytes() > PAGE_BYTES + NODE_HEADER_BYTES {
        return Ok(unchanged);
    }
    let separator = node.key(left_slot + 1);
    drop((parent, child));

    let copies = Copies::of(draft, &[left_at, right_at], level, guard)?;
    let mut cells = copies.cells();
    if level > 0 {
        cells[left_count].key = &separator; // it stood in the parent only
    }
    let cuts = pack(&cells, level, false);
    if let [only, last] = &cuts[..]
        && (only.end, last.start) == (left_count, left_count)
    {
        return Ok(unchanged); // they cannot be evened out better
    }
    let pieces = lay(draft, level, &cells, cuts, guard)?;
    draft.discard(left_at)?;
    draft.discard(right_at)?;
    replace_pair(draft, at, left_slot, pieces, guard)
}

fn is_underfull(node: &Node<'_>) -> bool {
    node.used_bytes() < UNDERFULL_BYTES || (!node.is_leaf() && node.count() < 2)
}

fn children(pieces: &[(Vec<u8>, PageRef)]) -> Vec<Cell<'_>> {
    pieces.iter().map(|(key, page)| Cell { key, payload: Payload::Child(*page) }).collect()
}

/// Replaces the cells in `slots` of the node at `at` by `new`: in place where they fit a page,
/// otherwise by building its pieces anew.
pub fn splice(
    draft: &mut Draft,
    at: PageRef,
    slots: Range<usize>,
    new: &[Cell<'_>],
    on_edge: bool,
    guard: &Guard,
) -> Result<Pieces, StorageError> {
    let page = draft.page(at, guard)?;
    let node = Node::of(&page);
    let count = node.count() - slots.len() + new.len();
    if count == 0 {
        drop(page);
        draft.discard(at)?;
        return Ok(Pieces { first: None, rest: Vec::new() });
    }
    let gone: usize = slots.clone().map(|slot| node.cell_size(slot)).sum();
    let is_unbounded = |nth: usize| !node.is_leaf() && slots.start + nth == 0;
    let prefix = node.prefix();
    let fits =
        new.iter().enumerate().all(|(nth, cell)| is_unbounded(nth) || cell.key.starts_with(prefix))
            && node.used_bytes() - gone
                + new.iter().map(|cell| cell.size(prefix.len())).sum::<usize>()
                <= PAGE_BYTES;
    if at.span == 1 && fits {
        drop(page);
        let at = draft.edit(at, guard, |bytes| {
            let mut node = NodeMut::of(bytes);
            slots.clone().for_each(|_| node.remove(slots.start));
            new.iter().enumerate().for_each(|(nth, cell)| node.insert(slots.start + nth, cell));
        })?;
        return Ok(Pieces::one(at));
    }
    let appends = on_edge && slots.end == node.count() && new.len() > slots.len();
    let page = page.to_vec();
    let node = Node::of(&page);
    let keys = node.keys();
    let mut cells: Vec<Cell<'_>> = node.cells(&keys).collect();
    cells.splice(slots, new.iter().copied());
    let pieces = build(draft, node.level(), &cells, appends, guard)?;
    draft.discard(at)?;
    Ok(pieces)
}
