//! Disks that are put back as they were: their nodes have forgotten what they acknowledged.

use conuredb::simulation::client::{self as clients, wait_for};
use conuredb::simulation::world::World;

use super::{NAMES, found, others_than};

/// What the node says of itself then.
const REASON: &str = "older than what it has acknowledged";

/// Copies the disk of a follower, lets it acknowledge more, and puts the copy back. Names leader and follower.
async fn go_back(world: &World) -> (String, &'static str) {
    found(world).await;
    let leader = clients::leader(world, &NAMES).await;
    let victim = others_than(&leader)[0];
    clients::put(world, &leader, "before", b"v", None).await.expect("a write");
    world.kill(victim);
    let copy = world.disk(victim).unwrap().fork();
    world.start(victim, &[&leader]).await;
    clients::wait_for_voters(world, &NAMES, 3).await;
    for number in 0..20 {
        clients::put(world, &leader, &format!("since/{number}"), b"v", None)
            .await
            .expect("a write");
    }
    // It has applied, so acknowledged, all of them.
    assert!(clients::get(world, victim, "since/19").await.expect("a read").is_some());
    world.kill(victim);
    world.put_back(victim, copy);
    world.start(victim, &[&leader]).await;
    (leader, victim)
}

async fn says_why(world: &World, victim: &str) {
    wait_for(world, "the node to say that it went back in time", async |world| {
        let reasons = clients::status(world, victim).await?.not_ready;
        reasons.iter().any(|reason| reason.contains(REASON)).then_some(())
    })
    .await;
}

#[test]
fn a_node_that_lost_what_it_acknowledged_takes_no_part_and_comes_back_with_an_empty_disk() {
    World::run(1, |world| async move {
        let (leader, victim) = go_back(&world).await;
        says_why(&world, victim).await;
        assert_eq!(world.gave_up(&leader), None, "the leader goes on");
        clients::put(&world, &leader, "after", b"v", None).await.expect("the others go on");

        // It knows after a restart, with nobody there to tell it.
        world.kill(victim);
        let other = NAMES.into_iter().find(|name| *name != leader && *name != victim).unwrap();
        world.kill(other);
        world.start(victim, &[&leader]).await;
        says_why(&world, victim).await;
        let refused = clients::put(&world, victim, "k", b"v", None).await;
        assert!(refused.is_err_and(|error| error.to_string().contains(REASON)));
        world.start(other, &[]).await;

        world.kill(victim);
        world.lose_disk(victim);
        world.start(victim, &[&leader]).await;
        clients::wait_for_voters(&world, &NAMES, 3).await;
        assert!(clients::get(&world, victim, "after").await.expect("a read").is_some());
    });
}

#[test]
fn a_node_that_lost_what_it_acknowledged_can_be_removed_and_joined_again() {
    World::run(2, |world| async move {
        let (leader, victim) = go_back(&world).await;
        says_why(&world, victim).await;
        clients::remove(&world, &leader, victim).await.expect("a removal");
        clients::join(&world, &leader, victim).await.expect("a join");
        clients::wait_for_voters(&world, &NAMES, 3).await;
        assert!(clients::get(&world, victim, "since/19").await.expect("a read").is_some());
    });
}
