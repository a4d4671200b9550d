//! The store against a map for every revision.

mod draw;
mod leases;

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use proptest::prelude::*;

use self::draw::{Step, steps};
use self::leases::{Gone, Leases, end_of};
use super::*;
use crate::storage::TreeId;
use crate::storage::kv::change::{ChangeEntry, decode_change};
use crate::storage::kv::{
    CHANGES, Change, ChangeId, ChangeKind, ChangeStep, KV, PastError, Version,
};

type State = BTreeMap<Vec<u8>, Record>;

/// All states that the store had, and which changes it should still have.
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

    fn present(&self) -> &State {
        self.past.last().expect("there is always a state")
    }

    fn revision(&self) -> Revision {
        self.past.len() as u64 - 1
    }

    /// Applies an operation; tells the outcome of a transaction, and of what has to do with leases.
    fn apply(&mut self, operation: &Operation, time_ms: u64) -> Option<Outcome> {
        self.clock_ms = self.clock_ms.max(time_ms);
        if let Some(outcome) = self.apply_to_leases(operation) {
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

    fn check(&self, state: &KvSnapshot) {
        assert_eq!((state.revision(), state.oldest_revision()), (self.revision(), self.trimmed));
        assert_eq!(listed(state.records(&KeyRange::default(), false, false)), *self.present());
        for revision in 0..=self.revision() + 1 {
            let all = state.records_at(&KeyRange::default(), revision, false, false);
            let one = state.get_at(&Key::new(vec![7]).unwrap(), revision);
            if revision < self.trimmed {
                assert!(
                    matches!(all, Err(PastError::Trimmed { oldest }) if oldest == self.trimmed)
                );
                assert!(matches!(one, Err(PastError::Trimmed { .. })));
            } else if revision > self.revision() {
                assert!(
                    matches!(all, Err(PastError::Future { revision }) if revision == self.revision())
                );
                assert!(matches!(one, Err(PastError::Future { .. })));
            } else {
                assert_eq!(listed(all.unwrap()), self.past[revision as usize], "at {revision}");
                self.check_reads_at(state, revision);
            }
        }
        for from in 0..=self.revision() + 2 {
            self.check_changes(state, from);
        }
        self.check_sizes(state);
    }

    fn check_reads_at(&self, state: &KvSnapshot, revision: Revision) {
        let version = &self.past[revision as usize];
        for n in 0..24 {
            let key = Key::new(vec![n]).unwrap();
            let found = state.get_at(&key, revision).unwrap();
            assert_eq!(found.as_ref(), version.get(&vec![n]), "key {n} at {revision}");
            self.check_versions(state, &key, revision);
        }
        let range =
            KeyRange { start: Bytes::from_static(b"\x05"), end: Some(Bytes::from_static(b"\x0b")) };
        let keys_only = state.records_at(&range, revision, true, true).unwrap();
        let keys_only: Vec<_> = keys_only.map(|pair| pair.unwrap()).collect();
        let expected = version.iter().rev().filter(|(key, _)| range.contains(key));
        let expected: Vec<_> = expected
            .map(|(key, record)| {
                (Key::new(key.clone()).unwrap(), Record { value: Bytes::new(), ..record.clone() })
            })
            .collect();
        assert_eq!(keys_only, expected, "backwards at {revision}");
    }

    /// The kept changes of a key up to `revision`, and the record that the oldest of them replaced.
    fn check_versions(&self, state: &KvSnapshot, key: &Key, revision: Revision) {
        let mut walk = state.versions(key, revision).unwrap();
        let found: Vec<Version> = walk.by_ref().map(|version| version.unwrap()).collect();
        let is_of = |change: &&Change| change.key == *key && change.revision <= revision;
        let changes = self.kept.iter().filter(is_of).filter(|it| it.revision > self.trimmed);
        let mut expected: Vec<Version> = changes
            .map(|it| Version { revision: it.revision, kind: it.kind, record: it.record.clone() })
            .collect();
        let before = self.past[self.trimmed as usize].get(key.as_bytes());
        expected.splice(
            0..0,
            before.map(|record| Version {
                revision: record.mod_revision,
                kind: ChangeKind::Put,
                record: Some(record.clone()),
            }),
        );
        expected.reverse();
        assert_eq!(found, expected, "of {key} up to {revision}");
        assert_eq!(walk.is_cut(), self.trimmed > 0, "of {key} up to {revision}");
    }

    fn check_changes(&self, state: &KvSnapshot, from: Revision) {
        let found = state.changes(from, from.is_multiple_of(2));
        if from.max(1) <= self.trimmed {
            let oldest_kept = self.trimmed + 1;
            assert!(matches!(found, Err(PastError::Trimmed { oldest }) if oldest == oldest_kept));
        } else if from > self.revision() + 1 {
            assert!(
                matches!(found, Err(PastError::Future { revision }) if revision == self.revision())
            );
        } else {
            let found: Vec<Change> = found.unwrap().map(|change| change.unwrap()).collect();
            let expected = self.kept.iter().filter(|change| change.revision >= from).cloned();
            let expected: Vec<Change> = match from.is_multiple_of(2) {
                true => expected.collect(),
                false => expected.map(|change| Change { previous: None, ..change }).collect(),
            };
            assert_eq!(found, expected, "from {from}");
            self.check_wanted(state, from);
        }
    }

    /// A walk over some keys that is broken off after every few steps, and goes on from there.
    fn check_wanted(&self, state: &KvSnapshot, from: Revision) {
        let wanted =
            |key: &[u8]| key.iter().map(|byte| u64::from(*byte)).sum::<u64>() % 3 != from % 3;
        let expected = self.kept.iter().filter(|it| it.revision >= from);
        let expected: Vec<Change> =
            expected.filter(|it| wanted(it.key.as_bytes())).cloned().collect();
        let (mut found, mut at) = (Vec::new(), ChangeId { revision: from.max(1), ordinal: 0 });
        for steps in (1..4).cycle() {
            let mut walk = state.changes_from(at, true).unwrap();
            let taken: Vec<ChangeStep> =
                (0..steps).map(|_| walk.next_wanted(wanted).unwrap()).collect();
            let is_over = taken.iter().any(|step| matches!(step, ChangeStep::End));
            found.extend(taken.into_iter().filter_map(|step| match step {
                ChangeStep::Change(change) => Some(change),
                ChangeStep::Nothing | ChangeStep::End => None,
            }));
            let through = walk.through(wanted).unwrap();
            at = walk.at();
            let is_through = |change: &&Change| change.revision <= through;
            let told = expected.iter().filter(is_through).count();
            assert_eq!(found.iter().filter(is_through).count(), told, "through with {through}");
            if is_over {
                break;
            }
        }
        assert_eq!(found, expected, "from {from}");
        assert_eq!(at, ChangeId { revision: state.revision() + 1, ordinal: 0 });
    }

    fn check_sizes(&self, state: &KvSnapshot) {
        let live = self.present().len();
        self.check_indexes(state);
        assert_eq!(state.entries(KV).count(), live + self.tombstones());
        assert_eq!(state.entries(CHANGES).count(), self.kept.len());
        let bytes: usize = state.entries(CHANGES).map(|entry| entry.unwrap().1.len()).sum();
        assert_eq!(state.facts.change_bytes, bytes as u64);
        let seen = state.entries(CHANGES).visit(|entry| {
            let ChangeEntry { replaced, .. } = decode_change(entry.value().unwrap()).unwrap();
            let is_older = |at: Revision| at < state.revision();
            assert!(replaced.is_none_or(|replaced| is_older(replaced.record.mod_revision)));
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(seen.unwrap(), None);
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

fn listed(records: crate::storage::kv::Records) -> State {
    let pairs = records.map(|pair| pair.expect("no I/O fails"));
    pairs.map(|(key, record)| (key.as_bytes().to_vec(), record)).collect()
}

fn contents(state: &KvSnapshot) -> Vec<Vec<(Bytes, Bytes)>> {
    TreeId::all().map(|tree| state.entries(tree).map(|entry| entry.unwrap()).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The store is a map for each revision, as far back as it keeps changes. After a crash it is the state of
    /// the last checkpoint, and the log brings the rest back; on another node a snapshot does.
    #[test]
    fn the_store_is_a_map_with_revisions_and_a_past(steps in steps(), changes in prop_oneof![3..40u64, Just(1_000)]) {
        let retention = Retention { changes, bytes: u64::MAX, age_ms: None };
        let mut disk = MemDisk::new();
        let mut kv = open_with(&disk, retention);
        let mut log: Vec<Entry> = Vec::new();
        let mut model = Model::new(changes);
        for step in steps {
            match step {
                Step::Checkpoint => checkpoint(&mut kv),
                Step::Crash => {
                    drop(kv);
                    disk = disk.crash(PowerCut::KeepNone);
                    kv = open_with(&disk, retention);
                    kv.apply(log.clone()).expect("no I/O fails");
                }
                Step::Install => {
                    disk = MemDisk::new();
                    let mut target = open_with(&disk, retention);
                    install(kv.reader().snapshot(), &mut target);
                    kv = target;
                }
                Step::Do(operation, time_ms) => {
                    let operation = model.leases.name(operation);
                    let expected = model.apply(&operation, time_ms);
                    let id = LogId { term: 1, index: log.len() as u64 };
                    let command = Command { time_ms, request_id: None, operation };
                    log.push(Entry { id, payload: Payload::Command(command) });
                    let outcome = kv.apply(log[log.len() - 1..].to_vec()).expect("no I/O fails");
                    match (&log[log.len() - 1].payload, &outcome[0]) {
                        (Payload::Command(Command { operation: Operation::LeaseGrant { ttl_ms }, .. }), granted) => {
                            model.grant(*ttl_ms, granted)
                        }
                        _ => prop_assert!(expected.is_none_or(|expected| outcome == [expected])),
                    }
                }
            }
        }
        let state = kv.reader().snapshot();
        model.check(&state);
        // However the log is cut into commits, what comes of it is the same.
        let mut at_once = open_with(&MemDisk::new(), retention);
        at_once.apply(log).expect("no I/O fails");
        let at_once = at_once.reader().snapshot();
        prop_assert_eq!(at_once.facts(), state.facts());
        prop_assert_eq!(contents(&at_once), contents(&state));
    }
}
