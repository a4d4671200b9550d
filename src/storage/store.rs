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
//! finish_checkpoint (writer)    the root is durable: its pages are clean, the one before is let go
//! ```
//!
//! A page that was replaced before any checkpoint wrote it, and that a snapshot still sees, stays in
//! memory as long as the snapshot: at most what was dirty when the snapshot was taken.
//!
//! Left out: nothing here keeps two processes from opening one file; the owner of the data
//! directory locks it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::storage::cache::MAX_PAGES;
use crate::storage::catalog::Tree;
use crate::storage::checkpoint::{Checkpoint, CheckpointDone};
use crate::storage::disk::Disk;
use crate::storage::draft::Draft;
use crate::storage::error::StorageError;
use crate::storage::freelist::Freelist;
use crate::storage::meta::Meta;
use crate::storage::open;
use crate::storage::page::{PAGE_BYTES, Page, PageKind, PageRef, TxnId, span_of_payload};
use crate::storage::pager::Pager;
use crate::storage::snapshot::{Reader, Root, Snapshot};
use crate::storage::txn::WriteTxn;

/// A free tail this long is worth a checkpoint of its own, when nothing else changed (1 MiB).
const TAIL_WORTH_CUTTING_PAGES: u64 = 256;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Memory for clean pages. Dirty ones come on top, as many as commits make between checkpoints.
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
    /// The newest root's pages, the meta pages and the free list.
    pub live_bytes: u64,
    /// Pages that only an older root has: a snapshot's, the durable one's or a checkpoint's.
    pub held_bytes: u64,
    pub free_bytes: u64,
    /// Live pages that are not on disk yet; in memory.
    pub dirty_bytes: u64,
    /// Copies of pages on disk; in memory.
    pub cached_bytes: u64,
    /// Superseded roots that snapshots still pin, and the oldest of them.
    pub pinned_roots: usize,
    pub oldest_pinned_txn: Option<TxnId>,
}

/// A B-tree file, owned by its writer.
pub struct Store {
    pub(super) pager: Arc<Pager>,
    committed: Arc<ArcSwap<Root>>,
    /// Roots swapped out and perhaps still pinned, in order. Each is a holder in the free list.
    superseded: Vec<Arc<Root>>,
    pub(super) draft: Draft,
    /// The committed root's pages that are not on disk, by number.
    pub(super) dirty: BTreeMap<u64, Arc<Page>>,
    dirty_bytes: u64,
    /// What the meta page in force says. Its root is a holder in the free list.
    pub(super) durable: Meta,
    /// The checkpoint begun and not finished. Its root is a holder in the free list.
    pub(super) in_flight: Option<Meta>,
    is_stopped: bool,
}

