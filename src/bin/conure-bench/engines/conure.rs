//! The project's engine: the tree of `conure.db` for loads and reads, the state machine with its log for
//! batches. What is durable is so by the log; the tree follows at checkpoints.

use std::hint::black_box;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use conuredb::codec;
use conuredb::storage::TreeId;
use conuredb::storage::backup::Export;
use conuredb::storage::checkpoint::{Checkpoint, CheckpointDone};
use conuredb::storage::compact::CompactProgress;
use conuredb::storage::cursor::Bounds;
use conuredb::storage::disk::{Disk, FileDisk};
use conuredb::storage::error::StorageError;
use conuredb::storage::kv::layout::{KvFacts, RECORD_HEAD_BYTES, encode_record_head};
use conuredb::storage::kv::{Entry, FILE, Kv, KvReader, KvSnapshot, Payload};
use conuredb::storage::snapshot::{Reader, Snapshot};
use conuredb::storage::store::{Store, StoreOptions};
use conuredb::storage::txn::PREFETCH_KEYS;
use conuredb::types::{Command, Condition, End, Key, KeyRange, Lifetime, LogId, Operation, Record};

use super::raft_log::RaftLog;
use super::{Beside, Durability, Machine, Options, Order, Pair, Pinned, Seen, Tree, View};
use crate::error::Failure;

/// The tree that is loaded and read, which in the state machine's file is that of the records.
const TREE: TreeId = TreeId::new(0);

/// The file of a tree that has the pairs of the run as they are. The state machine's records have a
/// head each, which no other engine stores; its file is made of this one when it is first opened.
const PLAIN_FILE: &str = "plain.db";

/// The term of all entries: nobody is elected here.
const TERM: u64 = 1;

/// How much of the log is applied in one commit when it is replayed.
const REPLAY_BYTES: u64 = 1 << 20;

/// Where the tree's file is, without the log.
pub fn data_dir(dir: &Path) -> PathBuf {
    dir.join("data")
}

fn disk(dir: &Path) -> Result<Arc<dyn Disk>, Failure> {
    Ok(Arc::new(FileDisk::open(data_dir(dir))?))
}

fn store_options(options: Options) -> StoreOptions {
    StoreOptions { cache_bytes: options.cache_bytes }
}

pub struct ConureTree {
    store: Store,
    reader: Reader,
    /// Bytes before each value.
    head_len: usize,
}

impl ConureTree {
    pub fn open(dir: &Path, options: Options) -> Result<ConureTree, Failure> {
        let disk = disk(dir)?;
        let (file, head_len) = match disk.list()?.iter().any(|name| name == FILE) {
            true => (FILE, RECORD_HEAD_BYTES),
            false => (PLAIN_FILE, 0),
        };
        let store = Store::open(&disk, file, store_options(options))?;
        Ok(ConureTree { reader: store.reader(), store, head_len })
    }
}

/// Makes the state machine's file of the plain tree, unless it is there.
fn make_records(disk: &Arc<dyn Disk>, options: Options) -> Result<(), Failure> {
    let names = disk.list()?;
    let has = |file: &str| names.iter().any(|name| name == file);
    if has(FILE) || !has(PLAIN_FILE) {
        return Ok(());
    }
    let plain = Store::open(disk, PLAIN_FILE, store_options(options))?;
    let mut store = Store::open(disk, FILE, store_options(options))?;
    let record = Record {
        create_revision: 1,
        mod_revision: 1,
        version: 1,
        end: End::Never,
        value: Bytes::new(),
    };
    let (head, len) = encode_record_head(&record.into());
    let mut txn = store.begin();
    for pair in plain.snapshot().range(TREE, Bounds::ALL) {
        let (key, value) = pair?;
        txn.put_parts(TREE, &key, &head[..len], &value)?;
    }
    // As if one command had written all of them, and its changes were trimmed since.
    txn.set_facts(KvFacts { revision: 1, trimmed: 1, ..KvFacts::default() }.encode());
    txn.commit()?;
    checkpoint(&mut store)?;
    Ok(disk.remove(PLAIN_FILE)?)
}

fn checkpoint(store: &mut Store) -> Result<(), Failure> {
    if let Some(checkpoint) = store.begin_checkpoint()? {
        store.finish_checkpoint(checkpoint.write())?;
    }
    Ok(())
}

impl Tree for ConureTree {
    fn load(&mut self, pairs: &mut dyn Iterator<Item = Pair>, order: Order) -> Result<(), Failure> {
        let mut txn = self.store.begin();
        loop {
            let window: Vec<Pair> = (&mut *pairs).take(PREFETCH_KEYS).collect();
            if window.is_empty() {
                break;
            }
            // As the state machine does with a batch. Keys in order all go to the last leaf.
            if let Order::Random = order {
                let keys: Vec<&[u8]> = window.iter().map(|pair| &pair.key[..]).collect();
                txn.prefetch(TREE, &keys)?;
            }
            for Pair { key, value } in &window {
                txn.put(TREE, key, value)?;
            }
        }
        txn.commit()?;
        checkpoint(&mut self.store)
    }

