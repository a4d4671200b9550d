//! A leader whose disk is slower than those of its followers: what waits for it has a bound, and it goes on.

use std::time::Duration;

use conuredb::simulation::client as clients;
use conuredb::simulation::world::World;
use futures_util::future::join_all;
use tokio::time::sleep;

use super::{NAMES, found, others_than};

/// Three times of what a log of the simulation may have waiting for its disk.
const VALUES: usize = 300;
const VALUE_BYTES: usize = 40 << 10;

/// Shorter than what makes a leader step aside.
const PAUSE: Duration = Duration::from_millis(700);

#[test]
fn a_leader_whose_disk_lags_behind_goes_on() {
    for seed in 0..8 {
        World::run(seed, |world| async move {
            found(&world).await;
            let leader = clients::leader(&world, &NAMES).await;
            let follower = others_than(&leader)[0];
            let puts =
                join_all((0..VALUES).map(|number| {
                    let (world, value) = (&world, vec![number as u8; VALUE_BYTES]);
                    async move {
                        clients::put(world, follower, &format!("k{number}"), &value, None).await
                    }
                }));
            let lagging = async {
                loop {
                    world.hold(&leader, true);
                    sleep(PAUSE).await;
                    world.hold(&leader, false);
                    sleep(PAUSE / 70).await;
                }
            };
            let outcomes = tokio::select! {
                outcomes = puts => outcomes,
                () = lagging => unreachable!("it has no end"),
            };
            world.hold(&leader, false);
            assert_eq!(world.gave_up(&leader), None, "seed {seed}");
            assert!(outcomes.iter().any(Result::is_ok), "seed {seed}: {:?}", outcomes[0]);
            for (number, outcome) in outcomes.iter().enumerate() {
                if outcome.is_ok() {
                    let read = clients::get(&world, &leader, &format!("k{number}")).await;
                    let is_there = read.is_ok_and(|value| value.is_some());
                    assert!(is_there, "seed {seed}: k{number} was acknowledged");
                }
            }
        });
    }
}