impl Store {
    /// Opens the file `name`, making an empty one when there is none.
    pub fn open(
        disk: &Arc<dyn Disk>,
        name: &str,
        options: StoreOptions,
    ) -> Result<Store, StorageError> {
        let open::Opened { pager, meta, mut space } =
            open::open(&**disk, name, options.cache_bytes)?;
        space.hold(meta.txn);
        let pager = Arc::new(pager);
        Ok(Store {
            committed: Arc::new(ArcSwap::from_pointee(Root {
                txn: meta.txn,
                catalog: meta.catalog,
            })),
            draft: Draft::new(Arc::clone(&pager), space),
            pager,
            superseded: Vec::new(),
            dirty: BTreeMap::new(),
            dirty_bytes: 0,
            durable: meta,
            in_flight: None,
            is_stopped: false,
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
            durable_txn: self.durable.txn,
            file_bytes: bytes(space.end()),
            live_bytes: bytes(space.end() - held - free),
            held_bytes: bytes(held),
            free_bytes: bytes(free),
            dirty_bytes: self.dirty_bytes,
            cached_bytes: self.pager.table.clean_bytes() as u64,
            pinned_roots: self.superseded.len(),
            oldest_pinned_txn: self.superseded.first().map(|root| root.txn),
        }
    }

    /// The newest committed root, unpinned: the writer alone supersedes it.
    pub(super) fn root(&self) -> Root {
        **self.committed.load()
    }

    pub(super) fn space(&self) -> &Freelist {
        &self.draft.space
    }

    /// Makes the draft the newest committed root.
    pub(super) fn publish(&mut self, catalog: Tree) -> TxnId {
        let txn = self.draft.txn();
        let drafted = self.draft.take();
        // Pages before the root: who sees the root finds them.
        for (number, page) in drafted.fresh {
            self.dirty_bytes += page.bytes().len() as u64;
            self.pager.table.publish(number, Arc::clone(&page));
            self.dirty.insert(number, page);
        }
        let superseded = self.committed.swap(Arc::new(Root { txn, catalog }));
        self.draft.space.hold(superseded.txn);
        self.superseded.push(superseded);
        // Before the pages retire, lest they wait for a root that nobody pinned.
        self.release_unpinned();
        for page in drafted.retired {
            if let Some(dirty) = self.dirty.remove(&page.number) {
                self.dirty_bytes -= dirty.bytes().len() as u64;
            }
            if self.draft.space.retire(page, txn) {
                self.pager.table.forget(page);
            }
        }
        txn
    }

    /// Lets go of the superseded roots that no snapshot pins any more. [`super::snapshot`] argues
    /// why `Arc::get_mut` tells.
    pub(super) fn release_unpinned(&mut self) {
        let Store { superseded, draft, pager, .. } = self;
        superseded.retain_mut(|root| {
            let is_pinned = Arc::get_mut(root).is_none();
            if !is_pinned {
                draft.space.release(root.txn).into_iter().for_each(|page| pager.table.forget(page));
            }
            is_pinned
        });
    }

    /// Pins the committed root for being written; `None` when it is durable already. Whatever becomes
    /// of the checkpoint is told to [`Store::finish_checkpoint`]; until then there is no other.
    pub fn begin_checkpoint(&mut self) -> Result<Option<Checkpoint>, StorageError> {
        let file = || self.pager.location().to_owned();
        if self.is_stopped {
            return Err(StorageError::Stopped { file: file() });
        }
        if self.in_flight.is_some() {
            return Err(StorageError::CheckpointInFlight { file: file() });
        }
        self.release_unpinned();
        let Root { txn, catalog } = self.root();
        if txn == self.durable.txn && !self.has_tail_worth_cutting() {
            return Ok(None);
        }
        self.draft.space.cut_tail();
        let sequence = self.durable.sequence + 1;
        let freelist = self.draw_freelist(sequence)?;
        let mut pages: Vec<Arc<Page>> = self.dirty.values().cloned().collect();
        let at = freelist.as_ref().map(Page::reference);
        pages.extend(freelist.map(Arc::new));
        pages.sort_unstable_by_key(|page| page.reference().number);
        let meta = Meta { sequence, txn, end: self.space().end(), catalog, freelist: at };
        self.draft.space.hold(txn);
        self.in_flight = Some(meta);
        Ok(Some(Checkpoint {
            file: Arc::clone(self.pager.file()),
            location: self.pager.location().to_owned(),
            meta,
            pages,
        }))
    }

    /// Takes note of how the checkpoint in flight ended, and hands an error on.
    ///
    /// After an error that is not fatal the durable root is the one before, and the next checkpoint
    /// writes all that this one meant to. After a fatal one the store begins no more checkpoints,
    /// and all pages of both roots stay held.
    pub fn finish_checkpoint(
        &mut self,
        result: Result<CheckpointDone, StorageError>,
    ) -> Result<TxnId, StorageError> {
        let flight = self.in_flight.take().expect("a checkpoint that ends was begun");
        let (txn, unused) = match result {
            Ok(done) => {
                assert_eq!(done.meta, flight, "the checkpoint that ends is the one begun");
                self.mark_clean(&done.pages);
                let before = std::mem::replace(&mut self.durable, flight);
                (Ok(flight.txn), before)
            }
            Err(error) if error.is_fatal() => {
                self.in_flight = Some(flight);
                self.is_stopped = true;
                return Err(error);
            }
            Err(error) => (Err(error), flight),
        };
        let freed = self.draft.space.release(unused.txn);
        freed.into_iter().for_each(|page| self.pager.table.forget(page));
        // No reader ever sees a free list, so nothing but its meta page held it.
        if let Some(freelist) = unused.freelist {
            self.draft.space.free(freelist);
        }
        txn
    }

    fn mark_clean(&mut self, written: &[Arc<Page>]) {
        self.pager.table.mark_clean(written.iter());
        for page in written {
            let number = page.reference().number;
            if self.dirty.get(&number).is_some_and(|dirty| Arc::ptr_eq(dirty, page)) {
                self.dirty.remove(&number);
                self.dirty_bytes -= page.bytes().len() as u64;
            }
        }
    }

    /// The page that says what is free in the committed root; none when nothing is.
    fn draw_freelist(&mut self, sequence: u64) -> Result<Option<Page>, StorageError> {
        let before = self.durable.freelist;
        let space = &mut self.draft.space;
        if space.free_pages() + space.waiting_pages() == 0 && before.is_none() {
            return Ok(None);
        }
        let span = span_of_payload(space.image(before).len() + Freelist::IMAGE_SLACK_BYTES);
        let at = PageRef { number: space.allocate(span), birth: sequence, span };
        if at.end() > MAX_PAGES {
            space.free(at);
            let file = self.pager.location().to_owned();
            return Err(StorageError::FileTooLarge { file, max_pages: MAX_PAGES });
        }
        Ok(Some(Page::with_payload(PageKind::Freelist, at, &space.image(before))))
    }

    /// Counts the free list's own page as free: the next checkpoint moves it, and one at the end of
    /// the file would otherwise keep all before it from being cut.
    fn has_tail_worth_cutting(&self) -> bool {
        let list = self.durable.freelist;
        // What its moving leaves free must not make another checkpoint worth it, or it never ends.
        let list_pages = list.map_or(0, |at| u64::from(at.span));
        self.space().tail_pages(list) > TAIL_WORTH_CUTTING_PAGES + list_pages
    }
}
