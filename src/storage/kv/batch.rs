//! One commit in the making: what each command does to the records.
//!
//! A write finds the key's present record once, puts the new one, and appends a change that holds the
//! present one (`super::history`). A deleted key leaves a tombstone, so that the past of a key is always
//! found from what tree 0 has of it; conditions, counts and reads take a tombstone for nothing.
//!
//! A delete of a range holds [`RANGE_BATCH_KEYS`] keys at a time, and writes tombstones as single deletes do,
//! unless it alone has more than the past may hold. Then none of it could be kept whole, and a revision of which
//! a part is gone cannot be read: so the past ends with it, and it removes the records themselves.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use super::change::{ChangeBuffer, ChangeId, ChangeKind, Value, change_len};
use super::history::{Deleted, Kept};
use super::layout::{self, BadBytes, KvFacts, StoredRecord};
use super::retention::{Policy, RETAIN_TRIMS};
use super::{Entry, KV, MEMBERSHIP, Payload, SYSTEM, bad, incarnations, sessions};
use crate::storage::cursor::Bounds;
use crate::storage::error::StorageError;
use crate::storage::txn::{PREFETCH_KEYS, Present, WriteTxn};
use crate::types::{Command, Condition, End, Key, KeyRange, Lifetime, Operation, Outcome, Record};

/// Keys that a delete of a range collects before it deletes them: a mebibyte of the longest.
const RANGE_BATCH_KEYS: usize = 256;

pub(super) struct Batch<'a> {
    pub(super) txn: WriteTxn<'a>,
    pub(super) facts: KvFacts,
    pub(super) policy: Policy,
    pub(super) command: Progress,
    /// The change that goes to the log next.
    pub(super) change: ChangeBuffer,
}

/// What the command that is being applied did so far.
#[derive(Default)]
pub(super) struct Progress {
    /// Whether it has a revision; it takes one with its first write.
    has_revision: bool,
    /// The ordinal of its next change.
    next_ordinal: u32,
    /// The changes that it made.
    pub(super) made: Kept,
}

