//! The scrub of the log: records that nobody reads are read and verified, a piece at a time.
//!
//! Only segments that are full: of each the header is checked, and every record up to the one that the next
//! segment's header begins with. The last segment is being written, and every start reads it. A segment may be recycled
//! meanwhile; what is wrong with it then is no damage.

use std::sync::Arc;

use bytes::Bytes;

use super::record::{HEADER_BYTES, decode, decode_header};
use super::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentHeader};
use super::{Log, LogError, Lsn};

/// What is read at once; more only for a record that is longer.
const PIECE_BYTES: u64 = 256 << 10;

/// Where a pass is; anywhere before the first segment when it begins.
#[derive(Debug, Default)]
pub struct LogScrub {
    /// Segments before this one are verified.
    sequence: u32,
    inside: Option<Inside>,
}

/// A segment under way.
#[derive(Debug)]
struct Inside {
    offset: u64,
    next: Lsn,
    /// The number of the next segment's first record.
    end: Lsn,
}

/// What a step did.
#[derive(Debug, Default)]
pub struct LogScrubbed {
    pub read_bytes: u64,
    pub damages: Vec<LogError>,
    /// Whether all full segments were read; the next step begins a pass.
    pub is_pass_done: bool,
}

impl LogScrub {
    /// Verifies records until about `most_bytes` were read.
    pub fn step(&mut self, log: &Log, most_bytes: u64) -> LogScrubbed {
        let mut done = LogScrubbed::default();
        while done.read_bytes < most_bytes {
            let Some([segment, following]) = log.full_segment(self.sequence) else {
                *self = LogScrub::default();
                done.is_pass_done = true;
                return done;
            };
            if segment.sequence != self.sequence {
                *self = LogScrub { sequence: segment.sequence, inside: None };
            }
            let is_over = match self.read(&segment, &following, &mut done.read_bytes) {
                Ok(is_over) => is_over,
                Err(error) => {
                    // Recycled while it was read: nobody has it any more.
                    let is_there = log.full_segment(segment.sequence);
                    if is_there.is_some_and(|[it, _]| it.sequence == segment.sequence) {
                        log.note(&error);
                        done.damages.push(error);
                    }
                    true
                }
            };
            if is_over {
                *self = LogScrub { sequence: self.sequence + 1, inside: None };
            }
        }
        done
    }

    /// Verifies a piece of a segment; says whether it was the last.
    fn read(
        &mut self,
        segment: &Segment,
        following: &Segment,
        read_bytes: &mut u64,
    ) -> Result<bool, LogError> {
        let inside = match &mut self.inside {
            Some(inside) => inside,
            None => {
                let (own, next) = (header(segment, read_bytes)?, header(following, read_bytes)?);
                let offset = SEGMENT_HEADER_BYTES as u64;
                self.inside.insert(Inside { offset, next: own.first_lsn, end: next.first_lsn })
            }
        };
        let room_bytes = segment.len_bytes - inside.offset;
        let mut len_bytes = room_bytes.min(PIECE_BYTES);
        loop {
            let bytes = load(segment, inside.offset, len_bytes, read_bytes)?;
            let used_bytes = inside.take(segment, &bytes);
            if inside.next == inside.end {
                return Ok(true);
            }
            if used_bytes > 0 {
                return Ok(false);
            }
            // Not one record: it is longer than what was read, or damaged.
            let header = decode_header(&segment.seed, inside.offset, &bytes);
            let wanted = header.filter(|header| header.lsn == inside.next);
            match wanted.map(|header| header.len_bytes() as u64) {
                Some(wanted) if wanted > len_bytes && wanted <= room_bytes => len_bytes = wanted,
                _ => {
                    let problem = "a record that was acknowledged is damaged";
                    return Err(segment.corrupt(inside.offset, None, problem));
                }
            }
        }
    }
}

impl Inside {
    /// Passes over the valid records that `bytes` begin with; how many bytes they have.
    fn take(&mut self, segment: &Segment, bytes: &Bytes) -> usize {
        let mut at = 0;
        while self.next < self.end
            && at + HEADER_BYTES <= bytes.len()
            && let Some((header, ..)) = decode(&segment.seed, self.offset, bytes, at)
            && header.lsn == self.next
        {
            at += header.len_bytes();
            self.next = self.next.next();
        }
        self.offset += at as u64;
        at
    }
}

fn header(segment: &Segment, read_bytes: &mut u64) -> Result<SegmentHeader, LogError> {
    let bytes = load(segment, 0, SEGMENT_HEADER_BYTES as u64, read_bytes)?;
    match SegmentHeader::decode(&bytes) {
        Ok(header) if header.sequence == segment.sequence => Ok(header),
        Ok(_) => Err(segment.corrupt(0, None, "the header is that of another segment")),
        Err(problem) => Err(segment.corrupt(0, None, problem)),
    }
}

fn load(
    segment: &Segment,
    offset: u64,
    len_bytes: u64,
    read_bytes: &mut u64,
) -> Result<Bytes, LogError> {
    let mut bytes = vec![0; len_bytes as usize];
    *read_bytes += len_bytes;
    match segment.file.read_at(offset, &mut bytes) {
        Ok(()) => Ok(bytes.into()),
        Err(error) => Err(segment.io("read", offset, error)),
    }
}

impl Log {
    /// The first full segment from this one on, and the one after it.
    fn full_segment(&self, from: u32) -> Option<[Arc<Segment>; 2]> {
        let inner = self.shared.lock();
        let at = inner.segments.partition_point(|segment| segment.sequence < from);
        Some([inner.segments.get(at)?.clone(), inner.segments.get(at + 1)?.clone()])
    }
}
