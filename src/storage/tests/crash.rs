//! Disks that fail: power cuts at every call, every call failing once, full disks, damaged bytes.

use std::io;

use super::*;
use crate::storage::disk::{Calls, Fault, PowerCut};
use crate::storage::inspect::survey::survey;
use crate::storage::page::PAGE_BYTES;

/// What a workload left behind.
struct Left {
    /// The newest commit.
    committed: Model,
    /// The last checkpoint that was acknowledged.
    durable: Model,
    /// A checkpoint whose end is unknown: it was being written when the disk failed.
    perhaps: Option<Model>,
    /// What stopped the workload early.
    stopped_by: Option<StorageError>,
}

/// Commits and checkpoints by turns, the checkpoint running beside one more commit, and reads past
/// the cache. Errors that are not fatal are shrugged off, as the caller of a store would.
fn work(disk: &MemDisk) -> Left {
    let mut left =
        Left { committed: Model::new(), durable: Model::new(), perhaps: None, stopped_by: None };
    if let Err(error) = try_work(disk, &mut left) {
        left.stopped_by = Some(error);
    }
    left
}

fn try_work(disk: &MemDisk, left: &mut Left) -> Result<(), StorageError> {
    let mut store = open(disk)?;
    let rng = &mut rng(21);
    for round in 0..6_u8 {
        commit_some(&mut store, left, rng, round)?;
        match store.begin_checkpoint()? {
            None => {}
            Some(checkpoint) => {
                let model = left.committed.clone();
                commit_some(&mut store, left, rng, round + 100)?;
                left.perhaps = Some(model.clone());
                match store.finish_checkpoint(checkpoint.write()) {
                    Ok(_) => left.durable = model,
                    Err(error) if error.is_fatal() || !is_injected(&error) => return Err(error),
                    Err(_) => {}
                }
                left.perhaps = None;
            }
        }
        if let Err(error) = store.check()
            && !is_injected(&error)
        {
            return Err(error);
        }
    }
    Ok(())
}

/// One transaction; when the disk fails a read, it is rolled back and the model keeps its state.
fn commit_some(
    store: &mut Store,
    left: &mut Left,
    rng: &mut StdRng,
    round: u8,
) -> Result<(), StorageError> {
    let mut model = left.committed.clone();
    let mut txn = store.begin();
    let mut fill = || {
        for _ in 0..12 {
            let key = vec![rng.random_range(0..60); 30];
            let value = vec![round; [20, 500, 6_000][rng.random_range(0..3)]];
            txn.put(T, &key, &value)?;
            model.insert(key, value);
        }
        let gone = vec![rng.random_range(0..60); 30];
        txn.delete(T, &gone)?;
        model.remove(&gone);
        Ok(())
    };
    match fill().and_then(|()| txn.commit()) {
        Ok(_) => left.committed = model,
        Err(error) if is_injected(&error) => {}
        Err(error) => return Err(error),
    }
    assert_eq!(store.snapshot().len(T), left.committed.len() as u64);
    Ok(())
}

/// An error of the kind that the tests inject and a caller can go on after.
fn is_injected(error: &StorageError) -> bool {
    matches!(error, StorageError::Io { source, .. } if source.kind() == io::ErrorKind::Other)
}

/// The store on `disk` opens, is sound, and holds what is durable.
#[track_caller]
fn assert_recovers(disk: &MemDisk, left: &Left, what: &str) {
    let mut store = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    store.check().unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = contents(&store.snapshot()).unwrap();
    let is_right = found == left.durable || left.perhaps.as_ref() == Some(&found);
    assert!(is_right, "{what}: neither the last durable root nor the one being written");
}

fn calls_of_the_workload() -> u64 {
    let disk = MemDisk::new();
    let left = work(&disk);
    assert!(left.stopped_by.is_none() && !left.durable.is_empty());
    disk.calls()
}

#[test]
fn a_power_cut_at_any_call_leaves_the_last_durable_root() {
    for call in 0..calls_of_the_workload() {
        for seed in 0..6 {
            let disk = MemDisk::new();
            disk.cut_power_after(call);
            let left = work(&disk);
            let mut rng = rng(call * 1_000 + seed); // other damage at every call
            let cut = match seed {
                0 => PowerCut::KeepNone,
                1 => PowerCut::KeepAll,
                _ => PowerCut::ByChance(&mut rng),
            };
            assert_recovers(&disk.crash(cut), &left, &format!("call {call}, seed {seed}"));
        }
    }
}

