//! A draft: the pages of one write transaction before it commits.
//!
//! Copy-on-write happens here. A committed page is never changed; the first edit copies it to a
//! fresh page number and retires the original, later edits of the same transaction change the copy
//! in place (a page whose birth is this transaction is its own). Fresh pages are invisible to
//! everyone else until the commit publishes them, so a rollback only gives their numbers back.
//!
//! The tree algorithms read and edit through a draft and never see page numbers being chosen.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::storage::cache::MAX_PAGES;
use crate::storage::error::StorageError;
use crate::storage::freelist::Freelist;
use crate::storage::page::{Page, PageKind, PageRef, TxnId};
use crate::storage::pager::{Pager, Pages};

/// The writer's workspace; empty between transactions.
pub struct Draft {
    pager: Arc<Pager>,
    pub(super) space: Freelist,
    /// The transaction being written.
    txn: TxnId,
    fresh: BTreeMap<u64, Arc<Page>>,
    /// Committed pages that this transaction replaced.
    retired: Vec<PageRef>,
}

/// What a commit publishes.
pub struct Drafted {
    pub fresh: BTreeMap<u64, Arc<Page>>,
    pub retired: Vec<PageRef>,
}

impl Draft {
    pub fn new(pager: Arc<Pager>, space: Freelist) -> Draft {
        Draft { pager, space, txn: 0, fresh: BTreeMap::new(), retired: Vec::new() }
    }

    /// Starts the transaction after `committed`.
    pub fn begin(&mut self, committed: TxnId) {
        debug_assert!(self.fresh.is_empty() && self.retired.is_empty());
        self.txn = committed + 1;
    }

    pub fn txn(&self) -> TxnId {
        self.txn
    }

    /// Whether this transaction made the page, so that it may be edited in place.
    pub fn is_fresh(&self, at: PageRef) -> bool {
        at.birth == self.txn
    }

    /// Makes a page of `span` pages filled by `make`.
    pub fn create(
        &mut self,
        span: u32,
        make: impl FnOnce(PageRef) -> Page,
    ) -> Result<PageRef, StorageError> {
        let at = self.allocate(span)?;
        self.fresh.insert(at.number, Arc::new(make(at)));
        Ok(at)
    }

    /// Makes a page for a value longer than a leaf holds.
    pub fn create_value(&mut self, value: &[u8], span: u32) -> Result<PageRef, StorageError> {
        self.create(span, |at| Page::with_payload(PageKind::Value, at, value))
    }

    /// Edits a page, in a copy of its own on the first edit. Returns where it is now.
    ///
    /// Views of the page that a reader of this transaction still holds keep the old bytes:
    /// `Arc::make_mut` copies under them.
    pub fn edit(
        &mut self,
        at: PageRef,
        change: impl FnOnce(&mut Page),
    ) -> Result<PageRef, StorageError> {
        if self.is_fresh(at) {
            let page = self.fresh.get_mut(&at.number).expect("own pages are in the draft");
            change(Arc::make_mut(page));
            return Ok(at);
        }
        let mut page = Page::clone(&*self.pager.page(at)?);
        let copy = self.allocate(at.span)?;
        page.readdress(copy);
        change(&mut page);
        self.fresh.insert(copy.number, Arc::new(page));
        self.retired.push(at);
        Ok(copy)
    }

    /// Gives up a page: its own at once, a committed one when the transaction commits.
    pub fn discard(&mut self, at: PageRef) {
        if self.is_fresh(at) {
            self.fresh.remove(&at.number);
            self.space.free(at);
        } else {
            self.retired.push(at);
        }
    }

    /// Hands over what the transaction made, to be published.
    pub fn take(&mut self) -> Drafted {
        Drafted {
            fresh: std::mem::take(&mut self.fresh),
            retired: std::mem::take(&mut self.retired),
        }
    }

    /// Forgets the transaction.
    pub fn roll_back(&mut self) {
        for page in std::mem::take(&mut self.fresh).into_values() {
            self.space.free(page.reference());
        }
        self.retired.clear();
    }

    fn allocate(&mut self, span: u32) -> Result<PageRef, StorageError> {
        let at = PageRef { number: self.space.allocate(span), birth: self.txn, span };
        if at.end() > MAX_PAGES {
            self.space.free(at);
            let file = self.pager.location().to_owned();
            return Err(StorageError::FileTooLarge { file, max_pages: MAX_PAGES });
        }
        Ok(at)
    }
}

impl Pages for Draft {
    fn page(&self, at: PageRef) -> Result<Arc<Page>, StorageError> {
        match self.fresh.get(&at.number).filter(|_| self.is_fresh(at)) {
            Some(page) => Ok(Arc::clone(page)),
            None => self.pager.page(at),
        }
    }

    fn damaged(&self, at: PageRef, expected: String, found: String) -> StorageError {
        self.pager.damaged(at, expected, found)
    }
}
