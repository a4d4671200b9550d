//! Batches of 100 overwrites that are durable when they return: `log_apply100_p50`, `write_amp`, and how the
//! files grow, `growth_churn` and `growth_reader`.
//!
//! Peers commit with their own durability. The project appends to the Raft log, waits for its fsync, and
//! applies, with a checkpoint when a node would take one.

use std::time::Instant;

use super::round::{Database, Open, Round, failed};
use super::works::Work;
use super::writes::{BATCH, finish};
use crate::data::Data;
use crate::engines::{Durability, Machine, data_dir};
use crate::error::BenchError;
use crate::files::{allocated_bytes, written_bytes};
use crate::stats::percentile;

pub const WORKS: [Work; 4] =
    [Work::LogApply100P50, Work::WriteAmp, Work::GrowthChurn, Work::GrowthReader];

const P50_COMMITS: usize = 300;

/// Commits of `write_amp`, of the keys there are. At a million keys and more they make exactly the entries
/// after which a node takes a checkpoint, so that one is counted, and one only.
const KEYS_PER_COMMIT: usize = 1_000;
const MOST_COMMITS: usize = 1_000;

const GROWTH_COMMITS: usize = 500;

pub fn run(round: &mut Round<'_>, databases: Vec<Database>) -> Result<Vec<Database>, BenchError> {
    let data = round.data;
    let mut machines = round.open_machines(databases, Durability::EachCommit, WORKS[0])?;
    for work in WORKS.into_iter().filter(|work| round.works.contains(work)) {
        for turn in round.turns(work, machines.len()) {
            let open = &mut machines[turn];
            // Every work begins with nothing left to do, and with files that are there.
            commits(open, data, work, 1)?;
            open.engine.settle().map_err(failed(open.database.kind, work))?;
            let value = match work {
                Work::LogApply100P50 => p50_ms(open, data),
                Work::WriteAmp => amplification(open, data),
                Work::GrowthChurn => growth_mb(open, data, work, false),
                _ => growth_mb(open, data, work, true),
            }?;
            round.record(work, open.database.kind, value);
        }
    }
    finish(data, machines, WORKS[0])
}

/// Commits so many batches, and returns the milliseconds of each.
fn commits(
    open: &mut Open<dyn Machine>,
    data: &Data,
    work: Work,
    count: usize,
) -> Result<Vec<f64>, BenchError> {
    let fail = failed(open.database.kind, work);
    let mut commit = || {
        let batch = open.database.keeper.overwrites(data, BATCH);
        let begun = Instant::now();
        open.engine.commit(&batch).map_err(&fail)?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    };
    (0..count).map(|_| commit()).collect()
}

fn p50_ms(open: &mut Open<dyn Machine>, data: &Data) -> Result<f64, BenchError> {
    let times = commits(open, data, Work::LogApply100P50, P50_COMMITS)?;
    Ok(percentile(&times, 50.0).expect("there were commits"))
}

/// Bytes that went to the disk for a byte of key and value.
fn amplification(open: &mut Open<dyn Machine>, data: &Data) -> Result<f64, BenchError> {
    let work = Work::WriteAmp;
    let count = (data.len() / KEYS_PER_COMMIT).clamp(1, MOST_COMMITS);
    let before = written_bytes()?;
    commits(open, data, work, count)?;
    open.engine.settle().map_err(failed(open.database.kind, work))?;
    let written = written_bytes()? - before;
    let payload_bytes = data.payload_bytes(0..data.len()) / data.len() as u64;
    Ok(written as f64 / (payload_bytes * (count * BATCH) as u64) as f64)
}

/// How the files grew, in MB. A snapshot that is held meanwhile must still see the old state at the end.
fn growth_mb(
    open: &mut Open<dyn Machine>,
    data: &Data,
    work: Work,
    is_pinned: bool,
) -> Result<f64, BenchError> {
    let Open { database: Database { kind, dir, keeper }, engine } = open;
    let fail = failed(*kind, work);
    let key = keeper.clone().overwrites(data, 1).swap_remove(0).key;
    let pinned = if is_pinned { Some(engine.pin().map_err(&fail)?) } else { None };
    let look = || {
        let mut value = None;
        if let Some(pinned) = &pinned {
            pinned.get(&key, &mut |found| value = Some(found.to_vec())).map_err(&fail)?;
        }
        Ok(value)
    };
    let dir = data_dir(*kind, dir);
    let (seen, before_bytes) = (look()?, allocated_bytes(&dir)?);
    for _ in 0..GROWTH_COMMITS {
        engine.commit(&keeper.overwrites(data, BATCH)).map_err(&fail)?;
    }
    engine.settle().map_err(&fail)?;
    let grown_bytes = allocated_bytes(&dir)?.saturating_sub(before_bytes);
    if look()? != seen || seen.is_some() != is_pinned {
        let (key, what) = (key.to_vec(), "a held snapshot changed");
        return Err(BenchError::WrongBytes { engine: *kind, work: work.name(), key, what });
    }
    Ok(grown_bytes as f64 / 1e6)
}
