//! Write transactions: all or nothing, over any trees of the store.
//!
//! A transaction sees its own writes and nobody else does, until [`WriteTxn::commit`]. Dropping it
//! undoes it. An error of the disk in the middle leaves a tree half changed, so the transaction then
//! refuses everything but to be dropped; the store is as it was.

use std::ops::Bound;

use bytes::Bytes;

use crate::storage::btree;
pub use crate::storage::btree::{PREFETCH_KEYS, Present};
use crate::storage::cursor::{Bounds, Range};
use crate::storage::draft::Draft;
use crate::storage::error::StorageError;
use crate::storage::node::MAX_VALUE_HEAD_BYTES;
use crate::storage::page::TxnId;
use crate::storage::pager::StoredValue;
use crate::storage::root::{Facts, Root, Tree, TreeId};
use crate::storage::store::Store;
use crate::storage::trim;

/// A transaction being written.
pub struct WriteTxn<'a> {
    store: &'a mut Store,
    /// The root in the making.
    root: Root,
    has_failed: bool,
}

impl<'a> WriteTxn<'a> {
    pub(super) fn new(store: &'a mut Store) -> WriteTxn<'a> {
        let root = store.root();
        WriteTxn { store, root, has_failed: false }
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
        btree::get(&self.store.draft, self.tree(tree)?, key)
    }

    /// Lends what of the value of a key lies in its leaf: all of a short one.
    pub fn read_head<T>(
        &self,
        tree: TreeId,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, StorageError> {
        btree::read_head(&self.store.draft, self.tree(tree)?, key, read)
    }

    /// The entries within `bounds`, from either end, as this transaction sees them.
    pub fn range(
        &self,
        tree: TreeId,
        bounds: impl Into<Bounds>,
    ) -> Result<Range<&Draft>, StorageError> {
        Ok(Range::new(&self.store.draft, self.tree(tree)?.root, bounds.into()))
    }

    /// How many entries the tree holds.
    pub fn len(&self, tree: TreeId) -> Result<u64, StorageError> {
        Ok(self.tree(tree)?.len)
    }

    /// What the store's user keeps in the root.
    pub fn facts(&self) -> &Facts {
        &self.root.facts
    }

    pub fn set_facts(&mut self, facts: Facts) {
        self.root.facts = facts;
    }

    /// Has the processor fetch what changes of these keys, at most [`PREFETCH_KEYS`], will need.
    pub fn prefetch(&self, tree: TreeId, keys: &[&[u8]]) -> Result<(), StorageError> {
        btree::prefetch(&self.store.draft, self.tree(tree)?, keys)
    }

    /// Sets a key; says whether it was there.
    pub fn put(&mut self, tree: TreeId, key: &[u8], value: &[u8]) -> Result<bool, StorageError> {
        self.put_parts(tree, key, &[], value)
    }

    /// Sets a key to `head` followed by `body`. Of a value too long for a leaf the head, which has at
    /// most 255 bytes, stays there, and is read without the rest.
    pub fn put_parts(
        &mut self,
        tree: TreeId,
        key: &[u8],
        head: &[u8],
        body: &[u8],
    ) -> Result<bool, StorageError> {
        btree::check_size(key, head, body)?;
        let set = |_: Option<Present<'_>>, out: &mut Vec<u8>| {
            out.extend_from_slice(head);
            Ok(true)
        };
        let was_present =
            self.change(tree, |draft, tree| btree::replace(draft, tree, key, body, set))?;
        Ok(was_present == Some(true))
    }

    /// Sets a key to what `decide` appends to the vector, at most 255 bytes, followed by `body`, or leaves it alone: `decide`
    /// sees what the key has, and says whether to set it. Faster than a get and a put.
    pub fn replace(
        &mut self,
        tree: TreeId,
        key: &[u8],
        body: &[u8],
        decide: impl FnOnce(Option<Present<'_>>, &mut Vec<u8>) -> Result<bool, StorageError>,
    ) -> Result<(), StorageError> {
        btree::check_size(key, &[0; MAX_VALUE_HEAD_BYTES], body)?;
        self.change(tree, |draft, tree| btree::replace(draft, tree, key, body, decide))?;
        Ok(())
    }

    /// Removes a key; says whether it was there.
    pub fn delete(&mut self, tree: TreeId, key: &[u8]) -> Result<bool, StorageError> {
        self.change(tree, |draft, tree| btree::remove(draft, tree, key))
    }

    /// Removes all keys within `bounds`, a leaf at a time; says how many.
    pub fn delete_range(
        &mut self,
        tree: TreeId,
        bounds: impl Into<Bounds>,
    ) -> Result<u64, StorageError> {
        let mut bounds = bounds.into();
        let mut count = 0;
        while let Some(first) = self.range(tree, bounds.clone())?.keys().next() {
            let first = first?;
            count +=
                self.change(tree, |draft, tree| trim::cut(draft, tree, &first, &bounds.end))?;
            bounds.start = Bound::Included(first);
        }
        Ok(count)
    }

    /// Removes all keys below `bound`, much faster than one by one; says how many.
    pub fn delete_below(&mut self, tree: TreeId, bound: &[u8]) -> Result<u64, StorageError> {
        self.change(tree, |draft, tree| trim::trim(draft, tree, bound))
    }

    /// Removes everything in a tree at once, reading its nodes but not its values.
    pub fn clear(&mut self, tree: TreeId) -> Result<(), StorageError> {
        self.change(tree, btree::clear)
    }

    /// Makes the changes visible to new snapshots, all at once. No I/O: durable with the next
    /// checkpoint. Returns the transaction's number, or the one before when nothing changed.
    pub fn commit(self) -> Result<TxnId, StorageError> {
        if self.has_failed {
            return Err(StorageError::TransactionFailed);
        }
        let before = self.store.root();
        if self.root == before {
            return Ok(before.txn);
        }
        Ok(self.store.publish(self.root))
    }

    /// Pages that the transaction made so far.
    pub(super) fn made_pages(&self) -> u64 {
        self.store.draft.made_pages()
    }

    fn tree(&self, id: TreeId) -> Result<Tree, StorageError> {
        if self.has_failed {
            return Err(StorageError::TransactionFailed);
        }
        Ok(self.root.tree(id))
    }

    /// Works on a tree; an error fails the transaction.
    pub(super) fn change<T>(
        &mut self,
        id: TreeId,
        work: impl FnOnce(&mut Draft, &mut Tree) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if self.has_failed {
            return Err(StorageError::TransactionFailed);
        }
        let result = work(&mut self.store.draft, &mut self.root.trees[id.index()]);
        self.has_failed = result.is_err();
        result
    }
}

impl Drop for WriteTxn<'_> {
    fn drop(&mut self) {
        self.store.draft.roll_back(); // of what a commit did not take
    }
}
