//! Members that are removed, and what they know of it; whoever was removed does not come back by itself.

use std::sync::atomic::Ordering;
use std::time::Duration;

use conuredb::actors::messages::RequestError;
use conuredb::simulation::client::{
    ask_to_join, get, join, joining, leader, put, remove, status, transfer, wait_for,
    wait_for_voters,
};
use conuredb::simulation::world::World;
use conuredb::types::AskedBy;
use tokio::time::sleep;

use super::membership::{id_of, members, names};
use super::{NAMES, cut_off, found, found_two, others_than};

#[test]
fn a_removed_node_stops_serving_says_why_and_can_come_back() {
    World::run(4, |world| async move {
        found(&world).await;
        put(&world, "n1", "k", b"before", None).await.expect("a write");
        let leads = leader(&world, &["n1", "n2", "n3"]).await;
        let out = ["n1", "n2", "n3"].into_iter().find(|name| *name != leads).unwrap();
        let former = id_of(&world, &leads, out).await;
        remove(&world, out, out).await.expect("a follower passes its own removal on");
        wait_for(&world, "the removed node to know", async |world| {
            let status = status(world, out).await?;
            status.not_ready.iter().any(|reason| reason.contains("removed")).then_some(())
        })
        .await;
        let refused = put(&world, out, "k", b"after", None).await.expect_err("a removed node");
        assert!(refused.to_string().contains("removed"), "{refused}");
        let refused = get(&world, out, "k").await.expect_err("a removed node");
        assert!(refused.to_string().contains("removed"), "{refused}");

        // It still knows after a restart.
        world.crash(out);
        world.start(out, &[&leads]).await;
        assert!(put(&world, out, "k", b"after", None).await.is_err());

        join(&world, &leads, out).await.expect("it joins again");
        wait_for_voters(&world, &["n1", "n2", "n3"], 3).await;
        assert_ne!(id_of(&world, &leads, out).await, former, "an id was used twice");
        assert_eq!(get(&world, out, "k").await.expect("a read").as_deref(), Some(&b"before"[..]));
    });
}

#[test]
fn a_leader_removes_itself_after_handing_over() {
    World::run(5, |world| async move {
        found(&world).await;
        let leads = leader(&world, &["n1", "n2", "n3"]).await;
        remove(&world, &leads, &leads).await.expect("the leader removes itself");
        let rest: Vec<&str> =
            ["n1", "n2", "n3"].into_iter().filter(|name| *name != leads).collect();
        wait_for_voters(&world, &rest, 2).await;
        put(&world, rest[0], "k", b"v", None).await.expect("a write by the other two");
    });
}

#[test]
fn the_last_voter_cannot_be_removed() {
    World::run(6, |world| async move {
        world.start("n1", &[]).await;
        wait_for_voters(&world, &["n1"], 1).await;
        let refused = remove(&world, "n1", "n1").await.expect_err("the last voter");
        assert!(matches!(refused, RequestError::Refused { .. }), "{refused:?}");
    });
}

#[test]
fn a_removed_node_does_not_ask_its_seeds_to_come_back() {
    World::run(8, |world| async move {
        found(&world).await;
        remove(&world, "n1", "n3").await.expect("a removal");
        sleep(Duration::from_secs(30)).await;
        assert_eq!(names(&world, "n1").await, ["n1", "n2"]);
    });
}

/// It was let in by a request whose answer never came, so it would ask again.
#[test]
fn a_removed_node_that_still_waits_for_a_seeds_answer_does_not_come_back() {
    World::run(10, |world| async move {
        found_two(&world).await;
        world.seeds_answer.store(false, Ordering::Relaxed);
        world.start("n3", &["n1"]).await;
        wait_for_voters(&world, &NAMES, 3).await;
        remove(&world, "n1", "n3").await.expect("a removal");
        sleep(Duration::from_secs(30)).await;
        assert_eq!(names(&world, "n1").await, ["n1", "n2"]);
    });
}

/// It was let in and removed while nothing of the log reached it, so that it knows of neither.
#[test]
fn a_removed_node_that_never_knew_that_it_was_in_does_not_come_back() {
    World::run(11, |world| async move {
        found_two(&world).await;
        world.start("n3", &["n1"]).await;
        while names(&world, "n1").await.len() < 3 {
            sleep(Duration::from_micros(100)).await;
        }
        cut_off(&world, "n3", &["n1", "n2"]);
        let removed = id_of(&world, "n1", "n3").await;
        remove(&world, "n1", "n3").await.expect("a removal");
        assert!(!names(&world, "n3").await.contains(&"n3".to_owned()), "it knows that it was in");
        // The leader that removed it forgets what only memory had.
        for name in ["n1", "n2"] {
            world.crash(name);
            world.start(name, &[]).await;
        }
        wait_for_voters(&world, &["n1", "n2"], 2).await;
        world.network.heal();
        wait_for(&world, "the removed node to know", async |world| {
            let status = status(world, "n3").await?;
            status.not_ready.iter().any(|reason| reason.contains("removed")).then_some(())
        })
        .await;
        sleep(Duration::from_secs(30)).await;
        assert_eq!(names(&world, "n1").await, ["n1", "n2"]);

        join(&world, "n1", "n3").await.expect("an operator joins it again");
        wait_for_voters(&world, &NAMES, 3).await;
        assert_ne!(id_of(&world, "n1", "n3").await, removed);
    });
}

/// What a node asked for before it was removed may be carried out behind the removal.
#[test]
fn a_node_that_was_removed_is_not_let_in_by_what_it_asked_for_before() {
    World::run(12, |world| async move {
        found(&world).await;
        let leads = leader(&world, &NAMES).await;
        let out = others_than(&leads)[0];
        remove(&world, &leads, out).await.expect("a removal");
        let late = joining(out, AskedBy::Node);
        let refused = ask_to_join(&world, &leads, late).await.expect_err("it was removed");
        assert!(matches!(refused, RequestError::Refused { .. }), "{refused:?}");
        assert!(refused.to_string().contains("does not come back by itself"), "{refused}");
        assert_eq!(members(&world, &leads).await.len(), 2);
    });
}

/// Every member that it knows follows a leader that it does not know.
#[test]
fn a_node_that_was_removed_while_it_was_down_learns_it_from_followers() {
    World::run(7, |world| async move {
        found(&world).await;
        transfer(&world, "n1", "n3").await.expect("a transfer");
        world.kill("n1");
        remove(&world, "n2", "n1").await.expect("a removal");
        transfer(&world, "n2", "n2").await.expect("a transfer");
        remove(&world, "n2", "n3").await.expect("a removal");
        world.kill("n3");
        world.lose_disk("n3");
        world.start("n3", &["n2"]).await;
        wait_for_voters(&world, &["n2", "n3"], 2).await;
        transfer(&world, "n2", "n3").await.expect("a transfer");
        assert_eq!(leader(&world, &["n2", "n3"]).await, "n3");

        world.start("n1", &[]).await;
        wait_for(&world, "n1 to know that it was removed", async |world| {
            let reasons = status(world, "n1").await?.not_ready;
            reasons.iter().any(|reason| reason.contains("removed")).then_some(())
        })
        .await;
        join(&world, "n2", "n1").await.expect("a join");
        wait_for_voters(&world, &NAMES, 3).await;
    });
}
