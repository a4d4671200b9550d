//! Leases: a time to live that many keys share, and that is kept up as a whole.
//!
//! Whoever holds a lease keeps it alive; when it ends, its keys end with it, all at once and in one revision. What
//! becomes of leases when stands in `storage::kv`'s `leases`.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most leases at a time: some mebibytes of tree.
pub const MAX_LEASES: u64 = 65_536;

/// Most keys of one lease. They end in one entry of the log, so this bounds what one entry does: some tens of
/// milliseconds.
pub const MAX_LEASE_KEYS: u64 = 4_096;

/// Shortest time to live of a lease. Below it a single election would be longer than the lease.
pub const MIN_LEASE_TTL_MS: u64 = 1_000;

/// Names a lease: 16 hexadecimal digits, never only zeros. The store draws it from the place and clock of the
/// entry that grants it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId(NonZeroU64);

/// Why a text names no lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a lease is named by 1 to 16 hexadecimal digits, not all of them 0")]
pub struct BadLeaseId;

impl LeaseId {
    /// The id with this number; 0 is none.
    pub fn new(number: u64) -> Option<LeaseId> {
        NonZeroU64::new(number).map(LeaseId)
    }

    pub fn number(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({self})")
    }
}

impl FromStr for LeaseId {
    type Err = BadLeaseId;

    fn from_str(text: &str) -> Result<LeaseId, BadLeaseId> {
        // Parsing alone would take a sign.
        let is_hex = text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number.and_then(LeaseId::new).ok_or(BadLeaseId)
    }
}

/// A lease as the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub id: LeaseId,
    /// What a keepalive renews it to.
    pub ttl_ms: u64,
    /// When it may end, milliseconds since the Unix epoch by the clocks that the log carries.
    pub expires_at_ms: u64,
    /// How many keys end with it.
    pub keys: u64,
}

/// A bound that a command would have exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseLimit {
    /// [`MAX_LEASES`].
    Leases,
    /// [`MAX_LEASE_KEYS`], of this lease.
    Keys(LeaseId),
}

impl fmt::Display for LeaseLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeaseLimit::Leases => write!(f, "there are {MAX_LEASES} leases, which is the most"),
            LeaseLimit::Keys(id) => {
                write!(f, "lease {id} would have more than {MAX_LEASE_KEYS} keys; grant another")
            }
        }
    }
}

/// How long a put is to last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifetime {
    /// Until it is deleted.
    #[default]
    Unbounded,
    /// So long after the command, by the clocks that the log carries.
    Ttl { ms: u64 },
    /// As long as a lease.
    Lease(LeaseId),
}

/// When a record ends, unless it is deleted before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    #[default]
    Never,
    /// Milliseconds since the Unix epoch, by the clocks that the log carries.
    At {
        ms: u64,
    },
    WithLease(LeaseId),
}

impl End {
    /// The deadline, if it is the record's own.
    pub fn at_ms(self) -> Option<u64> {
        match self {
            End::At { ms } => Some(ms),
            End::Never | End::WithLease(_) => None,
        }
    }

    /// The lease, if it is one.
    pub fn lease(self) -> Option<LeaseId> {
        match self {
            End::WithLease(id) => Some(id),
            End::Never | End::At { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_digits() {
        for number in [1, 0xabc, u64::MAX] {
            let id = LeaseId::new(number).expect("not 0");
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!((id.to_string().len(), id.number()), (16, number));
        }
        assert_eq!("aB".parse(), Ok(LeaseId::new(0xab).expect("not 0")));
        for text in ["", "0", "0000000000000000", "+1", "-1", "g", "1 ", "00000000000000001"] {
            assert_eq!(text.parse::<LeaseId>(), Err(BadLeaseId), "{text:?}");
        }
    }
}
