//! The store: one writer, many snapshots, checkpoints beside them.
//!
//! [`Store`] is the writer's side and is not shared: whoever has it is the writer. Readers take
//! snapshots through a [`Reader`] and meet the writer in two places only, the page table and the
//! committed root, both lock-free.
//!
//! A commit does no I/O. It enters the transaction's pages in the table, swaps the root and retires
//! what it replaced; the log makes it durable. What is in memory only (*dirty*) grows until a
//! checkpoint, which the caller decides on by [`StoreStats::dirty_bytes`]:
//!
//! ```text
//! begin_checkpoint  (writer)    pins the committed root; a page list, no I/O
//! Checkpoint::write (anywhere)  the I/O, while the writer commits on
//! finish_checkpoint (writer)    the root is durable: the one before is let go
//! ```
//!
//! A page that was replaced before any checkpoint wrote it, and that a snapshot still sees, stays in
//! memory as long as the snapshot: at most what was dirty when the snapshot was taken.
//!
//! Left out: nothing here keeps two processes from opening one file; the owner of the data
//! directory locks it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::plants::{Plant, planted};
use crate::storage::cache::pin;
use crate::storage::checkpoint::{Checkpoint, CheckpointDone};
use crate::storage::compact::{Compaction, Settled};
use crate::storage::dirty::{Dirty, DirtySet};
use crate::storage::disk::Disk;
use crate::storage::draft::Draft;
use crate::storage::error::StorageError;
use crate::storage::freemap::Freemap;
use crate::storage::meta::{FORMAT_VERSION, Meta};
use crate::storage::open;
use crate::storage::page::{MAX_PAGES, PAGE_BYTES, Page, PageKind, PageRef, TxnId};
use crate::storage::pager::Pager;
use crate::storage::root::Root;
use crate::storage::snapshot::{Reader, Snapshot};
use crate::storage::txn::WriteTxn;

/// A free tail this long is worth a checkpoint of its own, when nothing else changed (1 MiB).
pub(super) const TAIL_WORTH_CUTTING_PAGES: u64 = 256;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Memory for pages. Dirty pages may exceed it: whoever commits begins a checkpoint before
    /// [`StoreStats::dirty_bytes`] gets there.
    pub cache_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions { cache_bytes: 64 << 20 }
    }
}

/// Where a store stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreStats {
    /// The newest committed transaction, and the durable one.
    pub txn: TxnId,
    pub durable_txn: TxnId,
    /// Logical length of the file: the sum of the next three.
    pub file_bytes: u64,
    /// The newest root's pages, the meta pages and the map of free space.
    pub live_bytes: u64,
    /// Pages that only an older root has: a snapshot's, the durable one's or a checkpoint's.
    pub held_bytes: u64,
    pub free_bytes: u64,
    /// Live pages that are to be written, and those that a checkpoint under way writes.
    pub dirty_bytes: u64,
    /// Memory that pages take, dirty ones included.
    pub cached_bytes: u64,
    /// Superseded roots that snapshots still pin, and the oldest of them.
    pub pinned_roots: usize,
    pub oldest_pinned_txn: Option<TxnId>,
}

/// A B-tree file, owned by its writer.
pub struct Store {
    pub(super) pager: Arc<Pager>,
    committed: Arc<ArcSwap<Root>>,
    /// Roots swapped out and perhaps still pinned, in order. Each is a holder in the free map.
    superseded: Vec<Arc<Root>>,
    pub(super) draft: Draft,
    /// The committed root's pages that are not on disk, but for those of a checkpoint in flight.
    pub(super) dirty: DirtySet,
    /// What the meta page in force says. Its root is a holder in the free map.
    pub(super) durable: Meta,
    /// The checkpoint begun and not finished. Its root is a holder in the free map.
    pub(super) in_flight: Option<Flight>,
    is_stopped: bool,
    /// The compaction under way, and what is known since the last one.
    pub(super) compaction: Option<Compaction>,
    pub(super) settled: Settled,
}

/// A checkpoint on its way.
pub struct Flight {
    meta: Meta,
    pub(super) pages: Arc<Dirty>,
    bytes: u64,
}

