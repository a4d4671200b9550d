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
//! * an entry at or below the applied index is skipped: the log replays after a crash. The commands of one entry of
//!   the log come as entries with one id, all in one commit, so that none of them is ever taken for the others.
//!
//! Nothing here is durable before a checkpoint. That is the log's business: an entry is acknowledged
//! when the log holds it on a quorum, and the log is kept until a checkpoint holds what it did.
//!
//! The past is kept for a while as *undo* entries, one for each key changed (`history`): what a change replaced is
//! copied into the change, so that present values are stored once, and reads of the present find them as if
//! there were no past. `past` reads it, `changes` lists it, `versions` tells it of one key, `retention` says for how
//! long.
//!
//! Records that expire are removed by entries of the log (`deadlines`), never by a node's own clock; so are leases, with
//! the keys that hang on them (`leases`).

mod batch;
mod change;
mod changes;
mod deadlines;
mod history;
pub mod incarnations;
pub mod layout;
mod leases;
mod outcome;
mod past;
mod retention;
mod sessions;
#[cfg(test)]
mod tests;
mod transact;
mod versions;
mod view;

use std::sync::Arc;

use bytes::Bytes;

use self::batch::{Batch, Progress};
use self::change::ChangeBuffer;
pub use self::change::{ChangeId, ChangeKind};
pub use self::changes::{Change, ChangeStep, Changes};
pub use self::layout::BadBytes;
use self::layout::KvFacts;
pub use self::past::PastError;
use self::retention::Policy;
pub use self::versions::{Version, Versions};
pub use self::view::{KvReader, KvSnapshot, Records};
use super::TreeId;
use super::checkpoint::{Checkpoint, CheckpointDone};
use super::compact::{CompactProgress, STEP_PAGES};
use super::disk::{Disk, MemDisk};
use super::error::StorageError;
use super::store::{Store, StoreOptions, StoreStats};
use super::txn::PREFETCH_KEYS;
use crate::types::{Command, LogId, NodeId, Outcome, Retention};

/// The file of the store.
pub const FILE: &str = "conure.db";

/// The records, by key.
pub(crate) const KV: TreeId = TreeId::new(0);
/// What the store keeps about itself and has no place in the root.
pub(crate) const SYSTEM: TreeId = TreeId::new(1);
/// What replaced what, by revision. Trees 2 and 3 are those of `sessions`.
pub(crate) const CHANGES: TreeId = TreeId::new(4);
/// Which records and leases expire, by deadline.
pub(crate) const DEADLINES: TreeId = TreeId::new(5);
pub(crate) const LEASES: TreeId = TreeId::new(6);
/// Which keys hang on leases, by lease.
pub(crate) const LEASE_KEYS: TreeId = TreeId::new(7);

/// What people call the trees.
pub const TREE_NAMES: [(TreeId, &str); 8] = [
    (KV, "records"),
    (SYSTEM, "system"),
    (sessions::SESSIONS, "sessions"),
    (sessions::AGES, "session-ages"),
    (CHANGES, "changes"),
    (DEADLINES, "deadlines"),
    (LEASES, "leases"),
    (LEASE_KEYS, "lease-keys"),
];

/// Whether a tree is one of those that make retried requests apply once.
pub(crate) fn is_of_sessions(tree: TreeId) -> bool {
    tree == sessions::SESSIONS || tree == sessions::AGES
}

/// What people call a tree, if it is one of these.
pub fn tree_name(id: TreeId) -> Option<&'static str> {
    TREE_NAMES.iter().find(|(tree, _)| *tree == id).map(|(_, name)| *name)
}

pub(crate) const MEMBERSHIP: &[u8] = b"membership";

