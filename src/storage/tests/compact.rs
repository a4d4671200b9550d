//! Compaction between commits, snapshots, checkpoints and crashes.

use std::ops::Range;

use super::*;
use crate::storage::compact::{CompactProgress, STEP_PAGES};
use crate::storage::disk::{Calls, Fault, PowerCut};
use crate::storage::page::PAGE_BYTES;

/// More steps than any compaction here needs.
const MOST_STEPS: u32 = 20_000;

fn key(nth: u32) -> Vec<u8> {
    // Spread over the tree, and of different lengths.
    let spread = nth.wrapping_mul(0x9e37_79b1).to_be_bytes();
    [&spread[..], &b"................"[..nth as usize % 16]].concat()
}

fn value(rng: &mut StdRng, len: Range<usize>) -> Vec<u8> {
    let len = rng.random_range(len);
    random_bytes(rng, len)
}

/// Puts so many keys in a random order of the tree and makes them durable.
fn load(store: &mut Store, rng: &mut StdRng, keys: u32, len: Range<usize>) -> Model {
    let model: Model = (0..keys).map(|nth| (key(nth), value(rng, len.clone()))).collect();
    for part in (0..keys).collect::<Vec<_>>().chunks(2_000) {
        let mut txn = store.begin();
        part.iter().for_each(|&nth| assert!(!txn.put(T, &key(nth), &model[&key(nth)]).unwrap()));
        txn.commit().unwrap();
    }
    checkpoint(store).unwrap();
    model
}

fn delete(store: &mut Store, model: &mut Model, gone: &[Vec<u8>]) {
    for part in gone.chunks(100) {
        let mut txn = store.begin();
        part.iter().for_each(|key| assert!(txn.delete(T, key).unwrap()));
        txn.commit().unwrap();
    }
    gone.iter().for_each(|key| assert!(model.remove(key).is_some()));
    checkpoint(store).unwrap();
}

fn every_second(model: &Model) -> Vec<Vec<u8>> {
    model.keys().step_by(2).cloned().collect()
}

/// Steps and checkpoints to the end of one compaction, with `between` after each step; says how many
/// checkpoints it took.
fn compact(store: &mut Store, mut between: impl FnMut(&mut Store)) -> u32 {
    let mut checkpoints = 0;
    for _ in 0..MOST_STEPS {
        let progress = store.compact_step(STEP_PAGES).unwrap();
        between(store);
        match progress {
            CompactProgress::Stepped => {}
            CompactProgress::NeedsCheckpoint => {
                checkpoint(store).unwrap();
                checkpoints += 1;
            }
            CompactProgress::Done => return checkpoints,
        }
    }
    panic!("no end after {MOST_STEPS} steps: {:?}", store.stats());
}

fn data_bytes(model: &Model) -> u64 {
    model.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
}

/// Ends with a checkpoint that has something to write, which cuts what the last one freed.
fn assert_compact(store: &mut Store, model: &Model, what: &str) {
    put_all(store, [(&b"last"[..], &b""[..])]);
    checkpoint(store).unwrap();
    let (file, data) = (store.stats().file_bytes, data_bytes(model));
    assert!(file * 4 <= data * 5, "{what}: {file} bytes for {data}: {:?}", store.stats());
    store.check().unwrap();
}

#[test]
fn after_half_of_the_keys_the_file_is_at_most_a_quarter_longer_than_what_is_left() {
    for seed in 0..3 {
        let rng = &mut rng(41 + seed);
        let mut store = open(&MemDisk::new()).unwrap();
        let mut model = load(&mut store, rng, 40_000, 100..200);
        let mut gone: Vec<Vec<u8>> = match seed {
            0 => every_second(&model),
            1 => model.keys().skip(5_000).take(10_000).cloned().collect(),
            _ => model.keys().filter(|_| rng.random()).cloned().collect(),
        };
        // In no order: each commit rewrites leaves all over the tree, and the file grows.
        for at in (1..gone.len()).rev() {
            gone.swap(at, rng.random_range(0..=at));
        }
        delete(&mut store, &mut model, &gone);
        let before = store.stats();
        compact(&mut store, |_| {});
        assert_holds(&store.snapshot(), &model);
        let what = format!("seed {seed}, before {before:?}");
        assert_compact(&mut store, &model, &what);
        assert!(!store.wants_compaction(), "{what}");
    }
}

