//! Ranges of a tree, walked from either end.
//!
//! A cursor holds the path from the root to a leaf, a reference per level, and nothing else: memory
//! does not grow with the range, and no page is kept from being evicted between two steps. There are
//! no links between leaves; the next leaf is found through the path. The pages come from a snapshot,
//! which the range keeps pinned, or from a transaction, which it borrows.
//!
//! Each end of a range moves its own bound inward past what it yielded, and each checks its next key
//! against the other's bound. So the ends meet without knowing of each other.
//!
//! [`Range::visit`] is the fast way: it lends keys and values where they lie, one leaf after the
//! other. The iterator copies each entry out.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use crate::storage::cache::{Guard, pin};
use crate::storage::error::StorageError;
use crate::storage::node::{Node, Payload};
use crate::storage::page::PageRef;
use crate::storage::pager::{Pages, StoredValue};
use crate::types::KeyRange;

/// From where to where, in byte order of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub start: Bound<Bytes>,
    pub end: Bound<Bytes>,
}

impl Bounds {
    /// All keys.
    pub const ALL: Bounds = Bounds { start: Bound::Unbounded, end: Bound::Unbounded };
}

impl From<KeyRange> for Bounds {
    fn from(range: KeyRange) -> Bounds {
        let end = range.end.map_or(Bound::Unbounded, Bound::Excluded);
        Bounds { start: Bound::Included(range.start), end }
    }
}

/// The entries of a range, as an iterator from both ends. Ends after the first error.
pub struct Range<P> {
    pages: P,
    root: Option<PageRef>,
    bounds: Bounds,
    /// Where each end stands, once it has been asked.
    front: Option<Path>,
    back: Option<Path>,
    /// The key yielded last, and from which end.
    key: Vec<u8>,
    last_end: Option<End>,
    is_done: bool,
}

/// An entry where it lies.
pub struct Lent<'a> {
    pub key: &'a [u8],
    value: LentValue<'a>,
}

struct LentValue<'a> {
    pages: &'a dyn Values,
    payload: Payload<'a>,
    guard: &'a Guard,
}

/// [`Pages`], as far as an entry needs them.
trait Values {
    fn stored(&self, payload: Payload<'_>, guard: &Guard) -> Result<StoredValue, StorageError>;
}

impl<P: Pages> Values for P {
    fn stored(&self, payload: Payload<'_>, guard: &Guard) -> Result<StoredValue, StorageError> {
        self.value(payload, guard)
    }
}

impl<'a> Lent<'a> {
    /// What lies in the leaf: a short value whole, of a long one what its writer kept there.
    pub fn head(&self) -> &'a [u8] {
        self.value.payload.head()
    }

    /// Length of the value, known without reading it.
    pub fn value_len(&self) -> usize {
        match self.value.payload {
            Payload::Outline { len_bytes, .. } => len_bytes as usize,
            _ => self.head().len(),
        }
    }

    /// The value, read whole.
    pub fn value(&self) -> Result<StoredValue, StorageError> {
        self.value.pages.stored(self.value.payload, self.value.guard)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Front,
    Back,
}

impl<P: Pages> Range<P> {
    pub(super) fn new(pages: P, root: Option<PageRef>, bounds: Bounds) -> Range<P> {
        let (front, back, last_end) = (None, None, None);
        Range { pages, root, bounds, front, back, key: Vec::new(), last_end, is_done: false }
    }