impl Batch<'_> {
    /// Has the processor fetch what the first of these entries will need.
    pub(super) fn prefetch(&self, entries: &[Entry]) -> Result<(), StorageError> {
        let mut keys = [&[][..]; PREFETCH_KEYS];
        let mut count = 0;
        for entry in entries.iter().take(PREFETCH_KEYS) {
            if let Payload::Command(Command {
                operation: Operation::Put { key, .. } | Operation::Delete { key, .. },
                ..
            }) = &entry.payload
            {
                keys[count] = key.as_bytes();
                count += 1;
            }
        }
        self.txn.prefetch(KV, &keys[..count])
    }

    pub(super) fn apply_entry(&mut self, entry: &Entry) -> Result<Outcome, StorageError> {
        let command = match &entry.payload {
            Payload::Blank => return Ok(Outcome::None),
            Payload::Membership { entry: membership, members } => {
                let value = [&layout::encode_log_id(entry.id)[..], membership].concat();
                self.txn.put(SYSTEM, MEMBERSHIP, &value)?;
                incarnations::note(&mut self.txn, members)?;
                return Ok(Outcome::None);
            }
            Payload::Command(command) => command,
        };
        self.facts.clock_ms = self.facts.clock_ms.max(command.time_ms);
        let Some(request_id) = &command.request_id else {
            return self.apply_operation(&command.operation);
        };
        if let Some(outcome) = sessions::replay(&self.txn, request_id)? {
            return Ok(outcome);
        }
        let outcome = self.apply_operation(&command.operation)?;
        let count = &mut self.facts.sessions;
        sessions::remember(&mut self.txn, count, request_id, entry.id.index, &outcome)?;
        Ok(outcome)
    }

    /// Trims after each command rather than once a commit: commits hold different numbers of
    /// commands on different nodes, and what is left must be the same.
    fn apply_operation(&mut self, operation: &Operation) -> Result<Outcome, StorageError> {
        self.command = Progress::default();
        let outcome = match operation {
            Operation::Put { key, value, condition, lifetime } => {
                match self.refuses([(key, *lifetime)].into_iter())? {
                    Some(refusal) => Ok(refusal),
                    None => self.put(key, value, *lifetime, *condition),
                }
            }
            Operation::Delete { key, condition } => self.delete(key, *condition),
            Operation::DeleteRange { range } => {
                let count = self.delete_range(range)?;
                Ok(Outcome::Deleted { count, revision: self.facts.revision })
            }
            Operation::Txn(txn) => self.transact(txn),
            Operation::Expire => self.expire(),
            Operation::Retain(retention) => self.retain(retention),
            Operation::LeaseGrant { ttl_ms } => self.grant_lease(*ttl_ms),
            Operation::LeaseKeepAlive { id } => self.keep_lease_alive(*id),
            Operation::LeaseRevoke { id } => self.revoke_lease(*id),
        }?;
        let is_retain = matches!(operation, Operation::Retain(_));
        self.trim(if is_retain { RETAIN_TRIMS } else { 0 })?;
        Ok(outcome)
    }

    /// The id of the next change of the command that is being applied.
    fn coming_change(&self) -> ChangeId {
        let Progress { has_revision, next_ordinal, .. } = self.command;
        let revision = self.facts.revision + u64::from(!has_revision);
        ChangeId { revision, ordinal: next_ordinal }
    }

    /// The command takes a revision, if it has none yet.
    fn take_revision(&mut self) {
        self.facts.revision += u64::from(!self.command.has_revision);
        self.command.has_revision = true;
    }

    /// The command makes its next change.
    fn take_change(&mut self) -> ChangeId {
        let id = self.coming_change();
        self.take_revision();
        self.command.next_ordinal += 1;
        id
    }

    /// What tree 0 has of a key.
    pub(super) fn stored(&self, key: &[u8]) -> Result<Option<StoredRecord>, StorageError> {
        let stored = self.txn.get_stored(KV, key)?;
        stored.map(|bytes| layout::decode_record(bytes).map_err(bad)).transpose()
    }

    /// The same, unless it is a tombstone.
    pub(super) fn present(&self, key: &[u8]) -> Result<Option<StoredRecord>, StorageError> {
        Ok(self.stored(key)?.filter(|stored| !stored.is_deleted))
    }

    /// What tree 0 has of a key, without its value.
    pub(super) fn head(&self, key: &[u8]) -> Result<Option<StoredRecord>, StorageError> {
        let read = |mut head: &[u8]| layout::decode_record_head(&mut head).map_err(bad);
        self.txn.read_head(KV, key, read)?.transpose()
    }

    /// Puts a value, if the condition holds of what the key has. A lease that it names takes it
    /// ([`Batch::refuses`]).
    pub(super) fn put(
        &mut self,
        key: &Key,
        value: &Bytes,
        lifetime: Lifetime,
        condition: Condition,
    ) -> Result<Outcome, StorageError> {
        let ChangeId { revision, ordinal } = self.coming_change();
        let end = self.end_of(lifetime);
        let Batch { txn, facts, change, .. } = self;
        let mut outcome = Outcome::None;
        let mut former_end = End::Never;
        txn.replace(KV, key.as_bytes(), value, |present, head| {
            let stored = present.as_ref().map(lend).transpose()?;
            let live = stored.as_ref().map(|(stored, _)| stored).filter(|it| !it.is_deleted);
            let current = live.map(|live| live.record.mod_revision);
            if !condition.holds(current) {
                outcome = Outcome::ConditionFailed { current, revision: facts.revision };
                return Ok(false);
            }
            former_end = live.map_or(End::Never, |live| live.record.end);
            let create_revision = live.map_or(revision, |live| live.record.create_revision);
            let version = live.map_or(1, |live| live.record.version + 1);
            let value = Bytes::new();
            let record = Record { create_revision, mod_revision: revision, version, end, value };
            let made = StoredRecord { record, ordinal, is_deleted: false };
            let (bytes, len) = layout::encode_record_head(&made);
            head.extend_from_slice(&bytes[..len]);
            let replaced = stored.as_ref().map(|(stored, value)| (stored, value.clone()));
            change.encode(ChangeKind::Put, key.as_bytes(), replaced);
            outcome = Outcome::Put { revision, create_revision, version };
            Ok(true)
        })?;
        if let Outcome::Put { .. } = outcome {
            let id = self.take_change();
            self.move_end(key.as_bytes(), former_end, end)?;
            self.log(id)?;
        }
        Ok(outcome)
    }

    fn delete(&mut self, key: &Key, condition: Condition) -> Result<Outcome, StorageError> {
        let present = self.present(key.as_bytes())?;
        let current = present.as_ref().map(|stored| stored.record.mod_revision);
        if !condition.holds(current) {
            return Ok(Outcome::ConditionFailed { current, revision: self.facts.revision });
        }
        let count = u64::from(present.is_some());
        if let Some(present) = present {
            self.bury(ChangeKind::Delete, key.as_bytes(), &present)?;
        }
        Ok(Outcome::Deleted { count, revision: self.facts.revision })
    }

    /// Deletes the keys of a range; says how many there were.
    pub(super) fn delete_range(&mut self, range: &KeyRange) -> Result<u64, StorageError> {
        let Extent { count, change_bytes } = match range.is_empty() {
            true => Extent::default(),
            false => self.measure(range)?,
        };
        let retention = &self.policy.retention;
        if count > retention.changes || change_bytes > retention.bytes {
            self.take_revision();
            self.drop_ends(range)?;
            self.txn.delete_range(KV, range.clone())?;
            self.forget()?;
        } else if count > 0 {
            self.bury_range(range)?;
        }
        Ok(count)
    }

    /// How many records a range has, and how long their changes would be.
    fn measure(&self, range: &KeyRange) -> Result<Extent, StorageError> {
        let mut extent = Extent::default();
        let damaged = self.txn.range(KV, range.clone())?.visit(|entry| {
            match layout::decode_record_head(&mut entry.head()) {
                Ok(stored) if stored.is_deleted => ControlFlow::Continue(()),
                Ok(_) => {
                    extent.count += 1;
                    extent.change_bytes += change_len(entry.key, entry.value_len());
                    ControlFlow::Continue(())
                }
                Err(damage) => ControlFlow::Break(damage),
            }
        })?;
        damaged.map_or(Ok(extent), |damage| Err(bad(damage)))
    }

    fn bury_range(&mut self, range: &KeyRange) -> Result<(), StorageError> {
        let mut bounds = Bounds::from(range.clone());
        loop {
            let range = self.txn.range(KV, bounds.clone())?;
            let keys: Vec<Bytes> = range.keys().take(RANGE_BATCH_KEYS).collect::<Result<_, _>>()?;
            let Some(last) = keys.last() else { return Ok(()) };
            bounds.start = Bound::Excluded(last.clone());
            for key in &keys {
                if let Some(present) = self.present(key)? {
                    self.bury(ChangeKind::Delete, key, &present)?;
                }
            }
        }
    }

    /// Puts a tombstone in place of a record.
    pub(super) fn bury(
        &mut self,
        why: ChangeKind,
        key: &[u8],
        present: &StoredRecord,
    ) -> Result<(), StorageError> {
        let id = self.take_change();
        self.move_end(key, present.record.end, End::Never)?;
        let tombstone = StoredRecord::tombstone(id.revision, id.ordinal);
        let (head, len) = layout::encode_record_head(&tombstone);
        self.txn.put(KV, key, &head[..len])?;
        let value = Value::Far(present.record.value.clone());
        self.change.encode(why, key, Some((present, value)));
        self.log(id)
    }

    /// Removes the tombstone that a delete left, if it is still there.
    pub(super) fn clear_away(&mut self, deleted: &Deleted) -> Result<(), StorageError> {
        let Deleted { id, key } = deleted;
        let found = self.head(key)?;
        let is_its = |it: StoredRecord| it.is_deleted && it.record.mod_revision == id.revision;
        if found.is_some_and(is_its) {
            self.txn.delete(KV, key)?;
        }
        Ok(())
    }
}

/// Decodes what a key has, and lends its value.
fn lend<'a>(present: &'a Present<'_>) -> Result<(StoredRecord, Value<'a>), StorageError> {
    let mut near = present.head();
    let stored = layout::decode_record_head(&mut near).map_err(bad)?;
    let far = present.body()?;
    match (near.is_empty(), far.is_empty()) {
        (_, true) => Ok((stored, Value::Near(near))),
        (true, false) => Ok((stored, Value::Far(far))),
        (false, false) => Err(bad(BadBytes("a record is cut in its value"))),
    }
}

/// What a delete of a range is up to.
#[derive(Default)]
struct Extent {
    count: u64,
    change_bytes: u64,
}
