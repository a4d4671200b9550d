//! Bringing the log to the disk.
//!
//! A flush takes all that is staged and writes it in runs: as many records as fit into the active
//! segment, with one write and one sync. If records are left over, the next segment is made, and the
//! flush goes on there. So a segment is durable to its end before the next one exists; recovery relies
//! on it.
//!
//! What was staged is what is written: the records lie in the writer's buffer as they will lie in the
//! segment, and sealing them (`record.rs`) is all that is left to do. Their numbers need not be kept
//! beside them: the first one that waits is the one after the last durable one.
//!
//! The order of a run: records written, file synced, then the view learns their places and `durable`
//! moves. The order of a purge: its record is durable, then segments that hold only purged entries go,
//! oldest first. What such a segment says besides (votes, truncations) stands in the header of the
//! segment after it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::record::{HEADER_BYTES, Record, seal, staged_record};
use super::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentHeader};
use super::spares::Spares;
use super::view::Place;
use super::{LogError, LogState, Lsn, Shared};
use crate::plants::{Plant, planted};

/// A buffer of at most this much is kept between flushes: most groups are far smaller.
const BUFFER_KEPT_BYTES: usize = 1 << 20;

/// The one end of the log that waits for the disk.
pub struct LogWriter {
    pub(super) shared: Arc<Shared>,
    pub(super) nonce: u64,
    pub(super) spares: Spares,
    /// Of the segments before the active one that still hold entries, the highest index of one, oldest first.
    pub(super) sealed: VecDeque<Option<u64>>,
    pub(super) active: Arc<Segment>,
    /// Highest index among the entries in the active segment, truncated ones included.
    pub(super) active_max_index: Option<u64>,
    /// Where the next record goes in the active segment.
    pub(super) position: u64,
    /// The log up to `position`.
    pub(super) written: LogState,
    /// Whether nothing is left that a mark could prove durable.
    pub(super) marked: bool,
    /// Records taken from the shared log and not yet written.
    pub(super) pending: Pending,
    /// How much waited when the last flush began.
    pub(super) flushed_bytes: usize,
    /// The entries of the run that is being written.
    pub(super) placed: Vec<Placed>,
}

/// Encoded records; those before `written` are in segments.
#[derive(Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    written: usize,
}

/// An entry in the run that is being written.
pub(super) struct Placed {
    index: u64,
    lsn: Lsn,
    place: Place,
}

impl LogWriter {
    /// Writes and syncs all that is staged, and returns the number up to which all is durable.
    ///
    /// An error is final: every later call returns it again. The exception is
    /// [`LogError::is_disk_full`] while the next segment is made, after which everything that is not
    /// durable yet still waits, and `flush` may be repeated: [`LogWriter::is_poisoned`] tells. Part of
    /// what was staged may have become durable either way: see [`super::Log::durable`].
    pub fn flush(&mut self) -> Result<Lsn, LogError> {
        let staged = std::mem::take(&mut self.shared.staging()?.staged);
        self.flushed_bytes = self.pending.take(staged);
        while !self.pending.is_empty() {
            self.write_run()?;
            self.recycle()?;
            if !self.pending.is_empty() {
                self.roll()?;
            }
        }
        let mut inner = self.shared.lock();
        inner.unused = self.pending.empty_buffer();
        Ok(inner.durable)
    }

    /// Whether an error was final.
    pub fn is_poisoned(&self) -> bool {
        self.shared.lock().failure.is_some()
    }

    /// What can be done ahead when idle, in steps that are short: writes a mark that proves that the last
    /// records were durable, and fills a piece of the spare for the next segment. Returns whether all
    /// is done; call it again if not. Call it before closing, too, once.
    ///
    /// A full disk shows here first, without harm ([`LogError::is_disk_full`]); other errors are final
    /// as those of [`LogWriter::flush`] are.
    pub fn maintain(&mut self) -> Result<bool, LogError> {
        self.flush()?;
        if !self.marked && self.room() >= HEADER_BYTES as u64 {
            self.shared.staging()?.stage(&Record::Mark);
            self.flush()?;
        }
        self.fill_spare(self.spares.piece_bytes())
    }

    /// What must be done ahead under load, lest a flush wait for a whole segment of zeros: call it
    /// after a flush, when those who waited for that are answered. It does nothing unless the active
    /// segment is a quarter full and there is no spare; then it fills a piece of one, large enough that
    /// the spare is ready when it is needed. Errors are those of [`LogWriter::maintain`].
    pub fn work_ahead(&mut self) -> Result<(), LogError> {
        if self.position < self.active.len_bytes / 4 {
            return Ok(());
        }
        // Twice what was flushed is ahead of need even if the second half of the segment were all.
        let piece_bytes = self.spares.piece_bytes().max(2 * self.flushed_bytes as u64);
        self.fill_spare(piece_bytes).map(|_| ())
    }

    /// Gives up all spares but one, for a disk that is full.
    pub fn give_back_spares(&mut self) -> Result<(), LogError> {
        drop(self.shared.staging()?);
        self.spares.shed().map_err(|error| self.poison(error))
    }

