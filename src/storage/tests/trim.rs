//! Trims: any part of any kind of tree, between appends and other changes.

use std::ops::{Bound, RangeBounds};

use super::append::{SHAPES, sorted};
use super::*;

/// Trees lose their left end in steps of all sizes, and take puts and deletes anywhere in between.
#[test]
fn a_trim_removes_what_is_below_and_nothing_else() {
    for (shape, key_of) in SHAPES.iter().enumerate() {
        for seed in 0..3 {
            println!("shape {shape}, seed {seed}");
            let rng = &mut rng(1_000 * shape as u64 + seed);
            let all = sorted(key_of, 1_500, rng);
            let mut store = open(&MemDisk::new()).unwrap();
            put_all(&mut store, all.iter().map(|(key, value)| (&key[..], &value[..])));
            let mut model = all.clone();
            let longest_step = [12, 80, 500][seed as usize];
            while !model.is_empty() {
                let mut txn = store.begin();
                let nth = rng.random_range(0..longest_step);
                let bound = match model.keys().nth(nth) {
                    // Between two keys as often as on one.
                    Some(key) if rng.random() => [key, &[0][..]].concat(),
                    Some(key) => key.clone(),
                    None => vec![0xff; 5_000],
                };
                let kept = model.split_off(&bound);
                let removed = std::mem::replace(&mut model, kept);
                assert_eq!(txn.delete_below(T, &bound).unwrap(), removed.len() as u64);
                for _ in 0..rng.random_range(0..3) {
                    let (key, value) = all.iter().nth(rng.random_range(0..all.len())).unwrap();
                    if *key > bound && !model.is_empty() && rng.random() {
                        assert_eq!(txn.put(T, key, value).unwrap(), model.contains_key(key));
                        model.insert(key.clone(), value.clone());
                    } else {
                        assert_eq!(txn.delete(T, key).unwrap(), model.remove(key).is_some());
                    }
                }
                txn.commit().unwrap();
                assert_eq!(store.snapshot().len(T), model.len() as u64);
                if rng.random_ratio(1, 8) {
                    store.check().unwrap();
                    assert_holds(&store.snapshot(), &model);
                }
            }
            assert_eq!(store.begin().delete_below(T, b"z").unwrap(), 0);
            checkpoint(&mut store).unwrap();
            store.check().unwrap();
        }
    }
}

/// A bound at a key that may be there.
fn bound(rng: &mut StdRng, keys: u32) -> Bound<Bytes> {
    let key = Bytes::from(format!("{:06}", rng.random_range(0..keys)));
    match rng.random_range(0..5) {
        0 => Bound::Unbounded,
        1 | 2 => Bound::Included(key),
        _ => Bound::Excluded(key),
    }
}

#[test]
fn a_range_goes_leaf_by_leaf_and_nothing_beside_it() {
    const KEYS: u32 = 6_000;
    for seed in 0..12 {
        println!("seed {seed}");
        let rng = &mut rng(seed);
        let mut store = open(&MemDisk::new()).unwrap();
        let mut model = Model::new();
        for round in 0..12 {
            let mut txn = store.begin();
            for _ in 0..KEYS / 3 {
                let key = format!("{:06}", rng.random_range(0..KEYS)).into_bytes();
                let len =
                    if rng.random_range(0..100) == 0 { 9_000 } else { rng.random_range(0..120) };
                let value = random_bytes(rng, len);
                txn.put(T, &key, &value).unwrap();
                model.insert(key, value);
            }
            let bounds = Bounds { start: bound(rng, KEYS), end: bound(rng, KEYS) };
            let within = (
                bounds.start.as_ref().map(|key| &key[..]),
                bounds.end.as_ref().map(|key| &key[..]),
            );
            let before = model.len();
            model.retain(|key, _| !RangeBounds::<[u8]>::contains(&within, &key[..]));
            let gone = (before - model.len()) as u64;
            assert_eq!(
                txn.delete_range(T, bounds.clone()).unwrap(),
                gone,
                "round {round}: {bounds:?}"
            );
            assert_eq!(txn.delete_range(T, bounds).unwrap(), 0);
            txn.commit().unwrap();
            assert_eq!(store.check().unwrap().entries, model.len() as u64);
            assert_holds(&store.snapshot(), &model);
        }
    }
}
