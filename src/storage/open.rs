//! Opening and creating the file.
//!
//! Opening reads the twin meta pages and the root of the map of free space, never the trees nor the
//! map itself, so it takes the same time for every size. What a checkpoint that did not finish left in the file lies in pages that are
//! free in the root found here, and needs no repair.
//!
//! What is seen here may be ahead of the disk: a process that died leaves writes in the system's cache, and
//! after a failed sync the system may show what it will never write. If a root were used that is not
//! durable, its checkpoints would overwrite pages of the one before, and a power cut could bring that
//! one back. So the file's name is synced, and the meta page in force is written and synced once more. That
//! suffices, for a meta page is written only after all that its root refers to was synced.
//!
//! A new file is made under another name and renamed when its meta pages are durable. So a file of
//! the store's name has been whole once, and one without a valid meta page is damaged, never new:
//! a file of zeros is refused, not taken for an empty store.

use std::io;

use crate::storage::cache::{Cache, CacheWriter};
use crate::storage::disk::{Disk, DiskFile};
use crate::storage::error::StorageError;
use crate::storage::freemap::{Freemap, MapPages};
use crate::storage::meta::{FORMAT_VERSION, META_BYTES, META_PAGES, Meta, MetaError};
use crate::storage::page::{MAX_PAGES, PAGE_BYTES};
use crate::storage::pager::Pager;

/// A file just opened.
pub struct Opened {
    pub pager: Pager,
    pub cache: CacheWriter,
    pub meta: Meta,
    pub space: Freemap,
}

/// Opens the store's file, making an empty one when there is none.
pub fn open(disk: &dyn Disk, name: &str, cache_bytes: usize) -> Result<Opened, StorageError> {
    let location = disk.locate(name);
    let io = |action: &'static str| {
        let file = location.clone();
        move |source: io::Error| StorageError::Io { file, action, offset: 0, source }
    };
    if !disk.list().map_err(io("list its directory"))?.iter().any(|file| file == name) {
        let unfinished = format!("{name}.new");
        let created = create(disk, name, &unfinished);
        if created.is_err() {
            // It takes room that may be the very reason.
            let _ = disk.remove(&unfinished);
        }
        created.map_err(io("create the file"))?;
    }
    let file = disk.open(name).map_err(io("open the file"))?;
    let meta = in_force(&read_twins(&*file, &location)?, &location)?;
    let (shared, cache) = Cache::new(cache_bytes);
    let pager = Pager::new(file, location.clone(), shared);
    let space = read_map(&pager, &meta)?;
    disk.sync_dir().map_err(io("sync its directory"))?;
    let file = pager.file();
    file.write_at(meta.offset(), &meta.encode()).map_err(io("write the meta page in force"))?;
    file.sync_data().map_err(io("make the meta page in force durable"))?;
    Ok(Opened { pager, cache, meta, space })
}

fn create(disk: &dyn Disk, name: &str, unfinished: &str) -> io::Result<()> {
    let file = disk.open(unfinished)?;
    file.set_len(0)?;
    for sequence in 0..META_PAGES {
        let meta = Meta::empty(sequence);
        file.write_at(meta.offset(), &meta.encode())?;
    }
    file.sync_data()?;
    disk.rename(unfinished, name)?;
    disk.sync_dir()
}

/// What the twin meta pages say.
pub type Twins = [Result<Meta, MetaError>; META_PAGES as usize];

/// Reads both meta pages.
pub fn read_twins(file: &dyn DiskFile, location: &str) -> Result<Twins, StorageError> {
    let read = |number: u64| {
        let offset = number * PAGE_BYTES as u64;
        let mut bytes = [0; META_BYTES];
        match file.read_at(offset, &mut bytes) {
            Ok(()) => Ok(Meta::decode(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(Err(MetaError::Damaged { found: "the end of the file".into() }))
            }
            Err(source) => {
                let (file, action) = (location.to_owned(), "read a meta page");
                Err(StorageError::Io { file, action, offset, source })
            }
        }
    };
    Ok([read(0)?, read(1)?])
}

/// The meta page in force: of the valid ones, that of the later checkpoint.
pub fn in_force([first, second]: &Twins, location: &str) -> Result<Meta, StorageError> {
    let file = location.to_owned();
    match (first, second) {
        // One page of another version suffices: its release may have gone on from the other.
        (Err(MetaError::OtherVersion { found }), _)
        | (_, Err(MetaError::OtherVersion { found })) => {
            Err(StorageError::OtherVersion { file, found: *found, supported: FORMAT_VERSION })
        }
        (Ok(first), Ok(second)) if first.sequence > second.sequence => Ok(*first),
        (_, Ok(meta)) | (Ok(meta), _) => Ok(*meta),
        (Err(MetaError::Foreign { found }), Err(MetaError::Foreign { .. })) => {
            Err(StorageError::Foreign { file, found: found.clone() })
        }
        (Err(first), Err(second)) => {
            let (first, second) = (first.to_string(), second.to_string());
            Err(StorageError::NoMeta { file, first, second })
        }
    }
}

/// The map of free space that a meta page names.
pub fn read_map(pager: &Pager, meta: &Meta) -> Result<Freemap, StorageError> {
    let has_map = meta.map.is_some() || meta.end == META_PAGES;
    let in_file = |end: u64| (META_PAGES..=meta.end).contains(&end) && meta.end <= MAX_PAGES;
    let roots = meta.root.trees.iter().filter_map(|tree| tree.root);
    if !has_map
        || !in_file(meta.end)
        || !roots.chain(meta.map).all(|at| at.span > 0 && in_file(at.end()))
    {
        let expected = "a map, and references inside the file".to_string();
        return Err(StorageError::Corrupt {
            file: pager.location().to_owned(),
            offset: meta.offset(),
            expected,
            found: format!("{meta:?}"),
        });
    }
    let Some(at) = meta.map else { return Ok(Freemap::new()) };
    Freemap::decode_root(at, &pager.payload(at)?, meta.end)
        .map_err(|found| MapPages::damaged(pager, at, found))
}
