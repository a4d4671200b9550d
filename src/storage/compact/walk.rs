//! One stretch of a compaction: the next few leaves of a tree, within the writer's transaction.
//!
//! A walk goes down to the leaf that holds its key, deals with that leaf and some right of it under
//! the same parent, and hands the branches above what became of them, as any other change does
//! ([`super::super::reshape`]). Leaves that are badly filled are joined; of the others those move
//! that lie beyond the target, and so do values and the branches on the way.
//!
//! Moving is copying: the free map hands out low pages first. Where it has none, the walk is
//! *blocked*, and says where to try again.

use std::ops::Range;

use crate::storage::cache::Guard;
use crate::storage::draft::Draft;
use crate::storage::error::StorageError;
use crate::storage::node::{Cell, NODE_HEADER_BYTES, Node, NodeMut, Payload, node_bytes};
use crate::storage::page::{PAGE_BYTES, PageRef};
use crate::storage::pager::Pages;
use crate::storage::reshape::{adopt, crown, relieve, splice};
use crate::storage::root::Tree;
use crate::storage::split::{Copies, Pieces, lay};

/// How full joined leaves become. What is left over is less than most entries need, so a leaf takes
/// one put less before it splits than it would at nine tenths; that tenth, in turn, would be the
/// file's for as long as nothing is put.
const FILLED_BYTES: usize = PAGE_BYTES * 24 / 25;

/// Leaves that are joined at once. More pack no better, as the last one of a window is the first of
/// the next.
const WINDOW_LEAVES: usize = 16;

/// Leaves are joined when that saves at least one in so many: when they are filled to less than
/// five sixths. Others would be rewritten for little.
const WORTH_ONE_IN: usize = 8;

/// What a walk keeps to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What lies beyond this page is moved to below it.
    pub target: u64,
    /// Up to here leaves may be joined into.
    pub ceiling: u64,
    /// Pages to read or to make, about.
    pub budget_pages: u64,
    /// Whether to stop where there is no room, rather than to leave things as they are.
    pub stops_for_room: bool,
}

/// A walk, over one tree or several after each other.
pub struct Walk {
    limits: Limits,
    read_pages: u64,
    /// Where it goes on; none when the tree is done.
    pub next: Option<Vec<u8>>,
    /// Whether it stopped for want of room.
    pub is_blocked: bool,
    is_stopped: bool,
}

impl Walk {
    pub fn new(limits: Limits) -> Walk {
        Walk { limits, read_pages: 0, next: None, is_blocked: false, is_stopped: false }
    }

    /// Deals with one stretch of `tree`, from the leaf on that `from` belongs to; says whether there
    /// is budget for another.
    pub fn step(
        &mut self,
        draft: &mut Draft,
        tree: &mut Tree,
        from: &[u8],
        guard: &Guard,
    ) -> Result<bool, StorageError> {
        self.next = None;
        if let Some(root) = tree.root {
            let level = Node::of(&draft.node(root, guard)?).level();
            let mut stretch = Stretch { walk: self, draft, from, guard };
            let pieces = stretch.under(root, level, None)?;
            tree.root = crown(draft, level, pieces, guard)?;
        }
        Ok(!self.is_stopped && !self.is_spent(draft))
    }

    fn is_spent(&self, draft: &Draft) -> bool {
        self.read_pages.max(draft.made_pages()) >= self.limits.budget_pages
    }

    fn stop_at(&mut self, key: Vec<u8>) {
        self.next = Some(key);
        self.is_stopped = true;
    }
}

/// Whether to write `after` leaves in place of `before`.
fn is_worth(before: usize, after: usize) -> bool {
    after < before && (before - after) * WORTH_ONE_IN >= before
}

struct Stretch<'a> {
    walk: &'a mut Walk,
    draft: &'a mut Draft,
    from: &'a [u8],
    guard: &'a Guard,
}

