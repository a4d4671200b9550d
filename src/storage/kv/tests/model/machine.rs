//! What happens to a store, as a state machine beside the model.
//!
//! After every step the store is the model's present; in the end it has the model's past, too, and is what the same log makes
//! of an empty store at once. A failing sequence shrinks to the shortest that still fails: leases are named by how many were
//! granted since, so that a sequence without one of its steps means the same.

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::checks::contents;
use super::draw::{Transition, transitions};
use super::*;

/// What the store should be, and by what.
#[derive(Clone, Debug)]
struct Expected {
    model: Model,
    log: Vec<Entry>,
    /// Of the last entry, where the model knows it.
    outcome: Option<Outcome>,
}

struct Reference;

impl ReferenceStateMachine for Reference {
    type State = Expected;
    type Transition = Transition;

    fn init_state() -> BoxedStrategy<Expected> {
        let changes = prop_oneof![3..40u64, Just(1_000)];
        changes
            .prop_map(|changes| Expected {
                model: Model::new(changes),
                log: Vec::new(),
                outcome: None,
            })
            .boxed()
    }

    fn transitions(expected: &Expected) -> BoxedStrategy<Transition> {
        transitions(expected.model.revision()).boxed()
    }

    fn apply(mut expected: Expected, transition: &Transition) -> Expected {
        if let Transition::Do(operation, time_ms) = transition {
            let (model, index) = (&mut expected.model, expected.log.len() as u64);
            let operation = model.leases.name(operation.clone());
            expected.outcome = model.apply(&operation, *time_ms, index);
            let command = Command { time_ms: *time_ms, request_id: None, operation };
            let id = LogId { term: 1, index };
            expected.log.push(Entry { id, payload: Payload::Command(command) });
        }
        expected
    }
}

struct World {
    disk: MemDisk,
    kv: Kv,
}

struct StoreTest;

impl StateMachineTest for StoreTest {
    type SystemUnderTest = World;
    type Reference = Reference;

    fn init_test(expected: &Expected) -> World {
        let disk = MemDisk::new();
        World { kv: open_with(&disk, expected.model.retention()), disk }
    }

    fn apply(world: World, expected: &Expected, transition: Transition) -> World {
        let World { mut disk, mut kv } = world;
        match transition {
            Transition::Checkpoint => checkpoint(&mut kv),
            // The state of the last checkpoint is there, and the log brings the rest back.
            Transition::Crash => {
                drop(kv);
                disk = disk.crash(PowerCut::KeepNone);
                kv = open_with(&disk, expected.model.retention());
                kv.apply(expected.log.clone()).expect("no I/O fails");
            }
            // A snapshot brings all of it to another node.
            Transition::Install => {
                disk = MemDisk::new();
                let mut target = open_with(&disk, expected.model.retention());
                install(kv.reader().snapshot(), &mut target);
                kv = target;
            }
            Transition::Do(..) => {
                let last = expected.log[expected.log.len() - 1..].to_vec();
                let outcome = kv.apply(last).expect("no I/O fails");
                if let Some(expected) = &expected.outcome {
                    assert_eq!(outcome, std::slice::from_ref(expected));
                }
            }
        }
        World { disk, kv }
    }

    fn check_invariants(world: &World, expected: &Expected) {
        expected.model.check_present(&world.kv.reader().snapshot());
    }

    fn teardown(world: World, Expected { model, log, .. }: Expected) {
        let state = world.kv.reader().snapshot();
        model.check(&state);
        // However the log is cut into commits, what comes of it is the same.
        let mut at_once = open_with(&MemDisk::new(), model.retention());
        at_once.apply(log).expect("no I/O fails");
        let at_once = at_once.reader().snapshot();
        assert_eq!(at_once.facts(), state.facts());
        assert_eq!(contents(&at_once), contents(&state));
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_a_map_with_revisions_and_a_past(sequential 1..80 => StoreTest);
}

/// What a list of steps shrank to that failed once: records that end, by a leader's clock that went back twice.
#[test]
fn records_end_at_their_time_by_a_clock_that_went_back() {
    let brief = |ms| Lifetime::Ttl { ms };
    let put = |name: u8, ms| TxnOp::Put {
        key: Key::new(vec![name]).expect("one byte"),
        value: vec![name; 1_000].into(),
        lifetime: brief(ms),
    };
    let txn = |compare, success, failure| {
        Operation::Txn(Txn::new(compare, success, failure).expect("a branch puts one key"))
    };
    let compare = Compare {
        key: Key::new(vec![0]).expect("one byte"),
        is: Relation::Greater,
        to: Operand::Exists(false),
    };
    let range =
        KeyRange { start: Bytes::from_static(b"\x01"), end: Some(Bytes::from_static(b"\x02")) };
    let last = Operation::Put {
        key: Key::new(vec![3]).expect("one byte"),
        value: vec![3; 200].into(),
        condition: Condition::None,
        lifetime: brief(20),
    };
    let steps = [
        (txn(vec![compare], vec![], vec![put(4, 11)]), 215),
        (Operation::DeleteRange { range }, 222),
        (txn(vec![], vec![put(0, 10)], vec![]), 67),
        (last, 296),
        (Operation::Expire, 47),
    ];
    let mut expected = Expected { model: Model::new(1_000), log: Vec::new(), outcome: None };
    let mut world = StoreTest::init_test(&expected);
    for (operation, time_ms) in steps {
        let step = Transition::Do(operation, time_ms);
        expected = Reference::apply(expected, &step);
        world = StoreTest::apply(world, &expected, step);
        StoreTest::check_invariants(&world, &expected);
    }
    assert_eq!(expected.model.present().len(), 1, "two of the three have ended");
    StoreTest::teardown(world, expected);
}
