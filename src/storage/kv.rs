//! The state machine: what a committed log entry does to the store.
//!
//! [`Kv::apply`] takes committed entries in log order and applies them in one copy-on-write commit that holds the
//! data, the revision, the sessions, the membership and the applied log id together, so that a state on disk
//! always says exactly which entries it contains. It is a pure function of the entries: no clock, no
//! chance; the same log gives the same bytes in every tree on every node.
//!
//! Rules:
//! * every command that writes takes one revision, however many keys it touches; a condition that
//!   fails or a delete of nothing takes none;
//! * a command with a request id is applied once (`sessions`);
//! * an entry at or below the applied index is skipped: the log replays after a crash.
//!
//! Nothing here is durable before a checkpoint. That is the log's business: an entry is acknowledged
//! when the log holds it on a quorum, and the log is kept until a checkpoint holds what it did.
//!
//! Left out: expiry (the record has its field), history (revisions are counted, old values are not kept).

pub mod layout;
mod sessions;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;

use bytes::Bytes;

pub use self::layout::BadBytes;
use self::layout::KvFacts;
pub use self::view::{KvReader, KvSnapshot, Records};
use super::TreeId;
use super::checkpoint::{Checkpoint, CheckpointDone};
use super::cursor::Bounds;
use super::disk::Disk;
use super::error::StorageError;
use super::store::{Store, StoreOptions, StoreStats};
use super::txn::WriteTxn;
use crate::types::{Command, Condition, Key, KeyRange, LogId, Operation, Outcome, Record};

/// The file of the store.
pub const FILE: &str = "conure.db";

/// The records, by key.
pub(crate) const KV: TreeId = TreeId::new(0);
/// What the store keeps about itself and has no place in the root.
pub(crate) const SYSTEM: TreeId = TreeId::new(1);

/// What people call the trees.
pub const TREE_NAMES: [(TreeId, &str); 4] = [
    (KV, "records"),
    (SYSTEM, "system"),
    (sessions::SESSIONS, "sessions"),
    (sessions::AGES, "session-ages"),
];

const MEMBERSHIP: &[u8] = b"membership";

/// A committed entry, as the state machine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub id: LogId,
    pub payload: Payload,
}

/// What an [`Entry`] carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a new leader's first entry.
    Blank,
    /// A membership change, opaque to the store, which keeps the last one.
    Membership(Bytes),
    Command(Command),
}

/// What the state machine holds of the Raft log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppliedState {
    pub last: Option<LogId>,
    /// The last membership entry: where it stood, and its opaque bytes.
    pub membership: Option<(LogId, Bytes)>,
}

/// The state machine. One writer; readers come from [`Kv::reader`].
pub struct Kv {
    disk: Arc<dyn Disk>,
    options: StoreOptions,
    store: Store,
    reader: KvReader,
    /// The state of the last finished checkpoint, pinned, and the state of one in flight.
    durable: Option<KvSnapshot>,
    writing: Option<KvSnapshot>,
}

impl Kv {
    /// Opens the store of a data directory, or makes an empty one.
    pub fn open(disk: Arc<dyn Disk>, options: StoreOptions) -> Result<Kv, StorageError> {
        super::backup::remove_leftovers(&*disk)?;
        let store = Store::open(&disk, FILE, options.clone())?;
        let present = KvSnapshot::new(store.snapshot());
        let durable = present.applied().map(|_| present);
        let reader = KvReader::new(store.reader());
        Ok(Kv { disk, options, store, reader, durable, writing: None })
    }

    /// Where to read from any thread; follows installs.
    pub fn reader(&self) -> KvReader {
        self.reader.clone()
    }

    /// The state of the last checkpoint, `None` before the first.
    pub fn durable(&self) -> Option<KvSnapshot> {
        self.durable.clone()
    }

    /// Memory for pages; dirty ones should stay well below it.
    pub fn pool_bytes(&self) -> u64 {
        self.options.cache_bytes as u64
    }

