//! The project's Raft log, as one thread that appends and waits for the disk.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use conuredb::storage::disk::FileDisk;
use conuredb::storage::log::{Log, LogEntry, LogOptions, LogWriter};
use conuredb::types::LogId;

use crate::error::Failure;

pub struct RaftLog {
    log: Log,
    writer: LogWriter,
}

impl RaftLog {
    /// Opens the log that is alone in a directory, or makes one.
    pub fn open(dir: &Path) -> Result<RaftLog, Failure> {
        let disk = Arc::new(FileDisk::open(dir)?);
        let (log, writer, _) = Log::open(disk, LogOptions::default())?;
        Ok(RaftLog { log, writer })
    }

    /// Appends entries from `first` on and returns when they are durable.
    pub fn append(
        &mut self,
        first: u64,
        payloads: impl Iterator<Item = Bytes>,
    ) -> Result<(), Failure> {
        let entries = payloads
            .zip(first..)
            .map(|(payload, index)| LogEntry { id: LogId { term: 1, index }, payload });
        self.log.append(entries.collect())?;
        self.writer.flush()?;
        Ok(())
    }

    /// Does what a node does between requests: makes the next segment ahead.
    pub fn maintain(&mut self) -> Result<(), Failure> {
        while !self.writer.maintain()? {}
        Ok(())
    }

    /// Lets the log go on after `id`, if it ends before.
    pub fn begin_after(&mut self, id: LogId) -> Result<(), Failure> {
        if self.log.state().last.is_none_or(|last| last.index < id.index) {
            self.purge(id)?;
        }
        Ok(())
    }

    pub fn purge(&mut self, upto: LogId) -> Result<(), Failure> {
        self.log.purge(upto)?;
        self.writer.flush()?;
        Ok(())
    }

    /// Payloads from `first` on, about as many as fit into `max_bytes`; none after the last.
    pub fn read_from(&self, first: u64, max_bytes: u64) -> Result<Vec<Bytes>, Failure> {
        let entries = self.log.read(first..u64::MAX, max_bytes)?;
        Ok(entries.into_iter().map(|entry| entry.payload).collect())
    }

    /// Bytes of all records appended so far, with their headers.
    pub fn appended_bytes(&self) -> u64 {
        self.log.appended_bytes()
    }
}
