//! Ranges of a tree, walked from either end.
//!
//! A cursor holds the path from the root to a leaf, a page per level, and nothing else: memory does
//! not grow with the range. There are no links between leaves; the next leaf is found through the
//! path. The pages come from a snapshot, which the range keeps pinned, or from a transaction, which
//! it borrows.
//!
//! Each end of a range moves its own bound inward past what it yielded, and each checks its next key
//! against the other's bound. So the ends meet without knowing of each other.
//!
//! Keys are found without their values: [`Range::keys`] and [`Range::next_entry`] never read a value
//! that lies in a page of its own.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::storage::error::StorageError;
use crate::storage::node::{Node, Payload};
use crate::storage::page::{Page, PageRef};
use crate::storage::pager::Pages;
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

    fn is_below_end(&self, key: &[u8]) -> bool {
        match &self.end {
            Bound::Unbounded => true,
            Bound::Included(end) => key <= &end[..],
            Bound::Excluded(end) => key < &end[..],
        }
    }

    fn is_above_start(&self, key: &[u8]) -> bool {
        match &self.start {
            Bound::Unbounded => true,
            Bound::Included(start) => key >= &start[..],
            Bound::Excluded(start) => key > &start[..],
        }
    }
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
    is_done: bool,
}

/// An entry whose value may not have been read yet.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: Bytes,
    value: EntryValue,
}

#[derive(Clone, Debug)]
enum EntryValue {
    Here(Bytes),
    Elsewhere { page: PageRef, len_bytes: u32 },
}

impl Entry {
    /// Length of the value, known without reading it.
    pub fn value_len(&self) -> usize {
        match &self.value {
            EntryValue::Here(value) => value.len(),
            EntryValue::Elsewhere { len_bytes, .. } => *len_bytes as usize,
        }
    }
}

#[derive(Clone, Copy)]
enum End {
    Front,
    Back,
}

impl<P: Pages> Range<P> {
    pub(super) fn new(pages: P, root: Option<PageRef>, bounds: Bounds) -> Range<P> {
        Range { pages, root, bounds, front: None, back: None, is_done: false }
    }

    /// The next entry from the front, its value unread.
    pub fn next_entry(&mut self) -> Option<Result<Entry, StorageError>> {
        self.step(End::Front)
    }

    /// The next entry from the back, its value unread.
    pub fn next_entry_back(&mut self) -> Option<Result<Entry, StorageError>> {
        self.step(End::Back)
    }

    /// Reads the value of an entry of this range.
    pub fn value(&self, entry: &Entry) -> Result<Bytes, StorageError> {
        match &entry.value {
            EntryValue::Here(value) => Ok(value.clone()),
            EntryValue::Elsewhere { page, len_bytes } => self.pages.value(*page, *len_bytes),
        }
    }

    /// The keys only.
    pub fn keys(self) -> Keys<P> {
        Keys { range: self }
    }

    fn step(&mut self, end: End) -> Option<Result<Entry, StorageError>> {
        if self.is_done {
            return None;
        }
        let step = self.try_step(end);
        self.is_done = !matches!(step, Ok(Some(_)));
        step.transpose()
    }

    fn try_step(&mut self, end: End) -> Result<Option<Entry>, StorageError> {
        let Some(root) = self.root else { return Ok(None) };
        let (path, from) = match end {
            End::Front => (&mut self.front, &self.bounds.start),
            End::Back => (&mut self.back, &self.bounds.end),
        };
        let path = match path {
            Some(path) => path,
            None => path.insert(Path::seek(&self.pages, root, from, end)?),
        };
        let Some((leaf, slot)) = path.advance(&self.pages, end)? else { return Ok(None) };
        let cell = Node::of(leaf).cell(slot);
        let is_inside = match end {
            End::Front => self.bounds.is_below_end(cell.key),
            End::Back => self.bounds.is_above_start(cell.key),
        };
        if !is_inside {
            return Ok(None);
        }
        let key_range = Node::of(leaf).key_range(slot);
        let (key_len, value_len) = match cell.payload {
            Payload::Inline(value) => (key_range.len(), value.len()),
            _ => (key_range.len(), 0),
        };
        // Key and value lie side by side: one view serves both.
        let bytes = leaf.view(key_range.start..key_range.end + value_len);
        let key = bytes.slice(..key_len);
        let value = match cell.payload {
            Payload::Value { page, len_bytes } => EntryValue::Elsewhere { page, len_bytes },
            _ => EntryValue::Here(bytes.slice(key_len..)),
        };
        match end {
            End::Front => self.bounds.start = Bound::Excluded(key.clone()),
            End::Back => self.bounds.end = Bound::Excluded(key.clone()),
        }
        Ok(Some(Entry { key, value }))
    }

