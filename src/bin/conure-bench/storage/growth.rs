//! How the files grow under durable overwrites: `growth_churn`, and `growth_reader` beside a held snapshot.
//!
//! Both work on copies of the files as they were loaded: what other works have freed would hide the growth.

use std::path::Path;

use super::keeper::Keeper;
use super::round::{Database, Open, Round, failed, remove};
use super::works::Work;
use super::writes::{BATCH, finish};
use crate::data::Data;
use crate::engines::{Durability, Machine, data_dir};
use crate::error::BenchError;
use crate::files::{allocated_bytes, copy_dir};

pub const WORKS: [Work; 2] = [Work::GrowthChurn, Work::GrowthReader];

const COMMITS: usize = 500;

/// `loaded` is closed, and stays as it is.
pub fn run(round: &mut Round<'_>, loaded: &[Database]) -> Result<(), BenchError> {
    for work in WORKS.into_iter().filter(|work| round.works.contains(work)) {
        for turn in round.turns(work, loaded.len()) {
            let kind = loaded[turn].kind;
            let dir = round.make_dir(&format!("{kind}-{}", work.name()))?;
            let mb = on_copy(round, &loaded[turn], &dir, work)?;
            round.record(work, kind, mb);
            remove(&dir)?;
        }
    }
    Ok(())
}

fn on_copy(
    round: &Round<'_>,
    loaded: &Database,
    dir: &Path,
    work: Work,
) -> Result<f64, BenchError> {
    copy_dir(&loaded.dir, dir)?;
    let keeper = Keeper::new(round.data);
    let copy = Database { kind: loaded.kind, dir: dir.to_owned(), keeper };
    let mut machines = round.open_machines(vec![copy], Durability::EachCommit, work)?;
    let mb = growth_mb(&mut machines[0], round.data, work)?;
    finish(round.data, machines, work)?;
    Ok(mb)
}

/// How the files grew, in MB. A snapshot that is held meanwhile must still see the old state at the end.
fn growth_mb(open: &mut Open<dyn Machine>, data: &Data, work: Work) -> Result<f64, BenchError> {
    let Open { database: Database { kind, dir, keeper }, engine } = open;
    let (fail, is_pinned) = (failed(*kind, work), work == Work::GrowthReader);
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
    for _ in 0..COMMITS {
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