#[test]
fn writes_snapshots_and_checkpoints_go_on_meanwhile() {
    let rng = &mut rng(44);
    let mut store = open(&MemDisk::new()).unwrap();
    let mut model = load(&mut store, rng, 40_000, 50..250);
    let gone = every_second(&model);
    delete(&mut store, &mut model, &gone);
    let mut held: Vec<(Snapshot, Model)> = Vec::new();
    let mut round = 0;
    let mut in_flight = None;
    let mut between = |store: &mut Store| {
        round += 1;
        let mut txn = store.begin();
        for _ in 0..4 {
            let key = key(rng.random_range(0..21_000));
            if rng.random_range(0..4) == 0 {
                assert_eq!(txn.delete(T, &key).unwrap(), model.remove(&key).is_some());
            } else {
                let value = value(rng, 50..250);
                txn.put(T, &key, &value).unwrap();
                model.insert(key, value);
            }
        }
        txn.commit().unwrap();
        if round % 10 == 0 {
            store.check().unwrap();
            assert_holds(&store.snapshot(), &model);
            held.push((store.snapshot(), model.clone()));
        }
        if held.len() > 2 {
            let (snapshot, model) = held.swap_remove(rng.random_range(0..held.len()));
            assert_holds(&snapshot, &model);
        }
        // Some checkpoints run beside several steps.
        if round % 7 == 0 {
            in_flight = store.begin_checkpoint().unwrap();
        } else if let Some(checkpoint) = in_flight.take() {
            store.finish_checkpoint(checkpoint.write()).unwrap();
        }
    };
    for step in 0.. {
        assert!(step < MOST_STEPS, "{:?}", store.stats());
        let progress = store.compact_step(STEP_PAGES).unwrap();
        between(&mut store);
        if progress == CompactProgress::Done {
            break;
        }
    }
    if let Some(checkpoint) = in_flight {
        store.finish_checkpoint(checkpoint.write()).unwrap();
    }
    held.iter().for_each(|(snapshot, model)| assert_holds(snapshot, model));
    held.clear();
    assert_holds(&store.snapshot(), &model);
    compact(&mut store, |_| {});
    assert_holds(&store.snapshot(), &model);
    store.check().unwrap();
    let stats = store.stats();
    assert!(stats.file_bytes <= 2 * data_bytes(&model), "{stats:?}");
}

#[test]
fn long_values_move_into_the_holes() {
    let rng = &mut rng(45);
    let mut store = open(&MemDisk::new()).unwrap();
    let mut model = load(&mut store, rng, 1_000, 7_000..30_000);
    let gone = every_second(&model);
    delete(&mut store, &mut model, &gone);
    compact(&mut store, |_| {});
    assert_holds(&store.snapshot(), &model);
    assert_compact(&mut store, &model, "long values");
}

#[test]
fn a_step_writes_about_its_budget() {
    let rng = &mut rng(46);
    let mut store = open(&MemDisk::new()).unwrap();
    let mut model = load(&mut store, rng, 40_000, 100..200);
    let gone = every_second(&model);
    delete(&mut store, &mut model, &gone);
    for _ in 0..MOST_STEPS {
        let dirty = store.stats().dirty_bytes;
        let progress = store.compact_step(16).unwrap();
        let written = store.stats().dirty_bytes.saturating_sub(dirty) / PAGE_BYTES as u64;
        assert!(written <= 16 + 6, "{written} pages");
        match progress {
            CompactProgress::Stepped => {}
            CompactProgress::NeedsCheckpoint => checkpoint(&mut store).unwrap(),
            CompactProgress::Done => return assert_holds(&store.snapshot(), &model),
        }
    }
    panic!("no end after {MOST_STEPS} steps: {:?}", store.stats());
}

#[test]
fn a_compact_store_is_left_as_it_is() {
    let rng = &mut rng(47);
    let mut store = open(&MemDisk::new()).unwrap();
    let mut model = load(&mut store, rng, 40_000, 100..200);
    let gone = every_second(&model);
    delete(&mut store, &mut model, &gone);
    assert!(store.wants_compaction(), "{:?}", store.stats());
    compact(&mut store, |_| {});
    put_all(&mut store, [(&b"last"[..], &b""[..])]);
    checkpoint(&mut store).unwrap();
    let txn = store.stats().txn;
    compact(&mut store, |_| {});
    assert_eq!(store.stats().txn, txn, "nothing was committed");
    let empty = &mut open(&MemDisk::new()).unwrap();
    compact(empty, |_| {});
    assert_eq!(empty.stats().txn, 0);
}

#[test]
fn a_snapshot_held_throughout_keeps_its_view_and_the_compaction_ends() {
    let rng = &mut rng(48);
    let mut store = open(&MemDisk::new()).unwrap();
    let mut model = load(&mut store, rng, 40_000, 100..200);
    let gone = every_second(&model);
    delete(&mut store, &mut model, &gone);
    let held = store.snapshot();
    let before = store.stats().file_bytes;
    let checkpoints = compact(&mut store, |_| {});
    assert!(checkpoints < 30, "{checkpoints}");
    assert!(store.stats().file_bytes <= before * 5 / 4, "{:?}", store.stats());
    assert_holds(&held, &model);
    drop(held);
    checkpoint(&mut store).unwrap();
    compact(&mut store, |_| {});
    assert_holds(&store.snapshot(), &model);
    assert_compact(&mut store, &model, "when the snapshot is gone");
}

