//! The actor on a memory disk, in simulated time.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::*;
use crate::actors::messages::inside::{Apply, TakeSnapshot};
use crate::actors::space::Space;
use crate::actors::storage::CheckpointActor;
use crate::actors::{OnFatal, in_paused_time};
use crate::storage::disk::{Disk, MemDisk};
use crate::storage::kv::{Entry, FILE, Kv, Payload};
use crate::storage::log::{LogEntry, LogOptions};
use crate::storage::store::StoreOptions;
use crate::types::{Command, Condition, Key, Lifetime, LogId, Operation};

const RATE: u64 = 100_000;

fn entry(index: u64) -> Entry {
    let key = Key::new(format!("key-{index}").into_bytes()).expect("a short key");
    let value = Bytes::from(vec![index as u8; 2_000]);
    let operation =
        Operation::Put { key, value, condition: Condition::None, lifetime: Lifetime::Unbounded };
    let command = Command { time_ms: 0, request_id: None, operation };
    Entry { id: LogId { term: 1, index }, payload: Payload::Command(command) }
}

/// A store of a megabyte and a half and a log of several segments, both durable, and the actors over them.
async fn scrubbed(damage: impl Fn(&MemDisk), during: impl AsyncFn(&Metrics)) {
    let disk = MemDisk::new();
    let options =
        LogOptions { segment_bytes: 64 << 10, max_payload_bytes: 9_000, ..LogOptions::default() };
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let (log, mut writer, _) = Log::open(shared.clone(), options).expect("an empty disk");
    let metrics = Arc::new(Metrics::new("test"));
    let on_fatal: OnFatal = Arc::new(|reason| panic!("{reason}"));
    let kv =
        Kv::open(shared.clone(), StoreOptions { cache_bytes: 64 << 20 }).expect("an empty disk");
    let space = Space::open(shared, 1 << 10, metrics.clone()).expect("an empty disk");
    let (applied, _) = watch::channel(0);
    let checkpoints = CheckpointActor.start();
    let space = Arc::new(space);
    let storage =
        StorageActor::new(kv, checkpoints, applied, space, metrics.clone(), on_fatal).start();
    for index in 1..=300 {
        let payload = vec![index as u8; 1_000].into();
        log.append(vec![LogEntry { id: LogId { term: 1, index }, payload }]).expect("room");
    }
    writer.flush().expect("no I/O fails");
    let entries = (1..=300).map(entry).collect();
    let applied = storage.send(Apply { life: 0, entries }).await.expect("the actor lives");
    applied.expect("no I/O fails");
    storage.send(TakeSnapshot).await.expect("the actor lives").expect("no I/O fails");
    damage(&disk);
    let log = Arc::new(log);
    let current: CurrentLog = Arc::new(move || Some(log.clone()));
    ScrubActor::new(RATE, storage, current, metrics.clone()).start();
    during(&metrics).await;
}

async fn pass(metrics: &Metrics, number: u64) {
    let limit = Instant::now() + 2 * PASS_EVERY;
    while metrics.scrub_passes.get() < number {
        assert!(Instant::now() < limit, "the pass does not end");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[test]
fn a_pass_reads_everything_no_faster_than_the_rate_and_comes_once_a_day() {
    in_paused_time(scrubbed(
        |_| {},
        async |metrics| {
            let begun = Instant::now();
            while metrics.scrub_passes.get() == 0 {
                tokio::time::sleep(LEAST_PAUSE).await;
                let most = RATE as f64 * begun.elapsed().as_secs_f64() + STEP_BYTES as f64;
                let read = metrics.scrub_bytes.get();
                assert!(read as f64 <= most * 1.1, "{read} bytes in {:?}", begun.elapsed());
            }
            let (read, elapsed) = (metrics.scrub_bytes.get(), begun.elapsed());
            assert!((900_000..2_500_000).contains(&read), "{read} bytes");
            assert!(elapsed.as_secs_f64() >= 0.7 * read as f64 / RATE as f64, "{elapsed:?}");
            assert_eq!(metrics.scrub_damaged.get(), 0);

            pass(metrics, 2).await;
            assert!(begun.elapsed() >= PASS_EVERY, "{:?}", begun.elapsed());
        },
    ));
}

#[test]
fn damage_of_a_page_that_is_cached_and_of_a_record_is_told_at_every_pass_and_stops_nobody() {
    let damage = |disk: &MemDisk| {
        let contents = disk.contents();
        let find = |file: &str, pattern: &[u8]| {
            let found = contents[file].windows(pattern.len()).position(|bytes| bytes == pattern);
            found.expect("it was written") as u64
        };
        disk.flip_bit(FILE, find(FILE, &[77; 500]), 3);
        let segment = contents.keys().find(|name| name.ends_with(".seg")).expect("a segment");
        disk.flip_bit(segment, find(segment, &[9; 500]), 0);
    };
    in_paused_time(scrubbed(damage, async |metrics| {
        for number in 1..=2 {
            pass(metrics, number).await;
            assert_eq!(metrics.scrub_damaged.get(), 2, "after pass {number}");
        }
    }));
}
