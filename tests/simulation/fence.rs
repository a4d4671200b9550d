//! A leader that is cut off from its quorum knows that it leads no more, and says so in time.

use std::time::Duration;

use conuredb::actors::messages::{Applied, RequestError, Role};
use conuredb::simulation::client as clients;
use conuredb::simulation::world::World;
use tokio::time::{Instant, sleep};

use super::{NAMES, cut_off, found, others_than};

/// The lease of a simulated leader: its longest election timeout.
const LEASE: Duration = Duration::from_millis(600);

/// A simulated client gives a request 3 s. One that nobody took has its answer well before.
const ANSWER_LIMIT: Duration = Duration::from_millis(2_600);

#[test]
fn a_leader_cut_off_from_its_quorum_refuses_before_another_can_acknowledge_a_write() {
    for seed in 0..8 {
        World::run(seed, |world| async move {
            found(&world).await;
            let old = clients::leader(&world, &NAMES).await;
            clients::put(&world, &old, "k", b"before", None).await.expect("a write");

            cut_off(&world, &old, &NAMES);
            // What was heard of the quorum last may be a heartbeat old.
            sleep(LEASE + Duration::from_millis(10)).await;
            let status = clients::status(&world, &old).await.expect("a status");
            assert_ne!(status.role, Role::Leader, "seed {seed}");
            assert_eq!(status.leader, None, "seed {seed}");
            assert!(!status.not_ready.is_empty(), "seed {seed}");

            let asked = Instant::now();
            let write = clients::put(&world, &old, "k", b"cut off", None).await;
            let write = write.expect_err("a write without a quorum");
            assert!(matches!(write, RequestError::NoLeader { .. }), "seed {seed}: {write}");
            assert_eq!(write.applied(), Applied::No, "seed {seed}");
            assert!(asked.elapsed() < ANSWER_LIMIT, "seed {seed}: {:?}", asked.elapsed());
            let asked = Instant::now();
            let read = clients::get(&world, &old, "k").await.expect_err("a read without a quorum");
            assert!(matches!(read, RequestError::NoLeader { .. }), "seed {seed}: {read}");
            assert!(asked.elapsed() < ANSWER_LIMIT, "seed {seed}: {:?}", asked.elapsed());

            let rest = others_than(&old);
            let new = clients::leader(&world, &rest).await;
            assert_ne!(new, old, "seed {seed}");
            let now = clients::get(&world, &new, "k").await.expect("a read");
            assert_eq!(now.as_deref(), Some(&b"before"[..]), "seed {seed}");
            clients::put(&world, rest[0], "k", b"after", None).await.expect("a write");

            world.network.heal();
            clients::wait_for_voters(&world, &NAMES, 3).await;
            let now = clients::get(&world, &old, "k").await.expect("a read");
            assert_eq!(now.as_deref(), Some(&b"after"[..]), "seed {seed}");
        });
    }
}
