//! Why the log refuses.

use std::io;
use std::sync::Arc;

use crate::types::LogId;

/// A refusal of the log. Cloneable, because a writer that failed repeats its failure for good.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    #[error("log options: {0}")]
    Options(&'static str),

    /// The caller's entries do not continue the log. Nothing of the call was done.
    #[error("entry {found} would leave a hole or overlap: the log continues at index {expected}")]
    Gap { expected: u64, found: LogId },

    /// Nothing of the call was done.
    #[error("{what} of {len_bytes} bytes, at most {max_bytes} fit into a log record")]
    TooLarge { what: &'static str, len_bytes: usize, max_bytes: usize },

    /// Purged entries are committed, so truncating them would break Raft. Nothing was done.
    #[error("cannot truncate after {after:?}: the log is purged up to {purged}")]
    TruncatesPurged { after: Option<u64>, purged: LogId },

    /// More is staged than the writer may fall behind. Nothing of the call was done; it can be
    /// repeated after a flush.
    #[error("{staged_bytes} bytes wait to be flushed, at most {max_bytes} may")]
    Backlog { staged_bytes: usize, max_bytes: usize },

    /// What a disk acknowledged is not what it returns.
    #[error(
        "log segment {segment} is damaged at offset {offset}{}: {problem}. This node's copy of the \
         log cannot be trusted: stop it, wipe its data directory, and let it join again, so that it \
         restores from its peers",
        index.map(|index| format!(" (entry {index})")).unwrap_or_default()
    )]
    Corrupt { segment: String, offset: u64, index: Option<u64>, problem: &'static str },

    /// The segment was written by a release with another format.
    #[error(
        "log segment {segment} has format version {found}, this release reads version {supported}; \
         run the release that wrote it"
    )]
    OtherVersion { segment: String, found: u32, supported: u32 },

    /// The disk failed. From a [`super::LogWriter`] this is final, with one exception: a full disk
    /// found while room for the next segment is made (see [`LogError::is_disk_full`]).
    #[error("cannot {action} {file} at offset {offset}: {source}. {}", remedy(source))]
    Io { action: &'static str, file: String, offset: u64, source: Arc<io::Error> },
}

impl LogError {
    pub(super) fn io(
        action: &'static str,
        file: String,
        offset: u64,
        error: io::Error,
    ) -> LogError {
        LogError::Io { action, file, offset, source: Arc::new(error) }
    }

    /// Whether bytes on the disk were found damaged, so that no retry can succeed.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, LogError::Corrupt { .. })
    }

    /// Whether the disk has no room (or the quota is used up).
    pub fn is_disk_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, LogError::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "Free space on this disk",
        _ => {
            "What the disk holds is unknown now: check the disk, then restart the node, which verifies \
             the log"
        }
    }
}
