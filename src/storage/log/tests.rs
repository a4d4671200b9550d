//! The log under test: a small harness, a model, and what the disk can do to both.

mod basics;
mod crash;
mod damage;
mod faults;
mod model;
mod scrub;

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::{Log, LogEntry, LogError, LogOptions, LogWriter, Recovery};
use crate::storage::disk::MemDisk;
use crate::types::LogId;

/// Small segments, so that a short test rolls and recycles many, and entries that no such segment holds.
fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 8 << 10,
        cache_bytes: 512,
        max_payload_bytes: 12 << 10,
        max_staged_bytes: 1 << 20,
        nonce: 0x5eed,
    }
}

fn open(disk: &MemDisk) -> Result<(Log, LogWriter, Recovery), LogError> {
    Log::open(Arc::new(disk.clone()), options())
}

fn reopen(disk: &MemDisk) -> (Log, LogWriter) {
    let (log, writer, _) = open(disk).expect("the log opens");
    (log, writer)
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term, index }
}

/// An entry whose payload tells which one it is.
fn entry(term: u64, index: u64) -> LogEntry {
    sized_entry(term, index, 40)
}

fn sized_entry(term: u64, index: u64, payload_bytes: usize) -> LogEntry {
    let mut payload = format!("{term}/{index}:").into_bytes();
    payload.resize(payload_bytes.max(payload.len()), index as u8);
    LogEntry { id: id(term, index), payload: payload.into() }
}

fn entries(term: u64, indexes: std::ops::Range<u64>) -> Vec<LogEntry> {
    indexes.map(|index| entry(term, index)).collect()
}

fn read_all(log: &Log) -> Vec<LogEntry> {
    log.read(0..u64::MAX, u64::MAX).expect("all entries can be read")
}

fn vote(number: u64) -> Bytes {
    Bytes::from(number.to_le_bytes().to_vec())
}

/// The root of an error chain: the kind the disk reported.
fn io_kind(error: &LogError) -> Option<io::ErrorKind> {
    match error {
        LogError::Io { source, .. } => Some(source.kind()),
        _ => None,
    }
}
