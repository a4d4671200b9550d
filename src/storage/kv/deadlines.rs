//! What ends by itself: which records and leases do when, and their end.
//!
//! Tree 5 holds all that expires by its deadline: the key of each record that has a time to live of its own, and each
//! lease. So a record that does not expire costs nothing, and what does costs nothing until its time has come,
//! however much there is.
//!
//! Time is that of the log: the greatest clock of a leader that any command so far carried
//! ([`KvFacts::clock_ms`](super::layout::KvFacts)). It never goes back, whatever the clocks of leaders do. A put with a
//! time to live sets the deadline by it. The end is an entry of its own, `Operation::Expire`, which the
//! leader proposes when a deadline has passed: from there on the record is gone, on every node alike, with a revision
//! and a change as a delete has them. Before it, it is there.
//! Nothing else looks at deadlines, so a revision has one state, whenever it is read.
//!
//! A record ends at a deadline of its own, or with a lease (`leases`), or not at all; [`Batch::move_end`] has both
//! indexes follow what is written.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use super::batch::Batch;
use super::change::ChangeKind;
use super::layout::{self, BadBytes, Due};
use super::view::KvSnapshot;
use super::{DEADLINES, KV, LEASES, bad};
use crate::storage::cursor::{Bounds, Lent};
use crate::storage::error::StorageError;
use crate::types::{EXPIRE_BATCH_KEYS, End, KeyRange, LeaseId, Lifetime, Outcome};

/// Records of a range that is deleted, whose ends are held at a time: a mebibyte with the longest keys.
const DROP_BATCH_KEYS: usize = 256;

impl KvSnapshot {
    /// When the next record or lease expires, by the clock of the log.
    pub fn next_deadline_ms(&self) -> Result<Option<u64>, StorageError> {
        let first = self.snapshot.range(DEADLINES, Bounds::ALL).keys().next().transpose()?;
        first.map(|key| Ok(layout::split_deadline(&key).map_err(bad)?.0)).transpose()
    }

    /// The clock of the log.
    pub fn clock_ms(&self) -> u64 {
        self.facts.clock_ms
    }
}

/// What is to be ended.
enum Ending {
    Record(Bytes),
    Lease(LeaseId),
}

impl Batch<'_> {
    /// Ends what is due, in one revision: until [`EXPIRE_BATCH_KEYS`] keys are gone, but leases whole.
    pub(super) fn expire(&mut self) -> Result<Outcome, StorageError> {
        let now_ms = self.facts.clock_ms;
        let mut due: Vec<Ending> = Vec::new();
        for deadline in self.txn.range(DEADLINES, Bounds::ALL)?.keys().take(EXPIRE_BATCH_KEYS) {
            let deadline = deadline?;
            let (deadline_ms, what) = layout::split_deadline(&deadline).map_err(bad)?;
            if deadline_ms > now_ms {
                break;
            }
            due.push(match what {
                Due::Record(key) => Ending::Record(deadline.slice_ref(key)),
                Due::Lease(id) => Ending::Lease(id),
            });
        }
        let (mut keys, mut leases) = (0, 0);
        for ending in due {
            if keys >= EXPIRE_BATCH_KEYS as u64 {
                break;
            }
            match ending {
                Ending::Record(key) => {
                    let present = self.present(&key)?;
                    let present =
                        present.ok_or(bad(BadBytes("a deadline is of a record that is not")))?;
                    self.bury(ChangeKind::Expire, &key, &present)?;
                    keys += 1;
                }
                Ending::Lease(id) => {
                    keys += self.end_lease(id, ChangeKind::Expire)?;
                    leases += 1;
                }
            }
        }
        Ok(Outcome::Expired { keys, leases, revision: self.facts.revision })
    }

    /// When what is put now ends.
    pub(super) fn end_of(&self, lifetime: Lifetime) -> End {
        match lifetime {
            Lifetime::Unbounded => End::Never,
            Lifetime::Ttl { ms } => End::At { ms: self.after(ms) },
            Lifetime::Lease(id) => End::WithLease(id),
        }
    }

    /// The clock of the log, so much later.
    pub(super) fn after(&self, ms: u64) -> u64 {
        self.facts.clock_ms.saturating_add(ms)
    }

    /// Has the indexes follow a record from an end to another.
    pub(super) fn move_end(
        &mut self,
        key: &[u8],
        before: End,
        after: End,
    ) -> Result<(), StorageError> {
        if before == after {
            return Ok(());
        }
        match before {
            End::Never => {}
            End::At { ms } => {
                self.txn.delete(DEADLINES, &layout::deadline_key(ms, Due::Record(key)))?;
            }
            End::WithLease(id) => self.leave_lease(id, key)?,
        }
        match after {
            End::Never => {}
            End::At { ms } => {
                self.txn.put(DEADLINES, &layout::deadline_key(ms, Due::Record(key)), &[])?;
            }
            End::WithLease(id) => self.join_lease(id, key)?,
        }
        Ok(())
    }

    /// Forgets the ends of a range whose records are about to be removed.
    pub(super) fn drop_ends(&mut self, range: &KeyRange) -> Result<(), StorageError> {
        if self.txn.len(DEADLINES)? == 0 && self.txn.len(LEASES)? == 0 {
            return Ok(());
        }
        let mut bounds = Bounds::from(range.clone());
        loop {
            let mut batch: Vec<(Bytes, End)> = Vec::new();
            let visit = |entry: Lent<'_>| {
                let stored = match layout::decode_record_head(&mut entry.head()) {
                    Ok(stored) => stored,
                    Err(damage) => return ControlFlow::Break(Err(bad(damage))),
                };
                if stored.record.end != End::Never {
                    batch.push((Bytes::copy_from_slice(entry.key), stored.record.end));
                }
                match batch.len() < DROP_BATCH_KEYS {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(Ok(())),
                }
            };
            let ended = self.txn.range(KV, bounds.clone())?.visit(visit)?;
            for (key, end) in &batch {
                self.move_end(key, *end, End::Never)?;
            }
            match (ended, batch.pop()) {
                (Some(Err(error)), _) => return Err(error),
                (Some(Ok(())), Some((last, _))) => bounds.start = Bound::Excluded(last),
                _ => return Ok(()),
            }
        }
    }
}
