//! Nodes that come, come back empty, or belong to somebody else. Those that go: `super::removal`.

use std::time::Duration;

use conuredb::actors::messages::{Join, Member, RequestError};
use conuredb::actors::node::NodeOptions;
use conuredb::actors::raft::context::RaftTiming;
use conuredb::simulation::client::{
    self as clients, are_well, ask_to_join, get, join, joining, leader, put, remove, status,
    wait_for, wait_for_voters,
};
use conuredb::simulation::surroundings::options;
use conuredb::simulation::world::World;
use conuredb::storage::disk::Disk;
use conuredb::types::AskedBy;
use tokio::time::sleep;

pub(super) async fn members(world: &World, at: &str) -> Vec<Member> {
    clients::members(world, at).await.expect("members")
}

pub(super) async fn names(world: &World, at: &str) -> Vec<String> {
    members(world, at).await.into_iter().map(|member| member.name).collect()
}

pub(super) async fn id_of(world: &World, at: &str, name: &str) -> u64 {
    let members = members(world, at).await;
    members.into_iter().find(|member| member.name == name).expect("a member").node_id
}

/// The original's own sequence: three nodes that each founded a cluster, then two joins at the first.
#[test]
fn nodes_started_with_defaults_give_up_their_empty_clusters_when_joined() {
    World::run(1, |world| async move {
        for name in ["n1", "n2", "n3"] {
            world.start(name, &[]).await;
        }
        for name in ["n1", "n2", "n3"] {
            wait_for_voters(&world, &[name], 1).await;
        }
        join(&world, "n1", "n2").await.expect("n2 joins");
        join(&world, "n1", "n3").await.expect("n3 joins");
        join(&world, "n1", "n3").await.expect("joining again changes nothing");
        wait_for_voters(&world, &["n1", "n2", "n3"], 3).await;
        put(&world, "n3", "k", b"v", None).await.expect("a write");
        assert_eq!(get(&world, "n2", "k").await.expect("a read").as_deref(), Some(&b"v"[..]));
    });
}

#[test]
fn a_node_that_holds_data_of_another_cluster_refuses_to_join() {
    World::run(2, |world| async move {
        world.start("n1", &[]).await;
        world.start("n2", &[]).await;
        wait_for_voters(&world, &["n1"], 1).await;
        wait_for_voters(&world, &["n2"], 1).await;
        put(&world, "n2", "precious", b"data", None).await.expect("a write");
        let refused = join(&world, "n1", "n2").await.expect_err("n2 holds data");
        assert!(matches!(refused, RequestError::NodeConflict { .. }), "{refused:?}");
        assert!(refused.to_string().contains("data up to revision 1"), "{refused}");
        let kept = get(&world, "n2", "precious").await.expect("a read");
        assert_eq!(kept.as_deref(), Some(&b"data"[..]));
        assert_eq!(members(&world, "n1").await.len(), 1);
    });
}

#[test]
fn a_wrong_name_and_a_taken_address_are_conflicts() {
    World::run(3, |world| async move {
        super::found(&world).await;
        let wrong = Join { name: "n9".into(), ..joining("n2", AskedBy::Operator) };
        let refused = ask_to_join(&world, "n1", wrong).await;
        assert!(matches!(refused, Err(RequestError::NodeConflict { .. })), "{refused:?}");
        let unknown = remove(&world, "n1", "n9").await;
        assert!(matches!(unknown, Err(RequestError::UnknownNode { .. })), "{unknown:?}");
        let nobody = join(&world, "n1", "n8").await;
        assert!(matches!(nobody, Err(RequestError::NotReady { .. })), "{nobody:?}");
    });
}

