//! Bringing the log to the disk.
//!
//! A flush takes all that is staged and writes it in runs: as many records as fit into the active
//! segment, with one write and one sync. If records are left over, the next segment is made, and the
//! flush goes on there. So a segment is durable to its end before the next one exists; recovery relies
//! on it.
//!
//! The order of a run: records written, file synced, then the view learns their places and `durable`
//! moves. The order of a purge: its record is durable, then segments that hold only purged entries go,
//! oldest first. What such a segment says besides (votes, truncations) stands in the header of the
//! segment after it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::record::{HEADER_BYTES, Record};
use super::segment::{Segment, SegmentHeader};
use super::spares::Spares;
use super::view::Place;
use super::{LogError, LogState, Lsn, Shared, Staged};

/// The write buffer keeps this much between flushes: most groups are far smaller.
const BUFFER_KEPT_BYTES: usize = 1 << 20;

/// The one end of the log that waits for the disk.
pub struct LogWriter {
    pub(super) shared: Arc<Shared>,
    pub(super) nonce: u64,
    pub(super) spares: Spares,
    /// The segments before the active one that still hold entries, oldest first.
    pub(super) sealed: VecDeque<Sealed>,
    pub(super) active: Arc<Segment>,
    /// Highest index among the entries in the active segment, truncated ones included.
    pub(super) active_max_index: Option<u64>,
    /// Where the next record goes in the active segment.
    pub(super) position: u64,
    /// The log up to `position`.
    pub(super) written: LogState,
    /// Whether nothing is left that a mark could prove durable.
    pub(super) marked: bool,
    /// Taken from the shared log, not yet written.
    pub(super) pending: VecDeque<Staged>,
    pub(super) buffer: Vec<u8>,
}

/// A segment that is full.
pub(super) struct Sealed {
    pub sequence: u32,
    pub max_index: Option<u64>,
}

/// An entry in the run that is being written.
struct Placed {
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
        self.pending.append(&mut self.shared.staging()?.staged);
        while !self.pending.is_empty() {
            self.write_run()?;
            self.recycle()?;
            if !self.pending.is_empty() {
                self.roll()?;
            }
        }
        self.buffer.shrink_to(BUFFER_KEPT_BYTES);
        Ok(self.shared.lock().durable)
    }

    /// Whether an error was final.
    pub fn is_poisoned(&self) -> bool {
        self.shared.lock().failure.is_some()
    }

    /// What can be done ahead: makes a spare for the next segment, and writes a mark that proves that
    /// the last records were durable. Call it when idle and before closing.
    ///
    /// A full disk shows here first, without harm ([`LogError::is_disk_full`]); other errors are final
    /// as those of [`LogWriter::flush`] are.
    pub fn maintain(&mut self) -> Result<(), LogError> {
        self.flush()?;
        if !self.marked && self.room() >= HEADER_BYTES as u64 {
            self.shared.staging()?.stage(Record::Mark);
            self.flush()?;
        }
        self.prepare()
    }

    /// Writes and syncs those of the pending records that fit into the active segment.
    fn write_run(&mut self) -> Result<(), LogError> {
        let synced = self.shared.lock().durable;
        self.buffer.clear();
        let mut entries = Vec::new();
        let mut last = None;
        while let Some(staged) = self.pending.front()
            && staged.record.len_bytes() as u64 <= self.room() - self.buffer.len() as u64
        {
            let Staged { lsn, record } = self.pending.pop_front().expect("seen just now");
            let offset = self.position + self.buffer.len() as u64;
            record.encode(&mut self.buffer, &self.active.seed, offset, lsn, synced);
            self.written.apply(&record);
            if let Record::Entry(entry) = &record {
                let place = Place::Written {
                    sequence: self.active.sequence,
                    offset: offset as u32,
                    payload_bytes: entry.payload.len() as u32,
                };
                entries.push(Placed { index: entry.id.index, lsn, place });
                self.active_max_index = self.active_max_index.max(Some(entry.id.index));
            }
            // Another thread may have staged something between the flush before and the mark.
            self.marked = record == Record::Mark && synced.next() == lsn;
            last = Some(lsn);
        }
        let Some(last) = last else {
            return Ok(());
        };
        let (active, position) = (&self.active, self.position);
        let written = active.file.write_at(position, &self.buffer);
        written.map_err(|error| self.poison(active.io("write", position, error)))?;
        let synced = active.file.sync_data();
        synced.map_err(|error| self.poison(active.io("sync", position, error)))?;
        self.position += self.buffer.len() as u64;
        self.publish(&entries, last);
        Ok(())
    }

    /// Tells the view that a run is durable up to `last`.
    fn publish(&self, entries: &[Placed], last: Lsn) {
        let mut inner = self.shared.lock();
        assert!(inner.durable < last, "records become durable in order");
        inner.durable = last;
        inner.staged_bytes -= self.buffer.len();
        for placed in entries {
            inner.view.written(placed.index, placed.lsn, placed.place);
        }
        inner.view.evict(self.shared.options.cache_bytes);
    }

    /// Begins the next segment, for the first of the pending records.
    fn roll(&mut self) -> Result<(), LogError> {
        self.prepare()?;
        let header = SegmentHeader {
            sequence: self.next_sequence(),
            nonce: self.nonce,
            first_lsn: self.pending.front().expect("a segment is begun for a record").lsn,
            state: self.written.clone(),
        };
        let next = Arc::new(self.spares.take(&header).map_err(|error| self.poison(error))?);
        self.shared.lock().segments.push_back(next.clone());
        let max_index = self.active_max_index.take();
        self.sealed.push_back(Sealed { sequence: self.active.sequence, max_index });
        self.active = next;
        self.position = super::SEGMENT_HEADER_BYTES as u64;
        Ok(())
    }

    fn prepare(&mut self) -> Result<(), LogError> {
        let sequence = self.next_sequence();
        self.spares
            .prepare(sequence)
            .map_err(|error| if error.is_disk_full() { error } else { self.poison(error) })
    }

    /// Gives the oldest segments back whose entries are all durably purged.
    fn recycle(&mut self) -> Result<(), LogError> {
        let purged = self.written.purged.map(|purged| purged.index);
        let mut free = Vec::new();
        while self.sealed.front().is_some_and(|sealed| sealed.max_index <= purged) {
            free.extend(self.sealed.pop_front().map(|sealed| sealed.sequence));
        }
        self.shared.lock().segments.drain(..free.len());
        self.spares.recycle(&free).map_err(|error| self.poison(error))
    }

    /// What is left of the active segment, in bytes.
    fn room(&self) -> u64 {
        self.active.len_bytes - self.position
    }

    fn next_sequence(&self) -> u32 {
        self.active.sequence.checked_add(1).expect("2^32 segments are more than anyone writes")
    }

    /// Makes a failure final.
    fn poison(&self, error: LogError) -> LogError {
        self.shared.lock().failure = Some(error.clone());
        error
    }
}
