//! A state of the fake node, and how it is read.

use std::ops::Bound;

use super::*;

#[derive(Clone)]
pub struct Snapshot {
    pub revision: Revision,
    pub oldest: Revision,
    pub map: Arc<Map>,
    pub past: Vec<Arc<Map>>,
    pub leases: BTreeMap<LeaseId, Lease>,
}

impl Snapshot {
    fn keys_of(&self, id: LeaseId) -> Vec<Key> {
        let its = self.map.iter().filter(|(_, record)| record.lease() == Some(id));
        its.map(|(key, _)| Key::new(key.clone()).unwrap()).collect()
    }

    fn counted(&self, lease: &Lease) -> Lease {
        Lease { keys: self.keys_of(lease.id).len() as u64, ..*lease }
    }
}

impl View for Snapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn in_passing(&self) -> Arc<dyn View> {
        Arc::new(self.clone())
    }

    fn at(&self, revision: Revision) -> Result<Arc<dyn View>, NotKept> {
        if revision < self.oldest {
            return Err(NotKept::Trimmed { oldest: self.oldest });
        }
        let mut state = self.clone();
        if revision != self.revision {
            let past = self.past.get(revision as usize);
            state.map = past.ok_or(NotKept::Future { revision: self.revision })?.clone();
            state.past.truncate(revision as usize);
            state.revision = revision;
        }
        Ok(Arc::new(state))
    }

    fn oldest_revision(&self) -> Revision {
        self.oldest
    }

    fn history(&self, key: &Key) -> Result<Box<dyn History>, RequestError> {
        let states: Vec<&Arc<Map>> = self.past.iter().chain([&self.map]).collect();
        let mut versions = Vec::new();
        for (revision, pair) in states.windows(2).enumerate() {
            let [before, after] = [pair[0], pair[1]].map(|map| map.get(key.as_bytes()));
            let revision = revision as u64 + 1;
            if revision <= self.oldest || before == after {
                continue;
            }
            let kind = if after.is_some() { ChangeKind::Put } else { ChangeKind::Delete };
            versions.push(Version { revision, kind, record: after.cloned() });
        }
        Ok(Box::new(Versions { left: versions, is_cut: self.oldest > 0 }))
    }

    fn lease(&self, id: LeaseId) -> Result<Option<Lease>, RequestError> {
        Ok(self.leases.get(&id).map(|lease| self.counted(lease)))
    }

    fn leases(&self, after: Option<LeaseId>) -> Leases {
        let leases: Vec<Lease> = self.leases.values().map(|lease| self.counted(lease)).collect();
        Box::new(leases.into_iter().filter(move |lease| Some(lease.id) > after).map(Ok))
    }

    fn lease_keys(&self, id: LeaseId, after: Option<&Key>) -> LeaseKeys {
        let after = after.cloned();
        let keys = self.keys_of(id).into_iter();
        Box::new(keys.filter(move |key| Some(key) > after.as_ref()).map(Ok))
    }

    fn get(&self, key: &Key) -> Result<Option<Record>, RequestError> {
        Ok(self.map.get(key.as_bytes()).cloned())
    }

    fn scan(&self, range: &KeyRange, reverse: bool, keys_only: bool) -> Scan<'_> {
        let end = range.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let found = self.map.range((Bound::Included(range.start.clone()), end));
        let found = found.map(move |(key, record)| {
            let mut record = record.clone();
            if keys_only {
                record.value = Bytes::new();
            }
            Ok((Key::new(key.clone()).unwrap(), record))
        });
        if reverse { Box::new(found.rev()) } else { Box::new(found) }
    }
}

struct Versions {
    left: Vec<Version>,
    is_cut: bool,
}

impl Iterator for Versions {
    type Item = Result<Version, RequestError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left.pop().map(Ok)
    }
}

impl History for Versions {
    fn is_cut(&self) -> bool {
        self.is_cut
    }
}
