//! Opening a log: what is there, what a crash tore, and what is damaged.
//!
//! All segments are read in order and every record verified. Then, if a record does not verify:
//!
//! * In any segment but the last, it is damage. A segment is synced to its end before the next one
//!   exists, and the next one's header says with which record it begins.
//! * In the last segment it is damage if a valid record after it says that it was durable (`synced`).
//!   Every flush notes how far the flushes before it came, so anything but the last flush is covered,
//!   and after a mark ([`LogWriter::maintain`]) that one too. Such a record is found without trusting
//!   the length of the broken one, by trying every multiple of 8, and its header suffices.
//! * Else nobody was ever told that it is durable: it was torn, and the log ends before it.
//!
//! Damage is refused. Cutting it off would take back what this node has acknowledged, and Raft would
//! count it as if it had it.
//!
//! Then the disk is brought to what was read, because what was read may be ahead of it: a process that
//! died leaves writes in the system's cache, and after a failed sync the system may hold what it will
//! never write again. So the names are synced first, and the last segment is written once more as it was
//! read, or only the mark that it ends with: what is before a mark was durable when that was written, but the
//! mark itself may be what the disk has not. What follows its last record becomes zeros, so that no record
//! from beyond the cut can be taken for a continuation later. One sync seals it; last comes a mark, so
//! that the next opening need not wonder. Each step may be interrupted by a crash and is then simply
//! repeated: until the mark nobody has been told anything.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::record::{ALIGNMENT, HEADER_BYTES, Header, Record, decode, decode_header};
use super::segment::{Segment, SegmentHeader, VERSION, find_files};
use super::spares::Spares;
use super::view::{Place, View};
use super::writer::Pending;
use super::{
    Inner, Log, LogError, LogOptions, LogState, LogWriter, Lsn, MAX_VOTE_BYTES,
    SEGMENT_HEADER_BYTES, Shared,
};
use crate::storage::disk::Disk;
use crate::storage::error::LastDamage;

/// Of the first segment of a log; a file name of zeros is nobody's.
const FIRST_SEQUENCE: u32 = 1;

/// What was found on opening.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Entries in the log.
    pub entries: u64,
    /// Segments read.
    pub segments: usize,
    /// What was cut off, if the last flush was interrupted.
    pub torn: Option<TornTail>,
}

/// Where a log was cut. Nothing after this place was ever acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    pub segment: String,
    pub offset: u64,
}

pub(super) fn open(
    disk: Arc<dyn Disk>,
    options: LogOptions,
) -> Result<(Log, LogWriter, Recovery), LogError> {
    options.check()?;
    // Names seen now must not be gone after the next power cut, when records rely on them.
    disk.sync_dir().map_err(|error| LogError::io("sync", disk.locate(""), 0, error))?;
    let names = disk.list().map_err(|error| LogError::io("list", disk.locate(""), 0, error))?;
    let (mut sequences, spare_names) = find_files(names);
    let mut spares = Spares::adopt(disk.clone(), options.segment_bytes, spare_names)?;
    if sequences.is_empty() {
        create(&mut spares, options.nonce)?;
        sequences.push(FIRST_SEQUENCE);
    }
    let (leftover, chain) = newest_chain(&sequences);

    let mut replay = Replay::default();
    for &sequence in chain {
        replay.read_segment(&*disk, sequence)?;
    }
    let (parts, recovery) = replay.finish()?;
    let leftover = leftover.iter().map(|&sequence| {
        let (file, location) = Segment::open_file(&*disk, sequence)?;
        let len_bytes = file.len().map_err(|error| LogError::io("read", location, 0, error))?;
        Ok((sequence, len_bytes))
    });
    spares.recycle(&leftover.collect::<Result<Vec<_>, LogError>>()?)?;
    let (log, mut writer) = parts.assemble(options, spares);
    match writer.maintain() {
        // What is there is intact; that there is no room for more shows when more comes.
        Err(error) if !error.is_disk_full() => Err(error),
        _ => Ok((log, writer, recovery)),
    }
}

/// Parts the sequence numbers, which are in order, before the last gap.
///
/// A crash can undo the removal of some segments and not of others; those before a gap are such. If
/// they are not, entries are missing, and [`Replay::judge`] finds that.
pub(super) fn newest_chain(sequences: &[u32]) -> (&[u32], &[u32]) {
    let chain = sequences.chunk_by(|a, b| a + 1 == *b).next_back().unwrap_or_default();
    sequences.split_at(sequences.len() - chain.len())
}

/// Makes the first segment of a new log.
fn create(spares: &mut Spares, nonce: u64) -> Result<(), LogError> {
    let header = SegmentHeader {
        sequence: FIRST_SEQUENCE,
        nonce,
        first_lsn: Lsn(1),
        state: Default::default(),
    };
    let spare = spares.of_length(SEGMENT_HEADER_BYTES as u64)?;
    spares.take(spare, &header).map(|_| ())
}

