//! The past at its extremes: many versions, many keys, large records, tight limits.

use super::*;
use crate::storage::kv::{CHANGES, Change, ChangeKind, KV, PastError};

/// Puts `rounds` values to each of `keys` keys, in one commit; the value says its revision.
fn put_rounds(driver: &mut Driver, keys: usize, rounds: usize) {
    let first = driver.snapshot().revision() as usize + 1;
    let entries = (0..keys * rounds).map(|n| {
        let operation =
            put(&format!("k{:05}", n % keys), &format!("{}", first + n), Condition::None);
        driver.entry(None, operation)
    });
    let entries = entries.collect();
    driver.kv.apply(entries).expect("no I/O fails");
}

fn changes(state: &KvSnapshot, from: Revision) -> Vec<Change> {
    state.changes(from, true).expect("a kept revision").map(|change| change.unwrap()).collect()
}

fn check_put_rounds(state: &KvSnapshot, count: usize) {
    let changes = changes(state, 1);
    assert_eq!(changes.len(), count);
    for (change, revision) in changes.iter().zip(1..) {
        let record = change.record.as_ref().expect("a put");
        assert_eq!((change.revision, record.mod_revision), (revision, revision));
        assert_eq!(record.value, revision.to_string().as_bytes());
        assert_eq!(change.previous.is_some(), record.version > 1);
    }
}

#[test]
fn a_hot_key_tells_each_of_a_thousand_versions() {
    let mut driver = Driver::new();
    put_rounds(&mut driver, 1, 1_000);
    let state = driver.snapshot();
    check_put_rounds(&state, 1_000);
    assert_eq!(state.get_at(&key("k00000"), 0).unwrap(), None);
    for revision in 1..=1_000u64 {
        let record = state.get_at(&key("k00000"), revision).unwrap().unwrap();
        assert_eq!((record.version, record.mod_revision), (revision, revision));
        assert_eq!(record.value, revision.to_string().as_bytes());
    }
}

#[test]
fn changes_find_their_records_however_far_the_next_one_of_the_key_is() {
    for (keys, rounds) in [(3, 300), (1_000, 3), (5_000, 3)] {
        let mut driver = Driver::new();
        put_rounds(&mut driver, keys, rounds);
        check_put_rounds(&driver.snapshot(), keys * rounds);
    }
}

#[test]
fn tombstones_are_seen_by_nobody() {
    let mut driver = Driver::new();
    driver.apply(put("a", "1", Condition::None));
    let delete = |condition| Operation::Delete { key: key("a"), condition };
    driver.apply(delete(Condition::None));
    let state = driver.snapshot();
    assert_eq!(state.entries(KV).count(), 1, "there is a tombstone to see");
    assert_eq!(state.get(&key("a")).unwrap(), None);
    for (reverse, keys_only) in [(false, false), (true, true)] {
        assert!(state.records(&KeyRange::default(), reverse, keys_only).next().is_none());
        let at = state.records_at(&KeyRange::default(), 2, reverse, keys_only).unwrap();
        assert_eq!(at.count(), 0);
    }
    let failed = Outcome::ConditionFailed { current: None, revision: 2 };
    assert_eq!(driver.apply(put("a", "2", Condition::Present)), failed);
    assert_eq!(driver.apply(put("a", "2", Condition::ModRevision(2))), failed);
    assert_eq!(driver.apply(delete(Condition::Present)), failed);
    let nothing = Outcome::Deleted { count: 0, revision: 2 };
    assert_eq!(driver.apply(delete(Condition::Absent)), nothing);
    assert_eq!(driver.apply(Operation::DeleteRange { range: KeyRange::default() }), nothing);
    let created = Outcome::Put { revision: 3, create_revision: 3, version: 1 };
    assert_eq!(driver.apply(put("a", "2", Condition::Absent)), created);
    let told = changes(&driver.snapshot(), 3);
    assert_eq!((told.len(), &told[0].previous), (1, &None), "a put over a tombstone creates");
}

#[test]
fn a_range_of_ten_thousand_keys_is_deleted_and_told() {
    let mut driver = Driver::new();
    put_rounds(&mut driver, 10_000, 1);
    let range = KeyRange::prefix(&b"k"[..]);
    let deleted = driver.apply(Operation::DeleteRange { range: range.clone() });
    assert_eq!(deleted, Outcome::Deleted { count: 10_000, revision: 10_001 });
    driver.apply(put("k07777", "again", Condition::Absent));
    let state = driver.snapshot();
    assert_eq!(state.records(&range, false, false).count(), 1);
    assert_eq!(state.records_at(&range, 10_001, false, true).unwrap().count(), 0);
    assert_eq!(state.records_at(&range, 10_000, true, false).unwrap().count(), 10_000);
    assert_eq!(state.records_at(&range, 5_000, false, true).unwrap().count(), 5_000);
    let before = state.get_at(&key("k07777"), 10_000).unwrap().unwrap();
    assert_eq!(before.value, &b"7778"[..]);
    let told = changes(&state, 10_001);
    assert_eq!(told.len(), 10_001);
    for (change, n) in told[..10_000].iter().zip(0..) {
        assert_eq!((change.revision, change.kind), (10_001, ChangeKind::Delete));
        assert_eq!(change.key, key(&format!("k{n:05}")));
        assert_eq!(change.previous.as_ref().unwrap().mod_revision, n + 1);
    }
}

