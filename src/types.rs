//! The nouns every floor shares: keys, revisions, log ids, commands and their outcomes.
//!
//! A [`Command`] is what the Raft log carries and what [`crate::storage::kv`] applies. Applying is a
//! pure function of the log: a command holds everything that could differ between nodes, the
//! leader's clock included ([`Command::time_ms`]). Nothing here does I/O.

mod lease;
mod retention;
mod txn;

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::lease::*;
pub use self::retention::Retention;
pub use self::txn::*;

/// Longest name of a node, in bytes: it is repeated in every log line and metric label.
pub const MAX_NODE_NAME_BYTES: usize = 64;

/// Whether a node can have this name: 1 to 64 of `A-Z a-z 0-9 . _ -`.
pub fn is_node_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_NODE_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_plain)
}

/// Longest key, in bytes. A key of this length still leaves room for three separators in a branch
/// node of the B-tree, and an HTTP request line can carry it percent-encoded (12 KiB).
pub const MAX_KEY_BYTES: usize = 4_096;

/// Default cap of a value, in bytes (8 MiB). `limits.max_value_bytes` lowers it.
pub const DEFAULT_MAX_VALUE_BYTES: usize = 8 * 1024 * 1024;

/// Identifies one incarnation of a node for Raft: drawn at random when a data directory is made,
/// never reused. A node that lost its disk comes back under its name with another id.
pub type NodeId = u64;

/// Counts the writing transactions of the store; equal on every node, 0 for an empty store.
pub type Revision = u64;

/// Names a cluster; drawn at random when the cluster is bootstrapped. Zero means "none yet".
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u128);

impl ClusterId {
    /// The id of a node that belongs to no cluster yet.
    pub const NONE: ClusterId = ClusterId(0);

    /// Whether a cluster is named at all.
    pub fn is_some(&self) -> bool {
        *self != Self::NONE
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Position in the Raft log: the term of the leader that proposed an entry, and its index
/// (Raft, figure 2). Ordered by term, then index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogId {
    pub term: u64,
    pub index: u64,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T{}-{}", self.term, self.index)
    }
}

/// A key that was checked: 1 to [`MAX_KEY_BYTES`] bytes of any value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Bytes", into = "Bytes")]
pub struct Key(Bytes);

/// Why bytes are not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a key has at least one byte")]
    Empty,
    #[error("a key has at most {MAX_KEY_BYTES} bytes, this one has {len_bytes}")]
    TooLong { len_bytes: usize },
}

