//! The store against a `BTreeMap`, through everything that can happen between two commits.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::storage::checkpoint::Checkpoint;
use crate::storage::disk::PowerCut;

/// One step. Keys and held snapshots are chosen by number, modulo how many there are.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Write>),
    RollBack(Vec<Write>),
    Hold,
    Release(usize),
    BeginCheckpoint,
    /// Writes and finishes the checkpoint in flight.
    EndCheckpoint,
    /// Gives it up, as after an error.
    AbortCheckpoint,
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

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        50 => writes().prop_map(Step::Commit),
        5 => writes().prop_map(Step::RollBack),
        8 => Just(Step::Hold),
        8 => any::<usize>().prop_map(Step::Release),
        8 => Just(Step::BeginCheckpoint),
        8 => Just(Step::EndCheckpoint),
        2 => Just(Step::AbortCheckpoint),
        3 => any::<u64>().prop_map(Step::Crash),
    ];
    vec(step, 1..60)
}

/// The store and what it should hold.
struct World {
    disk: MemDisk,
    store: Store,
    committed: Model,
    durable: Model,
    held: Vec<(Snapshot, Model)>,
    in_flight: Option<(Checkpoint, Model)>,
}

impl World {
    fn new() -> World {
        let disk = MemDisk::new();
        let store = open(&disk).unwrap();
        World {
            disk,
            store,
            committed: Model::new(),
            durable: Model::new(),
            held: Vec::new(),
            in_flight: None,
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), StorageError> {
        match step {
            Step::Commit(writes) => self.write(writes, true)?,
            Step::RollBack(writes) => self.write(writes, false)?,
            Step::Hold => self.held.push((self.store.snapshot(), self.committed.clone())),
            Step::Release(nth) if !self.held.is_empty() => {
                let (snapshot, model) = self.held.swap_remove(nth % self.held.len());
                assert_holds(&snapshot, &model);
            }
            Step::BeginCheckpoint if self.in_flight.is_none() => {
                let begun = self.store.begin_checkpoint()?;
                self.in_flight = begun.map(|checkpoint| (checkpoint, self.committed.clone()));
            }
            Step::EndCheckpoint => {
                if let Some((checkpoint, model)) = self.in_flight.take() {
                    self.store.finish_checkpoint(checkpoint.write())?;
                    self.durable = model;
                }
            }
            Step::AbortCheckpoint => {
                if self.in_flight.take().is_some() {
                    let (file, action) = (FILE.to_owned(), "write pages");
                    let source = std::io::ErrorKind::StorageFull.into();
                    let full = StorageError::Io { file, action, offset: 0, source };
                    assert!(self.store.finish_checkpoint(Err(full)).unwrap_err().is_disk_full());
                }
            }
            Step::Crash(seed) => {
                self.held.clear();
                self.in_flight = None;
                self.disk = self.disk.crash(PowerCut::ByChance(&mut rng(*seed)));
                self.store = open(&self.disk)?;
                self.committed = self.durable.clone();
                assert_holds(&self.store.snapshot(), &self.committed);
            }
            Step::Release(_) | Step::BeginCheckpoint => {}
        }
        self.store.check().map(|_| ())
    }

    fn write(&mut self, writes: &[Write], commits: bool) -> Result<(), StorageError> {
        let mut model = self.committed.clone();
        let mut txn = self.store.begin();
        for write in writes {
            match *write {
                Write::Put { key: nth, len, fill } => {
                    let value = vec![fill; len];
                    let was_present = txn.put(T, &key(nth), &value)?;
                    assert_eq!(was_present, model.insert(key(nth), value).is_some());
                }
                Write::Delete { key: nth } => {
                    assert_eq!(txn.delete(T, &key(nth))?, model.remove(&key(nth)).is_some());
                }
                Write::DeleteRange { from, keys } => {
                    let (low, high) = (key(from), key(from.wrapping_add(keys)));
                    let bounds = crate::types::KeyRange {
                        start: low.clone().into(),
                        end: Some(high.clone().into()),
                    };
                    let before = model.len();
                    model.retain(|key, _| *key < low || *key >= high);
                    assert_eq!(txn.delete_range(T, bounds)?, (before - model.len()) as u64);
                }
                Write::Clear => {
                    txn.clear(T)?;
                    model.clear();
                }
            }
        }
        assert_eq!(txn.len(T)?, model.len() as u64);
        if commits {
            txn.commit()?;
            self.committed = model;
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        rng_seed: RngSeed::Fixed(0x00c0_94e5),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_store_is_a_map_through_snapshots_checkpoints_and_crashes(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step).unwrap();
        }
        assert_holds(&world.store.snapshot(), &world.committed);
        for (snapshot, model) in &world.held {
            assert_holds(snapshot, model);
        }
    }
}
