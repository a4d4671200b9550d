//! `reopen_kill` and `reopen_replay`: opening what a process left that was killed.
//!
//! A process of this program loads the engine and makes durable commits; it is killed while it waits for
//! more to do, so that nothing is closed in order. Another one opens the engine and prints how long that and
//! a first get took. The project's engine is opened twice: its tree alone, which is what serves reads, and
//! then the whole state machine, whose log it replays.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Instant;

use super::child::{number, process};
use super::keeper::Keeper;
use super::round::{Round, failed, options, remove};
use super::works::Work;
use super::writes::BATCH;
use crate::cli::{EngineArgs, FillArgs, OpenArgs};
use crate::data::Data;
use crate::engines::{self, Durability, Kind, Order};
use crate::error::BenchError;

pub const WORKS: [Work; 2] = [Work::ReopenKill, Work::ReopenReplay];

/// Commits that an engine makes after its load.
const COMMITS: u64 = 50;

/// The log that is replayed; less of it when there are few keys.
const REPLAYED_BYTES: u64 = 64 << 20;
const REPLAYED_BYTES_PER_KEY: u64 = 67;

/// What a process says when it can be killed.
const FILLED: &str = "filled";

pub fn run(round: &mut Round<'_>) -> Result<(), BenchError> {
    let mut engines = round.engines.clone();
    engines.retain(|kind| kind.has_files());
    for turn in round.turns(Work::ReopenKill, engines.len()) {
        let kind = engines[turn];
        if kind != Kind::Conure && !round.works.contains(&Work::ReopenKill) {
            continue;
        }
        let dir = round.make_dir(&format!("{kind}-killed"))?;
        fill_and_kill(round, kind, &dir)?;
        let opened_ms = open_ms(round, kind, &dir, false)?;
        round.record(Work::ReopenKill, kind, opened_ms);
        if kind == Kind::Conure && round.works.contains(&Work::ReopenReplay) {
            let replayed_ms = open_ms(round, kind, &dir, true)?;
            round.record(Work::ReopenReplay, kind, replayed_ms);
        }
        remove(&dir)?;
    }
    Ok(())
}

fn fill_and_kill(round: &Round<'_>, kind: Kind, dir: &Path) -> Result<(), BenchError> {
    let commit_bytes = match kind {
        Kind::Conure => REPLAYED_BYTES.min(round.data.len() as u64 * REPLAYED_BYTES_PER_KEY),
        _ => 0,
    };
    let mut command = process(round, "fill", kind, dir)?;
    command.arg("--commit-bytes").arg(commit_bytes.to_string());
    let failed = || BenchError::io("run a process for", dir);
    let mut child = command.spawn().map_err(failed())?;
    let mut said = String::new();
    let out = child.stdout.take().expect("it is piped");
    let read = BufReader::new(out).read_line(&mut said);
    child.kill().map_err(failed())?;
    let status = child.wait().map_err(failed())?;
    read.map_err(failed())?;
    match said.trim_end() {
        FILLED => Ok(()),
        _ => Err(BenchError::Child { task: "fills", status: status.to_string(), said }),
    }
}

/// What the hidden command `fill` does.
pub fn fill_until_killed(args: &FillArgs) -> Result<(), BenchError> {
    let EngineArgs { data, engine, dir } = &args.on;
    let fail = failed(*engine, Work::ReopenKill);
    let (data, options) = (Data::new(data), options(data, u64::MAX));
    let mut tree = engines::open_tree(*engine, dir, options).map_err(&fail)?;
    let numbers = data.sorted();
    let mut pairs = numbers.iter().map(|number| data.pair(*number as usize, 0));
    tree.load(&mut pairs, Order::Sorted).map_err(&fail)?;
    drop(tree);

    let durability = Durability::EachCommit;
    let machine = engines::open_machine(*engine, dir, options, durability).map_err(&fail)?;
    let mut keeper = Keeper::new(&data);
    let (mut commits, mut bytes) = (0, 0);
    while commits < COMMITS || bytes < args.commit_bytes {
        let batch = keeper.overwrites(&data, BATCH);
        machine.commit(&batch).map_err(&fail)?;
        commits += 1;
        bytes += batch.iter().map(|pair| (pair.key.len() + pair.value.len()) as u64).sum::<u64>();
    }
    println!("{FILLED}");
    // Ends when it is killed, or when who started it has gone.
    let waited = io::stdin().read(&mut [0]);
    waited.map(drop).map_err(BenchError::io("wait on", "standard input".as_ref()))
}

fn open_ms(round: &Round<'_>, kind: Kind, dir: &Path, replay: bool) -> Result<f64, BenchError> {
    let mut command = process(round, "timed-open", kind, dir)?;
    if replay {
        command.arg("--replay");
    }
    number(command, "opens", dir)
}

/// What the hidden command `timed-open` does.
pub fn print_open_ms(args: &OpenArgs) -> Result<(), BenchError> {
    let EngineArgs { data, engine, dir } = &args.on;
    let fail = failed(*engine, Work::ReopenKill);
    let (data, options) = (Data::new(data), options(data, u64::MAX));
    let (key, mut is_found) = (data.key(0), false);
    let mut seen = |_: &[u8]| is_found = true;
    let begun = Instant::now();
    if args.replay {
        let durability = Durability::EachCommit;
        let machine = engines::open_machine(*engine, dir, options, durability).map_err(&fail)?;
        machine.get(key, &mut seen).map_err(&fail)?;
    } else {
        let tree = engines::open_tree(*engine, dir, options).map_err(&fail)?;
        tree.get_fresh(key, &mut seen).map_err(&fail)?;
    }
    let elapsed_ms = begun.elapsed().as_secs_f64() * 1e3;
    if !is_found {
        let (engine, what) = (*engine, "it is missing");
        let work = Work::ReopenKill.name();
        return Err(BenchError::WrongBytes { engine, work, key: key.to_vec(), what });
    }
    let out = writeln!(io::stdout(), "{elapsed_ms}");
    out.map_err(BenchError::io("write to", "standard output".as_ref()))
}
