//! The store against a map for every revision.
//!
//! ```text
//! draw      what may happen          machine  a store to which it happens, beside the model
//! leases    the model of leases      checks   what the store has to be then
//! ```

mod checks;
mod draw;
mod leases;
mod machine;

use std::collections::{BTreeMap, VecDeque};

use self::leases::{Gone, Leases, end_of};
use super::*;
use crate::storage::kv::{Change, ChangeKind};

type State = BTreeMap<Vec<u8>, Record>;

/// All states that the store had, and which changes it should still have.
#[derive(Clone, Debug)]
struct Model {
    /// By revision, from that of the empty store on.
    past: Vec<State>,
    kept: VecDeque<Change>,
    most_kept: u64,
    trimmed: Revision,
    clock_ms: u64,
    leases: Leases,
}

impl Model {
    fn new(most_kept: u64) -> Model {
        Model {
            past: vec![State::new()],
            kept: VecDeque::new(),
            most_kept,
            trimmed: 0,
            clock_ms: 0,
            leases: Leases::default(),
        }
    }

    fn retention(&self) -> Retention {
        Retention { changes: self.most_kept, bytes: u64::MAX, age_ms: None }
    }

    fn present(&self) -> &State {
        self.past.last().expect("there is always a state")
    }

    fn revision(&self) -> Revision {
        self.past.len() as u64 - 1
    }

    /// Applies the operation of the entry at an index; tells the outcome of a transaction, and of what has to do with leases.
    fn apply(&mut self, operation: &Operation, time_ms: u64, index: u64) -> Option<Outcome> {
        self.clock_ms = self.clock_ms.max(time_ms);
        if let Some(outcome) = self.apply_to_leases(operation, index) {
            return Some(outcome);
        }
        let revision = self.revision() + 1;
        let mut states = vec![self.present().clone()];
        let mut done = None;
        match operation {
            Operation::Txn(txn) => {
                let record = |key: &Key| self.present().get(key.as_bytes());
                let succeeded = txn.compare().iter().all(|it| it.holds(record(&it.key)));
                let puts = txn.branch(succeeded).iter().filter_map(|operation| match operation {
                    TxnOp::Put { lifetime, .. } => Some(*lifetime),
                    _ => None,
                });
                if let Some(refusal) = self.leases.refuse(puts) {
                    return Some(refusal);
                }
                let mut results = Vec::new();
                for operation in txn.branch(succeeded) {
                    let mut next = states[results.len()].clone();
                    results.push(txn_operation(operation, &mut next, revision, self.clock_ms));
                    states.push(next);
                }
                done = Some((succeeded, results));
            }
            single => states.push(self.after(single, revision)),
        }
        self.keep(states, revision, Gone::Deleted);
        let (succeeded, results) = done?;
        Some(Outcome::Txn { succeeded, revision: self.revision(), results })
    }

    /// The state after an operation other than a transaction.
    fn after(&self, operation: &Operation, revision: Revision) -> State {
        let mut next = self.present().clone();
        let revision_of = |key: &Key| self.present().get(key.as_bytes()).map(|it| it.mod_revision);
        match operation {
            Operation::Put { key, value, condition, lifetime }
                if condition.holds(revision_of(key)) =>
            {
                put_into(&mut next, key, value, revision, end_of(*lifetime, self.clock_ms));
            }
            Operation::Delete { key, condition } if condition.holds(revision_of(key)) => {
                next.remove(key.as_bytes());
            }
            Operation::DeleteRange { range } => next.retain(|key, _| !range.contains(key)),
            _ => {}
        }
        next
    }

    /// Takes what the operations of one command made, one after the other.
    fn keep(&mut self, states: Vec<State>, revision: Revision, gone: Gone) {
        let last = states.last().expect("there is one before the first operation").clone();
        if last == *self.present() {
            return;
        }
        for pair in states.windows(2) {
            let mut changes = differences(&pair[0], &pair[1], revision, gone.kind());
            if let Gone::Expired { due } = &gone {
                let place = |it: &Change| {
                    let end = it.previous.as_ref().map(|it| it.end);
                    due.iter().position(|due| Some(*due) == end)
                };
                changes.sort_by_key(place); // then by key, as they were
            }
            let deleted = changes.iter().filter(|it| it.kind != ChangeKind::Put).count();
            if matches!(gone, Gone::Deleted) && deleted as u64 > self.most_kept {
                self.kept.clear();
                self.trimmed = revision;
            } else {
                self.kept.extend(changes);
            }
        }
        self.past.push(last);
        while self.kept.len() as u64 > self.most_kept {
            self.trimmed = self.kept.pop_front().expect("too many are some").revision;
        }
    }

    /// Keys whose delete is the last that is kept of them.
    fn tombstones(&self) -> usize {
        let last: BTreeMap<_, _> = self.kept.iter().map(|it| (&it.key, it.kind)).collect();
        last.values().filter(|&&kind| kind != ChangeKind::Put).count()
    }
}

fn differences(
    before: &State,
    after: &State,
    revision: Revision,
    why_gone: ChangeKind,
) -> Vec<Change> {
    let key = |key: &Vec<u8>| Key::new(key.clone()).unwrap();
    let gone = before.iter().filter(|(key, _)| !after.contains_key(*key));
    let gone = gone.map(|(gone, record)| Change {
        revision,
        key: key(gone),
        kind: why_gone,
        record: None,
        previous: Some(record.clone()),
    });
    let put = after.iter().filter(|(key, record)| before.get(*key) != Some(record));
    let put = put.map(|(put, record)| Change {
        revision,
        key: key(put),
        kind: ChangeKind::Put,
        record: Some(record.clone()),
        previous: before.get(put).cloned(),
    });
    gone.chain(put).collect()
}

fn put_into(
    state: &mut State,
    key: &Key,
    value: &Bytes,
    revision: Revision,
    end: End,
) -> TxnResult {
    let before = state.get(key.as_bytes());
    let record = Record {
        create_revision: before.map_or(revision, |record| record.create_revision),
        mod_revision: revision,
        version: before.map_or(1, |record| record.version + 1),
        end,
        value: value.clone(),
    };
    let result =
        TxnResult::Put { create_revision: record.create_revision, version: record.version };
    state.insert(key.as_bytes().to_vec(), record);
    result
}

fn txn_operation(
    operation: &TxnOp,
    state: &mut State,
    revision: Revision,
    clock_ms: u64,
) -> TxnResult {
    let found = |range: &KeyRange, limit: usize, reverse: bool, keys_only: bool| {
        let within = state.iter().filter(|(key, _)| range.contains(key));
        let mut items: Vec<(Key, Record)> = within
            .map(|(key, record)| {
                let value = if keys_only { Bytes::new() } else { record.value.clone() };
                (Key::new(key.clone()).unwrap(), Record { value, ..record.clone() })
            })
            .collect();
        if reverse {
            items.reverse();
        }
        let has_more = items.len() > limit;
        items.truncate(limit);
        TxnResult::Found { items, has_more }
    };
    match operation {
        TxnOp::Put { key, value, lifetime } => {
            put_into(state, key, value, revision, end_of(*lifetime, clock_ms))
        }
        TxnOp::Get { key } => found(&KeyRange::only(key), 1, false, false),
        TxnOp::Range { range, limit, reverse, keys_only } => {
            found(range, *limit, *reverse, *keys_only)
        }
        TxnOp::Delete { range } => {
            let before = state.len();
            state.retain(|key, _| !range.contains(key));
            TxnResult::Deleted { count: (before - state.len()) as u64 }
        }
    }
}
