//! How much of the past is kept, and when its changes were made.
//!
//! The retention is a part of the state: an entry of the log sets it (`Operation::Retain`), so that every node trims
//! the same changes at the same entry. Where none was ever set the default is in force.
//!
//! Changes carry no time. For an age there are *marks* beside them, in tree 1: the first change behind the end of a
//! mark begins another, which ends an [`AGE_PARTS`]th of the age later. So all changes of a mark were made before its
//! end, and when the age has passed since then they go together: none is kept for longer than the age and that part
//! of it, none goes before. An idle store has no entries that could trim it, so the leader proposes one when the
//! first mark is over (`actors::raft::retention`).
//!
//! There are few marks, about [`AGE_PARTS`], and the first and the last are in memory with the writer.

use std::ops::Bound;

use bytes::{Buf, BufMut, Bytes};

use super::batch::Batch;
use super::layout::BadBytes;
use super::view::KvSnapshot;
use super::{CHANGES, SYSTEM, bad};
use crate::storage::cursor::Bounds;
use crate::storage::error::StorageError;
use crate::storage::snapshot::Snapshot;
use crate::types::{KeyRange, Outcome, Retention, Revision};

/// What is beyond the age is kept for up to one part of it in so many.
const AGE_PARTS: u64 = 64;

/// Where tree 1 has the retention, and the marks: each by its first revision, big-endian.
const RETENTION: &[u8] = b"retention";
const MARK: &[u8] = b"mark/";

/// Changes that a [`crate::types::Operation::Retain`] trims beside those that every command does: some milliseconds of work.
pub(super) const RETAIN_TRIMS: u64 = 4_096;

/// Changes made before `end_ms`, from a revision on to that of the next mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    revision: Revision,
    end_ms: u64,
}

/// What the writer knows of the retention without looking.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    pub retention: Retention,
    first: Option<Mark>,
    last: Option<Mark>,
}

impl Policy {
    /// What a state says; `unset` is in force where none was set.
    pub fn of(state: &Snapshot, unset: Retention) -> Result<Policy, StorageError> {
        let mut marks = state.range(SYSTEM, KeyRange::prefix(MARK)).map(decode_mark);
        let first = marks.next().transpose()?;
        let last = marks.next_back().transpose()?.or(first);
        Ok(Policy { retention: stored(state)?.unwrap_or(unset), first, last })
    }

    /// Whether changes of the first mark are too old.
    pub fn is_past(&self, now_ms: u64) -> bool {
        self.first.is_some_and(|first| self.is_over(first, now_ms))
    }

    fn is_over(&self, mark: Mark, now_ms: u64) -> bool {
        self.retention.age_ms.is_some_and(|age_ms| mark.end_ms.saturating_add(age_ms) <= now_ms)
    }
}

impl KvSnapshot {
    /// How much of the past is kept.
    pub fn retention(&self) -> Result<Retention, StorageError> {
        Ok(stored(&self.snapshot)?.unwrap_or_default())
    }

    /// How many changes are kept, and their bytes.
    pub fn kept_changes(&self) -> (u64, u64) {
        (self.snapshot.len(CHANGES), self.facts.change_bytes)
    }

    /// Whether more of the past is there than may be, if the log's clock came to `now_ms`.
    pub fn keeps_too_much(&self, now_ms: u64) -> Result<bool, StorageError> {
        let policy = Policy::of(&self.snapshot, Retention::default())?;
        let (changes, bytes) = self.kept_changes();
        Ok(policy.is_past(now_ms) || !super::history::is_within(&policy.retention, changes, bytes))
    }
}

fn stored(state: &Snapshot) -> Result<Option<Retention>, StorageError> {
    state.get(SYSTEM, RETENTION)?.map(|bytes| decode(&bytes).map_err(bad)).transpose()
}

