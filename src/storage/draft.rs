//! A draft: the pages of one write transaction before it commits.
//!
//! Copy-on-write happens here. A committed page is never changed; the first edit copies it to a
//! fresh page number and retires the original, later edits of the same transaction change the copy
//! in place (a page whose birth is this transaction is its own). Fresh pages are invisible to
//! everyone else until the commit publishes them, so a rollback only gives their numbers back.
//!
//! The tree algorithms read and edit through a draft and never see page numbers being chosen.

use std::sync::Arc;

use crate::storage::append::Edge;
use crate::storage::btree::Step;
use crate::storage::cache::{CacheWriter, Guard, PageView};
use crate::storage::error::StorageError;
use crate::storage::freemap::Freemap;
use crate::storage::page::{self, MAX_PAGES, MAX_TXN, PageKind, PageRef, TxnId, span_of_payload};
use crate::storage::pager::{Pager, Pages};

/// The writer's workspace; empty between transactions.
pub struct Draft {
    pager: Arc<Pager>,
    pub(super) cache: CacheWriter,
    pub(super) space: Freemap,
    /// The transaction being written.
    txn: TxnId,
    /// Pages that the transaction made. Some may have been given up since, or made twice: the cache
    /// knows which are there.
    fresh: Vec<PageRef>,
    /// Committed pages that the transaction replaced.
    retired: Vec<PageRef>,
    /// Memory for the path of a change, kept between changes.
    pub(super) path: Vec<Step>,
    /// Memory for the value of a change, kept likewise.
    pub(super) value: Vec<u8>,
    /// Where the transaction last put into the last leaf of a tree.
    pub(super) edge: Option<Edge>,
}

impl Draft {
    pub fn new(pager: Arc<Pager>, cache: CacheWriter, space: Freemap) -> Draft {
        let (fresh, retired, path, value) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Draft { pager, cache, space, txn: 0, fresh, retired, path, value, edge: None }
    }

    /// Starts the transaction after `committed`.
    pub fn begin(&mut self, committed: TxnId) {
        debug_assert!(self.fresh.is_empty() && self.retired.is_empty());
        self.txn = committed + 1;
        self.edge = None;
        assert!(self.txn < MAX_TXN, "transactions are numbered in 48 bits");
    }

    pub fn txn(&self) -> TxnId {
        self.txn
    }

    /// Whether this transaction made the page, so that it may be edited in place.
    pub fn is_fresh(&self, at: PageRef) -> bool {
        at.birth == self.txn
    }

    /// Pages that the transaction made so far, those included that it gave up again.
    pub fn made_pages(&self) -> u64 {
        self.fresh.iter().map(|at| u64::from(at.span)).sum()
    }

    /// Whether a page of `span` pages made now would end at or below page `limit`.
    pub fn has_room_below(&mut self, span: u32, limit: u64) -> Result<bool, StorageError> {
        let room = self.space.room(span, &*self.pager)?;
        Ok(room.unwrap_or(self.space.end()) + u64::from(span) <= limit)
    }

    /// Makes a page of `span` pages, zeros under a header, which `fill` completes.
    pub fn create(
        &mut self,
        kind: PageKind,
        span: u32,
        guard: &Guard,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<PageRef, StorageError> {
        let at = allocate(&mut self.space, &self.pager, self.txn, span)?;
        self.cache.create(kind, at, guard, fill);
        self.fresh.push(at);
        Ok(at)
    }

    /// Makes a page for the part of a value that lies outside of its leaf.
    pub fn create_value(&mut self, body: &[u8], guard: &Guard) -> Result<PageRef, StorageError> {
        let span = span_of_payload(body.len());
        self.create(PageKind::Value, span, guard, |bytes| page::set_payload(bytes, body))
    }

    /// Edits a page, in a copy of its own on the first edit. Returns where it is now.
    pub fn edit(
        &mut self,
        at: PageRef,
        guard: &Guard,
        change: impl FnOnce(&mut [u8]),
    ) -> Result<PageRef, StorageError> {
        if self.is_fresh(at) {
            change(self.cache.private_mut(at));
            return Ok(at);
        }
        self.note_retired(at)?;
        let Draft { pager, space, txn, .. } = self;
        let page = pager.page(at, guard)?;
        let copy = allocate(space, pager, *txn, at.span)?;
        change(self.cache.create_copy(&page, copy, guard));
        self.fresh.push(copy);
        Ok(copy)
    }

    /// Gives up a page: its own at once, a committed one when the transaction commits.
    pub fn discard(&mut self, at: PageRef) -> Result<(), StorageError> {
        if !self.is_fresh(at) {
            return self.note_retired(at);
        }
        self.edge = self.edge.filter(|edge| !edge.has(at));
        let was_there = self.cache.drop_private(at);
        assert!(was_there, "{at} was given up before");
        self.space.free(at);
        Ok(())
    }

    /// Makes the transaction's pages public; returns them through `published`, and then those that it
    /// replaced.
    pub fn publish(&mut self, mut published: impl FnMut(PageRef, Option<u32>)) -> Vec<PageRef> {
        for at in self.fresh.drain(..) {
            if self.cache.publish(at) {
                published(at, self.cache.frame(at));
            }
        }
        std::mem::take(&mut self.retired)
    }

    /// Gives the list of retired pages back, empty, so that the next transaction need not grow one.
    pub fn recycle(&mut self, mut retired: Vec<PageRef>) {
        retired.clear();
        self.retired = retired;
    }

    /// Drops one reason to hold root `txn`, and forgets the pages that nobody holds then.
    pub fn release(&mut self, txn: TxnId) {
        for page in self.space.release(txn) {
            self.cache.forget(page);
        }
    }

    /// Forgets the transaction.
    pub fn roll_back(&mut self) {
        for at in self.fresh.drain(..) {
            if self.cache.drop_private(at) {
                self.space.free(at);
            }
        }
        self.retired.clear();
    }

    /// Takes note that the commit will retire a page; what can fail about that fails here.
    fn note_retired(&mut self, at: PageRef) -> Result<(), StorageError> {
        self.space.ensure_loaded(at, &*self.pager)?;
        self.retired.push(at);
        Ok(())
    }
}

fn allocate(
    space: &mut Freemap,
    pager: &Pager,
    birth: TxnId,
    span: u32,
) -> Result<PageRef, StorageError> {
    let at = PageRef { number: space.allocate(span, pager)?, birth, span };
    if at.end() > MAX_PAGES {
        space.free(at);
        let file = pager.location().to_owned();
        return Err(StorageError::FileTooLarge { file, max_pages: MAX_PAGES });
    }
    Ok(at)
}

impl Pages for Draft {
    fn page<'g>(&'g self, at: PageRef, guard: &'g Guard) -> Result<PageView<'g>, StorageError> {
        if self.is_fresh(at) { Ok(self.cache.private(at)) } else { self.pager.page(at, guard) }
    }

    fn prefetch(&self, at: PageRef, is_whole: bool) {
        self.pager.prefetch(at, is_whole);
    }

    fn damaged(&self, at: PageRef, expected: String, found: String) -> StorageError {
        self.pager.damaged(at, expected, found)
    }
}
