//! A checkpoint: the I/O that makes one committed root durable.
//!
//! The writer begins it ([`super::store::Store::begin_checkpoint`]) and goes on committing;
//! [`Checkpoint::write`] runs anywhere beside it, for everything it writes is immutable and lies in
//! pages that neither the durable root nor any reader has. The order of the calls is the whole of
//! crash safety:
//!
//! 1. `allocate` up to the root's end (or cut the free tail off): a full disk fails here, before
//!    anything changed;
//! 2. write the pages, neighbours in one call;
//! 3. `sync_data`: all that the new root refers to is durable *before* anything refers to it;
//! 4. write the meta page that is not in force;
//! 5. `sync_data`: now the new root is the durable one.
//!
//! Up to 2 an error leaves the durable root as it was and may be tried again, with a new checkpoint.
//! From 3 on it is final: a failed fsync may have dropped the very writes that it reports, and a meta
//! page that failed to be written may yet reach the disk, so either root may be the one that the next
//! opening finds, and this process must not go on to overwrite the pages of either.

use std::io;
use std::sync::Arc;

use crate::storage::cache::pin;
use crate::storage::dirty::Dirty;
use crate::storage::error::StorageError;
use crate::storage::meta::Meta;
use crate::storage::page::{PAGE_BYTES, Page, PageRef, TxnId, seal};
use crate::storage::pager::Pager;

/// Neighbouring pages are written in calls of about this size: large enough that a disk streams,
/// small enough to hold in memory.
const WRITE_BYTES: usize = 1 << 20;

/// From so many commits on since the checkpoint before, more are expected beside the next one. A load has a few long ones.
const STEADY_COMMITS: u64 = 16;

/// A root on its way to the disk.
pub struct Checkpoint {
    pub(super) pager: Arc<Pager>,
    pub(super) meta: Meta,
    /// The root's dirty pages. They stay in the cache, unchanged, until they are written.
    pub(super) pages: Arc<Dirty>,
    /// The pages of the map of free space.
    pub(super) map: Vec<Page>,
    /// Commits since the durable root.
    pub(super) commits: u64,
}

/// A root that is durable; the store still has to be told.
pub struct CheckpointDone {
    pub(super) meta: Meta,
    written_bytes: u64,
}

impl CheckpointDone {
    /// The transaction that is durable now.
    pub fn txn(&self) -> TxnId {
        self.meta.root.txn
    }

    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }
}

impl Checkpoint {
    /// The transaction that this makes durable.
    pub fn txn(&self) -> TxnId {
        self.meta.root.txn
    }

    /// Bytes of pages to write.
    pub fn len_bytes(&self) -> u64 {
        let map = self.map.iter().map(Page::reference);
        self.pages.iter().chain(map).map(|at| at.len_bytes() as u64).sum()
    }

    /// Makes the root durable. Blocks for as long as the disk takes.
    pub fn write(self) -> Result<CheckpointDone, StorageError> {
        self.fit_file()?;
        self.write_pages()?;
        self.sync("make pages durable")?;
        self.pager
            .file()
            .write_at(self.meta.offset(), &self.meta.encode())
            .map_err(|source| self.unknown("write the meta page", source))?;
        self.sync("make the meta page durable")?;
        let long = self.pages.iter().filter(|at| at.span > 1);
        long.for_each(|at| self.pager.cache().mark_clean(at));
        if self.commits >= STEADY_COMMITS {
            // While the next checkpoint writes as many, as many may be made beside it.
            self.pager.cache().prepare(self.pages.iter().count());
        }
        let written_bytes = self.len_bytes() + PAGE_BYTES as u64;
        Ok(CheckpointDone { meta: self.meta, written_bytes })
    }

    /// Gives the file the root's length. Cutting is safe before the root is durable, as the durable
    /// one has no pages in a free tail either.
    fn fit_file(&self) -> Result<(), StorageError> {
        let file = self.pager.file();
        let end = self.meta.end * PAGE_BYTES as u64;
        let len = file.len().map_err(|source| self.io("read the length", 0, source))?;
        if len > end {
            file.set_len(end).map_err(|source| self.io("cut the file", end, source))
        } else {
            file.allocate(end).map_err(|source| self.io("allocate space", len, source))
        }
    }

    fn write_pages(&self) -> Result<(), StorageError> {
        let mut pages: Vec<(PageRef, Option<&Page>)> =
            self.pages.iter().map(|at| (at, None)).collect();
        pages.extend(self.map.iter().map(|page| (page.reference(), Some(page))));
        pages.sort_unstable_by_key(|(at, _)| at.number);
        let mut buffer = Vec::with_capacity(WRITE_BYTES.min(self.len_bytes() as usize));
        let mut offset = 0;
        // What is in the buffer of the dirty pages.
        let mut buffered = Vec::new();
        for (at, page) in pages {
            let is_neighbour = at.offset() == offset + buffer.len() as u64;
            if !is_neighbour || buffer.len() + at.len_bytes() > WRITE_BYTES {
                self.write_at(offset, &buffer)?;
                self.let_go(buffered.drain(..));
                buffer.clear();
                offset = at.offset();
            }
            let start = buffer.len();
            match page {
                Some(page) => buffer.extend_from_slice(page.bytes()),
                None => {
                    buffered.push(at);
                    let guard = &pin();
                    let dirty = self.pager.cache().get(at, guard);
                    buffer.extend_from_slice(&dirty.expect("dirty pages stay in the cache"));
                }
            }
            seal(&mut buffer[start..]);
        }
        self.write_at(offset, &buffer)?;
        self.let_go(buffered.drain(..));
        Ok(())
    }

    /// Pages of one page's length may be evicted as soon as they are written: the file gives them back before it is synced
    /// as after, and who evicts them needs their memory for what is written meanwhile. Should this checkpoint fail yet, the
    /// sync of the next one covers them. Done here since it takes milliseconds for tens of thousands of them: the root
    /// that is being written holds all of them until the store takes note of the end, so no number is given to another.
    ///
    /// The price: where the disk refuses a page behind the system's back, a read may find the one before it, which its
    /// checksum or birth tells, and report damage before a sync reports the error.
    fn let_go(&self, pages: impl Iterator<Item = PageRef>) {
        let cache = self.pager.cache();
        pages.filter(|at| at.span == 1).for_each(|at| cache.mark_clean(at));
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let written = self.pager.file().write_at(offset, bytes);
        written.map_err(|source| self.io("write pages", offset, source))
    }

    fn sync(&self, action: &'static str) -> Result<(), StorageError> {
        self.pager.file().sync_data().map_err(|source| self.unknown(action, source))
    }

    fn io(&self, action: &'static str, offset: u64, source: io::Error) -> StorageError {
        let file = self.pager.location().to_owned();
        StorageError::Io { file, action, offset, source }
    }

    fn unknown(&self, action: &'static str, source: io::Error) -> StorageError {
        let file = self.pager.location().to_owned();
        StorageError::DurabilityUnknown { file, action, source }
    }
}
