//! The way of commands into the log: those of one moment travel as one entry.
//!
//! What an entry costs, it costs on every node and whatever it holds: openraft's bookkeeping, an encoding for the log
//! and for each peer, a place in a batch, a flush. So commands queue up here, and one task makes an entry of all that wait. A
//! command alone goes at once. While an entry is on its way to this node's disk, what comes waits for the next one: its
//! own flush would not begin any sooner. The entry's turn ends with that flush, or when it is committed without it, so
//! that a leader whose disk is slow goes on at the speed of its followers. Then the next one goes if it has as many commands as
//! are not committed yet, and as many as the clients who come in step will bring (`pace.rs`), or is large already; with
//! fewer it waits for more, or for a commit, but not longer than two milliseconds. So many clients make few large
//! entries, and a commit that takes long, over a network that is slow, holds nobody up. An entry that is full is followed
//! at once. Either only while this node's disk keeps up: when much waits for it, the next entry waits until less does, as
//! long as this node leads: who lost the lead meanwhile hears of it.
//!
//! The outcomes come back as they were proposed, one for each command of an entry. An entry is applied whole or not at
//! all, so what is known of one that failed holds of each of its commands.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal};
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use openraft::type_config::alias::OneshotReceiverOf;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::batch::{Batch, Proposal};
use super::pace::Pace;
use super::purge::CatchUps;
use super::types::{Outcomes, Raft, Sealed, TypeConfig};
use super::write::Attempt;
use crate::actors::messages::RequestError;
use crate::actors::peer::Spawner;
use crate::storage::log::Log;
use crate::types::Command;

/// Commands that may wait for an entry: more than clients and peers may have under way by default.
const QUEUE_COMMANDS: usize = 8 * 1024;

/// How often a proposer that waits for a disk that lags looks whether it leads still.
const CATCH_UP: Duration = Duration::from_secs(1);

/// How long an entry waits at most to become larger.
const HOLD: Duration = Duration::from_millis(2);

/// For so long after a read peers hear at once what is committed: the read's own node may be one of them, and more reads may
/// follow.
const HURRY: Duration = Duration::from_millis(10);

/// A Raft that runs, and the way of commands into it.
pub struct Running {
    raft: Raft,
    proposals: mpsc::Sender<Proposal>,
    hurry_until: watch::Sender<Instant>,
    catch_ups: CatchUps,
}

impl Deref for Running {
    type Target = Raft;

    fn deref(&self) -> &Raft {
        &self.raft
    }
}

impl Running {
    /// `turns` are those that the log of this Raft tells of its flushes, `hurry_until` is what its network listens to, and
    /// `catch_ups` what it tells.
    pub fn new(
        raft: Raft,
        log: &Log,
        turns: Arc<Turns>,
        hurry_until: watch::Sender<Instant>,
        catch_ups: CatchUps,
        spawner: &Spawner,
    ) -> Running {
        let (proposals, queue) = mpsc::channel(QUEUE_COMMANDS);
        let (raft_of_queue, log) = (raft.clone(), log.clone());
        let proposer = Proposer { raft: raft_of_queue, log, queue, left_over: None, turns };
        spawner.spawn(proposer.run());
        Running { raft, proposals, hurry_until, catch_ups }
    }

    /// The followers that the log is kept for.
    pub fn catch_ups(&self) -> &CatchUps {
        &self.catch_ups
    }

    /// Has peers asked and told without a pause for a while: reads wait for it.
    pub fn hurry(&self) {
        self.hurry_until.send_replace(Instant::now() + HURRY);
    }

    /// Proposes a command on this node, which leads or believes so, and waits for its outcome.
    pub async fn propose(&self, command: Command, deadline: Instant) -> Attempt {
        let (reply, answer) = oneshot::channel();
        let queued = self.proposals.send(Proposal { command, reply });
        match timeout_at(deadline, queued).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Attempt::NotTaken { reason: "this node is closing".into() },
            Err(_) => {
                let waiting_for = "a place among the writes that wait for the log".into();
                return Attempt::Refused(RequestError::TimedOut { waiting_for });
            }
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(attempt)) => attempt,
            Ok(Err(_)) => Attempt::Unknown { reason: "consensus stopped".into() },
            Err(_) => Attempt::Unknown { reason: "no quorum acknowledged it in time".into() },
        }
    }
}

