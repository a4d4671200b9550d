//! Trees: loads in every order, giant keys, large values, ranges, transactions.

use std::ops::{Bound, ControlFlow};

use rand::seq::SliceRandom;

use super::*;
use crate::storage::FACTS_BYTES;
use crate::storage::disk::FileDisk;
use crate::storage::node::{MAX_INLINE_VALUE_BYTES, MAX_TREE_KEY_BYTES};

/// Puts `entries` in the given order, a transaction each, then takes them out in another.
fn load_and_unload(entries: &[(Vec<u8>, Vec<u8>)], seed: u64) {
    let mut store = open(&MemDisk::new()).unwrap();
    let mut model = Model::new();
    for (nth, (key, value)) in entries.iter().enumerate() {
        put_all(&mut store, [(&key[..], &value[..])]);
        model.insert(key.clone(), value.clone());
        if nth % 100 == 99 {
            store.check().unwrap();
        }
    }
    store.check().unwrap();
    assert_holds(&store.snapshot(), &model);
    for (key, value) in &model {
        assert_eq!(store.snapshot().get(T, key).unwrap().unwrap(), value);
    }
    let mut keys: Vec<_> = model.keys().cloned().collect();
    keys.shuffle(&mut rng(seed));
    for (nth, key) in keys.iter().enumerate() {
        let mut txn = store.begin();
        assert!(txn.delete(T, key).unwrap());
        assert!(!txn.delete(T, key).unwrap());
        txn.commit().unwrap();
        model.remove(key);
        if nth % 100 == 0 {
            store.check().unwrap();
            assert_holds(&store.snapshot(), &model);
        }
    }
    assert_eq!(store.check().unwrap(), Default::default(), "nothing is left");
}

fn random_entries(count: usize, key: usize, value: usize, seed: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let rng = &mut rng(seed);
    (0..count).map(|_| (random_bytes(rng, key), random_bytes(rng, value))).collect()
}

/// The predecessor lost 55 of these 100.
#[test]
fn a_hundred_random_keys_are_all_there() {
    load_and_unload(&random_entries(100, 24, 150, 1), 1);
}

/// The predecessor panicked on these.
#[test]
fn a_thousand_random_keys_are_all_there() {
    load_and_unload(&random_entries(1_000, 24, 150, 2), 2);
}

#[test]
fn sorted_and_reverse_loads_are_all_there() {
    let mut entries = random_entries(1_000, 24, 60, 3);
    entries.sort();
    load_and_unload(&entries, 3);
    entries.reverse();
    load_and_unload(&entries, 4);
}

#[test]
fn giant_keys_make_nodes_of_several_pages() {
    // A shared prefix of 4,000 bytes keeps separators giant too.
    let mut entries = random_entries(200, 24, 10, 5);
    for (nth, (key, _)) in entries.iter_mut().enumerate() {
        if nth % 3 != 0 {
            key.splice(0..0, std::iter::repeat_n(b'k', 4_000));
        }
    }
    load_and_unload(&entries, 5);
}

/// Separators of 1,300 bytes leave three children to a branch: six levels instead of two.
#[test]
fn deep_trees_are_all_there() {
    let mut entries = random_entries(500, 8, 900, 9);
    entries.iter_mut().for_each(|(key, _)| drop(key.splice(0..0, [b'k'; 1_300])));
    load_and_unload(&entries, 9);
    entries.sort();
    load_and_unload(&entries, 10);
}

#[test]
fn the_longest_keys_and_the_empty_one_are_held_and_longer_ones_refused() {
    let mut entries = random_entries(40, MAX_TREE_KEY_BYTES, MAX_INLINE_VALUE_BYTES, 6);
    entries.push((Vec::new(), Vec::new()));
    load_and_unload(&entries, 6);

    let mut store = open(&MemDisk::new()).unwrap();
    let mut txn = store.begin();
    let refused = txn.put(T, &[0; MAX_TREE_KEY_BYTES + 1], b"").unwrap_err();
    assert!(matches!(refused, StorageError::KeyTooLong { .. }));
    txn.put(T, b"a", b"1").unwrap(); // a refusal is no failure of the transaction
    txn.commit().unwrap();
}

#[test]
fn values_grow_in_place_and_shrink_again() {
    let mut store = open(&MemDisk::new()).unwrap();
    let mut model: Model = random_entries(300, 24, 150, 7).into_iter().collect();
    put_all(&mut store, model.iter().map(|(key, value)| (&key[..], &value[..])));
    for len in [1_000, MAX_INLINE_VALUE_BYTES, MAX_INLINE_VALUE_BYTES + 1, 5_000, 10, 0] {
        for (key, value) in &mut model {
            value.resize(len, len as u8);
            put_all(&mut store, [(&key[..], &value[..])]);
        }
        store.check().unwrap();
        assert_holds(&store.snapshot(), &model);
    }
}

