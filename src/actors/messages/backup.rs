//! What passes between whoever takes a backup and the node.

use actix::prelude::*;
use bytes::Bytes;

use super::{Read, RequestError, Trace};
use crate::types::{ClusterId, LogId, Revision};

/// Asks for all of a state, as the bytes of a backup (docs/FORMAT.md).
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Backup, RequestError>")]
pub struct TakeBackup {
    /// Of which state.
    pub of: Read,
    pub trace: Trace,
}

/// The answer to [`TakeBackup`]. The state is pinned while this lives.
pub struct Backup {
    pub cluster_id: ClusterId,
    pub revision: Revision,
    /// The last log entry whose effect it holds.
    pub applied: LogId,
    pub chunks: Chunks,
}

/// The bytes of a backup, a bounded number at a time; whoever takes one waits for the disk. Ends after the first
/// error, and what came before it is then no backup.
pub type Chunks = Box<dyn Iterator<Item = Result<Bytes, RequestError>> + Send>;