#[test]
fn a_node_that_lost_its_disk_comes_back_as_a_new_incarnation_by_snapshot() {
    World::run(7, |world| async move {
        super::found(&world).await;
        let leads = leader(&world, &["n1", "n2", "n3"]).await;
        let lost = ["n1", "n2", "n3"].into_iter().find(|name| *name != leads).unwrap();
        let former = id_of(&world, &leads, lost).await;
        world.crash(lost);
        // Enough that the log is purged, so that the newcomer needs a snapshot.
        for number in 0..200u32 {
            put(&world, &leads, &format!("k{number}"), &[7; 1_000], None).await.expect("a write");
        }
        let purged = status(&world, &leads).await.unwrap().snapshot_index;
        assert!(purged > 50, "no checkpoint was taken: {purged}");
        world.lose_disk(lost);
        world.start(lost, &[&leads]).await;
        wait_for_voters(&world, &["n1", "n2", "n3"], 3).await;
        assert_ne!(id_of(&world, &leads, lost).await, former, "an id was used twice");
        for number in [0, 57, 199] {
            let read = get(&world, lost, &format!("k{number}")).await.expect("a read");
            assert_eq!(read.as_deref(), Some(&[7; 1_000][..]), "k{number}");
        }
        // What came by snapshot survives a crash of the newcomer.
        world.crash(lost);
        world.start(lost, &[&leads]).await;
        wait_for_voters(&world, &["n1", "n2", "n3"], 3).await;
        assert!(clients::get(&world, lost, "k0").await.expect("a read").is_some());
    });
}

/// Numbers of the transfers of snapshots that left a file on a machine's disk.
fn transfers(world: &World, name: &str) -> Vec<String> {
    let names = world.disk(name).expect("a disk").list().expect("names");
    names.into_iter().filter(|name| name.starts_with("incoming-")).collect()
}

#[test]
fn a_snapshot_whose_connection_breaks_goes_on_where_it_was() {
    World::run(10, |world| async move {
        let slowly = |name: &str, seeds: &[&str]| {
            let options = options(name, seeds);
            let timing = RaftTiming { snapshot_bytes_per_second: 256 << 10, ..options.timing };
            NodeOptions { timing, ..options }
        };
        for (name, seeds) in [("n1", &[][..]), ("n2", &["n1"]), ("n3", &["n1"])] {
            world.try_start(name, slowly(name, seeds)).await.expect("it starts");
        }
        wait_for_voters(&world, &["n1", "n2", "n3"], 3).await;
        let leads = leader(&world, &["n1", "n2", "n3"]).await;
        let lost = ["n1", "n2", "n3"].into_iter().find(|name| *name != leads).unwrap();
        world.crash(lost);
        world.lose_disk(lost);
        // Some pieces of a second each, more than there is time for between the cuts.
        for number in 0..200u32 {
            put(&world, &leads, &format!("k{number}"), &[7; 16_000], None).await.expect("a write");
        }
        world.try_start(lost, slowly(lost, &[&leads])).await.expect("it starts");
        let first = wait_for(&world, "a snapshot to come", async |world| {
            Some(transfers(world, lost)).filter(|files| !files.is_empty())
        })
        .await;
        // The leader stays one by the third node.
        for _ in 0..3 {
            sleep(Duration::from_secs(1)).await;
            world.network.cut(&leads, lost);
            world.network.cut(lost, &leads);
            world.network.reset(&leads, lost);
            // Longer than it takes to see that nobody can be reached.
            sleep(Duration::from_secs(4)).await;
            assert_eq!(transfers(&world, lost), first, "it was through already");
            world.network.heal();
        }
        wait_for(&world, "the snapshot to be in place", async |world| {
            let present = transfers(world, lost);
            assert!(present.is_empty() || present == first, "it began again: {present:?}");
            are_well(world, &["n1", "n2", "n3"], 3).await.then_some(())
        })
        .await;
        for number in [0, 57, 99] {
            let read = get(&world, lost, &format!("k{number}")).await.expect("a read");
            assert_eq!(read.as_deref(), Some(&[7; 16_000][..]), "k{number}");
        }
    });
}

#[test]
fn a_second_living_node_of_a_name_is_refused_and_pushes_nobody_out() {
    World::run(9, |world| async move {
        super::found(&world).await;
        let ids = [id_of(&world, "n1", "n1").await, id_of(&world, "n1", "n2").await];
        for (machine, name) in [("x1", "n1"), ("x2", "n2")] {
            world.start_as(machine, name, &["n1"]).await;
            let second = Join { name: name.into(), ..joining(machine, AskedBy::Operator) };
            let refused = ask_to_join(&world, "n1", second).await;
            assert!(matches!(refused, Err(RequestError::NodeConflict { .. })), "{refused:?}");
        }
        sleep(Duration::from_secs(20)).await;
        assert_eq!(ids, [id_of(&world, "n1", "n1").await, id_of(&world, "n1", "n2").await]);
        assert_eq!(members(&world, "n3").await.len(), 3);
    });
}

