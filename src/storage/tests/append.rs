//! Appends: sorted loads of every kind of key, and what else a transaction does among them.

use rand::seq::IteratorRandom;

use super::*;
use crate::storage::btree;
use crate::storage::check::CheckReport;
use crate::storage::node::MAX_TREE_KEY_BYTES;
use crate::storage::root::Tree;

pub(super) type Shape = fn(&mut StdRng, u32) -> Vec<u8>;

/// Kinds of keys that a load is made of, each with another shape of tree.
pub(super) const SHAPES: [Shape; 6] = [
    |rng, _| random_bytes(rng, 24),
    |_, nth| format!("user/{nth:09}").into_bytes(),
    // Paths: directories of a few files, whose common beginning changes all the time.
    |_, nth| {
        format!("/{}/{}/f{nth:06}", "d".repeat(nth as usize / 700 % 60), nth / 37).into_bytes()
    },
    // Separators of 1,300 bytes: three children to a branch.
    |rng, _| [&[b'k'; 1_300][..], &random_bytes(rng, 8)].concat(),
    // Some longer than a page.
    |rng, nth| random_bytes(rng, if nth.is_multiple_of(9) { MAX_TREE_KEY_BYTES } else { 30 }),
    |rng, nth| random_bytes(rng, nth as usize % 5),
];

fn value(rng: &mut StdRng, nth: u32) -> Vec<u8> {
    // Every 50th lies in a page of its own.
    let len = if nth % 50 == 49 { 3_000 } else { rng.random_range(0..200) };
    random_bytes(rng, len)
}

pub(super) fn sorted(key: &Shape, count: u32, rng: &mut StdRng) -> Model {
    (0..count).map(|nth| (key(rng, nth), value(rng, nth))).collect()
}

/// Loads `model` in order, `batch` entries a transaction.
fn load(model: &Model, batch: usize) -> (Store, CheckReport) {
    let mut store = open(&MemDisk::new()).unwrap();
    let entries: Vec<_> = model.iter().map(|(key, value)| (&key[..], &value[..])).collect();
    entries.chunks(batch).for_each(|batch| put_all(&mut store, batch.iter().copied()));
    let report = store.check().unwrap();
    assert_holds(&store.snapshot(), model);
    (store, report)
}

#[test]
fn sorted_loads_hold_everything_and_take_changes_after() {
    for (shape, key_of) in SHAPES.iter().enumerate() {
        for count in [0, 1, 2, 25, 300, 3_000] {
            println!("shape {shape}, {count} keys");
            let rng = &mut rng(shape as u64);
            let mut model = sorted(key_of, count, rng);
            let (mut store, _) = load(&model, usize::MAX);
            let mut txn = store.begin();
            for nth in 0..count / 2 {
                let gone = model.keys().choose(rng).expect("half of them are left").clone();
                assert!(txn.delete(T, &gone).unwrap());
                model.remove(&gone);
                let (key, value) = (key_of(rng, nth), value(rng, nth));
                let was_present = txn.put(T, &key, &value).unwrap();
                assert_eq!(was_present, model.insert(key, value).is_some());
            }
            txn.commit().unwrap();
            store.check().unwrap();
            assert_holds(&store.snapshot(), &model);
        }
    }
}

/// Where each put has a transaction of its own, none knows the edge.
#[test]
fn appends_fill_leaves_as_well_as_splits_on_the_edge() {
    for (shape, key_of) in SHAPES.iter().enumerate() {
        let model = sorted(key_of, 3_000, &mut rng(100 + shape as u64));
        let (_, by_splits) = load(&model, 1);
        for batch in [40, usize::MAX] {
            let (_, by_appends) = load(&model, batch);
            assert!(
                by_appends.leaves <= by_splits.leaves && by_appends.branches <= by_splits.branches,
                "shape {shape}, {batch} a transaction: {by_appends:?}, by splits {by_splits:?}"
            );
        }
    }
}

#[derive(Clone, Copy)]
enum Change {
    Append,
    Overwrite,
    DeleteLast,
    DeleteAny,
    CutTail,
    Clear,
    Commit,
    RollBack,
}

