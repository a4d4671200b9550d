//! openraft's log storage over the log of floor 1 and the log actor.
//!
//! Changes take effect in memory at once, through the shared [`Log`] handle, so entries are readable when
//! `append` returns. Durability comes from the log actor: [`Persist`] asks for it, and the answer
//! covers everything that was staged before. `save_vote` waits for it; `append` hands openraft's
//! callback over and returns.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use actix::Addr;
use bytes::Bytes;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{OptionalSend, alias::LogIdOf};
use tokio::sync::{oneshot, watch};

use super::propose::Turns;
use super::types::{Entry, TypeConfig, Vote, expected_bytes, log_id, raft_log_id};
use crate::actors::log::LogActor;
use crate::actors::messages::inside::Persist;
use crate::codec;
use crate::plants::{Plant, planted};
use crate::storage::log::{Log, LogEntry};

/// Bytes of entries read for one request to a peer or one step of applying. One larger entry is
/// read alone.
const READ_BYTES: u64 = 4 * 1024 * 1024;

/// The log as openraft sees it. Clones share the log.
#[derive(Clone)]
pub struct LogStore {
    log: Log,
    actor: Addr<LogActor>,
    turns: Arc<Turns>,
    end: watch::Sender<u64>,
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

impl LogStore {
    /// `turns` are told when what was appended is durable, and `end` the index behind the last entry.
    pub fn new(
        log: Log,
        actor: Addr<LogActor>,
        turns: Arc<Turns>,
        end: watch::Sender<u64>,
    ) -> LogStore {
        LogStore { log, actor, turns, end }
    }

    /// Waits until all that was staged is durable.
    async fn persist(&self) -> io::Result<()> {
        let (sender, done) = oneshot::channel();
        self.actor.do_send(Persist {
            done: Box::new(move |result| {
                let _ = sender.send(result);
            }),
        });
        done.await.map_err(|_| io::Error::other("the log actor is closed"))?
    }

    fn read(&self, start: u64, end: u64, max_bytes: u64) -> io::Result<Vec<Entry>> {
        let entries = self.log.read(start..end, max_bytes).map_err(other)?;
        entries.iter().map(|entry| codec::decode(&entry.payload).map_err(other)).collect()
    }

    /// The half-open index range of `range`, cut to what the log holds.
    fn bounds(&self, range: impl RangeBounds<u64>) -> (u64, u64) {
        let state = self.log.state();
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => end + 1,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        let first = state.purged.map_or(0, |id| id.index + 1);
        let next = state.last.map_or(0, |id| id.index + 1);
        (start.max(first), end.min(next))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (start, end) = self.bounds(range);
        if start >= end {
            return Ok(Vec::new());
        }
        self.read(start, end, u64::MAX)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.log.state().vote.map(|vote| codec::decode(&vote).map_err(other)).transpose()
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, READ_BYTES)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl futures_util::Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        use futures_util::stream::{self, StreamExt};

        let (start, end) = self.bounds(range);
        let store = self.clone();
        // Read in bounded steps: the range may cover the whole log after a restart.
        stream::unfold(start, move |next| {
            let step = (next < end).then(|| store.read(next, end, READ_BYTES));
            async move {
                let step = step?;
                let next = match &step {
                    Ok(entries) if !entries.is_empty() => next + entries.len() as u64,
                    _ => end,
                };
                let items: Vec<Result<Entry, io::Error>> = match step {
                    Ok(entries) => entries.into_iter().map(Ok).collect(),
                    Err(error) => vec![Err(error)],
                };
                Some((stream::iter(items), next))
            }
        })
        .flatten()
        .boxed()
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.log.state();
        let purged = state.purged.map(raft_log_id);
        Ok(LogState {
            last_purged_log_id: purged,
            last_log_id: state.last.map(raft_log_id).or(purged),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if planted(Plant::VoteNotPersisted) {
            return Ok(());
        }
        let bytes = Bytes::from(codec::encode(vote).map_err(other)?);
        self.log.save_vote(bytes).map_err(other)?;
        self.persist().await
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let encoded: Result<Vec<LogEntry>, io::Error> = entries
            .into_iter()
            .map(|entry| {
                let expected_bytes = expected_bytes([&entry]);
                let payload = codec::encode_expecting(&entry, expected_bytes).map_err(other)?;
                let payload = Bytes::from(payload);
                Ok(LogEntry { id: log_id(&entry.log_id), payload })
            })
            .collect();
        let encoded = encoded?;
        // All of consensus here waits with it, so a leader holds back long before (`propose.rs`).
        if !self.log.has_room_for(&encoded) {
            self.persist().await?;
        }
        let end = encoded.last().map(|entry| entry.id.index + 1);
        self.log.append(encoded).map_err(other)?;
        end.map(|end| self.end.send_replace(end));
        if planted(Plant::AckBeforeFlush) {
            callback.io_completed(Ok(()));
            self.actor.do_send(Persist { done: Box::new(|_| {}) });
            return Ok(());
        }
        let (turns, turn) = (self.turns.clone(), self.turns.begun());
        let done = move |result: Result<(), io::Error>| {
            turns.flushed(turn);
            callback.io_completed(result);
        };
        self.actor.do_send(Persist { done: Box::new(done) });
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<TypeConfig>>) -> Result<(), io::Error> {
        // Durable before anything else happens: a snapshot installed on top of entries that come back
        // after a crash would contradict them.
        self.log.truncate_after(last.map(|id| id.index)).map_err(other)?;
        self.end.send_replace(last.map_or(0, |id| id.index + 1));
        self.persist().await
    }

    async fn purge(&mut self, upto: LogIdOf<TypeConfig>) -> Result<(), io::Error> {
        self.log.purge(log_id(&upto)).map_err(other)?;
        // Nobody waits: a purge that a crash forgets is done again.
        self.actor.do_send(Persist { done: Box::new(|_| {}) });
        Ok(())
    }
}
