//! The store as a state machine beside a map: through everything that can happen between two commits.
//!
//! The reference draws transitions that can happen in its state, so that few of them do nothing, and a failing
//! sequence shrinks to the shortest that still can. Values are kept as length and byte, and made when compared.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::*;
use crate::storage::checkpoint::Checkpoint;
use crate::storage::disk::PowerCut;

/// What happens. Held snapshots are chosen by number, modulo how many there are.
#[derive(Clone, Debug)]
enum Transition {
    Commit(Vec<Write>),
    RollBack(Vec<Write>),
    Hold,
    Release(usize),
    BeginCheckpoint,
    /// Writes and finishes the checkpoint in flight.
    EndCheckpoint,
    /// Gives it up, as after an error.
    AbortCheckpoint,
    /// A step of a compaction, of so many pages about.
    Compact(u32),
    /// The process dies and opens the file again.
    Reopen,
    /// The power goes, too.
    Crash(u64),
}

#[derive(Clone, Debug)]
enum Write {
    Put { key: u16, len: usize, fill: u8 },
    Delete { key: u16 },
    DeleteRange { from: u16, keys: u16 },
    Clear,
}

const KEYS: u16 = 300;

/// Every seventh key is giant: 4,000 shared bytes before the number.
fn key(nth: u16) -> Vec<u8> {
    let nth = nth % KEYS;
    let padding = if nth.is_multiple_of(7) { 4_000 } else { usize::from(nth) % 40 };
    [&vec![b'k'; padding][..], format!("{nth:05}").as_bytes()].concat()
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let len = prop_oneof![
        60 => 0..200_usize,
        20 => 900..1_200_usize,
        10 => 4_000..9_000_usize,
        1 => 1_000_000..4_000_000_usize,
    ];
    let write = prop_oneof![
        60 => (any::<u16>(), len, any::<u8>())
            .prop_map(|(key, len, fill)| Write::Put { key, len, fill }),
        25 => any::<u16>().prop_map(|key| Write::Delete { key }),
        3 => (any::<u16>(), 0..60_u16).prop_map(|(from, keys)| Write::DeleteRange { from, keys }),
        1 => Just(Write::Clear),
    ];
    vec(write, 1..40)
}

/// Keys, and the length and the byte of their values.
type Sketch = BTreeMap<Vec<u8>, (usize, u8)>;

/// Does a write to a map; the number of keys that were there and are not.
fn write(map: &mut Sketch, write: &Write) -> usize {
    let before = map.len();
    match *write {
        Write::Put { key: nth, len, fill } => {
            map.insert(key(nth), (len, fill));
        }
        Write::Delete { key: nth } => {
            map.remove(&key(nth));
        }
        Write::DeleteRange { from, keys } => {
            let (low, high) = range(from, keys);
            map.retain(|key, _| *key < low || *key >= high);
        }
        Write::Clear => map.clear(),
    }
    before.saturating_sub(map.len())
}

fn range(from: u16, keys: u16) -> (Vec<u8>, Vec<u8>) {
    (key(from), key(from.wrapping_add(keys)))
}

#[track_caller]
fn assert_is(snapshot: &Snapshot, sketch: &Sketch) {
    let model = sketch.iter().map(|(key, (len, fill))| (key.clone(), vec![*fill; *len]));
    assert_holds(snapshot, &model.collect());
}

/// What the store should hold, in the present, durably, and in what is held of it.
#[derive(Clone, Debug, Default)]
struct Maps {
    committed: Sketch,
    durable: Sketch,
    in_flight: Option<Sketch>,
    held: Vec<Sketch>,
}

struct Reference;

impl ReferenceStateMachine for Reference {
    type State = Maps;
    type Transition = Transition;

    fn init_state() -> BoxedStrategy<Maps> {
        Just(Maps::default()).boxed()
    }

    fn transitions(maps: &Maps) -> BoxedStrategy<Transition> {
        let is_in_flight = u32::from(maps.in_flight.is_some());
        prop_oneof![
            50 => writes().prop_map(Transition::Commit),
            5 => writes().prop_map(Transition::RollBack),
            8 => Just(Transition::Hold),
            8 * u32::from(!maps.held.is_empty()) => any::<usize>().prop_map(Transition::Release),
            10 * (1 - is_in_flight) => Just(Transition::BeginCheckpoint),
            10 * is_in_flight => Just(Transition::EndCheckpoint),
            3 * is_in_flight => Just(Transition::AbortCheckpoint),
            12 => (1..40_u32).prop_map(Transition::Compact),
            2 => Just(Transition::Reopen),
            3 => any::<u64>().prop_map(Transition::Crash),
        ]
        .boxed()
    }

    fn preconditions(maps: &Maps, transition: &Transition) -> bool {
        match transition {
            Transition::Release(_) => !maps.held.is_empty(),
            Transition::BeginCheckpoint => maps.in_flight.is_none(),
            Transition::EndCheckpoint | Transition::AbortCheckpoint => maps.in_flight.is_some(),
            _ => true,
        }
    }