#[test]
fn a_delete_of_more_than_is_kept_ends_the_past() {
    for retention in [
        Retention { changes: 99, bytes: 1 << 30, age_ms: None },
        Retention { changes: 999, bytes: 1_500, age_ms: None },
    ] {
        let mut driver = Driver { kv: open_with(&MemDisk::new(), retention), next: 0 };
        driver.apply(put("z", "stays", Condition::None));
        driver.apply(put("zz", "goes", Condition::None));
        driver.apply(Operation::Delete { key: key("zz"), condition: Condition::None });
        put_rounds(&mut driver, 100, 1);
        let range = KeyRange::prefix(&b"k"[..]);
        let deleted = driver.apply(Operation::DeleteRange { range });
        assert_eq!(deleted, Outcome::Deleted { count: 100, revision: 104 });
        let state = driver.snapshot();
        assert_eq!((state.entries(KV).count(), state.entries(CHANGES).count()), (1, 0));
        assert_eq!(state.oldest_revision(), 104);
        assert_eq!(state.get_at(&key("z"), 104).unwrap().unwrap().value, &b"stays"[..]);
        assert!(matches!(state.get_at(&key("z"), 103), Err(PastError::Trimmed { oldest: 104 })));
        assert!(matches!(state.changes(104, false), Err(PastError::Trimmed { oldest: 105 })));
        assert_eq!(state.changes(105, false).unwrap().count(), 0);
    }
}

#[test]
fn large_records_and_long_keys_have_a_past() {
    let mut driver = Driver::new();
    let long = "l".repeat(MAX_KEY_BYTES);
    let value = |n: usize| [n as u8; 1].repeat(n * 300_000);
    for n in 1..=3 {
        for name in ["large", &long] {
            let value = value(n).into();
            driver.apply(Operation::Put {
                key: key(name),
                value,
                condition: Condition::None,
                lifetime: Lifetime::Unbounded,
            });
        }
    }
    driver.apply(Operation::DeleteRange { range: KeyRange::default() });
    let state = driver.snapshot();
    let told = changes(&state, 1);
    assert_eq!(told.len(), 8);
    for n in 1..=3 {
        for (name, revision) in [("large", 2 * n - 1), (&long, 2 * n)] {
            let record = state.get_at(&key(name), revision as u64).unwrap().unwrap();
            assert_eq!((record.version, &record.value[..]), (n as u64, &value(n)[..]));
            assert_eq!(told[revision - 1].record.as_ref(), Some(&record));
        }
    }
    let heads = state.records_at(&KeyRange::default(), 6, false, true).unwrap();
    let heads: Vec<(usize, u64)> = heads
        .map(|pair| pair.map(|(_, record)| (record.value.len(), record.mod_revision)).unwrap())
        .collect();
    assert_eq!(heads, [(0, 5), (0, 6)]);
    assert_eq!(told[7].previous, told[5].record, "the long key's");
}

#[test]
fn the_tombstone_of_a_long_key_goes_with_its_change() {
    let retention = Retention { changes: 1, bytes: 1 << 30, age_ms: None };
    let mut driver = Driver { kv: open_with(&MemDisk::new(), retention), next: 0 };
    let long = "l".repeat(MAX_KEY_BYTES);
    driver.apply(put(&long, &"v".repeat(5_000), Condition::None));
    driver.apply(Operation::Delete { key: key(&long), condition: Condition::None });
    assert_eq!(driver.snapshot().entries(KV).count(), 1);
    driver.apply(put("other", "", Condition::None));
    assert_eq!(driver.snapshot().entries(KV).count(), 1, "the other alone");
}

/// Small changes fill the limit on changes, then large ones come: a command trims in proportion
/// to what it adds, so bytes pass their limit for a while, but not twice it.
#[test]
fn the_work_of_trimming_and_what_stays_beyond_the_limit_are_bounded() {
    const LARGE: u64 = 25_000;
    let retention = Retention { changes: 1_024, bytes: 1 << 20, age_ms: None };
    let mut driver = Driver { kv: open_with(&MemDisk::new(), retention), next: 0 };
    put_rounds(&mut driver, 4, 512);
    let large = "x".repeat(LARGE as usize);
    driver.apply(put("large", &large, Condition::None));
    let mut most_bytes = 0;
    let mut before = driver.snapshot().entries(CHANGES).count();
    for _ in 0..200 {
        driver.apply(put("large", &large, Condition::None));
        let state = driver.snapshot();
        let count = state.entries(CHANGES).count();
        let share = (LARGE + 100) * retention.changes / retention.bytes;
        assert!(before + 1 - count <= 2 + share as usize + 8, "trimmed {before} to {count}");
        before = count;
        most_bytes = most_bytes.max(state.facts.change_bytes);
    }
    assert!(most_bytes > retention.bytes * 5 / 4, "the bound was put to the test: {most_bytes}");
    assert!(most_bytes <= 2 * retention.bytes + LARGE + 100, "{most_bytes}");
    let after = driver.snapshot().facts.change_bytes;
    assert!(after <= retention.bytes + retention.bytes / 256, "{after}");
}
