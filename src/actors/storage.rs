//! The storage actor: the only writer of the state machine.
//!
//! It applies committed entries in one copy-on-write commit for each batch, serves pinned states, and takes checkpoints.
//! A checkpoint is planned here in memory and written by the [`CheckpointActor`], on a thread of its own in a
//! real node, while applying goes on; nothing here waits for a disk except for a page that is not
//! cached, and for a snapshot that is being received.
//!
//! A checkpoint that finds the disk full is tried again until there is room, and whoever asked for it waits:
//! openraft ends when a snapshot fails, but bears a slow one, and keeps the log meanwhile. A snapshot that
//! comes from the leader and finds the disk full is refused, and the reserve is given back: the leader begins again.
//!
//! Checkpoints begin when Raft wants a snapshot, and before dirty pages fill half of the pool. When the disk
//! is slower than the writers, their batches wait for it, so that memory stays bounded.
//!
//! After a checkpoint that leaves much of the file free, or when somebody asks for it, a compaction runs: a step now
//! and then between the batches, and the checkpoints that it asks for.
//!
//! Reads never come here: [`crate::storage::kv::KvReader`] hands out states from any thread.

mod compaction;
mod hiding;
mod receive;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

pub use self::hiding::HidingView;
use self::receive::Receiving;
pub use self::view::PinnedView;
use super::OnFatal;
use super::messages::inside::{Apply, Close, GetReader, LastSnapshot, TakeSnapshot, WipeStore};
use super::space::Space;
use crate::metrics::{Metrics, SLOW_APPLY_MS};
use crate::storage::backup::Import;
use crate::storage::checkpoint::{Checkpoint, CheckpointDone};
use crate::storage::error::StorageError;
use crate::storage::kv::{Kv, KvSnapshot};
use crate::types::Outcome;

/// How long after a checkpoint that found the disk full the next one is tried.
const RETRY_CHECKPOINT_AFTER: Duration = Duration::from_secs(1);

/// Writes checkpoints, one at a time.
pub struct CheckpointActor;

#[derive(Message)]
#[rtype(result = "Result<CheckpointDone, StorageError>")]
struct WriteCheckpoint(Checkpoint);

impl Actor for CheckpointActor {
    type Context = Context<Self>;
}

impl Handler<WriteCheckpoint> for CheckpointActor {
    type Result = Result<CheckpointDone, StorageError>;

    fn handle(&mut self, message: WriteCheckpoint, _: &mut Self::Context) -> Self::Result {
        message.0.write()
    }
}

impl Handler<Close> for CheckpointActor {
    type Result = ();

