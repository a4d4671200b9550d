//! Reading entries: recent ones from the cache, older ones from their segments.
//!
//! A read looks up where its entries stand under the lock, lets go of it, and then reads the disk. In
//! between the log may be purged and a segment of the plan become the spare of a new one. The records
//! there then fail their checksums, which is not damage: before an error is believed, the view is
//! asked whether the entry still stands where the plan said. If not, the read starts over.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::record::{Record, decode, record_bytes};
use super::segment::Segment;
use super::view::Place;
use super::{Inner, LogEntry, LogError, Shared};
use crate::types::LogId;

/// Where the entries of a read are: first those on the disk, then those in memory.
struct Plan {
    stored: Vec<Run>,
    cached: Vec<LogEntry>,
}

/// Records that stand side by side, read in one call.
struct Run {
    segment: Arc<Segment>,
    offset: u32,
    len_bytes: usize,
    /// What is expected there, in this order.
    entries: Vec<(LogId, Place)>,
}

pub(super) fn read(
    shared: &Shared,
    range: Range<u64>,
    max_bytes: u64,
) -> Result<Vec<LogEntry>, LogError> {
    loop {
        let plan = shared.lock().plan(range.clone(), max_bytes);
        let mut entries = Vec::new();
        match plan.stored.iter().try_for_each(|run| run.load(&mut entries)) {
            Ok(()) => {
                entries.extend(plan.cached);
                return Ok(entries);
            }
            Err(error) => {
                let inner = shared.lock();
                let unchanged = |run: &Run| {
                    run.entries.iter().all(|(id, place)| inner.view.place(id.index) == Some(*place))
                };
                if plan.stored.iter().all(unchanged) {
                    return Err(error);
                }
            }
        }
    }
}

impl Inner {
    fn plan(&self, range: Range<u64>, max_bytes: u64) -> Plan {
        let mut plan = Plan { stored: Vec::new(), cached: Vec::new() };
        let mut bytes = 0;
        let range = range.start.max(self.view.first_index())..range.end.min(self.view.end_index());
        for index in range.clone() {
            let cached = self.view.cached(index);
            let place = self.view.place(index).expect("the range was clipped");
            bytes += match (&cached, place) {
                (Some(entry), _) => entry.payload.len() as u64,
                (None, Place::Written { payload_bytes, .. }) => u64::from(payload_bytes),
                (None, Place::Staged(_)) => unreachable!("what is not durable is cached"),
            };
            if bytes > max_bytes && index > range.start {
                break;
            }
            match cached {
                Some(entry) => plan.cached.push(entry),
                None => {
                    let term = self.view.term_at(index).expect("the range was clipped");
                    self.plan_stored(&mut plan.stored, LogId { term, index }, place);
                }
            }
        }
        plan
    }

    /// Adds an entry to the last run if it stands directly behind it, or begins a run.
    fn plan_stored(&self, runs: &mut Vec<Run>, id: LogId, place: Place) {
        let Place::Written { sequence, offset, payload_bytes } = place else {
            unreachable!("what is not durable is cached");
        };
        let len_bytes = record_bytes(payload_bytes as usize);
        if let Some(run) = runs.last_mut()
            && run.segment.sequence == sequence
            && run.offset as usize + run.len_bytes == offset as usize
        {
            run.len_bytes += len_bytes;
            run.entries.push((id, place));
            return;
        }
        let segment = self.segment(sequence).expect("a segment outlives its entries").clone();
        runs.push(Run { segment, offset, len_bytes, entries: vec![(id, place)] });
    }
}

impl Run {
    /// Reads the entries; their payloads share one buffer.
    fn load(&self, entries: &mut Vec<LogEntry>) -> Result<(), LogError> {
        let segment = &self.segment;
        let base = u64::from(self.offset);
        let mut bytes = vec![0; self.len_bytes];
        segment.file.read_at(base, &mut bytes).map_err(|error| segment.io("read", base, error))?;
        let bytes = Bytes::from(bytes);
        let mut at = 0;
        for (id, _) in &self.entries {
            match decode(&segment.seed, base, &bytes, at) {
                Some((header, Record::Entry(found), payload)) if found == *id => {
                    at += header.len_bytes();
                    entries.push(LogEntry { id: *id, payload });
                }
                _ => {
                    let problem = "the record is not the entry that was written there";
                    return Err(segment.corrupt(base + at as u64, Some(id.index), problem));
                }
            }
        }
        Ok(())
    }
}
