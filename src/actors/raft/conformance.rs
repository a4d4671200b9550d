//! openraft's own storage suite, run on the real log and the real state machine over memory disks.
//!
//! The suite knows no crashes and no torn writes; those are tested where the files are
//! (`storage::log`, `storage::tests`) and in the simulation.

use std::sync::Arc;

use actix::Actor;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft_rt::deterministic_rng::DeterministicRng;
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::log_store::LogStore;
use super::state_machine::StateMachine;
use super::types::TypeConfig;
use crate::actors::OnFatal;
use crate::actors::log::LogActor;
use crate::actors::space::Space;
use crate::actors::storage::{CheckpointActor, StorageActor};
use crate::metrics::Metrics;
use crate::storage::disk::{Disk, MemDisk};
use crate::storage::kv::Kv;
use crate::storage::log::{Log, LogOptions};
use crate::storage::store::StoreOptions;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine> for Builder {
    async fn build(
        &self,
    ) -> Result<((), LogStore, StateMachine), openraft::StorageError<TypeConfig>> {
        let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
        let metrics = Arc::new(Metrics::new("test"));
        let on_fatal: OnFatal = Arc::new(|reason| panic!("{reason}"));
        let options = LogOptions {
            segment_bytes: 64 << 10,
            max_payload_bytes: 16 << 10,
            ..LogOptions::default()
        };
        let (log, writer, _) = Log::open(disk.clone(), options.clone()).expect("an empty disk");
        let kv = Kv::open(disk.clone(), StoreOptions::default()).expect("an empty disk");
        let space = Space::open(disk.clone(), 1 << 10, metrics.clone()).expect("an empty disk");
        let space = Arc::new(space);
        let log_actor =
            LogActor::new(writer, disk, options, space.clone(), metrics.clone(), on_fatal.clone())
                .start();
        let (applied, _) = watch::channel(0);
        let checkpoints = CheckpointActor.start();
        let storage = StorageActor::new(kv, checkpoints, applied, space, metrics, on_fatal).start();
        let log_store = LogStore::new(log, log_actor, Arc::default(), watch::Sender::new(0));
        Ok(((), log_store, StateMachine::new(storage, 0)))
    }
}

#[test]
fn the_log_and_the_state_machine_pass_the_storage_suite_of_openraft() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    let actors = LocalSet::new();
    let suite = actors.run_until(Suite::test_all(Builder));
    let seeded = DeterministicRng::<openraft::TokioRuntime>::scope(1, suite);
    runtime.block_on(seeded).expect("the suite passes");
}
