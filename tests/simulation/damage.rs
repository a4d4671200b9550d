//! Disks that give back other bytes than were written to them: whoever meets the damage serves none of it, and is replaced by
//! its peers if they can do without it.

use std::sync::Arc;
use std::time::Duration;

use conuredb::actors::membership::autopilot::Rules;
use conuredb::actors::messages::{Consistency, RequestError, Watch};
use conuredb::actors::node::NodeOptions;
use conuredb::simulation::client::{self as clients, wait_for};
use conuredb::simulation::surroundings::options;
use conuredb::simulation::world::World;
use conuredb::storage::disk::{Disk, MemDisk};
use conuredb::storage::identity::{Identity, Standing};
use conuredb::storage::kv;
use conuredb::types::{AskedBy, KeyRange, NodeId};
use tokio::time::sleep;

use super::membership::id_of;
use super::{NAMES, found, found_two, others_than};

/// What stands in the value that will be damaged, and nowhere else.
const MARK: &[u8] = b"this is where the disk forgets";

/// Flips a bit in every copy of [`MARK`] that files have whose names begin so; how many there are.
fn flip_in_marks(disk: &MemDisk, prefix: &str) -> usize {
    let mut flipped = 0;
    for (name, file) in disk.contents().iter().filter(|(name, _)| name.starts_with(prefix)) {
        let at = file.windows(MARK.len()).enumerate().filter(|(_, bytes)| *bytes == MARK);
        for (offset, _) in at {
            disk.flip_bit(name, offset as u64, 3);
            flipped += 1;
        }
    }
    flipped
}

/// Puts a marked record, long enough to lie in a page of its own, which nobody reads who does not want the value; and
/// so many others behind it.
async fn put_marked(world: &World, node: &str, others: usize) -> Vec<u8> {
    let marked = [MARK, &[0; 2_000]].concat();
    clients::put(world, node, "marked", &marked, None).await.expect("a write");
    for number in 0..others {
        let key = format!("key-{number}");
        clients::put(world, node, &key, &[7; 1_000], None).await.expect("a write");
    }
    marked
}

/// Flips a bit in both meta pages: what the tree was cannot be told, nor who the members are.
fn flip_metas(world: &World, machine: &str) {
    for meta in [0, 4096] {
        world.disk(machine).unwrap().flip_bit(kv::FILE, meta + 100, 1);
    }
}