impl Key {
    /// Checks the length of `bytes` and makes them a key.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Key, KeyError> {
        let bytes = bytes.into();
        match bytes.len() {
            0 => Err(KeyError::Empty),
            len_bytes if len_bytes > MAX_KEY_BYTES => Err(KeyError::TooLong { len_bytes }),
            _ => Ok(Key(bytes)),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl TryFrom<Bytes> for Key {
    type Error = KeyError;

    fn try_from(bytes: Bytes) -> Result<Key, KeyError> {
        Key::new(bytes)
    }
}

impl From<Key> for Bytes {
    fn from(key: Key) -> Bytes {
        key.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// A half-open range of keys in byte order: `start <= key < end`.
///
/// The bounds are raw bytes, not [`Key`]s: an empty `start` means the first key, `end: None` the last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    pub start: Bytes,
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// All keys that begin with `prefix`.
    ///
    /// The end is the smallest byte string above every such key: the prefix without its trailing
    /// `0xff` bytes, its last byte plus one; a prefix of `0xff` only has no end.
    pub fn prefix(prefix: impl Into<Bytes>) -> KeyRange {
        let start: Bytes = prefix.into();
        let end = start.iter().rposition(|&byte| byte != 0xff).map(|last| {
            let mut end = start[..=last].to_vec();
            end[last] += 1;
            Bytes::from(end)
        });
        KeyRange { start, end }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.end.as_ref().is_none_or(|end| key < &end[..])
    }

    /// The range of one key.
    pub fn only(key: &Key) -> KeyRange {
        let successor = [key.as_bytes(), &[0]].concat();
        KeyRange { start: key.clone().into_bytes(), end: Some(successor.into()) }
    }

    /// The keys that are in both ranges; may be empty.
    pub fn intersect(&self, other: &KeyRange) -> KeyRange {
        let start = self.start.clone().max(other.start.clone());
        let end = match (&self.end, &other.end) {
            (Some(a), Some(b)) => Some(a.clone().min(b.clone())),
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        KeyRange { start, end }
    }

    /// Bytes of the bounds.
    fn payload_bytes(&self) -> usize {
        self.start.len() + self.end.as_ref().map_or(0, Bytes::len)
    }

    /// Whether no key can be inside.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// What must hold of a key's present record for a write to happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    #[default]
    None,
    /// The key is absent (`If-None-Match: *`).
    Absent,
    /// The key is present (`If-Match: *`).
    Present,
    /// The key is present with this `mod_revision` (`If-Match: "<revision>"`).
    ModRevision(Revision),
}

impl Condition {
    /// Whether a record with this `mod_revision` (`None` when the key is absent) satisfies it.
    pub fn holds(&self, mod_revision: Option<Revision>) -> bool {
        match *self {
            Condition::None => true,
            Condition::Absent => mod_revision.is_none(),
            Condition::Present => mod_revision.is_some(),
            Condition::ModRevision(revision) => mod_revision == Some(revision),
        }
    }
}

/// Longest client name in an `Idempotency-Key`, in bytes.
pub const MAX_CLIENT_BYTES: usize = 128;

/// Names a request that may be retried: `Idempotency-Key: <client>:<sequence>`.
///
/// A client numbers its writes upward and has one in flight at a time; the store keeps the
/// outcome of the last sequence of each client (Raft dissertation, section 6.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestId {
    pub client: String,
    pub sequence: u64,
}

/// A write as the Raft log carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The proposing leader's wall clock, milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Present when a retry must not apply twice.
    pub request_id: Option<RequestId>,
    pub operation: Operation,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.operation {
            Operation::Put { key, value, .. } => write!(f, "put {key} ({} bytes)", value.len()),
            Operation::Delete { key, .. } => write!(f, "delete {key}"),
            Operation::Expire => write!(f, "expire"),
            Operation::Retain(retention) => write!(f, "retain {retention:?}"),
            Operation::LeaseGrant { ttl_ms } => write!(f, "grant a lease of {ttl_ms} ms"),
            Operation::LeaseKeepAlive { id } => write!(f, "keep lease {id} alive"),
            Operation::LeaseRevoke { id } => write!(f, "revoke lease {id}"),
            Operation::Txn(txn) => {
                write!(f, "a transaction of {} operations", txn.operations().count())
            }
            Operation::DeleteRange { range } => {
                write!(f, "delete {} ..", range.start.escape_ascii())?;
                range.end.iter().try_for_each(|end| write!(f, " {}", end.escape_ascii()))
            }
        }
    }
}

/// Longest time to live: a hundred years.
pub const MAX_TTL_MS: u64 = 100 * 365 * 24 * 3_600 * 1_000;

/// Records after which one [`Operation::Expire`] removes no more: some milliseconds of work. A lease that is due
/// ends whole, so that its keys may be more.
pub const EXPIRE_BATCH_KEYS: usize = 256;

/// What a [`Command`] does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    Put {
        key: Key,
        value: Bytes,
        condition: Condition,
        lifetime: Lifetime,
    },
    Delete {
        key: Key,
        condition: Condition,
    },
    DeleteRange {
        range: KeyRange,
    },
    Txn(Txn),
    /// Ends records and leases whose time is up. The leader's own; no client asks for it.
    Expire,
    /// Sets how much of the past is kept, and trims a part of what is beyond it. The leader's own, too.
    Retain(Retention),
    LeaseGrant {
        ttl_ms: u64,
    },
    /// Gives a lease its whole time again.
    LeaseKeepAlive {
        id: LeaseId,
    },
    /// Ends a lease, and deletes its keys.
    LeaseRevoke {
        id: LeaseId,
    },
}

