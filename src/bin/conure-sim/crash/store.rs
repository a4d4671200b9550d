//! The B-tree file alone: commits, checkpoints beside them, snapshots that are held, compaction.
//!
//! A state is what both trees hold. Only checkpoints make one durable, so the history is that of the roots they
//! wrote.

use std::collections::BTreeMap;
use std::sync::Arc;

use conuredb::storage::TreeId;
use conuredb::storage::compact::{CompactProgress, STEP_PAGES};
use conuredb::storage::cursor::Bounds;
use conuredb::storage::disk::{Disk, MemDisk};
use conuredb::storage::snapshot::Snapshot;
use conuredb::storage::store::{Store, StoreOptions};
use rand::Rng;
use rand::rngs::StdRng;

use super::images::{Failure, History, Subject};

const FILE: &str = "conure.db";
const TREES: [TreeId; 2] = [TreeId::new(0), TreeId::new(3)];

/// A pool of 64 pages: less than the trees have.
pub const OPTIONS: StoreOptions = StoreOptions { cache_bytes: 256 << 10 };

const ROUNDS: usize = 8;
const COMMITS: usize = 4;
const WRITES: usize = 24;
const KEYS: u32 = 90;

/// Steps of one compaction that a round waits for.
const MOST_STEPS: usize = 40;

type Tree = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trees([Tree; 2]);

pub struct StoreFile;

impl Subject for StoreFile {
    type State = Trees;

    fn work(
        disk: Arc<dyn Disk>,
        chance: &mut StdRng,
        history: &mut History<Trees>,
    ) -> Result<(), Failure> {
        Work { store: open(&disk)?, trees: Trees::default(), held: Vec::new(), chance }.run(history)
    }

    fn recover(disk: &MemDisk) -> Result<Trees, Failure> {
        let mut store = open(&(Arc::new(disk.clone()) as Arc<dyn Disk>))?;
        store.check()?;
        read(&store.snapshot())
    }

    fn go_on(disk: &MemDisk, found: &Trees) -> (Trees, Result<(), Failure>) {
        let mut next = found.clone();
        next.0[1].insert(b"gone on".to_vec(), vec![7; 9_000]);
        let go_on = || {
            let mut store = open(&(Arc::new(disk.clone()) as Arc<dyn Disk>))?;
            let mut txn = store.begin();
            txn.put(TREES[1], b"gone on", &[7; 9_000])?;
            txn.commit()?;
            checkpoint(&mut store)
        };
        (next, go_on())
    }
}

fn open(disk: &Arc<dyn Disk>) -> Result<Store, Failure> {
    Ok(Store::open(disk, FILE, OPTIONS)?)
}

fn read(snapshot: &Snapshot) -> Result<Trees, Failure> {
    let read = |tree| -> Result<Tree, Failure> {
        let entries = snapshot.range(tree, Bounds::ALL);
        let pairs = entries.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())));
        let pairs = pairs.collect::<Result<Tree, _>>()?;
        if pairs.len() as u64 != snapshot.len(tree) {
            return Err(format!("{} entries and not {}", pairs.len(), snapshot.len(tree)).into());
        }
        Ok(pairs)
    };
    Ok(Trees([read(TREES[0])?, read(TREES[1])?]))
}

fn checkpoint(store: &mut Store) -> Result<(), Failure> {
    if let Some(checkpoint) = store.begin_checkpoint()? {
        store.finish_checkpoint(checkpoint.write())?;
    }
    Ok(())
}

struct Work<'a> {
    store: Store,
    trees: Trees,
    held: Vec<(Snapshot, Trees)>,
    chance: &'a mut StdRng,
}

impl Work<'_> {
    fn run(&mut self, history: &mut History<Trees>) -> Result<(), Failure> {
        for round in 0..ROUNDS {
            for _ in 0..self.chance.random_range(1..=COMMITS) {
                self.commit()?;
            }
            if self.chance.random_ratio(1, 3) {
                self.held.push((self.store.snapshot(), self.trees.clone()));
            }
            self.checkpoint(history, true)?;
            if round % 4 == 3 {
                self.shrink()?;
                self.checkpoint(history, false)?;
                self.compact(history)?;
            }
            if self.chance.random_ratio(1, 3) && !self.held.is_empty() {
                let (snapshot, trees) = self.held.remove(0);
                if read(&snapshot)? != trees {
                    return Err("a held snapshot changed".into());
                }
            }
        }
        self.checkpoint(history, false)
    }

    fn commit(&mut self) -> Result<(), Failure> {
        let Work { store, trees, chance, .. } = self;
        let mut txn = store.begin();
        for _ in 0..chance.random_range(1..=WRITES) {
            let tree = usize::from(chance.random_ratio(1, 4));
            let key = key(chance.random_range(0..KEYS));
            match chance.random_range(0..20) {
                0..3 => {
                    txn.delete(TREES[tree], &key)?;
                    trees.0[tree].remove(&key);
                }
                3 => {
                    let bounds = conuredb::types::KeyRange {
                        start: key.clone().into(),
                        end: Some([&key[..], &[0xff]].concat().into()),
                    };
                    txn.delete_range(TREES[tree], bounds.clone())?;
                    trees.0[tree].retain(|key, _| !bounds.contains(key));
                }
                kind => {
                    let len = [30, 30, 300, 300, 1_500, 7_000][kind % 6];
                    let value = vec![chance.random(); chance.random_range(len / 2..len)];
                    txn.put(TREES[tree], &key, &value)?;
                    trees.0[tree].insert(key, value);
                }
            }
        }
        txn.commit()?;
        Ok(())
    }

    /// Deletes most of what there is, so that a compaction has much to move.
    fn shrink(&mut self) -> Result<(), Failure> {
        let mut txn = self.store.begin();
        let gone: Vec<Vec<u8>> = self.trees.0[0].keys().cloned().collect();
        for key in gone.iter().filter(|_| self.chance.random_ratio(3, 4)) {
            txn.delete(TREES[0], key)?;
            self.trees.0[0].remove(key);
        }
        txn.commit()?;
        Ok(())
    }

    /// A checkpoint, with commits between its beginning and its end when they are wanted.
    fn checkpoint(&mut self, history: &mut History<Trees>, beside: bool) -> Result<(), Failure> {
        let Some(checkpoint) = self.store.begin_checkpoint()? else { return Ok(()) };
        history.begin(self.trees.clone());
        if beside {
            self.commit()?;
        }
        let written = checkpoint.write();
        if beside {
            self.commit()?;
        }
        self.store.finish_checkpoint(written)?;
        history.all_durable();
        Ok(())
    }

    fn compact(&mut self, history: &mut History<Trees>) -> Result<(), Failure> {
        for _ in 0..MOST_STEPS {
            // Small steps, so that commits come between them.
            match self.store.compact_step(STEP_PAGES / 8)? {
                CompactProgress::Stepped if self.chance.random_ratio(1, 4) => self.commit()?,
                CompactProgress::Stepped => {}
                CompactProgress::NeedsCheckpoint => self.checkpoint(history, true)?,
                CompactProgress::Done => break,
            }
        }
        Ok(())
    }
}

/// Keys that share beginnings, of different lengths.
fn key(nth: u32) -> Vec<u8> {
    let tail = &b"........................................"[..nth as usize * 7 % 40];
    [&format!("{:02}/{nth:04}", nth % 9).into_bytes()[..], tail].concat()
}
