//! Space and readers: what snapshots hold back, what comes back, and who may run beside the writer.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::storage::cache::pin;
use crate::storage::disk::{Calls, Fault, PowerCut};
use crate::storage::page::{PAGE_BYTES, PageRef};

fn key(nth: u64) -> [u8; 8] {
    nth.to_be_bytes()
}

fn file_len(disk: &MemDisk) -> u64 {
    disk.contents()[FILE].len() as u64
}

#[test]
fn a_held_snapshot_keeps_its_view_through_thousands_of_commits_and_costs_only_what_it_sees() {
    let disk = MemDisk::new();
    let mut store = open(&disk).unwrap();
    let model: Model = (0..500).map(|nth| (key(nth).to_vec(), vec![0; 100])).collect();
    put_all(&mut store, model.iter().map(|(key, value)| (&key[..], &value[..])));
    checkpoint(&mut store).unwrap();
    let live = store.stats().live_bytes;
    let held = store.snapshot();
    let rng = &mut rng(11);
    for round in 0..4_000_u32 {
        let key = key(rng.random_range(0..500));
        put_all(&mut store, [(&key[..], &round.to_le_bytes().repeat(25)[..])]);
        if round % 100 == 0 {
            checkpoint(&mut store).unwrap();
            store.check().unwrap();
        }
    }
    assert_holds(&held, &model);
    let stats = store.stats();
    assert_eq!(stats.oldest_pinned_txn, Some(held.txn()));
    // The snapshot's tree, the durable root's, and the newest: never one copy per commit.
    assert!(stats.held_bytes <= 2 * live, "{stats:?}");
    assert!(stats.file_bytes <= 6 * live, "{stats:?}");

    drop(held);
    checkpoint(&mut store).unwrap();
    let stats = store.stats();
    assert_eq!((stats.held_bytes, stats.pinned_roots), (0, 0), "all of it came back");
    store.check().unwrap();
}

/// They are on the disk for whoever still reads them, and their frames serve the pages that replaced them.
#[test]
fn a_clean_page_leaves_memory_with_the_commit_that_replaces_it_and_a_dirty_one_stays() {
    let mut store = open(&MemDisk::new()).unwrap();
    let fill = |store: &mut Store, value: u8| -> (PageRef, Model) {
        let model: Model = (0..500).map(|nth| (key(nth).to_vec(), vec![value; 100])).collect();
        put_all(store, model.iter().map(|(key, value)| (&key[..], &value[..])));
        (store.root().tree(T).root.unwrap(), model)
    };
    let is_in_memory = |store: &Store, page| store.pager.cache().get(page, &pin()).is_some();
    let (clean, model) = fill(&mut store, 1);
    checkpoint(&mut store).unwrap();
    let held = store.snapshot();
    assert!(is_in_memory(&store, clean));
    let (dirty, _) = fill(&mut store, 2);
    assert!(!is_in_memory(&store, clean));
    let flying = store.begin_checkpoint().unwrap().unwrap();
    fill(&mut store, 3);
    assert!(is_in_memory(&store, dirty), "it is to be written");
    store.finish_checkpoint(flying.write()).unwrap();
    assert_holds(&held, &model);
    store.check().unwrap();
}

/// What a checkpoint had written before it failed may leave memory, and is durable with the next one, whose sync covers it.
#[test]
fn what_a_failed_checkpoint_wrote_is_not_written_again() {
    let disk = MemDisk::new();
    let mut store = open(&disk).unwrap();
    let model: Model = (0..3_000).map(|nth| (key(nth).to_vec(), vec![nth as u8; 1_000])).collect();
    put_all(&mut store, model.iter().map(|(key, value)| (&key[..], &value[..])));
    let dirty = store.stats().dirty_bytes;
    disk.fail(Calls::Write, 2, Fault::Error(std::io::ErrorKind::Other));
    let error = checkpoint(&mut store).unwrap_err();
    assert!(!error.is_fatal() && disk.faults_left() == 0, "{error}");
    let left = store.stats().dirty_bytes;
    assert!(0 < left && left + (2 << 20) <= dirty + (64 << 10), "{left} of {dirty}");
    assert_holds(&store.snapshot(), &model);
    store.check().unwrap();

    let second = store.begin_checkpoint().unwrap().unwrap();
    assert!(second.len_bytes() < left + (64 << 10));
    store.finish_checkpoint(second.write()).unwrap();
    drop(store);
    let mut store = open(&disk.crash(PowerCut::KeepNone)).unwrap();
    assert_holds(&store.snapshot(), &model);
    store.check().unwrap();
}

