//! Warming up before batches are timed, alike for every engine: all pairs are read, so that caches and maps
//! hold what they can, and as many keys as a timed work has are overwritten and made durable, so that the memory and
//! the parts of the files which batches use have been used before. Else the first work that an engine does
//! would be charged with page faults and growth of files.

use super::round::{Database, Open, failed};
use super::works::Work;
use crate::data::Data;
use crate::engines::Machine;
use crate::error::BenchError;

/// Overwritten keys, of the keys there are: most leaves of a million keys get one.
const KEYS_PER_OVERWRITE: usize = 5;
const MOST_OVERWRITES: usize = 200_000;

/// Of a commit of the warm-up: large ones, since their durability is not what is to be warm.
const COMMIT_KEYS: usize = 10_000;
const COMMIT_BYTES: usize = 16 << 20;

pub fn warm(machines: &mut [Open<dyn Machine>], data: &Data, work: Work) -> Result<(), BenchError> {
    for Open { database: Database { kind, keeper, .. }, engine } in machines {
        let fail = failed(*kind, work);
        read_all(&**engine, data).map_err(&fail)?;
        let commit_keys = (COMMIT_BYTES / data.value_bytes()).clamp(1, COMMIT_KEYS);
        let keys = (data.len() / KEYS_PER_OVERWRITE).min(MOST_OVERWRITES);
        for _ in 0..keys.div_ceil(commit_keys) {
            engine.commit(&keeper.overwrites(data, commit_keys)).map_err(&fail)?;
        }
        engine.settle().map_err(&fail)?;
    }
    Ok(())
}

/// Reads all pairs of an engine, which holds all keys.
pub fn read_all(engine: &dyn Machine, data: &Data) -> Result<(), crate::error::Failure> {
    let found = engine.read_all()?;
    if found != data.len() {
        return Err(format!("{found} keys are there instead of {}", data.len()).into());
    }
    Ok(())
}