impl Batch<'_> {
    /// Sets the retention.
    pub(super) fn retain(&mut self, retention: &Retention) -> Result<Outcome, StorageError> {
        if self.policy.retention != *retention {
            self.txn.put(SYSTEM, RETENTION, &encode(retention))?;
            self.policy.retention = *retention;
            match retention.age_ms {
                None => self.forget_marks()?,
                // What is there already has no time: it is as old as can be.
                Some(_) if self.policy.last.is_none() => {
                    let revision = self.facts.trimmed + 1;
                    self.put_mark(Mark { revision, end_ms: self.facts.clock_ms })?;
                }
                Some(_) => {}
            }
        }
        Ok(Outcome::None)
    }

    /// Takes note of when the change of this revision is made.
    pub(super) fn mark(&mut self, revision: Revision) -> Result<(), StorageError> {
        let Some(age_ms) = self.policy.retention.age_ms else { return Ok(()) };
        let now_ms = self.facts.clock_ms;
        if self.policy.last.is_some_and(|last| now_ms < last.end_ms) {
            return Ok(());
        }
        let end_ms = now_ms.saturating_add((age_ms / AGE_PARTS).max(1));
        self.put_mark(Mark { revision, end_ms })
    }

    fn put_mark(&mut self, mark: Mark) -> Result<(), StorageError> {
        self.txn.put(SYSTEM, &mark_key(mark.revision), &mark.end_ms.to_le_bytes())?;
        // The first one may be written over: it said when what was there already was made, and that is nothing.
        let first = self.policy.first.filter(|first| first.revision < mark.revision);
        self.policy.first = first.or(Some(mark));
        self.policy.last = Some(mark);
        Ok(())
    }

    /// The first revision whose changes are not too old, if there are some that are.
    pub(super) fn first_young(&self) -> Result<Option<Revision>, StorageError> {
        let now_ms = self.facts.clock_ms;
        if !self.policy.is_past(now_ms) {
            return Ok(None);
        }
        for mark in self.txn.range(SYSTEM, KeyRange::prefix(MARK))?.map(decode_mark) {
            let mark = mark?;
            if !self.policy.is_over(mark, now_ms) {
                return Ok(Some(mark.revision));
            }
        }
        Ok(Some(self.facts.revision + 1))
    }

    /// Forgets the marks before that of this revision: their changes are gone.
    pub(super) fn forget_marks_below(&mut self, young: Revision) -> Result<(), StorageError> {
        let end = Bound::Excluded(Bytes::from(mark_key(young)));
        let start = Bound::Included(Bytes::from_static(MARK));
        self.txn.delete_range(SYSTEM, Bounds { start, end })?;
        let first = self.txn.range(SYSTEM, KeyRange::prefix(MARK))?.map(decode_mark).next();
        self.policy.first = first.transpose()?;
        self.policy.last = self.policy.last.filter(|_| self.policy.first.is_some());
        Ok(())
    }

    /// Forgets all marks.
    pub(super) fn forget_marks(&mut self) -> Result<(), StorageError> {
        if self.policy.last.is_some() {
            self.txn.delete_range(SYSTEM, KeyRange::prefix(MARK))?;
            (self.policy.first, self.policy.last) = (None, None);
        }
        Ok(())
    }
}

fn mark_key(revision: Revision) -> Vec<u8> {
    [MARK, &revision.to_be_bytes()].concat()
}

fn decode_mark(entry: Result<(Bytes, Bytes), StorageError>) -> Result<Mark, StorageError> {
    let (key, end) = entry?;
    let revision = key.get(MARK.len()..).and_then(|key| key.try_into().ok());
    match (revision, (&end[..]).try_into()) {
        (Some(revision), Ok(end)) => {
            let (revision, end_ms) = (u64::from_be_bytes(revision), u64::from_le_bytes(end));
            Ok(Mark { revision, end_ms })
        }
        _ => Err(bad(BadBytes("a mark of the past has a bad length"))),
    }
}

/// changes u64 · bytes u64 · has an age u8 · age_ms u64, all little-endian
const ENCODED_BYTES: usize = 8 + 8 + 1 + 8;

fn encode(retention: &Retention) -> [u8; ENCODED_BYTES] {
    let mut bytes = [0; ENCODED_BYTES];
    let mut out = &mut bytes[..];
    out.put_u64_le(retention.changes);
    out.put_u64_le(retention.bytes);
    out.put_u8(retention.age_ms.is_some().into());
    out.put_u64_le(retention.age_ms.unwrap_or(0));
    bytes
}

fn decode(mut bytes: &[u8]) -> Result<Retention, BadBytes> {
    if bytes.len() != ENCODED_BYTES {
        return Err(BadBytes("the retention has a bad length"));
    }
    let (changes, kept_bytes) = (bytes.get_u64_le(), bytes.get_u64_le());
    let has_age = bytes.get_u8() != 0;
    let age_ms = bytes.get_u64_le();
    Ok(Retention { changes, bytes: kept_bytes, age_ms: has_age.then_some(age_ms) })
}
