//! What a leader changes by itself: who is gone for long is removed, and the number of voters is kept odd.

use std::time::Duration;

use conuredb::actors::membership::autopilot::Rules;
use conuredb::actors::messages::Member;
use conuredb::actors::node::NodeOptions;
use conuredb::simulation::client::{
    self as clients, get, join, leader, put, status, wait_for, wait_for_voters,
};
use conuredb::simulation::surroundings::options;
use conuredb::simulation::world::World;
use tokio::time::sleep;

const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];
const DEAD_AFTER: Duration = Duration::from_secs(20);
const REMOVES: Rules =
    Rules { remove_dead_after: Some(DEAD_AFTER), odd_voters: false, replace_damaged: true };

async fn start(world: &World, name: &str, seeds: &[&str], rules: Rules) {
    let options = NodeOptions { rules, ..options(name, seeds) };
    world.try_start(name, options).await.unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Four nodes under these rules, joined one after the other.
async fn found(world: &World, rules: Rules) {
    start(world, NODES[0], &[], rules).await;
    wait_for_voters(world, &NODES[..1], 1).await;
    for name in &NODES[1..] {
        start(world, name, &[NODES[0]], rules).await;
        wait_for(world, "the node to be a member", async |world| {
            let members = clients::members(world, NODES[0]).await?;
            members.iter().any(|member| member.name == *name).then_some(())
        })
        .await;
    }
}

async fn members(world: &World, at: &str) -> Vec<Member> {
    clients::members(world, at).await.expect("members")
}

fn names(members: &[Member], of_voters: bool) -> Vec<&str> {
    let of = members.iter().filter(|member| member.voter || !of_voters);
    of.map(|member| member.name.as_str()).collect()
}

fn others<'a>(of: &[&'a str], without: &[&str]) -> Vec<&'a str> {
    of.iter().copied().filter(|name| !without.contains(name)).collect()
}

#[test]
fn the_dead_are_removed_but_never_below_three_voters() {
    World::run(21, |world| async move {
        found(&world, REMOVES).await;
        wait_for_voters(&world, &NODES, 4).await;
        put(&world, "n1", "k", b"v", None).await.expect("a write");
        let leads = leader(&world, &NODES).await;
        let gone = others(&NODES, &[&leads])[0];
        world.crash(gone);
        sleep(DEAD_AFTER / 2).await;
        assert_eq!(members(&world, &leads).await.len(), 4, "not before its time");
        let left = others(&NODES, &[gone]);
        wait_for_voters(&world, &left, 3).await;
        assert_eq!(names(&members(&world, &leads).await, false), left);

        let leads = leader(&world, &left).await;
        let second = others(&left, &[&leads])[0];
        world.crash(second);
        sleep(DEAD_AFTER * 4).await;
        assert_eq!(members(&world, &leads).await.len(), 3, "two voters would be left");
        put(&world, &leads, "k", b"by two", None).await.expect("a write by two of three");

        // Who was removed is told when it is back, and comes in again when it is joined.
        start(&world, gone, &[&leads], REMOVES).await;
        wait_for(&world, "the removed node to know", async |world| {
            let status = status(world, gone).await?;
            status.not_ready.iter().any(|reason| reason.contains("removed")).then_some(())
        })
        .await;
        join(&world, &leads, gone).await.expect("it joins again");
        wait_for(&world, "the second dead one to be removed", async |world| {
            let members = clients::members(world, &leads).await?;
            (names(&members, true) == others(&NODES, &[second])).then_some(())
        })
        .await;
        let read = get(&world, gone, "k").await.expect("a read");
        assert_eq!(read.as_deref(), Some(&b"by two"[..]));
    });
}

#[test]
fn a_leader_that_is_cut_off_removes_nobody_and_is_removed_itself() {
    World::run(22, |world| async move {
        found(&world, REMOVES).await;
        wait_for_voters(&world, &NODES, 4).await;
        let old = leader(&world, &NODES).await;
        let left = others(&NODES, &[&old]);
        super::cut_off(&world, &old, &left);
        wait_for_voters(&world, &left, 3).await;
        world.network.heal();
        wait_for(&world, "the former leader to know", async |world| {
            let status = status(world, &old).await?;
            status.not_ready.iter().any(|reason| reason.contains("removed")).then_some(())
        })
        .await;
        assert_eq!(names(&members(&world, left[0]).await, false), left);
    });
}

#[test]
fn voters_are_kept_odd_and_a_learner_that_waits_replaces_a_dead_voter() {
    World::run(23, |world| async move {
        found(&world, Rules { odd_voters: true, ..REMOVES }).await;
        let voters = wait_for(&world, "three voters", async |world| {
            let members = clients::members(world, "n1").await?;
            let voters: Vec<String> =
                names(&members, true).into_iter().map(str::to_owned).collect();
            (members.len() == 4 && voters.len() == 3).then_some(voters)
        })
        .await;
        sleep(DEAD_AFTER).await;
        assert_eq!(names(&members(&world, "n1").await, true), voters, "the fourth one waits");

        let leads = leader(&world, &NODES).await;
        let gone = voters.iter().find(|name| **name != leads).expect("another voter");
        world.crash(gone);
        let left = others(&NODES, &[gone]);
        wait_for_voters(&world, &left, 3).await;
        wait_for(&world, "the dead one to be removed", async |world| {
            let members = clients::members(world, left[0]).await?;
            (names(&members, false) == left).then_some(())
        })
        .await;
    });
}