#[test]
fn large_values_survive_eviction_and_reopening() {
    let disk = MemDisk::new();
    let mut store = open(&disk).unwrap();
    let model: Model = [0, 1, 4_063, 4_064, 4_065, 100_000, 3 << 20, 8 << 20]
        .into_iter()
        .map(|len: usize| (len.to_be_bytes().to_vec(), random_bytes(&mut rng(len as u64), len)))
        .collect();
    put_all(&mut store, model.iter().map(|(key, value)| (&key[..], &value[..])));
    assert_holds(&store.snapshot(), &model);
    checkpoint(&mut store).unwrap();
    assert!(store.stats().cached_bytes <= 512 << 10, "the pool, and the writer's spare frames");
    assert_holds(&store.snapshot(), &model);
    drop(store);
    let mut store = open(&disk).unwrap();
    store.check().unwrap();
    assert_holds(&store.snapshot(), &model);
}

#[test]
fn a_store_without_a_pool_reads_all_from_the_disk() {
    let disk = MemDisk::new();
    let options = || StoreOptions { cache_bytes: 0 };
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut store = Store::open(&shared, FILE, options()).unwrap();
    let model: Model = random_entries(300, 24, 150, 13).into_iter().collect();
    put_all(&mut store, model.iter().map(|(key, value)| (&key[..], &value[..])));
    assert_holds(&store.snapshot(), &model);
    checkpoint(&mut store).unwrap();
    assert_holds(&store.snapshot(), &model);
    assert!(store.stats().cached_bytes <= 512 << 10, "the frames that the commit needed");
    put_all(&mut store, [(&b"a"[..], &b"1"[..])]);
    store.check().unwrap();
}

/// On a file system, where allocating, cutting and renaming are not our own code.
#[test]
fn a_store_on_a_real_disk_reads_back() {
    let directory = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(directory.path()).unwrap());
    let model: Model = random_entries(500, 24, 3_000, 14).into_iter().collect();
    for round in 0..3 {
        let mut store = Store::open(&disk, FILE, StoreOptions::default()).unwrap();
        if round > 0 {
            assert_holds(&store.snapshot(), &model);
            let mut txn = store.begin();
            txn.clear(T).unwrap();
            txn.commit().unwrap();
            (0..3).for_each(|_| checkpoint(&mut store).unwrap());
            let len = disk.open(FILE).unwrap().len().unwrap();
            assert_eq!(len, store.stats().file_bytes);
            assert!(len < 64 << 10, "the file was cut to {len}");
        }
        put_all(&mut store, model.iter().map(|(key, value)| (&key[..], &value[..])));
        checkpoint(&mut store).unwrap();
        store.check().unwrap();
    }
}

#[test]
fn a_sorted_load_fills_its_pages() {
    let mut store = open(&MemDisk::new()).unwrap();
    for nth in 0..2_000_u32 {
        put_all(&mut store, [(&nth.to_be_bytes()[..], &[7; 100][..])]);
    }
    let report = store.check().unwrap();
    let fill = report.node_used_bytes as f64 / report.node_bytes as f64;
    assert!(fill > 0.95, "{fill}");
}

#[test]
fn deletes_join_nodes() {
    let mut store = open(&MemDisk::new()).unwrap();
    let entries = random_entries(2_000, 16, 100, 8);
    put_all(&mut store, entries.iter().map(|(key, value)| (&key[..], &value[..])));
    let before = store.check().unwrap();
    let mut txn = store.begin();
    entries[..1_800].iter().for_each(|(key, _)| assert!(txn.delete(T, key).unwrap()));
    txn.commit().unwrap();
    let after = store.check().unwrap();
    assert!(after.leaves * 4 < before.leaves, "{} of {}", after.leaves, before.leaves);
}

