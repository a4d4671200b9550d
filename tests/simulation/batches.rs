//! Writes of one moment share an entry of the log; nobody who wrote one can tell.

use std::collections::BTreeSet;

use conuredb::actors::messages::RequestError;
use conuredb::simulation::client as clients;
use conuredb::simulation::world::World;
use conuredb::types::{Condition, Key, Lifetime, Operation, Outcome, RequestId, Revision};
use futures_util::future::join_all;

use super::{NAMES, found};

/// Writes that are sent at once.
const WRITES: usize = 60;

fn put(number: usize, condition: Condition, len_bytes: usize) -> Operation {
    let key = Key::new(format!("key-{number:02}").into_bytes()).expect("a short key");
    let value = vec![number as u8; len_bytes].into();
    Operation::Put { key, value, condition, lifetime: Lifetime::Unbounded }
}

/// Sends all of them to one node in the same moment.
async fn all_at_once(
    world: &World,
    node: &str,
    writes: Vec<(Operation, Option<RequestId>)>,
) -> Vec<Result<Outcome, RequestError>> {
    let sent = writes.into_iter().map(|(write, id)| clients::write(world, node, write, id));
    join_all(sent).await
}

fn revision_of(outcome: &Result<Outcome, RequestError>) -> Revision {
    match outcome {
        Ok(Outcome::Put { revision, .. }) => *revision,
        other => panic!("a put came to {other:?}"),
    }
}

/// The entries that the log of a node has.
async fn last_index(world: &World, node: &str) -> u64 {
    clients::status(world, node).await.expect("a status").last_log_index
}

#[test]
fn writes_of_one_moment_make_few_entries_and_each_gets_its_own_outcome() {
    for seed in 0..4 {
        World::run(seed, |world| async move {
            found(&world).await;
            let leader = clients::leader(&world, &NAMES).await;
            let before = last_index(&world, &leader).await;
            // Every third has a condition that fails.
            let condition = |n: usize| match n % 3 {
                0 => Condition::Present,
                _ => Condition::Absent,
            };
            let writes = (0..WRITES).map(|n| (put(n, condition(n), 5), None)).collect();
            let outcomes = all_at_once(&world, &leader, writes).await;
            let entries = last_index(&world, &leader).await - before;
            assert!((1..=10).contains(&entries), "seed {seed}: {entries} entries");

            let mut revisions = BTreeSet::new();
            for (number, outcome) in outcomes.iter().enumerate() {
                let record = clients::record(&world, "n2", &format!("key-{number:02}")).await;
                let record = record.expect("a read");
                if number % 3 == 0 {
                    assert!(matches!(outcome, Ok(Outcome::ConditionFailed { .. })), "{outcome:?}");
                    assert_eq!(record, None);
                    continue;
                }
                let record = record.expect("what was acknowledged is there");
                assert_eq!(record.mod_revision, revision_of(outcome), "seed {seed}");
                assert_eq!(record.value, vec![number as u8; 5]);
                assert!(revisions.insert(record.mod_revision), "seed {seed}: a revision twice");
            }
        });
    }
}

#[test]
fn what_has_no_room_in_an_entry_goes_into_the_next() {
    World::run(5, |world| async move {
        found(&world).await;
        let leader = clients::leader(&world, &NAMES).await;
        // The log of a simulated node takes entries of 32 KiB.
        let lens = |n: usize| [30_000, 9_000, 10][n % 3];
        let writes = (0..WRITES).map(|n| (put(n, Condition::None, lens(n)), None)).collect();
        let outcomes = all_at_once(&world, &leader, writes).await;
        let mut revisions: Vec<Revision> = outcomes.iter().map(revision_of).collect();
        revisions.dedup();
        assert_eq!(revisions.len(), WRITES);
        for number in 0..WRITES {
            let value = clients::get(&world, "n3", &format!("key-{number:02}")).await;
            assert_eq!(value.expect("a read").map(|value| value.len()), Some(lens(number)));
        }
    });
}

#[test]
fn a_retry_beside_its_first_attempt_is_applied_once() {
    World::run(6, |world| async move {
        found(&world).await;
        let leader = clients::leader(&world, &NAMES).await;
        let id = || Some(RequestId { client: "client".into(), sequence: 1 });
        let writes = (0..6).map(|_| (put(0, Condition::None, 3), id())).collect();
        let outcomes = all_at_once(&world, &leader, writes).await;
        let first = revision_of(&outcomes[0]);
        assert!(outcomes.iter().all(|outcome| revision_of(outcome) == first), "{outcomes:?}");
        let record = clients::record(&world, "n1", "key-00").await.expect("a read");
        assert_eq!(record.map(|record| record.version), Some(1));
    });
}
