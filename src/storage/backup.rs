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
//! [`Import`] builds a store beside the present one, a commit for each piece and a checkpoint now and then, so
//! that memory stays bounded, and puts it in place with one rename: a crash leaves the old state or
//! the new one. The result is compact, since keys come in order.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use super::disk::Disk;
use super::error::StorageError;
use super::kv::{self, AppliedState, Kv, KvSnapshot};
use super::snapshot::Snapshot;
use super::store::{Store, StoreOptions};
use super::{FACTS_BYTES, TreeId};
use crate::plants::{Plant, planted};
use crate::storage::cursor::{Lent, Range};

/// About how long a piece is.
const PIECE_BYTES: usize = 256 * 1024;

/// Dirty bytes after which an import writes a checkpoint.
const CHECKPOINT_BYTES: u64 = 32 * 1024 * 1024;

const MAGIC: [u8; 8] = *b"CONURESN";
const VERSION: u8 = 2;
const HEAD: u8 = 0;
const RECORDS: u8 = 1;
const TAIL: u8 = 2;

/// Bytes of a record before its key.
const RECORD_BYTES: usize = 1 + 2 + 1 + 4;
/// Bytes of the last piece after its kind.
const TAIL_BYTES: usize = 8 + FACTS_BYTES + 4;

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

    /// Whether this piece was the last one taken.
    pub fn has_just_taken(&self, sequence: u64) -> bool {
        sequence + 1 == self.sequence
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
            RECORDS if sequence > 0 => self.take_records(&rest, sequence)?,
            TAIL if sequence > 0 => {
                if rest.len() != TAIL_BYTES || rest.get_u64_le() != self.records {
                    return Err(damaged("it counts other records than came"));
                }
                self.crc.update(&piece[..piece.len() - 4]);
                let mut facts = [0; FACTS_BYTES];
                rest.copy_to_slice(&mut facts);
                if rest.get_u32_le() != self.crc.clone().finalize() {
                    return Err(damaged("the checksum of the whole does not match"));
                }
                let mut txn = self.store.begin();
                txn.set_facts(facts);
                txn.commit()?;
                self.finished = true;
            }
            _ => return Err(damaged("it is of another kind than was due")),
        }
        self.crc.update(&piece);
        self.sequence += 1;
        Ok(())
    }

    fn take_records(&mut self, mut rest: &[u8], sequence: u64) -> Result<(), ImportError> {
        let damaged = |what| ImportError::Damaged { sequence, what };
        let mut txn = self.store.begin();
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
            if !is_left_out(tree) {
                txn.put_parts(tree, key, head, body)?;
            }
            rest = behind;
            self.records += 1;
        }
        txn.commit()?;
        if self.store.dirty_bytes() >= CHECKPOINT_BYTES {
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
        let state = KvSnapshot::new(self.store.snapshot());
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

/// Whether a planted bug leaves a tree out of what is installed.
fn is_left_out(tree: TreeId) -> bool {
    planted(Plant::SnapshotWithoutMembership) && tree == kv::SYSTEM
        || planted(Plant::SessionsNotInSnapshot) && kv::is_of_sessions(tree)
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