/// A load has no use for memory that is made ahead, and would wait for it.
#[test]
fn memory_is_made_ahead_of_steady_commits_and_not_behind_a_load() {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
    let options = StoreOptions { cache_bytes: 4 << 20 };
    let mut store = Store::open(&disk, FILE, options).unwrap();
    let keys: Vec<_> = (0..500).map(key).collect();
    put_all(&mut store, keys.iter().map(|key| (&key[..], &[1; 100][..])));
    checkpoint(&mut store).unwrap();
    assert_eq!(store.pager.cache().prepared_frames(), 0);
    keys.iter().for_each(|key| put_all(&mut store, [(&key[..], &[2; 100][..])]));
    let dirty_bytes = store.stats().dirty_bytes;
    checkpoint(&mut store).unwrap();
    let prepared_bytes = store.pager.cache().prepared_frames() as usize * PAGE_BYTES;
    assert_eq!(prepared_bytes as u64, dirty_bytes);
}

#[test]
fn snapshots_let_go_in_any_order_give_everything_back() {
    let mut store = open(&MemDisk::new()).unwrap();
    let rng = &mut rng(12);
    let mut model = Model::new();
    let mut held: Vec<(Snapshot, Model)> = Vec::new();
    for round in 0..600_u32 {
        let (key, value) = (key(rng.random_range(0..80)), round.to_le_bytes().repeat(50));
        put_all(&mut store, [(&key[..], &value[..])]);
        model.insert(key.to_vec(), value);
        held.push((store.snapshot(), model.clone()));
        if held.len() > 20 {
            let (snapshot, model) = held.swap_remove(rng.random_range(0..held.len()));
            assert_holds(&snapshot, &model);
        }
        store.check().unwrap();
    }
    held.clear();
    put_all(&mut store, [(&b"last"[..], &b""[..])]);
    checkpoint(&mut store).unwrap();
    assert_eq!(store.stats().held_bytes, 0);
}

#[test]
fn overwriting_does_not_grow_the_file() {
    let disk = MemDisk::new();
    let mut store = open(&disk).unwrap();
    let mut high = 0;
    for round in 0..40_u8 {
        let value = vec![round; 3_000];
        let keys: Vec<_> = (0..200).map(key).collect();
        put_all(&mut store, keys.iter().map(|key| (&key[..], &value[..])));
        checkpoint(&mut store).unwrap();
        if round == 5 {
            high = store.stats().file_bytes;
        }
    }
    assert_eq!(store.stats().file_bytes, high);
    assert_eq!(file_len(&disk), high);
}

#[test]
fn the_file_shrinks_when_its_tail_is_free() {
    let disk = MemDisk::new();
    let mut store = open(&disk).unwrap();
    let keys: Vec<_> = (0..2_000).map(key).collect();
    put_all(&mut store, keys.iter().map(|key| (&key[..], &[1; 2_000][..])));
    checkpoint(&mut store).unwrap();
    assert!(file_len(&disk) > 8_000_000);
    let mut txn = store.begin();
    txn.clear(T).unwrap();
    txn.commit().unwrap();
    checkpoint(&mut store).unwrap(); // the durable root still held the pages when it began
    // Nothing changes any more, but the tail is worth cutting: the free list makes way, then it goes.
    checkpoint(&mut store).unwrap();
    checkpoint(&mut store).unwrap();
    assert!(file_len(&disk) < 64 << 10, "{} bytes", file_len(&disk));
    assert!(store.begin_checkpoint().unwrap().is_none(), "and then it is quiet");
    store.check().unwrap();
    drop(store);
    open(&disk).unwrap().check().unwrap();
}

