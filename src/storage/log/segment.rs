//! Segment files: their names and headers.
//!
//! The log is a chain of files `log-<sequence>.seg`, the sequence in 16 hexadecimal digits, without a
//! gap; records fill one after the other. Files with the ending `.spare` hold nothing: room for
//! segments to come (`spares.rs`), and `log.part` is to become one, or a segment. A file that has a segment's name has a
//! durable header; one without a valid header is damage, never an interrupted creation.
//!
//! A segment begins with a header of 4,096 bytes (little-endian):
//!
//! ```text
//!  offset  bytes  field
//!       0      8  magic          "CONURLOG"
//!       8      4  version        1
//!      12      4  crc            CRC-32 of the header with this field zero
//!      16      8  sequence       the one in the file's name
//!      24      8  nonce          the same in all segments of a log, drawn when the log is made
//!      32      8  first_lsn      number of the first record here; all before it are durable
//!      40      4  flags          bit 0: has purged, 1: has last, 2: has vote
//!      44      4  vote_len
//!      48     16  purged         term and index
//!      64     16  last           term and index
//!      80  1,024  vote
//!   1,104  2,992  zeros
//! ```
//!
//! `purged`, `last` and `vote` are the state of the log before the first record, so older segments can
//! be removed without losing what they said.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::record::{MAX_NUMBER, Seed};
use super::{LogError, LogState, Lsn, MAX_VOTE_BYTES};
use crate::storage::disk::{Disk, DiskFile};
use crate::types::LogId;

/// Bytes before the first record.
pub(super) const SEGMENT_HEADER_BYTES: usize = 4_096;

/// The file that is to become a spare.
pub(super) const PART_NAME: &str = "log.part";

const MAGIC: &[u8; 8] = b"CONURLOG";
pub(super) const VERSION: u32 = 1;
const VOTE_AT: usize = 80;

/// An open segment.
pub(super) struct Segment {
    pub sequence: u32,
    pub file: Arc<dyn DiskFile>,
    /// Length of the file, which bounds its records.
    pub len_bytes: u64,
    pub seed: Seed,
    /// How a person finds the file.
    pub location: String,
}

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub sequence: u32,
    pub nonce: u64,
    pub first_lsn: Lsn,
    /// The log before `first_lsn`.
    pub state: LogState,
}

impl Segment {
    /// Opens the file of a segment that exists, and says how a person finds it.
    pub fn open_file(
        disk: &dyn Disk,
        sequence: u32,
    ) -> Result<(Arc<dyn DiskFile>, String), LogError> {
        let name = segment_name(sequence);
        let location = disk.locate(&name);
        match disk.open(&name) {
            Ok(file) => Ok((file, location)),
            Err(error) => Err(LogError::io("open", location, 0, error)),
        }
    }

    pub fn new(
        file: Arc<dyn DiskFile>,
        location: String,
        len_bytes: u64,
        header: &SegmentHeader,
    ) -> Segment {
        let SegmentHeader { sequence, nonce, .. } = *header;
        Segment { sequence, file, len_bytes, seed: Seed::new(nonce, sequence), location }
    }

    pub fn corrupt(&self, offset: u64, index: Option<u64>, problem: &'static str) -> LogError {
        LogError::Corrupt { segment: self.location.clone(), offset, index, problem }
    }

    pub fn io(&self, action: &'static str, offset: u64, error: io::Error) -> LogError {
        LogError::io(action, self.location.clone(), offset, error)
    }
}

