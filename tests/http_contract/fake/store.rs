//! What the fake node has stored, and what writes do to it.

use super::*;

#[derive(Default)]
pub struct Store {
    pub revision: Revision,
    pub map: Arc<Map>,
    /// What every revision up to the last was.
    pub past: Vec<Arc<Map>>,
    pub sessions: HashMap<String, (u64, Outcome)>,
    pub leases: BTreeMap<LeaseId, Lease>,
}

impl Store {
    pub fn apply(&mut self, write: Write) -> Outcome {
        if let Some(id) = &write.request_id
            && let Some((sequence, outcome)) = self.sessions.get(&id.client)
        {
            if id.sequence == *sequence {
                return outcome.clone();
            }
            if id.sequence < *sequence {
                return Outcome::Superseded { last_sequence: *sequence };
            }
        }
        let outcome = self.carry_out(write.operation);
        if let Some(id) = write.request_id {
            self.sessions.insert(id.client, (id.sequence, outcome.clone()));
        }
        outcome
    }

    fn carry_out(&mut self, operation: Operation) -> Outcome {
        let revision = self.revision;
        let next = revision + 1;
        let before = self.map.clone();
        let current = |map: &Map, key: &Key| map.get(key.as_bytes()).map(|r| r.mod_revision);
        let outcome = match operation {
            Operation::Expire | Operation::Retain(_) => unreachable!("no client asks for it"),
            Operation::Put { lifetime: Lifetime::Lease(id), .. }
            | Operation::LeaseKeepAlive { id }
            | Operation::LeaseRevoke { id }
                if !self.leases.contains_key(&id) =>
            {
                Outcome::NoLease(id)
            }
            Operation::LeaseGrant { ttl_ms } => {
                let id = LeaseId::new(0xa0 + self.leases.len() as u64).expect("not 0");
                let lease = Lease { id, ttl_ms, expires_at_ms: NOW_MS + ttl_ms, keys: 0 };
                self.leases.insert(id, lease);
                Outcome::Lease(lease)
            }
            Operation::LeaseKeepAlive { id } => Outcome::Lease(self.leases[&id]),
            Operation::LeaseRevoke { id } => {
                self.leases.remove(&id);
                let before = self.map.len();
                Arc::make_mut(&mut self.map).retain(|_, record| record.lease() != Some(id));
                let count = (before - self.map.len()) as u64;
                Outcome::Deleted { count, revision: revision + count.min(1) }
            }
            Operation::Txn(txn) => self.transact(&txn, next),
            Operation::Put { key, condition, .. } | Operation::Delete { key, condition }
                if !condition.holds(current(&self.map, &key)) =>
            {
                Outcome::ConditionFailed { current: current(&self.map, &key), revision }
            }
            Operation::Put { key, value, lifetime, .. } => {
                let map = Arc::make_mut(&mut self.map);
                let old = map.get(key.as_bytes());
                let create_revision = old.map_or(next, |old| old.create_revision);
                let version = old.map_or(1, |old| old.version + 1);
                let (mod_revision, end) = (next, end_of(lifetime));
                let record = Record { create_revision, mod_revision, version, end, value };
                map.insert(key.into_bytes(), record);
                Outcome::Put { revision: next, create_revision, version }
            }
            Operation::Delete { key, .. } => {
                let count = Arc::make_mut(&mut self.map).remove(key.as_bytes()).map_or(0, |_| 1);
                Outcome::Deleted { count, revision: revision + count }
            }
            Operation::DeleteRange { range } => {
                let before = self.map.len();
                Arc::make_mut(&mut self.map).retain(|key, _| !range.contains(key));
                let count = (before - self.map.len()) as u64;
                Outcome::Deleted { count, revision: revision + count.min(1) }
            }
        };
        if let Outcome::Put { revision, .. }
        | Outcome::Deleted { revision, .. }
        | Outcome::Txn { revision, .. } = &outcome
        {
            self.past.resize(*revision as usize, before);
            self.revision = *revision;
        }
        outcome
    }
}

impl Store {
    /// Puts, gets, and deletes without ranges; the real store is tested elsewhere.
    fn transact(&mut self, txn: &Txn, next: Revision) -> Outcome {
        let before = self.map.clone();
        let map = Arc::make_mut(&mut self.map);
        let succeeded = txn.compare().iter().all(|it| it.holds(map.get(it.key.as_bytes())));
        let without_lease = |operation: &TxnOp| match operation {
            TxnOp::Put { lifetime: Lifetime::Lease(id), .. } if !self.leases.contains_key(id) => {
                Some(*id)
            }
            _ => None,
        };
        if let Some(id) = txn.branch(succeeded).iter().find_map(without_lease) {
            return Outcome::NoLease(id);
        }
        let results = txn.branch(succeeded).iter().map(|operation| match operation {
            TxnOp::Put { key, value, lifetime } => {
                let old = map.get(key.as_bytes());
                let create_revision = old.map_or(next, |old| old.create_revision);
                let version = old.map_or(1, |old| old.version + 1);
                let (mod_revision, value) = (next, value.clone());
                let record = Record {
                    create_revision,
                    mod_revision,
                    version,
                    end: end_of(*lifetime),
                    value,
                };
                map.insert(key.clone().into_bytes(), record);
                TxnResult::Put { create_revision, version }
            }
            TxnOp::Get { key } => {
                let record = map.get(key.as_bytes()).cloned();
                let items = record.map(|record| (key.clone(), record)).into_iter().collect();
                TxnResult::Found { items, has_more: false }
            }
            TxnOp::Range { range, limit, .. } => {
                let within = map.iter().filter(|(key, _)| range.contains(key));
                let pair = |(key, record): (&Bytes, &Record)| {
                    (Key::new(key.clone()).unwrap(), record.clone())
                };
                let items: Vec<_> = within.clone().take(*limit).map(pair).collect();
                let has_more = within.count() > *limit;
                TxnResult::Found { items, has_more }
            }
            TxnOp::Delete { range } => {
                let count = map.len();
                map.retain(|key, _| !range.contains(key));
                TxnResult::Deleted { count: (count - map.len()) as u64 }
            }
        });
        let results: Vec<TxnResult> = results.collect();
        let revision = if before == self.map { self.revision } else { next };
        Outcome::Txn { succeeded, revision, results }
    }
}

fn end_of(lifetime: Lifetime) -> End {
    match lifetime {
        Lifetime::Unbounded => End::Never,
        Lifetime::Ttl { ms } => End::At { ms: NOW_MS + ms },
        Lifetime::Lease(id) => End::WithLease(id),
    }
}
