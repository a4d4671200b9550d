//! The disk as the storage floor sees it: one flat directory of files.
//!
//! Everything below the state machine reaches a disk through [`Disk`], so that a simulated node
//! runs on a memory disk that loses unsynced writes, tears sectors and fails calls by seed.
//! Every method is synchronous and blocks; callers own a thread for it, or are simulated.
//!
//! What a [`DiskFile`] promises is what a file system promises, no more:
//! * a write is visible to reads at once, and durable only after [`DiskFile::sync_data`];
//! * a power cut may keep any subset of the unsynced 512-byte sectors of the unsynced writes;
//! * a created, renamed or removed name is durable only after [`Disk::sync_dir`].
//!
//! Two implementations: [`FileDisk`] is a real directory, [`MemDisk`] a simulated one. Both pass the
//! tests of `conformance.rs`; only the memory disk can be crashed on purpose, so what a power cut does
//! is specified there (`memory/image.rs`).

#[cfg(test)]
mod conformance;
mod file;
mod memory;

use std::io;
use std::sync::Arc;

pub use file::FileDisk;
pub use memory::{Calls, Fault, MemDisk, PowerCut};

/// A directory of files with plain names (no separators).
pub trait Disk: Send + Sync + 'static {
    /// Opens `name`, creating an empty file when there is none.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// The names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Renames a file over whatever has the name `to`, atomically.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; an open handle keeps working.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// What files may still grow by. Others may take it first, and a quota may forbid it: a hint, never
    /// a promise.
    fn free_bytes(&self) -> io::Result<u64>;

    /// How a person finds `name` (the full path on a real disk): for messages only.
    fn locate(&self, name: &str) -> String;
}

/// One open file. Positioned calls only, so that readers need no lock.
#[allow(clippy::len_without_is_empty)] // `len` asks the system and can fail; nobody asks for emptiness
pub trait DiskFile: Send + Sync {
    /// Fills `buf` from `offset`; `UnexpectedEof` when the file ends before.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Writes all of `data` at `offset`, growing the file when needed.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes all writes (and the length) durable: `fdatasync`. After an error nothing may be assumed
    /// of what was written since the last success, and a retry proves nothing: the caller stops.
    fn sync_data(&self) -> io::Result<()>;

    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Cuts the file, or grows it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves blocks so that writes below `len` cannot fail for want of space; grows the file to at
    /// least `len`.
    fn allocate(&self, len: u64) -> io::Result<()>;
}

/// The file whose lock says that a directory is in use; no other file may have this name.
const LOCK_NAME: &str = "LOCK";

/// Refuses what is not the plain name of a file in the directory.
fn check_name(name: &str) -> io::Result<()> {
    let plain = !matches!(name, "" | "." | "..") && !name.contains(['/', '\\', '\0']);
    if plain && name != LOCK_NAME {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{name:?} cannot name a file of a disk"),
    ))
}
