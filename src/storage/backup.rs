//! A whole state as a stream of pieces, and back: how a snapshot travels to another node.
//!
//! ```text
//! piece 0        "CONURESN" · version u8
//! piece 1 … n-1  records, each: tree u8 (place in `kv::TREES`) · key length u16 · value length u32 · key · value
//! piece n        number of records u64 · CRC-32 over all pieces before, in order
//! ```
//!
//! All integers are little-endian. A piece holds whole records, about `PIECE_BYTES` of them or one
//! larger one. The first byte of every piece says which of the three it is (0, 1, 2).
//!
//! [`Import`] builds a store beside the present one, a commit for each piece and a checkpoint now and then, so
//! that memory stays bounded, and puts it in place with one rename: a crash leaves the old state or
//! the new one. The result is compact, since keys come in order.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use super::disk::Disk;
use super::error::StorageError;
use super::kv::{self, AppliedState, Kv, KvSnapshot, TREES};
use super::snapshot::Snapshot;
use super::store::{Store, StoreOptions};
use crate::storage::cursor::Range;

/// About how long a piece is.
const PIECE_BYTES: usize = 256 * 1024;

/// Dirty bytes after which an import writes a checkpoint.
const CHECKPOINT_BYTES: u64 = 32 * 1024 * 1024;

const MAGIC: [u8; 8] = *b"CONURESN";
const VERSION: u8 = 1;
const HEAD: u8 = 0;
const RECORDS: u8 = 1;
const TAIL: u8 = 2;

const LEFTOVER_PREFIX: &str = "incoming-";