#[test]
fn any_call_that_fails_once_leaves_a_right_state() {
    for call in 0..calls_of_the_workload() {
        for fault in [Fault::Error(io::ErrorKind::Other), Fault::SyncForgets] {
            let what = format!("call {call}, {fault:?}");
            let disk = MemDisk::new();
            disk.fail(Calls::All, call, fault);
            let left = work(&disk);
            if let Some(error) = &left.stopped_by {
                let at_opening = left.committed.is_empty();
                assert!(error.is_fatal() || at_opening && is_injected(error), "{what}: {error}");
            }
            // As the process left it, and after a power cut on top.
            assert_recovers(&disk, &left, &what);
            let disk = disk.crash(PowerCut::ByChance(&mut rng(call)));
            assert_recovers(&disk, &left, &what);
        }
    }
}

#[test]
fn after_a_failed_sync_the_store_makes_no_more_checkpoints() {
    let disk = MemDisk::new();
    let mut store = open(&disk).unwrap();
    put_all(&mut store, [(&b"a"[..], &b"1"[..])]);
    disk.fail(Calls::Sync, 0, Fault::SyncForgets);
    assert!(checkpoint(&mut store).unwrap_err().is_fatal());
    assert!(matches!(checkpoint(&mut store), Err(StorageError::Stopped { .. })));
    put_all(&mut store, [(&b"a"[..], &b"2"[..])]);
    store.check().unwrap();
    assert_eq!(store.snapshot().get(T, b"a").unwrap().unwrap(), "2");
}

#[test]
fn a_root_that_was_shown_after_a_failed_sync_is_durable_before_anything_is_built_on_it() {
    let disk = MemDisk::new();
    let mut store = open(&disk).unwrap();
    put_all(&mut store, [(&b"a"[..], &b"1"[..])]);
    checkpoint(&mut store).unwrap();
    put_all(&mut store, [(&b"a"[..], &b"2"[..])]);
    disk.fail(Calls::Sync, 1, Fault::SyncForgets); // that of the meta page
    assert!(checkpoint(&mut store).unwrap_err().is_fatal());
    drop(store);
    // The system shows the new meta page, and takes it for written.
    let shown = contents(&open(&disk).unwrap().snapshot()).unwrap();
    assert_eq!(shown[&b"a"[..]], b"2");
    let store = open(&disk.crash(PowerCut::KeepNone)).unwrap();
    assert_eq!(contents(&store.snapshot()).unwrap(), shown);
}

#[test]
fn a_file_that_was_made_by_a_process_that_died_keeps_its_name() {
    let disk = MemDisk::new();
    disk.fail(Calls::Sync, 1, Fault::Error(io::ErrorKind::Other)); // that of the directory
    assert!(open(&disk).is_err_and(|error| is_injected(&error)));
    let mut store = open(&disk).unwrap();
    put_all(&mut store, [(&b"a"[..], &b"1"[..])]);
    checkpoint(&mut store).unwrap();
    let store = open(&disk.crash(PowerCut::KeepNone)).unwrap();
    assert_eq!(store.snapshot().get(T, b"a").unwrap().unwrap(), "1");
}

#[test]
fn the_offline_check_finds_nothing_wherever_a_checkpoint_that_cuts_the_file_was_stopped() {
    for calls in 0.. {
        let disk = MemDisk::new();
        let mut store = open(&disk).unwrap();
        put_all(&mut store, [(&b"a"[..], &[1; 100_000][..]), (&b"b"[..], &[2; 100_000][..])]);
        checkpoint(&mut store).unwrap();
        let len = disk.contents()[FILE].len();
        let mut txn = store.begin();
        txn.clear(T).unwrap();
        txn.commit().unwrap();
        disk.cut_power_after(calls);
        // The first writes the root that lets go of the pages; the next ones move the map and cut.
        let is_done = checkpoint(&mut store).is_ok()
            && (0..4).all(|nth| {
                put_all(&mut store, [(&b"c"[..], &[nth][..])]);
                checkpoint(&mut store).is_ok()
            });
        let disk = disk.crash(PowerCut::KeepAll);
        let survey = survey(&(Arc::new(disk.clone()) as Arc<dyn Disk>)).unwrap();
        assert!(survey.findings.is_empty(), "call {calls}: {:?}", survey.findings);
        if is_done {
            assert!(disk.contents()[FILE].len() < len, "nothing was cut off");
            return;
        }
    }
}

#[test]
fn a_full_disk_is_an_error_that_changes_nothing_and_passes() {
    let disk = MemDisk::new();
    let mut store = open(&disk).unwrap();
    put_all(&mut store, [(&b"a"[..], &b"1"[..])]);
    checkpoint(&mut store).unwrap();
    disk.set_capacity(Some(100_000));
    put_all(&mut store, [(&b"b"[..], &[2; 200_000][..])]);
    let before = disk.contents();
    let error = checkpoint(&mut store).unwrap_err();
    assert!(error.is_disk_full() && !error.is_fatal(), "{error}");
    assert_eq!(disk.contents(), before);
    store.check().unwrap();
    assert_eq!(store.stats().durable_txn, 1);
    assert_eq!(store.snapshot().get(T, b"b").unwrap().unwrap().len(), 200_000);

    disk.set_capacity(None);
    checkpoint(&mut store).unwrap();
    drop(store);
    let mut store = open(&disk.crash(PowerCut::KeepNone)).unwrap();
    store.check().unwrap();
    assert_eq!(store.snapshot().len(T), 2);
}

