//! The Raft log: entries, votes, truncations and purges in one ordered write-ahead log.
//!
//! Raft's safety rests on a few things being on the disk in the order in which they were said: a vote
//! before the entries accepted under it, a truncation before the entries that replace what it cut. One
//! sequence of records gives that order for free, and one `fdatasync` for all that came together.
//!
//! # Two halves
//!
//! [`Log`] is shared by everyone. Its calls change the log in memory at once and put a record into a
//! buffer; they never touch the disk. [`LogWriter`] is owned by the one thread that may wait for the
//! disk: [`LogWriter::flush`] writes all that is staged and syncs it. What is staged meanwhile waits
//! for the next flush, and so a group commit forms by itself. Every call that stages returns the
//! [`Lsn`] of its record; it is durable when [`Log::durable`] has reached that number. Entries may be
//! read before that, as Raft's leader does to replicate while its own disk is still busy.
//!
//! ```text
//!   append, save_vote, ──► Log ──► view: index and cache   ◄── read, state, term_at
//!   truncate, purge         └────► staged records ──► LogWriter::flush ──► segments, one sync
//! ```
//!
//! # Promises
//!
//! * What [`Log::durable`] covers survives any crash. Of what it does not cover a prefix survives:
//!   never a record without all those before it.
//! * A read returns the entries that were appended, or an error that names the damage; never others,
//!   and never with a hole.
//! * Once a write or sync failed the writer is poisoned: what the disk holds is unknown, and asking it
//!   again proves nothing. Every later call that stages or flushes returns the same failure. The one
//!   exception is a full disk while room for the next segment is made: that happens before anything
//!   is written to it, so `flush` may be repeated once there is space.
//!
//! # Files
//!
//! Read `record.rs` (the bytes of a record), `segment.rs` (files) and `spares.rs` (where they come
//! from) first; `view.rs` is the log in memory, `writer.rs` brings it to the disk, `reader.rs` fetches what the cache has not, and
//! `recovery.rs` opens a log after a crash and decides what is torn and what is damaged; `inspect.rs`
//! decides the same without changing anything; `scrub.rs` reads again what nobody reads.
//!
//! # Speed
//!
//! A flush is to cost little more than the one write and the one sync that it is. So a record is laid
//! out and its payload summed by whoever stages it, and outside the lock; the writer fills in 48 bytes
//! for each and hands what was staged to the disk as it lies. Segments to come are written with zeros
//! between the flushes, a piece at a time ([`LogWriter::work_ahead`]).
//!
//! # Left out
//!
//! * The last flush before a crash cannot prove that it ended: if its records are damaged afterwards,
//!   they look torn. [`LogWriter::maintain`] writes that proof when there is time; call it when idle
//!   and before closing.
//! * Nothing on this disk knows of a segment that was removed by hand from the end of the chain.
//! * Recovered entries are not cached: the state machine replays them once, in order, from the disk,
//!   or rather from the system's memory, where recovery has just brought them. Keeping the segments
//!   that recovery read was tried and was slower (of 64 MiB: opened and read in 139 ms instead of 128),
//!   since fresh memory for each costs more than reading and verifying the records again.

mod error;
pub mod inspect;
mod reader;
mod record;
mod recovery;
pub mod scrub;
mod segment;
mod spares;
mod state;
mod view;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

pub use self::error::LogError;
pub use self::recovery::{Recovery, TornTail};
pub use self::state::LogState;
pub use self::writer::LogWriter;

use self::record::{Record, record_bytes};
use self::segment::{SEGMENT_HEADER_BYTES, Segment};
use self::view::View;
use super::disk::Disk;
use super::error::LastDamage;
use crate::types::LogId;

/// Longest vote, in bytes: two numbers and a flag need 17, and it must fit into a segment header.
pub const MAX_VOTE_BYTES: usize = 1024;

/// Longest payload that may be allowed, so that places in a segment of its own are numbers of 32 bits.
const MAX_PAYLOAD_BYTES: usize = 1 << 30;

/// An entry of the Raft log. What the payload means is not the log's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    pub id: LogId,
    /// Kept in the cache as it is: a slice of a larger buffer keeps all of that buffer in memory.
    pub payload: Bytes,
}

/// Number of a record. Records are counted from 1, without gaps, for the whole life of a log; 0 comes
/// before all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }
}

