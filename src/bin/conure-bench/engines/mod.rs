//! What is measured, behind two traits, with a file for each engine.
//!
//! [`Tree`] is an engine that is loaded and read; [`Machine`] is one that takes batches, as the state
//! machine of a node does. A peer is the same both times. The project's engine is not: its tree is read
//! as such, so that a read is compared with a read, while its batches go through the state machine, with
//! the revision and the applied index that a node keeps, and are made durable by the Raft log.
//!
//! `conure` and `raft_log` are the only files that name the project's storage.

mod btreemap;
mod conure;
#[cfg(feature = "bench-peers")]
mod fjall;
#[cfg(feature = "bench-peers")]
mod lmdb;
pub mod raft_log;
#[cfg(feature = "bench-peers")]
mod redb;

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::error::{BenchError, Failure};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Conure,
    Lmdb,
    Redb,
    Fjall,
    Btreemap,
    /// No engine but plain writes to a file, beside which the log is measured.
    Raw,
}

impl Kind {
    /// In the order of the columns.
    pub const ALL: [Kind; 6] =
        [Kind::Conure, Kind::Lmdb, Kind::Redb, Kind::Fjall, Kind::Btreemap, Kind::Raw];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Conure => "conure",
            Kind::Lmdb => "lmdb",
            Kind::Redb => "redb",
            Kind::Fjall => "fjall",
            Kind::Btreemap => "btreemap",
            Kind::Raw => "raw",
        }
    }

    /// Whether it leaves files behind that can be measured and opened again.
    pub fn has_files(self) -> bool {
        self != Kind::Btreemap
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl ValueEnum for Kind {
    /// Those that one can ask for by name.
    fn value_variants<'a>() -> &'a [Kind] {
        &Kind::ALL[..5]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

/// A key and its value, shared and not copied.
#[derive(Clone)]
pub struct Pair {
    pub key: Bytes,
    pub value: Bytes,
}

/// In which order the keys of a load come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Random,
    Sorted,
}

/// What a commit of a [`Machine`] promises when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// That it is visible.
    None,
    /// That it survives a power cut.
    EachCommit,
}

/// How an engine is opened.
#[derive(Clone, Copy)]
pub struct Options {
    pub cache_bytes: usize,
    /// Entries after which the project's state machine takes a checkpoint; peers have none.
    pub checkpoint_entries: u64,
}

/// Takes a value that was found; not called when there is none.
pub type Seen<'a> = &'a mut dyn FnMut(&[u8]);

/// One state of an engine, read by one thread.
pub trait View {
    fn get(&self, key: &[u8], seen: Seen<'_>) -> Result<(), Failure>;
    /// Up to `limit` pairs from `start` on.
    fn scan(
        &self,
        start: &[u8],
        limit: usize,
        seen: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Failure>;
}

/// One state of an engine, held while it goes on.
pub trait Pinned {
    fn get(&self, key: &[u8], seen: Seen<'_>) -> Result<(), Failure>;
}

impl<V: View> Pinned for V {
    fn get(&self, key: &[u8], seen: Seen<'_>) -> Result<(), Failure> {
        View::get(self, key, seen)
    }
}

/// An engine that is loaded, and then read by several threads.
pub trait Tree: Send + Sync {
    /// Fills the empty engine in one transaction, if it has them, and returns when all of it is durable.
    /// Several would leave as many old versions of the tree in the file, and measure that.
    fn load(&mut self, pairs: &mut dyn Iterator<Item = Pair>, order: Order) -> Result<(), Failure>;
    fn view(&self) -> Result<Box<dyn View + '_>, Failure>;
    /// Opens a view for this one key and closes it again.
    fn get_fresh(&self, key: &[u8], seen: Seen<'_>) -> Result<(), Failure>;
}

/// Uses an engine that is busy otherwise.
pub type Beside<'a> = &'a mut dyn FnMut(&dyn Machine) -> Result<(), Failure>;

/// An engine that takes batches, each in one transaction.
pub trait Machine: Send + Sync {
    fn commit(&self, batch: &[Pair]) -> Result<(), Failure>;
    fn delete(&self, keys: &[Bytes]) -> Result<(), Failure>;
    /// Makes durable, in the engine's own files, what was committed when it was called.
    fn settle(&self) -> Result<(), Failure>;
    /// Gives back what space it can, and closes. An engine that can be used meanwhile calls `beside` whenever it
    /// pauses; one that compacts alone, or in one go, never does.
    fn compact(self: Box<Self>, beside: Beside<'_>) -> Result<(), Failure>;
    /// Reads all pairs; how many there are.
    fn read_all(&self) -> Result<usize, Failure>;
    fn pin(&self) -> Result<Box<dyn Pinned + '_>, Failure>;
    fn get(&self, key: &[u8], seen: Seen<'_>) -> Result<(), Failure>;
}

pub use conure::{STATE_FILE, open_state, stream};

/// Reads all pairs of a view; how many there are.
#[cfg(feature = "bench-peers")]
fn count_pairs(view: &dyn View) -> Result<usize, Failure> {
    let mut pairs = 0;
    view.scan(&[], usize::MAX, &mut |key, value| {
        std::hint::black_box((key, value));
        pairs += 1;
    })?;
    Ok(pairs)
}

/// The directory of the files that hold the data of an engine opened in `dir`. A log that serves Raft is
/// not among them: a node has it anyway, with its own bounds.
pub fn data_dir(kind: Kind, dir: &Path) -> PathBuf {
    match kind {
        Kind::Conure => conure::data_dir(dir),
        _ => dir.to_owned(),
    }
}

/// Refuses engines that were left out of this build.
pub fn check_built(kind: Kind) -> Result<(), BenchError> {
    match kind {
        Kind::Lmdb | Kind::Redb | Kind::Fjall if !cfg!(feature = "bench-peers") => {
            Err(BenchError::NotBuilt { engine: kind })
        }
        _ => Ok(()),
    }
}

pub fn open_tree(kind: Kind, dir: &Path, options: Options) -> Result<Box<dyn Tree>, Failure> {
    match kind {
        Kind::Conure => Ok(Box::new(conure::ConureTree::open(dir, options)?)),
        Kind::Btreemap => Ok(Box::new(btreemap::Map::default())),
        #[cfg(feature = "bench-peers")]
        Kind::Lmdb => Ok(Box::new(lmdb::Lmdb::open_tree(dir)?)),
        #[cfg(feature = "bench-peers")]
        Kind::Redb => Ok(Box::new(redb::Redb::open(dir, options, Durability::None)?)),
        #[cfg(feature = "bench-peers")]
        Kind::Fjall => Ok(Box::new(fjall::Fjall::open(dir, options, Durability::None)?)),
        _ => Err(BenchError::NotBuilt { engine: kind }.into()),
    }
}

/// Opens what [`Tree::load`] left.
pub fn open_machine(
    kind: Kind,
    dir: &Path,
    options: Options,
    durability: Durability,
) -> Result<Box<dyn Machine>, Failure> {
    match kind {
        Kind::Conure => Ok(Box::new(conure::ConureMachine::open(dir, options, durability)?)),
        #[cfg(feature = "bench-peers")]
        Kind::Lmdb => Ok(Box::new(lmdb::Lmdb::open_machine(dir, durability)?)),
        #[cfg(feature = "bench-peers")]
        Kind::Redb => Ok(Box::new(redb::Redb::open(dir, options, durability)?)),
        #[cfg(feature = "bench-peers")]
        Kind::Fjall => Ok(Box::new(fjall::Fjall::open(dir, options, durability)?)),
        _ => Err(BenchError::NotBuilt { engine: kind }.into()),
    }
}
