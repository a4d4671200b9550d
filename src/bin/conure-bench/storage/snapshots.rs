//! `snapshot_pin` and `snapshot_stream`: what a snapshot costs who takes it, and how fast it goes to somebody.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Instant;

use super::round::{Database, Open, Round, failed};
use super::works::Work;
use super::writes::BATCH;
use crate::data::Data;
use crate::engines::{self, Kind, Machine, data_dir};
use crate::error::{BenchError, Failure};
use crate::stats::percentile;

/// Snapshots taken, each of another state.
const PINS: usize = 500;

/// Pieces in which the plain copy goes; the project's stream has pieces of the same length.
const COPY_BYTES: usize = 256 << 10;

/// The microseconds of the median snapshot, with a batch committed before each, so that none finds what the
/// one before left.
pub fn pin_us(open: &mut Open<dyn Machine>, data: &Data) -> Result<f64, BenchError> {
    let fail = failed(open.database.kind, Work::SnapshotPin);
    let Open { database: Database { keeper, .. }, engine } = open;
    let mut times = Vec::with_capacity(PINS);
    for _ in 0..PINS {
        engine.commit(&keeper.overwrites(data, BATCH)).map_err(&fail)?;
        let begun = Instant::now();
        let pinned = engine.pin().map_err(&fail)?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
        drop(pinned);
    }
    Ok(percentile(&times, 50.0).expect("there were snapshots"))
}

/// Streams the project's state into a file, as it goes to another node, and copies its database as it lies. Both are
/// synced, and written where nothing was.
pub fn stream(round: &mut Round<'_>, databases: &[Database]) -> Result<(), BenchError> {
    let work = Work::SnapshotStream;
    let own = databases.iter().find(|database| database.kind == Kind::Conure);
    let Database { dir, .. } = own.expect("the project's engine always takes part");
    let state = engines::open_state(dir, round.options()).map_err(failed(Kind::Conure, work))?;
    let source = data_dir(Kind::Conure, dir).join(engines::STATE_FILE);
    // Both read what is in memory.
    engines::stream(&state, &mut |_| Ok(())).map_err(failed(Kind::Conure, work))?;
    copy(&source, &mut |_| Ok(())).map_err(failed(Kind::Raw, work))?;
    for turn in round.turns(work, 2) {
        let target = round.dir.join("stream");
        let (kind, rate) = match turn {
            0 => (Kind::Conure, timed(&target, &mut |to| engines::stream(&state, to))),
            _ => (Kind::Raw, timed(&target, &mut |to| copy(&source, to))),
        };
        round.record(work, kind, rate.map_err(failed(kind, work))?);
        std::fs::remove_file(&target).map_err(BenchError::io("remove", &target))?;
    }
    Ok(())
}

type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// GB a second of what `send` writes, until it is durable.
fn timed(
    target: &Path,
    send: &mut dyn FnMut(Sink<'_>) -> Result<(), Failure>,
) -> Result<f64, Failure> {
    let begun = Instant::now();
    let mut file = File::create_new(target)?;
    let mut bytes = 0;
    send(&mut |piece| {
        bytes += piece.len();
        file.write_all(piece)
    })?;
    file.sync_data()?;
    Ok(bytes as f64 / 1e9 / begun.elapsed().as_secs_f64())
}

fn copy(source: &Path, to: Sink<'_>) -> Result<(), Failure> {
    let mut file = File::open(source)?;
    let mut piece = vec![0; COPY_BYTES];
    loop {
        let len = file.read(&mut piece)?;
        if len == 0 {
            return Ok(());
        }
        to(&piece[..len])?;
    }
}
