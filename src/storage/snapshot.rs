//! Snapshots: a committed root, pinned.
//!
//! Taking one is an atomic load; it never waits for the writer, and the writer never waits for it.
//! The root's `Arc` *is* the pin: a [`Root`] is allocated by each commit, the store keeps one `Arc`
//! of every root that it superseded, and a superseded root is unpinned when that `Arc` is the last.
//!
//! Why the store cannot mistake a pinned root for an unpinned one:
//!
//! * A pin begins as a load from the `ArcSwap` or as a clone of a pin. After the commit swapped the
//!   root out, no load returns it any more, so new pins of it only come from old ones.
//! * A load may be half done when the swap happens. `ArcSwap::swap` settles that before it returns:
//!   a reader that announced the old pointer, and will use it, has been counted into the `Arc` by
//!   then; a reader that finds the pointer changed loads again and gets the new root.
//! * So after the swap the count is one plus the pins, and never rises from one again.
//!   `Arc::get_mut` succeeds exactly when it is one, and acquires what the last pin released: every
//!   page access of that reader, installing a page in the table included, happened before the
//!   store gives the pages away. (A plain `strong_count` would be a relaxed read and prove nothing.)
//!
//! Left out: a snapshot that outlives its store reads on, but nothing holds its pages if the same
//! file is opened again and written. What it then finds overwritten it reports as damaged, for the
//! births do not match; it gives no wrong answers.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::storage::btree;
use crate::storage::catalog::{self, Tree};
use crate::storage::cursor::{Bounds, Range};
use crate::storage::error::StorageError;
use crate::storage::page::{Page, PageRef, TxnId};
use crate::storage::pager::{Pager, Pages};

/// What a commit made: the state of all trees after transaction `txn`.
#[derive(Clone, Copy, Debug)]
pub struct Root {
    pub txn: TxnId,
    pub catalog: Tree,
}

/// Takes snapshots, from any thread, for as long as it lives.
#[derive(Clone)]
pub struct Reader {
    pub(super) pager: Arc<Pager>,
    pub(super) committed: Arc<ArcSwap<Root>>,
}

impl Reader {
    /// Pins the newest committed root.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { pager: Arc::clone(&self.pager), root: self.committed.load_full() }
    }
}

/// The state of all trees after one transaction; unchanged for as long as it is held.
#[derive(Clone)]
pub struct Snapshot {
    pager: Arc<Pager>,
    root: Arc<Root>,
}

impl Snapshot {
    /// The last transaction that this sees.
    pub fn txn(&self) -> TxnId {
        self.root.txn
    }

    pub fn get(&self, tree: &str, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        btree::get(self, self.tree(tree)?, key)
    }

    /// The entries within `bounds`, from either end. The range keeps the snapshot pinned.
    pub fn range(
        &self,
        tree: &str,
        bounds: impl Into<Bounds>,
    ) -> Result<Range<Snapshot>, StorageError> {
        Ok(Range::new(self.clone(), self.tree(tree)?.root, bounds.into()))
    }

    /// How many entries the tree holds.
    pub fn len(&self, tree: &str) -> Result<u64, StorageError> {
        Ok(self.tree(tree)?.len)
    }

    fn tree(&self, name: &str) -> Result<Tree, StorageError> {
        catalog::find(self, self.root.catalog, name)
    }
}

impl Pages for Snapshot {
    fn page(&self, at: PageRef) -> Result<Arc<Page>, StorageError> {
        self.pager.page(at)
    }

    fn damaged(&self, at: PageRef, expected: String, found: String) -> StorageError {
        self.pager.damaged(at, expected, found)
    }
}
