//! Simulated clusters: what one does in a given situation, told step by step. Random runs are those of
//! `conure-sim`, in `tests/conure_sim.rs`.

mod autopilot;
mod batches;
mod damage;
mod fence;
mod full_disk;
mod lease_reads;
mod membership;
mod removal;
mod rollback;
mod slow_disk;
mod stall;

use conuredb::actors::messages::Role;
use conuredb::simulation::client as clients;
use conuredb::simulation::world::World;

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

/// Two nodes: one founds a cluster, the other joins it by its seed.
async fn found_two(world: &World) {
    world.start("n1", &[]).await;
    world.start("n2", &["n1"]).await;
    clients::wait_for_voters(world, &["n1", "n2"], 2).await;
}

/// Three nodes that found a cluster and join it by their seeds.
async fn found(world: &World) {
    world.start("n1", &[]).await;
    world.start("n2", &["n1"]).await;
    world.start("n3", &["n1", "n2"]).await;
    clients::wait_for_voters(world, &NAMES, 3).await;
    world.note("three voters");
}

/// The names of the others.
fn others_than(name: &str) -> Vec<&'static str> {
    NAMES.into_iter().filter(|other| *other != name).collect()
}

/// Lets nothing pass between a machine and others, of which it may be one, in either direction.
fn cut_off(world: &World, name: &str, from: &[&str]) {
    world.note(format_args!("cut {name} off from {from:?}"));
    for peer in from.iter().filter(|peer| **peer != name) {
        world.network.cut(name, peer);
        world.network.cut(peer, name);
    }
}

#[test]
fn a_cluster_forms_and_serves_and_moves_its_leader() {
    World::run(1, |world| async move {
        found(&world).await;
        for round in 0..3u64 {
            let leader = clients::leader(&world, &NAMES).await;
            let key = format!("round-{round}");
            clients::put(&world, "n2", &key, b"value", None).await.expect("a write");
            for name in NAMES {
                let read = clients::get(&world, name, &key).await.expect("a read");
                assert_eq!(read.as_deref(), Some(&b"value"[..]), "from {name}");
            }
            let next = others_than(&leader)[0];
            clients::transfer(&world, "n1", next).await.expect("a transfer");
            assert_eq!(clients::leader(&world, &NAMES).await, next);
        }
        let status = clients::status(&world, "n3").await.expect("a status");
        assert!(status.not_ready.is_empty(), "{:?}", status.not_ready);
        assert_ne!(status.role, Role::Learner);
    });
}