    fn apply(mut maps: Maps, transition: &Transition) -> Maps {
        match transition {
            Transition::Commit(writes) => {
                for step in writes {
                    write(&mut maps.committed, step);
                }
            }
            Transition::RollBack(_) | Transition::Compact(_) => {}
            Transition::Hold => maps.held.push(maps.committed.clone()),
            Transition::Release(nth) => drop(maps.held.swap_remove(nth % maps.held.len())),
            Transition::BeginCheckpoint => maps.in_flight = Some(maps.committed.clone()),
            Transition::EndCheckpoint => {
                maps.durable = maps.in_flight.take().expect("a precondition");
            }
            Transition::AbortCheckpoint => maps.in_flight = None,
            Transition::Reopen | Transition::Crash(_) => {
                maps = Maps {
                    committed: maps.durable.clone(),
                    durable: maps.durable,
                    ..Maps::default()
                };
            }
        }
        maps
    }
}

/// The store, and what is under way.
struct World {
    disk: MemDisk,
    store: Store,
    held: Vec<Snapshot>,
    /// None, too, when there was nothing to write.
    in_flight: Option<Checkpoint>,
}

impl World {
    /// Does the writes in one transaction, and rolls it back or commits it.
    fn write(
        &mut self,
        writes: &[Write],
        before: &Sketch,
        commits: bool,
    ) -> Result<(), StorageError> {
        let mut map = before.clone();
        let mut txn = self.store.begin();
        for step in writes {
            let was_present = |nth: u16| map.contains_key(&key(nth));
            match *step {
                Write::Put { key: nth, len, fill } => {
                    assert_eq!(txn.put(T, &key(nth), &vec![fill; len])?, was_present(nth));
                }
                Write::Delete { key: nth } => {
                    assert_eq!(txn.delete(T, &key(nth))?, was_present(nth));
                }
                Write::DeleteRange { from, keys } => {
                    let (low, high) = range(from, keys);
                    let bounds =
                        crate::types::KeyRange { start: low.into(), end: Some(high.into()) };
                    let gone = write(&mut map.clone(), step);
                    assert_eq!(txn.delete_range(T, bounds)?, gone as u64);
                }
                Write::Clear => txn.clear(T)?,
            }
            write(&mut map, step);
        }
        assert_eq!(txn.len(T)?, map.len() as u64);
        if commits {
            txn.commit()?;
        }
        Ok(())
    }

    fn step(&mut self, maps: &Maps, transition: Transition) -> Result<(), StorageError> {
        match transition {
            Transition::Commit(writes) => {
                let before = self.sketch()?;
                self.write(&writes, &before, true)?;
            }
            Transition::RollBack(writes) => self.write(&writes, &maps.committed, false)?,
            Transition::Hold => self.held.push(self.store.snapshot()),
            Transition::Release(nth) => drop(self.held.swap_remove(nth % self.held.len())),
            Transition::BeginCheckpoint => self.in_flight = self.store.begin_checkpoint()?,
            Transition::EndCheckpoint => {
                if let Some(checkpoint) = self.in_flight.take() {
                    self.store.finish_checkpoint(checkpoint.write())?;
                }
            }
            Transition::AbortCheckpoint => {
                if self.in_flight.take().is_some() {
                    let (file, action) = (FILE.to_owned(), "write pages");
                    let source = std::io::ErrorKind::StorageFull.into();
                    let full = StorageError::Io { file, action, offset: 0, source };
                    assert!(self.store.finish_checkpoint(Err(full)).unwrap_err().is_disk_full());
                }
            }
            Transition::Compact(pages) => drop(self.store.compact_step(pages)?),
            Transition::Reopen | Transition::Crash(_) => {
                self.held.clear();
                self.in_flight = None;
                if let Transition::Crash(seed) = transition {
                    self.disk = self.disk.crash(PowerCut::ByChance(&mut rng(seed)));
                }
                self.store = open(&self.disk)?;
            }
        }
        self.store.check().map(drop)
    }

    /// The present, as the store itself has it: what a commit is compared with before it is done.
    fn sketch(&self) -> Result<Sketch, StorageError> {
        let pairs = contents(&self.store.snapshot())?.into_iter();
        let sketch = |value: Vec<u8>| (value.len(), value.first().copied().unwrap_or_default());
        Ok(pairs.map(|(key, value)| (key, sketch(value))).collect())
    }
}

struct StoreTest;

impl StateMachineTest for StoreTest {
    type SystemUnderTest = World;
    type Reference = Reference;

    fn init_test(_: &Maps) -> World {
        let disk = MemDisk::new();
        World { store: open(&disk).unwrap(), disk, held: Vec::new(), in_flight: None }
    }

    fn apply(mut world: World, maps: &Maps, transition: Transition) -> World {
        world.step(maps, transition).unwrap();
        world
    }

    fn check_invariants(world: &World, maps: &Maps) {
        assert_eq!(world.held.len(), maps.held.len());
        assert_is(&world.store.snapshot(), &maps.committed);
        if let Some((snapshot, map)) = world.held.iter().zip(&maps.held).next_back() {
            assert_is(snapshot, map);
        }
    }

    fn teardown(world: World, maps: Maps) {
        world.held.iter().zip(&maps.held).for_each(|(snapshot, map)| assert_is(snapshot, map));
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        rng_seed: RngSeed::Fixed(0x00c0_94e5),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_store_is_a_map_through_snapshots_checkpoints_compaction_and_crashes(
        sequential 1..60 => StoreTest
    );
}
