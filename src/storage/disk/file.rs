//! A real directory.
//!
//! One process owns the directory while a [`FileDisk`] or any file opened through it lives: an
//! exclusive lock (`flock`) on the file `LOCK` says so. The kernel drops the lock with the process, so
//! there is never a stale one to remove; the file itself stays and means nothing.
//!
//! A directory can also be opened to be looked at ([`FileDisk::open_read_only`]): nothing is made, not even
//! `LOCK`, the lock is shared with others who look, and whatever would change something is refused.
//!
//! Every error names the path and what was tried, and keeps the [`io::ErrorKind`] of the system's
//! error, which callers match on (`StorageFull`, `UnexpectedEof`).
//!
//! Left out: direct I/O. Buffered writes followed by `fdatasync` give the same promise, and the page
//! cache serves the readers that follow.

// The outermost layer: this is where real files begin, everything above sees only `Disk`.
#![allow(clippy::disallowed_methods)]

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::Errno;

use super::{Disk, DiskFile, LOCK_NAME, check_name};

/// Zeros are written in pieces of this size where the file system cannot reserve blocks: 1 MiB keeps
/// the number of calls low and the buffer small.
const ZEROS_BYTES: usize = 1024 * 1024;

/// A directory on a real file system, locked for this process.
pub struct FileDisk {
    directory: Arc<Directory>,
}

/// The locked directory; open files share it, so that the lock outlives the last of them.
struct Directory {
    path: PathBuf,
    /// Open on the directory itself, for its fsync.
    handle: File,
    /// None in a directory that has no `LOCK`, and is only looked at.
    _lock: Option<File>,
    is_read_only: bool,
}

struct OpenFile {
    directory: Arc<Directory>,
    name: String,
    file: File,
}

impl FileDisk {
    /// Opens the directory at `path`, creating it when missing, and locks it.
    ///
    /// Fails with [`io::ErrorKind::ResourceBusy`] when another process (or another `FileDisk` of this
    /// one) holds the lock.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<FileDisk> {
        let path = path.into();
        create_directory(&path).map_err(|error| explain("create directory", &path, error))?;
        let lock_path = path.join(LOCK_NAME);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|error| explain("open", &lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(&path)),
            Err(TryLockError::Error(error)) => return Err(explain("lock", &lock_path, error)),
        }
        FileDisk::in_directory(path, Some(lock), false)
    }

    /// Opens the directory at `path` to look at it. Fails with [`io::ErrorKind::ResourceBusy`] while
    /// somebody works in it, and keeps such a one out as long as it lives.
    pub fn open_read_only(path: impl Into<PathBuf>) -> io::Result<FileDisk> {
        let path = path.into();
        let lock_path = path.join(LOCK_NAME);
        let lock = match File::open(&lock_path) {
            // Whoever works in a directory has made the file: nobody does.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            opened => Some(opened.map_err(|error| explain("open", &lock_path, error))?),
        };
        match lock.as_ref().map_or(Ok(()), File::try_lock_shared) {
            Ok(()) => FileDisk::in_directory(path, lock, true),
            Err(TryLockError::WouldBlock) => Err(in_use(&path)),
            Err(TryLockError::Error(error)) => Err(explain("lock", &lock_path, error)),
        }
    }

    fn in_directory(path: PathBuf, lock: Option<File>, is_read_only: bool) -> io::Result<FileDisk> {
        let handle = File::open(&path).map_err(|error| explain("open directory", &path, error))?;
        Ok(FileDisk { directory: Arc::new(Directory { path, handle, _lock: lock, is_read_only }) })
    }

    fn refuse_read_only(&self, action: &'static str, path: &Path) -> io::Result<()> {
        match self.directory.is_read_only {
            true => Err(explain(action, path, io::ErrorKind::ReadOnlyFilesystem.into())),
            false => Ok(()),
        }
    }

    fn path_of(&self, name: &str) -> io::Result<PathBuf> {
        check_name(name)?;
        Ok(self.directory.path.join(name))
    }
}

impl Disk for FileDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path_of(name)?;
        let is_writable = !self.directory.is_read_only;
        let file = File::options()
            .create(is_writable)
            .truncate(false)
            .read(true)
            .write(is_writable)
            .open(&path)
            .map_err(|error| explain("open", &path, error))?;
        Ok(Arc::new(OpenFile { directory: self.directory.clone(), name: name.to_owned(), file }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let path = &self.directory.path;
        let names = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                if !entry.file_type()?.is_file() {
                    continue;
                }
                // A name that is not UTF-8 was not made here and cannot be opened here.
                if let Ok(name) = entry.file_name().into_string()
                    && name != LOCK_NAME
                {
                    names.push(name);
                }
            }
            names.sort();
            Ok(names)
        };
        names().map_err(|error| explain("list directory", path, error))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path_of(from)?, self.path_of(to)?);
        self.refuse_read_only("rename", &from)?;
        fs::rename(&from, &to).map_err(|error| explain("rename", &from, error))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path_of(name)?;
        self.refuse_read_only("remove", &path)?;
        fs::remove_file(&path).map_err(|error| explain("remove", &path, error))
    }

    fn sync_dir(&self) -> io::Result<()> {
        let directory = &self.directory;
        self.refuse_read_only("sync directory", &directory.path)?;
        directory
            .handle
            .sync_all()
            .map_err(|error| explain("sync directory", &directory.path, error))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let directory = &self.directory;
        let stat = fstatvfs(&directory.handle).map_err(io::Error::from);
        let stat = stat.map_err(|error| explain("ask for room on", &directory.path, error))?;
        // For whoever is not root.
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn locate(&self, name: &str) -> String {
        self.directory.path.join(name).display().to_string()
    }
}

