//! The changes of a store in order: what watches and replicas of a part are fed with.
//!
//! A change holds what it replaced; what it put is in the *next* change of that key, or in tree 0 when there is none.
//! So the walk goes by windows of [`WINDOW_CHANGES`]: it reads their heads, finds for each put where its record
//! lies, and fetches records as they are asked for, one in memory at a time.
//!
//! A put finds its record in this order:
//! 1. with the next change of the key, when that is in the window;
//! 2. in tree 0, when it is the key's last;
//! 3. with the next change of the key again, within [`LOOK_AHEAD_CHANGES`] behind the window;
//! 4. along the chain back from tree 0 (`past`), which is as long as the key was written often since.
//!
//! The third is for hot keys, whose chain is long and whose next change is near. A key whose next change is not near
//! has been written at most once in so many changes, so its chain is short, unless it became hot later.
//!
//! Who wants the changes of some keys only says so at each step ([`Changes::next_wanted`]): of the others nothing but
//! the head is read, and no step reads more than [`SCAN_CHANGES`] of them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use super::change::{self, ChangeEntry, ChangeId, ChangeKind};
use super::layout::{BadBytes, StoredRecord};
use super::past::{PastError, Place};
use super::view::KvSnapshot;
use super::{CHANGES, bad};
use crate::storage::cursor::{Bounds, Lent, Range};
use crate::storage::error::StorageError;
use crate::storage::snapshot::Snapshot;
use crate::types::{Key, Record, Revision};

/// Changes whose heads are held at a time: a mebibyte with the longest keys.
const WINDOW_CHANGES: usize = 256;

/// How far to look for the next change of a key behind the window: some 0.5 ms, about what the
/// chains of keys cost that come once in so many changes.
const LOOK_AHEAD_CHANGES: usize = 4_096;

/// Changes that one step passes over at most while it looks for wanted ones: some 0.3 ms.
const SCAN_CHANGES: usize = 4_096;

/// What a revision did to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub revision: Revision,
    pub key: Key,
    pub kind: ChangeKind,
    /// What was put; nothing of a delete.
    pub record: Option<Record>,
    /// What was there before, if it was asked for.
    pub previous: Option<Record>,
}

/// Walks changes; see [`KvSnapshot::changes`]. Ends after the first error.
pub struct Changes {
    state: KvSnapshot,
    entries: Range<Snapshot>,
    window: VecDeque<Pending>,
    /// The change after the last whose head was read, and whether there is none.
    ahead: ChangeId,
    is_read: bool,
    with_previous: bool,
    is_done: bool,
}

/// What a step of a walk came to.
pub enum ChangeStep {
    Change(Change),
    /// Nothing that is wanted as far as [`Changes::at`]; there is more behind it.
    Nothing,
    End,
}

/// A change of the window.
struct Pending {
    id: ChangeId,
    kind: ChangeKind,
    key: Bytes,
    /// Where the record of a put lies, once that is known.
    place: Option<Place>,
}

/// The puts of a window whose record was not found yet: the last of each key.
type Open = BTreeMap<Bytes, usize>;

impl KvSnapshot {
    /// The changes of `from_revision` and after, in order of revision and, of a range that was deleted, in
    /// key order. The next revision that the store will come to is a good one to begin with: it
    /// has none yet.
    pub fn changes(
        &self,
        from_revision: Revision,
        with_previous: bool,
    ) -> Result<Changes, PastError> {
        self.changes_from(ChangeId { revision: from_revision.max(1), ordinal: 0 }, with_previous)
    }

    /// [`KvSnapshot::changes`] from where an earlier walk, perhaps over an earlier state, had come to
    /// ([`Changes::at`]).
    pub fn changes_from(&self, from: ChangeId, with_previous: bool) -> Result<Changes, PastError> {
        if from.revision <= self.facts.trimmed {
            return Err(PastError::Trimmed { oldest: self.facts.trimmed + 1 });
        }
        if from.revision > self.facts.revision + 1 {
            return Err(PastError::Future { revision: self.facts.revision });
        }
        let start = Bound::Included(Bytes::copy_from_slice(&from.encode()));
        let entries = self.snapshot.range(CHANGES, Bounds { start, end: Bound::Unbounded });
        let (state, window) = (self.clone(), VecDeque::new());
        let (is_read, is_done) = (false, false);
        Ok(Changes { state, entries, window, ahead: from, is_read, with_previous, is_done })
    }
}

