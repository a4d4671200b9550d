//! Disks that give back other bytes than were written to them: whoever meets the damage stops, and the others go on.

use conuredb::simulation::client::{self as clients, wait_for};
use conuredb::simulation::world::World;
use conuredb::storage::disk::MemDisk;
use conuredb::storage::kv;

use super::{NAMES, found};

/// What stands in the value that will be damaged, and nowhere else.
const MARK: &[u8] = b"this is where the disk forgets";

/// Flips a bit in every copy of [`MARK`] that the tree's file has; how many there are.
fn flip_in_marks(disk: &MemDisk) -> usize {
    let file = disk.contents().remove(kv::FILE).expect("a store");
    let at = file.windows(MARK.len()).enumerate().filter(|(_, bytes)| *bytes == MARK);
    let offsets: Vec<usize> = at.map(|(offset, _)| offset).collect();
    offsets.iter().for_each(|offset| disk.flip_bit(kv::FILE, *offset as u64, 3));
    offsets.len()
}

/// Found by `conure-sim`: a leader that could not read its own snapshot went on leading, and tried again for ever,
/// so that a follower that needed it never caught up.
#[test]
fn a_leader_that_cannot_read_the_snapshot_a_follower_needs_stops() {
    World::run(1, |world| async move {
        found(&world).await;
        let leader = clients::leader(&world, &NAMES).await;
        let others: Vec<&str> = NAMES.into_iter().filter(|name| *name != leader).collect();
        let (away, damaged) = (others[0], others[1]);
        world.crash(away);
        // Long enough to lie in a page of its own, which nobody reads who does not want the value.
        let marked = [MARK, &[0; 2_000]].concat();
        clients::put(&world, &leader, "marked", &marked, None).await.expect("a write");
        for number in 0..200 {
            let key = format!("key-{number}");
            clients::put(&world, &leader, &key, &[7; 1_000], None).await.expect("a write");
        }
        // Without its cache, so that it has to read what the disk has.
        world.kill(damaged);
        assert!(flip_in_marks(&world.disk(damaged).unwrap()) > 0, "it never took a checkpoint");
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

        world.crash(damaged);
        clients::put(&world, &leader, "after", b"v", None).await.expect("the others go on");
        let read = clients::get(&world, away, "marked").await.expect("a read");
        assert_eq!(read, Some(marked.into()));
    });
}
