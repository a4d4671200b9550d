//! The bytes of one record.
//!
//! All integers are little-endian. A record starts at a multiple of 8 in its segment:
//!
//! ```text
//!  offset  bytes  field
//!       0      4  crc      CRC-32 (see below)
//!       4      4  len      bytes of payload
//!       8      1  kind     1 entry, 2 vote, 3 truncate, 4 clear, 5 purge, 6 mark
//!       9      7  zeros
//!      16      8  lsn      number of this record, one more than that of the record before it
//!      24      8  synced   the records up to this number were durable when this one was written
//!      32      8  term     of the entry; of the last entry kept (truncate); of the last removed (purge)
//!      40      8  index    likewise; zero for the other kinds, as is the term
//!      48    len  payload  of an entry or a vote; the other kinds have none
//!  48+len   0..7  zeros    up to a multiple of 8
//! ```
//!
//! The checksum covers, in this order: the log's nonce, the segment's sequence number, the record's
//! offset in the segment (8 bytes each), and all of the record after the checksum, final zeros
//! included. So a record is valid in its place only. What a recycled segment still holds of its former
//! life fails, and not by luck: two inputs that differ in 32 neighbouring bits never share a CRC-32.
//! The nonce keeps a client from storing a value that contains a valid record.
//!
//! `synced` is what tells a torn tail from damage: a record that cannot be read was acknowledged if a
//! later one says so (`recovery.rs`).

use bytes::Bytes;

use super::{LogEntry, Lsn};
use crate::types::LogId;

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 48;

/// Records start at multiples of this, so that a search for them visits few places.
pub(super) const ALIGNMENT: usize = 8;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Entry(LogEntry),
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

/// A record read back.
#[derive(Debug)]
pub(super) struct Decoded {
    pub lsn: Lsn,
    pub synced: Lsn,
    pub record: Record,
    /// All bytes of it, the final zeros included.
    pub len_bytes: usize,
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

    fn checksum(&self, offset: u64, after_crc: &[u8]) -> u32 {
        let mut hasher = self.0.clone();
        hasher.update(&offset.to_le_bytes());
        hasher.update(after_crc);
        hasher.finalize()
    }
}

/// Bytes a record with such a payload takes in a segment.
pub(super) const fn record_bytes(payload_bytes: usize) -> usize {
    (HEADER_BYTES + payload_bytes).next_multiple_of(ALIGNMENT)
}

impl Record {
    pub fn payload(&self) -> &[u8] {
        match self {
            Record::Entry(entry) => &entry.payload,
            Record::Vote(vote) => vote,
            Record::Truncate(_) | Record::Clear | Record::Purge(_) | Record::Mark => &[],
        }
    }

    pub fn len_bytes(&self) -> usize {
        record_bytes(self.payload().len())
    }

    /// Appends the record to `out`; it will stand at `offset` in the segment of `seed`.
    pub fn encode(&self, out: &mut Vec<u8>, seed: &Seed, offset: u64, lsn: Lsn, synced: Lsn) {
        assert!(synced < lsn, "a record cannot be durable before it is written");
        assert!(offset.is_multiple_of(ALIGNMENT as u64));
        let zero = LogId { term: 0, index: 0 };
        let (kind, id) = match self {
            Record::Entry(entry) => (1, entry.id),
            Record::Vote(_) => (2, zero),
            Record::Truncate(last) => (3, *last),
            Record::Clear => (4, zero),
            Record::Purge(upto) => (5, *upto),
            Record::Mark => (6, zero),
        };
        let payload = self.payload();
        let len = u32::try_from(payload.len()).expect("bounded by the options");
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
        for word in [lsn.0, synced.0, id.term, id.index] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(payload);
        out.resize(start + self.len_bytes(), 0);
        let crc = seed.checksum(offset, &out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Reads the record at `bytes[at..]`, of which `bytes[0]` stands at `base` in the segment of `seed`.
///
/// `None` when no valid record stands there. The payload shares `bytes`.
pub(super) fn decode(seed: &Seed, base: u64, bytes: &Bytes, at: usize) -> Option<Decoded> {
    let rest = bytes.get(at..)?;
    if rest.len() < HEADER_BYTES {
        return None;
    }
    let payload_bytes = u32::from_le_bytes(*field(rest, 4)) as usize;
    if payload_bytes > rest.len() - HEADER_BYTES {
        return None;
    }
    let len_bytes = record_bytes(payload_bytes);
    let crc = u32::from_le_bytes(*field(rest, 0));
    if crc != seed.checksum(base + at as u64, rest.get(4..len_bytes)?) {
        return None;
    }
    let payload = bytes.slice(at + HEADER_BYTES..at + HEADER_BYTES + payload_bytes);
    let id = LogId { term: word(rest, 32), index: word(rest, 40) };
    let record = match rest[8] {
        1 => Record::Entry(LogEntry { id, payload }),
        2 => Record::Vote(payload),
        3 => Record::Truncate(id),
        4 => Record::Clear,
        5 => Record::Purge(id),
        6 => Record::Mark,
        _ => return None,
    };
    Some(Decoded { lsn: Lsn(word(rest, 16)), synced: Lsn(word(rest, 24)), record, len_bytes })
}

/// The number that the bytes at `at` would have if they were a record: cheap, and unverified.
pub(super) fn claimed_lsn(bytes: &[u8], at: usize) -> Option<Lsn> {
    let header = bytes.get(at..at + HEADER_BYTES)?;
    Some(Lsn(word(header, 16)))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*field(bytes, at))
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    bytes[at..].first_chunk().expect("the caller checked the length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Seed, Vec<u8>) {
        let seed = Seed::new(7, 3);
        let id = LogId { term: 2, index: 9 };
        let record = Record::Entry(LogEntry { id, payload: Bytes::from_static(b"hello") });
        let mut bytes = vec![0xaa; 16];
        record.encode(&mut bytes, &seed, 4096, Lsn(12), Lsn(11));
        (seed, bytes)
    }

    #[test]
    fn every_kind_reads_back() {
        let id = LogId { term: 2, index: 9 };
        let payload = Bytes::from_static(b"payload");
        for record in [
            Record::Entry(LogEntry { id, payload: payload.clone() }),
            Record::Vote(payload),
            Record::Truncate(id),
            Record::Clear,
            Record::Purge(id),
            Record::Mark,
        ] {
            let seed = Seed::new(1, 1);
            let mut bytes = Vec::new();
            record.encode(&mut bytes, &seed, 64, Lsn(5), Lsn(2));
            let decoded = decode(&seed, 64, &bytes.clone().into(), 0).expect("valid");
            assert_eq!(decoded.record, record);
            assert_eq!((decoded.lsn, decoded.synced), (Lsn(5), Lsn(2)));
            assert_eq!(decoded.len_bytes, bytes.len());
        }
    }

    #[test]
    fn the_layout_is_the_one_drawn() {
        let (_, bytes) = sample();
        let record = &bytes[16..];
        assert_eq!(record.len(), 56);
        assert_eq!(record[4..16], [5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!([record[16], record[24], record[32], record[40]], [12, 11, 2, 9]);
        assert_eq!(&record[48..], b"hello\0\0\0");
        assert_eq!(record[..4], 0x4693_e258_u32.to_le_bytes());
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
