//! When records expire: by entries of the log and their clock, in bounded steps, alike wherever the log is applied.

use super::*;
use crate::storage::kv::{ChangeKind, DEADLINES};

fn put_for(text: &str, ttl_ms: u64) -> Operation {
    let (key, value) = (key(text), Bytes::from_static(b"v"));
    Operation::Put {
        key,
        value,
        condition: Condition::None,
        lifetime: Lifetime::Ttl { ms: ttl_ms },
    }
}

impl Driver {
    /// Applies an operation that a leader stamped with this clock.
    pub(super) fn apply_at(&mut self, time_ms: u64, operation: Operation) -> Outcome {
        let Payload::Command(command) = self.entry(None, operation).payload else { unreachable!() };
        let id = LogId { term: 1, index: self.next - 1 };
        let payload = Payload::Command(Command { time_ms, ..command });
        self.kv.apply(vec![Entry { id, payload }]).expect("no I/O fails").remove(0)
    }

    pub(super) fn deadlines(&self) -> usize {
        self.snapshot().entries(DEADLINES).count()
    }
}

fn expired(keys: u64, revision: u64) -> Outcome {
    Outcome::Expired { keys, leases: 0, revision }
}

#[test]
fn a_record_is_there_until_the_log_expires_it() {
    let mut driver = Driver::new();
    driver.apply_at(1_000, put_for("a", 500));
    assert_eq!(driver.snapshot().next_deadline_ms().unwrap(), Some(1_500));
    assert_eq!(driver.apply_at(1_499, Operation::Expire), expired(0, 1));
    // Its time is up, and no entry has said so yet.
    driver.apply_at(1_600, put("b", "", Condition::None));
    let before = driver.snapshot();
    assert_eq!(before.get(&key("a")).unwrap().unwrap().expires_at_ms(), Some(1_500));
    // The clock of the log does not go back with that of a leader.
    assert_eq!(driver.apply_at(7, Operation::Expire), expired(1, 3));
    assert_eq!(driver.value("a"), None);
    assert!(before.get(&key("a")).unwrap().is_some(), "a revision has one state");
    assert!(driver.snapshot().get_at(&key("a"), 2).unwrap().is_some());
    let state = driver.snapshot();
    assert_eq!(state.next_deadline_ms().unwrap(), None);
    let last = state.changes(3, true).unwrap().next().unwrap().unwrap();
    assert_eq!((last.kind, last.key, last.record), (ChangeKind::Expire, key("a"), None));
    assert_eq!(last.previous.unwrap().version, 1);
    let mut versions = state.versions(&key("a"), 3).unwrap();
    assert_eq!(versions.next().unwrap().unwrap().kind, ChangeKind::Expire);
    assert_eq!(driver.apply_at(1_600, Operation::Expire), expired(0, 3));
}

#[test]
fn the_last_put_decides_and_a_delete_forgets_the_deadline() {
    let mut driver = Driver::new();
    driver.apply_at(0, put_for("longer", 10));
    driver.apply_at(0, put_for("longer", 100));
    driver.apply_at(0, put_for("for good", 10));
    driver.apply_at(0, put("for good", "", Condition::None));
    driver.apply_at(0, put_for("gone", 10));
    driver.apply_at(0, Operation::Delete { key: key("gone"), condition: Condition::None });
    driver.apply_at(0, put_for("refused", 10));
    driver.apply_at(0, put("refused", "", Condition::Absent));
    assert_eq!(driver.deadlines(), 2);
    assert_eq!(driver.apply_at(50, Operation::Expire), expired(1, 8));
    assert!(driver.value("longer").is_some() && driver.value("for good").is_some());
    assert_eq!(driver.apply_at(100, Operation::Expire), expired(1, 9));
    assert_eq!((driver.value("longer"), driver.deadlines()), (None, 0));
    // The longest key has a deadline, too, and so has the longest time.
    let longest = "k".repeat(MAX_KEY_BYTES);
    driver.apply_at(u64::MAX - 1, put_for(&longest, MAX_TTL_MS));
    assert_eq!(driver.snapshot().next_deadline_ms().unwrap(), Some(u64::MAX));
}

#[test]
fn many_expire_in_steps_in_the_order_of_their_deadlines() {
    let mut driver = Driver::new();
    let count = 2 * EXPIRE_BATCH_KEYS + 10;
    for n in 0..count {
        driver.apply_at(0, put_for(&format!("{n:05}"), 1 + (count - n) as u64));
    }
    let batch = EXPIRE_BATCH_KEYS as u64;
    let revision = driver.snapshot().revision();
    assert_eq!(driver.apply_at(10_000, Operation::Expire), expired(batch, revision + 1));
    assert!(
        driver.value("00000").is_some() && driver.value(&format!("{:05}", count - 1)).is_none()
    );
    assert_eq!(driver.apply_at(10_000, Operation::Expire), expired(batch, revision + 2));
    assert_eq!(driver.apply_at(10_000, Operation::Expire), expired(10, revision + 3));
    assert_eq!(driver.apply_at(10_000, Operation::Expire), expired(0, revision + 3));
    assert_eq!(driver.snapshot().records(&KeyRange::default(), false, true).count(), 0);
}

#[test]
fn a_delete_of_more_than_the_past_holds_forgets_deadlines_and_no_others() {
    let retention = Retention { changes: 100, bytes: 1 << 30, age_ms: None };
    let mut driver = Driver { kv: open_with(&MemDisk::new(), retention), next: 0 };
    driver.apply_at(0, put_for("a", 10));
    for n in 0..700 {
        let name = format!("k{n:03}");
        driver.apply_at(
            0,
            if n % 2 == 0 { put_for(&name, 10) } else { put(&name, "", Condition::None) },
        );
    }
    driver.apply_at(0, put_for("z", 10));
    let range = KeyRange::prefix(&b"k"[..]);
    let deleted = Outcome::Deleted { count: 700, revision: 703 };
    assert_eq!(driver.apply_at(0, Operation::DeleteRange { range }), deleted);
    assert_eq!(driver.deadlines(), 2);
    assert_eq!(driver.apply_at(10, Operation::Expire), expired(2, 704));
}
