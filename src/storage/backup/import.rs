//! A store made of the pieces of a snapshot.
//!
//! It is built beside the present one, a commit for each piece and a checkpoint now and then, so that memory stays
//! bounded, and put in place with one rename: a crash leaves the old state or the new one. The result is compact,
//! since keys come in order.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::{ImportError, Pieces};
use crate::plants::{Plant, planted};
use crate::storage::TreeId;
use crate::storage::disk::Disk;
use crate::storage::error::StorageError;
use crate::storage::kv::layout::{KvFacts, encode_log_id};
use crate::storage::kv::{self, AppliedState, Kv, KvSnapshot};
use crate::storage::store::{Store, StoreOptions};
use crate::types::LogId;

/// Dirty bytes after which an import writes a checkpoint.
const CHECKPOINT_BYTES: u64 = 32 * 1024 * 1024;

const LEFTOVER_PREFIX: &str = "incoming-";

/// Builds a store from pieces. Dropping it gives up and removes its file.
pub struct Import {
    disk: Arc<dyn Disk>,
    /// The file being built; `None` once it is in place.
    name: Option<String>,
    store: Store,
    pieces: Pieces,
}

impl Import {
    /// Begins a transfer; `number` names its file.
    pub fn begin(kv: &Kv, number: u64) -> Result<Import, StorageError> {
        Import::on(kv.disk(), kv.options().clone(), number)
    }

    /// Begins a store for a directory that no [`Kv`] is open in.
    pub(super) fn on(
        disk: &Arc<dyn Disk>,
        options: StoreOptions,
        number: u64,
    ) -> Result<Import, StorageError> {
        let name = format!("{LEFTOVER_PREFIX}{number}.db");
        let opened = Store::open(disk, &name, options);
        if opened.is_err() {
            let _ = disk.remove(&name);
        }
        let store = opened?;
        Ok(Import { disk: disk.clone(), name: Some(name), store, pieces: Pieces::default() })
    }

    /// Whether this piece was the last one taken.
    pub fn has_just_taken(&self, sequence: u64) -> bool {
        sequence + 1 == self.pieces.sequence
    }

    /// Takes the next piece.
    pub fn take_piece(&mut self, sequence: u64, piece: Bytes) -> Result<(), ImportError> {
        if sequence != self.pieces.sequence {
            return Err(ImportError::OutOfOrder {
                expected: self.pieces.sequence,
                found: sequence,
            });
        }
        let mut txn = self.store.begin();
        self.pieces.take(&piece, |record| {
            if !is_left_out(record.tree) {
                txn.put_parts(record.tree, record.key, record.head, record.body)?;
            }
            Ok(())
        })?;
        if let Some(facts) = self.pieces.facts {
            txn.set_facts(facts);
        }
        txn.commit()?;
        if self.store.dirty_bytes() >= CHECKPOINT_BYTES {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Makes the received state the beginning of a log of its own: what was applied has its effect and no place any
    /// more, and the first entry of the new log is thought to be this membership.
    pub(super) fn begin_anew(&mut self, membership: &[u8]) -> Result<(), StorageError> {
        let mut txn = self.store.begin();
        let mut facts = KvFacts::decode(txn.facts());
        // Behind all indexes that the state holds; before every term that will be.
        let id = LogId { term: 0, index: facts.applied.map_or(0, |last| last.index + 1) };
        facts.applied = Some(id);
        txn.put(kv::SYSTEM, kv::MEMBERSHIP, &[&encode_log_id(id)[..], membership].concat())?;
        txn.delete(kv::SYSTEM, kv::incarnations::INCARNATIONS)?;
        txn.set_facts(facts.encode());
        txn.commit()?;
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
        if self.pieces.facts.is_none() {
            return Err(ImportError::Unfinished);
        }
        let state = KvSnapshot::new(self.store.snapshot());
        state.check()?;
        self.checkpoint()?;
        Ok(state.applied_state()?)
    }

    /// Gives the file the name of the store.
    pub(super) fn place(mut self) -> Result<(), StorageError> {
        let Some(name) = self.name.take() else { return Ok(()) };
        let io = |action, source: io::Error| StorageError::Io {
            file: self.disk.locate(&name),
            action,
            offset: 0,
            source,
        };
        let renamed = self.disk.rename(&name, kv::FILE);
        renamed.map_err(|source| io("put the snapshot in place", source))?;
        self.disk.sync_dir().map_err(|source| io("sync its directory", source))
    }

    /// Puts the received state in place of the present one.
    pub fn install(self, kv: &mut Kv) -> Result<(), StorageError> {
        self.place()?;
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
pub fn remove_leftovers(disk: &dyn Disk) -> Result<(), StorageError> {
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
