//! How much of the past the store keeps.

use serde::{Deserialize, Serialize};

/// What of the past is kept: as long as it is within all of these. Set by an entry of the log, so it is the same on
/// every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Changes: keys put or deleted.
    pub changes: u64,
    /// Bytes of their keys and of the records they replaced.
    pub bytes: u64,
    /// Milliseconds since the change, by the clock of the log; `None` for any age.
    pub age_ms: Option<u64>,
}

impl Default for Retention {
    /// A minute of a busy store, a day of an idle one; as many bytes as that is of kilobyte records.
    fn default() -> Retention {
        Retention { changes: 65_536, bytes: 64 << 20, age_ms: None }
    }
}