impl Stretch<'_> {
    /// Deals with the leaves from the key on that are under the first branch of level 1. `upper`: where
    /// the keys under the node at `at` end.
    fn under(
        &mut self,
        at: PageRef,
        level: u8,
        upper: Option<Vec<u8>>,
    ) -> Result<Pieces, StorageError> {
        if level == 0 {
            self.walk.read_pages += 1;
            let at = self.move_leaf(at)?;
            if !self.walk.is_stopped {
                self.walk.next = upper;
            }
            return Ok(Pieces::one(at));
        }
        let at = self.move_node(at, |walk, from| walk.stop_at(from.to_vec()))?;
        if self.walk.is_stopped {
            return Ok(Pieces::one(at));
        }
        let page = self.draft.child(at, level, self.guard)?;
        let node = Node::of(&page);
        let slot = node.child_slot(self.from);
        if level == 1 {
            drop(page);
            return self.leaves_under(at, slot, upper);
        }
        let (child, is_last) = (node.child(slot), slot + 1 == node.count());
        let upper = if is_last { upper } else { Some(node.key(slot + 1)) };
        drop(page);
        let below = self.under(child, level - 1, upper)?;
        let is_same = below.only() == Some(child);
        let pieces = adopt(self.draft, at, slot, below, false, self.guard)?;
        match pieces.only() {
            Some(at) if !is_same => relieve(self.draft, at, slot, self.guard),
            _ => Ok(pieces),
        }
    }

    /// Joins or moves leaves under the branch at `at`, from `first` on.
    fn leaves_under(
        &mut self,
        at: PageRef,
        first: usize,
        upper: Option<Vec<u8>>,
    ) -> Result<Pieces, StorageError> {
        let (leaves, used_bytes) = self.window(at, first)?;
        let slots = first..first + leaves.len();
        let page = self.draft.page(at, self.guard)?;
        let node = Node::of(&page);
        let upper = if slots.end == node.count() { upper } else { Some(node.key(slots.end)) };
        drop(page);
        let least = used_bytes.div_ceil(FILLED_BYTES - NODE_HEADER_BYTES);
        if is_worth(leaves.len(), least) {
            if self.draft.has_room_below(1, self.walk.limits.ceiling)? {
                if let Some(joined) = self.join(at, slots.clone(), &leaves, upper.as_deref())? {
                    return Ok(joined);
                }
            } else if self.walk.limits.stops_for_room {
                self.walk.is_blocked = true;
                self.walk.stop_at(self.from.to_vec());
                return Ok(Pieces::one(at));
            }
        }
        let mut at = at;
        for (slot, leaf) in slots.zip(leaves) {
            let moved = self.move_leaf(leaf)?;
            if moved != leaf {
                let set_child = |bytes: &mut [u8]| NodeMut::of(bytes).set_child(slot, moved);
                at = self.draft.edit(at, self.guard, set_child)?;
            }
            if self.walk.is_stopped {
                return Ok(Pieces::one(at));
            }
        }
        self.walk.next = upper;
        Ok(Pieces::one(at))
    }

    /// The leaves to look at together, and how many bytes their cells take. One of several pages is
    /// looked at alone.
    fn window(&mut self, at: PageRef, first: usize) -> Result<(Vec<PageRef>, usize), StorageError> {
        let spent = self.walk.read_pages.max(self.draft.made_pages());
        let left = self.walk.limits.budget_pages.saturating_sub(spent);
        let most = left.clamp(1, WINDOW_LEAVES as u64) as usize;
        let page = self.draft.page(at, self.guard)?;
        let node = Node::of(&page);
        let (mut leaves, mut used_bytes) = (Vec::new(), 0);
        for slot in first..node.count().min(first + most) {
            let at = node.child(slot);
            if at.span > 1 && slot > first {
                break;
            }
            let leaf = self.draft.child(at, 0, self.guard)?;
            used_bytes += Node::of(&leaf).used_bytes() - NODE_HEADER_BYTES;
            leaves.push(at);
            self.walk.read_pages += 1;
            if at.span > 1 {
                break;
            }
        }
        Ok((leaves, used_bytes))
    }

    /// Packs the cells of neighbouring leaves into fewer, unless they turn out not to fit.
    fn join(
        &mut self,
        at: PageRef,
        slots: Range<usize>,
        leaves: &[PageRef],
        upper: Option<&[u8]>,
    ) -> Result<Option<Pieces>, StorageError> {
        let page = self.draft.page(at, self.guard)?;
        let lower = Node::of(&page).key(slots.start);
        let is_last = slots.end == Node::of(&page).count();
        drop(page);
        let copies = Copies::of(self.draft, leaves, 0, self.guard)?;
        let cells = copies.cells();
        let cuts = cut_densely(&cells);
        if !is_worth(leaves.len(), cuts.len()) {
            return Ok(None);
        }
        let pieces = lay(self.draft, 0, &cells, cuts, self.guard)?;
        leaves.iter().try_for_each(|&leaf| self.draft.discard(leaf))?;
        // The last one may have room for what comes next.
        self.walk.next = match pieces.rest.last() {
            _ if is_last => upper.map(<[u8]>::to_vec),
            Some((key, _)) => Some(key.clone()),
            None => Some(self.from.to_vec()),
        };
        let first = pieces.first.expect("leaves have cells");
        let new: Vec<Cell<'_>> = std::iter::once((&lower, first))
            .chain(pieces.rest.iter().map(|(key, page)| (key, *page)))
            .map(|(key, page)| Cell { key, payload: Payload::Child(page) })
            .collect();
        splice(self.draft, at, slots, &new, false, self.guard).map(Some)
    }

    /// Moves the values of a leaf that lie beyond the target, then the leaf if it does.
    fn move_leaf(&mut self, at: PageRef) -> Result<PageRef, StorageError> {
        let page = self.draft.page(at, self.guard)?;
        let node = Node::of(&page);
        let start = node.search(self.from).unwrap_or_else(|slot| slot);
        let values: Vec<(usize, PageRef)> = (start..node.count())
            .filter_map(|slot| match node.payload(slot) {
                Payload::Outline { page, .. } => Some((slot, page)),
                Payload::Inline(_) | Payload::Child(_) => None,
            })
            .filter(|&(_, value)| self.is_beyond(value))
            .collect();
        drop(page);
        let mut at = at;
        for (slot, value) in values {
            let key = Node::of(&self.draft.page(at, self.guard)?).key(slot);
            // Not what was read: a walk that moves nothing would stop here again.
            if self.draft.made_pages() >= self.walk.limits.budget_pages {
                self.walk.stop_at(key);
                return Ok(at);
            }
            let moved = self.move_node(value, |walk, _| walk.stop_at(key))?;
            if moved != value {
                let set_page = |bytes: &mut [u8]| NodeMut::of(bytes).set_value_page(slot, moved);
                at = self.draft.edit(at, self.guard, set_page)?;
            }
            if self.walk.is_stopped {
                return Ok(at);
            }
        }
        self.move_node(at, |walk, from| walk.stop_at(from.to_vec()))
    }

    /// Moves a page that lies beyond the target, if there is room; else stops as `stop` says, or
    /// leaves it.
    fn move_node(
        &mut self,
        at: PageRef,
        stop: impl FnOnce(&mut Walk, &[u8]),
    ) -> Result<PageRef, StorageError> {
        if !self.is_beyond(at) {
            return Ok(at);
        }
        if self.draft.has_room_below(at.span, self.walk.limits.target)? {
            return self.draft.edit(at, self.guard, |_| {});
        }
        if self.walk.limits.stops_for_room {
            self.walk.is_blocked = true;
            stop(self.walk, self.from);
        }
        Ok(at)
    }

    fn is_beyond(&self, at: PageRef) -> bool {
        at.end() > self.walk.limits.target && !self.draft.is_fresh(at)
    }
}

/// Cuts the cells of leaves into nodes from left to right, each filled as far as it should be.
fn cut_densely(cells: &[Cell<'_>]) -> Vec<Range<usize>> {
    let mut cuts = Vec::new();
    let mut start = 0;
    while start < cells.len() {
        let ends: Vec<usize> = (start + 1..=cells.len()).collect();
        let fits = ends.partition_point(|&end| node_bytes(0, &cells[start..end]) <= FILLED_BYTES);
        let end = start + fits.max(1);
        cuts.push(start..end);
        start = end;
    }
    cuts
}
