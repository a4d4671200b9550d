//! Trimming: removing everything below a key.
//!
//! An index by revision or by time loses its oldest entries, all at its left end. To remove them one by one takes a
//! walk for each, and once for each leaf a join with the next, which is about to go too. A trim takes
//! a leaf with one walk, and what it leaves of the last one stays as it is, however little: that is where the
//! next trim begins.
//!
//! The branches above are joined as after any other change, so each has at least two children.

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
    let values: Vec<PageRef> = (0..end).filter_map(|slot| value_page(node.payload(slot))).collect();
    drop(page);
    values.into_iter().try_for_each(|value| draft.discard(value))?;
    let pieces = match end {
        0 => Pieces::one(at),
        _ => splice(draft, at, 0..end, &[], false, guard)?,
    };
    Ok(First { pieces, removed: end as u64, is_gone })
}