    /// Lends the entries from the front to `visit` until it breaks. What it broke with is returned;
    /// nothing at the end of the range. Goes on behind the last one when called again.
    pub fn visit<T>(
        &mut self,
        visit: impl FnMut(Lent<'_>) -> ControlFlow<T>,
    ) -> Result<Option<T>, StorageError> {
        self.walk(End::Front, visit)
    }

    /// The same from the back.
    pub fn visit_back<T>(
        &mut self,
        visit: impl FnMut(Lent<'_>) -> ControlFlow<T>,
    ) -> Result<Option<T>, StorageError> {
        self.walk(End::Back, visit)
    }

    /// The keys only: values that lie outside of their leaf are not read.
    pub fn keys(self) -> Keys<P> {
        Keys { range: self }
    }

    fn take(&mut self, end: End) -> Option<Result<(Bytes, Bytes), StorageError>> {
        let entry = self
            .walk(end, |entry| {
                let key = Bytes::copy_from_slice(entry.key);
                ControlFlow::Break(entry.value().map(|value| (key, value.into_bytes())))
            })
            .transpose()?
            .flatten();
        self.is_done |= entry.is_err();
        Some(entry)
    }

    fn walk<T>(
        &mut self,
        end: End,
        visit: impl FnMut(Lent<'_>) -> ControlFlow<T>,
    ) -> Result<Option<T>, StorageError> {
        if self.is_done {
            return Ok(None);
        }
        let walked = self.try_walk(end, visit);
        self.is_done = !matches!(walked, Ok(Some(_)));
        walked
    }

    fn try_walk<T>(
        &mut self,
        end: End,
        mut visit: impl FnMut(Lent<'_>) -> ControlFlow<T>,
    ) -> Result<Option<T>, StorageError> {
        let Some(root) = self.root else { return Ok(None) };
        self.meet(end);
        let (path, from, to) = match end {
            End::Front => (&mut self.front, &self.bounds.start, &self.bounds.end),
            End::Back => (&mut self.back, &self.bounds.end, &self.bounds.start),
        };
        let path = match path {
            Some(path) => path,
            None => path.insert(Path::seek(&self.pages, root, from, end)?),
        };
        self.last_end = Some(end);
        loop {
            let guard = &pin();
            let Some(leaf) = path.seek_leaf(&self.pages, end, guard)? else { return Ok(None) };
            let page = self.pages.page(leaf, guard)?;
            let node = Node::of(&page);
            let stop = stop_slot(&node, to, end);
            path.prefetch_next(&self.pages, end, guard)?;
            let frame = path.leaf();
            self.key.clear();
            self.key.extend_from_slice(node.prefix());
            while let Some(slot) = end.next_slot(frame.slot, stop) {
                frame.slot = end.after(slot);
                let payload = node.entry_into(slot, &mut self.key);
                let value = LentValue { pages: &self.pages, payload, guard };
                if let ControlFlow::Break(done) = visit(Lent { key: &self.key, value }) {
                    return Ok(Some(done));
                }
            }
            if stop != end.far_slot(&node) {
                return Ok(None); // the bound lies in this leaf
            }
        }
    }

    /// Moves the bound of the other end past what it yielded last, if `end` is not that end itself.
    fn meet(&mut self, end: End) {
        let yielded = || Bound::Excluded(Bytes::copy_from_slice(&self.key));
        match self.last_end {
            Some(End::Front) if end == End::Back => self.bounds.start = yielded(),
            Some(End::Back) if end == End::Front => self.bounds.end = yielded(),
            _ => {}
        }
    }
}

impl End {
    /// The slot of the next entry, when the place is before `place` and entries end at `stop`.
    fn next_slot(self, place: usize, stop: usize) -> Option<usize> {
        match self {
            End::Front => (place < stop).then_some(place),
            End::Back => (place > stop).then(|| place - 1),
        }
    }

    /// The place behind the entry at `slot`.
    fn after(self, slot: usize) -> usize {
        match self {
            End::Front => slot + 1,
            End::Back => slot,
        }
    }

    /// Where a leaf ends.
    fn far_slot(self, leaf: &Node<'_>) -> usize {
        match self {
            End::Front => leaf.count(),
            End::Back => 0,
        }
    }
}

/// Where the entries of a leaf that are inside the bound `to` end.
fn stop_slot(leaf: &Node<'_>, to: &Bound<Bytes>, end: End) -> usize {
    let (key, is_included) = match to {
        Bound::Unbounded => return end.far_slot(leaf),
        Bound::Included(key) => (key, true),
        Bound::Excluded(key) => (key, false),
    };
    match (leaf.search(key), end) {
        (Err(slot), _) => slot,
        (Ok(slot), End::Front) => slot + usize::from(is_included),
        (Ok(slot), End::Back) => slot + usize::from(!is_included),
    }
}

impl<P: Pages> Iterator for Range<P> {
    type Item = Result<(Bytes, Bytes), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take(End::Front)
    }
}

impl<P: Pages> DoubleEndedIterator for Range<P> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take(End::Back)
    }
}

/// The keys of a range, as an iterator from both ends.
pub struct Keys<P> {
    range: Range<P>,
}

impl<P: Pages> Iterator for Keys<P> {
    type Item = Result<Bytes, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let key = |entry: Lent<'_>| ControlFlow::Break(Bytes::copy_from_slice(entry.key));
        self.range.visit(key).transpose()
    }
}

impl<P: Pages> DoubleEndedIterator for Keys<P> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let key = |entry: Lent<'_>| ControlFlow::Break(Bytes::copy_from_slice(entry.key));
        self.range.visit_back(key).transpose()
    }
}

