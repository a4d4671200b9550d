//! Reading the state machine: pinned, immutable states and where to get them.

use std::ops::ControlFlow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::change::{self, ChangeEntry, ChangeId};
use super::layout::{self, BadBytes, KvFacts, StoredRecord};
use super::past::Place;
use super::{AppliedState, CHANGES, KV, MEMBERSHIP, SYSTEM, bad};
use crate::storage::cursor::{Bounds, Lent, Range};
use crate::storage::error::StorageError;
use crate::storage::scrub::{Scrub, Scrubbed};
use crate::storage::snapshot::{Reader, Snapshot};
use crate::storage::{Facts, TreeId};
use crate::types::{Key, KeyRange, LogId, Record, Revision};

/// Hands out the newest state, from any thread, without a lock. Cheap to clone; after a snapshot was
/// installed it reads the new store.
#[derive(Clone)]
pub struct KvReader {
    current: Arc<ArcSwap<Current>>,
}

/// The store that is read now, and how many were thrown away before it. An installed snapshot goes on with the
/// same history; a wipe ends it.
struct Current {
    reader: Reader,
    life: u64,
    is_stand_in: bool,
}

impl KvReader {
    pub(super) fn new(reader: Reader, is_stand_in: bool) -> KvReader {
        let current = Current { reader, life: 0, is_stand_in };
        KvReader { current: Arc::new(ArcSwap::from_pointee(current)) }
    }

    pub(super) fn replace(&self, reader: Reader, is_new_life: bool) {
        let life = self.current.load().life + u64::from(is_new_life);
        self.current.store(Arc::new(Current { reader, life, is_stand_in: false }));
    }

    /// Pins the newest committed state.
    pub fn snapshot(&self) -> KvSnapshot {
        KvSnapshot::new(self.current.load().reader.snapshot())
    }

    /// The last page of the store that was found damaged since it was opened, by whoever needed it, as the error said
    /// it.
    pub fn damage(&self) -> Option<String> {
        self.current.load().reader.damage()
    }

    /// Whether this is an empty store in place of one that is damaged. Nothing can be read in it that is true.
    pub fn is_stand_in(&self) -> bool {
        self.current.load().is_stand_in
    }

    /// Pins the newest committed state, and says in which life of the store: revisions of two lives have
    /// nothing to do with each other.
    pub fn snapshot_in_life(&self) -> (u64, KvSnapshot) {
        let current = self.current.load();
        (current.life, KvSnapshot::new(current.reader.snapshot()))
    }
}

/// One state of the store; stays as it is while it is held.
#[derive(Clone)]
pub struct KvSnapshot {
    pub(super) snapshot: Snapshot,
    pub(super) facts: KvFacts,
}

impl KvSnapshot {
    pub(in crate::storage) fn new(snapshot: Snapshot) -> KvSnapshot {
        let facts = KvFacts::decode(snapshot.facts());
        KvSnapshot { snapshot, facts }
    }

    /// The same state, for a walk over much of it, which leaves the cache as it is.
    pub fn in_passing(&self) -> KvSnapshot {
        KvSnapshot { snapshot: self.snapshot.in_passing(), facts: self.facts }
    }

    /// Whether what the root says of it can be.
    pub(in crate::storage) fn check(&self) -> Result<(), StorageError> {
        self.facts.check().map_err(bad)
    }

    /// Revision of the last write this state holds.
    pub fn revision(&self) -> Revision {
        self.facts.revision
    }

    /// The last log entry this state holds.
    pub fn applied(&self) -> Option<LogId> {
        self.facts.applied
    }

    /// The last membership entry this state holds: where it stood, and its bytes.
    pub fn membership(&self) -> Result<Option<(LogId, Bytes)>, StorageError> {
        let stored = self.snapshot.get(SYSTEM, MEMBERSHIP)?;
        stored.map(|bytes| layout::decode_log_id(&bytes).map_err(bad)).transpose()
    }

    /// Both of the above.
    pub fn applied_state(&self) -> Result<AppliedState, StorageError> {
        Ok(AppliedState { last: self.applied(), membership: self.membership()? })
    }

