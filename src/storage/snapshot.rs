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
//!   page access of that reader happened before the store gives the pages away. (A plain `strong_count` would be a relaxed read and prove nothing.)
//!
//! Left out: a snapshot that outlives its store reads on, but nothing holds its pages if the same
//! file is opened again and written. What it then finds overwritten it reports as damaged, for the
//! births do not match; it gives no wrong answers.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::storage::btree;
use crate::storage::cache::{Guard, PageView};
use crate::storage::cursor::{Bounds, Range};
use crate::storage::error::StorageError;
use crate::storage::page::{PageRef, TxnId};
use crate::storage::pager::{Pager, Pages, StoredValue};
use crate::storage::passing::Passing;
use crate::storage::root::{Facts, Root, TreeId};

/// Takes snapshots, from any thread, for as long as it lives.
#[derive(Clone)]
pub struct Reader {
    pub(super) pager: Arc<Pager>,
    pub(super) committed: Arc<ArcSwap<Root>>,
}

impl Reader {
    /// Pins the newest committed root.
    pub fn snapshot(&self) -> Snapshot {
        let (pager, root) = (Arc::clone(&self.pager), self.committed.load_full());
        Snapshot { pager, root, passing: None }
    }

    /// The last page of the file that was found damaged since it was opened, as the error said it.
    pub fn damage(&self) -> Option<String> {
        self.pager.damage()
    }

    /// Pins the newest committed root for a moment, on this thread: cheaper than a snapshot, since
    /// it counts no reference that other threads count too.
    pub fn peek(&self) -> Peek<'_> {
        Peek { pager: &self.pager, root: self.committed.load() }
    }
}

/// The newest state, for a short read; see [`Reader::peek`].
pub struct Peek<'r> {
    pager: &'r Pager,
    root: arc_swap::Guard<Arc<Root>>,
}

impl Peek<'_> {
    /// Lends the whole value of a key where it lies, if it is there.
    pub fn read<T>(
        &self,
        tree: TreeId,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, StorageError> {
        btree::read(self.pager, self.root.tree(tree), key, read)
    }
}

/// The state of all trees after one transaction; unchanged for as long as it is held.
#[derive(Clone)]
pub struct Snapshot {
    pager: Arc<Pager>,
    root: Arc<Root>,
    /// What it holds of the pages that it read in passing, if that is how it reads.
    passing: Option<Arc<Passing>>,
}

impl Snapshot {
    /// The same state, for a walk over much of it: pages that are not in memory are read without a place
    /// in the cache.
    pub fn in_passing(&self) -> Snapshot {
        Snapshot { passing: Some(Arc::default()), ..self.clone() }
    }

    /// The last transaction that this sees.
    pub fn txn(&self) -> TxnId {
        self.root.txn
    }

    /// What the store's user keeps in the root.
    pub fn facts(&self) -> &Facts {
        &self.root.facts
    }

    pub fn get(&self, tree: TreeId, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.get_stored(tree, key)?.map(StoredValue::into_bytes))
    }

    /// A value in the two parts that it is stored in.
    pub fn get_stored(
        &self,
        tree: TreeId,
        key: &[u8],
    ) -> Result<Option<StoredValue>, StorageError> {
        btree::get(self, self.root.tree(tree), key)
    }

    /// Lends the whole value of a key where it lies, if it is there.
    pub fn read<T>(
        &self,
        tree: TreeId,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, StorageError> {
        btree::read(self, self.root.tree(tree), key, read)
    }

    /// Lends what of the value of a key lies in its leaf: all of a short one.
    pub fn read_head<T>(
        &self,
        tree: TreeId,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, StorageError> {
        btree::read_head(self, self.root.tree(tree), key, read)
    }

    /// The entries within `bounds`, from either end. The range keeps the snapshot pinned.
    pub fn range(&self, tree: TreeId, bounds: impl Into<Bounds>) -> Range<Snapshot> {
        Range::new(self.clone(), self.root.tree(tree).root, bounds.into())
    }

    /// For whoever reads its pages past the cache.
    pub(super) fn pager(&self) -> &Pager {
        &self.pager
    }

    pub(super) fn tree_root(&self, tree: TreeId) -> Option<PageRef> {
        self.root.tree(tree).root
    }

    /// How many entries the tree holds.
    pub fn len(&self, tree: TreeId) -> u64 {
        self.root.tree(tree).len
    }
}

impl Pages for Snapshot {
    #[inline]
    fn page<'g>(&'g self, at: PageRef, guard: &'g Guard) -> Result<PageView<'g>, StorageError> {
        match &self.passing {
            None => self.pager.page(at, guard),
            Some(passing) => passing.page(&self.pager, at, guard),
        }
    }

    fn prefetch(&self, at: PageRef, is_whole: bool) {
        self.pager.prefetch(at, is_whole);
    }

    fn damaged(&self, at: PageRef, expected: String, found: String) -> StorageError {
        self.pager.damaged(at, expected, found)
    }
}
