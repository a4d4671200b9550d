//! One round: which works need which database, and whose turn it is.

use std::fs;
use std::path::{Path, PathBuf};

use super::keeper::Keeper;
use super::works::Work;
use super::{durable, growth, load, logs, peak, reads, reopen, snapshots, writes};
use crate::cli::DataArgs;
use crate::data::Data;
use crate::engines::{self, Durability, Kind, Machine, Options, Tree};
use crate::error::{BenchError, Failure};
use crate::results::Results;

/// Entries between two checkpoints of the project's engine: as many as in `conure-db`.
const CHECKPOINT_ENTRIES: u64 = 200_000;

pub struct Round<'a> {
    pub number: u32,
    pub dir: &'a Path,
    pub args: &'a DataArgs,
    pub data: &'a Data,
    pub works: &'a [Work],
    /// The project's engine and its peers.
    pub engines: Vec<Kind>,
    pub results: &'a mut Results,
}

/// A database of this round, and what it should hold.
pub struct Database {
    pub kind: Kind,
    pub dir: PathBuf,
    pub keeper: Keeper,
}

/// A database with its engine running.
pub struct Open<T: ?Sized> {
    pub database: Database,
    pub engine: Box<T>,
}

/// Names the engine and the work in an engine's error.
pub fn failed(engine: Kind, work: Work) -> impl Fn(Failure) -> BenchError {
    move |source| BenchError::Engine { engine, work: work.name(), source }
}

impl Round<'_> {
    pub fn run(&mut self) -> Result<(), BenchError> {
        let on_random =
            [Work::LoadRandom, Work::FileRandom, Work::CompactRatio, Work::SnapshotStream];
        let groups =
            [&on_random[..], &reads::WORKS, &growth::WORKS, &writes::WORKS, &durable::WORKS];
        if self.wants(&groups.concat()) {
            let mut trees = load::random(self)?;
            if self.wants(&reads::WORKS) {
                reads::run(self, &mut trees)?;
            }
            let mut databases = close(trees);
            databases.retain(|database| database.kind.has_files());
            growth::run(self, &databases)?;
            if self.wants(&writes::WORKS) {
                databases = writes::run(self, databases)?;
            }
            if self.wants(&durable::WORKS) {
                databases = durable::run(self, databases)?;
            }
            if self.wants(&[Work::SnapshotStream]) {
                snapshots::stream(self, &databases)?;
            }
            if self.wants(&[Work::CompactRatio]) {
                writes::compact(self, databases)?;
            }
        }
        if self.wants(&[Work::LoadSorted, Work::FileSorted]) {
            load::sorted(self)?;
        }
        if self.wants(&logs::WORKS) {
            logs::run(self)?;
        }
        if self.wants(&reopen::WORKS) {
            reopen::run(self)?;
        }
        if self.wants(&[Work::RssPeak]) {
            peak::run(self)?;
        }
        Ok(())
    }

    pub fn wants(&self, works: &[Work]) -> bool {
        works.iter().any(|work| self.works.contains(work))
    }

    /// Takes a figure down, if it was asked for.
    pub fn record(&mut self, work: Work, engine: Kind, value: f64) {
        if self.works.contains(&work) {
            self.results.record(self.number, work, engine, value);
        }
    }

    /// The numbers below `count` in the order of their turns at `work`.
    pub fn turns(&self, work: Work, count: usize) -> impl Iterator<Item = usize> + use<> {
        let first = self.number as usize + work as usize;
        (0..count).map(move |turn| (first + turn) % count)
    }

    /// A new directory of this round.
    pub fn make_dir(&self, name: &str) -> Result<PathBuf, BenchError> {
        let dir = self.dir.join(name);
        fs::create_dir(&dir).map_err(BenchError::io("create", &dir))?;
        Ok(dir)
    }

    pub fn open_tree(
        &self,
        kind: Kind,
        dir: &Path,
        work: Work,
    ) -> Result<Box<dyn Tree>, BenchError> {
        engines::open_tree(kind, dir, self.options()).map_err(failed(kind, work))
    }

    pub fn open_machines(
        &self,
        databases: Vec<Database>,
        durability: Durability,
        work: Work,
    ) -> Result<Vec<Open<dyn Machine>>, BenchError> {
        let open = |database: Database| {
            let (kind, dir) = (database.kind, &database.dir);
            let engine = engines::open_machine(kind, dir, self.options(), durability)
                .map_err(failed(kind, work))?;
            Ok(Open { database, engine })
        };
        databases.into_iter().map(open).collect()
    }

    pub fn options(&self) -> Options {
        options(self.args, CHECKPOINT_ENTRIES)
    }
}

pub fn options(args: &DataArgs, checkpoint_entries: u64) -> Options {
    Options { cache_bytes: (args.cache_mib as usize) << 20, checkpoint_entries }
}

/// Closes the engines; their files stay.
pub fn close<T: ?Sized>(open: Vec<Open<T>>) -> Vec<Database> {
    open.into_iter().map(|Open { database, .. }| database).collect()
}

pub fn remove(dir: &Path) -> Result<(), BenchError> {
    fs::remove_dir_all(dir).map_err(BenchError::io("remove", dir))
}
