//! Leases: whose keys end together, at once and whole, alike wherever the log is applied.

use super::*;
use crate::storage::kv::ChangeKind;

/// A put that lasts as long as a lease.
fn put_with(text: &str, id: LeaseId) -> Operation {
    let (key, value) = (key(text), Bytes::from_static(b"v"));
    Operation::Put { key, value, condition: Condition::None, lifetime: Lifetime::Lease(id) }
}

impl Driver {
    fn grant_at(&mut self, time_ms: u64, ttl_ms: u64) -> LeaseId {
        match self.apply_at(time_ms, Operation::LeaseGrant { ttl_ms }) {
            Outcome::Lease(Lease { id, .. }) => id,
            other => panic!("{other:?}"),
        }
    }

    fn lease(&self, id: LeaseId) -> Option<Lease> {
        self.snapshot().lease(id).expect("a read")
    }
}

#[test]
fn the_keys_of_a_lease_end_with_it_in_one_revision_and_not_before() {
    let mut driver = Driver::new();
    let id = driver.grant_at(1_000, 500);
    assert_eq!(driver.snapshot().revision(), 0, "a grant takes no revision");
    driver.apply_at(1_000, put_with("a", id));
    driver.apply_at(1_000, put_with("b", id));
    driver.apply_at(1_000, put("other", "", Condition::None));
    // Alive again at its very deadline: nothing has ended it.
    let kept = driver.apply_at(1_500, Operation::LeaseKeepAlive { id });
    let lease = Lease { id, ttl_ms: 500, expires_at_ms: 2_000, keys: 2 };
    assert_eq!((kept, driver.lease(id)), (Outcome::Lease(lease), Some(lease)));
    let nothing = Outcome::Expired { keys: 0, leases: 0, revision: 3 };
    assert_eq!(driver.apply_at(1_999, Operation::Expire), nothing);
    let before = driver.snapshot();
    let ended = Outcome::Expired { keys: 2, leases: 1, revision: 4 };
    assert_eq!(driver.apply_at(2_000, Operation::Expire), ended);
    let state = driver.snapshot();
    let changes: Vec<_> = state.changes(4, true).unwrap().map(|change| change.unwrap()).collect();
    let told: Vec<_> = changes.iter().map(|it| (it.revision, it.kind, it.key.clone())).collect();
    let expired = |text| (4, ChangeKind::Expire, key(text));
    assert_eq!(told, [expired("a"), expired("b")]);
    assert_eq!(changes[0].previous.as_ref().unwrap().lease(), Some(id));
    assert!(before.get(&key("a")).unwrap().is_some() && driver.value("other").is_some());
    assert_eq!((driver.lease(id), driver.deadlines()), (None, 0));
    // What is gone stays gone.
    for operation in
        [Operation::LeaseKeepAlive { id }, Operation::LeaseRevoke { id }, put_with("a", id)]
    {
        assert_eq!(driver.apply_at(2_000, operation), Outcome::NoLease(id));
    }
    assert_eq!(driver.snapshot().revision(), 4);
}

#[test]
fn a_revoked_lease_deletes_its_keys_and_an_empty_one_takes_no_revision() {
    let mut driver = Driver::new();
    let (id, empty) = (driver.grant_at(0, 500), driver.grant_at(0, 500));
    assert_ne!(id, empty);
    driver.apply_at(0, put_with("b", id));
    driver.apply_at(0, put_with("a", id));
    let revoked = driver.apply_at(0, Operation::LeaseRevoke { id });
    assert_eq!(revoked, Outcome::Deleted { count: 2, revision: 3 });
    let state = driver.snapshot();
    let kinds = state.changes(3, false).unwrap().map(|change| change.unwrap().kind);
    assert_eq!(kinds.collect::<Vec<_>>(), [ChangeKind::Delete; 2]);
    let revoked = driver.apply_at(0, Operation::LeaseRevoke { id: empty });
    assert_eq!(revoked, Outcome::Deleted { count: 0, revision: 3 });
    assert_eq!((driver.snapshot().lease_count(), driver.deadlines()), (0, 0));
}

#[test]
fn the_last_put_decides_which_lease_a_key_ends_with() {
    let mut driver = Driver::new();
    let (first, second) = (driver.grant_at(0, 100), driver.grant_at(0, 200));
    for text in ["stays", "moves", "for good", "own time", "deleted"] {
        driver.apply_at(0, put_with(text, first));
    }
    driver.apply_at(0, put_with("moves", second));
    driver.apply_at(0, put("for good", "", Condition::None));
    let lifetime = Lifetime::Ttl { ms: 300 };
    let (value, condition) = (Bytes::new(), Condition::None);
    driver.apply_at(0, Operation::Put { key: key("own time"), value, condition, lifetime });
    driver.apply_at(0, Operation::Delete { key: key("deleted"), condition });
    let keys = |driver: &Driver, id| driver.lease(id).map(|lease| lease.keys);
    assert_eq!((keys(&driver, first), keys(&driver, second)), (Some(1), Some(1)));
    driver.apply_at(100, Operation::Expire);
    let left = ["stays", "moves", "for good", "own time"].map(|text| driver.value(text).is_some());
    assert_eq!(left, [false, true, true, true]);
    driver.apply_at(300, Operation::Expire);
    let left = ["moves", "for good", "own time"].map(|text| driver.value(text).is_some());
    assert_eq!((left, driver.snapshot().lease_count()), ([false, true, false], 0));
}