#[test]
fn a_rolled_back_transaction_returns_its_pages() {
    let mut store = open(&MemDisk::new()).unwrap();
    put_all(&mut store, [(&b"a"[..], &[1; 100][..])]);
    for _ in 0..10 {
        let mut txn = store.begin();
        (0..300).for_each(|nth| assert!(!txn.put(T, &key(nth), &[2; 5_000]).unwrap()));
    }
    let stats = store.stats();
    assert_eq!(stats.live_bytes, 3 * PAGE_BYTES as u64, "metas, leaf");
    assert!(stats.file_bytes < 3_000_000, "{stats:?}");
    store.check().unwrap();
}

#[test]
fn a_checkpoint_runs_beside_commits_that_replace_all_it_writes() {
    let disk = MemDisk::new();
    let mut store = open(&disk).unwrap();
    let keys: Vec<_> = (0..300).map(key).collect();
    let fill = |store: &mut Store, value: u8| {
        let value = [value; 1_500];
        put_all(store, keys.iter().map(|key| (&key[..], &value[..])));
        store.check().unwrap();
    };
    fill(&mut store, 1);
    let first = store.begin_checkpoint().unwrap().unwrap();
    assert!(matches!(
        store.begin_checkpoint().map(|_| ()),
        Err(StorageError::CheckpointInFlight { .. })
    ));
    let dirty = store.stats().dirty_bytes;
    fill(&mut store, 2);
    fill(&mut store, 3);
    let done = first.write().unwrap();
    fill(&mut store, 4);
    store.finish_checkpoint(Ok(done)).unwrap();
    store.check().unwrap();
    assert!(store.stats().dirty_bytes >= dirty, "what came later is still dirty");
    assert_eq!(store.stats().durable_txn, 1);
    drop(store);
    let mut store = open(&disk).unwrap();
    store.check().unwrap();
    let snapshot = store.snapshot();
    assert!((0..300).all(|nth| snapshot.get(T, &key(nth)).unwrap().unwrap() == [1; 1_500][..]));
}

#[test]
fn what_crosses_threads_may() {
    fn crosses<T: Send>() {}
    fn is_shared<T: Send + Sync>() {}
    is_shared::<crate::storage::snapshot::Reader>();
    is_shared::<Snapshot>();
    is_shared::<crate::storage::cursor::Range<Snapshot>>();
    crosses::<Store>();
    crosses::<crate::storage::checkpoint::Checkpoint>();
    crosses::<Result<crate::storage::checkpoint::CheckpointDone, StorageError>>();
}

