//! The state machine against its rules and against a model.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Entry, Kv, KvSnapshot, Payload, sessions::MAX_SESSIONS};
use crate::storage::backup::{Export, Import, ImportError};
use crate::storage::disk::{Disk, MemDisk, PowerCut};
use crate::storage::store::StoreOptions;
use crate::types::*;

fn open(disk: &MemDisk) -> Kv {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Kv::open(disk, StoreOptions { cache_bytes: 1 << 20 }).expect("a healthy disk")
}

fn key(text: &str) -> Key {
    Key::new(Bytes::copy_from_slice(text.as_bytes())).expect("a short key")
}

fn put(text: &str, value: &str, condition: Condition) -> Operation {
    let value = Bytes::copy_from_slice(value.as_bytes());
    Operation::Put { key: key(text), value, condition }
}

/// Applies operations one after the other, with the next log indexes.
struct Driver {
    kv: Kv,
    next: u64,
}

impl Driver {
    fn new() -> Driver {
        Driver { kv: open(&MemDisk::new()), next: 0 }
    }

    fn entry(&mut self, request_id: Option<RequestId>, operation: Operation) -> Entry {
        let id = LogId { term: 1, index: self.next };
        self.next += 1;
        Entry { id, payload: Payload::Command(Command { time_ms: 0, request_id, operation }) }
    }

    fn apply_as(&mut self, client: Option<(&str, u64)>, operation: Operation) -> Outcome {
        let request_id =
            client.map(|(client, sequence)| RequestId { client: client.into(), sequence });
        let entry = self.entry(request_id, operation);
        self.kv.apply(vec![entry]).expect("no I/O fails").remove(0)
    }

    fn apply(&mut self, operation: Operation) -> Outcome {
        self.apply_as(None, operation)
    }

    fn snapshot(&self) -> KvSnapshot {
        self.kv.reader().snapshot()
    }

    fn value(&self, text: &str) -> Option<Bytes> {
        self.snapshot().get(&key(text)).expect("a read").map(|record| record.value)
    }
}

fn checkpoint(kv: &mut Kv) {
    if let Some(checkpoint) = kv.begin_checkpoint().expect("no I/O fails") {
        kv.finish_checkpoint(checkpoint.write()).expect("no I/O fails");
    }
}

#[test]
fn revisions_count_writes_and_versions_count_within_a_life_of_a_key() {
    let mut driver = Driver::new();
    let put_outcome =
        |revision, create_revision, version| Outcome::Put { revision, create_revision, version };
    assert_eq!(driver.apply(put("a", "1", Condition::None)), put_outcome(1, 1, 1));
    assert_eq!(driver.apply(put("b", "1", Condition::None)), put_outcome(2, 2, 1));
    assert_eq!(driver.apply(put("a", "2", Condition::None)), put_outcome(3, 1, 2));
    let delete = Operation::Delete { key: key("a"), condition: Condition::None };
    assert_eq!(driver.apply(delete.clone()), Outcome::Deleted { count: 1, revision: 4 });
    // A delete of nothing makes no revision.
    assert_eq!(driver.apply(delete), Outcome::Deleted { count: 0, revision: 4 });
    assert_eq!(driver.apply(put("a", "3", Condition::None)), put_outcome(5, 5, 1));
}

#[test]
fn conditions_decide_and_a_failed_one_changes_nothing() {
    let mut driver = Driver::new();
    let failed = |current, revision| Outcome::ConditionFailed { current, revision };
    assert_eq!(driver.apply(put("a", "1", Condition::Present)), failed(None, 0));
    assert!(matches!(driver.apply(put("a", "1", Condition::Absent)), Outcome::Put { .. }));
    assert_eq!(driver.apply(put("a", "2", Condition::Absent)), failed(Some(1), 1));
    assert_eq!(driver.apply(put("a", "2", Condition::ModRevision(9))), failed(Some(1), 1));
    assert!(matches!(driver.apply(put("a", "2", Condition::ModRevision(1))), Outcome::Put { .. }));
    let delete = Operation::Delete { key: key("a"), condition: Condition::ModRevision(1) };
    assert_eq!(driver.apply(delete), failed(Some(2), 2));
    assert_eq!(driver.value("a").as_deref(), Some(&b"2"[..]));
}