/// The log as far as it was read.
#[derive(Default)]
pub(super) struct Replay {
    pub view: View,
    /// Number of the last record read.
    pub last: Lsn,
    /// Entries below this index, unless they are purged, stand in segments that are gone.
    pub missing_below: Option<u64>,
    pub segments: Vec<ReadSegment>,
}

/// A segment whose valid records were applied.
pub(super) struct ReadSegment {
    pub segment: Arc<Segment>,
    nonce: u64,
    content: Bytes,
    /// Behind its last valid record.
    pub end: usize,
    max_index: Option<u64>,
    /// Whether it ends with the proof that all of it is durable.
    marked: bool,
}

impl Replay {
    fn read_segment(&mut self, disk: &dyn Disk, sequence: u32) -> Result<(), LogError> {
        let (read, header) = load(disk, sequence)?;
        self.enter(&read.segment, &header)?;
        self.read_records(read)
    }

    /// Applies the records of a segment that was entered.
    pub fn read_records(&mut self, mut read: ReadSegment) -> Result<(), LogError> {
        while let Some((header, record)) = read.next(self.last) {
            self.apply(&mut read, header, &record)?;
        }
        // Only the end of the last segment is looked at again.
        if let Some(before) = self.segments.last_mut() {
            before.content = Bytes::new();
        }
        self.segments.push(read);
        Ok(())
    }

    /// Checks that a segment continues those before it, or begins with the first one.
    pub fn enter(&mut self, segment: &Segment, header: &SegmentHeader) -> Result<(), LogError> {
        let Some(before) = self.segments.last() else {
            self.view = View::starting_at(header.state.clone());
            self.last = Lsn(header.first_lsn.0 - 1);
            self.missing_below = header.state.next_index();
            return Ok(());
        };
        if header.nonce != before.nonce {
            return Err(segment.corrupt(0, None, "the segment is of another log"));
        }
        if header.first_lsn != self.last.next() {
            let problem = "a record that was acknowledged is not there";
            return Err(before.segment.corrupt(before.end as u64, None, problem));
        }
        if header.state != *self.view.state() {
            return Err(segment.corrupt(0, None, "the header contradicts the segments before"));
        }
        Ok(())
    }

    fn apply(
        &mut self,
        read: &mut ReadSegment,
        header: Header,
        record: &Record,
    ) -> Result<(), LogError> {
        if let Err(problem) = self.check(record) {
            return Err(read.segment.corrupt(read.end as u64, None, problem));
        }
        match record {
            Record::Entry(id) => {
                let place = Place::Written {
                    sequence: read.segment.sequence,
                    offset: read.end as u32,
                    payload_bytes: header.payload_bytes as u32,
                };
                self.view.push(*id, place);
                read.max_index = read.max_index.max(Some(id.index));
            }
            Record::Truncate(last) => {
                self.missing_below = self.missing_below.map(|below| below.min(last.index + 1));
                self.view.apply(record);
            }
            Record::Clear => {
                self.missing_below = None;
                self.view.apply(record);
            }
            Record::Vote(_) | Record::Purge(_) | Record::Mark => self.view.apply(record),
        }
        read.marked = *record == Record::Mark && header.synced == self.last;
        self.last = header.lsn;
        read.end += header.len_bytes();
        Ok(())
    }

    /// Whether the log could have written this record in its present state.
    fn check(&self, record: &Record) -> Result<(), &'static str> {
        let LogState { purged, last, .. } = self.view.state();
        let holds = match record {
            Record::Entry(id) => last.is_none_or(|last| id.index == last.index + 1),
            Record::Truncate(kept) => {
                purged.is_none_or(|purged| purged.index <= kept.index)
                    && last.is_some_and(|last| kept.index < last.index)
            }
            Record::Clear => purged.is_none(),
            Record::Purge(upto) => purged.is_none_or(|purged| purged.index < upto.index),
            Record::Vote(vote) => vote.len() <= MAX_VOTE_BYTES,
            Record::Mark => true,
        };
        if holds { Ok(()) } else { Err("a valid record does not continue the log") }
    }

    /// Decides about the tail, which may be torn, and about what may be missing before the first
    /// segment.
    pub fn judge(&self) -> Result<Option<TornTail>, LogError> {
        let first = &self.segments.first().expect("a log has a segment").segment;
        let purged = self.view.state().purged;
        if let Some(below) = self.missing_below
            && purged.is_none_or(|purged| purged.index + 1 < below)
        {
            let index = purged.map(|purged| purged.index + 1);
            return Err(first.corrupt(0, index, "segments before this one are missing"));
        }
        self.segments.last().expect("a log has a segment").judge_tail(self.last)
    }

    /// Decides about the tail, repairs it, and hands out the log.
    fn finish(self) -> Result<(LogParts, Recovery), LogError> {
        let torn = self.judge()?;
        self.segments.last().expect("a log has a segment").repair()?;
        let recovery =
            Recovery { entries: self.view.entries(), segments: self.segments.len(), torn };
        Ok((LogParts { view: self.view, last: self.last, segments: self.segments }, recovery))
    }
}

