//! Reading the state machine: pinned, immutable states and where to get them.

use std::ops::ControlFlow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::layout::{self, BadBytes, KvFacts};
use super::{AppliedState, KV, MEMBERSHIP, SYSTEM, bad};
use crate::storage::cursor::{Bounds, Lent, Range};
use crate::storage::error::StorageError;
use crate::storage::snapshot::{Reader, Snapshot};
use crate::storage::{Facts, TreeId};
use crate::types::{Key, KeyRange, LogId, Record, Revision};

/// Hands out the newest state, from any thread, without a lock. Cheap to clone; after a snapshot was
/// installed it reads the new store.
#[derive(Clone)]
pub struct KvReader {
    current: Arc<ArcSwap<Reader>>,
}

impl KvReader {
    pub(super) fn new(reader: Reader) -> KvReader {
        KvReader { current: Arc::new(ArcSwap::from_pointee(reader)) }
    }

    pub(super) fn replace(&self, reader: Reader) {
        self.current.store(Arc::new(reader));
    }

    /// Pins the newest committed state.
    pub fn snapshot(&self) -> KvSnapshot {
        KvSnapshot::new(self.current.load().snapshot())
    }
}

/// One state of the store; stays as it is while it is held.
#[derive(Clone)]
pub struct KvSnapshot {
    snapshot: Snapshot,
    facts: KvFacts,
}

impl KvSnapshot {
    pub(in crate::storage) fn new(snapshot: Snapshot) -> KvSnapshot {
        let facts = KvFacts::decode(snapshot.facts());
        KvSnapshot { snapshot, facts }
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

    /// The record of `key`.
    pub fn get(&self, key: &Key) -> Result<Option<Record>, StorageError> {
        let stored = self.snapshot.get_stored(KV, key.as_bytes())?;
        stored.map(|stored| layout::decode_record(stored).map_err(bad)).transpose()
    }

    /// The records of a range, in key order or backwards. `keys_only`: without their values, which
    /// are not read where they lie outside of their leaf.
    pub fn records(&self, range: &KeyRange, reverse: bool, keys_only: bool) -> Records {
        Records { inner: self.snapshot.range(KV, range.clone()), reverse, keys_only }
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

/// Walks records; see [`KvSnapshot::records`].
pub struct Records {
    inner: Range<Snapshot>,
    reverse: bool,
    keys_only: bool,
}

impl Iterator for Records {
    type Item = Result<(Key, Record), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let keys_only = self.keys_only;
        let read = |entry: Lent<'_>| ControlFlow::Break(read_record(entry, keys_only));
        let record = match self.reverse {
            false => self.inner.visit(read),
            true => self.inner.visit_back(read),
        };
        record.transpose().map(Result::flatten)
    }
}

fn read_record(entry: Lent<'_>, keys_only: bool) -> Result<(Key, Record), StorageError> {
    let key = Key::new(Bytes::copy_from_slice(entry.key));
    let key = key.map_err(|_| bad(BadBytes("a key has a bad length")))?;
    let record = match keys_only {
        true => layout::decode_record_head(&mut entry.head()),
        false => layout::decode_record(entry.value()?),
    };
    Ok((key, record.map_err(bad)?))
}