/// A place between two entries: the path from the root to a leaf. In a branch `slot` is the child
/// the path goes through; in the leaf, the entry just after the place.
struct Path {
    frames: Vec<Frame>,
}

#[derive(Clone, Copy)]
struct Frame {
    at: PageRef,
    slot: usize,
    /// Cells of the node.
    count: usize,
    level: u8,
}

impl Path {
    /// The place at the bound `from` of the range's `end`.
    fn seek(
        pages: &impl Pages,
        root: PageRef,
        from: &Bound<Bytes>,
        end: End,
    ) -> Result<Path, StorageError> {
        let guard = &pin();
        let mut path = Path { frames: Vec::with_capacity(4) };
        let key = match from {
            Bound::Included(key) | Bound::Excluded(key) => Some(&key[..]),
            Bound::Unbounded => None,
        };
        // The entry of that very key is on the far side of the place when it is to be yielded.
        let is_behind = matches!(from, Bound::Included(_)) == (end == End::Back);
        let mut at = root;
        let mut page = pages.node(root, guard)?;
        loop {
            let node = Node::of(&page);
            let slot = match key {
                Some(key) if !node.is_leaf() => node.child_slot(key),
                Some(key) => {
                    node.search(key).map_or_else(|slot| slot, |slot| slot + usize::from(is_behind))
                }
                None => edge_slot(&node, end),
            };
            path.push(at, &node, slot);
            if node.is_leaf() {
                return Ok(path);
            }
            let level = node.level() - 1;
            at = node.child(slot);
            page = pages.child(at, level, guard)?;
        }
    }

    fn push(&mut self, at: PageRef, node: &Node<'_>, slot: usize) {
        self.frames.push(Frame { at, slot, count: node.count(), level: node.level() });
    }

    /// Goes to the next leaf unless there is more in the present one; none at the end of the tree.
    fn seek_leaf(
        &mut self,
        pages: &impl Pages,
        end: End,
        guard: &Guard,
    ) -> Result<Option<PageRef>, StorageError> {
        loop {
            let Some(frame) = self.frames.last() else { return Ok(None) };
            let has_more = match (end, frame.level == 0) {
                (End::Front, true) => frame.slot < frame.count,
                (End::Front, false) => frame.slot + 1 < frame.count,
                (End::Back, _) => frame.slot > 0,
            };
            if !has_more {
                self.frames.pop();
                continue;
            }
            if frame.level == 0 {
                return Ok(Some(frame.at));
            }
            self.descend(pages, end, guard)?;
        }
    }

    /// Goes through the neighbour of the last branch's child, down to the leaf on that side.
    fn descend(&mut self, pages: &impl Pages, end: End, guard: &Guard) -> Result<(), StorageError> {
        let branch = self.leaf();
        match end {
            End::Front => branch.slot += 1,
            End::Back => branch.slot -= 1,
        }
        loop {
            let Frame { at, slot, level, .. } = *self.leaf();
            if level == 0 {
                return Ok(());
            }
            let child = Node::of(&pages.page(at, guard)?).child(slot);
            let page = pages.child(child, level - 1, guard)?;
            let node = Node::of(&page);
            self.push(child, &node, edge_slot(&node, end));
        }
    }

    /// Has the leaf after the present one fetched into the processor's cache while this one is read.
    fn prefetch_next(
        &self,
        pages: &impl Pages,
        end: End,
        guard: &Guard,
    ) -> Result<(), StorageError> {
        let [.., branch, _] = &self.frames[..] else { return Ok(()) };
        let next = match end {
            End::Front => Some(branch.slot + 1).filter(|&slot| slot < branch.count),
            End::Back => branch.slot.checked_sub(1),
        };
        if let Some(slot) = next {
            let page = pages.page(branch.at, guard)?;
            pages.prefetch(Node::of(&page).child(slot), true);
        }
        Ok(())
    }

    /// The lowest frame.
    fn leaf(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("a path that was not walked to its end has frames")
    }
}

/// Where a path begins in a node that it enters from `end`.
fn edge_slot(node: &Node<'_>, end: End) -> usize {
    match (end, node.is_leaf()) {
        (End::Front, _) => 0,
        (End::Back, true) => node.count(),
        (End::Back, false) => node.count() - 1,
    }
}