/// The bounds of a log.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Length of new segment files, except of one that is made for a longer record. Existing ones keep theirs.
    pub segment_bytes: u64,
    /// How much of the recent entries is kept in memory; what is not durable yet is kept in any case.
    pub cache_bytes: usize,
    /// Longest payload of an entry.
    pub max_payload_bytes: usize,
    /// How much may wait to be flushed before [`LogError::Backlog`]. One append of any size is taken
    /// when nothing waits.
    pub max_staged_bytes: usize,
    /// Drawn at random for a new log and stored in it, so that nobody can foresee its checksums;
    /// ignored when the log exists.
    pub nonce: u64,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            // Large enough that a new segment, with its two syncs, is rare; small enough that one
            // fits into memory while it is recovered.
            segment_bytes: 16 << 20,
            // What followers are sent and the state machine takes is of the last milliseconds.
            cache_bytes: 16 << 20,
            // A value of 8 MiB with its key and frame.
            max_payload_bytes: 9 << 20,
            max_staged_bytes: 256 << 20,
            nonce: 0,
        }
    }
}

impl LogOptions {
    fn check(&self) -> Result<(), LogError> {
        let room_bytes = self.segment_bytes.saturating_sub(SEGMENT_HEADER_BYTES as u64);
        if self.segment_bytes > u64::from(u32::MAX) {
            return Err(LogError::Options("a segment has less than 4 GiB"));
        }
        if !self.segment_bytes.is_multiple_of(SEGMENT_HEADER_BYTES as u64) {
            return Err(LogError::Options("the length of a segment is a multiple of 4,096"));
        }
        if record_bytes(MAX_VOTE_BYTES) as u64 > room_bytes {
            return Err(LogError::Options("the longest vote does not fit into a segment"));
        }
        if self.max_payload_bytes > MAX_PAYLOAD_BYTES {
            return Err(LogError::Options("a record has at most 1 GiB"));
        }
        Ok(())
    }
}

/// A handle on the log; clones share it.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

/// What the handles and the writer share.
struct Shared {
    options: LogOptions,
    inner: Mutex<Inner>,
    damage: LastDamage,
}

/// Held for short moments only, never across a call to the disk.
struct Inner {
    view: View,
    /// Records that no flush has taken yet, encoded, a batch for each call; their numbers end with
    /// `last`.
    staged: Vec<Vec<u8>>,
    /// The buffer of a batch that is written, empty: fresh memory for each batch costs as much as
    /// encoding into it.
    unused: Vec<u8>,
    /// Bytes of the records that are staged or being written.
    staged_bytes: usize,
    /// Bytes of all records staged since the log was opened.
    appended_bytes: u64,
    /// Number of the record staged last.
    last: Lsn,
    durable: Lsn,
    /// The segments that entries of the view can stand in, in order and without gaps.
    segments: VecDeque<Arc<Segment>>,
    /// Why the writer is poisoned.
    failure: Option<LogError>,
}

