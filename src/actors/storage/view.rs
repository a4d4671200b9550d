//! What readers get of the store.

use crate::actors::messages::{RequestError, Scan, View};
use crate::storage::error::StorageError;
use crate::storage::kv::KvSnapshot;
use crate::types::{Key, KeyRange, Record, Revision};

/// A pinned state, as the HTTP floor reads it.
pub struct PinnedView(pub KvSnapshot);

fn unreadable(error: StorageError) -> RequestError {
    RequestError::Storage { detail: error.to_string() }
}

impl View for PinnedView {
    fn revision(&self) -> Revision {
        self.0.revision()
    }

    fn get(&self, key: &Key) -> Result<Option<Record>, RequestError> {
        self.0.get(key).map_err(unreadable)
    }

    fn scan(&self, range: &KeyRange, reverse: bool, keys_only: bool) -> Scan<'_> {
        Box::new(self.0.records(range, reverse, keys_only).map(|pair| pair.map_err(unreadable)))
    }
}
