//! The bytes of one record.
//!
//! All integers are little-endian. A record starts at a multiple of 8 in its segment:
//!
//! ```text
//!  offset  bytes  field
//!       0      4  header_crc   CRC-32 (see below)
//!       4      4  payload_crc  CRC-32 of the payload and the zeros after it
//!       8      4  len          bytes of payload
//!      12      1  kind         1 entry, 2 vote, 3 truncate, 4 clear, 5 purge, 6 mark
//!      13      3  zeros
//!      16      8  lsn          number of this record, one more than that of the record before it
//!      24      8  synced       the records up to this number were durable when it was written
//!      32      8  term         of the entry; of the last entry kept (truncate) or given up (purge)
//!      40      8  index        likewise; both are zero for the other kinds
//!      48    len  payload      of an entry or a vote; the other kinds have none
//!  48+len   0..7  zeros        up to a multiple of 8
//! ```
//!
//! `header_crc` covers, in this order: the log's nonce, the segment's sequence number, the record's
//! offset in the segment (8 bytes each), and the header from `payload_crc` on. So a record is valid in
//! its place only. What a recycled segment still holds of its former life fails, and not by luck: two
//! inputs that differ only within 32 neighbouring bits never share a CRC-32. The nonce keeps a client
//! from storing a value that contains a valid record.
//!
//! `synced` is what tells a torn tail from damage: a record that cannot be read was acknowledged if a
//! later one says so (`recovery.rs`). The header has a checksum of its own so that such a witness is
//! found quickly, and is heard even if its payload is damaged too.
//!
//! A record is made in two steps. [`Record::encode`] lays it out when it is staged, on the thread of
//! whoever stages; [`seal`] fills in what is known only when its place in a segment is: `lsn`,
//! `synced`, `header_crc`. So the thread that waits for the disk touches 48 bytes of each record.

use bytes::Bytes;

use super::Lsn;
use crate::plants::{Plant, planted};
use crate::types::LogId;

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 48;

/// Records start at multiples of this, so that a search for them visits few places.
pub(super) const ALIGNMENT: usize = 8;

/// Numbers of records and indexes of entries end here, as no log comes to it: so that no sum of a number that was read
/// overflows.
pub(super) const MAX_NUMBER: u64 = 1 << 62;

/// What a record says, but for the payload of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Entry(LogId),
    /// The vote, opaque.
    Vote(Bytes),
    /// The log ends with this entry.
    Truncate(LogId),
    /// The log, of which nothing was ever purged, is empty.
    Clear,
    /// Entries up to this one are not needed any more.
    Purge(LogId),
    /// Nothing but its `synced`.
    Mark,
}

/// The header of a record, verified.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub lsn: Lsn,
    pub synced: Lsn,
    pub payload_bytes: usize,
    payload_crc: u32,
    kind: u8,
    id: LogId,
}

/// The start of every checksum in one segment.
#[derive(Clone)]
pub(super) struct Seed(crc32fast::Hasher);

impl Seed {
    pub fn new(nonce: u64, sequence: u32) -> Seed {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&nonce.to_le_bytes());
        hasher.update(&u64::from(sequence).to_le_bytes());
        Seed(hasher)
    }

    fn checksum(&self, offset: u64, header_after_crc: &[u8; HEADER_BYTES - 4]) -> u32 {
        // One call for all of it: a call costs more than the few bytes.
        let mut input = [0; 8 + HEADER_BYTES - 4];
        input[..8].copy_from_slice(&offset.to_le_bytes());
        input[8..].copy_from_slice(header_after_crc);
        let mut hasher = self.0.clone();
        hasher.update(&input);
        hasher.finalize()
    }
}

/// Bytes a record with such a payload takes in a segment.
pub(super) const fn record_bytes(payload_bytes: usize) -> usize {
    (HEADER_BYTES + payload_bytes).next_multiple_of(ALIGNMENT)
}