    /// Sizes, for metrics.
    pub fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    /// Applies `entries` in one commit and returns an outcome for each. On an error nothing of it is applied.
    pub fn apply(&mut self, entries: Vec<Entry>) -> Result<Vec<Outcome>, StorageError> {
        let txn = self.store.begin();
        let facts = KvFacts::decode(txn.facts());
        let mut batch = Batch { txn, facts };
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            if batch.facts.applied.is_some_and(|last| entry.id.index <= last.index) {
                outcomes.push(Outcome::None);
                continue;
            }
            batch.facts.applied = Some(entry.id);
            outcomes.push(batch.apply_entry(entry)?);
        }
        let Batch { mut txn, facts } = batch;
        txn.set_facts(facts.encode());
        txn.commit()?;
        Ok(outcomes)
    }

    /// Begins to make the present state durable; `None` when it already is, or when a checkpoint is
    /// in flight. The caller runs [`Checkpoint::write`] wherever it likes and brings the result to
    /// [`Kv::finish_checkpoint`].
    pub fn begin_checkpoint(&mut self) -> Result<Option<Checkpoint>, StorageError> {
        if self.writing.is_some() {
            return Ok(None);
        }
        let present = KvSnapshot::new(self.store.snapshot());
        let checkpoint = self.store.begin_checkpoint()?;
        if checkpoint.is_some() {
            self.writing = Some(present);
        }
        Ok(checkpoint)
    }

    /// Takes the result of a checkpoint: on success its state is the durable one.
    pub fn finish_checkpoint(
        &mut self,
        written: Result<CheckpointDone, StorageError>,
    ) -> Result<(), StorageError> {
        let state = self.writing.take();
        self.store.finish_checkpoint(written)?;
        self.durable = state;
        Ok(())
    }

    /// Whether a checkpoint was begun and is not finished.
    pub fn checkpoint_in_flight(&self) -> bool {
        self.writing.is_some()
    }

    /// Throws everything away and begins an empty store.
    pub fn wipe(&mut self) -> Result<(), StorageError> {
        let io = |action| {
            let file = self.disk.locate(FILE);
            move |source| StorageError::Io { file, action, offset: 0, source }
        };
        self.disk.remove(FILE).map_err(io("remove the file"))?;
        self.disk.sync_dir().map_err(io("sync its directory"))?;
        self.reopen()
    }

    /// Opens what now has the name of the store; readers move over, old snapshots stay readable.
    pub(crate) fn reopen(&mut self) -> Result<(), StorageError> {
        self.store = Store::open(&self.disk, FILE, self.options.clone())?;
        self.reader.replace(self.store.reader());
        let present = KvSnapshot::new(self.store.snapshot());
        self.durable = present.applied().map(|_| present);
        self.writing = None;
        Ok(())
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub(crate) fn options(&self) -> &StoreOptions {
        &self.options
    }
}

fn bad(bytes: BadBytes) -> StorageError {
    StorageError::BadValue { what: bytes.0 }
}

/// One commit in the making.
struct Batch<'a> {
    txn: WriteTxn<'a>,
    facts: KvFacts,
}

impl Batch<'_> {
    fn apply_entry(&mut self, entry: Entry) -> Result<Outcome, StorageError> {
        let command = match entry.payload {
            Payload::Blank => return Ok(Outcome::None),
            Payload::Membership(membership) => {
                let value = [&layout::encode_log_id(entry.id)[..], &membership].concat();
                self.txn.put(SYSTEM, MEMBERSHIP, &value)?;
                return Ok(Outcome::None);
            }
            Payload::Command(command) => command,
        };
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

    fn apply_operation(&mut self, operation: &Operation) -> Result<Outcome, StorageError> {
        match operation {
            Operation::Put { key, value, condition } => self.put(key, value, *condition),
            Operation::Delete { key, condition } => self.delete(key, *condition),
            Operation::DeleteRange { range } => self.delete_range(range),
        }
    }

    fn record(&mut self, key: &Key) -> Result<Option<Record>, StorageError> {
        let stored = self.txn.get_stored(KV, key.as_bytes())?;
        stored.map(|bytes| layout::decode_record(bytes).map_err(bad)).transpose()
    }

    fn put(
        &mut self,
        key: &Key,
        value: &Bytes,
        condition: Condition,
    ) -> Result<Outcome, StorageError> {
        let present = self.record(key)?;
        let current = present.as_ref().map(|record| record.mod_revision);
        if !condition.holds(current) {
            return Ok(Outcome::ConditionFailed { current, revision: self.facts.revision });
        }
        self.facts.revision += 1;
        let record = Record {
            create_revision: present
                .as_ref()
                .map_or(self.facts.revision, |record| record.create_revision),
            mod_revision: self.facts.revision,
            version: present.as_ref().map_or(1, |record| record.version + 1),
            expires_at_ms: None,
            value: value.clone(),
        };
        let (head, len) = layout::encode_record_head(&record);
        self.txn.put_parts(KV, key.as_bytes(), &head[..len], &record.value)?;
        Ok(Outcome::Put {
            revision: self.facts.revision,
            create_revision: record.create_revision,
            version: record.version,
        })
    }

    fn delete(&mut self, key: &Key, condition: Condition) -> Result<Outcome, StorageError> {
        let current = self.record(key)?.map(|record| record.mod_revision);
        if !condition.holds(current) {
            return Ok(Outcome::ConditionFailed { current, revision: self.facts.revision });
        }
        let count = u64::from(self.txn.delete(KV, key.as_bytes())?);
        Ok(self.deleted(count))
    }

    fn delete_range(&mut self, range: &KeyRange) -> Result<Outcome, StorageError> {
        let count = match range.is_empty() {
            true => 0,
            false => self.txn.delete_range(KV, Bounds::from(range.clone()))?,
        };
        Ok(self.deleted(count))
    }

    fn deleted(&mut self, count: u64) -> Outcome {
        self.facts.revision += u64::from(count > 0);
        Outcome::Deleted { count, revision: self.facts.revision }
    }
}