/// A disk with a store of 3,000 entries, of which half were deleted, and what is left of them.
fn shrunk(seed: u64) -> (BTreeMap<String, Vec<u8>>, Model) {
    let disk = MemDisk::new();
    let mut store = open(&disk).unwrap();
    let mut model = load(&mut store, &mut rng(seed), 3_000, 100..2_000);
    let gone = every_second(&model);
    delete(&mut store, &mut model, &gone);
    (disk.contents(), model)
}

#[test]
fn a_power_cut_at_any_step_and_call_loses_nothing_durable() {
    let (image, model) = shrunk(49);
    for cut in 0.. {
        // After a step, or at a call of the disk, which the checkpoints make.
        for at_call in [false, true] {
            let disk = MemDisk::from_contents(image.clone());
            let mut store = open(&disk).unwrap();
            if at_call {
                disk.cut_power_after(4 * cut);
            }
            let mut steps = 0;
            let mut has_ended = false;
            while at_call || steps < cut {
                steps += 1;
                has_ended = match store.compact_step(STEP_PAGES) {
                    Ok(CompactProgress::Done) => true,
                    Ok(CompactProgress::Stepped) => false,
                    Ok(CompactProgress::NeedsCheckpoint) => checkpoint(&mut store).is_err(),
                    Err(_) => true,
                };
                if has_ended {
                    break;
                }
            }
            let image = disk.crash(PowerCut::ByChance(&mut rng(cut)));
            let mut store = open(&image).unwrap();
            assert_holds(&store.snapshot(), &model);
            store.check().unwrap();
            if has_ended && !at_call {
                assert!(cut > 10, "{cut} steps");
                return;
            }
        }
    }
}

#[test]
fn a_step_that_cannot_read_is_undone_and_the_next_compaction_succeeds() {
    let (image, model) = shrunk(50);
    for nth in (0..).step_by(61) {
        let disk = MemDisk::from_contents(image.clone());
        let mut store = open(&disk).unwrap(); // nothing is cached
        disk.fail(Calls::Read, nth, Fault::Error(std::io::ErrorKind::Other));
        let failed_after = loop {
            let txn = store.stats().txn;
            match store.compact_step(STEP_PAGES) {
                Ok(CompactProgress::Stepped) => {}
                // It reads too. Which of them the fault meets depends on what is in memory.
                Ok(CompactProgress::NeedsCheckpoint) => {
                    checkpoint(&mut store).or_else(|_| checkpoint(&mut store)).unwrap();
                }
                Ok(CompactProgress::Done) => break None,
                Err(_) => break Some(txn),
            }
        };
        let Some(txn) = failed_after else {
            if disk.faults_left() == 0 {
                continue;
            }
            assert!(nth > 300, "{nth} reads");
            return;
        };
        assert_eq!(store.stats().txn, txn);
        assert!(!store.is_compacting());
        store.check().unwrap();
        compact(&mut store, |_| {});
        assert_holds(&store.snapshot(), &model);
        let stats = store.stats();
        assert!(stats.file_bytes * 4 <= stats.live_bytes * 5, "read {nth}: {stats:?}");
    }
}

#[test]
fn a_history_that_is_trimmed_as_it_grows_begins_no_compaction() {
    const KEPT: u32 = 20_000;
    let rng = &mut rng(48);
    let mut store = open(&MemDisk::new()).unwrap();
    load(&mut store, rng, KEPT, 100..200);
    compact(&mut store, |_| {});
    for from in (KEPT..4 * KEPT).step_by(500) {
        let mut txn = store.begin();
        for nth in from..from + 500 {
            assert!(!txn.put(T, &key(nth), &[1; 1_000]).unwrap());
            assert!(txn.delete(T, &key(nth - KEPT)).unwrap());
        }
        txn.commit().unwrap();
        checkpoint(&mut store).unwrap();
    }
    assert!(!store.wants_compaction(), "{:?}", store.stats());
    let mut model: Model = (3 * KEPT..4 * KEPT).map(|nth| (key(nth), vec![1; 1_000])).collect();
    assert_holds(&store.snapshot(), &model);
    let gone = every_second(&model);
    delete(&mut store, &mut model, &gone);
    assert!(store.wants_compaction(), "{:?}", store.stats());
}
