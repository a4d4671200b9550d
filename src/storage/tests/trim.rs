//! Trims: any part of any kind of tree, between appends and other changes.

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