#[test]
fn a_failed_read_in_a_transaction_undoes_it_and_it_succeeds_when_repeated() {
    let (disk, model) = written();
    let key = model.keys().nth(100).unwrap();
    for nth in 0.. {
        let mut store = open(&disk).unwrap(); // nothing is cached
        disk.fail(Calls::Read, nth, Fault::Error(io::ErrorKind::Other));
        let mut write = || {
            let mut txn = store.begin();
            txn.put(T, key, b"new")?;
            txn.delete_range(T, Bounds::ALL)?;
            txn.put(T, b"only", &[1; 10_000])?;
            txn.commit()
        };
        let Err(error) = write() else {
            assert!(nth > 5, "{nth} reads");
            break;
        };
        assert!(is_injected(&error), "{error}");
        store.check().unwrap();
        assert_holds(&store.snapshot(), &model);
        let mut txn = store.begin();
        txn.clear(T).unwrap();
        txn.put(T, b"only", b"").unwrap();
        txn.commit().unwrap();
        store.check().unwrap();
        assert_eq!(store.snapshot().len(T), 1);
    }
}

#[test]
fn a_failed_transaction_does_nothing_more() {
    let (disk, model) = written();
    let mut store = open(&disk).unwrap();
    let mut txn = store.begin();
    txn.put(U, b"a", b"1").unwrap();
    disk.fail(Calls::Read, 0, Fault::Error(io::ErrorKind::Other));
    assert!(is_injected(&txn.put(T, b"a", b"1").unwrap_err()) || txn.clear(T).is_err());
    assert!(matches!(txn.get(U, b"a"), Err(StorageError::TransactionFailed)));
    assert!(matches!(txn.put(U, b"b", b"2"), Err(StorageError::TransactionFailed)));
    assert!(matches!(txn.commit(), Err(StorageError::TransactionFailed)));
    assert_holds(&store.snapshot(), &model);
    assert_eq!(store.snapshot().len(U), 0);
}

/// A store of a few hundred entries, inline and large, checkpointed twice.
fn written() -> (MemDisk, Model) {
    let disk = MemDisk::new();
    let mut store = open(&disk).unwrap();
    let rng = &mut rng(22);
    let mut model = Model::new();
    for _ in 0..2 {
        let part: Model = (0..120)
            .map(|nth| {
                (random_bytes(rng, 20), random_bytes(rng, if nth % 10 == 0 { 6_000 } else { 300 }))
            })
            .collect();
        put_all(&mut store, part.iter().map(|(key, value)| (&key[..], &value[..])));
        model.extend(part);
        checkpoint(&mut store).unwrap();
    }
    (disk, model)
}

/// Opens damaged content and reads all of it: right, or refused as damaged, never wrong. Says
/// whether the damage was found.
fn is_refused(contents_of_disk: BTreeMap<String, Vec<u8>>, model: &Model, what: &str) -> bool {
    let disk = MemDisk::from_contents(contents_of_disk);
    let read = open(&disk).and_then(|mut store| {
        let found = contents(&store.snapshot())?;
        store.check()?;
        Ok(found)
    });
    match read {
        Ok(found) => {
            assert!(&found == model, "{what}: a wrong answer");
            false
        }
        Err(error) => {
            assert!(error.is_corrupt(), "{what}: {error}");
            assert!(error.to_string().contains("memory:conure.db"), "{error}");
            true
        }
    }
}

#[test]
fn a_flipped_bit_in_any_sector_is_found() {
    let (disk, model) = written();
    let good = disk.contents();
    let live = open(&disk).unwrap().stats().live_bytes / PAGE_BYTES as u64;
    let rng = &mut rng(23);
    let mut refused = std::collections::BTreeSet::new();
    // Past the meta pages: one of those may be damaged, as after a torn write, and the other stands in.
    for sector in 2 * PAGE_BYTES / 512..good[FILE].len() / 512 {
        let mut bad = good.clone();
        let byte = sector * 512 + rng.random_range(0..512);
        bad.get_mut(FILE).unwrap()[byte] ^= 1 << rng.random_range(0..8);
        if is_refused(bad, &model, &format!("byte {byte}")) {
            refused.insert(byte / PAGE_BYTES);
        }
    }
    assert_eq!(refused.len() as u64, live - 2, "every live page but the metas");
}