/// Three nodes that found a cluster: who leads, and the others.
async fn found_led(world: &World) -> (String, [&'static str; 2]) {
    found(world).await;
    let leader = clients::leader(world, &NAMES).await;
    let others = others_than(&leader);
    (leader, others.try_into().expect("three nodes, of which one leads"))
}

async fn wait_until_level(world: &World, leader: &str, follower: &str) {
    wait_for(world, "the follower to have it all", async |world| {
        let (leads, follows) =
            (clients::status(world, leader).await?, clients::status(world, follower).await?);
        (follows.applied_index >= leads.commit_index).then_some(())
    })
    .await;
}

async fn wait_until_replaced(world: &World, damaged: &str, of: NodeId, at: &str) {
    wait_for(world, "the damaged node to be replaced", async |world| {
        let well = clients::are_well(world, &NAMES, 3).await;
        (well && id_of(world, at, damaged).await != of).then_some(())
    })
    .await;
}

/// Waits until a node has been replaced, and has all that it had before.
async fn wait_for_successor(world: &World, damaged: &str, of: NodeId, at: &str, marked: &[u8]) {
    wait_until_replaced(world, damaged, of, at).await;
    let read = clients::get(world, damaged, "marked").await.expect("a read");
    assert_eq!(read.as_deref(), Some(marked));
}

/// Found by `conure-sim`: a leader that could not read its own snapshot went on leading, and tried again for ever,
/// so that a follower that needed it never caught up.
#[test]
fn a_leader_that_cannot_read_the_snapshot_a_follower_needs_stops() {
    World::run(1, |world| async move {
        let (leader, [away, damaged]) = found_led(&world).await;
        world.crash(away);
        let marked = put_marked(&world, &leader, 200).await;
        // Without its cache, so that it has to read what the disk has.
        world.kill(damaged);
        let flipped = flip_in_marks(&world.disk(damaged).unwrap(), kv::FILE);
        assert!(flipped > 0, "it never took a checkpoint");
        world.start(damaged, &[&leader]).await;
        wait_for(&world, "the damaged node to lead", async |world| {
            let _ = clients::transfer(world, &leader, damaged).await;
            let leads = clients::status(world, &leader).await?.leader?.name;
            (leads == damaged).then_some(())
        })
        .await;
        assert_eq!(world.gave_up(damaged), None, "nothing has read the page so far");
        world.start(away, &[&leader]).await;
        let reason =
            wait_for(&world, "the leader to stop", async |world| world.gave_up(damaged)).await;
        assert!(reason.contains("damaged at byte"), "{reason}");

        let former = id_of(&world, &leader, damaged).await;
        world.crash(damaged);
        wait_for(&world, "the others to go on", async |world| {
            clients::put(world, &leader, "after", b"v", None).await.ok()
        })
        .await;
        // It has noted that it is damaged: it takes no part before it is replaced.
        world.start(damaged, &[]).await;
        wait_for_successor(&world, damaged, former, away, &marked).await;
    });
}

#[test]
fn a_damaged_page_is_never_served_and_is_fetched_from_the_others() {
    World::run(2, |world| async move {
        let (leader, [damaged, _]) = found_led(&world).await;
        let marked = put_marked(&world, &leader, 200).await;
        clients::wait_for_voters(&world, &NAMES, 3).await;
        world.kill(damaged);
        assert!(flip_in_marks(&world.disk(damaged).unwrap(), kv::FILE) > 0, "no checkpoint");
        let former = id_of(&world, &leader, damaged).await;
        world.start(damaged, &[]).await;
        let reason = wait_for(&world, "the node to find the damage", async |world| {
            match clients::get(world, damaged, "marked").await {
                Ok(read) => panic!("it serves {read:?}"),
                Err(RequestError::Storage { detail }) => Some(detail),
                Err(_) => world.gave_up(damaged),
            }
        })
        .await;
        assert!(reason.contains("damaged at byte"), "{reason}");
        if world.gave_up(damaged).is_some() {
            world.crash(damaged);
            world.start(damaged, &[]).await;
        }
        wait_for_successor(&world, damaged, former, &leader, &marked).await;
    });
}

#[test]
fn a_damaged_record_of_the_log_is_fetched_from_the_others() {
    World::run(3, |world| async move {
        let (leader, [damaged, _]) = found_led(&world).await;
        // Too few for a checkpoint that would purge it, and enough behind it to prove that it was durable.
        let marked = put_marked(&world, &leader, 8).await;
        wait_until_level(&world, &leader, damaged).await;
        world.kill(damaged);
        assert!(flip_in_marks(&world.disk(damaged).unwrap(), "log-") > 0, "the log was purged");
        let former = id_of(&world, &leader, damaged).await;
        // Too young for a checkpoint, it knows nobody but its seeds.
        world.start(damaged, &[&leader]).await;
        let refused = clients::get(&world, damaged, "marked").await.expect_err("it is damaged");
        assert!(refused.to_string().contains("damaged"), "{refused}");
        wait_for_successor(&world, damaged, former, &leader, &marked).await;
    });
}

#[test]
fn a_store_that_cannot_be_opened_is_fetched_from_the_others() {
    World::run(6, |world| async move {
        let (leader, [damaged, _]) = found_led(&world).await;
        let marked = put_marked(&world, &leader, 200).await;
        clients::wait_for_voters(&world, &NAMES, 3).await;
        world.kill(damaged);
        flip_metas(&world, damaged);
        let former = id_of(&world, &leader, damaged).await;
        let refused = world.try_start(damaged, options(damaged, &[])).await;
        let reason = refused.expect_err("it has no seeds").to_string();
        assert!(reason.contains("both meta pages are damaged"), "{reason}");
        world.start(damaged, &[&leader]).await;
        wait_for_successor(&world, damaged, former, &leader, &marked).await;
    });
}

/// What is damaged may be all that there is: it is not given up before a quorum of the others answers.
#[test]
fn a_damaged_node_that_is_needed_keeps_what_it_has() {
    World::run(7, |world| async move {
        let (leader, [away, damaged]) = found_led(&world).await;
        let marked = put_marked(&world, &leader, 200).await;
        clients::wait_for_voters(&world, &NAMES, 3).await;
        world.crash(away);
        world.kill(damaged);
        assert!(flip_in_marks(&world.disk(damaged).unwrap(), kv::FILE) > 0, "no checkpoint");
        let former = id_of(&world, &leader, damaged).await;
        world.start(damaged, &[]).await;
        wait_for(&world, "the node to find the damage", async |world| {
            let read = clients::get(world, damaged, "marked").await;
            matches!(read, Err(RequestError::Storage { .. })).then_some(())
        })
        .await;
        sleep(Duration::from_secs(20)).await;
        clients::put(&world, damaged, "after", b"v", None).await.expect("two of three");
        assert_eq!(id_of(&world, &leader, damaged).await, former);
        assert!(clients::get(&world, damaged, "key-7").await.expect("a read").is_some());

        world.start(away, &[]).await;
        wait_for_successor(&world, damaged, former, &leader, &marked).await;
    });
}

/// Whoever asks for it: a late request, or one that was made up.
#[test]
fn a_sound_node_is_not_replaced() {
    World::run(8, |world| async move {
        let (leader, [sound, _]) = found_led(&world).await;
        let marked = put_marked(&world, &leader, 20).await;
        let former = id_of(&world, &leader, sound).await;
        let join = clients::joining(sound, AskedBy::Damaged);
        let refused = clients::ask_to_join(&world, &leader, join).await.expect_err("it is sound");
        assert!(refused.to_string().contains("has a log of this cluster"), "{refused}");
        clients::wait_for_voters(&world, &NAMES, 3).await;
        assert_eq!(id_of(&world, &leader, sound).await, former);
        let read = clients::get(&world, sound, "marked").await.expect("a read");
        assert_eq!(read, Some(marked.into()));
    });
}

/// Neither by an invitation of another cluster: its data may be all that its own has.
#[test]
fn a_damaged_node_is_given_to_no_other_cluster() {
    World::run(9, |world| async move {
        let (leader, [damaged, other]) = found_led(&world).await;
        put_marked(&world, &leader, 8).await;
        wait_until_level(&world, &leader, damaged).await;
        let former = id_of(&world, &leader, damaged).await;
        for name in NAMES {
            world.kill(name);
        }
        assert!(flip_in_marks(&world.disk(damaged).unwrap(), "log-") > 0, "the log was purged");
        world.start(damaged, &["nobody"]).await;
        world.start("stranger", &[]).await;
        clients::wait_for_voters(&world, &["stranger"], 1).await;
        let refused = clients::join(&world, "stranger", damaged).await;
        refused.expect_err("it belongs to another cluster");
        let status = clients::status(&world, damaged).await.expect("it runs");
        assert!(status.not_ready.iter().any(|why| why.contains("damaged")), "{status:?}");
        // Its own cluster replaces it when it is there again.
        for name in [leader.as_str(), other] {
            world.start(name, &[]).await;
        }
        world.crash(damaged);
        world.start(damaged, &[&leader]).await;
        wait_until_replaced(&world, damaged, former, &leader).await;
    });
}

/// An empty store stands in for the one that cannot be opened: whoever reads it would be told that nothing is there.
#[test]
fn nothing_is_read_in_place_of_a_store_that_cannot_be_opened() {
    World::run(10, |world| async move {
        let (leader, [removed, _]) = found_led(&world).await;
        put_marked(&world, &leader, 200).await;
        clients::remove(&world, &leader, removed).await.expect("a removal");
        let stale = Consistency::Stale { max_stale: None };
        let read = clients::view(&world, removed, stale).await.expect("a stale read");
        assert!(read.view.revision() > 0, "a removed node shows what it had");
        world.kill(removed);
        flip_metas(&world, removed);
        world.start(removed, &["nobody"]).await;
        let Err(refused) = clients::view(&world, removed, stale).await else { panic!("it reads") };
        assert!(refused.to_string().contains("damaged"), "{refused}");
        let watch = Watch {
            range: KeyRange::default(),
            from: Some(1),
            previous: false,
            progress_every: Duration::from_secs(1),
        };
        let watched = world.gateway(removed).unwrap().watch.send(watch).await.unwrap();
        let Err(refused) = watched else { panic!("it watches") };
        assert!(refused.to_string().contains("damaged"), "{refused}");
        // An operator joins it again, as any that was removed.
        clients::join(&world, &leader, removed).await.expect("it joins again");
        clients::wait_for_voters(&world, &NAMES, 3).await;
    });
}

#[test]
fn a_node_that_is_not_to_be_replaced_goes_on_with_what_it_has() {
    World::run(11, |world| async move {
        let (leader, [noted, _]) = found_led(&world).await;
        let former = id_of(&world, &leader, noted).await;
        world.kill(noted);
        let disk: Arc<dyn Disk> = Arc::new(world.disk(noted).unwrap());
        let identity = Identity::load(&disk).unwrap().expect("it has one");
        let damaged = Identity { standing: Standing::Damaged, ..identity };
        damaged.store(&disk).expect("memory does not fail");
        let rules = Rules { replace_damaged: false, ..Rules::default() };
        let options = NodeOptions { rules, ..options(noted, &[&leader]) };
        world.try_start(noted, options).await.expect("its data can be opened");
        clients::wait_for_voters(&world, &NAMES, 3).await;
        assert_eq!(id_of(&world, &leader, noted).await, former);
    });
}

/// Found by the seed 841: it had lost its disk, and the new one was damaged before it was let in.
#[test]
fn a_node_that_is_damaged_before_it_is_a_member_is_let_in() {
    World::run(12, |world| async move {
        found_two(&world).await;
        world.start("n3", &["nobody"]).await;
        world.kill("n3");
        flip_metas(&world, "n3");
        world.start("n3", &["n1"]).await;
        clients::wait_for_voters(&world, &NAMES, 3).await;
    });
}

/// There is nobody to fetch from: the node says what is damaged, and serves the rest.
#[test]
fn a_node_without_peers_refuses_what_is_damaged_and_says_so() {
    World::run(4, |world| async move {
        world.start("n1", &[]).await;
        clients::wait_for_voters(&world, &["n1"], 1).await;
        put_marked(&world, "n1", 200).await;
        world.kill("n1");
        assert!(flip_in_marks(&world.disk("n1").unwrap(), kv::FILE) > 0, "no checkpoint");
        world.start("n1", &[]).await;
        clients::wait_for_voters(&world, &["n1"], 1).await;
        let refused = clients::get(&world, "n1", "marked").await;
        let Err(RequestError::Storage { detail }) = refused else { panic!("{refused:?}") };
        assert!(detail.contains("damaged at byte"), "{detail}");
        let read = clients::get(&world, "n1", "key-7").await.expect("a read");
        assert_eq!(read.as_deref(), Some(&[7; 1_000][..]));
    });
}

#[test]
fn a_node_without_peers_does_not_start_on_a_damaged_log_and_says_so() {
    World::run(5, |world| async move {
        world.start("n1", &[]).await;
        clients::wait_for_voters(&world, &["n1"], 1).await;
        put_marked(&world, "n1", 8).await;
        world.kill("n1");
        assert!(flip_in_marks(&world.disk("n1").unwrap(), "log-") > 0, "the log was purged");
        let refused = world.try_start("n1", options("n1", &[])).await;
        let reason = refused.expect_err("the log is damaged").to_string();
        assert!(reason.contains("damaged") && reason.contains("log-"), "{reason}");
    });
}
