//! A whole state as a stream of pieces, and back: how a snapshot travels to another node.
//!
//! ```text
//! piece 0        "CONURESN" · version u8
//! piece 1 … n-1  records, each: tree u8 · key length u16 · head length u8 · value length u32 · key · value
//! piece n        number of records u64 · facts (64 bytes) · CRC-32 over all pieces before, in order
//! ```
//!
//! All integers are little-endian. The head is the part of a value that stays in its leaf when the value is
//! too long for one (0 where all of it is there). A piece holds whole records, about `PIECE_BYTES` of them or one
//! larger one. The first byte of every piece says which of the three it is (0, 1, 2).
//!
//! Between nodes a piece is a message. In a file the same pieces are a backup:
//!
//! ```text
//! import    a store made of pieces      file      pieces in a file, each with its length and checksum
//! restore   a data directory made of such a file, for a cluster of its own
//! ```

pub mod file;
mod import;
pub mod restore;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use bytes::{Buf, BufMut};

pub use self::import::Import;
pub(super) use self::import::remove_leftovers;
use super::error::StorageError;
use super::kv::KvSnapshot;
use super::snapshot::Snapshot;
use super::{FACTS_BYTES, Facts, TreeId};
use crate::storage::cursor::{Lent, Range};

/// About how long a piece is.
const PIECE_BYTES: usize = 256 * 1024;

const MAGIC: [u8; 8] = *b"CONURESN";
const VERSION: u8 = 3;

/// The oldest version that is read. It gives parts of values that are now stored as one.
const OLDEST_VERSION: u8 = 2;
const HEAD: u8 = 0;
const RECORDS: u8 = 1;
const TAIL: u8 = 2;

/// Bytes of a record before its key.
const RECORD_BYTES: usize = 1 + 2 + 1 + 4;
/// Bytes of the last piece after its kind.
const TAIL_BYTES: usize = 8 + FACTS_BYTES + 4;

/// Why a received snapshot is not one.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("piece {found} of the snapshot came where piece {expected} was due")]
    OutOfOrder { expected: u64, found: u64 },
    #[error("piece {sequence} of the snapshot is damaged: {what}")]
    Damaged { sequence: u64, what: &'static str },
    #[error(
        "the snapshot has format version {found}, this release reads {OLDEST_VERSION} to {VERSION}"
    )]
    Version { found: u8 },
    #[error("the snapshot ended before its last piece")]
    Unfinished,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl ImportError {
    /// Whether space on the disk would help.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, ImportError::Storage(error) if error.is_disk_full())
    }
}

/// Walks a pinned state and yields it piece by piece.
pub struct Export {
    state: KvSnapshot,
    /// The trees still to come, and where the walk of one is.
    trees: Box<dyn Iterator<Item = TreeId> + Send>,
    range: Option<(TreeId, Range<Snapshot>)>,
    records: u64,
    crc: crc32fast::Hasher,
    next: u8,
}

impl Export {
    pub fn new(state: KvSnapshot) -> Export {
        let trees = Box::new(TreeId::all());
        let crc = crc32fast::Hasher::new();
        Export { state, trees, range: None, records: 0, crc, next: HEAD }
    }

    /// The next piece; `None` after the last.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, StorageError> {
        let mut piece = Vec::with_capacity(PIECE_BYTES + 4096);
        match self.next {
            HEAD => {
                piece.put_u8(HEAD);
                piece.put_slice(&MAGIC);
                piece.put_u8(VERSION);
                self.next = RECORDS;
            }
            RECORDS => {
                piece.put_u8(RECORDS);
                if !self.fill(&mut piece)? {
                    self.next = TAIL;
                }
            }
            TAIL => {
                piece.put_u8(TAIL);
                piece.put_u64_le(self.records);
                piece.put_slice(self.state.facts());
                self.crc.update(&piece[..]);
                piece.put_u32_le(self.crc.clone().finalize());
                self.next = TAIL + 1;
                return Ok(Some(piece));
            }
            _ => return Ok(None),
        }
        self.crc.update(&piece);
        Ok(Some(piece))
    }

    /// Fills a piece with records; says whether there may be more.
    fn fill(&mut self, piece: &mut Vec<u8>) -> Result<bool, StorageError> {
        loop {
            let Some((tree, range)) = &mut self.range else {
                let Some(tree) = self.trees.next() else { return Ok(false) };
                self.range = Some((tree, self.state.entries(tree)));
                continue;
            };
            let records = &mut self.records;
            let full = range.visit(|entry| {
                *records += 1;
                match put_record(piece, *tree, &entry) {
                    Ok(()) if piece.len() < PIECE_BYTES => ControlFlow::Continue(()),
                    written => ControlFlow::Break(written),
                }
            })?;
            match full {
                Some(written) => return written.map(|()| true),
                None => self.range = None,
            }
        }
    }
}