/// What the next entry waits for.
#[derive(Clone, Copy)]
enum Turn {
    /// That one has ended.
    Ends(u64),
    /// That the log lags no more, or that this node does not lead any more.
    CatchesUp,
}

/// Entries that were proposed, counted, up to which of them the next need not wait any more, and flushes.
pub struct Turns {
    begun: AtomicU64,
    ended: watch::Sender<u64>,
    flushes: watch::Sender<()>,
}

impl Default for Turns {
    fn default() -> Turns {
        let (ended, flushes) = (watch::Sender::new(0), watch::Sender::new(()));
        Turns { begun: AtomicU64::new(0), ended, flushes }
    }
}

impl Turns {
    fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The turn of the entry that was proposed last.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// Ends a turn and those before it, whose entries are flushed.
    pub fn flushed(&self, turn: u64) {
        self.flushes.send_replace(());
        self.end(turn);
    }

    fn watch(&self) -> Watched {
        Watched { ended: self.ended.subscribe(), flushes: self.flushes.subscribe() }
    }

    /// Ends a turn and those before it.
    fn end(&self, turn: u64) {
        self.ended.send_if_modified(|ended| {
            let is_news = turn > *ended;
            *ended = turn.max(*ended);
            is_news
        });
    }
}

/// An entry that is committed, or was refused.
struct Committed {
    taken: Result<(), Fatal<TypeConfig>>,
    is_committed: bool,
    completed: OneshotReceiverOf<TypeConfig, ClientWriteResult<TypeConfig>>,
    waiting: Vec<oneshot::Sender<Attempt>>,
}

impl Committed {
    /// Waits until it is applied, and tells those who wait.
    async fn answer(self) {
        let result = match self.taken {
            Ok(()) => self.completed.await.map_err(|_| Fatal::Stopped),
            Err(fatal) => Err(fatal),
        };
        tell(self.waiting, result);
    }
}

struct Proposer {
    raft: Raft,
    log: Log,
    queue: mpsc::Receiver<Proposal>,
    /// The command for which the last entry had no room.
    left_over: Option<Proposal>,
    turns: Arc<Turns>,
}

impl Proposer {
    /// Runs until nobody can propose any more.
    async fn run(mut self) {
        let (mut committing, mut answering) = (FuturesUnordered::new(), FuturesUnordered::new());
        let record_bytes = self.log.max_payload_bytes();
        let mut turns = self.turns.watch();
        let mut turn = None;
        let mut gathered = Batch::new(record_bytes);
        // Commands of the entries that are committing.
        let mut uncommitted = 0;
        let mut pace = Pace::default();
        // Until when what is gathered waits to become more.
        let mut held_until = None;
        loop {
            tokio::select! {
                biased;
                Some(()) = answering.next() => continue,
                Some(entry) = committing.next() => {
                    let entry: Committed = entry;
                    uncommitted -= entry.waiting.len();
                    if entry.is_committed {
                        let waiting = gathered.len() + self.queue.len();
                        pace.committed(entry.waiting.len(), uncommitted, waiting);
                    }
                    answering.push(entry.answer());
                }
                () = turns.pass(turn, &self.log, &self.raft), if turn.is_some() => turn = None,
                () = passing_of(held_until) => {}
                first = next(&mut self.left_over, &mut self.queue), if turn.is_none() => {
                    let Some(first) = first else { break };
                    self.gather(first, &mut gathered);
                }
            }
            if turn.is_some() || gathered.is_empty() {
                continue;
            }
            let (is_full, now) = (self.left_over.is_some(), Instant::now());
            let has_waited = now >= *held_until.get_or_insert_with(|| now + HOLD);
            let company = uncommitted.max(pace.company());
            if is_full || gathered.is_large_beside(company) || has_waited {
                held_until = None;
                pace.proposed(gathered.len(), has_waited);
                let batch = std::mem::replace(&mut gathered, Batch::new(record_bytes));
                uncommitted += batch.len();
                let (begun, committed) = self.propose(batch).await;
                if is_full {
                    // openraft appends in a task of its own, and what it appended is looked at here.
                    yield_now().await;
                }
                turn = match self.log.lags() {
                    true => Some(Turn::CatchesUp),
                    // One that is full is followed at once.
                    false => (!is_full).then_some(Turn::Ends(begun)),
                };
                committing.push(committed);
            }
        }
        while let Some(entry) = committing.next().await {
            answering.push(entry.answer());
        }
        while answering.next().await.is_some() {}
    }

