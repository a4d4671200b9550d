//! Reads by the leader's lease: without a quorum while it holds, never after, and what the others do for it.

use std::time::Duration;

use conuredb::actors::messages::{Consistency, RequestError, Role};
use conuredb::simulation::client as clients;
use conuredb::simulation::surroundings::options;
use conuredb::simulation::world::World;
use conuredb::types::Key;
use tokio::time::{Instant, sleep};

use super::{NAMES, cut_off, found, others_than};

/// The shortest election timeout of a simulated node.
const TIMEOUT: Duration = Duration::from_millis(300);

async fn read(world: &World, node: &str) -> Result<Vec<u8>, RequestError> {
    let view = clients::view(world, node, Consistency::Lease).await?.view;
    let record = view.get(&Key::new(&b"k"[..]).expect("a short key"))?;
    Ok(record.expect("the key is there").value.to_vec())
}

#[test]
fn a_leader_reads_without_its_quorum_until_its_lease_ends() {
    for seed in 0..4 {
        World::run(seed, |world| async move {
            found(&world).await;
            let leader = clients::leader(&world, &NAMES).await;
            clients::put(&world, &leader, "k", b"v", None).await.expect("a write");
            cut_off(&world, &leader, &NAMES);
            let asked = Instant::now();
            assert_eq!(read(&world, &leader).await.expect("a read by the lease"), b"v");
            assert!(asked.elapsed() < Duration::from_millis(50), "it asked nobody: seed {seed}");
            // A heartbeat that was under way may have come through.
            sleep(TIMEOUT + Duration::from_millis(10)).await;
            let refused = read(&world, &leader).await.expect_err("a read after the lease");
            assert!(matches!(refused, RequestError::NoLeader { .. }), "seed {seed}: {refused}");
            let rest = others_than(&leader);
            clients::leader(&world, &rest).await;
            assert_eq!(read(&world, rest[0]).await.expect("a read elsewhere"), b"v");
        });
    }
}

#[test]
fn a_node_that_restarts_keeps_its_leader_from_being_replaced_for_the_shortest_timeout() {
    for seed in 0..12 {
        World::run(seed, |world| async move {
            found(&world).await;
            let old = clients::leader(&world, &NAMES).await;
            let rest = others_than(&old);
            let (away, voter) = (rest[0], rest[1]);
            // One follower misses the leader and stands for election; the other follows, and does not vote for it.
            cut_off(&world, &old, &[away]);
            sleep(Duration::from_secs(3)).await;
            let status = clients::status(&world, voter).await.expect("a status");
            assert_eq!(status.leader.map(|leader| leader.name), Some(old.clone()), "seed {seed}");

            let restarted = Instant::now();
            world.crash(voter);
            cut_off(&world, &old, &[voter]);
            world.try_start(voter, options(voter, &[])).await.expect("a start");
            clients::wait_for(&world, "another leader", async |world| {
                for name in [away, voter] {
                    let role = clients::status(world, name).await?.role;
                    if role == Role::Leader {
                        return Some(());
                    }
                }
                None
            })
            .await;
            assert!(restarted.elapsed() >= TIMEOUT, "seed {seed}: {:?}", restarted.elapsed());
        });
    }
}