    fn handle(&mut self, _: Close, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// A checkpoint begins when dirty pages take this part of the pool, whether Raft asks for one or not.
const CHECKPOINT_PART: u64 = 2;

/// While dirty pages take more than three quarters of the pool and a checkpoint is being written, a batch
/// is answered only when that is done: whoever writes faster than the disk waits for it, and memory stays
/// bounded.
fn is_crowded(dirty_bytes: u64, pool_bytes: u64) -> bool {
    dirty_bytes > pool_bytes / 4 * 3
}

/// Who waits for a checkpoint.
type SnapshotReply = oneshot::Sender<Result<KvSnapshot, io::Error>>;

/// See the module.
pub struct StorageActor {
    kv: Kv,
    writer: Addr<CheckpointActor>,
    /// The index after the last applied entry, for reads that wait.
    applied: watch::Sender<u64>,
    waiting: Vec<SnapshotReply>,
    receiving: Option<Receiving>,
    /// Received whole, by transfer number.
    received: BTreeMap<u64, Import>,
    transfers: u64,
    /// Counts wipes.
    life: u64,
    /// Counts the files that had the name of the store; a checkpoint of a former one means nothing.
    file: u64,
    /// Applied batches whose answers wait for the checkpoint in flight.
    held: Vec<oneshot::Sender<()>>,
    /// Whether the last checkpoint failed for want of room and the next is scheduled.
    retrying: bool,
    /// The file's length when the compaction under way began.
    compacting: Option<u64>,
    /// Whether its next step has a time.
    step_due: bool,
    /// Whether this is the end: nobody waits for room any more.
    closing: bool,
    space: Arc<Space>,
    metrics: Arc<Metrics>,
    on_fatal: OnFatal,
}

impl StorageActor {
    pub fn new(
        kv: Kv,
        writer: Addr<CheckpointActor>,
        applied: watch::Sender<u64>,
        space: Arc<Space>,
        metrics: Arc<Metrics>,
        on_fatal: OnFatal,
    ) -> StorageActor {
        StorageActor {
            kv,
            writer,
            applied,
            waiting: Vec::new(),
            receiving: None,
            received: BTreeMap::new(),
            transfers: 0,
            life: 0,
            file: 0,
            held: Vec::new(),
            retrying: false,
            compacting: None,
            step_due: false,
            closing: false,
            space,
            metrics,
            on_fatal,
        }
    }

    /// Turns an error that leaves the state in doubt into the end of the node.
    fn fatal(&self, error: StorageError) -> io::Error {
        (self.on_fatal)(error.to_string());
        io::Error::other(error)
    }

    fn check_life(&self, life: u64) -> Result<(), io::Error> {
        match life == self.life {
            true => Ok(()),
            false => Err(io::Error::other("the store was given to another Raft meanwhile")),
        }
    }

    /// Tells readers and metrics what is applied now.
    fn publish(&self) {
        let state = self.kv.reader().snapshot();
        let next = state.applied().map_or(0, |id| id.index + 1);
        self.metrics.revision.set(state.revision());
        self.metrics.applied_index.set(next.saturating_sub(1));
        self.metrics.keys.set(state.keys());
        self.metrics.leases.set(state.lease_count());
        let (changes, bytes) = state.kept_changes();
        self.metrics.oldest_revision.set(state.oldest_revision());
        self.metrics.history_changes.set(changes);
        self.metrics.history_bytes.set(bytes);
        self.publish_sizes();
        self.applied.send_replace(next);
    }

    /// Tells metrics how large the file is: without a write, too, a checkpoint may cut it.
    fn publish_sizes(&self) {
        let stats = self.kv.stats();
        self.metrics.db_file_bytes.set(stats.file_bytes);
        self.metrics.db_live_bytes.set(stats.live_bytes);
        self.metrics.db_held_bytes.set(stats.held_bytes);
        self.metrics.db_dirty_bytes.set(stats.dirty_bytes);
        self.metrics.cache_bytes.set(stats.cached_bytes);
    }

    fn count_applied(&self, entries: u64, elapsed: Duration) {
        self.metrics.apply.observe(elapsed);
        self.metrics.applied_entries.inc_by(entries);
        if elapsed >= Duration::from_millis(SLOW_APPLY_MS) {
            self.metrics.slow_applies.inc();
            log::debug!("{entries} entries took {elapsed:?} to apply");
        }
    }

    /// Begins a checkpoint unless one is in flight. With nothing new to write, the answer is the
    /// durable state, or the present one when nothing was ever written.
    fn checkpoint(&mut self, ctx: &mut Context<Self>) {
        match self.kv.begin_checkpoint() {
            Ok(Some(checkpoint)) => {
                let (begun, file) = (Instant::now(), self.file);
                let writing = self.writer.send(WriteCheckpoint(checkpoint)).into_actor(self);
                ctx.spawn(writing.map(move |written, actor, ctx| {
                    actor.metrics.checkpoint.observe(begun.elapsed());
                    actor.held.clear(); // lets go of who waits
                    match written {
                        Ok(written) if actor.file == file => actor.finish_checkpoint(written, ctx),
                        // Another store is in place by now, durable as it came.
                        _ => actor.answer_snapshots(),
                    }
                }));
            }
            Ok(None) if self.kv.checkpoint_in_flight() => {}
            Ok(None) => self.answer_snapshots(),
            Err(error) => self.checkpoint_failed(error, ctx),
        }
    }

    fn finish_checkpoint(
        &mut self,
        written: Result<CheckpointDone, StorageError>,
        ctx: &mut Context<Self>,
    ) {
        match self.kv.finish_checkpoint(written) {
            Ok(()) => {
                log::debug!("checkpoint: {:?}", self.kv.stats());
                self.publish_sizes();
                self.answer_snapshots();
                self.compact(ctx);
            }
            Err(error) => self.checkpoint_failed(error, ctx),
        }
    }

    fn checkpoint_failed(&mut self, error: StorageError, ctx: &mut Context<Self>) {
        if !error.is_disk_full() {
            return self.fail_snapshots(error);
        }
        self.space.note_full(&error);
        if self.closing {
            return self.refuse_snapshots(&error.to_string());
        }
        self.retrying = true;
        ctx.run_later(RETRY_CHECKPOINT_AFTER, |actor, ctx| {
            actor.retrying = false;
            if !actor.waiting.is_empty() || actor.compacting.is_some() {
                actor.checkpoint(ctx);
            }
        });
    }

    /// Begins a checkpoint in time, and returns what the batch just applied has to wait for.
    fn bound_dirty_pages(&mut self, ctx: &mut Context<Self>) -> Option<oneshot::Receiver<()>> {
        let (dirty_bytes, pool_bytes) = (self.kv.dirty_bytes(), self.kv.pool_bytes());
        if dirty_bytes >= pool_bytes / CHECKPOINT_PART && !self.retrying {
            self.checkpoint(ctx);
        }
        let waits = is_crowded(dirty_bytes, pool_bytes) && self.kv.checkpoint_in_flight();
        waits.then(|| {
            let (held, release) = oneshot::channel();
            self.held.push(held);
            release
        })
    }

    fn answer_snapshots(&mut self) {
        let state = self.kv.durable().unwrap_or_else(|| self.kv.reader().snapshot());
        self.waiting.drain(..).for_each(|reply| drop(reply.send(Ok(state.clone()))));
    }

    fn fail_snapshots(&mut self, error: StorageError) {
        let reason = self.fatal(error).to_string();
        self.refuse_snapshots(&reason);
    }

    fn refuse_snapshots(&mut self, reason: &str) {
        for reply in self.waiting.drain(..) {
            let _ = reply.send(Err(io::Error::other(reason.to_owned())));
        }
    }
}

impl Actor for StorageActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.metrics.cache_limit_bytes.set(self.kv.pool_bytes());
        self.publish();
    }
}