impl Operation {
    /// Bytes of the client's keys and values in it.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Operation::Put { key, value, .. } => key.as_bytes().len() + value.len(),
            Operation::Delete { key, .. } => key.as_bytes().len(),
            Operation::DeleteRange { range } => range.payload_bytes(),
            Operation::Txn(txn) => txn.payload_bytes(),
            Operation::Expire
            | Operation::Retain(_)
            | Operation::LeaseGrant { .. }
            | Operation::LeaseKeepAlive { .. }
            | Operation::LeaseRevoke { .. } => 0,
        }
    }
}

/// What a [`Command`] did; the same on every node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The value is stored.
    Put { revision: Revision, create_revision: Revision, version: u64 },
    /// So many keys are gone. `revision` is that of the delete, or the store's present one when
    /// nothing was there to delete (a delete of nothing makes no revision).
    Deleted { count: u64, revision: Revision },
    /// Nothing was written: the condition did not hold. `current` is the key's `mod_revision`.
    ConditionFailed { current: Option<Revision>, revision: Revision },
    /// Nothing was written: the client's `sequence` is below one that was applied already, whose
    /// outcome is no longer kept.
    Superseded { last_sequence: u64 },
    /// The transaction was carried out, one branch of it or the other. `revision` is that of its writes, or the
    /// store's present one when there were none.
    Txn { succeeded: bool, revision: Revision, results: Vec<TxnResult> },
    /// Entries that carry no command (a new leader's blank entry, a membership change).
    None,
    /// So many records and leases came to their end, and the keys of the leases with them.
    Expired { keys: u64, leases: u64, revision: Revision },
    /// The lease is granted, or has its whole time again.
    Lease(Lease),
    /// Nothing was written: there is no such lease, or no more.
    NoLease(LeaseId),
    /// Nothing was written, since a bound would have been exceeded.
    LeaseLimit(LeaseLimit),
}

/// A stored record: the value and where in the history it stands (the fields of etcd's `KeyValue`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Revision at which the key came to be.
    pub create_revision: Revision,
    /// Revision of the last write.
    pub mod_revision: Revision,
    /// Writes since the key came to be; 1 for the first.
    pub version: u64,
    pub end: End,
    pub value: Bytes,
}

impl Record {
    /// When the record may end, if that is said of itself and not of a lease.
    pub fn expires_at_ms(&self) -> Option<u64> {
        self.end.at_ms()
    }

    /// The lease that the record ends with.
    pub fn lease(&self) -> Option<LeaseId> {
        self.end.lease()
    }
}

/// Who wants a node to join.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AskedBy {
    #[default]
    Operator,
    /// The node itself, which is configured to. It is refused if it was removed.
    Node,
    /// A member whose data are damaged: it is replaced by a new incarnation if the others can do without it.
    Damaged,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_range_ends_above_every_key_with_the_prefix() {
        let end = |prefix: &'static [u8]| KeyRange::prefix(prefix).end;
        assert_eq!(end(b"a"), Some(Bytes::from_static(b"b")));
        assert_eq!(end(b"a\xff\xff"), Some(Bytes::from_static(b"b")));
        assert_eq!(end(b"\xff"), None);
        assert_eq!(end(b""), None);
        assert!(KeyRange::prefix(&b"a\xff"[..]).contains(b"a\xff\xff\xff"));
        assert!(!KeyRange::prefix(&b"a\xff"[..]).contains(b"b"));
    }

    #[test]
    fn key_lengths_are_checked_also_when_decoded() {
        assert_eq!(Key::new(Bytes::new()), Err(KeyError::Empty));
        assert!(Key::new(vec![0; MAX_KEY_BYTES]).is_ok());
        assert_eq!(
            Key::new(vec![0; MAX_KEY_BYTES + 1]),
            Err(KeyError::TooLong { len_bytes: MAX_KEY_BYTES + 1 })
        );
    }

    #[test]
    fn ranges_intersect_to_the_tighter_bounds() {
        let all = KeyRange::default();
        let a = KeyRange::prefix(&b"a"[..]);
        assert_eq!(all.intersect(&a), a);
        assert!(a.intersect(&KeyRange::prefix(&b"b"[..])).is_empty());
    }
}