    fn view(&self) -> Result<Box<dyn View + '_>, Failure> {
        Ok(Box::new(self.reader.snapshot()))
    }

    fn get_fresh(&self, key: &[u8], seen: Seen<'_>) -> Result<(), Failure> {
        self.reader.peek().read(TREE, key, |value| seen(&value[self.head_len..]))?;
        Ok(())
    }
}

impl View for Snapshot {
    fn get(&self, key: &[u8], seen: Seen<'_>) -> Result<(), Failure> {
        self.read(TREE, key, seen)?;
        Ok(())
    }

    fn scan(
        &self,
        start: &[u8],
        limit: usize,
        seen: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Failure> {
        let range = KeyRange { start: Bytes::copy_from_slice(start), end: None };
        let mut left = limit;
        let walked = self.range(TREE, range).visit(|entry| {
            // Short values are lent where they lie; long ones are read.
            if entry.head().len() == entry.value_len() {
                seen(entry.key, entry.head());
            } else {
                match entry.value() {
                    Ok(value) => seen(entry.key, &value.into_bytes()),
                    Err(error) => return ControlFlow::Break(Err(error)),
                }
            }
            left -= 1;
            if left == 0 { ControlFlow::Break(Ok(())) } else { ControlFlow::Continue(()) }
        });
        Ok(walked?.unwrap_or(Ok(()))?)
    }
}

/// The file of [`data_dir`] with all of the state.
pub const STATE_FILE: &str = FILE;

/// The state that a machine left, pinned.
pub fn open_state(dir: &Path, options: Options) -> Result<KvSnapshot, Failure> {
    Ok(Kv::open(disk(dir)?, store_options(options))?.reader().snapshot())
}

/// Sends a state as it goes to another node.
pub fn stream(
    state: &KvSnapshot,
    to: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), Failure> {
    let mut export = Export::new(state.clone());
    while let Some(piece) = export.next_piece()? {
        to(&piece)?;
    }
    Ok(())
}

pub struct ConureMachine {
    writer: Mutex<Writer>,
    reader: KvReader,
}

/// What the one thread that applies has in a node.
struct Writer {
    kv: Kv,
    log: Option<RaftLog>,
    /// The last entry applied, and the last when a checkpoint was begun.
    applied: u64,
    checkpointed: u64,
    checkpoint_entries: u64,
}

impl ConureMachine {
    /// Opens the state machine; with durable commits also the log, and applies what is only there.
    pub fn open(
        dir: &Path,
        options: Options,
        durability: Durability,
    ) -> Result<ConureMachine, Failure> {
        let disk = disk(dir)?;
        make_records(&disk, options)?;
        let kv = Kv::open(disk, store_options(options))?;
        let applied = kv.reader().snapshot().applied().map_or(0, |id| id.index);
        let log = match durability {
            Durability::None => None,
            Durability::EachCommit => Some(RaftLog::open(&dir.join("log"))?),
        };
        let reader = kv.reader();
        let checkpoint_entries = options.checkpoint_entries;
        let mut writer = Writer { kv, log, applied, checkpointed: applied, checkpoint_entries };
        writer.replay()?;
        Ok(ConureMachine { writer: Mutex::new(writer), reader })
    }

    /// Applies a batch as a node does: from the log, if there is one.
    fn write(&self, operations: impl Iterator<Item = Operation>) -> Result<(), Failure> {
        let is_due = self.with_writer(|writer| writer.write(operations))?;
        if is_due { self.settle() } else { Ok(()) }
    }