/// Why a received snapshot is not one.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("piece {found} of the snapshot came where piece {expected} was due")]
    OutOfOrder { expected: u64, found: u64 },
    #[error("piece {sequence} of the snapshot is damaged: {what}")]
    Damaged { sequence: u64, what: &'static str },
    #[error("the snapshot has format version {found}, this release reads version {VERSION}")]
    Version { found: u8 },
    #[error("the snapshot ended before its last piece")]
    Unfinished,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Walks a pinned state and yields it piece by piece.
pub struct Export {
    state: KvSnapshot,
    /// The tree being walked, and where.
    tree: usize,
    range: Option<Range<Snapshot>>,
    records: u64,
    crc: crc32fast::Hasher,
    next: u8,
}

impl Export {
    pub fn new(state: KvSnapshot) -> Result<Export, StorageError> {
        let range = Some(state.pairs(TREES[0])?);
        let crc = crc32fast::Hasher::new();
        Ok(Export { state, tree: 0, range, records: 0, crc, next: HEAD })
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
                self.fill(&mut piece)?;
                if self.range.is_none() {
                    self.next = TAIL;
                }
            }
            TAIL => {
                piece.put_u8(TAIL);
                piece.put_u64_le(self.records);
                piece.put_u32_le(self.crc.clone().finalize());
                self.next = TAIL + 1;
                return Ok(Some(piece));
            }
            _ => return Ok(None),
        }
        self.crc.update(&piece);
        Ok(Some(piece))
    }

    fn fill(&mut self, piece: &mut Vec<u8>) -> Result<(), StorageError> {
        while let Some(range) = &mut self.range {
            let Some(pair) = range.next() else {
                self.tree += 1;
                self.range = match TREES.get(self.tree) {
                    Some(tree) => Some(self.state.pairs(tree)?),
                    None => None,
                };
                continue;
            };
            let (key, value) = pair?;
            piece.put_u8(self.tree as u8);
            piece.put_u16_le(key.len() as u16);
            piece.put_u32_le(value.len() as u32);
            piece.put_slice(&key);
            piece.put_slice(&value);
            self.records += 1;
            if piece.len() >= PIECE_BYTES {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Builds a store from pieces. Dropping it gives up and removes its file.
pub struct Import {
    disk: Arc<dyn Disk>,
    /// The file being built; `None` once it is in place.
    name: Option<String>,
    store: Store,
    sequence: u64,
    records: u64,
    crc: crc32fast::Hasher,
    finished: bool,
}

impl Import {
    /// Begins a transfer; `number` names its file.
    pub fn begin(kv: &Kv, number: u64) -> Result<Import, StorageError> {
        let name = format!("{LEFTOVER_PREFIX}{number}.db");
        let options: StoreOptions = kv.options().clone();
        let store = Store::open(kv.disk(), &name, options)?;
        let crc = crc32fast::Hasher::new();
        let (disk, name) = (kv.disk().clone(), Some(name));
        Ok(Import { disk, name, store, sequence: 0, records: 0, crc, finished: false })
    }

    /// Takes the next piece.
    pub fn take_piece(&mut self, sequence: u64, piece: Bytes) -> Result<(), ImportError> {
        if sequence != self.sequence {
            return Err(ImportError::OutOfOrder { expected: self.sequence, found: sequence });
        }
        let damaged = |what| ImportError::Damaged { sequence, what };
        let mut rest = piece.clone();
        if rest.is_empty() || self.finished {
            return Err(damaged("it is empty, or behind the last"));
        }
        match rest.get_u8() {
            HEAD if sequence == 0 => {
                if rest.len() != 9 || rest[..8] != MAGIC {
                    return Err(damaged("it does not begin a snapshot"));
                }
                if rest[8] != VERSION {
                    return Err(ImportError::Version { found: rest[8] });
                }
            }
            RECORDS if sequence > 0 => self.take_records(rest, sequence)?,
            TAIL if sequence > 0 => {
                if rest.len() != 12 || rest.get_u64_le() != self.records {
                    return Err(damaged("it counts other records than came"));
                }
                if rest.get_u32_le() != self.crc.clone().finalize() {
                    return Err(damaged("the checksum of the whole does not match"));
                }
                self.finished = true;
            }
            _ => return Err(damaged("it is of another kind than was due")),
        }
        self.crc.update(&piece);
        self.sequence += 1;
        Ok(())
    }

    fn take_records(&mut self, mut rest: Bytes, sequence: u64) -> Result<(), ImportError> {
        let damaged = |what| ImportError::Damaged { sequence, what };
        let mut txn = self.store.begin();
        while !rest.is_empty() {
            if rest.len() < 7 {
                return Err(damaged("a record is cut off"));
            }
            let tree = TREES.get(usize::from(rest.get_u8())).ok_or(damaged("an unknown tree"))?;
            let (key_len, value_len) = (usize::from(rest.get_u16_le()), rest.get_u32_le() as usize);
            if rest.len() < key_len + value_len {
                return Err(damaged("a record is cut off"));
            }
            let key = rest.split_to(key_len);
            let value = rest.split_to(value_len);
            txn.put(tree, &key, &value)?;
            self.records += 1;
        }
        txn.commit()?;
        if self.store.stats().dirty_bytes >= CHECKPOINT_BYTES {
            self.checkpoint()?;
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), StorageError> {
        if let Some(checkpoint) = self.store.begin_checkpoint()? {
            self.store.finish_checkpoint(checkpoint.write())?;
        }
        Ok(())
    }

    /// Makes the received state durable and says what it holds of the log.
    pub fn finish(&mut self) -> Result<AppliedState, ImportError> {
        if !self.finished {
            return Err(ImportError::Unfinished);
        }
        self.checkpoint()?;
        let state = KvSnapshot::new(self.store.snapshot())?;
        Ok(state.applied_state()?)
    }

    /// Puts the received state in place of the present one.
    pub fn install(mut self, kv: &mut Kv) -> Result<(), StorageError> {
        let Some(name) = self.name.take() else { return Ok(()) };
        let io = |action, source: io::Error| StorageError::Io {
            file: self.disk.locate(&name),
            action,
            offset: 0,
            source,
        };
        let renamed = self.disk.rename(&name, kv::FILE);
        renamed.map_err(|source| io("put the snapshot in place", source))?;
        self.disk.sync_dir().map_err(|source| io("sync its directory", source))?;
        kv.reopen()
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // What stays behind is removed at the next start.
            let _ = self.disk.remove(name);
        }
    }
}

/// Removes what transfers that never ended left behind.
pub(super) fn remove_leftovers(disk: &dyn Disk) -> Result<(), StorageError> {
    let io = |source: io::Error| StorageError::Io {
        file: disk.locate(LEFTOVER_PREFIX),
        action: "remove what an unfinished transfer left",
        offset: 0,
        source,
    };
    for name in disk.list().map_err(io)? {
        if name.starts_with(LEFTOVER_PREFIX) {
            disk.remove(&name).map_err(io)?;
        }
    }
    Ok(())
}
