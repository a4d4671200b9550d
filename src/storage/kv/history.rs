//! The past as the writer keeps it: a change for each key changed, and an end to it.
//!
//! Changes are keyed by revision, so that each is appended at the right edge of its tree and trimmed at
//! the left: a page holds a score of them, and one page is touched for a score of writes. A trimmed
//! delete takes its tombstone along, unless the key was written since.
//!
//! [`Retention`] is a constant for now, since every node must have the same: what is trimmed when is a function
//! of the log, like everything else that apply does. A replicated setting can take its place.
//!
//! # How much is kept, and what trimming costs
//!
//! Trimming begins when a limit is exceeded by one part in [`SLACK`], and goes on down to the limit. It is paid
//! for by those who write: a command that makes changes may trim two for each, as many again as its share of
//! the byte limit is of the limit on changes, and twice the slack. So no command does more than about thrice
//! its own work and a constant, and
//!
//! * the changes kept are at most those of the limit and the slack, after every command;
//! * their bytes are at most about twice the limit and one change: small old changes are trimmed no faster
//!   than large new ones come, but when these have filled the limit once, all that was there before is gone.
//!
//! # Left out
//!
//! * The value of a large replaced record is copied into its change. Moving its pages there by reference
//!   would save the copy.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use super::batch::Batch;
use super::change::{self, ChangeEntry, ChangeId, ChangeKind};
use super::{CHANGES, bad};
use crate::storage::cursor::{Bounds, Lent};
use crate::storage::error::StorageError;

/// Trimming begins past a limit by one part in so many, so that it comes in batches that stay in one place
/// of the tree.
const SLACK: u64 = 256;

/// Changes that trimming holds at a time: a mebibyte with the longest keys.
const TRIM_BATCH: u64 = 256;

/// How much of the past is kept; the same on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Changes: keys put or deleted.
    pub changes: u64,
    /// Bytes of their keys and of the records they replaced.
    pub bytes: u64,
}

impl Default for Retention {
    /// A minute of a busy store, a day of an idle one; as many bytes as that is of kilobyte records.
    fn default() -> Retention {
        Retention { changes: 65_536, bytes: 64 << 20 }
    }
}

/// What is kept, or is to be.
#[derive(Clone, Copy, Default)]
pub(super) struct Kept {
    changes: u64,
    bytes: u64,
}

/// A delete, or the end of a record's time, whose tombstone may still stand.
pub(super) struct Deleted {
    pub id: ChangeId,
    pub key: Bytes,
}

/// A change at the left edge.
struct Oldest {
    id: ChangeId,
    len_bytes: u64,
    deleted: Option<Deleted>,
}

impl Retention {
    fn allows(&self, kept: Kept, slack: u64) -> bool {
        let allowed = |limit: u64| limit.saturating_add(limit.checked_div(slack).unwrap_or(0));
        kept.changes <= allowed(self.changes) && kept.bytes <= allowed(self.bytes)
    }

    /// How many changes may be trimmed by a command that kept `made` more.
    fn budget(&self, made: Kept) -> u64 {
        let share =
            u128::from(made.bytes) * u128::from(self.changes) / u128::from(self.bytes.max(1));
        2 * made.changes + share as u64 + 2 * (self.changes / SLACK)
    }
}

impl Batch<'_> {
    fn kept(&self) -> Result<Kept, StorageError> {
        Ok(Kept { changes: self.txn.len(CHANGES)?, bytes: self.facts.change_bytes })
    }

    /// Appends the change that was encoded.
    pub(super) fn log(&mut self, id: ChangeId) -> Result<(), StorageError> {
        let (head, body) = (self.change.head(), self.change.body());
        let len_bytes = (head.len() + body.len()) as u64;
        self.facts.change_bytes += len_bytes;
        self.command.made.changes += 1;
        self.command.made.bytes += len_bytes;
        self.txn.put_parts(CHANGES, &id.encode(), head, body)?;
        Ok(())
    }

    /// Removes the oldest changes after a command.
    pub(super) fn trim(&mut self) -> Result<(), StorageError> {
        let mut kept = self.kept()?;
        if self.retention.allows(kept, SLACK) {
            return Ok(());
        }
        let mut budget = self.retention.budget(self.command.made);
        while budget > 0 && !self.retention.allows(kept, 0) {
            let batch = self.oldest(kept, budget.min(TRIM_BATCH))?;
            budget -= batch.len() as u64;
            let Some(last) = batch.last() else { break };
            self.facts.trimmed = last.id.revision;
            self.txn.delete_below(CHANGES, &last.id.end())?;
            for Oldest { len_bytes, deleted, .. } in batch {
                self.facts.change_bytes -= len_bytes;
                deleted.map_or(Ok(()), |deleted| self.clear_away(&deleted))?;
            }
            kept = self.kept()?;
        }
        Ok(())
    }

    /// At most `most` of the oldest changes, and no more than are too many.
    fn oldest(&self, mut kept: Kept, most: u64) -> Result<Vec<Oldest>, StorageError> {
        let mut batch: Vec<Oldest> = Vec::with_capacity(most as usize);
        self.collect(Bounds::ALL, most, &mut batch, |oldest| {
            kept.changes -= 1;
            kept.bytes -= oldest.len_bytes;
            !self.retention.allows(kept, 0)
        })?;
        Ok(batch)
    }

    /// Ends the past with the present revision.
    pub(super) fn forget(&mut self) -> Result<(), StorageError> {
        let mut bounds = Bounds::ALL;
        let mut batch = Vec::with_capacity(TRIM_BATCH as usize);
        loop {
            batch.clear();
            self.collect(bounds.clone(), TRIM_BATCH, &mut batch, |_| true)?;
            let Some(last) = batch.last() else { break };
            bounds.start = Bound::Excluded(Bytes::copy_from_slice(&last.id.encode()));
            for deleted in batch.iter().filter_map(|oldest| oldest.deleted.as_ref()) {
                self.clear_away(deleted)?;
            }
        }
        self.txn.clear(CHANGES)?;
        self.facts.trimmed = self.facts.revision;
        self.facts.change_bytes = 0;
        Ok(())
    }

    /// Adds changes to `batch`, until it has `most` or `wants_more` says no after one.
    fn collect(
        &self,
        bounds: Bounds,
        most: u64,
        batch: &mut Vec<Oldest>,
        mut wants_more: impl FnMut(&Oldest) -> bool,
    ) -> Result<(), StorageError> {
        let visit = |entry: Lent<'_>| {
            let oldest = match read_oldest(&entry) {
                Ok(oldest) => oldest,
                Err(error) => return ControlFlow::Break(Err(error)),
            };
            let goes_on = wants_more(&oldest);
            batch.push(oldest);
            match goes_on && (batch.len() as u64) < most {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(Ok(())),
            }
        };
        self.txn.range(CHANGES, bounds)?.visit(visit)?.unwrap_or(Ok(()))
    }
}

fn read_oldest(entry: &Lent<'_>) -> Result<Oldest, StorageError> {
    let id = ChangeId::decode(entry.key).map_err(bad)?;
    let ChangeEntry { kind, key, .. } = change::decode_change_head(entry.head()).map_err(bad)?;
    let deleted = match (kind, key) {
        (ChangeKind::Put, _) => None,
        (_, Some(key)) => Some(Bytes::copy_from_slice(key)),
        (_, None) => Some(change::decode_change(entry.value()?).map_err(bad)?.key),
    };
    let deleted = deleted.map(|key| Deleted { id, key });
    Ok(Oldest { id, len_bytes: entry.value_len() as u64, deleted })
}