impl OpenFile {
    /// Adds to an error which file it is about and what was tried.
    fn explain(&self, action: &'static str, error: io::Error) -> io::Error {
        explain(action, &self.directory.path.join(&self.name), error)
    }

    /// Grows the file to `len` with written zeros, for file systems that cannot reserve blocks.
    ///
    /// Holes below the present length stay holes: filling them would race with writers.
    fn write_zeros_up_to(&self, len: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS_BYTES];
        let mut end = self.file.metadata()?.len();
        while end < len {
            let piece = (len - end).min(ZEROS_BYTES as u64) as usize;
            self.file.write_all_at(&zeros[..piece], end)?;
            end += piece as u64;
        }
        Ok(())
    }
}

impl DiskFile for OpenFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset).map_err(|error| self.explain("read", error))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset).map_err(|error| self.explain("write", error))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().map_err(|error| self.explain("sync", error))
    }

    fn len(&self) -> io::Result<u64> {
        let metadata = self.file.metadata().map_err(|error| self.explain("inspect", error))?;
        Ok(metadata.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(|error| self.explain("resize", error))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let reserved = loop {
            match fallocate(&self.file, FallocateFlags::empty(), 0, len) {
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => break self.write_zeros_up_to(len),
                result => break result.map_err(io::Error::from),
            }
        };
        reserved.map_err(|error| self.explain("allocate", error))
    }
}

/// Creates the directory and its missing parents, durably: a name lives in its parent, so each
/// parent of a new one is synced.
fn create_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_directory(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        result => result?,
    }
    File::open(parent)?.sync_all()
}

fn in_use(path: &Path) -> io::Error {
    let message = format!(
        "data directory {} is in use by another process: stop that process, or give this one a \
         directory of its own",
        path.display()
    );
    io::Error::new(io::ErrorKind::ResourceBusy, message)
}

/// An error of the system with its place.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
struct PathError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn explain(action: &'static str, path: &Path, source: io::Error) -> io::Error {
    let kind = source.kind();
    io::Error::new(kind, PathError { action, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_open_of_a_directory_fails_until_the_last_file_of_the_first_is_closed() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("new/data");
        let disk = FileDisk::open(&path).unwrap();
        let file = disk.open("a").unwrap();

        let refused = FileDisk::open(&path).err().expect("the directory is locked");
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        assert!(refused.to_string().contains(path.to_str().unwrap()), "{refused}");

        drop(disk);
        assert!(FileDisk::open(&path).is_err(), "an open file keeps the lock");
        drop(file);
        assert!(FileDisk::open(&path).is_ok());
    }

    #[test]
    fn who_looks_changes_nothing_and_keeps_out_who_works() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("data");
        let absent = FileDisk::open_read_only(&path).err().expect("there is no directory");
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);

        let working = FileDisk::open(&path).unwrap();
        working.open("a").unwrap().write_at(0, b"kept").unwrap();
        let refused = FileDisk::open_read_only(&path).err().expect("somebody works there");
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        drop(working);

        let disk = FileDisk::open_read_only(&path).unwrap();
        assert!(FileDisk::open_read_only(&path).is_ok(), "others may look as well");
        assert!(FileDisk::open(&path).is_err(), "somebody looks");
        let file = disk.open("a").unwrap();
        let mut bytes = [0; 4];
        file.read_at(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"kept");
        let kind = |result: io::Result<()>| result.unwrap_err().kind();
        assert_eq!(kind(disk.open("b").map(|_| ())), io::ErrorKind::NotFound);
        assert_eq!(kind(disk.remove("a")), io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(kind(disk.rename("a", "b")), io::ErrorKind::ReadOnlyFilesystem);
        assert!(file.write_at(0, b"lost").is_err() && file.set_len(0).is_err());
        assert_eq!(disk.list().unwrap(), ["a"]);
    }

    #[test]
    fn errors_name_the_path_and_keep_their_kind() {
        let temporary = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(temporary.path()).unwrap();
        let error = disk.remove("absent").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains(&disk.locate("absent")), "{error}");
    }

    #[test]
    fn growing_by_written_zeros_keeps_what_is_there() {
        let temporary = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(temporary.path()).unwrap();
        let path = temporary.path().join("a");
        let file = File::options().create_new(true).read(true).write(true).open(path).unwrap();
        let file = OpenFile { directory: disk.directory.clone(), name: "a".to_owned(), file };
        file.write_at(0, b"kept").unwrap();
        let len = 2 * ZEROS_BYTES as u64 + 5;
        file.write_zeros_up_to(len).unwrap();
        let mut bytes = vec![1; len as usize];
        file.read_at(0, &mut bytes).unwrap();
        assert_eq!(&bytes[..4], b"kept");
        assert!(bytes[4..].iter().all(|&byte| byte == 0));
        assert_eq!(file.len().unwrap(), len);
    }
}
