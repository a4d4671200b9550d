//! What a store has to be when it is as the model says.

use std::ops::ControlFlow;

use super::*;
use crate::storage::TreeId;
use crate::storage::kv::change::{ChangeEntry, decode_change};
use crate::storage::kv::{CHANGES, ChangeId, ChangeStep, KV, PastError, Version};

impl Model {
    /// The present, and how far the past reaches.
    pub fn check_present(&self, state: &KvSnapshot) {
        assert_eq!((state.revision(), state.oldest_revision()), (self.revision(), self.trimmed));
        assert_eq!(listed(state.records(&KeyRange::default(), false, false)), *self.present());
        self.check_sizes(state);
    }

    /// All of it.
    pub fn check(&self, state: &KvSnapshot) {
        self.check_present(state);
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

fn listed(records: crate::storage::kv::Records) -> State {
    let pairs = records.map(|pair| pair.expect("no I/O fails"));
    pairs.map(|(key, record)| (key.as_bytes().to_vec(), record)).collect()
}

pub fn contents(state: &KvSnapshot) -> Vec<Vec<(Bytes, Bytes)>> {
    TreeId::all().map(|tree| state.entries(tree).map(|entry| entry.unwrap()).collect()).collect()
}