impl SegmentHeader {
    pub fn encode(&self) -> Vec<u8> {
        let LogState { purged, last, vote } = &self.state;
        let vote_bytes = vote.as_deref().unwrap_or_default();
        assert!(vote_bytes.len() <= MAX_VOTE_BYTES, "checked when it was staged");
        let flags = u32::from(purged.is_some())
            | u32::from(last.is_some()) << 1
            | u32::from(vote.is_some()) << 2;
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        for word in [u64::from(self.sequence), self.nonce, self.first_lsn.0] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&(vote_bytes.len() as u32).to_le_bytes());
        for id in [purged, last] {
            let LogId { term, index } = id.unwrap_or(LogId { term: 0, index: 0 });
            bytes.extend_from_slice(&term.to_le_bytes());
            bytes.extend_from_slice(&index.to_le_bytes());
        }
        bytes.extend_from_slice(vote_bytes);
        bytes.resize(SEGMENT_HEADER_BYTES, 0);
        let crc = crc32fast::hash(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The version of a header that is whole and of another release.
    pub fn other_version(bytes: &[u8]) -> Option<u32> {
        let bytes = bytes.first_chunk::<SEGMENT_HEADER_BYTES>()?;
        let version = u32_at(bytes, 8);
        let is_whole = bytes[..8] == *MAGIC && u32_at(bytes, 12) == checksum(bytes);
        (is_whole && version != VERSION).then_some(version)
    }

    /// Reads a header back, or says what is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, &'static str> {
        let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
            return Err("the file is shorter than a segment header");
        };
        if bytes[..8] != *MAGIC {
            return Err("the segment header is not one");
        }
        if u32_at(bytes, 12) != checksum(bytes) {
            return Err("the checksum of the segment header does not match");
        }
        if u32_at(bytes, 8) != VERSION {
            return Err("the segment is of a version that this program does not know");
        }
        let (flags, vote_bytes) = (u32_at(bytes, 40), u32_at(bytes, 44) as usize);
        let id = |bit: u32, at| {
            let id = LogId { term: u64_at(bytes, at), index: u64_at(bytes, at + 8) };
            (flags & 1 << bit != 0).then_some(id)
        };
        let (first_lsn, purged, last) = (u64_at(bytes, 32), id(0, 48), id(1, 64));
        let indexes = purged.iter().chain(&last).map(|id| id.index);
        if first_lsn == 0 || indexes.chain([first_lsn]).any(|number| number >= MAX_NUMBER) {
            return Err("its numbers are none that a log comes to");
        }
        let vote = bytes.get(VOTE_AT..VOTE_AT + vote_bytes).ok_or("the vote is too long")?;
        let vote = (flags & 4 != 0).then(|| Bytes::copy_from_slice(vote));
        Ok(SegmentHeader {
            sequence: u64_at(bytes, 16)
                .try_into()
                .map_err(|_| "the sequence number is too large")?,
            nonce: u64_at(bytes, 24),
            first_lsn: Lsn(first_lsn),
            state: LogState { purged, last, vote },
        })
    }
}

/// Removes every segment and spare, and makes that durable. A crash in the middle leaves a log that
/// does not open: whoever wipes has noted that before, and wipes again.
pub(super) fn remove_all(disk: &dyn Disk) -> Result<(), LogError> {
    let io = |error| LogError::io("remove the files of the log in", disk.locate(""), 0, error);
    let (sequences, spares) = find_files(disk.list().map_err(io)?);
    let names = sequences.into_iter().map(segment_name).chain(spares);
    names.into_iter().try_for_each(|name| disk.remove(&name)).map_err(io)?;
    disk.sync_dir().map_err(io)
}

/// The files of a log among `names`: sequence numbers of segments in order, and spares, whole or not.
pub(super) fn find_files(names: Vec<String>) -> (Vec<u32>, Vec<String>) {
    let mut sequences: Vec<u32> =
        names.iter().filter_map(|name| sequence_of(name, ".seg")).collect();
    sequences.sort_unstable();
    let is_spare = |name: &String| name == PART_NAME || sequence_of(name, ".spare").is_some();
    let spares = names.into_iter().filter(is_spare).collect();
    (sequences, spares)
}

pub(super) fn segment_name(sequence: u32) -> String {
    format!("log-{sequence:016x}.seg")
}

pub(super) fn spare_name(number: u32) -> String {
    format!("log-{number:016x}.spare")
}

fn sequence_of(name: &str, ending: &str) -> Option<u32> {
    let digits = name.strip_prefix("log-")?.strip_suffix(ending)?;
    let sequence = u32::from_str_radix(digits, 16).ok()?;
    (format!("{sequence:016x}") == digits).then_some(sequence)
}

/// Of a header whose checksum field counts as zero.
fn checksum(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> u32 {
    let mut unsigned = *bytes;
    unsigned[12..16].fill(0);
    crc32fast::hash(&unsigned)
}

fn u32_at(bytes: &[u8; SEGMENT_HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("inside the header"))
}

fn u64_at(bytes: &[u8; SEGMENT_HEADER_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("inside the header"))
}