/// A committed entry, as the state machine sees it; of an entry that holds several commands, one of them.
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
    /// A membership change: opaque to the store, which keeps the last one, but for the incarnations that it has.
    Membership {
        entry: Bytes,
        members: Vec<NodeId>,
    },
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
    /// How much of the past is kept, and how much where that was never set.
    policy: Policy,
    unset: Retention,
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
        Kv::of(disk, store, options, false)
    }

    /// An empty store in memory where that of a data directory is damaged, which stays there as it is until
    /// [`Kv::wipe`] begins a new one in its place.
    pub fn stand_in(disk: Arc<dyn Disk>, options: StoreOptions) -> Result<Kv, StorageError> {
        let memory: Arc<dyn Disk> = Arc::new(MemDisk::new());
        let store = Store::open(&memory, FILE, options.clone())?;
        Kv::of(disk, store, options, true)
    }

    fn of(
        disk: Arc<dyn Disk>,
        store: Store,
        options: StoreOptions,
        is_stand_in: bool,
    ) -> Result<Kv, StorageError> {
        let present = KvSnapshot::new(store.snapshot());
        present.check()?;
        let durable = present.applied().map(|_| present);
        let reader = KvReader::new(store.reader(), is_stand_in);
        let unset = Retention::default();
        let policy = Policy::of(&store.snapshot(), unset)?;
        Ok(Kv { disk, options, policy, unset, store, reader, durable, writing: None })
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

    /// Pages in memory that are not on the disk yet.
    pub fn dirty_bytes(&self) -> u64 {
        self.store.dirty_bytes()
    }

    /// Sizes, for metrics.
    pub fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    /// Applies `entries`, which stand in the order of the log and end with all of an entry, in one commit and returns an
    /// outcome for each. On an error nothing of it is applied.
    pub fn apply(&mut self, entries: Vec<Entry>) -> Result<Vec<Outcome>, StorageError> {
        let txn = self.store.begin();
        let facts = KvFacts::decode(txn.facts());
        let (command, change) = (Progress::default(), ChangeBuffer::new());
        let mut batch = Batch { txn, facts, policy: self.policy, command, change };
        let before = batch.facts.applied;
        let mut outcomes = Vec::with_capacity(entries.len());
        for window in entries.chunks(PREFETCH_KEYS) {
            // Applying waits for memory more than for anything else, and a batch knows its keys.
            batch.prefetch(window)?;
            for entry in window {
                if before.is_some_and(|last| entry.id.index <= last.index) {
                    outcomes.push(Outcome::None);
                    continue;
                }
                batch.facts.applied = Some(entry.id);
                outcomes.push(batch.apply_entry(entry)?);
            }
        }
        let Batch { mut txn, facts, policy, .. } = batch;
        txn.set_facts(facts.encode());
        txn.commit()?;
        self.policy = policy;
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

    /// Whether a compaction is worth beginning; it is left to [`Kv::compact_step`].
    pub fn wants_compaction(&self) -> bool {
        self.store.wants_compaction()
    }

    /// A step of a compaction beside everything else, see [`super::compact`]: no reader and no outcome
    /// can tell. Checkpoints that it needs are begun as ever.
    pub fn compact_step(&mut self) -> Result<CompactProgress, StorageError> {
        self.store.compact_step(STEP_PAGES)
    }

    /// Throws everything away and begins an empty store.
    pub fn wipe(&mut self) -> Result<(), StorageError> {
        let io = |action| {
            let file = self.disk.locate(FILE);
            move |source| StorageError::Io { file, action, offset: 0, source }
        };
        self.disk.remove(FILE).map_err(io("remove the file"))?;
        self.disk.sync_dir().map_err(io("sync its directory"))?;
        self.open_anew(true)
    }

    /// Opens what now has the name of the store; readers move over, old snapshots stay readable.
    pub(crate) fn reopen(&mut self) -> Result<(), StorageError> {
        self.open_anew(false)
    }

    fn open_anew(&mut self, is_new_life: bool) -> Result<(), StorageError> {
        self.store = Store::open(&self.disk, FILE, self.options.clone())?;
        self.policy = Policy::of(&self.store.snapshot(), self.unset)?;
        self.reader.replace(self.store.reader(), is_new_life);
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
