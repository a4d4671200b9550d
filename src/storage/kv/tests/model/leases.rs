//! What ends by itself, in the model: a lease is a row, and its keys are the records that name it.

use std::collections::{BTreeMap, BTreeSet};

use super::{KvSnapshot, Model, State};
use crate::storage::kv::leases::first_choice;
use crate::storage::kv::{ChangeKind, DEADLINES, LEASE_KEYS, LEASES};
use crate::types::*;

/// The leases there are, and the ids that were given out.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    rows: BTreeMap<LeaseId, Row>,
    granted: Vec<LeaseId>,
}

#[derive(Clone, Debug)]
struct Row {
    ttl_ms: u64,
    expires_at_ms: u64,
}

/// Why records are gone.
pub enum Gone {
    /// By a delete, of a range perhaps.
    Deleted,
    /// With a lease that was revoked.
    Revoked,
    /// Because of these ends, in this order.
    Expired { due: Vec<End> },
}

impl Gone {
    pub fn kind(&self) -> ChangeKind {
        match self {
            Gone::Deleted | Gone::Revoked => ChangeKind::Delete,
            Gone::Expired { .. } => ChangeKind::Expire,
        }
    }
}

pub fn end_of(lifetime: Lifetime, clock_ms: u64) -> End {
    match lifetime {
        Lifetime::Unbounded => End::Never,
        Lifetime::Ttl { ms } => End::At { ms: clock_ms + ms },
        Lifetime::Lease(id) => End::WithLease(id),
    }
}

impl Leases {
    /// Has an operation name leases that were granted, in place of how long ago that was.
    pub fn name(&self, operation: Operation) -> Operation {
        let name = |ago: LeaseId| {
            let at = self.granted.len().checked_sub(ago.number() as usize);
            at.map_or(ago, |at| self.granted[at])
        };
        let rename = |lifetime: Lifetime| match lifetime {
            Lifetime::Lease(ago) => Lifetime::Lease(name(ago)),
            other => other,
        };
        match operation {
            Operation::Put { key, value, condition, lifetime } => {
                Operation::Put { key, value, condition, lifetime: rename(lifetime) }
            }
            Operation::LeaseKeepAlive { id } => Operation::LeaseKeepAlive { id: name(id) },
            Operation::LeaseRevoke { id } => Operation::LeaseRevoke { id: name(id) },
            Operation::Txn(txn) => {
                let branch = |taken| {
                    let operations = txn.branch(taken).iter().cloned();
                    let named = operations.map(|operation| match operation {
                        TxnOp::Put { key, value, lifetime } => {
                            TxnOp::Put { key, value, lifetime: rename(lifetime) }
                        }
                        other => other,
                    });
                    named.collect()
                };
                let named = Txn::new(txn.compare().to_vec(), branch(true), branch(false));
                Operation::Txn(named.expect("the keys are the same"))
            }
            other => other,
        }
    }

    /// Why puts are not made: the first lease that is not.
    pub fn refuse(&self, lifetimes: impl IntoIterator<Item = Lifetime>) -> Option<Outcome> {
        lifetimes.into_iter().find_map(|lifetime| match lifetime {
            Lifetime::Lease(id) if !self.rows.contains_key(&id) => Some(Outcome::NoLease(id)),
            _ => None,
        })
    }
}

impl Model {
    fn grant(&mut self, ttl_ms: u64, index: u64) -> Outcome {
        let id = LeaseId::new(first_choice(self.clock_ms, index)).expect("it is not 0");
        let expires_at_ms = self.clock_ms + ttl_ms;
        assert!(!self.leases.granted.contains(&id), "{id} was granted before");
        self.leases.granted.push(id);
        self.leases.rows.insert(id, Row { ttl_ms, expires_at_ms });
        Outcome::Lease(Lease { id, ttl_ms, expires_at_ms, keys: 0 })
    }

    fn lease(&self, id: LeaseId) -> Option<Lease> {
        let Row { ttl_ms, expires_at_ms } = *self.leases.rows.get(&id)?;
        let keys = self.present().values().filter(|record| record.lease() == Some(id)).count();
        Some(Lease { id, ttl_ms, expires_at_ms, keys: keys as u64 })
    }

