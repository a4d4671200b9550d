//! A state to read from: what the answer to [`Read`](super::Read) lends.

use std::sync::Arc;

use super::RequestError;
pub use crate::storage::kv::{ChangeKind, Version};
use crate::types::{Key, KeyRange, Lease, LeaseId, Record, Revision};

/// An immutable state of the store at one revision. Reading never waits for a writer.
pub trait View: Send + Sync {
    /// Revision of the last write this state holds.
    fn revision(&self) -> Revision;

    /// The record of `key`.
    fn get(&self, key: &Key) -> Result<Option<Record>, RequestError>;

    /// The records of a range in key order, backwards when `reverse`. With `keys_only` the records'
    /// values are empty and large values are not read from disk.
    fn scan(&self, range: &KeyRange, reverse: bool, keys_only: bool) -> Scan<'_>;

    /// The same state, for a walk over much of it: what is not in memory is read and not kept there.
    fn in_passing(&self) -> Arc<dyn View>;

    /// This state as it was right after `revision`, as far back as the past is kept.
    fn at(&self, revision: Revision) -> Result<Arc<dyn View>, NotKept>;

    /// The oldest revision that [`View::at`] gives.
    fn oldest_revision(&self) -> Revision;

    /// What became of `key` up to this state, newest first, as far back as the past is kept.
    fn history(&self, key: &Key) -> Result<Box<dyn History>, RequestError>;

    /// A lease. The past of leases is not kept: a state of an earlier revision tells of them as they are.
    fn lease(&self, id: LeaseId) -> Result<Option<Lease>, RequestError>;

    /// The leases behind `after`, or all, in the order of their ids.
    fn leases(&self, after: Option<LeaseId>) -> Leases;

    /// The keys of a lease behind `after`, or all, in their order.
    fn lease_keys(&self, id: LeaseId, after: Option<&Key>) -> LeaseKeys;
}

/// What [`View::leases`] walks; ends after the first error.
pub type Leases = Box<dyn Iterator<Item = Result<Lease, RequestError>>>;

/// What [`View::lease_keys`] walks; ends after the first error.
pub type LeaseKeys = Box<dyn Iterator<Item = Result<Key, RequestError>>>;

/// What [`View::scan`] walks; ends after the first error.
pub type Scan<'a> = Box<dyn Iterator<Item = Result<(Key, Record), RequestError>> + 'a>;

/// What [`View::history`] walks; ends after the first error.
pub trait History: Iterator<Item = Result<Version, RequestError>> {
    /// At the end of the walk: whether earlier versions may be missing because they are not kept any more.
    fn is_cut(&self) -> bool;
}

/// Why a revision cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotKept {
    /// `oldest` is the first revision that can.
    Trimmed { oldest: Revision },
    /// The store has come to `revision` only.
    Future { revision: Revision },
}