/// Readers on other threads see whole transactions only: every one rewrites all keys with one
/// value, while the writer commits, checkpoints, and a small cache evicts under them.
#[test]
fn readers_beside_the_writer_see_whole_transactions() {
    const KEYS: u64 = 400;
    let disk = MemDisk::new();
    let mut store = open(&disk).unwrap();
    let write = |store: &mut Store, round: u64| {
        let mut txn = store.begin();
        for nth in 0..KEYS {
            txn.put(T, &key(nth), &round.to_le_bytes().repeat(60)).unwrap();
        }
        txn.commit().unwrap();
    };
    write(&mut store, 0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (reader, stop) = (store.reader(), &stop);
            scope.spawn(move || {
                let mut last = 0;
                while !stop.load(Ordering::Relaxed) {
                    let snapshot = reader.snapshot();
                    let values: Vec<Bytes> =
                        snapshot.range(T, Bounds::ALL).map(|entry| entry.unwrap().1).collect();
                    assert_eq!(values.len() as u64, KEYS);
                    let round = u64::from_le_bytes(values[0][..8].try_into().unwrap());
                    assert!(values.iter().all(|value| value == &values[0]), "thread {thread}");
                    assert!(round >= last, "snapshots do not go back");
                    assert_eq!(snapshot.get(T, &key(round % KEYS)).unwrap().unwrap(), values[0]);
                    last = round;
                }
            });
        }
        for round in 1..90 {
            write(&mut store, round);
            if round % 3 == 0 {
                checkpoint(&mut store).unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    checkpoint(&mut store).unwrap();
    store.check().unwrap();
    assert_eq!(store.stats().held_bytes, 0);
}

/// Many small commits, each freeing pages at once that the next one uses again: a pin that came to
/// count too late would let a reader find another's pages. Two accounts always sum up to the same.
#[test]
fn pins_hold_while_pages_are_reused_as_fast_as_can_be() {
    const SUM: u64 = 1_000_000;
    let mut store = open(&MemDisk::new()).unwrap();
    let transfer = |store: &mut Store, left: u64| {
        let mut txn = store.begin();
        txn.put(T, b"left", &left.to_le_bytes()).unwrap();
        txn.put(U, b"right", &(SUM - left).to_le_bytes()).unwrap();
        txn.commit().unwrap();
    };
    transfer(&mut store, 0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (reader, stop) = (store.reader(), &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let snapshot = reader.snapshot();
                    let account = |tree: TreeId, key: &[u8]| {
                        let value = snapshot.get(tree, key).unwrap().unwrap();
                        u64::from_le_bytes(value[..].try_into().unwrap())
                    };
                    assert_eq!(account(T, b"left") + account(U, b"right"), SUM);
                }
            });
        }
        for left in 0..8_000 {
            transfer(&mut store, left);
            if left % 1_000 == 0 {
                checkpoint(&mut store).unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    store.check().unwrap();
    let pages = store.stats().file_bytes / PAGE_BYTES as u64;
    assert!(pages < 100, "{pages} pages: they were used again");
}

/// Pages are written, read and evicted for many times the pool's size, with half of the pool dirty when a checkpoint
/// begins and more while it is written.
#[test]
fn memory_stays_within_the_pool_and_a_tenth() {
    const POOL_BYTES: u64 = 4 << 20;
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
    let options = StoreOptions { cache_bytes: POOL_BYTES as usize };
    let mut store = Store::open(&disk, FILE, options).unwrap();
    for keys in (0..60_000).map(key).collect::<Vec<_>>().chunks(2_000) {
        put_all(&mut store, keys.iter().map(|key| (&key[..], &[0; 150][..])));
        checkpoint(&mut store).unwrap();
        store.pager.cache().settle();
    }
    let mut rng = rng(15);
    let (mut peak, mut peak_dirty) = (0, 0);
    let mut put_until = |store: &mut Store, dirty_bytes: u64, peak: &mut u64| {
        while store.stats().dirty_bytes < dirty_bytes {
            let keys: Vec<_> = (0..10).map(|_| key(rng.random_range(0..60_000))).collect();
            put_all(store, keys.iter().map(|key| (&key[..], &[1; 150][..])));
            let snapshot = store.snapshot();
            for _ in 0..10 {
                snapshot.get(T, &key(rng.random_range(0..60_000))).unwrap();
            }
            store.pager.cache().settle();
            *peak = store.stats().cached_bytes.max(*peak);
        }
    };
    for _ in 0..12 {
        put_until(&mut store, POOL_BYTES / 2, &mut peak);
        let checkpoint = store.begin_checkpoint().unwrap().expect("half the pool is dirty");
        put_until(&mut store, POOL_BYTES / 4 * 3, &mut peak);
        peak_dirty = store.stats().dirty_bytes.max(peak_dirty);
        store.finish_checkpoint(checkpoint.write()).unwrap();
    }
    let live_bytes = store.stats().live_bytes;
    assert!(live_bytes > POOL_BYTES / 2 * 3, "{live_bytes} bytes: more than the pool holds");
    assert!(peak_dirty > POOL_BYTES / 10 * 7);
    assert!(peak <= POOL_BYTES / 10 * 11, "{peak} bytes in memory, of {POOL_BYTES} at most");
}
