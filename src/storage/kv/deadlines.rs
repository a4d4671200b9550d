//! Records that expire: which do when, and their end.
//!
//! Tree 5 holds the key of every record that expires, by its deadline. So a record that does not expire costs
//! nothing, and one that does costs nothing until its time has come, however many there are.
//!
//! Time is that of the log: the greatest clock of a leader that any command so far carried
//! ([`KvFacts::clock_ms`](super::layout::KvFacts)). It never goes back, whatever the clocks of leaders do. A put with a
//! time to live sets the deadline by it. The end of a record is an entry of its own, `Operation::Expire`, which the
//! leader proposes when a deadline has passed: from there on the record is gone, on every node alike, with a revision
//! and a change as a delete has them. Before it, it is there.
//! Nothing else looks at deadlines, so a revision has one state, whenever it is read.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use super::batch::Batch;
use super::change::ChangeKind;
use super::layout::{self, BadBytes};
use super::view::KvSnapshot;
use super::{DEADLINES, KV, bad};
use crate::storage::cursor::{Bounds, Lent};
use crate::storage::error::StorageError;
use crate::types::{EXPIRE_BATCH_KEYS, KeyRange, Outcome};

/// Deadlines of a range that is deleted, held at a time: a mebibyte with the longest keys.
const DROP_BATCH_KEYS: usize = 256;

impl KvSnapshot {
    /// When the next record expires, by the clock of the log.
    pub fn next_deadline_ms(&self) -> Result<Option<u64>, StorageError> {
        let first = self.snapshot.range(DEADLINES, Bounds::ALL).keys().next().transpose()?;
        first.map(|key| Ok(layout::split_deadline(&key).map_err(bad)?.0)).transpose()
    }

    /// The clock of the log.
    pub fn clock_ms(&self) -> u64 {
        self.facts.clock_ms
    }
}

impl Batch<'_> {
    /// Removes records whose deadline has passed: at most [`EXPIRE_BATCH_KEYS`], in one revision.
    pub(super) fn expire(&mut self) -> Result<Outcome, StorageError> {
        let now_ms = self.facts.clock_ms;
        let mut due: Vec<Bytes> = Vec::new();
        for deadline in self.txn.range(DEADLINES, Bounds::ALL)?.keys().take(EXPIRE_BATCH_KEYS) {
            let deadline = deadline?;
            let (deadline_ms, key) = layout::split_deadline(&deadline).map_err(bad)?;
            if deadline_ms > now_ms {
                break;
            }
            due.push(deadline.slice_ref(key));
        }
        for key in &due {
            let present = self.present(key)?;
            let present = present.ok_or(bad(BadBytes("a deadline is of a record that is not")))?;
            self.bury(ChangeKind::Expire, key, &present)?;
        }
        Ok(Outcome::Deleted { count: due.len() as u64, revision: self.facts.revision })
    }

    /// The deadline of what is put now.
    pub(super) fn deadline(&self, ttl_ms: Option<u64>) -> Option<u64> {
        ttl_ms.map(|ttl_ms| self.facts.clock_ms.saturating_add(ttl_ms))
    }

    /// Has the index follow a record from a deadline to another.
    pub(super) fn move_deadline(
        &mut self,
        key: &[u8],
        before: Option<u64>,
        after: Option<u64>,
    ) -> Result<(), StorageError> {
        if before == after {
            return Ok(());
        }
        if let Some(deadline_ms) = before {
            self.txn.delete(DEADLINES, &layout::deadline_key(deadline_ms, key))?;
        }
        if let Some(deadline_ms) = after {
            self.txn.put(DEADLINES, &layout::deadline_key(deadline_ms, key), &[])?;
        }
        Ok(())
    }

    /// Forgets the deadlines of a range whose records are about to be removed.
    pub(super) fn drop_deadlines(&mut self, range: &KeyRange) -> Result<(), StorageError> {
        if self.txn.len(DEADLINES)? == 0 {
            return Ok(());
        }
        let mut bounds = Bounds::from(range.clone());
        loop {
            let mut batch: Vec<(Bytes, Vec<u8>)> = Vec::new();
            let visit = |entry: Lent<'_>| {
                let stored = match layout::decode_record_head(&mut entry.head()) {
                    Ok(stored) => stored,
                    Err(damage) => return ControlFlow::Break(Err(bad(damage))),
                };
                if let Some(deadline_ms) = stored.record.expires_at_ms {
                    let deadline = layout::deadline_key(deadline_ms, entry.key);
                    batch.push((Bytes::copy_from_slice(entry.key), deadline));
                }
                match batch.len() < DROP_BATCH_KEYS {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(Ok(())),
                }
            };
            let ended = self.txn.range(KV, bounds.clone())?.visit(visit)?;
            for (_, deadline) in &batch {
                self.txn.delete(DEADLINES, deadline)?;
            }
            match (ended, batch.pop()) {
                (Some(Err(error)), _) => return Err(error),
                (Some(Ok(())), Some((last, _))) => bounds.start = Bound::Excluded(last),
                _ => return Ok(()),
            }
        }
    }
}
