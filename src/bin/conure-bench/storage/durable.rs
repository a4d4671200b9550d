//! Batches of 100 overwrites that are durable when they return: `log_apply100_p50` and `write_amp`.
//!
//! Peers commit with their own durability. The project appends to the Raft log, waits for its fsync, and
//! applies, with a checkpoint when a node would take one.

use std::time::Instant;

use super::round::{Database, Open, Round, failed};
use super::warm::warm;
use super::works::Work;
use super::writes::{BATCH, finish};
use crate::data::Data;
use crate::engines::{Durability, Machine};
use crate::error::BenchError;
use crate::files::written_bytes;
use crate::stats::percentile;

pub const WORKS: [Work; 2] = [Work::LogApply100P50, Work::WriteAmp];

const P50_COMMITS: usize = 300;

/// Commits of `write_amp`, of the keys there are. At a million keys and more they make exactly the entries
/// after which a node takes a checkpoint, so that one is counted, and one only.
const KEYS_PER_COMMIT: usize = 500;
const MOST_COMMITS: usize = 2_000;

pub fn run(round: &mut Round<'_>, databases: Vec<Database>) -> Result<Vec<Database>, BenchError> {
    let data = round.data;
    let mut machines = round.open_machines(databases, Durability::EachCommit, WORKS[0])?;
    warm(&mut machines, data, WORKS[0])?;
    for work in WORKS.into_iter().filter(|work| round.works.contains(work)) {
        for turn in round.turns(work, machines.len()) {
            let open = &mut machines[turn];
            // Every work begins with nothing left to do, and with files that are there.
            commits(open, data, work, 1)?;
            open.engine.settle().map_err(failed(open.database.kind, work))?;
            let value = match work {
                Work::LogApply100P50 => p50_ms(open, data),
                _ => amplification(open, data),
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
