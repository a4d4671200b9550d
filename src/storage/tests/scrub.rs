//! The scrub finds what nobody reads, in steps of any size, while others write.

use std::collections::BTreeSet;

use super::*;
use crate::storage::page::PAGE_BYTES;
use crate::storage::scrub::{Scrub, Scrubbed};

/// A durable store with leaves, branches, and values of their own pages; two trees.
fn written(disk: &MemDisk) -> Store {
    let mut store = open(disk).unwrap();
    let rng = &mut rng(31);
    let mut txn = store.begin();
    for nth in 0..600_u32 {
        let len = if nth % 40 == 0 { 9_000 } else { 200 };
        let (key, value) = (random_bytes(rng, 40), random_bytes(rng, len));
        txn.put(if nth % 3 == 0 { U } else { T }, &key, &value).unwrap();
    }
    txn.commit().unwrap();
    checkpoint(&mut store).unwrap();
    store
}

/// A whole pass in steps of so many bytes; what it read, and the pages that it found damaged.
fn pass(store: &Store, step_bytes: u64) -> (u64, BTreeSet<u64>) {
    let mut scrub = Scrub::default();
    let (mut read_bytes, mut damaged) = (0, BTreeSet::new());
    for _ in 0..100_000 {
        let done: Scrubbed = scrub.step(&store.snapshot(), step_bytes);
        read_bytes += done.read_bytes;
        for damage in done.damages {
            assert!(damage.error.is_corrupt() && damage.tree.is_some(), "{damage:?}");
            damaged.insert(damage.page);
        }
        if done.is_pass_done {
            return (read_bytes, damaged);
        }
    }
    panic!("the pass does not end");
}

#[test]
fn a_pass_reads_every_live_page_once_when_its_steps_are_long() {
    let store = written(&MemDisk::new());
    let report = { written(&MemDisk::new()).check().unwrap() };
    let (read_bytes, damaged) = pass(&store, u64::MAX);
    let values_bytes = report.values * 9_000_u64.next_multiple_of(PAGE_BYTES as u64);
    assert_eq!(read_bytes, report.node_bytes + values_bytes);
    assert!(report.branches > 1 && report.values == 15 && damaged.is_empty());
}

#[test]
fn short_steps_read_the_same_and_the_branches_above_again() {
    let store = written(&MemDisk::new());
    let (once, _) = pass(&store, u64::MAX);
    for step_bytes in [1, 5_000, 20_000, 100_000] {
        let (read_bytes, damaged) = pass(&store, step_bytes);
        assert!(read_bytes >= once && damaged.is_empty(), "{read_bytes} in steps of {step_bytes}");
        // A step reads a path and then a leaf or a value at least.
        assert!(read_bytes <= 5 * once, "{read_bytes} in steps of {step_bytes}");
    }
}

#[test]
fn a_flipped_bit_in_any_page_is_found_in_one_pass_though_the_page_is_cached() {
    let disk = MemDisk::new();
    let store = written(&disk);
    let len = disk.contents()[FILE].len();
    let rng = &mut rng(32);
    let mut found = BTreeSet::new();
    for page in 2..len / PAGE_BYTES {
        let (byte, bit) =
            (page * PAGE_BYTES + rng.random_range(0..PAGE_BYTES), rng.random_range(0..8));
        disk.flip_bit(FILE, byte as u64, bit);
        let (_, damaged) = pass(&store, 50_000);
        assert!(damaged.len() <= 1, "{damaged:?}");
        found.extend(damaged);
        disk.flip_bit(FILE, byte as u64, bit);
    }
    let report = { written(&MemDisk::new()).check().unwrap() };
    assert_eq!(found.len() as u64, report.leaves + report.branches + report.values);
    assert!(pass(&store, 50_000).1.is_empty());
}

#[test]
fn behind_a_damaged_page_the_walk_goes_on_and_the_keys_are_named() {
    let disk = MemDisk::new();
    let store = written(&disk);
    let pages = disk.contents()[FILE].len() / PAGE_BYTES;
    (2..pages).step_by(7).for_each(|page| disk.flip_bit(FILE, (page * PAGE_BYTES) as u64 + 9, 0));
    let (_, damaged) = pass(&store, 10_000);
    assert!(damaged.len() > 5, "{damaged:?}");
    assert_eq!(damaged, pass(&store, u64::MAX).1);
}

#[test]
fn a_pass_over_a_store_that_is_written_meanwhile_ends_and_finds_nothing() {
    let disk = MemDisk::new();
    let mut store = written(&disk);
    let (mut scrub, rng) = (Scrub::default(), &mut rng(33));
    for round in 0..1_000_u32 {
        let done = scrub.step(&store.snapshot(), 20_000);
        assert!(done.damages.is_empty(), "{:?}", done.damages);
        if done.is_pass_done {
            assert!(round > 5, "steps were not short");
            return;
        }
        let mut txn = store.begin();
        if round % 7 == 6 {
            txn.clear(T).unwrap();
        }
        for _ in 0..20 {
            txn.put(T, &random_bytes(rng, 40), &[7; 200]).unwrap();
        }
        txn.commit().unwrap();
        checkpoint(&mut store).unwrap();
    }
    panic!("the pass does not end");
}
