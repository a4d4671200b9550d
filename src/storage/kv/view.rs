//! Reading the state machine: pinned, immutable states and where to get them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::layout::{self, BadBytes};
use super::{APPLIED, AppliedState, KV, MEMBERSHIP, REVISION, SYSTEM, bad};
use crate::storage::cursor::{Bounds, Range};
use crate::storage::error::StorageError;
use crate::storage::snapshot::{Reader, Snapshot};
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
    pub fn snapshot(&self) -> Result<KvSnapshot, StorageError> {
        KvSnapshot::new(self.current.load().snapshot())
    }
}

/// One state of the store; stays as it is while it is held.
#[derive(Clone)]
pub struct KvSnapshot {
    snapshot: Snapshot,
    revision: Revision,
}

impl KvSnapshot {
    pub(in crate::storage) fn new(snapshot: Snapshot) -> Result<KvSnapshot, StorageError> {
        let stored = snapshot.get(SYSTEM, REVISION)?;
        let revision = stored.map_or(Ok(0), |bytes| layout::decode_u64(&bytes)).map_err(bad)?;
        Ok(KvSnapshot { snapshot, revision })
    }

    /// Revision of the last write this state holds.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The last log entry this state holds.
    pub fn applied(&self) -> Result<Option<LogId>, StorageError> {
        let stored = self.snapshot.get(SYSTEM, APPLIED)?;
        stored.map(|bytes| Ok(layout::decode_log_id(&bytes).map_err(bad)?.0)).transpose()
    }

    /// The last membership entry this state holds: where it stood, and its bytes.
    pub fn membership(&self) -> Result<Option<(LogId, Bytes)>, StorageError> {
        let stored = self.snapshot.get(SYSTEM, MEMBERSHIP)?;
        stored.map(|bytes| layout::decode_log_id(&bytes).map_err(bad)).transpose()
    }

    /// Both of the above.
    pub fn applied_state(&self) -> Result<AppliedState, StorageError> {
        Ok(AppliedState { last: self.applied()?, membership: self.membership()? })
    }

    /// The record of `key`.
    pub fn get(&self, key: &Key) -> Result<Option<Record>, StorageError> {
        let stored = self.snapshot.get(KV, key.as_bytes())?;
        stored.map(|bytes| layout::decode_record(bytes).map_err(bad)).transpose()
    }

    /// The records of a range, in key order or backwards.
    pub fn records(&self, range: &KeyRange, reverse: bool) -> Result<Records, StorageError> {
        Ok(Records { inner: self.snapshot.range(KV, range.clone())?, reverse })
    }

    /// The raw pairs of any tree, for snapshots.
    pub(crate) fn pairs(&self, tree: &str) -> Result<Range<Snapshot>, StorageError> {
        self.snapshot.range(tree, Bounds::ALL)
    }
}

/// Walks records; see [`KvSnapshot::records`].
pub struct Records {
    inner: Range<Snapshot>,
    reverse: bool,
}

impl Iterator for Records {
    type Item = Result<(Key, Record), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let pair = if self.reverse { self.inner.next_back() } else { self.inner.next() };
        pair.map(|pair| {
            let (key, value) = pair?;
            let key = Key::new(key).map_err(|_| bad(BadBytes("a key has a bad length")))?;
            Ok((key, layout::decode_record(value).map_err(bad)?))
        })
    }
}