    /// Adds what waits, up to an entry's worth.
    fn gather(&mut self, first: Proposal, batch: &mut Batch) {
        let mut next = Some(first);
        while let Some(proposal) = next {
            if !batch.has_room_for(&proposal.command) {
                self.left_over = Some(proposal);
                break;
            }
            batch.add(proposal);
            next = self.queue.try_recv().ok();
        }
    }

    /// Proposes an entry. What is returned waits until it is committed, or will not be.
    async fn propose(&self, batch: Batch) -> (u64, impl Future<Output = Committed> + use<>) {
        let (sealed, waiting) = batch.into_parts();
        let (responder, committed, completed) = ProgressResponder::new();
        let (turns, turn) = (self.turns.clone(), self.turns.begin());
        let taken = self.raft.client_write_ff(Sealed::new(sealed), Some(responder)).await;
        let committed = async move {
            // It fails when the entry is refused.
            let is_committed = taken.is_ok() && committed.await.is_ok();
            turns.end(turn);
            Committed { taken, is_committed, completed, waiting }
        };
        (turn, committed)
    }
}

/// What a proposer sees of the turns.
struct Watched {
    ended: watch::Receiver<u64>,
    flushes: watch::Receiver<()>,
}

impl Watched {
    /// Waits until the next entry may go.
    async fn pass(&mut self, turn: Option<Turn>, log: &Log, raft: &Raft) {
        let leads = || raft.metrics().borrow_watched().state.is_leader();
        // The waits fail when nobody can end them any more.
        match turn {
            None => {}
            Some(Turn::Ends(turn)) => drop(self.ended.wait_for(|ended| *ended >= turn).await),
            Some(Turn::CatchesUp) => {
                while log.lags() && leads() {
                    drop(timeout(CATCH_UP, self.flushes.wait_for(|()| !log.lags())).await);
                }
            }
        }
    }
}

/// Waits until a time, if there is one.
async fn passing_of(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// What is next: what the last entry had no room for, or what comes.
async fn next(
    left_over: &mut Option<Proposal>,
    queue: &mut mpsc::Receiver<Proposal>,
) -> Option<Proposal> {
    match left_over.take() {
        Some(proposal) => Some(proposal),
        None => queue.recv().await,
    }
}

fn tell(
    waiting: Vec<oneshot::Sender<Attempt>>,
    result: Result<ClientWriteResult<TypeConfig>, Fatal<TypeConfig>>,
) {
    let failed: Box<dyn Fn() -> Attempt> = match result {
        Ok(Ok(response)) => {
            let Outcomes(outcomes) = response.data;
            for (reply, outcome) in waiting.into_iter().zip(outcomes) {
                let _ = reply.send(Attempt::Done(outcome));
            }
            return;
        }
        Ok(Err(ClientWriteError::ForwardToLeader(_))) => {
            Box::new(|| Attempt::NotTaken { reason: "leadership is changing".into() })
        }
        Ok(Err(error)) => Box::new(move || Attempt::Unknown { reason: error.to_string() }),
        Err(fatal) => Box::new(move || Attempt::Unknown { reason: fatal.to_string() }),
    };
    for reply in waiting {
        let _ = reply.send(failed());
    }
}
