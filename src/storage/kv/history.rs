//! The past as the writer keeps it: a change for each key changed, and an end to it.
//!
//! Changes are keyed by revision, so that each is appended at the right edge of its tree and trimmed at
//! the left: a page holds a score of them, and one page is touched for a score of writes. A trimmed
//! delete takes its tombstone along, unless the key was written since.
//!
//! How much is kept is a part of the state (`retention`): what is trimmed when is a function of the log, like everything
//! else that apply does.
//!
//! # How much is kept, and what trimming costs
//!
//! Trimming begins when a limit is exceeded by one part in [`SLACK`], and goes on down to the limit. It is paid
//! for by those who write: a command that makes changes may trim two for each, as many again as its share of
//! the byte limit is of the limit on changes, and twice the slack, or [`MOST_BESIDE`]. So no command does more than
//! about thrice its own work and a constant, and
//!
//! * the changes kept are at most those of the limit and the slack, after every command;
//! * their bytes are at most about twice the limit and one change: small old changes are trimmed no faster
//!   than large new ones come, but when these have filled the limit once, all that was there before is gone;
//! * what is too old, or too much since a limit was lowered, goes as fast, and by what the leader proposes for it.
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
use crate::types::{Retention, Revision};

/// Trimming begins past a limit by one part in so many, so that it comes in batches that stay in one place
/// of the tree.
const SLACK: u64 = 256;

/// Changes that trimming holds at a time: a mebibyte with the longest keys.
const TRIM_BATCH: u64 = 256;

/// Changes that a command trims at most for others.
const MOST_BESIDE: u64 = 512;

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

/// Whether so much may be kept, and one part more in `slack`.
fn allows(retention: &Retention, kept: Kept, slack: u64) -> bool {
    let allowed = |limit: u64| limit.saturating_add(limit.checked_div(slack).unwrap_or(0));
    kept.changes <= allowed(retention.changes) && kept.bytes <= allowed(retention.bytes)
}

/// Whether so much is no reason to trim.
pub(super) fn is_within(retention: &Retention, changes: u64, bytes: u64) -> bool {
    allows(retention, Kept { changes, bytes }, SLACK)
}

/// How many changes may be trimmed by a command that kept `made` more.
fn budget(retention: &Retention, made: Kept) -> u64 {
    let (changes, bytes) = (u128::from(retention.changes), u128::from(retention.bytes.max(1)));
    let share = u128::from(made.bytes) * changes / bytes;
    let beside = (2 * (retention.changes / SLACK)).min(MOST_BESIDE);
    2 * made.changes + share as u64 + beside
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
        self.mark(id.revision)
    }

    /// Removes the oldest changes after a command; `extra` more of them than it has to pay for.
    pub(super) fn trim(&mut self, extra: u64) -> Result<(), StorageError> {
        let retention = self.policy.retention;
        let young = self.first_young()?;
        let too_many = !allows(&retention, self.kept()?, SLACK);
        if young.is_none() && !too_many {
            return Ok(());
        }
        let mut budget = budget(&retention, self.command.made) + extra;
        while budget > 0 {
            let batch = self.beyond(young, too_many, budget.min(TRIM_BATCH))?;
            let Some(last) = batch.last() else { break };
            budget -= batch.len() as u64;
            self.facts.trimmed = last.id.revision;
            self.txn.delete_below(CHANGES, &last.id.end())?;
            for Oldest { len_bytes, deleted, .. } in batch {
                self.facts.change_bytes -= len_bytes;
                deleted.map_or(Ok(()), |deleted| self.clear_away(&deleted))?;
            }
        }
        match young {
            Some(first) if self.beyond(young, false, 1)?.is_empty() => {
                self.forget_marks_below(first)
            }
            _ => Ok(()),
        }
    }

    /// At most `most` of the oldest changes, of those that were made before `young` and, if they are `too_many`, of
    /// those beyond the limits.
    fn beyond(
        &self,
        young: Option<Revision>,
        too_many: bool,
        most: u64,
    ) -> Result<Vec<Oldest>, StorageError> {
        let (retention, mut kept) = (self.policy.retention, self.kept()?);
        let mut batch: Vec<Oldest> = Vec::with_capacity(most as usize);
        self.collect(Bounds::ALL, most, &mut batch, |oldest| {
            let is_old = young.is_some_and(|young| oldest.id.revision < young);
            if !is_old && (!too_many || allows(&retention, kept, 0)) {
                return false;
            }
            kept.changes -= 1;
            kept.bytes -= oldest.len_bytes;
            true
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
        self.forget_marks()
    }

    /// Adds changes to `batch`, until it has `most` or one is not `wanted`.
    fn collect(
        &self,
        bounds: Bounds,
        most: u64,
        batch: &mut Vec<Oldest>,
        mut wanted: impl FnMut(&Oldest) -> bool,
    ) -> Result<(), StorageError> {
        let visit = |entry: Lent<'_>| {
            let oldest = match read_oldest(&entry) {
                Ok(oldest) => oldest,
                Err(error) => return ControlFlow::Break(Err(error)),
            };
            if !wanted(&oldest) {
                return ControlFlow::Break(Ok(()));
            }
            batch.push(oldest);
            match (batch.len() as u64) < most {
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
