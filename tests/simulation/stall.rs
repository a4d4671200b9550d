//! A leader whose disk stands still does not stay one.

use std::time::Duration;

use conuredb::simulation::client as clients;
use conuredb::simulation::world::World;
use tokio::time::{Instant, sleep, timeout};

use super::{NAMES, found, others_than};

/// Twice the longest election timeout, an election, and a look or two.
const LIMIT: Duration = Duration::from_millis(2_500);

#[test]
fn a_leader_whose_disk_stands_still_gives_leadership_away() {
    for seed in 0..8 {
        World::run(seed, |world| async move {
            found(&world).await;
            let old = clients::leader(&world, &NAMES).await;
            let rest = others_than(&old);
            clients::put(&world, rest[0], "k", b"before", None).await.expect("a write");

            // Without anything to write a disk that stands still harms nobody.
            world.hold(&old, true);
            sleep(LIMIT).await;
            assert_eq!(clients::status(&world, rest[0]).await.unwrap().leader.unwrap().name, old);

            // Whoever asks now may be told that nobody knows.
            let begun = Instant::now();
            let _ =
                timeout(LIMIT / 5, clients::put(&world, rest[0], "k", b"meanwhile", None)).await;
            while clients::status(&world, rest[0]).await.unwrap().leader.map(|it| it.name).as_ref()
                == Some(&old)
            {
                assert!(begun.elapsed() < LIMIT, "seed {seed}: {old} leads still");
                sleep(Duration::from_millis(20)).await;
            }
            clients::leader(&world, &rest).await;
            clients::put(&world, rest[1], "k", b"after", None).await.expect("a write");

            world.hold(&old, false);
            let now = clients::get(&world, &old, "k").await.expect("a read");
            assert_eq!(now.as_deref(), Some(&b"after"[..]), "seed {seed}");
        });
    }
}