#[test]
fn a_range_delete_is_one_revision() {
    let mut driver = Driver::new();
    for text in ["a", "p/1", "p/2", "p/3", "q"] {
        driver.apply(put(text, "x", Condition::None));
    }
    let range = KeyRange::prefix(&b"p/"[..]);
    let deleted = driver.apply(Operation::DeleteRange { range: range.clone() });
    assert_eq!(deleted, Outcome::Deleted { count: 3, revision: 6 });
    assert_eq!(
        driver.apply(Operation::DeleteRange { range }),
        Outcome::Deleted { count: 0, revision: 6 }
    );
    let empty = KeyRange { start: Bytes::from_static(b"z"), end: Some(Bytes::from_static(b"a")) };
    let nothing = driver.apply(Operation::DeleteRange { range: empty });
    assert_eq!(nothing, Outcome::Deleted { count: 0, revision: 6 });
    assert!(driver.value("a").is_some() && driver.value("q").is_some());
}

#[test]
fn a_retried_request_is_applied_once_and_an_older_one_is_refused() {
    let mut driver = Driver::new();
    let first = driver.apply_as(Some(("c", 1)), put("a", "1", Condition::Absent));
    // The retry would fail its condition if it were applied again.
    assert_eq!(driver.apply_as(Some(("c", 1)), put("a", "1", Condition::Absent)), first);
    driver.apply_as(Some(("c", 2)), put("a", "2", Condition::None));
    let late = driver.apply_as(Some(("c", 1)), put("a", "1", Condition::None));
    assert_eq!(late, Outcome::Superseded { last_sequence: 2 });
    assert_eq!(driver.value("a").as_deref(), Some(&b"2"[..]));
    // Another client's numbers are its own.
    let other = driver.apply_as(Some(("d", 1)), put("a", "3", Condition::None));
    assert!(matches!(other, Outcome::Put { version: 3, .. }));
}

#[test]
fn sessions_are_bounded_and_the_one_idle_longest_is_forgotten() {
    let mut driver = Driver::new();
    let fill: Vec<Entry> = (0..MAX_SESSIONS)
        .map(|client| {
            let request_id = RequestId { client: format!("c{client}"), sequence: 1 };
            driver.entry(Some(request_id), put("a", "x", Condition::None))
        })
        .collect();
    driver.kv.apply(fill).expect("no I/O fails");
    // c0 writes again, so c1 is the oldest when one more comes.
    let revision = |outcome| match outcome {
        Outcome::Put { revision, .. } => revision,
        other => panic!("{other:?}"),
    };
    driver.apply_as(Some(("c0", 2)), put("a", "x", Condition::None));
    driver.apply_as(Some(("new", 1)), put("a", "x", Condition::None));
    let last = driver.snapshot().revision();
    let kept = driver.apply_as(Some(("c2", 1)), put("a", "x", Condition::None));
    assert!(revision(kept) < last, "c2 was forgotten");
    let forgotten = driver.apply_as(Some(("c1", 1)), put("a", "x", Condition::None));
    assert_eq!(revision(forgotten), last + 1, "c1 was not forgotten");
}

#[test]
fn the_log_replays_after_a_crash_and_nothing_is_applied_twice() {
    let disk = MemDisk::new();
    let mut driver = Driver { kv: open(&disk), next: 0 };
    let entries: Vec<Entry> =
        (0..20).map(|n| driver.entry(None, put("a", &n.to_string(), Condition::None))).collect();
    driver.kv.apply(entries[..10].to_vec()).expect("no I/O fails");
    checkpoint(&mut driver.kv);
    driver.kv.apply(entries[10..].to_vec()).expect("no I/O fails");
    drop(driver);

    let mut kv = open(&disk.crash(PowerCut::KeepNone));
    let state = kv.reader().snapshot();
    assert_eq!(state.applied(), Some(LogId { term: 1, index: 9 }));
    assert_eq!(state.revision(), 10);
    kv.apply(entries).expect("no I/O fails");
    let record = kv.reader().snapshot().get(&key("a")).unwrap().unwrap();
    assert_eq!((record.version, record.mod_revision), (20, 20));
}