impl ReadSegment {
    /// The record behind the last one, if it is valid and numbered after `last`.
    pub fn next(&self, last: Lsn) -> Option<(Header, Record)> {
        let (header, record, _) = decode(&self.segment.seed, 0, &self.content, self.end)?;
        (header.lsn == last.next()).then_some((header, record))
    }

    /// Says whether a flush was interrupted behind the last valid record, or refuses because what
    /// stood there was acknowledged.
    pub fn judge_tail(&self, last: Lsn) -> Result<Option<TornTail>, LogError> {
        let lost = last.next();
        let mut torn = false;
        let mut at = self.end;
        while at < self.content.len() {
            let Some(header) = decode_header(&self.segment.seed, at as u64, &self.content[at..])
            else {
                at += ALIGNMENT;
                continue;
            };
            if header.synced >= lost {
                let problem = "a record that was acknowledged is damaged";
                return Err(self.segment.corrupt(self.end as u64, None, problem));
            }
            torn = true;
            at += header.len_bytes();
        }
        let tail = || TornTail { segment: self.segment.location.clone(), offset: self.end as u64 };
        Ok(torn.then(tail))
    }

    /// Makes the segment durable as it was read, with nothing but zeros behind its last record.
    fn repair(&self) -> Result<(), LogError> {
        let (records, rest) =
            self.content[SEGMENT_HEADER_BYTES..].split_at(self.end - SEGMENT_HEADER_BYTES);
        let is_whole = self.marked && rest.iter().all(|&byte| byte == 0);
        // Of a segment that begins with nothing its header is the proof.
        let skipped = if is_whole { records.len().saturating_sub(HEADER_BYTES) } else { 0 };
        let mut bytes = records[skipped..].to_vec();
        if !is_whole {
            bytes.resize(bytes.len() + rest.len(), 0);
        }
        let (file, offset) = (&self.segment.file, (SEGMENT_HEADER_BYTES + skipped) as u64);
        let written = file.write_at(offset, &bytes);
        written.map_err(|error| self.segment.io("repair", offset, error))?;
        file.sync_data().map_err(|error| self.segment.io("sync", offset, error))
    }
}

/// Reads a whole segment; its header is valid, its records are not looked at yet.
pub(super) fn load(
    disk: &dyn Disk,
    sequence: u32,
) -> Result<(ReadSegment, SegmentHeader), LogError> {
    let (file, location) = Segment::open_file(disk, sequence)?;
    let io = |error| LogError::io("read", location.clone(), 0, error);
    let mut content = vec![0; file.len().map_err(io)? as usize];
    file.read_at(0, &mut content).map_err(io)?;
    let corrupt =
        |problem| LogError::Corrupt { segment: location.clone(), offset: 0, index: None, problem };
    if let Some(found) = SegmentHeader::other_version(&content) {
        let segment = location.clone();
        return Err(LogError::OtherVersion { segment, found, supported: VERSION });
    }
    let header = SegmentHeader::decode(&content).map_err(corrupt)?;
    if header.sequence != sequence {
        return Err(corrupt("the header is that of another segment"));
    }
    let segment = Segment::new(file, location, content.len() as u64, &header);
    let read = ReadSegment {
        segment: Arc::new(segment),
        nonce: header.nonce,
        content: content.into(),
        end: SEGMENT_HEADER_BYTES,
        max_index: None,
        marked: true,
    };
    Ok((read, header))
}

/// A log that was read, verified and repaired.
struct LogParts {
    view: View,
    last: Lsn,
    segments: Vec<ReadSegment>,
}

impl LogParts {
    fn assemble(self, options: LogOptions, spares: Spares) -> (Log, LogWriter) {
        let tail = self.segments.last().expect("a log has a segment");
        let (active, nonce, marked) = (tail.segment.clone(), tail.nonce, tail.marked);
        let (position, active_max_index) = (tail.end as u64, tail.max_index);
        let sealed = self.segments[..self.segments.len() - 1].iter();
        let sealed = sealed.map(|read| read.max_index).collect();
        let written = self.view.state().clone();
        let inner = Inner {
            view: self.view,
            staged: Vec::new(),
            unused: Vec::new(),
            staged_bytes: 0,
            appended_bytes: 0,
            last: self.last,
            durable: self.last,
            segments: self.segments.into_iter().map(|read| read.segment).collect(),
            failure: None,
        };
        let (inner, damage) = (Mutex::new(inner), LastDamage::default());
        let shared = Arc::new(Shared { options, inner, damage });
        let writer = LogWriter {
            shared: shared.clone(),
            nonce,
            spares,
            sealed,
            active,
            active_max_index,
            position,
            written,
            marked,
            pending: Pending::default(),
            flushed_bytes: 0,
            placed: Vec::new(),
        };
        (Log { shared }, writer)
    }
}
