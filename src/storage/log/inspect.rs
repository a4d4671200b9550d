//! Looking into a log without changing it: what recovery would find, and the records of a segment.
//!
//! Recovery stops at the first damage; here the segments behind it are read as well, each from the
//! state that its header tells. What lies between is unknown, so after damage nothing is said about the
//! log's first entry.

use super::record::Record;
use super::recovery::{Replay, load, newest_chain};
use super::segment::{SegmentHeader, find_files};
use super::{LogError, LogState, Lsn, TornTail};
use crate::storage::disk::Disk;
use crate::types::LogId;

/// What the segments hold.
#[derive(Debug, Default)]
pub struct LogSurvey {
    /// The chain, in order; without those whose header cannot be read.
    pub segments: Vec<SegmentSurvey>,
    /// Sequence numbers before a gap in the chain: their removal was under way.
    pub leftover: Vec<u32>,
    /// Files with room for segments to come.
    pub spares: usize,
    /// Where the log ends, and the vote, as far as it could be read.
    pub state: LogState,
    /// Index of the first entry, if there is one and no segment is damaged.
    pub first_index: Option<u64>,
    /// The end of the log that was never acknowledged.
    pub torn: Option<TornTail>,
    pub damages: Vec<LogError>,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSurvey {
    pub sequence: u32,
    pub file: String,
    pub len_bytes: u64,
    /// Number of its first record, and how many are valid.
    pub first_record: u64,
    pub records: u64,
    /// Offset behind its last valid record.
    pub end: u64,
}

/// A segment and its records.
#[derive(Debug)]
pub struct SegmentDump {
    pub file: String,
    pub len_bytes: u64,
    pub sequence: u32,
    pub nonce: u64,
    pub first_record: u64,
    /// The log before the first record.
    pub state: LogState,
    pub records: Vec<RecordDump>,
    /// Offset behind the last valid record.
    pub end: u64,
    /// What the bytes behind it are: nothing or torn, or damage.
    pub tail: Result<Option<TornTail>, LogError>,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordDump {
    pub offset: u64,
    pub number: u64,
    /// All records up to this number were durable when it was written.
    pub synced: u64,
    pub kind: &'static str,
    pub id: Option<LogId>,
    pub payload_bytes: usize,
}

/// Reads all segments.
pub fn survey(disk: &dyn Disk) -> Result<LogSurvey, LogError> {
    let names = disk.list().map_err(|error| LogError::io("list", disk.locate(""), 0, error))?;
    let (sequences, spares) = find_files(names);
    let (leftover, chain) = newest_chain(&sequences);
    let mut survey =
        LogSurvey { leftover: leftover.to_vec(), spares: spares.len(), ..LogSurvey::default() };
    let mut replay = Replay::default();
    for &sequence in chain {
        let (read, header) = match load(disk, sequence) {
            Ok(loaded) => loaded,
            Err(error @ LogError::OtherVersion { .. }) => return Err(error),
            Err(error) => {
                survey.begin_anew(&mut replay, error);
                continue;
            }
        };
        if let Err(error) = replay.enter(&read.segment, &header) {
            survey.begin_anew(&mut replay, error);
            replay.enter(&read.segment, &header)?;
        }
        if !survey.damages.is_empty() {
            replay.missing_below = None; // they are damaged, and named
        }
        let segment = read.segment.clone();
        let read = replay.read_records(read);
        let end = replay.segments.last().map_or(0, |read| read.end as u64);
        survey.segments.push(SegmentSurvey {
            sequence,
            file: segment.location.clone(),
            len_bytes: segment.len_bytes,
            first_record: header.first_lsn.0,
            records: (replay.last.0 + 1).saturating_sub(header.first_lsn.0),
            end,
        });
        if let Err(error) = read {
            survey.begin_anew(&mut replay, error);
        }
    }
    if !replay.segments.is_empty() {
        survey.state = replay.view.state().clone();
        match replay.judge() {
            Ok(torn) => survey.torn = torn,
            Err(error) => survey.damages.push(error),
        }
        let has_all = survey.damages.is_empty() && replay.view.entries() > 0;
        survey.first_index = has_all.then(|| replay.view.first_index());
    }
    Ok(survey)
}

impl LogSurvey {
    /// Notes damage, behind which the log is read on from the next header.
    fn begin_anew(&mut self, replay: &mut Replay, error: LogError) {
        if !replay.segments.is_empty() {
            self.state = replay.view.state().clone();
        }
        self.damages.push(error);
        *replay = Replay::default();
    }
}

/// Reads one segment; `None` when there is none of this number.
pub fn dump(disk: &dyn Disk, sequence: u32) -> Result<Option<SegmentDump>, LogError> {
    let names = disk.list().map_err(|error| LogError::io("list", disk.locate(""), 0, error))?;
    if !find_files(names).0.contains(&sequence) {
        return Ok(None);
    }
    let (mut read, header) = load(disk, sequence)?;
    let SegmentHeader { nonce, first_lsn, state, .. } = header;
    let mut last = Lsn(first_lsn.0.saturating_sub(1));
    let mut records = Vec::new();
    while let Some((header, record)) = read.next(last) {
        let (kind, id) = match &record {
            Record::Entry(id) => ("entry", Some(*id)),
            Record::Vote(_) => ("vote", None),
            Record::Truncate(last) => ("truncate", Some(*last)),
            Record::Clear => ("clear", None),
            Record::Purge(upto) => ("purge", Some(*upto)),
            Record::Mark => ("mark", None),
        };
        records.push(RecordDump {
            offset: read.end as u64,
            number: header.lsn.0,
            synced: header.synced.0,
            kind,
            id,
            payload_bytes: header.payload_bytes,
        });
        last = header.lsn;
        read.end += header.len_bytes();
    }
    Ok(Some(SegmentDump {
        file: read.segment.location.clone(),
        len_bytes: read.segment.len_bytes,
        sequence,
        nonce,
        first_record: first_lsn.0,
        state,
        records,
        end: read.end as u64,
        tail: read.judge_tail(last),
    }))
}
