//! Looking into a data directory that no node runs on, without changing a byte of it.
//!
//! For an operator in doubt ([`survey`]: all that is damaged, by name) and for whoever learns the format with
//! docs/FORMAT.md beside ([`StoreFile`], [`page`], [`super::log::inspect`]: what lies where). Everything here
//! decodes; how it is shown is for the binary. The disk should be one that refuses to write
//! ([`super::disk::FileDisk::open_read_only`]); nothing here asks it to.
//!
//! Left out: repair. A node that lost bytes gets them from its peers, which know them for sure.

pub mod page;
pub mod survey;

use std::io;

use crate::storage::cache::Cache;
use crate::storage::disk::Disk;
use crate::storage::error::StorageError;
use crate::storage::freemap::Freemap;
use crate::storage::kv;
use crate::storage::open::{self, Twins};
use crate::storage::pager::Pager;
use crate::storage::walk::Walk;

pub use crate::storage::meta::{Meta, MetaError};
pub use crate::storage::page::{PAGE_BYTES, PageKind, PageRef};
pub use crate::storage::root::{Root, Tree, TreeId};
pub use crate::storage::walk::{Damage, KeySpan, LevelShape, TreeShape};

/// The B-tree's file, as it lies on the disk.
pub struct StoreFile {
    pager: Pager,
    twins: Twins,
    len_bytes: u64,
}

impl StoreFile {
    /// Opens the file; `None` when there is none.
    pub fn open(disk: &dyn Disk) -> Result<Option<StoreFile>, StorageError> {
        let location = disk.locate(kv::FILE);
        let io = |action: &'static str| {
            let file = location.clone();
            move |source: io::Error| StorageError::Io { file, action, offset: 0, source }
        };
        if !disk.list().map_err(io("list its directory"))?.iter().any(|name| name == kv::FILE) {
            return Ok(None);
        }
        let file = disk.open(kv::FILE).map_err(io("open the file"))?;
        let len_bytes = file.len().map_err(io("read the length"))?;
        let twins = open::read_twins(&*file, &location)?;
        // Pages are read past the cache, so it gets no memory.
        let (cache, _) = Cache::new(0);
        Ok(Some(StoreFile { pager: Pager::new(file, location, cache), twins, len_bytes }))
    }

    /// The file's full name.
    pub fn location(&self) -> &str {
        self.pager.location()
    }

    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// What the meta pages 0 and 1 say.
    pub fn meta_pages(&self) -> &[Result<Meta, MetaError>] {
        &self.twins
    }

    /// The meta page in force.
    pub fn meta(&self) -> Result<Meta, StorageError> {
        open::in_force(&self.twins, self.location())
    }

    /// What a tree of the durable root is made of, as far as it can be read, and what is damaged in it,
    /// with the number of all damages.
    pub fn shape(&self, id: TreeId) -> Result<(TreeShape, Vec<Damage>, u64), StorageError> {
        let mut walk = Walk::new(&self.pager, Default::default());
        let shape = walk.tree(id, self.meta()?.root.tree(id));
        let (damages, count) = walk.into_damages();
        Ok((shape, damages, count))
    }

    /// The map of free space that a meta page names, of which the root was read and nothing else.
    fn map(&self, meta: &Meta) -> Result<Freemap, StorageError> {
        open::read_map(&self.pager, meta)
    }

    /// Whether the durable root has this page; `None` when the map cannot be read.
    fn is_live(&self, number: u64) -> Option<bool> {
        let mut map = self.map(&self.meta().ok()?).ok()?;
        let page = PageRef { number, birth: 0, span: 1 };
        map.ensure_loaded(page, &self.pager).ok()?;
        Some(map.is_live(page))
    }
}
