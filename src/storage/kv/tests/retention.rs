//! How long the past is kept: by number, by bytes, by age, and after a change of these.

use proptest::prelude::*;

use super::*;
use crate::storage::kv::{KV, SYSTEM};

const MANY: Retention = Retention { changes: 1 << 30, bytes: 1 << 30, age_ms: None };

fn aged(age_ms: u64) -> Retention {
    Retention { age_ms: Some(age_ms), ..MANY }
}

/// Applies entries with a clock.
struct Clocked {
    disk: MemDisk,
    kv: Kv,
    log: Vec<Entry>,
}

impl Clocked {
    fn new() -> Clocked {
        let disk = MemDisk::new();
        Clocked { kv: open(&disk), disk, log: Vec::new() }
    }

    fn apply(&mut self, time_ms: u64, operation: Operation) -> Outcome {
        let id = LogId { term: 1, index: self.log.len() as u64 };
        let command = Command { time_ms, request_id: None, operation };
        self.log.push(Entry { id, payload: Payload::Command(command) });
        let entry = self.log[self.log.len() - 1..].to_vec();
        self.kv.apply(entry).expect("no I/O fails").remove(0)
    }

    fn put(&mut self, time_ms: u64, value: &str) {
        let name = format!("k{}", self.log.len() % 7);
        let outcome = self.apply(time_ms, put(&name, value, Condition::None));
        assert!(matches!(outcome, Outcome::Put { .. }));
    }

    fn retain(&mut self, time_ms: u64, retention: Retention) {
        assert_eq!(self.apply(time_ms, Operation::Retain(retention)), Outcome::None);
    }

    fn state(&self) -> KvSnapshot {
        self.kv.reader().snapshot()
    }

    /// The revisions whose changes are kept.
    fn kept(&self) -> Vec<Revision> {
        let state = self.state();
        let changes = state.changes(state.oldest_revision() + 1, false).expect("kept");
        changes.map(|change| change.expect("no I/O fails").revision).collect()
    }
}

#[test]
fn the_retention_is_a_part_of_the_state() {
    let mut store = Clocked::new();
    assert_eq!(store.state().retention().unwrap(), Retention::default());
    let retention = Retention { changes: 3, bytes: 1 << 20, age_ms: Some(60_000) };
    store.retain(5, retention);
    (10..20).for_each(|time_ms| store.put(time_ms, "v"));
    assert_eq!(store.state().retention().unwrap(), retention);
    assert_eq!(store.kept(), [8, 9, 10]);

    let mut elsewhere = Clocked::new();
    install(store.state(), &mut elsewhere.kv);
    elsewhere.log = store.log.clone();
    elsewhere.put(30, "v");
    assert_eq!(elsewhere.kept(), [9, 10, 11], "an installed snapshot brings it along");

    let mut reopened = open(&store.disk.crash(PowerCut::KeepNone));
    reopened.apply(store.log.clone()).expect("no I/O fails");
    assert_eq!(reopened.reader().snapshot().facts(), store.state().facts());
    reopened.wipe().expect("no I/O fails");
    assert_eq!(reopened.reader().snapshot().retention().unwrap(), Retention::default());
}

#[test]
fn a_limit_that_is_lowered_is_reached_in_bounded_steps() {
    let mut store = Clocked::new();
    store.retain(1, MANY);
    let puts = 3 * crate::storage::kv::retention::RETAIN_TRIMS;
    (0..puts).for_each(|_| store.put(1, ""));
    assert_eq!(store.state().kept_changes().0, puts);
    let few = Retention { changes: 256, ..MANY };
    let mut steps = 0;
    while store.state().keeps_too_much(1).unwrap() || steps == 0 {
        let before = store.state().kept_changes().0;
        store.retain(1, few);
        let after = store.state().kept_changes().0;
        assert!(before - after <= crate::storage::kv::retention::RETAIN_TRIMS + 512);
        assert!(after < before, "{before} changes");
        steps += 1;
    }
    assert!(steps > 1, "{steps} steps");
    assert_eq!(store.state().kept_changes().0, 256);
}

#[test]
fn an_age_counts_from_when_it_is_set_and_ends_an_idle_past_too() {
    let mut store = Clocked::new();
    store.retain(0, MANY);
    (0..5).for_each(|time_ms| store.put(time_ms, "v"));
    store.apply(6, Operation::Delete { key: key("k1"), condition: Condition::None });
    store.retain(1_000, aged(64_000));
    assert!(!store.state().keeps_too_much(64_999).unwrap());
    assert!(store.state().keeps_too_much(65_000).unwrap());
    store.retain(64_999, aged(64_000));
    assert_eq!(store.kept().len(), 6, "no change is known to be older");
    store.retain(65_000, aged(64_000));
    assert_eq!(store.kept(), [0; 0]);
    assert_eq!(store.state().oldest_revision(), store.state().revision());
    assert!(!store.state().keeps_too_much(u64::MAX).unwrap(), "there is nothing left to trim");
    assert_eq!(store.state().entries(KV).count(), 4, "the tombstone went with its delete");

    store.put(70_000, "v");
    store.put(70_999, "v");
    store.put(71_000, "v");
    store.retain(70_000 + 1_000 + 64_000, aged(64_000));
    assert_eq!(store.kept(), [9], "what was made within a part of the age goes together");
    store.retain(200_000, MANY);
    assert_eq!(store.kept(), [9], "without an age it stays");
    assert_eq!(store.state().entries(SYSTEM).count(), 1, "and no mark is left");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Nothing younger than the age goes, nothing older than it and a part stays behind a command of the leader, and it
    /// does not matter how the log is cut into commits.
    #[test]
    fn the_past_ends_with_its_age(steps in proptest::collection::vec((0..400u64, any::<bool>()), 1..120)) {
        const AGE_MS: u64 = 6_400;
        let mut store = Clocked::new();
        store.retain(1, aged(AGE_MS));
        let mut made = Vec::new();
        let mut now_ms = 1;
        for (pause_ms, is_put) in steps {
            now_ms += pause_ms;
            if is_put {
                store.put(now_ms, "v");
                made.push((made.len() as u64 + 1, now_ms));
            } else {
                store.retain(now_ms, aged(AGE_MS));
            }
            let kept = store.kept();
            for (revision, time_ms) in &made {
                if now_ms < time_ms + AGE_MS {
                    prop_assert!(kept.contains(revision), "{revision} of {time_ms} at {now_ms}");
                }
                if now_ms >= time_ms + AGE_MS + AGE_MS / 64 {
                    prop_assert!(!kept.contains(revision), "{revision} of {time_ms} at {now_ms}");
                }
            }
            let marks = store.state().entries(SYSTEM).count() - 1;
            prop_assert!(marks <= 66, "{marks} marks");
            prop_assert!(!store.state().keeps_too_much(now_ms).unwrap());
        }
        let at_once = {
            let mut kv = open(&MemDisk::new());
            kv.apply(store.log.clone()).expect("no I/O fails");
            kv.reader().snapshot()
        };
        let state = store.state();
        prop_assert_eq!(at_once.facts(), state.facts());
        let system = |state: &KvSnapshot| state.entries(SYSTEM).map(Result::unwrap).collect::<Vec<_>>();
        prop_assert_eq!(system(&at_once), system(&state));
    }
}
