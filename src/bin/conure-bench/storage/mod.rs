//! `conure-bench storage`: all works on all engines, a few rounds of them, and the medians.
//!
//! A round begins with empty directories. Its works run in a fixed order, since each needs what those before
//! it left: load, read, write batches, write durable batches, delete. Copies of the loaded files grow; the
//! loads in key order, the log, and the processes have directories of their own. Every work runs on one engine after
//! the other, and the first one moves on from work to work and from round to round, so that nobody always comes first.
//! What writes is warmed up first.
//!
//! ```text
//! works  the list      round  directories and turns     load · reads · growth · writes · durable · snapshots   on one database
//! keeper which key has which value                      logs · reopen · peak   on their own   child  processes
//! warm   before writes are timed
//! ```

mod child;
mod durable;
mod growth;
mod keeper;
mod load;
mod logs;
pub mod peak;
mod reads;
pub mod reopen;
mod round;
mod snapshots;
mod warm;
pub mod works;
mod writes;

use std::io::Write;

use crate::cli::StorageArgs;
use crate::data::Data;
use crate::engines::{self, Kind};
use crate::error::BenchError;
use crate::results::Results;
use crate::{json, table};
use round::Round;
use works::Work;

/// Runs the works and prints what came out.
pub fn run(args: &StorageArgs) -> Result<(), BenchError> {
    args.peers.iter().try_for_each(|kind| engines::check_built(*kind))?;
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let (data, works) = (Data::new(&args.data), chosen(args));
    let mut results = Results::new();
    for number in 0..args.rounds {
        let dir = tempfile::Builder::new()
            .prefix("conure-bench-")
            .tempdir_in(&parent)
            .map_err(BenchError::io("make a directory in", &parent))?;
        let mut round = Round {
            number,
            dir: dir.path(),
            args: &args.data,
            data: &data,
            works: &works,
            engines: engines_of(args),
            results: &mut results,
        };
        round.run()?;
        dir.close().map_err(BenchError::io("remove the directory of a round in", &parent))?;
    }
    let mut text = table::table(&results);
    if args.json {
        text += &json::line(&results);
        text.push('\n');
    }
    let out = std::io::stdout().write_all(text.as_bytes());
    out.map_err(BenchError::io("write to", "standard output".as_ref()))
}

fn chosen(args: &StorageArgs) -> Vec<Work> {
    let is_chosen = |work: &Work| args.works.is_empty() || args.works.contains(work);
    Work::ALL.into_iter().filter(is_chosen).collect()
}

fn engines_of(args: &StorageArgs) -> Vec<Kind> {
    let is_chosen = |kind: &Kind| *kind == Kind::Conure || args.peers.contains(kind);
    Kind::ALL.into_iter().filter(is_chosen).collect()
}