    /// What comes of an operation on leases, or of one that a lease is missing for.
    pub fn apply_to_leases(&mut self, operation: &Operation, index: u64) -> Option<Outcome> {
        match operation {
            Operation::Put { lifetime, .. } => self.leases.refuse([*lifetime]),
            Operation::LeaseKeepAlive { id } => {
                let row = self.leases.rows.get_mut(id);
                if let Some(row) = row {
                    row.expires_at_ms = self.clock_ms + row.ttl_ms;
                }
                Some(self.lease(*id).map_or(Outcome::NoLease(*id), Outcome::Lease))
            }
            Operation::LeaseRevoke { id } => {
                if self.leases.rows.remove(id).is_none() {
                    return Some(Outcome::NoLease(*id));
                }
                let count = self.end(&[End::WithLease(*id)], |_| Gone::Revoked);
                Some(Outcome::Deleted { count, revision: self.revision() })
            }
            Operation::Expire => Some(self.expire()),
            Operation::LeaseGrant { ttl_ms } => Some(self.grant(*ttl_ms, index)),
            Operation::Retain(_)
            | Operation::Delete { .. }
            | Operation::DeleteRange { .. }
            | Operation::Txn(_) => None,
        }
    }

    fn expire(&mut self) -> Outcome {
        let records = self.present().iter().filter_map(|(key, record)| match record.end {
            End::At { ms } => Some((ms, 0, key.clone(), record.end)),
            End::Never | End::WithLease(_) => None,
        });
        let leases = self.leases.rows.iter().map(|(id, row)| {
            (row.expires_at_ms, 1, id.number().to_be_bytes().to_vec(), End::WithLease(*id))
        });
        let mut due: Vec<_> =
            records.chain(leases).filter(|(ms, ..)| *ms <= self.clock_ms).collect();
        due.sort_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2)));
        let due: Vec<End> = due.into_iter().map(|(.., end)| end).collect();
        let before = self.leases.rows.len();
        self.leases.rows.retain(|id, _| !due.contains(&End::WithLease(*id)));
        let leases = (before - self.leases.rows.len()) as u64;
        let keys = self.end(&due, |due| Gone::Expired { due });
        Outcome::Expired { keys, leases, revision: self.revision() }
    }

    /// Removes the records with these ends; says how many.
    fn end(&mut self, due: &[End], gone: impl Fn(Vec<End>) -> Gone) -> u64 {
        let before = self.present().clone();
        let mut after: State = before.clone();
        after.retain(|_, record| !due.contains(&record.end));
        let count = (before.len() - after.len()) as u64;
        self.keep(vec![before, after], self.revision() + 1, gone(due.to_vec()));
        count
    }

    /// The indexes hold what the records and leases say, and nothing else.
    pub fn check_indexes(&self, state: &KvSnapshot) {
        let (mut deadlines, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for (key, record) in self.present() {
            match record.end {
                End::Never => {}
                End::At { ms } => {
                    deadlines.insert([&ms.to_be_bytes()[..], &[0], key].concat());
                }
                End::WithLease(id) => {
                    keys.insert([&id.number().to_be_bytes()[..], key].concat());
                }
            }
        }
        for (id, row) in &self.leases.rows {
            let id = id.number().to_be_bytes();
            deadlines.insert([&row.expires_at_ms.to_be_bytes()[..], &[1], &id].concat());
        }
        let indexed = |tree| -> BTreeSet<Vec<u8>> {
            state.entries(tree).map(|entry| entry.unwrap().0.to_vec()).collect()
        };
        assert_eq!(indexed(DEADLINES), deadlines);
        assert_eq!(indexed(LEASE_KEYS), keys);
        let leases: Vec<Lease> =
            self.leases.rows.keys().map(|id| self.lease(*id).expect("it is there")).collect();
        let listed: Vec<Lease> = state.leases(None).map(|lease| lease.unwrap()).collect();
        assert_eq!((listed, state.entries(LEASES).count()), (leases.clone(), leases.len()));
        for lease in leases {
            let found = state.lease_keys(lease.id, None).map(|key| key.unwrap());
            let found: Vec<Vec<u8>> = found.map(|key| key.as_bytes().to_vec()).collect();
            let its = |record: &Record| record.lease() == Some(lease.id);
            let expected = self.present().iter().filter(|(_, record)| its(record));
            assert_eq!(found, expected.map(|(key, _)| key.clone()).collect::<Vec<_>>());
        }
    }
}
