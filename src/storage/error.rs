//! What can go wrong in the B-tree's file, said so that the reader knows the next step.
//!
//! Three questions decide what a caller does, and each has a method: is the disk full
//! ([`StorageError::is_disk_full`]: free space and try again), are bytes damaged
//! ([`StorageError::is_corrupt`]: refuse the operation, restore the node from its peers), is the
//! state on disk unknown ([`StorageError::is_fatal`]: close the store, let the log replay).
//! No variant stands for "not found": absence is an answer, not an error.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

use crate::storage::node::MAX_TREE_KEY_BYTES;

/// Why the store refused an operation.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A call of the disk failed; the durable state is what it was.
    #[error("{file}: cannot {action} at byte {offset}: {source}")]
    Io { file: String, action: &'static str, offset: u64, source: io::Error },

    /// Bytes read from the disk are not those that were written there.
    #[error(
        "{file}: damaged at byte {offset}: expected {expected}, found {found}; check the disk, then \
         remove the node's data directory and let it rejoin, or restore a backup"
    )]
    Corrupt { file: String, offset: u64, expected: String, found: String },

    /// Neither of the twin meta pages is whole, so no root is known.
    #[error(
        "{file}: both meta pages are damaged ({first}; {second}); check the disk, then remove the \
         node's data directory and let it rejoin, or restore a backup"
    )]
    NoMeta { file: String, first: String, second: String },

    /// The file was written by something else.
    #[error("{file}: not a ConureDB store (it begins with {found}); check the data directory")]
    Foreign { file: String, found: String },

    /// The file was written by a release with another format.
    #[error(
        "{file}: format version {found}, this release reads version {supported}; run the release \
         that wrote it"
    )]
    OtherVersion { file: String, found: u32, supported: u32 },

    /// An fsync, or the write of a meta page, failed: the disk may hold the old root or the new
    /// one, and no retry can tell (a kernel may drop the pages that it failed to write).
    #[error(
        "{file}: cannot {action}: {source}; what is durable is unknown until the store reopens"
    )]
    DurabilityUnknown { file: String, action: &'static str, source: io::Error },

    /// An earlier [`StorageError::DurabilityUnknown`] closed this store for checkpoints.
    #[error("{file}: closed by an earlier failure to make a checkpoint durable; reopen the store")]
    Stopped { file: String },

    /// A checkpoint was begun while another was in flight.
    #[error("{file}: a checkpoint is in flight already")]
    CheckpointInFlight { file: String },

    /// The transaction met an error before; it can only be dropped.
    #[error("the transaction failed earlier and can only be rolled back")]
    TransactionFailed,

    /// A value that the checksums call whole does not read as what it should be.
    #[error("a stored value cannot be read: {what}; this is a defect, please report it")]
    BadValue { what: &'static str },

    #[error("a tree's key has at most {MAX_TREE_KEY_BYTES} bytes, this one has {len_bytes}")]
    KeyTooLong { len_bytes: usize },

    #[error("a value has at most {} bytes, this one has {len_bytes}", u32::MAX)]
    ValueTooLong { len_bytes: usize },

    /// The file has as many pages as the page table can number.
    #[error("{file}: cannot grow beyond {max_pages} pages")]
    FileTooLarge { file: String, max_pages: u64 },
}

impl StorageError {
    /// Whether space on the disk would help. Nothing changed; the operation may be tried again.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, StorageError::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// Whether bytes on the disk were found damaged, so that no retry can succeed.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, StorageError::Corrupt { .. } | StorageError::NoMeta { .. })
    }

    /// Whether the store must be closed: what is durable is unknown.
    pub fn is_fatal(&self) -> bool {
        matches!(self, StorageError::DurabilityUnknown { .. } | StorageError::Stopped { .. })
    }
}

/// What was found damaged last in a file, as the error said it; from any thread.
#[derive(Debug, Default)]
pub(in crate::storage) struct LastDamage(Mutex<Option<String>>);

impl LastDamage {
    pub fn note(&self, error: &impl fmt::Display) {
        *self.lock() = Some(error.to_string());
    }

    pub fn get(&self) -> Option<String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
