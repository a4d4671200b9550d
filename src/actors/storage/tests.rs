//! The actor on a memory disk.

use std::sync::Arc;

use actix::Actor;
use bytes::Bytes;
use tokio::sync::watch;

use super::*;
use crate::actors::in_paused_time;
use crate::storage::disk::{Disk, MemDisk};
use crate::storage::kv::{Entry, Payload};
use crate::storage::store::StoreOptions;
use crate::types::{Command, Condition, Key, Lifetime, LogId, Operation};

const POOL_BYTES: usize = 4 << 20;

fn put(index: u64, value: Bytes) -> Entry {
    let key = Key::new(format!("key-{index}").into_bytes()).expect("a short key");
    let operation =
        Operation::Put { key, value, condition: Condition::None, lifetime: Lifetime::Unbounded };
    let command = Command { time_ms: 0, request_id: None, operation };
    Entry { id: LogId { term: 1, index }, payload: Payload::Command(command) }
}

/// Nobody asks for a snapshot; checkpoints come by themselves, and before the pool is full of dirty pages.
#[test]
fn whoever_writes_faster_than_the_disk_waits_for_a_checkpoint() {
    let scenario = async {
        let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
        let metrics = Arc::new(Metrics::new("test"));
        let on_fatal: OnFatal = Arc::new(|reason| panic!("{reason}"));
        let options = StoreOptions { cache_bytes: POOL_BYTES };
        let kv = Kv::open(disk.clone(), options).expect("an empty disk");
        let space = Space::open(disk, 1 << 10, metrics.clone()).expect("an empty disk");
        let (applied, _) = watch::channel(0);
        let writer = CheckpointActor.start();
        let actor = StorageActor::new(kv, writer, applied, Arc::new(space), metrics, on_fatal);
        let actor = actor.start();
        let mut last_durable = None;
        let mut checkpoints = 0;
        for batch in 0..40_u64 {
            let value = Bytes::from(vec![batch as u8; 50_000]);
            let entries = (1..=10).map(|n| put(batch * 10 + n, value.clone())).collect();
            let outcomes = actor.send(Apply { life: 0, entries }).await.expect("the actor lives");
            assert_eq!(outcomes.expect("no I/O fails").len(), 10);
            let state = actor.send(LastSnapshot).await.expect("the actor lives");
            let durable = state.and_then(|state| state.applied());
            checkpoints += u32::from(durable != last_durable);
            last_durable = durable;
            let behind = batch * 10 + 10 - durable.map_or(0, |id| id.index);
            assert!(behind * 50_000 < POOL_BYTES as u64, "{behind} entries are in memory only");
        }
        // 20 MB were written, and half of the pool is 2 MB.
        assert!(checkpoints >= 5, "{checkpoints} checkpoints");
    };
    in_paused_time(scenario);
}