impl Record {
    /// Appends the record to `out`, zeros where [`seal`] writes. `payload` is empty unless the record
    /// is an entry or a vote.
    pub fn encode(&self, payload: &[u8], out: &mut Vec<u8>) {
        let zero = LogId { term: 0, index: 0 };
        let (kind, id) = match self {
            Record::Entry(id) => (1, *id),
            Record::Vote(_) => (2, zero),
            Record::Truncate(last) => (3, *last),
            Record::Clear => (4, zero),
            Record::Purge(upto) => (5, *upto),
            Record::Mark => (6, zero),
        };
        let len = u32::try_from(payload.len()).expect("bounded by the options");
        let start = out.len();
        let mut header = [0; HEADER_BYTES];
        header[8..12].copy_from_slice(&len.to_le_bytes());
        header[12] = kind;
        header[32..40].copy_from_slice(&id.term.to_le_bytes());
        header[40..].copy_from_slice(&id.index.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(payload);
        out.resize(start + record_bytes(payload.len()), 0);
        let crc = crc32fast::hash(&out[start + HEADER_BYTES..]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }

    /// The record that this header belongs to; `vote` is its payload if it is a vote.
    fn of(header: &Header, vote: impl FnOnce() -> Bytes) -> Option<Record> {
        Some(match header.kind {
            1 => Record::Entry(header.id),
            2 => Record::Vote(vote()),
            3 => Record::Truncate(header.id),
            4 => Record::Clear,
            5 => Record::Purge(header.id),
            6 => Record::Mark,
            _ => return None,
        })
    }
}

/// Finishes the record at the start of `staged`, which is to stand at `offset` in the segment of `seed`.
pub(super) fn seal(staged: &mut [u8], seed: &Seed, offset: u64, lsn: Lsn, synced: Lsn) {
    assert!(synced < lsn, "a record cannot be durable before it is written");
    assert!(offset.is_multiple_of(ALIGNMENT as u64));
    let header: &mut [u8; HEADER_BYTES] = staged.first_chunk_mut().expect("a whole record");
    header[16..24].copy_from_slice(&lsn.0.to_le_bytes());
    header[24..32].copy_from_slice(&synced.0.to_le_bytes());
    let crc = seed.checksum(offset, header.last_chunk().expect("shorter than the header"));
    header[..4].copy_from_slice(&crc.to_le_bytes());
}

/// The record at the start of `staged`, as [`Record::encode`] left it, and its header.
pub(super) fn staged_record(staged: &[u8]) -> (Header, Record) {
    let header = Header::of(staged.first_chunk().expect("a whole record"));
    let vote = || {
        let payload = &staged[HEADER_BYTES..HEADER_BYTES + header.payload_bytes];
        Bytes::copy_from_slice(payload)
    };
    let record = Record::of(&header, vote).expect("encoded by this program");
    (header, record)
}

/// Reads the header of a record that would stand at `offset` in the segment of `seed` and begins with
/// `bytes`. `None` when there is no valid header.
pub(super) fn decode_header(seed: &Seed, offset: u64, bytes: &[u8]) -> Option<Header> {
    let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
    let kind = header[12];
    // Most of what is tried in a search is not a record, and shows it here.
    if !(1..=6).contains(&kind) || header[13..16] != [0; 3] {
        return None;
    }
    let after_crc = header.last_chunk().expect("shorter than the header");
    let is_valid = u32_at(header, 0) == seed.checksum(offset, after_crc);
    is_valid.then(|| Header::of(header)).filter(Header::is_possible)
}

/// Reads the record at `bytes[at..]`, of which `bytes[0]` stands at `base` in the segment of `seed`.
///
/// `None` when no valid record stands there. The payload, which comes last, shares `bytes`.
pub(super) fn decode(
    seed: &Seed,
    base: u64,
    bytes: &Bytes,
    at: usize,
) -> Option<(Header, Record, Bytes)> {
    let header = decode_header(seed, base + at as u64, bytes.get(at..)?)?;
    let start = at + HEADER_BYTES;
    let padded = bytes.get(start..at + header.len_bytes())?;
    if header.payload_crc != crc32fast::hash(padded) && !planted(Plant::TornTailAccepted) {
        return None;
    }
    let payload = bytes.slice(start..start + header.payload_bytes);
    // A copy, because a vote outlives the segment it was read from.
    let record = Record::of(&header, || Bytes::copy_from_slice(&payload))?;
    Some((header, record, payload))
}

impl Header {
    fn of(header: &[u8; HEADER_BYTES]) -> Header {
        Header {
            lsn: Lsn(u64_at(header, 16)),
            synced: Lsn(u64_at(header, 24)),
            payload_crc: u32_at(header, 4),
            payload_bytes: u32_at(header, 8) as usize,
            kind: header[12],
            id: LogId { term: u64_at(header, 32), index: u64_at(header, 40) },
        }
    }

    fn is_possible(&self) -> bool {
        self.lsn.0.max(self.synced.0).max(self.id.index) < MAX_NUMBER
    }

    /// All bytes of the record, the final zeros included.
    pub fn len_bytes(&self) -> usize {
        record_bytes(self.payload_bytes)
    }
}

fn u32_at(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes(*header[at..].first_chunk().expect("inside the header"))
}

fn u64_at(header: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(*header[at..].first_chunk().expect("inside the header"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Seed, Vec<u8>) {
        let seed = Seed::new(7, 3);
        let mut bytes = vec![0xaa; 16];
        Record::Entry(LogId { term: 2, index: 9 }).encode(b"hello", &mut bytes);
        seal(&mut bytes[16..], &seed, 4096, Lsn(12), Lsn(11));
        (seed, bytes)
    }

    #[test]
    fn every_kind_reads_back() {
        let id = LogId { term: 2, index: 9 };
        let payload = Bytes::from_static(b"payload");
        let none = Bytes::new();
        for (record, payload) in [
            (Record::Entry(id), &payload),
            (Record::Entry(id), &none),
            (Record::Vote(payload.clone()), &payload),
            (Record::Truncate(id), &none),
            (Record::Clear, &none),
            (Record::Purge(id), &none),
            (Record::Mark, &none),
        ] {
            let seed = Seed::new(1, 1);
            let mut bytes = Vec::new();
            record.encode(payload, &mut bytes);
            assert_eq!(staged_record(&bytes).1, record);
            seal(&mut bytes, &seed, 64, Lsn(5), Lsn(2));
            let (header, decoded, read) =
                decode(&seed, 64, &bytes.clone().into(), 0).expect("valid");
            assert_eq!((decoded, &read), (record, payload));
            assert_eq!((header.lsn, header.synced), (Lsn(5), Lsn(2)));
            assert_eq!(header.len_bytes(), bytes.len());
        }
    }

    #[test]
    fn the_layout_is_the_one_drawn() {
        let (_, bytes) = sample();
        let record = &bytes[16..];
        assert_eq!(record.len(), 56);
        assert_eq!(record[..4], 0x2f4f_a659_u32.to_le_bytes());
        assert_eq!(record[4..8], 0xff13_b51d_u32.to_le_bytes());
        assert_eq!(record[8..16], [5, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!([record[16], record[24], record[32], record[40]], [12, 11, 2, 9]);
        assert_eq!(&record[48..], b"hello\0\0\0");
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (seed, bytes) = sample();
        for bit in 16 * 8..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&seed, 4080, &damaged.into(), 16).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_record_is_valid_in_its_place_only() {
        let (seed, bytes) = sample();
        let bytes = Bytes::from(bytes);
        assert!(decode(&seed, 4080, &bytes, 16).is_some());
        assert!(decode(&seed, 4088, &bytes, 16).is_none(), "another offset");
        assert!(decode(&Seed::new(7, 4), 4080, &bytes, 16).is_none(), "another segment");
        assert!(decode(&Seed::new(8, 3), 4080, &bytes, 16).is_none(), "another log");
        assert!(decode(&seed, 4080, &bytes.slice(..bytes.len() - 1), 16).is_none(), "cut off");
        assert!(decode(&seed, 0, &Bytes::from(vec![0; 64]), 0).is_none(), "zeros");
    }
}