    fn with_value(
        &mut self,
        entry: Option<Result<Entry, StorageError>>,
    ) -> Option<Result<(Bytes, Bytes), StorageError>> {
        let item = entry?.and_then(|entry| Ok((entry.key.clone(), self.value(&entry)?)));
        self.is_done |= item.is_err();
        Some(item)
    }
}

impl<P: Pages> Iterator for Range<P> {
    type Item = Result<(Bytes, Bytes), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.next_entry();
        self.with_value(entry)
    }
}

impl<P: Pages> DoubleEndedIterator for Range<P> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let entry = self.next_entry_back();
        self.with_value(entry)
    }
}

/// The keys of a range, as an iterator from both ends.
pub struct Keys<P> {
    range: Range<P>,
}

impl<P: Pages> Iterator for Keys<P> {
    type Item = Result<Bytes, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.range.next_entry()?.map(|entry| entry.key))
    }
}

impl<P: Pages> DoubleEndedIterator for Keys<P> {
    fn next_back(&mut self) -> Option<Self::Item> {
        Some(self.range.next_entry_back()?.map(|entry| entry.key))
    }
}

/// A place between two entries: the path from the root to a leaf. In a branch `slot` is the child
/// the path goes through; in the leaf, the entry just after the place.
struct Path {
    frames: Vec<Frame>,
}

struct Frame {
    page: Arc<Page>,
    slot: usize,
}

impl Path {
    /// The place at the bound `from` of the range's `end`.
    fn seek(
        pages: &impl Pages,
        root: PageRef,
        from: &Bound<Bytes>,
        end: End,
    ) -> Result<Path, StorageError> {
        let mut path = Path { frames: Vec::new() };
        let key = match from {
            Bound::Included(key) | Bound::Excluded(key) => Some(&key[..]),
            Bound::Unbounded => None,
        };
        // The entry of that very key is on the far side of the place when it is to be yielded.
        let is_included = matches!(from, Bound::Included(_));
        let mut page = pages.node(root)?;
        loop {
            let node = Node::of(&page);
            let slot = match (key, end) {
                (Some(key), _) if !node.is_leaf() => node.child_slot(key),
                (Some(key), End::Front) => node
                    .search(key)
                    .map_or_else(|slot| slot, |slot| slot + usize::from(!is_included)),
                (Some(key), End::Back) => node
                    .search(key)
                    .map_or_else(|slot| slot, |slot| slot + usize::from(is_included)),
                (None, _) => edge_slot(&node, end),
            };
            let below = (!node.is_leaf()).then(|| (node.child(slot), node.level() - 1));
            path.frames.push(Frame { page, slot });
            let Some((child, level)) = below else { return Ok(path) };
            page = pages.child(child, level)?;
        }
    }

    /// Steps over one entry, away from `end`; returns the leaf and the slot of the entry.
    fn advance(
        &mut self,
        pages: &impl Pages,
        end: End,
    ) -> Result<Option<(&Arc<Page>, usize)>, StorageError> {
        loop {
            let Some(frame) = self.frames.last() else { return Ok(None) };
            let node = Node::of(&frame.page);
            let has_more = match (end, node.is_leaf()) {
                (End::Front, true) => frame.slot < node.count(),
                (End::Front, false) => frame.slot + 1 < node.count(),
                (End::Back, _) => frame.slot > 0,
            };
            if !has_more {
                self.frames.pop();
                continue;
            }
            if node.is_leaf() {
                break;
            }
            self.descend(pages, end)?;
        }
        let leaf = self.frames.last_mut().expect("the loop ended at a leaf");
        let slot = match end {
            End::Front => leaf.slot,
            End::Back => leaf.slot - 1,
        };
        leaf.slot = match end {
            End::Front => slot + 1,
            End::Back => slot,
        };
        Ok(Some((&leaf.page, slot)))
    }

    /// Goes through the neighbour of the last branch's child, down to the leaf on that side.
    fn descend(&mut self, pages: &impl Pages, end: End) -> Result<(), StorageError> {
        let branch = self.frames.last_mut().expect("a path has a branch to go down from");
        match end {
            End::Front => branch.slot += 1,
            End::Back => branch.slot -= 1,
        }
        loop {
            let branch = self.frames.last().expect("pushed below");
            let node = Node::of(&branch.page);
            if node.is_leaf() {
                return Ok(());
            }
            let page = pages.child(node.child(branch.slot), node.level() - 1)?;
            let slot = edge_slot(&Node::of(&page), end);
            self.frames.push(Frame { page, slot });
        }
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
