//! Batches without durability: `apply100_nosync`, `apply_p99_checkpoint`, `snapshot_pin`, and `compact_ratio`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::keeper::Keeper;
use super::round::{Database, Open, Round, close, failed, remove};
use super::snapshots::pin_us;
use super::warm::warm;
use super::works::Work;
use crate::data::{Data, Rng};
use crate::engines::{Durability, Machine, data_dir};
use crate::error::{BenchError, Failure};
use crate::files::allocated_bytes;
use crate::stats::percentile;

pub const WORKS: [Work; 3] = [Work::Apply100Nosync, Work::ApplyP99Checkpoint, Work::SnapshotPin];

/// Keys of a batch.
pub const BATCH: usize = 100;

/// Batches of `apply100_nosync`, of the keys there are.
const KEYS_PER_BATCH: usize = 500;
const MOST_BATCHES: usize = 2_000;

/// A p99 of fewer samples would be a maximum.
const P99_SAMPLES: usize = 500;
/// Checkpoints after which the samples must suffice: where a batch waits until one ends, there is one for each.
const MOST_CHECKPOINTS: u32 = 20;
/// Batches that a checkpoint has to write, of the keys there are.
const KEYS_PER_DIRTY_BATCH: usize = 5_000;
const MOST_DIRTY_BATCHES: usize = 200;

/// Keys of a transaction that deletes.
const DELETES: usize = 1_000;

/// A compaction pauses after each of its steps, of some tenths of a millisecond; at one in so many there is a
/// batch. So batches come as fast as one every few milliseconds.
const PAUSES_PER_BATCH: usize = 8;

/// Keys looked at when a group of works has ended.
const CHECKED_KEYS: usize = 2_000;
const CHECKS: u64 = 2;

pub fn run(round: &mut Round<'_>, databases: Vec<Database>) -> Result<Vec<Database>, BenchError> {
    let mut machines = round.open_machines(databases, Durability::None, WORKS[0])?;
    warm(&mut machines, round.data, WORKS[0])?;
    for work in WORKS.into_iter().filter(|work| round.works.contains(work)) {
        for turn in round.turns(work, machines.len()) {
            let open = &mut machines[turn];
            let value = match work {
                Work::Apply100Nosync => apply(open, round.data),
                Work::ApplyP99Checkpoint => apply_beside_checkpoint(open, round.data),
                _ => pin_us(open, round.data),
            }?;
            round.record(work, machines[turn].database.kind, value);
        }
    }
    finish(round.data, machines, WORKS[0])
}

/// Makes all durable, checks a sample of what should be there, and closes.
pub fn finish(
    data: &Data,
    machines: Vec<Open<dyn Machine>>,
    work: Work,
) -> Result<Vec<Database>, BenchError> {
    for open in &machines {
        open.engine.settle().map_err(failed(open.database.kind, work))?;
        check(open, data, work)?;
    }
    Ok(close(machines))
}

fn check(open: &Open<dyn Machine>, data: &Data, work: Work) -> Result<(), BenchError> {
    let Database { kind, keeper, .. } = &open.database;
    let mut rng = Rng::new(data.seed, CHECKS);
    for number in (0..CHECKED_KEYS).map(|_| rng.below(data.len())) {
        let mut found = None;
        open.engine
            .get(data.key(number), &mut |value| found = Some(value.to_vec()))
            .map_err(failed(*kind, work))?;
        keeper.check(data, number, found.as_deref(), (*kind, work.name()))?;
    }
    Ok(())
}

fn apply(open: &mut Open<dyn Machine>, data: &Data) -> Result<f64, BenchError> {
    let fail = failed(open.database.kind, Work::Apply100Nosync);
    let batches = (data.len() / KEYS_PER_BATCH).min(MOST_BATCHES);
    let keeper = &mut open.database.keeper;
    let batches: Vec<_> = (0..batches).map(|_| keeper.overwrites(data, BATCH)).collect();
    let begun = Instant::now();
    for batch in &batches {
        open.engine.commit(batch).map_err(&fail)?;
    }
    Ok((batches.len() * BATCH) as f64 / begun.elapsed().as_secs_f64())
}