impl Iterator for Changes {
    type Item = Result<Change, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_wanted(|_| true) {
                Ok(ChangeStep::Change(change)) => return Some(Ok(change)),
                Ok(ChangeStep::Nothing) => {}
                Ok(ChangeStep::End) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Changes {
    /// The next change of a key that is `wanted`. Between two steps the answer for a key must stay the same.
    pub fn next_wanted(
        &mut self,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<ChangeStep, StorageError> {
        if self.is_done {
            return Ok(ChangeStep::End);
        }
        let step = self.step(wanted);
        self.is_done = matches!(step, Ok(ChangeStep::End) | Err(_));
        step
    }

    /// The change that comes next; behind the last one, the next revision that the store will come to.
    pub fn at(&self) -> ChangeId {
        match self.window.front() {
            Some(pending) => pending.id,
            None if self.is_read => {
                ChangeId { revision: self.state.facts.revision + 1, ordinal: 0 }
            }
            None => self.ahead,
        }
    }

    /// The last revision that this walk is through with: nothing of it that is `wanted` comes after this.
    pub fn through(&mut self, wanted: impl Fn(&[u8]) -> bool) -> Result<Revision, StorageError> {
        if self.window.is_empty() && !self.is_read {
            self.fill(wanted)?;
        }
        Ok(self.at().revision - 1)
    }

    fn step(&mut self, wanted: impl Fn(&[u8]) -> bool) -> Result<ChangeStep, StorageError> {
        if self.window.is_empty() && !self.is_read {
            self.fill(wanted)?;
        }
        let Some(Pending { id, kind, key, place }) = self.window.pop_front() else {
            return Ok(if self.is_read { ChangeStep::End } else { ChangeStep::Nothing });
        };
        let record = place.map(|place| self.state.fetch(&key, place)).transpose()?;
        let previous = match self.with_previous {
            true => self.state.change(id)?.and_then(|change| change.replaced),
            false => None,
        };
        let previous = previous.and_then(StoredRecord::live);
        let key = Key::new(key).map_err(|_| bad(BadBytes("a change's key has a bad length")))?;
        Ok(ChangeStep::Change(Change { revision: id.revision, key, kind, record, previous }))
    }

    fn fill(&mut self, wanted: impl Fn(&[u8]) -> bool) -> Result<(), StorageError> {
        let (window, mut open, mut left) = (&mut self.window, Open::new(), SCAN_CHANGES);
        let ahead = &mut self.ahead;
        let visit = |entry: Lent<'_>| {
            let (id, found) = match read(&entry, &wanted) {
                Ok(read) => read,
                Err(error) => return ControlFlow::Break(Err(error)),
            };
            *ahead = id.next();
            let Some((kind, key)) = found else {
                left -= 1;
                return match left {
                    0 => ControlFlow::Break(Ok(())),
                    _ => ControlFlow::Continue(()),
                };
            };
            if let Some(earlier) = open.remove(&key) {
                window[earlier].place = Some(Place::ReplacedBy(id));
            }
            if kind == ChangeKind::Put {
                open.insert(key.clone(), window.len());
            }
            window.push_back(Pending { id, kind, key, place: None });
            match window.len() < WINDOW_CHANGES {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(Ok(())),
            }
        };
        match self.entries.visit(visit)? {
            Some(filled) => filled?,
            None => self.is_read = true,
        }
        self.find_present(&mut open)?;
        self.look_ahead(&mut open)?;
        self.walk_chains(open)
    }

    fn find_present(&mut self, open: &mut Open) -> Result<(), StorageError> {
        for (key, at) in std::mem::take(open) {
            let pending = &mut self.window[at];
            let present = self.state.head(&key)?;
            if present.is_some_and(|it| it.record.mod_revision == pending.id.revision) {
                pending.place = Some(Place::Present);
            } else {
                open.insert(key, at);
            }
        }
        Ok(())
    }

    fn look_ahead(&mut self, open: &mut Open) -> Result<(), StorageError> {
        let Some(last) = self.window.back().filter(|_| !open.is_empty()) else { return Ok(()) };
        let start = Bound::Excluded(Bytes::copy_from_slice(&last.id.encode()));
        let bounds = Bounds { start, end: Bound::Unbounded };
        let mut left = LOOK_AHEAD_CHANGES;
        let visit = |entry: Lent<'_>| {
            let (id, found) = match read(&entry, |key| open.contains_key(key)) {
                Ok(read) => read,
                Err(error) => return ControlFlow::Break(Err(error)),
            };
            if let Some(earlier) = found.and_then(|(_, key)| open.remove(&key)) {
                self.window[earlier].place = Some(Place::ReplacedBy(id));
            }
            left -= 1;
            match left > 0 && !open.is_empty() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(Ok(())),
            }
        };
        self.state.snapshot.range(CHANGES, bounds).visit(visit)?.unwrap_or(Ok(()))
    }

    fn walk_chains(&mut self, open: Open) -> Result<(), StorageError> {
        for (key, at) in open {
            let pending = &mut self.window[at];
            let found = match self.state.head(&key)? {
                Some(present) => self.state.walk_back(&key, present, pending.id.revision)?,
                None => None,
            };
            let is_it = |it: &StoredRecord| it.record.mod_revision == pending.id.revision;
            let Some((place, _)) = found.filter(|(_, stored)| is_it(stored)) else {
                return Err(bad(BadBytes("nothing holds what a change put")));
            };
            pending.place = Some(place);
        }
        Ok(())
    }
}

/// Reads the head of a change: its id and, if its key is `wanted`, what became of that.
fn read(
    entry: &Lent<'_>,
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<(ChangeId, Option<(ChangeKind, Bytes)>), StorageError> {
    let id = ChangeId::decode(entry.key).map_err(bad)?;
    let ChangeEntry { kind, key, .. } = change::decode_change_head(entry.head()).map_err(bad)?;
    let key = match key {
        Some(key) => wanted(key).then(|| Bytes::copy_from_slice(key)),
        None => {
            let key = change::decode_change(entry.value()?).map_err(bad)?.key;
            wanted(&key).then_some(key)
        }
    };
    Ok((id, key.map(|key| (kind, key))))
}