impl Store {
    /// Opens the file `name`, making an empty one when there is none.
    pub fn open(
        disk: &Arc<dyn Disk>,
        name: &str,
        options: StoreOptions,
    ) -> Result<Store, StorageError> {
        let open::Opened { pager, cache, meta, mut space } =
            open::open(&**disk, name, options.cache_bytes)?;
        space.hold(meta.root.txn);
        let pager = Arc::new(pager);
        Ok(Store {
            committed: Arc::new(ArcSwap::from_pointee(meta.root)),
            draft: Draft::new(Arc::clone(&pager), cache, space),
            pager,
            superseded: Vec::new(),
            dirty: DirtySet::default(),
            durable: meta,
            in_flight: None,
            is_stopped: false,
            compaction: None,
            settled: Settled::default(),
        })
    }

    /// A handle that takes snapshots beside the writer.
    pub fn reader(&self) -> Reader {
        Reader { pager: Arc::clone(&self.pager), committed: Arc::clone(&self.committed) }
    }

    /// Pins the newest committed root.
    pub fn snapshot(&self) -> Snapshot {
        self.reader().snapshot()
    }

    /// Begins the next transaction; there is one at a time.
    pub fn begin(&mut self) -> WriteTxn<'_> {
        self.release_unpinned();
        self.draft.begin(self.root().txn);
        WriteTxn::new(self)
    }

    pub fn stats(&self) -> StoreStats {
        let bytes = |pages: u64| pages * PAGE_BYTES as u64;
        let space = &self.draft.space;
        let (held, free) = (space.waiting_pages(), space.free_pages());
        StoreStats {
            txn: self.root().txn,
            durable_txn: self.durable.root.txn,
            file_bytes: bytes(space.end()),
            live_bytes: bytes(space.end() - held - free),
            held_bytes: bytes(held),
            free_bytes: bytes(free),
            dirty_bytes: self.dirty_bytes(),
            cached_bytes: self.pager.cache().used_bytes() as u64,
            pinned_roots: self.superseded.len(),
            oldest_pinned_txn: self.superseded.first().map(|root| root.txn),
        }
    }

    /// See [`StoreStats::dirty_bytes`].
    pub fn dirty_bytes(&self) -> u64 {
        self.dirty.bytes() + self.in_flight.as_ref().map_or(0, |flight| flight.bytes)
    }

    /// The newest committed root, unpinned: the writer alone supersedes it.
    pub(super) fn root(&self) -> Root {
        **self.committed.load()
    }

    pub(super) fn space(&self) -> &Freemap {
        &self.draft.space
    }

    /// Makes the draft the newest committed root.
    pub(super) fn publish(&mut self, root: Root) -> TxnId {
        let txn = self.draft.txn();
        let dirty = &mut self.dirty;
        // Pages before the root: who sees the root finds them.
        let retired = self.draft.publish(|page, frame| dirty.insert(page, frame));
        let superseded = self.committed.swap(Arc::new(Root { txn, ..root }));
        self.settled.note_commit(&superseded);
        self.draft.space.hold(superseded.txn);
        self.superseded.push(superseded);
        // Before the pages retire, lest they wait for a root that nobody pinned.
        self.release_unpinned();
        // Apart from what follows, so that the processor overlaps their waits for memory.
        for &page in &retired {
            self.dirty.remove(page, self.draft.cache.frame(page));
        }
        for &page in &retired {
            if self.draft.space.retire(page, txn) {
                self.draft.cache.forget(page);
            } else {
                self.draft.cache.let_go(page);
            }
        }
        self.draft.recycle(retired);
        self.draft.cache.collect(&pin());
        txn
    }

    /// Lets go of the superseded roots that no snapshot pins any more. [`super::snapshot`] argues
    /// why `Arc::get_mut` tells.
    pub(super) fn release_unpinned(&mut self) {
        let Store { superseded, draft, .. } = self;
        superseded.retain_mut(|root| {
            let is_pinned = Arc::get_mut(root).is_none();
            if !is_pinned {
                draft.release(root.txn);
            }
            is_pinned
        });
    }

    /// Pins the committed root for being written; `None` when it is durable already. Whatever becomes
    /// of the checkpoint is told to [`Store::finish_checkpoint`]; until then there is no other.
    pub fn begin_checkpoint(&mut self) -> Result<Option<Checkpoint>, StorageError> {
        let pager = Arc::clone(&self.pager);
        let file = || pager.location().to_owned();
        if self.is_stopped {
            return Err(StorageError::Stopped { file: file() });
        }
        if self.in_flight.is_some() {
            return Err(StorageError::CheckpointInFlight { file: file() });
        }
        self.release_unpinned();
        let mut root = self.root();
        if planted(Plant::AppliedIndexNotAtomic) {
            root.facts = self.durable.root.facts;
        }
        self.load_tail()?;
        let space = &mut self.draft.space;
        // What the map's own pages keep from being cut counts as tail, since the checkpoint moves
        // them; it then is not worth another.
        let is_tail_long = space.tail_pages() > TAIL_WORTH_CUTTING_PAGES;
        if root.txn == self.durable.root.txn && !is_tail_long {
            return Ok(None);
        }
        space.cut_tail();
        let sequence = self.durable.sequence + 1;
        let drawn = space.draw(sequence, &*pager)?;
        if drawn.end > MAX_PAGES {
            space.drawn_failed();
            return Err(StorageError::FileTooLarge { file: file(), max_pages: MAX_PAGES });
        }
        let map: Vec<Page> = drawn
            .root
            .iter()
            .chain(&drawn.pages)
            .map(|(at, payload)| Page::with_payload(PageKind::Map, *at, payload))
            .collect();
        let (end, root_of_map) = (drawn.end, self.space().root());
        let meta = Meta { version: FORMAT_VERSION, sequence, end, map: root_of_map, root };
        self.draft.space.hold(root.txn);
        let bytes = self.dirty.bytes();
        let pages = Arc::new(self.dirty.take());
        self.in_flight = Some(Flight { meta, pages: Arc::clone(&pages), bytes });
        let commits = root.txn - self.durable.root.txn;
        Ok(Some(Checkpoint { pager: Arc::clone(&self.pager), meta, pages, map, commits }))
    }

    /// Reads the part of the map that the file ends in, or the tail looks shorter than it is.
    pub(super) fn load_tail(&mut self) -> Result<(), StorageError> {
        let space = &mut self.draft.space;
        let last = PageRef { number: space.end() - 1, birth: 0, span: 1 };
        space.ensure_loaded(last, &*self.pager)
    }

    /// Takes note of how the checkpoint in flight ended, and hands an error on.
    ///
    /// After an error that is not fatal the durable root is the one before, and the next checkpoint
    /// writes all that this one meant to and did not. After a fatal one the store begins no more checkpoints,
    /// and all pages of both roots stay held.
    pub fn finish_checkpoint(
        &mut self,
        result: Result<CheckpointDone, StorageError>,
    ) -> Result<TxnId, StorageError> {
        let flight = self.in_flight.take().expect("a checkpoint that ends was begun");
        let txn = flight.meta.root.txn;
        match result {
            Ok(done) => {
                assert_eq!(done.meta, flight.meta, "the checkpoint that ends is the one begun");
                self.draft.space.drawn_durable();
                let before = std::mem::replace(&mut self.durable, flight.meta);
                self.draft.release(before.root.txn);
                self.settled.note_free(self.draft.space.free_pages());
                Ok(txn)
            }
            Err(error) if error.is_fatal() => {
                self.in_flight = Some(flight);
                self.is_stopped = true;
                Err(error)
            }
            Err(error) => {
                for page in flight.pages.iter() {
                    // Commits may have replaced some meanwhile, and some are written: the next sync covers them.
                    if self.space().is_live(page) && self.pager.cache().is_dirty(page) {
                        self.dirty.insert(page, self.draft.cache.frame(page));
                    }
                }
                self.draft.space.drawn_failed();
                self.draft.release(txn);
                Err(error)
            }
        }
    }
}