#[test]
fn ranges_run_from_any_bound_in_both_directions() {
    let mut store = open(&MemDisk::new()).unwrap();
    let key = |nth: usize| format!("{nth:04}");
    // Even numbers are there, odd ones are bounds between them.
    let keys: Vec<String> = (0..1_000).step_by(2).map(key).collect();
    put_all(&mut store, keys.iter().map(|key| (key.as_bytes(), &[1; 50][..])));
    let snapshot = store.snapshot();
    for (low, high) in [(0, 998), (1, 997), (17, 18), (18, 18), (500, 480), (0, 1), (997, 1_200)] {
        let bound = |nth: usize, kind: u8| match kind {
            0 => Bound::Unbounded,
            1 => Bound::Included(bytes(&key(nth))),
            _ => Bound::Excluded(bytes(&key(nth))),
        };
        for kinds in 0..9 {
            let bounds = Bounds { start: bound(low, kinds / 3), end: bound(high, kinds % 3) };
            let is_inside = |key: &&String| {
                let (low, high) = (cmp(key, &bounds.start), cmp(key, &bounds.end));
                low.is_none_or(|(order, included)| order.is_gt() || included && order.is_eq())
                    && high
                        .is_none_or(|(order, included)| order.is_lt() || included && order.is_eq())
            };
            let expected: Vec<&String> = keys.iter().filter(is_inside).collect();
            let forth = snapshot.range(T, bounds.clone()).keys().map(Result::unwrap);
            assert!(forth.eq(expected.iter().map(|key| bytes(key))), "{bounds:?}");
            let back = snapshot.range(T, bounds.clone()).rev().map(Result::unwrap);
            assert!(
                back.eq(expected.iter().rev().map(|key| (bytes(key), Bytes::from(vec![1; 50]))))
            );
            // From both ends by turns, they meet.
            let mut both = snapshot.range(T, bounds).keys();
            let mut met = 0;
            while let Some(key) = if met % 3 == 0 { both.next_back() } else { both.next() } {
                key.unwrap();
                met += 1;
            }
            assert!(met == expected.len() && both.next().is_none() && both.next_back().is_none());
        }
    }
}

fn cmp(key: &str, bound: &Bound<Bytes>) -> Option<(std::cmp::Ordering, bool)> {
    match bound {
        Bound::Unbounded => None,
        Bound::Included(bound) => Some((key.as_bytes().cmp(bound), true)),
        Bound::Excluded(bound) => Some((key.as_bytes().cmp(bound), false)),
    }
}

#[test]
fn a_scan_of_keys_reads_no_values() {
    let disk = MemDisk::new();
    let mut store = open(&disk).unwrap();
    put_all(
        &mut store,
        (0..20_u8)
            .map(|nth| ([nth], vec![nth; 50_000]))
            .collect::<Vec<_>>()
            .iter()
            .map(|(k, v)| (&k[..], &v[..])),
    );
    checkpoint(&mut store).unwrap();
    drop(store);
    let snapshot = open(&disk).unwrap().snapshot();
    let calls = disk.calls();
    let mut range = snapshot.range(T, Bounds::ALL);
    let first = range.visit(|entry| ControlFlow::Break((entry.key.to_vec(), entry.value_len())));
    assert_eq!(first.unwrap(), Some((vec![0], 50_000)));
    assert_eq!(range.keys().count(), 19);
    assert!(disk.calls() - calls <= 3, "a root and two leaves at most");
}

#[test]
fn a_transaction_sees_its_own_writes_and_its_drop_undoes_them() {
    let mut store = open(&MemDisk::new()).unwrap();
    put_all(&mut store, [(&b"a"[..], &b"1"[..]), (b"b", b"2")]);
    let before = (store.stats(), contents(&store.snapshot()).unwrap());

    let mut txn = store.begin();
    txn.put(T, b"c", &[3; 9_000]).unwrap();
    assert!(txn.delete(T, b"a").unwrap());
    txn.put(U, b"x", b"y").unwrap();
    assert_eq!(txn.get(T, b"a").unwrap(), None);
    assert_eq!(txn.get(U, b"x").unwrap().unwrap(), "y");
    assert_eq!(txn.len(T).unwrap(), 2);
    let keys: Vec<_> = txn.range(T, Bounds::ALL).unwrap().keys().map(Result::unwrap).collect();
    assert_eq!(keys, ["b", "c"]);
    drop(txn);

    store.check().unwrap();
    assert_eq!(contents(&store.snapshot()).unwrap(), before.1);
    assert_eq!(store.stats().txn, before.0.txn);
    assert_eq!(store.stats().live_bytes, before.0.live_bytes);
    assert_eq!(store.begin().commit().unwrap(), before.0.txn, "nothing changed, nothing counted");
}

#[test]
fn a_value_read_in_a_transaction_outlives_the_edit_of_its_page() {
    let mut store = open(&MemDisk::new()).unwrap();
    let mut txn = store.begin();
    txn.put(T, b"a", b"old").unwrap();
    let old = txn.get(T, b"a").unwrap().unwrap();
    txn.put(T, b"a", b"new").unwrap();
    assert_eq!(old, "old");
    assert_eq!(txn.get(T, b"a").unwrap().unwrap(), "new");
}

