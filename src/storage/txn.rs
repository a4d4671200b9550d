//! Write transactions: all or nothing, over any trees of the store.
//!
//! A transaction sees its own writes and nobody else does, until [`WriteTxn::commit`]. Dropping it
//! undoes it. An error of the disk in the middle leaves a tree half changed, so the transaction then
//! refuses everything but to be dropped; the store is as it was.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::storage::btree;
use crate::storage::catalog::{self, Tree};
use crate::storage::cursor::{Bounds, Range};
use crate::storage::draft::Draft;
use crate::storage::error::StorageError;
use crate::storage::page::TxnId;
use crate::storage::store::Store;

/// Keys that [`WriteTxn::delete_range`] collects before it deletes them; bounds its memory to about
/// a mebibyte of the longest keys.
const DELETE_BATCH_KEYS: usize = 256;

/// A transaction being written.
pub struct WriteTxn<'a> {
    store: &'a mut Store,
    /// The trees written to so far: as committed, and as they are now.
    trees: BTreeMap<String, (Tree, Tree)>,
    has_failed: bool,
}

impl<'a> WriteTxn<'a> {
    pub(super) fn new(store: &'a mut Store) -> WriteTxn<'a> {
        WriteTxn { store, trees: BTreeMap::new(), has_failed: false }
    }

    pub fn get(&self, tree: &str, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        btree::get(&self.store.draft, self.tree(tree)?, key)
    }

    /// The entries within `bounds`, from either end, as this transaction sees them.
    pub fn range(
        &self,
        tree: &str,
        bounds: impl Into<Bounds>,
    ) -> Result<Range<&Draft>, StorageError> {
        Ok(Range::new(&self.store.draft, self.tree(tree)?.root, bounds.into()))
    }

    /// How many entries the tree holds.
    pub fn len(&self, tree: &str) -> Result<u64, StorageError> {
        Ok(self.tree(tree)?.len)
    }

    /// Sets a key of a tree, which comes to be with its first; says whether the key was there.
    pub fn put(&mut self, tree: &str, key: &[u8], value: &[u8]) -> Result<bool, StorageError> {
        btree::check_size(tree.as_bytes(), &[])?;
        btree::check_size(key, value)?;
        self.change(tree, |draft, tree| btree::put(draft, tree, key, value))
    }

    /// Removes a key; says whether it was there.
    pub fn delete(&mut self, tree: &str, key: &[u8]) -> Result<bool, StorageError> {
        self.change(tree, |draft, tree| btree::remove(draft, tree, key))
    }

    /// Removes all keys within `bounds`; says how many.
    pub fn delete_range(
        &mut self,
        tree: &str,
        bounds: impl Into<Bounds>,
    ) -> Result<u64, StorageError> {
        let mut bounds = bounds.into();
        let mut count = 0;
        loop {
            let batch: Vec<Bytes> = self
                .range(tree, bounds.clone())?
                .keys()
                .take(DELETE_BATCH_KEYS)
                // A view of a page would make the delete copy the page under it.
                .map(|key| key.map(|key| Bytes::copy_from_slice(&key)))
                .collect::<Result<_, _>>()?;
            let Some(last) = batch.last() else { return Ok(count) };
            for key in &batch {
                self.delete(tree, key)?;
            }
            count += batch.len() as u64;
            bounds.start = Bound::Excluded(last.clone());
        }
    }

    /// Removes everything in a tree at once, reading its nodes but not its values.
    pub fn clear(&mut self, tree: &str) -> Result<(), StorageError> {
        self.change(tree, btree::clear)
    }

    /// Makes the changes visible to new snapshots, all at once. No I/O: durable with the next
    /// checkpoint. Returns the transaction's number, or the one before when nothing changed.
    pub fn commit(mut self) -> Result<TxnId, StorageError> {
        if self.has_failed {
            return Err(StorageError::TransactionFailed);
        }
        let trees = std::mem::take(&mut self.trees);
        let root = self.store.root();
        let mut catalog = root.catalog;
        for (name, (before, now)) in trees {
            let draft = &mut self.store.draft;
            if now.root.is_some() && now != before {
                btree::put(draft, &mut catalog, name.as_bytes(), &now.encode())?;
            } else if now != before {
                btree::remove(draft, &mut catalog, name.as_bytes())?;
            }
        }
        if catalog == root.catalog {
            return Ok(root.txn);
        }
        Ok(self.store.publish(catalog))
    }

    fn tree(&self, name: &str) -> Result<Tree, StorageError> {
        if self.has_failed {
            return Err(StorageError::TransactionFailed);
        }
        match self.trees.get(name) {
            Some((_, now)) => Ok(*now),
            None => catalog::find(&self.store.draft, self.store.root().catalog, name),
        }
    }

    fn change<T>(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut Draft, &mut Tree) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if !self.trees.contains_key(name) {
            let tree = self.tree(name)?;
            self.trees.insert(name.to_owned(), (tree, tree));
        }
        if self.has_failed {
            return Err(StorageError::TransactionFailed);
        }
        let (_, tree) = self.trees.get_mut(name).expect("entered above");
        let result = work(&mut self.store.draft, tree);
        self.has_failed = result.is_err();
        result
    }
}

impl Drop for WriteTxn<'_> {
    fn drop(&mut self) {
        self.store.draft.roll_back(); // of what a commit did not take
    }
}