#[test]
fn lost_and_misdirected_writes_are_found() {
    let (disk, model) = written();
    let old = disk.contents();
    let mut store = open(&disk).unwrap();
    let rewritten: Model = model.keys().map(|key| (key.clone(), vec![9; 300])).collect();
    for _ in 0..2 {
        // Twice, so that pages of the first state are written over.
        put_all(&mut store, rewritten.iter().map(|(key, value)| (&key[..], &value[..])));
        checkpoint(&mut store).unwrap();
    }
    let new = disk.contents();
    let pages = new[FILE].len() / PAGE_BYTES;
    let old_pages = old[FILE].len() / PAGE_BYTES;
    let page = |number: usize| number * PAGE_BYTES..(number + 1) * PAGE_BYTES;
    let (mut lost, mut misdirected) = (0, 0);
    for number in 2..pages {
        if number < old_pages && old[FILE][page(number)] != new[FILE][page(number)] {
            let mut bad = new.clone();
            let before = &old[FILE][page(number)];
            bad.get_mut(FILE).unwrap()[page(number)].copy_from_slice(before);
            lost += usize::from(is_refused(bad, &rewritten, &format!("page {number} lost")));
        }
        let mut bad = new.clone();
        let other = &new[FILE][page(2 + (number + 1) % (pages - 2))];
        bad.get_mut(FILE).unwrap()[page(number)].copy_from_slice(other);
        misdirected +=
            usize::from(is_refused(bad, &rewritten, &format!("page {number} misdirected")));
    }
    assert!(lost > 10 && misdirected > 10, "{lost} and {misdirected}");
}

#[test]
fn a_torn_meta_page_falls_back_and_two_are_refused() {
    let (disk, model) = written();
    for meta in 0..2 {
        let mut torn = disk.contents();
        torn.get_mut(FILE).unwrap()[meta * PAGE_BYTES + 20] ^= 1;
        let store = open(&MemDisk::from_contents(torn)).unwrap();
        let found = contents(&store.snapshot()).unwrap();
        assert!(found == model || found.len() == model.len() / 2, "this root or the one before");
    }
    let mut torn = disk.contents();
    (0..2).for_each(|meta| torn.get_mut(FILE).unwrap()[meta * PAGE_BYTES + 20] ^= 1);
    let error = open(&MemDisk::from_contents(torn)).err().unwrap();
    assert!(matches!(error, StorageError::NoMeta { .. }), "{error}");
}

#[test]
fn foreign_newer_and_empty_files_are_refused_by_name() {
    let refusal = |content: Vec<u8>| {
        let disk = MemDisk::from_contents(BTreeMap::from([(FILE.to_owned(), content)]));
        open(&disk).err().unwrap()
    };
    assert!(matches!(refusal(b"SQLite format 3\0".repeat(1_000)), StorageError::Foreign { .. }));
    assert!(matches!(refusal(vec![0; 3 * PAGE_BYTES]), StorageError::Foreign { .. }));
    assert!(matches!(refusal(Vec::new()), StorageError::NoMeta { .. }));

    let disk = MemDisk::new();
    drop(open(&disk).unwrap());
    let mut newer = disk.contents().remove(FILE).unwrap();
    newer[8] = 9; // the version of the first meta page, under a right checksum
    let sum = [&newer[..12], &newer[16..512]].concat();
    newer[12..16].copy_from_slice(&crc32fast::hash(&sum).to_le_bytes());
    let error = refusal(newer);
    assert!(matches!(error, StorageError::OtherVersion { found: 9, supported: 4, .. }), "{error}");
}

#[test]
fn damaged_nodes_under_a_right_checksum_never_panic() {
    use crate::storage::node::Node;
    use crate::storage::page::{reference, seal, verify};
    let (disk, _) = written();
    let file = &disk.contents()[FILE];
    let rng = &mut rng(24);
    let mut sound = 0;
    for round in 0..60_000 {
        let number = rng.random_range(2..file.len() / PAGE_BYTES);
        let mut page = file[number * PAGE_BYTES..(number + 1) * PAGE_BYTES].to_vec();
        // Structure is dense at both ends of a node: aim there half of the time.
        for _ in 0..rng.random_range(1..4) {
            let within = if rng.random() { 28..100 } else { 28..PAGE_BYTES };
            page[rng.random_range(within)] = rng.random();
        }
        seal(&mut page);
        let at = reference(&page);
        if at.span != 1 || page[7] > 2 || verify(&page, at).is_err() {
            continue;
        }
        if Node::validate(&page).is_ok() {
            let node = Node::of(&page);
            assert!(node.used_bytes() <= PAGE_BYTES, "round {round}");
            let keys = node.keys();
            assert_eq!(node.cells(&keys).count(), node.count());
            let _ = node.search(&random_bytes(rng, 20));
            let _ = node.child_slot(&random_bytes(rng, 20));
            sound += 1;
        }
    }
    assert!(sound > 1_000, "{sound}");
}