    /// How many keys there are.
    pub fn keys(&self) -> u64 {
        self.snapshot.len(KV)
    }

    /// The record of `key`.
    pub fn get(&self, key: &Key) -> Result<Option<Record>, StorageError> {
        Ok(self.stored(key.as_bytes())?.and_then(StoredRecord::live))
    }

    /// A step of a scrub. The state is that of a checkpoint, so that all of it is on the disk.
    pub fn scrub(&self, scrub: &mut Scrub, most_bytes: u64) -> Scrubbed {
        scrub.step(&self.snapshot, most_bytes)
    }

    /// The records of a range, in key order or backwards. `keys_only`: without their values, which
    /// are not read where they lie outside of their leaf.
    pub fn records(&self, range: &KeyRange, reverse: bool, keys_only: bool) -> Records {
        Records::new(self, range, self.facts.revision, reverse, keys_only)
    }

    /// What tree 0 has of a key.
    pub(super) fn stored(&self, key: &[u8]) -> Result<Option<StoredRecord>, StorageError> {
        let stored = self.snapshot.get_stored(KV, key)?;
        stored.map(|stored| layout::decode_record(stored).map_err(bad)).transpose()
    }

    /// A change, with what it replaced.
    pub(super) fn change(&self, id: ChangeId) -> Result<Option<ChangeEntry<Bytes>>, StorageError> {
        let stored = self.snapshot.get_stored(CHANGES, &id.encode())?;
        stored.map(|stored| change::decode_change(stored).map_err(bad)).transpose()
    }

    /// The raw entries of any tree, for snapshots.
    pub(in crate::storage) fn entries(&self, tree: TreeId) -> Range<Snapshot> {
        self.snapshot.range(tree, Bounds::ALL)
    }

    /// What the root holds beside the trees, for snapshots.
    pub(in crate::storage) fn facts(&self) -> &Facts {
        self.snapshot.facts()
    }
}

/// Walks records; see [`KvSnapshot::records`] and [`KvSnapshot::records_at`]. Tombstones are passed over.
pub struct Records {
    state: KvSnapshot,
    inner: Range<Snapshot>,
    revision: Revision,
    reverse: bool,
    keys_only: bool,
}

impl Records {
    pub(super) fn new(
        state: &KvSnapshot,
        range: &KeyRange,
        revision: Revision,
        reverse: bool,
        keys_only: bool,
    ) -> Records {
        let inner = state.snapshot.range(KV, range.clone());
        Records { state: state.clone(), inner, revision, reverse, keys_only }
    }
}

impl Iterator for Records {
    type Item = Result<(Key, Record), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Records { state, inner, revision, keys_only, .. } = self;
        let read = |entry: Lent<'_>| match read_record(state, entry, *revision, *keys_only) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(found)) => ControlFlow::Break(Ok(found)),
            Err(error) => ControlFlow::Break(Err(error)),
        };
        let record = match self.reverse {
            false => inner.visit(read),
            true => inner.visit_back(read),
        };
        record.transpose().map(Result::flatten)
    }
}

/// The record that an entry of tree 0 had at `revision`.
fn read_record(
    state: &KvSnapshot,
    entry: Lent<'_>,
    revision: Revision,
    keys_only: bool,
) -> Result<Option<(Key, Record)>, StorageError> {
    let present = layout::decode_record_head(&mut entry.head()).map_err(bad)?;
    let Some((place, stored)) = state.walk_back(entry.key, present, revision)? else {
        return Ok(None);
    };
    let Some(mut record) = stored.live() else { return Ok(None) };
    if !keys_only {
        record = match place {
            Place::Present => layout::decode_record(entry.value()?).map_err(bad)?.record,
            Place::ReplacedBy(_) => state.fetch(entry.key, place)?,
        };
    }
    let key = Key::new(Bytes::copy_from_slice(entry.key));
    let key = key.map_err(|_| bad(BadBytes("a key has a bad length")))?;
    Ok(Some((key, record)))
}
