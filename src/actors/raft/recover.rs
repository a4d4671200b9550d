//! What one node holds when the quorum of its cluster is lost for good.
//!
//! Its checkpoint and all entries of its log behind it, as one state. Which of the last entries were committed
//! nobody can say any more who lost the others: an entry that a client was told of is on a majority of the old voters,
//! of which this node may have been one or not. So all entries count: nothing that this node knows to have been
//! acknowledged is left out, and a write whose client was told nothing may be in. What this node had not received is
//! missing, and nothing here can tell how much that is.
//!
//! The directory is opened as a node opens it, which finishes what a crash left, and nothing else in it changes: the
//! entries are applied in memory. The state goes on from here as a backup does
//! ([`crate::storage::backup::restore`]), into another directory and a cluster of its own. So the lost nodes, should
//! they ever come back, and the recovered one refuse each other.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::state_machine::{applicable, stored_membership};
use super::types::{Entry, members};
use crate::actors::messages::Member;
use crate::codec;
use crate::storage::backup::file::Backup;
use crate::storage::disk::Disk;
use crate::storage::error::StorageError;
use crate::storage::identity::{self, Identity, IdentityError, Standing};
use crate::storage::kv::{Kv, KvSnapshot};
use crate::storage::log::{Log, LogError, LogOptions};
use crate::storage::store::StoreOptions;
use crate::types::LogId;

/// Bytes of entries that are read and applied at once.
const READ_BYTES: u64 = 4 << 20;

/// Why a directory does not serve.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error("{directory} is no node's data directory: it has no file {}", identity::FILE)]
    NoNode { directory: String },
    #[error(
        "{file} says that this node was {what}: what it holds is not the cluster's; recover from another one"
    )]
    Outside { file: String, what: &'static str },
    #[error("{directory} holds nothing of a cluster yet: there is nothing to recover")]
    Empty { directory: String },
    #[error(
        "the store ends at log index {applied:?}, but the log begins after {purged}: one of the two was damaged or \
         replaced; recover from another node, or restore a backup"
    )]
    Gap { applied: Option<LogId>, purged: LogId },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("an entry of the log or the membership cannot be read: {0}")]
    Entry(io::Error),
}

/// What a node holds.
pub struct Survivor {
    pub identity: Identity,
    /// Where its last checkpoint stood.
    pub checkpoint: Option<LogId>,
    /// Entries of its log behind that.
    pub replayed: u64,
    /// Its last entry.
    pub last: LogId,
    /// The members of the cluster that is lost, as far as this node knows.
    pub members: Vec<Member>,
    state: KvSnapshot,
}

impl Survivor {
    /// Reads a data directory on which no node runs.
    pub fn open(disk: &Arc<dyn Disk>) -> Result<Survivor, RecoverError> {
        let identity = Identity::load(disk)?;
        let identity =
            identity.ok_or_else(|| RecoverError::NoNode { directory: disk.locate("") })?;
        let outside = match identity.standing {
            // What is damaged is refused below; the rest may be all that is left.
            Standing::Invited | Standing::Founder | Standing::Damaged => None,
            Standing::Removed => Some("removed from its cluster"),
            Standing::Resetting => Some("giving up a former life"),
            Standing::Restoring => Some("being restored from a backup"),
            Standing::WentBack => Some("put back to an older state"),
        };
        if let Some(what) = outside {
            return Err(RecoverError::Outside { file: disk.locate(identity::FILE), what });
        }
        let (log, _writer, _) = Log::open(disk.clone(), LogOptions::default())?;
        let mut kv = Kv::open(disk.clone(), StoreOptions::default())?;
        let checkpoint = kv.reader().snapshot().applied();
        if let Some(purged) = log.state().gap_behind(checkpoint) {
            return Err(RecoverError::Gap { applied: checkpoint, purged });
        }
        let replayed = replay(&log, &mut kv)?;
        let state = kv.reader().snapshot();
        let last =
            state.applied().ok_or_else(|| RecoverError::Empty { directory: disk.locate("") })?;
        let membership = stored_membership(state.applied_state()?.membership);
        let members = members(&membership.map_err(RecoverError::Entry)?);
        Ok(Survivor { identity, checkpoint, replayed, last, members, state })
    }

    /// All that the node holds, as the bytes of a backup.
    ///
    /// # Panics
    /// Never: a survivor holds something.
    pub fn into_backup(self, now_ms: u64) -> impl Read {
        let backup = Backup::new(self.state, self.identity.cluster_id, now_ms);
        Chunks { backup: backup.expect("the state has a last entry"), rest: Bytes::new() }
    }
}

/// Applies what the log has beyond the store; says how many entries that is.
fn replay(log: &Log, kv: &mut Kv) -> Result<u64, RecoverError> {
    let mut next = kv.reader().snapshot().applied().map_or(0, |applied| applied.index + 1);
    let end = log.state().last.map_or(0, |last| last.index + 1);
    let begin = next;
    while next < end {
        let entries = log.read(next..end, READ_BYTES)?;
        next += entries.len() as u64;
        let mut steps = Vec::with_capacity(entries.len());
        for entry in &entries {
            let entry = codec::decode::<Entry>(&entry.payload).map_err(io::Error::other);
            let opened = entry.and_then(|entry| applicable(entry, &mut steps));
            opened.map_err(RecoverError::Entry)?;
        }
        kv.apply(steps)?;
    }
    Ok(end.saturating_sub(begin))
}

/// A backup as it is made, to be read.
struct Chunks {
    backup: Backup,
    rest: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            self.rest = self.backup.next_chunk().map_err(io::Error::other)?.unwrap_or_default();
        }
        let len = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}