impl Log {
    /// Opens the log on `disk`, or makes one when there is none: verifies every record, cuts off what
    /// a crash tore, and refuses damage to what had been acknowledged.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: LogOptions,
    ) -> Result<(Log, LogWriter, Recovery), LogError> {
        recovery::open(disk, options)
    }

    /// Removes all files of a log. Whoever holds handles on it must let go of them.
    pub fn wipe(disk: &Arc<dyn Disk>) -> Result<(), LogError> {
        segment::remove_all(&**disk)
    }

    /// Longest payload of an entry.
    pub fn max_payload_bytes(&self) -> usize {
        self.shared.options.max_payload_bytes
    }

    /// Bytes of the segment files that entries stand in.
    pub fn file_bytes(&self) -> u64 {
        self.shared.lock().segments.iter().map(|segment| segment.len_bytes).sum()
    }

    /// Bytes of all records staged since the log was opened.
    pub fn appended_bytes(&self) -> u64 {
        self.shared.lock().appended_bytes
    }

    /// Bytes of records that wait to be flushed, at most [`LogOptions::max_staged_bytes`].
    pub fn staged_bytes(&self) -> usize {
        self.shared.lock().staged_bytes
    }

    /// Whether so much waits to be flushed, half of what may, that whoever appends should hold back.
    pub fn lags(&self) -> bool {
        self.staged_bytes() > self.shared.options.max_staged_bytes / 2
    }

    /// Whether [`Log::append`] would take these entries beside what waits to be flushed.
    pub fn has_room_for(&self, entries: &[LogEntry]) -> bool {
        let len_bytes = entries.iter().map(|entry| record_bytes(entry.payload.len())).sum();
        self.shared.lock().has_room_for(len_bytes, &self.shared.options)
    }

    /// Appends entries, which must continue the log; the first entry of an empty log that was never
    /// purged may have any index. All of them are taken, or none.
    pub fn append(&self, entries: Vec<LogEntry>) -> Result<Lsn, LogError> {
        let options = &self.shared.options;
        let payloads = entries.iter().map(|entry| entry.payload.len());
        payloads
            .clone()
            .try_for_each(|len| check_len("a payload", len, options.max_payload_bytes))?;
        let mut batch = std::mem::take(&mut self.shared.staging()?.unused);
        batch.reserve(payloads.map(record_bytes).sum());
        for LogEntry { id, payload } in &entries {
            Record::Entry(*id).encode(payload, &mut batch);
        }
        let mut inner = self.shared.staging()?;
        inner.view.check_continued(&entries)?;
        if !inner.has_room_for(batch.len(), options) {
            let max_bytes = options.max_staged_bytes;
            return Err(LogError::Backlog { staged_bytes: inner.staged_bytes, max_bytes });
        }
        for entry in entries {
            inner.last = inner.last.next();
            let lsn = inner.last;
            inner.view.stage(entry, lsn);
        }
        inner.take(batch);
        inner.view.evict(options.cache_bytes);
        Ok(inner.last)
    }

    /// Replaces the vote, at most [`MAX_VOTE_BYTES`] long.
    pub fn save_vote(&self, vote: Bytes) -> Result<Lsn, LogError> {
        check_len("a vote", vote.len(), MAX_VOTE_BYTES)?;
        let mut inner = self.shared.staging()?;
        inner.stage(&Record::Vote(vote));
        Ok(inner.last)
    }

    /// Removes the entries after this index; `None` removes all of a log that was never purged.
    pub fn truncate_after(&self, after: Option<u64>) -> Result<Lsn, LogError> {
        let mut inner = self.shared.staging()?;
        let LogState { purged, last, .. } = inner.view.state();
        if let Some(purged) = *purged
            && after.is_none_or(|after| after < purged.index)
        {
            return Err(LogError::TruncatesPurged { after, purged });
        }
        if last.is_none_or(|last| after.is_some_and(|after| after >= last.index)) {
            return Ok(inner.last);
        }
        let kept = after.and_then(|index| Some(LogId { term: inner.view.term_at(index)?, index }));
        // Before the first entry nothing is kept: only a log that was never purged gets here.
        inner.stage(&kept.map_or(Record::Clear, Record::Truncate));
        Ok(inner.last)
    }

    /// Gives up the entries up to `upto`, which may lie beyond the last one: the log then continues
    /// after it.
    pub fn purge(&self, upto: LogId) -> Result<Lsn, LogError> {
        let mut inner = self.shared.staging()?;
        if inner.view.state().purged.is_none_or(|purged| purged.index < upto.index) {
            inner.stage(&Record::Purge(upto));
        }
        Ok(inner.last)
    }

    /// All records up to this number survive a crash.
    pub fn durable(&self) -> Lsn {
        self.shared.lock().durable
    }

    /// Where the log begins and ends, and the vote, including what is only staged.
    pub fn state(&self) -> LogState {
        self.shared.lock().view.state().clone()
    }

    /// The term of the entry at `index`, if it is there or the last purged one.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        self.shared.lock().view.term_at(index)
    }

    /// The entries of `range` that are there, from its first on, as far as their payloads fit into
    /// `max_bytes`; at least one if there is any. Never waits for a flush.
    pub fn read(&self, range: Range<u64>, max_bytes: u64) -> Result<Vec<LogEntry>, LogError> {
        reader::read(&self.shared, range, max_bytes).inspect_err(|error| self.note(error))
    }

    /// The last record that was found damaged since the log was opened, by whoever needed it, as the error said it.
    pub fn damage(&self) -> Option<String> {
        self.shared.damage.get()
    }

    fn note(&self, error: &LogError) {
        if error.is_corrupt() {
            self.shared.damage.note(error);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no call panics while it holds the log")
    }

    /// The lock, unless the writer is poisoned.
    fn staging(&self) -> Result<MutexGuard<'_, Inner>, LogError> {
        let inner = self.lock();
        match &inner.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(inner),
        }
    }
}

impl Inner {
    fn has_room_for(&self, len_bytes: usize, options: &LogOptions) -> bool {
        self.staged_bytes == 0 || self.staged_bytes + len_bytes <= options.max_staged_bytes
    }

    /// Stages a record that is no entry.
    fn stage(&mut self, record: &Record) {
        let payload = if let Record::Vote(vote) = record { &vote[..] } else { &[] };
        let mut batch = Vec::new();
        record.encode(payload, &mut batch);
        self.last = self.last.next();
        self.view.apply(record);
        self.take(batch);
    }

    fn take(&mut self, batch: Vec<u8>) {
        self.staged_bytes += batch.len();
        self.appended_bytes += batch.len() as u64;
        self.staged.push(batch);
    }

    fn segment(&self, sequence: u32) -> Option<&Arc<Segment>> {
        let first = self.segments.front()?.sequence;
        self.segments.get(sequence.checked_sub(first)? as usize)
    }
}

fn check_len(what: &'static str, len_bytes: usize, max_bytes: usize) -> Result<(), LogError> {
    if len_bytes > max_bytes {
        return Err(LogError::TooLarge { what, len_bytes, max_bytes });
    }
    Ok(())
}