#[test]
fn trees_are_apart_and_go_with_their_last_entry() {
    let mut store = open(&MemDisk::new()).unwrap();
    let mut txn = store.begin();
    for nth in 0..500_u32 {
        txn.put(T, &nth.to_be_bytes(), &[1; 40]).unwrap();
        txn.put(U, &nth.to_be_bytes(), &[2; 2_000]).unwrap();
    }
    txn.commit().unwrap();
    assert_eq!(store.check().unwrap().entries, 1_000);

    let mut txn = store.begin();
    let bounds = Bounds { start: Bound::Included(bytes("\0\0\0\x10")), end: Bound::Unbounded };
    assert_eq!(txn.delete_range(T, bounds).unwrap(), 484);
    txn.clear(U).unwrap();
    txn.commit().unwrap();
    let report = store.check().unwrap();
    assert_eq!((report.entries, report.values), (16, 0));
    assert_eq!(store.snapshot().len(U), 0);
    assert_eq!(store.snapshot().get(U, b"\0\0\0\0").unwrap(), None);

    let mut txn = store.begin();
    txn.clear(TreeId::new(9)).unwrap();
    assert_eq!(txn.delete_range(T, Bounds::ALL).unwrap(), 16);
    txn.commit().unwrap();
    assert_eq!(store.check().unwrap(), Default::default());
}

#[test]
fn facts_change_with_the_data_and_come_back() {
    let disk = MemDisk::new();
    let mut store = open(&disk).unwrap();
    let mut txn = store.begin();
    txn.put(T, b"a", b"1").unwrap();
    txn.set_facts([7; FACTS_BYTES]);
    let seen = *txn.facts();
    txn.commit().unwrap();
    assert_eq!(seen, [7; FACTS_BYTES], "a transaction sees its own facts");
    let mut txn = store.begin();
    txn.set_facts([8; FACTS_BYTES]);
    drop(txn);
    assert_eq!(store.snapshot().facts(), &[7; FACTS_BYTES]);
    let mut txn = store.begin();
    txn.set_facts([9; FACTS_BYTES]);
    assert_eq!(txn.commit().unwrap(), 2, "facts alone are worth a commit");
    checkpoint(&mut store).unwrap();
    drop(store);
    assert_eq!(open(&disk).unwrap().snapshot().facts(), &[9; FACTS_BYTES]);
}

#[test]
fn of_a_long_value_its_head_is_read_without_the_rest() {
    let disk = MemDisk::new();
    let mut store = open(&disk).unwrap();
    let mut txn = store.begin();
    txn.put_parts(T, b"long", b"head", &[1; 50_000]).unwrap();
    txn.put_parts(T, b"short", b"head", b"body").unwrap();
    txn.commit().unwrap();
    checkpoint(&mut store).unwrap();
    drop(store);

    let mut store = open(&disk).unwrap();
    store.check().unwrap();
    let snapshot = store.snapshot();
    let stored = snapshot.get_stored(T, b"short").unwrap().unwrap();
    assert_eq!((&stored.head[..], &stored.body[..]), (&b"headbody"[..], &b""[..]));
    let stored = snapshot.get_stored(T, b"long").unwrap().unwrap();
    assert_eq!((&stored.head[..], &stored.body[..]), (&b"head"[..], &[1; 50_000][..]));
    assert_eq!(stored.into_bytes(), [&b"head"[..], &[1; 50_000]].concat());
    drop(store);

    let snapshot = open(&disk).unwrap().snapshot();
    let calls = disk.calls();
    let mut heads = Vec::new();
    let seen = snapshot.range(T, Bounds::ALL).visit(|entry| {
        heads.push((entry.head().to_vec(), entry.value_len()));
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(seen.unwrap(), None);
    assert_eq!(heads, [(b"head".to_vec(), 50_004), (b"headbody".to_vec(), 8)]);
    assert_eq!(disk.calls() - calls, 1, "the leaf alone is read");
}

#[test]
fn a_walk_in_passing_leaves_the_cache_as_it_is() {
    let disk = MemDisk::new();
    let reopened = || {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        Store::open(&shared, FILE, StoreOptions { cache_bytes: 64 << 20 }).unwrap()
    };
    let mut store = reopened();
    let mut model: Model = random_entries(20_000, 24, 150, 17).into_iter().collect();
    model.insert(b"large".to_vec(), vec![7; 3 << 20]);
    put_all(&mut store, model.iter().map(|(key, value)| (&key[..], &value[..])));
    checkpoint(&mut store).unwrap();
    drop(store);

    let store = reopened();
    assert_holds(&store.snapshot().in_passing(), &model);
    let backwards = store.snapshot().in_passing().range(T, Bounds::ALL).rev();
    assert_eq!(backwards.count(), model.len());
    let after_walks = store.stats().cached_bytes;
    assert!(after_walks < 512 << 10, "branches alone: {after_walks}");
    assert_holds(&store.snapshot(), &model);
    let warm = store.stats().cached_bytes;
    assert!(warm > 3 << 20, "{warm}");
    assert_holds(&store.snapshot().in_passing(), &model);
    assert_eq!(store.stats().cached_bytes, warm);
}