impl Handler<Apply> for StorageActor {
    type Result = ResponseFuture<Result<Vec<Outcome>, io::Error>>;

    fn handle(&mut self, message: Apply, ctx: &mut Self::Context) -> Self::Result {
        let applied = self.check_life(message.life).and_then(|()| {
            let (begun, entries) = (Instant::now(), message.entries.len() as u64);
            let applied = self.kv.apply(message.entries).inspect(|_| {
                self.count_applied(entries, begun.elapsed());
                self.publish();
            });
            applied.map_err(|error| self.fatal(error))
        });
        let crowded = applied.is_ok().then(|| self.bound_dirty_pages(ctx)).flatten();
        Box::pin(async move {
            if let Some(release) = crowded {
                let _ = release.await; // an error, too: the sender is dropped
            }
            applied
        })
    }
}

impl Handler<GetReader> for StorageActor {
    type Result = MessageResult<GetReader>;

    fn handle(&mut self, _: GetReader, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.kv.reader())
    }
}

impl Handler<LastSnapshot> for StorageActor {
    type Result = MessageResult<LastSnapshot>;

    fn handle(&mut self, _: LastSnapshot, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.kv.durable())
    }
}

impl Handler<TakeSnapshot> for StorageActor {
    type Result = ResponseFuture<Result<KvSnapshot, io::Error>>;

    fn handle(&mut self, _: TakeSnapshot, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.waiting.push(reply);
        self.checkpoint(ctx);
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| Err(io::Error::other("the storage actor is closed")))
        })
    }
}

impl Handler<WipeStore> for StorageActor {
    type Result = Result<u64, io::Error>;

    fn handle(&mut self, _: WipeStore, _: &mut Self::Context) -> Self::Result {
        self.life += 1;
        self.file += 1;
        self.end_compaction();
        self.give_up_receiving();
        self.received.clear();
        let wiped = self.kv.wipe().map(|()| self.publish());
        wiped.map(|()| self.life).map_err(|error| self.fatal(error))
    }
}

impl Handler<Close> for StorageActor {
    type Result = ResponseActFuture<Self, ()>;

    /// A last checkpoint makes the next start quick: it has nothing to replay.
    fn handle(&mut self, _: Close, ctx: &mut Self::Context) -> Self::Result {
        self.closing = true;
        let checkpointed = ctx.address().send(TakeSnapshot);
        let writer = self.writer.clone();
        let closing = async move {
            if let Ok(Err(error)) = checkpointed.await {
                log::error!("no checkpoint at close, the log will be replayed: {error}");
            }
            let _ = writer.send(Close).await;
        };
        Box::pin(closing.into_actor(self).map(|(), _, ctx| ctx.stop()))
    }
}