    fn with_writer<T>(&self, work: impl FnOnce(&mut Writer) -> T) -> T {
        work(&mut self.writer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Writer {
    /// Returns whether a checkpoint is due.
    fn write(&mut self, operations: impl Iterator<Item = Operation>) -> Result<bool, Failure> {
        let commands = operations
            .map(|operation| Command { time_ms: 0, request_id: None, operation })
            .collect::<Vec<_>>();
        if let Some(log) = &mut self.log {
            let encoded = commands.iter().map(codec::encode).collect::<Result<Vec<_>, _>>()?;
            log.append(self.applied + 1, encoded.into_iter().map(Bytes::from))?;
        }
        self.apply(commands)?;
        // Who wants nothing durable says when there is to be a checkpoint.
        let entries = self.applied - self.checkpointed;
        Ok(self.log.is_some() && entries >= self.checkpoint_entries)
    }

    fn apply(&mut self, commands: Vec<Command>) -> Result<(), StorageError> {
        let entries = commands.into_iter().zip(self.applied + 1..).map(|(command, index)| Entry {
            id: LogId { term: TERM, index },
            payload: Payload::Command(command),
        });
        let entries: Vec<Entry> = entries.collect();
        let last = self.applied + entries.len() as u64;
        self.kv.apply(entries)?;
        self.applied = last;
        Ok(())
    }

    /// Applies what the log has beyond the tree, or lets the log begin where the tree ends.
    fn replay(&mut self) -> Result<(), Failure> {
        let Some(log) = &mut self.log else { return Ok(()) };
        log.begin_after(LogId { term: TERM, index: self.applied })?;
        loop {
            let log = self.log.as_ref().expect("seen above");
            let payloads = log.read_from(self.applied + 1, REPLAY_BYTES)?;
            if payloads.is_empty() {
                return Ok(());
            }
            let commands = payloads.iter().map(|payload| codec::decode(payload));
            let commands = commands.collect::<Result<Vec<Command>, _>>()?;
            self.apply(commands)?;
        }
    }

    fn begin_checkpoint(&mut self) -> Result<Option<(Checkpoint, u64)>, StorageError> {
        let applied = self.applied;
        Ok(self.kv.begin_checkpoint()?.map(|checkpoint| {
            self.checkpointed = applied;
            (checkpoint, applied)
        }))
    }

    /// The log gives up what the tree holds durably.
    fn finish_checkpoint(
        &mut self,
        written: Result<CheckpointDone, StorageError>,
        applied: u64,
    ) -> Result<(), Failure> {
        self.kv.finish_checkpoint(written)?;
        match &mut self.log {
            Some(log) => log.purge(LogId { term: TERM, index: applied }),
            None => Ok(()),
        }
    }
}

fn key(bytes: &Bytes) -> Key {
    Key::new(bytes.clone()).expect("keys of the run have a length that is allowed")
}

impl Machine for ConureMachine {
    fn commit(&self, batch: &[Pair]) -> Result<(), Failure> {
        self.write(batch.iter().map(|pair| Operation::Put {
            key: key(&pair.key),
            value: pair.value.clone(),
            condition: Condition::None,
            lifetime: Lifetime::Unbounded,
        }))
    }

    fn delete(&self, keys: &[Bytes]) -> Result<(), Failure> {
        self.write(
            keys.iter()
                .map(|bytes| Operation::Delete { key: key(bytes), condition: Condition::None }),
        )
    }

    /// A checkpoint. The writer is held for its beginning and its end only.
    fn settle(&self) -> Result<(), Failure> {
        let Some((checkpoint, applied)) = self.with_writer(Writer::begin_checkpoint)? else {
            return Ok(());
        };
        let written = checkpoint.write();
        self.with_writer(|writer| writer.finish_checkpoint(written, applied))
    }

    /// The steps of one compaction, the checkpoints that it asks for, and one of what was written beside
    /// its last steps.
    fn compact(self: Box<Self>, beside: Beside<'_>) -> Result<(), Failure> {
        loop {
            match self.with_writer(|it| it.kv.compact_step())? {
                CompactProgress::Stepped => {}
                CompactProgress::NeedsCheckpoint => self.settle()?,
                CompactProgress::Done => return self.settle(),
            }
            beside(&*self)?;
        }
    }

    fn read_all(&self) -> Result<usize, Failure> {
        let all = self.reader.snapshot().records(&KeyRange::default(), false, false);
        let mut records = 0;
        for record in all {
            black_box(record?);
            records += 1;
        }
        Ok(records)
    }

    fn pin(&self) -> Result<Box<dyn Pinned + '_>, Failure> {
        Ok(Box::new(self.reader.snapshot()))
    }

    fn get(&self, key: &[u8], seen: Seen<'_>) -> Result<(), Failure> {
        Pinned::get(&self.reader.snapshot(), key, seen)
    }
}

impl Pinned for KvSnapshot {
    fn get(&self, bytes: &[u8], seen: Seen<'_>) -> Result<(), Failure> {
        if let Some(record) = KvSnapshot::get(self, &key(&Bytes::copy_from_slice(bytes)))? {
            seen(&record.value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_beside_a_compaction_is_there_after_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options { cache_bytes: 1 << 20, checkpoint_entries: 1_000 };
        let open = || ConureMachine::open(dir.path(), options, Durability::None).expect("it opens");
        let pair = |number: u32| Pair {
            key: Bytes::copy_from_slice(&number.to_be_bytes()),
            value: Bytes::from_static(b"value"),
        };
        let mut written = 0;
        Box::new(open())
            .compact(&mut |machine| {
                written += 1;
                machine.commit(&[pair(written)])
            })
            .expect("it compacts");

        assert!(written > 0, "no step was taken");
        let reopened = open();
        for number in 1..=written {
            let mut value = None;
            reopened
                .get(&pair(number).key, &mut |found| value = Some(found.to_vec()))
                .expect("read");
            assert_eq!(value.as_deref(), Some(&b"value"[..]), "of {number} in {written}");
        }
    }
}