/// Two trees change by turns in the same transactions, most often at their ends.
#[test]
fn whatever_else_a_transaction_does_appends_go_to_the_end() {
    use Change::*;
    let weighted = [
        (Append, 300),
        (Overwrite, 20),
        (DeleteLast, 20),
        (DeleteAny, 20),
        (CutTail, 3),
        (Clear, 1),
        (Commit, 3),
        (RollBack, 2),
    ];
    let choices: Vec<Change> =
        weighted.iter().flat_map(|&(change, weight)| std::iter::repeat_n(change, weight)).collect();
    for seed in 0..30 {
        println!("seed {seed}");
        let rng = &mut rng(seed);
        let mut store = open(&MemDisk::new()).unwrap();
        let mut committed = [Model::new(), Model::new()];
        let mut nth = 0_u32;
        for _ in 0..40 {
            let mut models = committed.clone();
            let mut txn = store.begin();
            let is_committed = loop {
                nth += 1;
                let which = rng.random_range(0..2);
                let (tree, model) = ([T, U][which], &mut models[which]);
                let last = model.keys().next_back().cloned();
                match (choices[rng.random_range(0..choices.len())], last) {
                    (Commit, _) => break true,
                    (RollBack, _) => break false,
                    (Clear, _) => {
                        txn.clear(tree).unwrap();
                        model.clear();
                    }
                    (DeleteLast, Some(last)) => {
                        assert!(txn.delete(tree, &last).unwrap());
                        model.remove(&last);
                    }
                    (DeleteAny, Some(_)) => {
                        let key = model.keys().choose(rng).expect("there is a last one").clone();
                        assert!(txn.delete(tree, &key).unwrap());
                        model.remove(&key);
                    }
                    (CutTail, Some(_)) => {
                        let from = model.keys().choose(rng).expect("there is a last one").clone();
                        let bounds = Bounds {
                            start: std::ops::Bound::Included(from.clone().into()),
                            end: std::ops::Bound::Unbounded,
                        };
                        let gone = model.split_off(&from);
                        assert_eq!(txn.delete_range(tree, bounds).unwrap(), gone.len() as u64);
                    }
                    (Overwrite, Some(last)) => {
                        let value = value(rng, nth);
                        assert!(txn.put(tree, &last, &value).unwrap());
                        model.insert(last, value);
                    }
                    _ => {
                        let giant = if nth.is_multiple_of(97) { 4_050 } else { 0 };
                        let key = [format!("{nth:08}").as_bytes(), &vec![b'g'; giant]].concat();
                        let value = value(rng, nth);
                        assert!(!txn.put(tree, &key, &value).unwrap());
                        model.insert(key, value);
                    }
                }
            };
            if is_committed {
                txn.commit().unwrap();
                committed = models;
            } else {
                drop(txn);
            }
            store.check().unwrap();
            assert_holds(&store.snapshot(), &committed[0]);
            assert_eq!(store.snapshot().len(U), committed[1].len() as u64);
        }
    }
}

/// What makes appends fast, which no result shows: they reach the leaf through the edge.
#[test]
fn the_edge_is_known_after_two_appends_until_one_of_its_pages_is_given_up() {
    let mut store = open(&MemDisk::new()).unwrap();
    store.draft.begin(0);
    let (draft, mut tree) = (&mut store.draft, Tree::default());
    let mut unknown = 0;
    for nth in 0..20_000_u32 {
        let key = format!("{nth:09}");
        btree::replace(draft, &mut tree, key.as_bytes(), &[7; 100], |_, _| Ok(true)).unwrap();
        unknown += u32::from(draft.edge.is_none_or(|edge| tree.root != Some(edge.root)));
    }
    assert!(unknown < 2_000, "{unknown} of 20000 appends left no edge behind");
    let leaf = draft.edge.expect("the last append did not split").leaf;
    assert!(btree::remove(draft, &mut tree, b"000000000").unwrap());
    assert_eq!(draft.edge.map(|edge| edge.leaf), Some(leaf), "a change far from it");
    btree::clear(draft, &mut tree).unwrap();
    assert!(draft.edge.is_none());
    draft.roll_back();
}
