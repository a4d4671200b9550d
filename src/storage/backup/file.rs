//! A backup as a file: the pieces of a snapshot, each with its length and a checksum of its own.
//!
//! ```text
//! header   64 bytes: what it is of, see below, with a checksum
//! frame    length u32 · CRC-32 u32 over number u64 and piece · piece
//!    ⋮     numbered from 0, without gaps; the last one holds the last piece, and nothing follows it
//! ```
//!
//! So whoever reads it knows at every byte whether what came so far is whole, says where it is not, and tells a
//! backup that broke off from one that is complete: the last piece counts all records and sums all pieces.
//! Nothing needs to be read twice, and no more than a piece is in memory, so it can come through a pipe.
//!
//! Left out: compression and encryption, which other programs do to a stream.

use std::io::{self, Read};

use bytes::{Buf, BufMut, Bytes};

use super::{Export, ImportError, Pieces, TAIL};
use crate::codec::MAX_ENCODED_BYTES;
use crate::storage::TreeId;
use crate::storage::error::StorageError;
use crate::storage::kv::KvSnapshot;
use crate::storage::kv::layout::KvFacts;
use crate::storage::root::TREES;
use crate::types::{ClusterId, LogId, Revision};

const MAGIC: [u8; 8] = *b"CONUREBK";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 64;
const FRAME_BYTES: usize = 4 + 4;

/// Longest piece that is taken: what a message between nodes may have, and pieces are such messages.
const MAX_PIECE_BYTES: usize = MAX_ENCODED_BYTES;

/// How many bytes of a file that is no backup are told.
const FOREIGN_BYTES: usize = 8;

/// What a backup says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// The cluster that it was taken of.
    pub cluster_id: ClusterId,
    pub revision: Revision,
    /// The last log entry whose effect it holds.
    pub applied: LogId,
    /// When it was taken, by the clock of the node that was asked.
    pub taken_at_ms: u64,
}

/// Why bytes are no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("cannot read it at byte {offset}: {source}")]
    Read { offset: u64, source: io::Error },
    #[error("it is no backup of ConureDB: it begins with {found}")]
    Foreign { found: String },
    #[error("it has format version {found}, this release reads version {VERSION}")]
    Version { found: u8 },
    #[error("it is damaged at byte {offset}: {what}; take another copy of it")]
    Damaged { offset: u64, what: String },
    #[error("it ends at byte {offset}, before its end: it broke off when it was taken or copied")]
    Truncated { offset: u64 },
    #[error("something follows it from byte {offset} on, where it should end")]
    Trailing { offset: u64 },
    /// It is whole, and what it is to become cannot be written.
    #[error(transparent)]
    Storage(StorageError),
}

impl About {
    /// Reference of the fields: docs/FORMAT.md, "backup".
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let mut out = &mut header[..];
        out.put_slice(&MAGIC);
        out.put_u32_le(u32::from(VERSION));
        out.put_u128_le(self.cluster_id.0);
        out.put_u64_le(self.revision);
        out.put_u64_le(self.applied.term);
        out.put_u64_le(self.applied.index);
        out.put_u64_le(self.taken_at_ms);
        let crc = crc32fast::hash(&header[..HEADER_BYTES - 4]);
        header[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    fn decode(header: &[u8; HEADER_BYTES]) -> Result<About, BackupError> {
        let damaged = |what: &str| BackupError::Damaged { offset: 0, what: what.to_owned() };
        if header[..8] != MAGIC {
            return Err(foreign(header));
        }
        let (summed, mut crc) = header.split_at(HEADER_BYTES - 4);
        // The version is looked at first: another one may have its checksum elsewhere.
        if header[8] != VERSION {
            return Err(BackupError::Version { found: header[8] });
        }
        if crc32fast::hash(summed) != crc.get_u32_le() {
            return Err(damaged("the checksum of its header does not match"));
        }
        let mut fields = &summed[12..];
        Ok(About {
            cluster_id: ClusterId(fields.get_u128_le()),
            revision: fields.get_u64_le(),
            applied: LogId { term: fields.get_u64_le(), index: fields.get_u64_le() },
            taken_at_ms: fields.get_u64_le(),
        })
    }
}

fn foreign(bytes: &[u8]) -> BackupError {
    let shown = &bytes[..bytes.len().min(FOREIGN_BYTES)];
    BackupError::Foreign { found: format!("\"{}\"", shown.escape_ascii()) }
}

fn checksum(number: u64, piece: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&number.to_le_bytes());
    crc.update(piece);
    crc.finalize()
}

/// Makes a backup of a pinned state, chunk by chunk.
pub struct Backup {
    about: About,
    export: Export,
    header: Option<Bytes>,
    /// The piece whose frame was begun.
    piece: Option<Bytes>,
    number: u64,
}

impl Backup {
    /// A backup of this state, if it holds anything at all of a log.
    pub fn new(state: KvSnapshot, cluster_id: ClusterId, taken_at_ms: u64) -> Option<Backup> {
        let (applied, revision) = (state.applied()?, state.revision());
        let about = About { cluster_id, revision, applied, taken_at_ms };
        let header = Some(Bytes::copy_from_slice(&about.encode()));
        Some(Backup { about, export: Export::new(state), header, piece: None, number: 0 })
    }

    pub fn about(&self) -> &About {
        &self.about
    }

    /// The bytes that come next, never none of them; `None` at the end.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, StorageError> {
        if let Some(begun) = self.header.take().or_else(|| self.piece.take()) {
            return Ok(Some(begun));
        }
        let Some(piece) = self.export.next_piece()? else { return Ok(None) };
        let mut frame = Vec::with_capacity(FRAME_BYTES);
        frame.put_u32_le(piece.len() as u32);
        frame.put_u32_le(checksum(self.number, &piece));
        self.piece = Some(piece.into());
        self.number += 1;
        Ok(Some(frame.into()))
    }
}