#[test]
fn the_last_membership_is_kept_with_its_place() {
    let mut driver = Driver::new();
    for name in ["one", "two"] {
        let id = LogId { term: 2, index: driver.next };
        driver.next += 1;
        let membership = Payload::Membership(Bytes::from(name.to_string()));
        driver.kv.apply(vec![Entry { id, payload: membership }]).expect("no I/O fails");
    }
    let stored = driver.snapshot().membership().unwrap();
    assert_eq!(stored, Some((LogId { term: 2, index: 1 }, Bytes::from_static(b"two"))));
}

fn pieces(state: KvSnapshot) -> Vec<Bytes> {
    let mut export = Export::new(state);
    std::iter::from_fn(|| export.next_piece().expect("no I/O fails")).map(Bytes::from).collect()
}

fn filled() -> Driver {
    let mut driver = Driver::new();
    for n in 0..500u32 {
        let value = "v".repeat(n as usize * 7);
        driver.apply_as(Some(("c", u64::from(n))), put(&format!("k{n}"), &value, Condition::None));
    }
    driver.apply(put("large", &"x".repeat(3 << 20), Condition::None));
    driver.apply(put("empty", "", Condition::None));
    driver
}

#[test]
fn a_snapshot_carries_everything_to_another_store() {
    let source = filled();
    let disk = MemDisk::new();
    let mut target = Driver { kv: open(&disk), next: 0 };
    target.apply(put("old", "state", Condition::None));
    let held = target.snapshot();

    let mut import = Import::begin(&target.kv, 1).expect("no I/O fails");
    for (sequence, piece) in pieces(source.snapshot()).into_iter().enumerate() {
        import.take_piece(sequence as u64, piece).expect("a good piece");
    }
    let last = import.finish().expect("all pieces").last;
    assert_eq!(last, source.snapshot().applied());
    import.install(&mut target.kv).expect("no I/O fails");

    let all = |state: KvSnapshot| -> Vec<(Key, Record)> {
        state.records(&KeyRange::default(), false, false).map(|pair| pair.unwrap()).collect()
    };
    assert_eq!(all(target.snapshot()), all(source.snapshot()));
    // Sessions came along: a retry is still known as one.
    target.next = source.next;
    let retried = target.apply_as(Some(("c", 499)), put("k499", "again", Condition::None));
    assert!(matches!(retried, Outcome::Put { version: 1, .. }));
    // A state that was pinned before the install stays readable, and the new one is durable.
    assert!(held.get(&key("old")).unwrap().is_some());
    drop((target, held));
    let reopened = open(&disk.crash(PowerCut::KeepNone));
    assert_eq!(all(reopened.reader().snapshot()), all(source.snapshot()));
}

