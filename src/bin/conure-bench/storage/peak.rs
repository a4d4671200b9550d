//! `rss_peak`: the most memory that an engine took, beside what it was given for its cache.
//!
//! The system keeps that figure for a process, so each engine has one of its own. It loads all keys, reads them,
//! overwrites some, and makes its state durable as often as a node does: before dirty pages take half of the
//! cache. What the process holds before it opens the engine, the keys of the run above all, does not count.

use std::io::{self, Write};

use super::child::{number, process};
use super::keeper::Keeper;
use super::round::{Round, failed, options, remove};
use super::warm::read_all;
use super::works::Work;
use crate::cli::EngineArgs;
use crate::data::Data;
use crate::engines::{self, Durability, Machine, Pair};
use crate::error::{BenchError, Failure};
use crate::memory::{forget_peak, peak_bytes, resident_bytes};

/// Keys of a commit.
const COMMIT_KEYS: usize = 1_000;

/// Keys overwritten after the load, of the keys there are.
const KEYS_PER_OVERWRITE: usize = 5;

/// The state is made durable when so much of the cache may be dirty, at a page for each key. A node lets it be a
/// half; each change dirties pages of the change index too.
const DURABLE_AFTER_PART: usize = 4;
const PAGE_BYTES: usize = 4_096;

pub fn run(round: &mut Round<'_>) -> Result<(), BenchError> {
    let mut engines = round.engines.clone();
    engines.retain(|kind| kind.has_files());
    for turn in round.turns(Work::RssPeak, engines.len()) {
        let kind = engines[turn];
        let dir = round.make_dir(&format!("{kind}-peak"))?;
        let ratio = number(process(round, "peak", kind, &dir)?, "measures its memory", &dir)?;
        round.record(Work::RssPeak, kind, ratio);
        remove(&dir)?;
    }
    Ok(())
}

/// What the hidden command `peak` does.
pub fn print_peak(args: &EngineArgs) -> Result<(), BenchError> {
    let (data, options) = (Data::new(&args.data), options(&args.data, u64::MAX));
    let mut keeper = Keeper::new(&data);
    forget_peak()?;
    let before_bytes = resident_bytes()?;
    let engine = engines::open_machine(args.engine, &args.dir, options, Durability::None);
    let used = engine.and_then(|engine| use_up(&*engine, &data, &mut keeper, options.cache_bytes));
    used.map_err(failed(args.engine, Work::RssPeak))?;
    let ratio = (peak_bytes()? - before_bytes) as f64 / options.cache_bytes as f64;
    let out = writeln!(io::stdout(), "{ratio}");
    out.map_err(BenchError::io("write to", "standard output".as_ref()))
}

fn use_up(
    engine: &dyn Machine,
    data: &Data,
    keeper: &mut Keeper,
    cache_bytes: usize,
) -> Result<(), Failure> {
    let dirty_per_key = PAGE_BYTES + data.value_bytes();
    let mut dirty_bytes = 0;
    let mut commit = |batch: &[Pair]| {
        engine.commit(batch)?;
        dirty_bytes += batch.len() * dirty_per_key;
        if dirty_bytes >= cache_bytes / DURABLE_AFTER_PART {
            dirty_bytes = 0;
            engine.settle()?;
        }
        Ok::<(), Failure>(())
    };
    let commit_keys = (cache_bytes / 64 / data.value_bytes()).clamp(1, COMMIT_KEYS);
    for first in (0..data.len()).step_by(commit_keys) {
        let batch = first..(first + commit_keys).min(data.len());
        commit(&batch.map(|number| data.pair(number, 0)).collect::<Vec<_>>())?;
    }
    read_all(engine, data)?;
    for _ in 0..data.len() / KEYS_PER_OVERWRITE / commit_keys {
        commit(&keeper.overwrites(data, commit_keys))?;
    }
    engine.settle()?;
    read_all(engine, data)
}