/// Reads a backup, and checks everything that it reads.
pub struct BackupReader<R> {
    from: R,
    about: About,
    /// Bytes read so far.
    offset: u64,
    number: u64,
    has_ended: bool,
}

impl<R: Read> BackupReader<R> {
    /// Reads the header.
    pub fn open(mut from: R) -> Result<BackupReader<R>, BackupError> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        take(&mut from, HEADER_BYTES, &mut header, 0)?;
        let Some(whole) = header.first_chunk() else {
            return match header.starts_with(&MAGIC) || MAGIC.starts_with(&header) {
                true => Err(BackupError::Truncated { offset: header.len() as u64 }),
                false => Err(foreign(&header)),
            };
        };
        let about = About::decode(whole)?;
        let offset = HEADER_BYTES as u64;
        Ok(BackupReader { from, about, offset, number: 0, has_ended: false })
    }

    pub fn about(&self) -> &About {
        &self.about
    }

    /// The next piece; `None` at the end, where nothing may follow.
    fn next_piece(&mut self) -> Result<Option<Bytes>, BackupError> {
        let mut frame = Vec::with_capacity(FRAME_BYTES);
        let begin = self.offset;
        self.take(FRAME_BYTES, &mut frame)?;
        if self.has_ended {
            return match frame.is_empty() {
                true => Ok(None),
                false => Err(BackupError::Trailing { offset: begin }),
            };
        }
        let Some(mut head) = frame.first_chunk::<FRAME_BYTES>().map(|head| &head[..]) else {
            return Err(BackupError::Truncated { offset: self.offset });
        };
        let (len, crc) = (head.get_u32_le() as usize, head.get_u32_le());
        if len == 0 || len > MAX_PIECE_BYTES {
            let what = format!("a piece of {len} bytes, where it has 1 to {MAX_PIECE_BYTES}");
            return Err(BackupError::Damaged { offset: begin, what });
        }
        // It grows with what really comes: the length is not known to be right yet.
        let mut piece = Vec::new();
        self.take(len, &mut piece)?;
        if piece.len() < len {
            return Err(BackupError::Truncated { offset: self.offset });
        }
        if checksum(self.number, &piece) != crc {
            let what = format!("the checksum of the {len} bytes behind does not match");
            return Err(BackupError::Damaged { offset: begin, what });
        }
        self.number += 1;
        self.has_ended = piece[0] == TAIL;
        Ok(Some(piece.into()))
    }

    /// Reads so many bytes, or as many as there are.
    fn take(&mut self, len: usize, into: &mut Vec<u8>) -> Result<(), BackupError> {
        self.offset += take(&mut self.from, len, into, self.offset)?;
        Ok(())
    }

    /// Hands on each piece with its number, and says at the end whether all of them make what the header tells.
    pub fn each_piece(
        &mut self,
        mut each: impl FnMut(u64, Bytes) -> Result<(), ImportError>,
    ) -> Result<(), BackupError> {
        loop {
            let (begin, number) = (self.offset, self.number);
            let Some(piece) = self.next_piece()? else { return Ok(()) };
            if self.has_ended {
                self.check_agreed(&piece, begin)?;
            }
            each(number, piece).map_err(|error| match error {
                ImportError::Storage(error) => BackupError::Storage(error),
                error => BackupError::Damaged { offset: begin, what: error.to_string() },
            })?;
        }
    }

    /// The facts of the last piece are what the header says.
    fn check_agreed(&self, tail: &[u8], offset: u64) -> Result<(), BackupError> {
        let facts = tail.get(1 + 8..).and_then(|facts| facts.first_chunk());
        let facts = facts.map(KvFacts::decode);
        let About { revision, applied, .. } = self.about;
        match facts.is_some_and(|it| it.revision == revision && it.applied == Some(applied)) {
            true => Ok(()),
            false => {
                let what = "its end is of another state than its header".to_owned();
                Err(BackupError::Damaged { offset, what })
            }
        }
    }
}

fn take(
    from: &mut impl Read,
    len: usize,
    into: &mut Vec<u8>,
    offset: u64,
) -> Result<u64, BackupError> {
    let read = from.by_ref().take(len as u64).read_to_end(into);
    let failed = |source| BackupError::Read { offset: offset + into.len() as u64, source };
    read.map(|len| len as u64).map_err(failed)
}

/// What a backup holds, all of which was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    pub about: About,
    pub bytes: u64,
    pub pieces: u64,
    /// Entries of each tree, by its number.
    pub trees: [u64; TREES],
}

impl Contents {
    /// Entries of all trees.
    pub fn records(&self) -> u64 {
        self.trees.iter().sum()
    }

    /// The entries of a tree.
    pub fn entries(&self, tree: TreeId) -> u64 {
        self.trees[tree.index()]
    }
}

/// Reads all of a backup and checks it.
pub fn verify(from: impl Read) -> Result<Contents, BackupError> {
    let mut reader = BackupReader::open(from)?;
    let (mut pieces, mut trees) = (Pieces::default(), [0; TREES]);
    reader.each_piece(|_, piece| {
        pieces.take(&piece, |record| {
            trees[record.tree.index()] += 1;
            Ok(())
        })
    })?;
    let BackupReader { about, offset: bytes, number: pieces, .. } = reader;
    Ok(Contents { about, bytes, pieces, trees })
}
