//! Removing many keys: all below a key, or all of a range.
//!
//! To remove them one by one takes a walk for each; here a walk takes all of a leaf that are to go.
//!
//! [`trim`] is for an index by revision or by time, which loses its oldest entries, all at its left end. A join of what
//! is left of a leaf with the next one would be in vain, since that is about to go too. So what it leaves of the last one
//! stays as it is, however little: that is where the next trim begins. [`cut`] joins leaves as any other removal does.
//!
//! The branches above are joined as after any other change, so each has at least two children.

use std::ops::{Bound, Range};

use bytes::Bytes;

use crate::storage::btree::value_page;
use crate::storage::cache::{Guard, pin};
use crate::storage::draft::Draft;
use crate::storage::error::StorageError;
use crate::storage::node::Node;
use crate::storage::page::PageRef;
use crate::storage::pager::Pages;
use crate::storage::reshape::{adopt, crown, relieve, splice};
use crate::storage::root::Tree;
use crate::storage::split::Pieces;

/// Removes all keys below `bound`; says how many.
pub fn trim(draft: &mut Draft, tree: &mut Tree, bound: &[u8]) -> Result<u64, StorageError> {
    let before = tree.len;
    while let Some(root) = tree.root {
        let guard = &pin();
        let level = Node::of(&draft.node(root, guard)?).level();
        let first = trim_first(draft, root, level, bound, guard)?;
        tree.root = crown(draft, level, first.pieces, guard)?;
        tree.len -= first.removed;
        if !first.is_gone {
            break;
        }
    }
    Ok(before - tree.len)
}

/// What became of a node whose first leaf was trimmed.
struct First {
    pieces: Pieces,
    removed: u64,
    /// Whether nothing was left of the leaf.
    is_gone: bool,
}

/// Trims the first leaf under the node at `at`.
fn trim_first(
    draft: &mut Draft,
    at: PageRef,
    level: u8,
    bound: &[u8],
    guard: &Guard,
) -> Result<First, StorageError> {
    let page = draft.child(at, level, guard)?;
    let node = Node::of(&page);
    if node.is_leaf() {
        drop(page);
        return trim_leaf(draft, at, bound, guard);
    }
    let child = node.child(0);
    drop(page);
    let first = trim_first(draft, child, level - 1, bound, guard)?;
    let mut pieces = adopt(draft, at, 0, first.pieces, false, guard)?;
    // A leaf that was trimmed is left alone.
    if let (Some(at), true) = (pieces.only(), level > 1 && first.is_gone) {
        pieces = relieve(draft, at, 0, guard)?;
    }
    Ok(First { pieces, ..first })
}

fn trim_leaf(
    draft: &mut Draft,
    at: PageRef,
    bound: &[u8],
    guard: &Guard,
) -> Result<First, StorageError> {
    let page = draft.page(at, guard)?;
    let node = Node::of(&page);
    let (Ok(end) | Err(end)) = node.search(bound);
    let is_gone = end == node.count();
    drop(page);
    let pieces = remove_slots(draft, at, 0..end, guard)?;
    Ok(First { pieces, removed: end as u64, is_gone })
}

/// Removes the keys of the leaf that `first` belongs to, from `first` on and within `end`; says how many.
pub fn cut(
    draft: &mut Draft,
    tree: &mut Tree,
    first: &[u8],
    end: &Bound<Bytes>,
) -> Result<u64, StorageError> {
    let Some(root) = tree.root else { return Ok(0) };
    let guard = &pin();
    let level = Node::of(&draft.node(root, guard)?).level();
    let (pieces, removed) = cut_under(draft, root, level, first, end, guard)?;
    tree.root = crown(draft, level, pieces, guard)?;
    tree.len -= removed;
    Ok(removed)
}

/// Cuts the leaf of `first` under the node at `at`.
fn cut_under(
    draft: &mut Draft,
    at: PageRef,
    level: u8,
    first: &[u8],
    end: &Bound<Bytes>,
    guard: &Guard,
) -> Result<(Pieces, u64), StorageError> {
    let page = draft.child(at, level, guard)?;
    let node = Node::of(&page);
    if node.is_leaf() {
        let (Ok(start) | Err(start)) = node.search(first);
        let end = match end {
            Bound::Included(last) => node.search(last).map_or_else(|slot| slot, |slot| slot + 1),
            Bound::Excluded(end) => node.search(end).unwrap_or_else(|slot| slot),
            Bound::Unbounded => node.count(),
        };
        drop(page);
        let slots = start..end.max(start);
        let removed = slots.len() as u64;
        return Ok((remove_slots(draft, at, slots, guard)?, removed));
    }
    let slot = node.child_slot(first);
    let child = node.child(slot);
    drop(page);
    let (pieces, removed) = cut_under(draft, child, level - 1, first, end, guard)?;
    let mut pieces = adopt(draft, at, slot, pieces, false, guard)?;
    if let (Some(at), true) = (pieces.only(), removed > 0) {
        pieces = relieve(draft, at, slot, guard)?;
    }
    Ok((pieces, removed))
}

/// Removes cells of the leaf at `at`, and their values.
fn remove_slots(
    draft: &mut Draft,
    at: PageRef,
    slots: Range<usize>,
    guard: &Guard,
) -> Result<Pieces, StorageError> {
    if slots.is_empty() {
        return Ok(Pieces::one(at));
    }
    let page = draft.page(at, guard)?;
    let node = Node::of(&page);
    let far = slots.clone().filter_map(|slot| value_page(node.payload(slot)));
    let values: Vec<PageRef> = far.collect();
    drop(page);
    values.into_iter().try_for_each(|value| draft.discard(value))?;
    splice(draft, at, slots, &[], false, guard)
}
