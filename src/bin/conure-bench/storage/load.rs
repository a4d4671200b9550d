//! `load_random`, `load_sorted`, `file_random`, `file_sorted`: filling an empty engine, until all is durable,
//! and what the closed files then take.

use std::path::Path;
use std::time::Instant;

use super::keeper::Keeper;
use super::round::{Database, Open, Round, failed, remove};
use super::works::Work;
use crate::engines::{Kind, Order, Tree, data_dir};
use crate::error::BenchError;
use crate::files::allocated_bytes;

/// Loads every engine in random order, and opens it again.
pub fn random(round: &mut Round<'_>) -> Result<Vec<Open<dyn Tree>>, BenchError> {
    let data = round.data;
    let mut trees = Vec::new();
    for turn in round.turns(Work::LoadRandom, round.engines.len()) {
        let kind = round.engines[turn];
        let dir = round.make_dir(&format!("{kind}-random"))?;
        let mut tree = load(round, kind, &dir, Order::Random)?;
        if kind.has_files() {
            drop(tree);
            record_file(round, Work::FileRandom, kind, &dir)?;
            tree = round.open_tree(kind, &dir, Work::LoadRandom)?;
        }
        let database = Database { kind, dir, keeper: Keeper::new(data) };
        trees.push(Open { database, engine: tree });
    }
    Ok(trees)
}

/// Loads every engine in key order, and removes what it made.
pub fn sorted(round: &mut Round<'_>) -> Result<(), BenchError> {
    for turn in round.turns(Work::LoadSorted, round.engines.len()) {
        let kind = round.engines[turn];
        let dir = round.make_dir(&format!("{kind}-sorted"))?;
        drop(load(round, kind, &dir, Order::Sorted)?);
        if kind.has_files() {
            record_file(round, Work::FileSorted, kind, &dir)?;
        }
        remove(&dir)?;
    }
    Ok(())
}

fn load(
    round: &mut Round<'_>,
    kind: Kind,
    dir: &Path,
    order: Order,
) -> Result<Box<dyn Tree>, BenchError> {
    let data = round.data;
    let (work, numbers): (_, Vec<u32>) = match order {
        Order::Random => (Work::LoadRandom, (0..data.len() as u32).collect()),
        Order::Sorted => (Work::LoadSorted, data.sorted()),
    };
    warm(round, kind, order, &numbers)?;
    let mut tree = round.open_tree(kind, dir, work)?;
    let mut pairs = numbers.iter().map(|number| data.pair(*number as usize, 0));
    let begun = Instant::now();
    tree.load(&mut pairs, order).map_err(failed(kind, work))?;
    round.record(work, kind, data.len() as f64 / begun.elapsed().as_secs_f64());
    Ok(tree)
}

/// The same load untimed, into a directory that is thrown away: of virtual machines some give memory that is free back to
/// their host, and would find it again a page at a time in whichever load comes first.
fn warm(round: &Round<'_>, kind: Kind, order: Order, numbers: &[u32]) -> Result<(), BenchError> {
    let dir = round.make_dir(&format!("{kind}-warm"))?;
    let mut tree = round.open_tree(kind, &dir, Work::LoadRandom)?;
    let mut pairs = numbers.iter().map(|number| round.data.pair(*number as usize, 0));
    tree.load(&mut pairs, order).map_err(failed(kind, Work::LoadRandom))?;
    drop(tree);
    remove(&dir)
}

fn record_file(
    round: &mut Round<'_>,
    work: Work,
    kind: Kind,
    dir: &Path,
) -> Result<(), BenchError> {
    let payload_bytes = round.data.payload_bytes(0..round.data.len());
    round.record(work, kind, allocated_bytes(&data_dir(kind, dir))? as f64 / payload_bytes as f64);
    Ok(())
}
