//! The Raft log alone, `log_append1` and `log_append100`, beside plain overwrites of zeros that were there
//! before, as many bytes at a time as the records take.
//!
//! Both write into preallocated blocks and call `fdatasync`, so that what the log itself costs is the
//! difference. They take turns at every single sample: a disk that is shared changes from one to the next.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;

use super::round::{Round, failed, remove};
use super::works::Work;
use crate::data::Data;
use crate::engines::Kind;
use crate::engines::raft_log::RaftLog;
use crate::error::{BenchError, Failure};
use crate::stats::percentile;

pub const WORKS: [Work; 2] = [Work::LogAppend1, Work::LogAppend100];

/// Payload of a record.
const RECORD_BYTES: usize = 150;

const SAMPLES: usize = 500;

/// What a disk writes at once; plain overwrites keep to it.
const BLOCK_BYTES: u64 = 4_096;

/// The plain file: written from its beginning again when its end is reached.
const RAW_FILE_BYTES: u64 = 16 << 20;

pub fn run(round: &mut Round<'_>) -> Result<(), BenchError> {
    for (work, records) in WORKS.into_iter().zip([1, 100]) {
        if round.works.contains(&work) {
            let dir = round.make_dir(work.name())?;
            let times = sample(&dir, round.data, work, records)?;
            for (kind, times) in times {
                let p50_us = percentile(&times, 50.0).expect("there are samples");
                round.record(work, kind, p50_us);
            }
            remove(&dir)?;
        }
    }
    Ok(())
}

/// The microseconds of each append of `records`, and of each plain overwrite.
fn sample(
    dir: &Path,
    data: &Data,
    work: Work,
    records: usize,
) -> Result<[(Kind, Vec<f64>); 2], BenchError> {
    let fail = failed(Kind::Conure, work);
    let mut log = RaftLog::open(&dir.join("log")).map_err(&fail)?;
    log.append(1, payloads(data, records)).map_err(&fail)?;
    let record_bytes = log.appended_bytes();
    log.maintain().map_err(&fail)?;
    let mut raw = Raw::make(&dir.join("raw"), record_bytes)
        .map_err(|error| failed(Kind::Raw, work)(error.into()))?;

    let (mut own, mut plain) = (Vec::new(), Vec::new());
    for sample in 1..=SAMPLES {
        let payloads: Vec<Bytes> = payloads(data, records).collect();
        let first = (sample * records + 1) as u64;
        let mut append = || timed_us(|| log.append(first, payloads.iter().cloned()));
        let mut overwrite = || timed_us(|| raw.overwrite().map_err(Failure::from));
        // Each comes first in half of the turns.
        if sample.is_multiple_of(2) {
            own.push(append().map_err(&fail)?);
            plain.push(overwrite().map_err(failed(Kind::Raw, work))?);
        } else {
            plain.push(overwrite().map_err(failed(Kind::Raw, work))?);
            own.push(append().map_err(&fail)?);
        }
    }
    Ok([(Kind::Conure, own), (Kind::Raw, plain)])
}

fn payloads(data: &Data, records: usize) -> impl Iterator<Item = Bytes> {
    (0..records).map(|number| data.random_bytes(number, RECORD_BYTES))
}

fn timed_us(work: impl FnOnce() -> Result<(), Failure>) -> Result<f64, Failure> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64() * 1e6)
}

/// A file of written zeros that is overwritten piece by piece.
struct Raw {
    file: File,
    piece: Vec<u8>,
    position: u64,
}

impl Raw {
    fn make(path: &Path, piece_bytes: u64) -> io::Result<Raw> {
        let mut file = File::create_new(path)?;
        let block = vec![0; 1 << 20];
        for _ in 0..RAW_FILE_BYTES / block.len() as u64 {
            file.write_all(&block)?;
        }
        file.sync_all()?;
        let piece = vec![0xa5; piece_bytes.next_multiple_of(BLOCK_BYTES) as usize];
        Ok(Raw { file, piece, position: 0 })
    }

    fn overwrite(&mut self) -> io::Result<()> {
        if self.position + self.piece.len() as u64 > RAW_FILE_BYTES {
            self.position = 0;
        }
        self.file.write_all_at(&self.piece, self.position)?;
        self.file.sync_data()?;
        self.position += self.piece.len() as u64;
        Ok(())
    }
}