/// Milliseconds: the p99 of the batches that began while another thread made the state durable.
fn apply_beside_checkpoint(open: &mut Open<dyn Machine>, data: &Data) -> Result<f64, BenchError> {
    let fail = failed(open.database.kind, Work::ApplyP99Checkpoint);
    let Open { database: Database { keeper, .. }, engine } = open;
    let mut times = Vec::new();
    for _ in 0..MOST_CHECKPOINTS {
        for _ in 0..(data.len() / KEYS_PER_DIRTY_BATCH).clamp(1, MOST_DIRTY_BATCHES) {
            engine.commit(&keeper.overwrites(data, BATCH)).map_err(&fail)?;
        }
        let is_writing = AtomicBool::new(true);
        std::thread::scope(|scope| {
            let settling = scope.spawn(|| {
                let settled = engine.settle();
                is_writing.store(false, Ordering::Release);
                settled
            });
            while is_writing.load(Ordering::Acquire) {
                let batch = keeper.overwrites(data, BATCH);
                let begun = Instant::now();
                engine.commit(&batch).map_err(&fail)?;
                times.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            settling.join().expect("a checkpoint does not panic").map_err(&fail)
        })?;
        if times.len() >= P99_SAMPLES {
            break;
        }
    }
    let source = || "no batch was applied beside a checkpoint".into();
    percentile(&times, 99.0).ok_or_else(|| fail(source()))
}

/// `compact_ratio`: deletes half of the keys, compacts while reads and writes go on where the engine lets them, and
/// removes the database.
pub fn compact(round: &mut Round<'_>, databases: Vec<Database>) -> Result<(), BenchError> {
    let work = Work::CompactRatio;
    let data = round.data;
    let mut machines = round.open_machines(databases, Durability::None, work)?;
    for open in &mut machines {
        let fail = failed(open.database.kind, work);
        let keys = open.database.keeper.delete_half(data);
        for keys in keys.chunks(DELETES) {
            open.engine.delete(keys).map_err(&fail)?;
        }
        open.engine.settle().map_err(&fail)?;
    }
    for Open { mut database, engine } in machines {
        let (kind, fail) = (database.kind, failed(database.kind, work));
        let mut beside = Beside { keeper: &mut database.keeper, data, pauses: 0 };
        engine.compact(&mut |engine| beside.go_on(engine)).map_err(&fail)?;
        let live_bytes = data.payload_bytes(database.keeper.live());
        let file_bytes = allocated_bytes(&data_dir(kind, &database.dir))?;
        round.record(work, kind, file_bytes as f64 / live_bytes as f64);
        let dir = database.dir.clone();
        for open in round.open_machines(vec![database], Durability::None, work)? {
            check(&open, data, work)?;
        }
        remove(&dir)?;
    }
    Ok(())
}

/// What goes on beside a compaction.
struct Beside<'a> {
    keeper: &'a mut Keeper,
    data: &'a Data,
    pauses: usize,
}

impl Beside<'_> {
    /// At some pauses a batch of overwrites of keys that are there, and as many gets of them.
    fn go_on(&mut self, engine: &dyn Machine) -> Result<(), Failure> {
        self.pauses += 1;
        if !self.pauses.is_multiple_of(PAUSES_PER_BATCH) {
            return Ok(());
        }
        let batch = self.keeper.overwrite_live(self.data, BATCH);
        engine.commit(&batch)?;
        // Of a key that is there twice the last counts.
        let newest: HashMap<&[u8], &[u8]> =
            batch.iter().map(|pair| (&pair.key[..], &pair.value[..])).collect();
        for (key, value) in newest {
            let mut is_right = false;
            engine.get(key, &mut |found| is_right = found == value)?;
            if !is_right {
                return Err(format!("a wrong value of {} beside it", key.escape_ascii()).into());
            }
        }
        Ok(())
    }
}
