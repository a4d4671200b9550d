//! The state machine against its rules; in `model` against a model, in `past` what it tells of the past,
//! in `deadlines` when records expire, in `leases` how they end together, in `retention` how long the past is kept.

mod deadlines;
mod leases;
mod model;
mod past;
mod retention;

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::retention::Policy;
use super::{Entry, Kv, KvSnapshot, Payload, sessions::MAX_SESSIONS};
use crate::storage::backup::{Export, Import, ImportError};
use crate::storage::disk::{Calls, Disk, Fault, MemDisk, PowerCut};
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
    Operation::Put { key: key(text), value, condition, lifetime: Lifetime::Unbounded }
}

fn open_with(disk: &MemDisk, retention: Retention) -> Kv {
    let kv = open(disk);
    let policy = Policy::of(&kv.store.snapshot(), retention).expect("no I/O fails");
    Kv { policy, unset: retention, ..kv }
}

/// Carries a state over to another store; returns the last entry that it holds.
fn install(source: KvSnapshot, target: &mut Kv) -> Option<LogId> {
    let mut import = Import::begin(target, 1).expect("no I/O fails");
    for (sequence, piece) in pieces(source).into_iter().enumerate() {
        import.take_piece(sequence as u64, piece).expect("a good piece");
    }
    let last = import.finish().expect("all pieces").last;
    import.install(target).expect("no I/O fails");
    last
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
        let entry = Bytes::from(name.to_string());
        let membership = Payload::Membership { entry, members: vec![] };
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

    let last = install(source.snapshot(), &mut target.kv);
    assert_eq!(last, source.snapshot().applied());

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
    assert_eq!(incoming(&disk), None);
}

/// A file that a transfer left on the disk.
fn incoming(disk: &MemDisk) -> Option<String> {
    disk.contents().into_keys().find(|name| name.starts_with("incoming-"))
}

#[test]
fn a_transfer_that_cannot_begin_leaves_no_file() {
    let disk = MemDisk::new();
    let kv = open(&disk);
    let mut refused = 0;
    for call in 0.. {
        disk.fail(Calls::All, call, Fault::Error(io::ErrorKind::StorageFull));
        let begun = Import::begin(&kv, call);
        let was_met = disk.faults_left() == 0;
        disk.clear_faults();
        let begun = begun.map(drop).is_ok(); // one that was begun is given up
        assert_eq!(incoming(&disk), None, "call {call}");
        if !was_met {
            assert!(begun, "call {call}");
            break;
        }
        refused += u64::from(!begun);
    }
    assert!(refused > 5, "{refused} calls were made to fail");
}

#[test]
fn commands_of_one_entry_are_all_applied_and_skipped_together_when_it_comes_again() {
    let mut driver = Driver::new();
    let entries: Vec<Entry> = (0..40)
        .map(|n| Entry {
            id: LogId { term: 1, index: 7 },
            ..driver.entry(None, put(&format!("k{}", n % 3), &n.to_string(), Condition::None))
        })
        .collect();
    let outcomes = driver.kv.apply(entries.clone()).expect("no I/O fails");
    let revisions = outcomes.iter().map(|outcome| match outcome {
        Outcome::Put { revision, .. } => *revision,
        other => panic!("a put came to {other:?}"),
    });
    assert_eq!(revisions.collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
    assert_eq!(driver.value("k0").as_deref(), Some(&b"39"[..]));
    let before = driver.snapshot();
    let again = driver.kv.apply(entries).expect("no I/O fails");
    assert_eq!(again, vec![Outcome::None; 40]);
    assert_eq!(driver.snapshot().revision(), before.revision());
}