/// An invitation that comes while a node starts waits for the start: two Rafts on one store would acknowledge
/// what no disk holds.
#[test]
fn a_node_that_is_joined_while_it_starts_keeps_what_it_acknowledges() {
    for seed in 0..5 {
        World::run(100 + seed, |world| async move {
            world.start("n1", &[]).await;
            wait_for_voters(&world, &["n1"], 1).await;
            for name in ["n2", "n3"] {
                world.start(name, &[]).await;
                wait_for(&world, "the join of a node that just started", async |world| {
                    join(world, "n1", name).await.ok()
                })
                .await;
            }
            wait_for_voters(&world, &["n1", "n2", "n3"], 3).await;
            for number in 0..20 {
                put(&world, "n2", &format!("k{number}"), b"v", None).await.expect("a write");
            }
            for name in ["n1", "n2", "n3"] {
                world.crash(name);
            }
            for name in ["n1", "n2", "n3"] {
                world.start(name, &[]).await;
            }
            wait_for_voters(&world, &["n1", "n2", "n3"], 3).await;
            for number in 0..20 {
                let read = get(&world, "n3", &format!("k{number}")).await.expect("a read");
                assert_eq!(read.as_deref(), Some(&b"v"[..]), "k{number}");
            }
        });
    }
}

/// A node whose data is in its log alone, not applied yet after a restart, is not an empty one.
#[test]
fn a_restarted_node_with_data_refuses_to_join_another_cluster_from_its_first_moment_on() {
    World::run(10, |world| async move {
        world.start("n1", &[]).await;
        world.start("n2", &[]).await;
        wait_for_voters(&world, &["n1"], 1).await;
        wait_for_voters(&world, &["n2"], 1).await;
        put(&world, "n2", "precious", b"data", None).await.expect("a write");
        world.crash("n2");
        world.start("n2", &[]).await;
        for _ in 0..50 {
            join(&world, "n1", "n2").await.expect_err("n2 holds data");
        }
        wait_for_voters(&world, &["n2"], 1).await;
        let kept = get(&world, "n2", "precious").await.expect("a read");
        assert_eq!(kept.as_deref(), Some(&b"data"[..]));
    });
}

/// Found by `conure-soak`: a newcomer that had a snapshot from before it joined took the voter that it had been for
/// itself, and said that it was ready. Who believed it and took another node down took the quorum.
#[test]
fn a_newcomer_is_not_ready_before_it_knows_itself_for_a_member() {
    World::run(11, |world| async move {
        super::found(&world).await;
        let leads = leader(&world, &["n1", "n2", "n3"]).await;
        let lost = ["n1", "n2", "n3"].into_iter().find(|name| *name != leads).unwrap();
        world.crash(lost);
        // A checkpoint, and with it the snapshot to come, has the former life of the lost node for a voter.
        for number in 0..60u32 {
            put(&world, &leads, &format!("k{number}"), b"v", None).await.expect("a write");
        }
        world.lose_disk(lost);
        world.start(lost, &[&leads]).await;
        let mut has_seen_former = false;
        loop {
            let status = status(&world, lost).await.expect("a status");
            let members = members(&world, lost).await;
            let is_member = members.iter().any(|member| member.node_id == status.node_id);
            has_seen_former |= !is_member && !members.is_empty();
            let is_ready = status.not_ready.is_empty();
            assert!(is_member || !is_ready, "it is ready, and its members are {members:?}");
            if is_ready && are_well(&world, &["n1", "n2", "n3"], 3).await {
                break;
            }
            sleep(Duration::from_micros(100)).await;
            assert!(world.elapsed() < Duration::from_secs(60), "{:?}", status.not_ready);
        }
        assert!(has_seen_former, "it was a member in the first state that it had");
    });
}