    /// Writes and syncs those of the pending records that fit into the active segment.
    fn write_run(&mut self) -> Result<(), LogError> {
        let synced = self.shared.lock().durable;
        let (room, mut last, mut run_bytes) = (self.room() as usize, synced, 0);
        let waiting = self.pending.bytes_mut();
        self.placed.clear();
        while run_bytes < waiting.len() {
            let (header, record) = staged_record(&waiting[run_bytes..]);
            if run_bytes + header.len_bytes() > room {
                break;
            }
            last = last.next();
            let offset = self.position + run_bytes as u64;
            seal(&mut waiting[run_bytes..], &self.active.seed, offset, last, synced);
            if let Record::Entry(id) = record {
                let place = Place::Written {
                    sequence: self.active.sequence,
                    offset: offset as u32,
                    payload_bytes: header.payload_bytes as u32,
                };
                self.placed.push(Placed { index: id.index, lsn: last, place });
                self.active_max_index = self.active_max_index.max(Some(id.index));
            }
            self.written.apply(&record);
            // Another thread may have staged something between the flush before and the mark.
            self.marked = record == Record::Mark && synced.next() == last;
            run_bytes += header.len_bytes();
        }
        if run_bytes == 0 {
            return Ok(());
        }
        let (active, position) = (&self.active, self.position);
        let written = active.file.write_at(position, &waiting[..run_bytes]);
        written.map_err(|error| self.poison(active.io("write", position, error)))?;
        if !planted(Plant::FsyncSkipped) {
            let synced = active.file.sync_data();
            synced.map_err(|error| self.poison(active.io("sync", position, error)))?;
        }
        self.position += run_bytes as u64;
        self.pending.advance(run_bytes);
        self.publish(run_bytes, last);
        Ok(())
    }

    /// Tells the view that a run of so many bytes is durable up to `last`.
    fn publish(&self, run_bytes: usize, last: Lsn) {
        let mut inner = self.shared.lock();
        assert!(inner.durable < last && last <= inner.last, "records become durable in order");
        inner.durable = last;
        inner.staged_bytes -= run_bytes;
        for placed in &self.placed {
            inner.view.written(placed.index, placed.lsn, placed.place);
        }
        inner.view.evict(self.shared.options.cache_bytes);
    }

    /// Begins the next segment, for the first of the pending records.
    fn roll(&mut self) -> Result<(), LogError> {
        let (first, _) = staged_record(self.pending.bytes_mut());
        let least_bytes = (SEGMENT_HEADER_BYTES + first.len_bytes()) as u64;
        let spare = self.spares.of_length(least_bytes).map_err(|error| self.unless_full(error))?;
        let sequence =
            self.active.sequence.checked_add(1).expect("2^32 segments are more than anyone writes");
        let header = SegmentHeader {
            sequence,
            nonce: self.nonce,
            first_lsn: self.shared.lock().durable.next(),
            state: self.written.clone(),
        };
        let next = Arc::new(self.spares.take(spare, &header).map_err(|error| self.poison(error))?);
        self.shared.lock().segments.push_back(next.clone());
        let max_index = self.active_max_index.take();
        self.sealed.push_back(max_index);
        self.active = next;
        self.position = SEGMENT_HEADER_BYTES as u64;
        Ok(())
    }

    fn fill_spare(&mut self, piece_bytes: u64) -> Result<bool, LogError> {
        self.spares.fill(piece_bytes).map_err(|error| self.unless_full(error))
    }

    /// Makes a failure final that is not of a full disk.
    fn unless_full(&self, error: LogError) -> LogError {
        if error.is_disk_full() { error } else { self.poison(error) }
    }

    /// Gives the oldest segments back whose entries are all durably purged.
    fn recycle(&mut self) -> Result<(), LogError> {
        let purged = self.written.purged.map(|purged| purged.index);
        let mut count = 0;
        while self.sealed.front().is_some_and(|max_index| *max_index <= purged) {
            self.sealed.pop_front();
            count += 1;
        }
        let free: Vec<(u32, u64)> = {
            let mut inner = self.shared.lock();
            inner.segments.drain(..count).map(|free| (free.sequence, free.len_bytes)).collect()
        };
        self.spares.recycle(&free).map_err(|error| self.poison(error))
    }

    /// What is left of the active segment, in bytes.
    fn room(&self) -> u64 {
        self.active.len_bytes - self.position
    }

    /// Makes a failure final.
    fn poison(&self, error: LogError) -> LogError {
        self.shared.lock().failure = Some(error.clone());
        error
    }
}

impl Pending {
    /// Adds batches behind what waits, and returns how many bytes wait now.
    fn take(&mut self, staged: Vec<Vec<u8>>) -> usize {
        for batch in staged {
            if self.is_empty() {
                // One batch alone is not copied.
                *self = Pending { bytes: batch, written: 0 };
            } else {
                self.bytes.extend_from_slice(&batch);
            }
        }
        self.bytes.len() - self.written
    }

    fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.written..]
    }

    fn advance(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// The buffer, when nothing waits in it any more; a large one is given up instead.
    fn empty_buffer(&mut self) -> Vec<u8> {
        let Pending { mut bytes, .. } = std::mem::take(self);
        bytes.clear();
        bytes.shrink_to(BUFFER_KEPT_BYTES);
        bytes
    }
}
