//! What readers get of the store.

use std::sync::Arc;

use crate::actors::messages::{
    History, LeaseKeys, Leases, NotKept, RequestError, Scan, Version, View,
};
use crate::storage::kv::{KvSnapshot, Versions};
use crate::types::{Key, KeyRange, Lease, LeaseId, Record, Revision};

/// A pinned state, as the HTTP floor reads it.
pub struct PinnedView(pub KvSnapshot);

/// What a pinned state was at an earlier revision, which it is known to keep.
struct PastView {
    state: KvSnapshot,
    revision: Revision,
}

/// What became of a key.
struct PinnedHistory(Versions);

fn unreadable(error: impl std::fmt::Display) -> RequestError {
    RequestError::Storage { detail: error.to_string() }
}

fn at(state: &KvSnapshot, revision: Revision) -> Result<Arc<dyn View>, NotKept> {
    match revision {
        _ if revision < state.oldest_revision() => {
            Err(NotKept::Trimmed { oldest: state.oldest_revision() })
        }
        _ if revision > state.revision() => Err(NotKept::Future { revision: state.revision() }),
        _ if revision == state.revision() => Ok(Arc::new(PinnedView(state.clone()))),
        _ => Ok(Arc::new(PastView { state: state.clone(), revision })),
    }
}

fn history(
    state: &KvSnapshot,
    key: &Key,
    revision: Revision,
) -> Result<Box<dyn History>, RequestError> {
    let versions = state.versions(key, revision).map_err(unreadable)?;
    Ok(Box::new(PinnedHistory(versions)))
}

fn leases(state: &KvSnapshot, after: Option<LeaseId>) -> Leases {
    Box::new(state.leases(after).map(|lease| lease.map_err(unreadable)))
}

fn lease_keys(state: &KvSnapshot, id: LeaseId, after: Option<&Key>) -> LeaseKeys {
    Box::new(state.lease_keys(id, after).map(|key| key.map_err(unreadable)))
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

    fn in_passing(&self) -> Arc<dyn View> {
        Arc::new(PinnedView(self.0.in_passing()))
    }

    fn at(&self, revision: Revision) -> Result<Arc<dyn View>, NotKept> {
        at(&self.0, revision)
    }

    fn oldest_revision(&self) -> Revision {
        self.0.oldest_revision()
    }

    fn history(&self, key: &Key) -> Result<Box<dyn History>, RequestError> {
        history(&self.0, key, self.0.revision())
    }

    fn lease(&self, id: LeaseId) -> Result<Option<Lease>, RequestError> {
        self.0.lease(id).map_err(unreadable)
    }

    fn leases(&self, after: Option<LeaseId>) -> Leases {
        leases(&self.0, after)
    }

    fn lease_keys(&self, id: LeaseId, after: Option<&Key>) -> LeaseKeys {
        lease_keys(&self.0, id, after)
    }
}

impl View for PastView {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn get(&self, key: &Key) -> Result<Option<Record>, RequestError> {
        self.state.get_at(key, self.revision).map_err(unreadable)
    }

    fn scan(&self, range: &KeyRange, reverse: bool, keys_only: bool) -> Scan<'_> {
        match self.state.records_at(range, self.revision, reverse, keys_only) {
            Ok(records) => Box::new(records.map(|pair| pair.map_err(unreadable))),
            Err(error) => Box::new(std::iter::once(Err(unreadable(error)))),
        }
    }

    fn in_passing(&self) -> Arc<dyn View> {
        Arc::new(PastView { state: self.state.in_passing(), revision: self.revision })
    }

    fn at(&self, revision: Revision) -> Result<Arc<dyn View>, NotKept> {
        match revision > self.revision {
            true => Err(NotKept::Future { revision: self.revision }),
            false => at(&self.state, revision),
        }
    }

    fn oldest_revision(&self) -> Revision {
        self.state.oldest_revision()
    }

    fn history(&self, key: &Key) -> Result<Box<dyn History>, RequestError> {
        history(&self.state, key, self.revision)
    }

    fn lease(&self, id: LeaseId) -> Result<Option<Lease>, RequestError> {
        self.state.lease(id).map_err(unreadable)
    }

    fn leases(&self, after: Option<LeaseId>) -> Leases {
        leases(&self.state, after)
    }

    fn lease_keys(&self, id: LeaseId, after: Option<&Key>) -> LeaseKeys {
        lease_keys(&self.state, id, after)
    }
}

impl Iterator for PinnedHistory {
    type Item = Result<Version, RequestError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map_err(unreadable))
    }
}

impl History for PinnedHistory {
    fn is_cut(&self) -> bool {
        self.0.is_cut()
    }
}
