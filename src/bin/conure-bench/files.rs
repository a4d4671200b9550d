//! What a disk holds and gets: sizes and copies of directories, and bytes written by this process.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::BenchError;

/// Unit of `st_blocks`, whatever the file system's own is.
const STAT_BLOCK_BYTES: u64 = 512;

/// Bytes allocated to the files under `dir`: reserved space counts, holes do not.
pub fn allocated_bytes(dir: &Path) -> Result<u64, BenchError> {
    let failed = || BenchError::io("list", dir);
    let mut total = 0;
    for entry in fs::read_dir(dir).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let metadata = entry.metadata().map_err(failed())?;
        total += match metadata.is_dir() {
            true => allocated_bytes(&entry.path())?,
            false => metadata.blocks() * STAT_BLOCK_BYTES,
        };
    }
    Ok(total)
}

/// Copies what is in a directory into another, durably: else blocks are allocated later, and look like growth.
pub fn copy_dir(from: &Path, to: &Path) -> Result<(), BenchError> {
    let failed = || BenchError::io("copy", from);
    for entry in fs::read_dir(from).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            fs::create_dir(&target).map_err(failed())?;
            copy_dir(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(failed())?;
            File::open(&target).and_then(|file| file.sync_all()).map_err(failed())?;
        }
    }
    Ok(())
}

/// Bytes that this process has given to the system to write so far. None of the engines writes through a
/// map, and with a sync after each commit what is given is what reaches the disk, but for its rounding up
/// to whole blocks. The count `write_bytes` beside it is no use: where the page cache has large folios, it
/// takes a write of 4 KiB for one of the whole folio.
pub fn written_bytes() -> Result<u64, BenchError> {
    let path = Path::new("/proc/self/io");
    let text = fs::read_to_string(path).map_err(BenchError::io("read", path))?;
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    let parsed = line.and_then(|bytes| bytes.parse().ok());
    let missing = || std::io::Error::other("it has no line `wchar`");
    parsed.ok_or_else(missing).map_err(BenchError::io("understand", path))
}