fn put_record(piece: &mut Vec<u8>, tree: TreeId, entry: &Lent<'_>) -> Result<(), StorageError> {
    let head = entry.head();
    let is_whole = head.len() == entry.value_len();
    piece.put_u8(tree.index() as u8);
    piece.put_u16_le(entry.key.len() as u16);
    piece.put_u8(if is_whole { 0 } else { head.len() as u8 });
    piece.put_u32_le(entry.value_len() as u32);
    piece.put_slice(entry.key);
    piece.put_slice(head);
    if !is_whole {
        piece.put_slice(&entry.value()?.body);
    }
    Ok(())
}

/// A record of a piece, in the parts that it is stored in.
struct Record<'p> {
    tree: TreeId,
    key: &'p [u8],
    head: &'p [u8],
    body: &'p [u8],
}

/// What pieces must be: in order, of whole records, and of the checksum that the last one has.
#[derive(Default)]
struct Pieces {
    sequence: u64,
    records: u64,
    crc: crc32fast::Hasher,
    /// What the last piece says.
    facts: Option<Facts>,
}

impl Pieces {
    /// Takes the next piece, and hands its records on.
    fn take(
        &mut self,
        piece: &[u8],
        each: impl FnMut(Record<'_>) -> Result<(), StorageError>,
    ) -> Result<(), ImportError> {
        let sequence = self.sequence;
        let damaged = |what| ImportError::Damaged { sequence, what };
        let Some((&kind, body)) = piece.split_first().filter(|_| self.facts.is_none()) else {
            return Err(damaged("it is empty, or behind the last"));
        };
        match kind {
            HEAD if sequence == 0 => check_head(body)?,
            RECORDS if sequence > 0 => self.records += take_records(body, sequence, each)?,
            TAIL if sequence > 0 => self.facts = Some(self.take_tail(piece)?),
            _ => return Err(damaged("it is of another kind than was due")),
        }
        self.crc.update(piece);
        self.sequence += 1;
        Ok(())
    }

    fn take_tail(&mut self, piece: &[u8]) -> Result<Facts, ImportError> {
        let damaged = |what| ImportError::Damaged { sequence: self.sequence, what };
        let mut rest = &piece[1..];
        if rest.len() != TAIL_BYTES || rest.get_u64_le() != self.records {
            return Err(damaged("it counts other records than came"));
        }
        let mut facts = [0; FACTS_BYTES];
        rest.copy_to_slice(&mut facts);
        let mut crc = self.crc.clone();
        crc.update(&piece[..piece.len() - 4]);
        match rest.get_u32_le() == crc.finalize() {
            true => Ok(facts),
            false => Err(damaged("the checksum of the whole does not match")),
        }
    }
}

fn check_head(body: &[u8]) -> Result<(), ImportError> {
    match body.strip_prefix(&MAGIC) {
        Some([OLDEST_VERSION..=VERSION]) => Ok(()),
        Some([found]) => Err(ImportError::Version { found: *found }),
        _ => Err(ImportError::Damaged { sequence: 0, what: "it does not begin a snapshot" }),
    }
}

/// Hands on the records of a piece; says how many there were.
fn take_records(
    mut rest: &[u8],
    sequence: u64,
    mut each: impl FnMut(Record<'_>) -> Result<(), StorageError>,
) -> Result<u64, ImportError> {
    let damaged = |what| ImportError::Damaged { sequence, what };
    let mut count = 0;
    while !rest.is_empty() {
        if rest.len() < RECORD_BYTES {
            return Err(damaged("a record is cut off"));
        }
        let tree = usize::from(rest.get_u8());
        let tree = TreeId::all().nth(tree).ok_or(damaged("an unknown tree"))?;
        let key_len = usize::from(rest.get_u16_le());
        let (head_len, value_len) = (usize::from(rest.get_u8()), rest.get_u32_le() as usize);
        if rest.len() < key_len + value_len || value_len < head_len {
            return Err(damaged("a record is cut off"));
        }
        let (key, behind) = rest.split_at(key_len);
        let (value, behind) = behind.split_at(value_len);
        let (head, body) = value.split_at(head_len);
        each(Record { tree, key, head, body })?;
        rest = behind;
        count += 1;
    }
    Ok(count)
}
