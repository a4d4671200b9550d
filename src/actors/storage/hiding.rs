//! A planted bug: a state that hides records as soon as their deadline has passed by the clock of the node that reads
//! it. So a revision has another state on every node, and at every moment
//! ([`Plant::ExpiryByLocalClock`](crate::plants::Plant)).

use std::sync::Arc;

use crate::actors::messages::{History, LeaseKeys, Leases, NotKept, RequestError, Scan, View};
use crate::types::{Key, KeyRange, Lease, LeaseId, Record, Revision};

/// See the module.
pub struct HidingView {
    pub view: Arc<dyn View>,
    pub now_ms: u64,
}

impl HidingView {
    fn shows(&self, record: &Record) -> bool {
        record.expires_at_ms().is_none_or(|deadline_ms| deadline_ms > self.now_ms)
    }
}

impl View for HidingView {
    fn revision(&self) -> Revision {
        self.view.revision()
    }

    fn get(&self, key: &Key) -> Result<Option<Record>, RequestError> {
        Ok(self.view.get(key)?.filter(|record| self.shows(record)))
    }

    fn scan(&self, range: &KeyRange, reverse: bool, keys_only: bool) -> Scan<'_> {
        let scan = self.view.scan(range, reverse, keys_only);
        Box::new(scan.filter(|pair| pair.as_ref().map_or(true, |(_, record)| self.shows(record))))
    }

    fn in_passing(&self) -> Arc<dyn View> {
        Arc::new(HidingView { view: self.view.in_passing(), now_ms: self.now_ms })
    }

    fn at(&self, revision: Revision) -> Result<Arc<dyn View>, NotKept> {
        self.view.at(revision)
    }

    fn oldest_revision(&self) -> Revision {
        self.view.oldest_revision()
    }

    fn history(&self, key: &Key) -> Result<Box<dyn History>, RequestError> {
        self.view.history(key)
    }

    fn lease(&self, id: LeaseId) -> Result<Option<Lease>, RequestError> {
        self.view.lease(id)
    }

    fn leases(&self, after: Option<LeaseId>) -> Leases {
        self.view.leases(after)
    }

    fn lease_keys(&self, id: LeaseId, after: Option<&Key>) -> LeaseKeys {
        self.view.lease_keys(id, after)
    }
}