#[test]
fn a_damaged_reordered_or_cut_snapshot_is_refused_and_leaves_no_file() {
    let source = filled();
    let good = pieces(source.snapshot());
    let disk = MemDisk::new();
    let kv = open(&disk);
    let feed = |pieces: &[Bytes]| -> Result<(), ImportError> {
        let mut import = Import::begin(&kv, 7).expect("no I/O fails");
        for (sequence, piece) in pieces.iter().enumerate() {
            import.take_piece(sequence as u64, piece.clone())?;
        }
        import.finish().map(|_| ())
    };
    feed(&good).expect("the good pieces");
    for at in 0..good.len() {
        let mut missing = good.clone();
        missing.remove(at);
        assert!(feed(&missing).is_err(), "piece {at} is missing");
        let mut damaged = good.clone();
        let mut bytes = damaged[at].to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        damaged[at] = bytes.into();
        assert!(feed(&damaged).is_err(), "piece {at} is damaged");
    }
    let leftover = disk.contents().into_keys().find(|name| name.starts_with("incoming-"));
    assert_eq!(leftover, None);
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, Vec<u8>, Condition),
    Delete(u8),
    DeleteRange(u8, u8),
    Checkpoint,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let condition = prop_oneof![
        4 => Just(Condition::None),
        1 => Just(Condition::Absent),
        1 => Just(Condition::Present),
        1 => (1..40u64).prop_map(Condition::ModRevision),
    ];
    let step = prop_oneof![
        8 => (0..24u8, proptest::collection::vec(any::<u8>(), 0..200), condition)
            .prop_map(|(key, value, condition)| Step::Put(key, value, condition)),
        3 => (0..24u8).prop_map(Step::Delete),
        1 => (0..24u8, 0..24u8).prop_map(|(a, b)| Step::DeleteRange(a, b)),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The store behaves like a map with revisions; after a crash it is the state of the last checkpoint,
    /// and the log brings the rest back.
    #[test]
    fn the_store_is_a_map_with_revisions(steps in steps()) {
        let mut disk = MemDisk::new();
        let mut kv = open(&disk);
        let mut log: Vec<Entry> = Vec::new();
        let mut model: BTreeMap<Vec<u8>, Record> = BTreeMap::new();
        let mut revision = 0;
        for step in steps {
            let operation = match step {
                Step::Checkpoint => { checkpoint(&mut kv); continue }
                Step::Crash => {
                    drop(kv);
                    disk = disk.crash(PowerCut::KeepNone);
                    kv = open(&disk);
                    kv.apply(log.clone()).expect("no I/O fails");
                    continue;
                }
                Step::Put(n, value, condition) => {
                    let current = model.get(&[n][..]).map(|record| record.mod_revision);
                    if condition.holds(current) {
                        revision += 1;
                        let before = model.get(&[n][..]);
                        let record = Record {
                            create_revision: before.map_or(revision, |r| r.create_revision),
                            mod_revision: revision,
                            version: before.map_or(1, |r| r.version + 1),
                            expires_at_ms: None,
                            value: Bytes::from(value.clone()),
                        };
                        model.insert(vec![n], record);
                    }
                    let key = Key::new(vec![n]).unwrap();
                    Operation::Put { key, value: value.into(), condition }
                }
                Step::Delete(n) => {
                    revision += u64::from(model.remove(&[n][..]).is_some());
                    Operation::Delete { key: Key::new(vec![n]).unwrap(), condition: Condition::None }
                }
                Step::DeleteRange(start, end) => {
                    let gone: Vec<_> =
                        model.keys().filter(|k| k[0] >= start && k[0] < end).cloned().collect();
                    revision += u64::from(!gone.is_empty());
                    gone.iter().for_each(|key| { model.remove(key); });
                    let range = KeyRange {
                        start: Bytes::from(vec![start]),
                        end: Some(Bytes::from(vec![end])),
                    };
                    Operation::DeleteRange { range }
                }
            };
            let id = LogId { term: 1, index: log.len() as u64 };
            let command = Command { time_ms: 0, request_id: None, operation };
            log.push(Entry { id, payload: Payload::Command(command) });
            kv.apply(log[log.len() - 1..].to_vec()).expect("no I/O fails");
        }
        let state = kv.reader().snapshot();
        prop_assert_eq!(state.revision(), revision);
        for reverse in [false, true] {
            let found: Vec<(Vec<u8>, Record)> = state
                .records(&KeyRange::default(), reverse, false)
                .map(|pair| pair.map(|(key, record)| (key.as_bytes().to_vec(), record)).unwrap())
                .collect();
            let mut expected: Vec<_> = model.clone().into_iter().collect();
            if reverse { expected.reverse() }
            prop_assert_eq!(found, expected);
        }
    }
}