#[test]
fn a_transaction_is_all_or_nothing_also_with_leases() {
    let mut driver = Driver::new();
    let id = driver.grant_at(0, 100);
    let none = LeaseId::new(u64::MAX).expect("not 0");
    let put = |text, id| TxnOp::Put {
        key: key(text),
        value: Bytes::new(),
        lifetime: Lifetime::Lease(id),
    };
    let txn = |success| Operation::Txn(Txn::new(vec![], success, vec![put("c", none)]).unwrap());
    let refused = driver.apply_at(0, txn(vec![put("a", id), put("b", none)]));
    assert_eq!((refused, driver.snapshot().revision()), (Outcome::NoLease(none), 0));
    // A lease that is missing in the branch that is not taken is nobody's business.
    let done = driver.apply_at(0, txn(vec![put("a", id), put("b", id)]));
    assert!(matches!(done, Outcome::Txn { succeeded: true, revision: 1, .. }), "{done:?}");
    assert_eq!(driver.lease(id).map(|lease| lease.keys), Some(2));
}

#[test]
fn a_lease_has_so_many_keys_and_ends_with_all_of_them_at_once() {
    let mut driver = Driver::new();
    let id = driver.grant_at(0, 100);
    let name = |n: u64| format!("{n:05}");
    let puts: Vec<Entry> =
        (0..MAX_LEASE_KEYS).map(|n| driver.entry(None, put_with(&name(n), id))).collect();
    driver.kv.apply(puts).expect("no I/O fails");
    let full = Outcome::LeaseLimit(LeaseLimit::Keys(id));
    assert_eq!(driver.apply_at(0, put_with("one more", id)), full);
    assert!(matches!(driver.apply_at(0, put_with(&name(7), id)), Outcome::Put { version: 2, .. }));
    let more = TxnOp::Put { key: key("x"), value: "".into(), lifetime: Lifetime::Lease(id) };
    let txn = Txn::new(vec![], vec![more], vec![]).unwrap();
    assert_eq!(driver.apply_at(0, Operation::Txn(txn)), full);
    driver.apply_at(0, Operation::Delete { key: key(&name(9)), condition: Condition::None });
    assert!(matches!(driver.apply_at(0, put_with("x", id)), Outcome::Put { .. }));

    let revision = driver.snapshot().revision() + 1;
    let ended = Outcome::Expired { keys: MAX_LEASE_KEYS, leases: 1, revision };
    assert_eq!(driver.apply_at(100, Operation::Expire), ended);
    assert_eq!(driver.snapshot().records(&KeyRange::default(), false, true).count(), 0);
}

#[test]
fn there_are_so_many_leases_and_they_are_listed_in_pages() {
    let mut driver = Driver::new();
    let grants: Vec<Entry> = (0..MAX_LEASES)
        .map(|_| driver.entry(None, Operation::LeaseGrant { ttl_ms: 1_000 }))
        .collect();
    driver.kv.apply(grants).expect("no I/O fails");
    let full = Outcome::LeaseLimit(LeaseLimit::Leases);
    assert_eq!(driver.apply_at(0, Operation::LeaseGrant { ttl_ms: 1_000 }), full);
    let state = driver.snapshot();
    let (mut listed, mut after) = (0, None);
    loop {
        let page: Vec<Lease> =
            state.leases(after).take(10_000).map(|lease| lease.unwrap()).collect();
        assert!(page.is_sorted_by(|a, b| a.id < b.id));
        let Some(last) = page.last() else { break };
        assert!(Some(page[0].id) > after);
        (listed, after) = (listed + page.len() as u64, Some(last.id));
    }
    assert_eq!((listed, state.lease_count()), (MAX_LEASES, MAX_LEASES));
    // They end in bounded steps.
    let batch = EXPIRE_BATCH_KEYS as u64;
    let ended = Outcome::Expired { keys: 0, leases: batch, revision: 0 };
    assert_eq!(driver.apply_at(1_000, Operation::Expire), ended);
    assert_eq!(driver.snapshot().lease_count(), MAX_LEASES - batch);
}

#[test]
fn the_keys_of_a_lease_are_listed_behind_one() {
    let mut driver = Driver::new();
    let (id, next) = (driver.grant_at(0, 100), driver.grant_at(0, 100));
    for text in ["c", "a", "b", &"k".repeat(MAX_KEY_BYTES)] {
        driver.apply_at(0, put_with(text, id));
    }
    driver.apply_at(0, put_with("d", next));
    let state = driver.snapshot();
    let keys = |after: Option<&Key>| -> Vec<Key> {
        state.lease_keys(id, after).map(|key| key.unwrap()).collect()
    };
    let longest = key(&"k".repeat(MAX_KEY_BYTES));
    assert_eq!(keys(None), [key("a"), key("b"), key("c"), longest.clone()]);
    assert_eq!(keys(Some(&key("b"))), [key("c"), longest.clone()]);
    assert_eq!(keys(Some(&longest)), []);
}

#[test]
fn a_delete_of_more_than_the_past_holds_takes_keys_out_of_their_leases() {
    let retention = Retention { changes: 100, bytes: 1 << 30, age_ms: None };
    let mut driver = Driver { kv: open_with(&MemDisk::new(), retention), next: 0 };
    let id = driver.grant_at(0, 100);
    for n in 0..700 {
        driver.apply_at(0, put_with(&format!("k{n:03}"), id));
    }
    driver.apply_at(0, put_with("a", id));
    let deleted = driver.apply_at(0, Operation::DeleteRange { range: KeyRange::prefix("k") });
    assert_eq!(deleted, Outcome::Deleted { count: 700, revision: 702 });
    assert_eq!(driver.lease(id).map(|lease| lease.keys), Some(1));
    let ended = Outcome::Expired { keys: 1, leases: 1, revision: 703 };
    assert_eq!(driver.apply_at(100, Operation::Expire), ended);
}
