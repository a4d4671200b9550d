//! Disks without room: a leader refuses puts and goes on by itself, a follower waits and catches up.

use conuredb::actors::messages::RequestError;
use conuredb::simulation::client::{self as clients, wait_for};
use conuredb::simulation::world::World;
use conuredb::storage::reserve;
use conuredb::types::Outcome;

use super::{NAMES, found, others_than};

fn value(number: usize) -> Vec<u8> {
    vec![number as u8; 8_000]
}

/// Puts `key-0`, `key-1` … until one is refused for want of room; how many were acknowledged.
async fn fill(world: &World, node: &str) -> usize {
    for number in 0..1_000 {
        match clients::put(world, node, &format!("key-{number}"), &value(number), None).await {
            Ok(_) => {}
            Err(RequestError::StorageFull { .. }) => return number,
            Err(error) => panic!("put {number}: {error}"),
        }
    }
    panic!("the disk of {node} does not fill up");
}

async fn check_all_there(world: &World, node: &str, numbers: impl Iterator<Item = usize>) {
    for number in numbers {
        let read = clients::get(world, node, &format!("key-{number}")).await.expect("a read");
        assert!(read.as_deref() == Some(&value(number)[..]), "{node} lost key-{number}");
    }
}

async fn wait_until_puts_work(world: &World, node: &str) {
    wait_for(world, "puts to be taken again", async |world| {
        clients::put(world, node, "after", b"v", None).await.ok()
    })
    .await;
}

#[test]
fn a_full_leader_refuses_puts_serves_reads_and_deletes_and_goes_on_when_there_is_room() {
    World::run(1, |world| async move {
        world.start("n1", &[]).await;
        clients::wait_for_voters(&world, &["n1"], 1).await;
        world.leave_room("n1", Some(400 << 10));
        let acknowledged = fill(&world, "n1").await;
        assert!(acknowledged > 5, "only {acknowledged} puts found room");
        check_all_there(&world, "n1", 0..acknowledged).await;
        for number in 0..5 {
            let deleted = clients::delete(&world, "n1", &format!("key-{number}")).await;
            assert!(matches!(deleted, Ok(Outcome::Deleted { count: 1, .. })), "{deleted:?}");
        }
        let refused = clients::put(&world, "n1", "key-0", b"v", None).await;
        assert!(matches!(refused, Err(RequestError::StorageFull { .. })), "{refused:?}");

        world.leave_room("n1", None);
        wait_until_puts_work(&world, "n1").await;
        check_all_there(&world, "n1", 5..acknowledged).await;
        for number in 0..5 {
            let read = clients::get(&world, "n1", &format!("key-{number}")).await;
            assert_eq!(read, Ok(None), "a delete is acknowledged for good");
        }
        world.crash("n1");
        world.start("n1", &[]).await;
        clients::wait_for_voters(&world, &["n1"], 1).await;
        check_all_there(&world, "n1", 5..acknowledged).await;
        assert_eq!(world.fatal(), Vec::<String>::new());
    });
}

#[test]
fn deletes_alone_make_room_for_puts_again() {
    World::run(2, |world| async move {
        world.start("n1", &[]).await;
        clients::wait_for_voters(&world, &["n1"], 1).await;
        world.leave_room("n1", Some(1 << 20));
        let acknowledged = fill(&world, "n1").await;
        for number in 0..acknowledged {
            clients::delete(&world, "n1", &format!("key-{number}")).await.expect("a delete");
        }
        wait_until_puts_work(&world, "n1").await;
        assert_eq!(world.fatal(), Vec::<String>::new());
    });
}

#[test]
fn a_full_follower_holds_nobody_up_and_catches_up_when_there_is_room() {
    World::run(3, |world| async move {
        found(&world).await;
        let leader = clients::leader(&world, &NAMES).await;
        let follower = others_than(&leader)[0];
        world.leave_room(follower, Some(0));
        // Several times what the reserve holds.
        for number in 0..100 {
            let key = format!("key-{number}");
            clients::put(&world, &leader, &key, &value(number), None).await.expect("a put");
        }
        world.leave_room(follower, None);
        wait_for(&world, "the follower to catch up", async |world| {
            let (leads, follows) =
                (clients::status(world, &leader).await?, clients::status(world, follower).await?);
            (follows.applied_index >= leads.commit_index).then_some(())
        })
        .await;
        check_all_there(&world, follower, 0..100).await;
        assert_eq!(world.fatal(), Vec::<String>::new());
    });
}

/// A node that lost its disk gets one on which others leave no more room than a node takes from the start: its snapshot has
/// to fit into the reserve, or the node never comes back.
#[test]
fn a_snapshot_that_finds_the_disk_full_comes_out_of_the_reserve() {
    World::run(4, |world| async move {
        found(&world).await;
        world.start("alone", &[]).await;
        clients::wait_for_voters(&world, &["alone"], 1).await;
        let files = world.disk("alone").expect("a disk").contents();
        assert!(files.contains_key(reserve::FILE), "{:?}", files.keys());
        let used_bytes: usize = files.values().map(|file| file.len()).sum();
        let leader = clients::leader(&world, &NAMES).await;
        let lost = others_than(&leader)[0];
        world.crash(lost);
        // Enough that the log is purged, more than the room that is left, and less than the reserve.
        let small = |number: usize| vec![number as u8; 1_000];
        for number in 0..60 {
            let key = format!("key-{number}");
            clients::put(&world, &leader, &key, &small(number), None).await.expect("a put");
        }
        world.lose_disk(lost);
        world.leave_room(lost, Some(used_bytes as u64 + (16 << 10)));
        world.start(lost, &[&leader]).await;
        clients::wait_for_voters(&world, &NAMES, 3).await;
        let files = world.disk(lost).expect("a disk").contents();
        assert!(!files.contains_key(reserve::FILE), "there was room without it");
        for number in 0..60 {
            let read = clients::get(&world, lost, &format!("key-{number}")).await.expect("a read");
            assert_eq!(read.as_deref(), Some(&small(number)[..]), "key-{number} at {lost}");
        }
        assert_eq!(world.fatal(), Vec::<String>::new());
    });
}
