//! Splitting: laying sorted cells into as many nodes as they need.
//!
//! The cut is by bytes, not by count, so that the larger part is as small as can be. On the right
//! edge of the tree the new cell alone moves over: loads in key order, which append there, then
//! leave full pages behind them instead of half-empty ones.
//!
//! Keys are at most 4 KiB, and a branch without two children would make no progress, so cells that
//! cannot be cut into nodes of a page and two children each share one node of several pages. So does
//! a leaf's cell that is larger than a page.
//!
//! Between two leaves the separator is the shortest string that tells them apart: a branch
//! of short separators has more children, so the tree is flatter. Between two branches it is the
//! right one's first key, which moves up to the parent and leaves an empty one behind.

use std::ops::Range;

use crate::storage::cache::Guard;
use crate::storage::draft::Draft;
use crate::storage::error::StorageError;
use crate::storage::node::{Cell, Keys, Node, NodeMut, node_bytes, shortest_separator};
use crate::storage::page::{PAGE_BYTES, PageKind, PageRef};
use crate::storage::pager::Pages;

/// What became of a node: the pages that stand in its place, in key order, each but the first with
/// the separator before it. No first page: nothing is left.
pub struct Pieces {
    pub first: Option<PageRef>,
    pub rest: Vec<(Vec<u8>, PageRef)>,
}

impl Pieces {
    /// One node, which holds everything.
    pub fn one(at: PageRef) -> Pieces {
        Pieces { first: Some(at), rest: Vec::new() }
    }

    /// The only node there is, unless there are several or none.
    pub fn only(&self) -> Option<PageRef> {
        self.first.filter(|_| self.rest.is_empty())
    }
}

/// Copies of neighbouring nodes of one level. What is built from them is built by the owner of the
/// originals, the draft, which it could not lend them beside.
pub struct Copies {
    pages: Vec<Vec<u8>>,
    keys: Vec<Keys>,
}

impl Copies {
    pub fn of(
        draft: &Draft,
        nodes: &[PageRef],
        level: u8,
        guard: &Guard,
    ) -> Result<Copies, StorageError> {
        let copy = |&node: &PageRef| Ok(draft.child(node, level, guard)?.to_vec());
        let pages = nodes.iter().map(copy).collect::<Result<Vec<_>, StorageError>>()?;
        let keys = pages.iter().map(|page| Node::of(page).keys()).collect();
        Ok(Copies { pages, keys })
    }

    /// The cells of all, in order.
    pub fn cells(&self) -> Vec<Cell<'_>> {
        let nodes = self.pages.iter().map(|page| Node::of(page));
        let count: usize = nodes.clone().map(|node| node.count()).sum();
        let mut cells = Vec::with_capacity(count + 1); // mostly one is added
        nodes.zip(&self.keys).for_each(|(node, keys)| cells.extend(node.cells(keys)));
        cells
    }
}

/// Lays `cells` into new nodes. `appends`: the last cell is new and more are likely to follow it.
pub fn build(
    draft: &mut Draft,
    level: u8,
    cells: &[Cell<'_>],
    appends: bool,
    guard: &Guard,
) -> Result<Pieces, StorageError> {
    lay(draft, level, cells, pack(cells, level, appends), guard)
}

/// Lays `cells` into new nodes as they are cut already.
pub fn lay(
    draft: &mut Draft,
    level: u8,
    cells: &[Cell<'_>],
    cuts: Vec<Range<usize>>,
    guard: &Guard,
) -> Result<Pieces, StorageError> {
    let mut pieces = Pieces { first: None, rest: Vec::new() };
    for range in cuts {
        let piece = &cells[range.clone()];
        let separator = match (range.start.checked_sub(1), level) {
            (None, _) => &[],
            (Some(before), 0) => shortest_separator(cells[before].key, piece[0].key),
            (Some(_), _) => piece[0].key,
        };
        let kind = if level == 0 { PageKind::Leaf } else { PageKind::Branch };
        let span = node_bytes(level, piece).div_ceil(PAGE_BYTES) as u32;
        let at = draft.create(kind, span, guard, |bytes| NodeMut::fill(bytes, level, piece))?;
        match pieces.first {
            None => pieces.first = Some(at),
            Some(_) => pieces.rest.push((separator.to_vec(), at)),
        }
    }
    Ok(pieces)
}

/// Cuts `cells` into nodes: of a page each, but of no fewer cells than a node must have.
pub fn pack(cells: &[Cell<'_>], level: u8, appends: bool) -> Vec<Range<usize>> {
    let fewest = if level == 0 { 1 } else { 2 };
    let mut done = Vec::new();
    let mut open = vec![(0..cells.len(), appends)];
    while let Some((range, appends)) = open.pop() {
        let cells = &cells[range.clone()];
        if cells.len() < 2 * fewest || node_bytes(level, cells) <= PAGE_BYTES {
            done.push(range);
            continue;
        }
        let cut = if appends { cells.len() - fewest } else { middle(cells, fewest) };
        let cut = range.start + cut;
        open.push((cut..range.end, false));
        open.push((range.start..cut, false)); // the left one is next, so that all come in order
    }
    done
}

/// Where to cut so that the larger part is as small as can be.
fn middle(cells: &[Cell<'_>], fewest: usize) -> usize {
    // Without what prefixes save: both sides save about the same for each cell.
    let total: usize = cells.iter().map(|cell| cell.size(0)).sum();
    let mut left = cells[..fewest].iter().map(|cell| cell.size(0)).sum::<usize>();
    let mut best = (left.max(total - left), fewest);
    for (cut, cell) in (fewest + 1..=cells.len() - fewest).zip(&cells[fewest..]) {
        left += cell.size(0);
        best = best.min((left.max(total - left), cut));
    }
    best.1
}
