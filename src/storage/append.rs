//! Appends: puts behind the last key of a tree.
//!
//! A snapshot that is installed, a restored backup and an index by revision put each key behind the
//! one before. The draft remembers the leaf that the last such put went to, the tree's right
//! *edge*, so that the next one walks down no branches; and when the leaf is full, a new one is
//! opened beside it and the full one stays as it is. This fills leaves as well as building the tree
//! from below would, needs no memory but the pages, and asks nothing of callers.
//!
//! The edge cannot mislead. Its pages are the transaction's own, so they stay where they are
//! until they are given up, and then the draft forgets the edge. A leaf comes to stand right of the last
//! one only when that is split, which gives it up, or here.
//!
//! Left to the other paths is what is rare: a full branch, a cell longer than a page, a leaf that
//! takes the cell only under a shorter prefix, and the first two appends of a transaction.

use crate::storage::cache::Guard;
use crate::storage::draft::Draft;
use crate::storage::error::StorageError;
use crate::storage::node::{
    Cell, Node, NodeMut, Payload, node_bytes, shared_len, shortest_separator,
};
use crate::storage::page::{PAGE_BYTES, PageKind, PageRef};
use crate::storage::pager::Pages;

/// Where appends to a tree go. All pages from the root down to the leaf are the transaction's own.
#[derive(Clone, Copy)]
pub struct Edge {
    /// Tells the tree.
    pub root: PageRef,
    /// The branch above the leaf, unless that is the root.
    pub parent: Option<PageRef>,
    /// The last leaf, of one page.
    pub leaf: PageRef,
}

impl Edge {
    pub fn has(&self, at: PageRef) -> bool {
        self.leaf == at || self.parent == Some(at) || self.root == at
    }
}

/// Whether the edge of the tree under `root` is known and `key` belongs behind it.
pub fn is_behind(
    draft: &Draft,
    root: PageRef,
    key: &[u8],
    guard: &Guard,
) -> Result<bool, StorageError> {
    match draft.edge.filter(|edge| edge.root == root) {
        Some(edge) => Ok(Node::of(&draft.page(edge.leaf, guard)?).is_below(key)),
        None => Ok(false),
    }
}

/// Puts `cell`, which [`is_behind`], behind all others of the tree under `root`, if that is easily done. Says
/// whether it did.
pub fn append(
    draft: &mut Draft,
    root: PageRef,
    cell: &Cell<'_>,
    guard: &Guard,
) -> Result<bool, StorageError> {
    let Some(edge) = draft.edge.filter(|edge| edge.root == root) else { return Ok(false) };
    let page = draft.page(edge.leaf, guard)?;
    let leaf = Node::of(&page);
    if !leaf.has_room_for(cell, 0) {
        drop(page);
        return open_leaf(draft, edge, cell, guard);
    }
    drop(page);
    draft.edit(edge.leaf, guard, |bytes| NodeMut::of(bytes).push(cell))?;
    Ok(true)
}

/// Puts `cell` into a new leaf behind the present one, if that is full under any prefix and the
/// branch above has room.
fn open_leaf(
    draft: &mut Draft,
    edge: Edge,
    cell: &Cell<'_>,
    guard: &Guard,
) -> Result<bool, StorageError> {
    let Some(parent) = edge.parent.filter(|parent| parent.span == 1) else { return Ok(false) };
    let page = draft.page(edge.leaf, guard)?;
    let leaf = Node::of(&page);
    let keys = leaf.keys();
    let mut cells: Vec<Cell<'_>> = leaf.cells(&keys).collect();
    let last = cells[cells.len() - 1].key;
    cells.push(*cell);
    // A guess: neighbours have about as much in common. A whole key as the prefix, all that one cell
    // calls for, would have the leaf rebuilt at the next put. If the guess is too short, the leaf is
    // rebuilt when it is full, where that makes room.
    let prefix = &cell.key[..shared_len(leaf.prefix(), cell.key)];
    let is_full = node_bytes(0, &cells) > PAGE_BYTES;
    if !is_full || node_bytes(0, &[*cell]) > PAGE_BYTES {
        return Ok(false);
    }
    let separator = shortest_separator(last, cell.key).to_vec();
    let child = |at| Cell { key: &separator, payload: Payload::Child(at) };
    if !Node::of(&draft.page(parent, guard)?).has_room_for(&child(edge.leaf), 0) {
        return Ok(false);
    }
    let fill = |bytes: &mut [u8]| NodeMut::begin(bytes, 0, prefix).push(cell);
    drop(page);
    let leaf = draft.create(PageKind::Leaf, 1, guard, fill)?;
    draft.edit(parent, guard, |bytes| NodeMut::of(bytes).push(&child(leaf)))?;
    draft.edge = Some(Edge { leaf, ..edge });
    Ok(true)
}
