//! Linearizable reads by read index (Raft dissertation, section 6.4).
//!
//! A read needs a log index that was committed when the read began, confirmed by a leader that a quorum
//! still follows; it then waits until this node has applied that far and reads its own state. One
//! round serves many reads: those that arrive while a round is under way share the next one, never the
//! current one, which may have begun before they did. A follower's round is one question to the
//! leader, whose own rounds are shared in turn.
//!
//! A read that asks for it is spared the round where the leader's lease holds (dissertation, section 6.4.1). From when it
//! sent what a quorum acknowledged last, no other can lead before the shortest election timeout has passed: who has
//! acknowledged it gives no vote for longer than that, nor for that long after a restart ([`super::serve`]), nor stands for election. That
//! timeout runs by their clocks and the lease by the leader's own, so the lease is shorter by what clocks may differ in
//! that time, as the operator says (`raft.lease_clock_drift`). A leader that hands over answers none of these any more.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{LinearizerOption, ReadPolicy};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::context::{Context, DAMAGED};
use super::peers::{Lane, PeerError};
use super::propose::Running;
use super::rpc::{Request, Response};
use super::types::Raft;
use crate::actors::messages::{Consistency, Read, RequestError};
use crate::plants::{Plant, planted};
use crate::storage::kv::KvSnapshot;

/// What a round gives: a log index, or why there is none (and whether to try again).
pub type Round = Result<u64, RequestError>;

/// Reads waiting for a round. Lives in the actor; rounds run outside it.
#[derive(Default)]
pub struct Rounds {
    waiting: Vec<oneshot::Sender<Round>>,
    under_way: bool,
}

impl Rounds {
    /// Adds a read to the next round. True when the caller has to start that round.
    pub fn join(&mut self, reply: oneshot::Sender<Round>) -> bool {
        self.waiting.push(reply);
        !std::mem::replace(&mut self.under_way, true)
    }

    /// The reads that the round about to begin serves.
    pub fn begin(&mut self) -> Vec<oneshot::Sender<Round>> {
        std::mem::take(&mut self.waiting)
    }

    /// A round ended. True when another has to begin.
    pub fn end(&mut self) -> bool {
        self.under_way = !self.waiting.is_empty();
        self.under_way
    }
}

/// One round: asks a quorum here, or the leader there. Bounded by an election timeout, after which
/// leadership is in doubt anyway.
pub async fn round(context: Arc<Context>) -> Round {
    let begun = Instant::now();
    let round = ask(&context).await;
    match &round {
        Ok(_) => context.metrics.read_index.observe(begun.elapsed()),
        Err(_) => {
            context.metrics.read_indexes_failed.inc();
        }
    }
    round
}

async fn ask(context: &Context) -> Round {
    let raft = context.raft()?;
    let limit = context.timing.election_timeout_max;
    match context.leader(&raft) {
        None => Err(no_leader("an election is under way, or no quorum is reachable")),
        Some((leader, _)) if leader == context.own_id() => confirm(&raft, limit).await,
        Some((leader, node)) => {
            let request = Request::ReadIndex { timeout_ms: limit.as_millis() as u64 };
            match context.peers.ask(leader, &node, Lane::Forward, &request, limit).await {
                Ok(Response::ReadIndex { index }) => Ok(index),
                Ok(_) => Err(no_leader(&PeerError::Mismatch.to_string())),
                Err(error) => Err(no_leader(&error.to_string())),
            }
        }
    }
}

fn no_leader(reason: &str) -> RequestError {
    RequestError::NoLeader { reason: reason.into() }
}

/// Has a quorum confirm that this node leads, and returns the index reads must wait for.
pub(super) async fn confirm(raft: &Running, limit: Duration) -> Round {
    if planted(Plant::ReadWithoutQuorum) {
        let committed = raft.metrics().borrow_watched().local_committed;
        return Ok(committed.map_or(0, |id| id.index));
    }
    raft.hurry();
    let confirmed = timeout(limit, raft.get_read_linearizer(ReadPolicy::ReadIndex)).await;
    raft.hurry();
    match confirmed {
        Ok(Ok(linearizer)) => Ok(linearizer.read_log_id().index()),
        Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))) => {
            Err(no_leader("leadership is changing"))
        }
        Ok(Err(error)) => Err(no_leader(&error.to_string())),
        Err(_) => Err(no_leader("no quorum answered the leader in time")),
    }
}

/// The index that a read by the lease waits for; `None` where this node has no lease.
async fn leased(context: &Context) -> Option<u64> {
    let lease = context.timing.lease_of_reads()?;
    let raft = context.raft().ok()?;
    if planted(Plant::LeaseTooLong) {
        let metrics = raft.metrics().borrow_watched().clone();
        let leads = metrics.current_leader == Some(metrics.id);
        return leads.then(|| metrics.local_committed.map_or(0, |id| id.index));
    }
    let at_once = LinearizerOption::new(Some(lease), false).with_wait_timeout(Duration::ZERO);
    let linearizer = raft.get_read_linearizer(at_once).await.ok()?;
    Some(linearizer.read_log_id().index())
}

/// A state to read from.
pub struct Pinned {
    pub state: KvSnapshot,
    /// Only for stale reads: how long ago this node last heard from a leader.
    pub stale_for: Option<Duration>,
}

/// Carries out a read: `ask` joins a round.
pub async fn read<F, Fut>(context: Arc<Context>, read: Read, ask: F) -> Result<Pinned, RequestError>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Round>,
{
    if let Consistency::Stale { max_stale } = read.consistency {
        return stale(&context, max_stale);
    }
    let deadline = Instant::now() + read.timeout;
    let give_up = deadline.min(Instant::now() + context.timing.patience());
    if read.consistency == Consistency::Lease
        && let Some(index) = leased(&context).await
    {
        wait_applied(&context, index, deadline).await?;
        return Ok(pin(&context, None));
    }
    // A planted bug: the state that is there, as if it were that of the index which the round will bring.
    let early = planted(Plant::AppliedNotAwaited).then(|| pin(&context, None));
    loop {
        if let Ok(raft) = context.raft()
            && !read.forward
        {
            refuse_unless_leader(&context, &raft)?;
        }
        match timeout_at(deadline, ask()).await {
            Ok(Ok(index)) => {
                if let Some(early) = early {
                    return Ok(early);
                }
                wait_applied(&context, index, deadline).await?;
                return Ok(pin(&context, None));
            }
            Ok(Err(error @ RequestError::NoLeader { .. })) => {
                if !context.pause(give_up).await {
                    return Err(error);
                }
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(no_leader("no quorum confirmed a leader in time")),
        }
    }
}

fn refuse_unless_leader(context: &Context, raft: &Raft) -> Result<(), RequestError> {
    match context.leader(raft) {
        Some((leader, node)) if leader != context.own_id() => Err(RequestError::NotLeader {
            leader_name: node.name,
            leader_raft: node.raft_addr,
            leader_http: node.http_addr,
        }),
        _ => Ok(()),
    }
}

pub(super) async fn wait_applied(
    context: &Context,
    index: u64,
    deadline: Instant,
) -> Result<(), RequestError> {
    let mut applied = context.applied.clone();
    let waiting = applied.wait_for(|next| *next > index);
    match timeout_at(deadline, waiting).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(RequestError::NotReady { reason: "this node is closing".into() }),
        Err(_) => Err(RequestError::TimedOut {
            waiting_for: format!("this node to apply log index {index}"),
        }),
    }
}

fn stale(context: &Context, max_stale: Option<Duration>) -> Result<Pinned, RequestError> {
    // Needs no running Raft: a removed node still shows what it had, unless that cannot be opened.
    if context.reader.is_stand_in() {
        return Err(RequestError::NotReady { reason: DAMAGED.into() });
    }
    let age = context.staleness();
    let Some(max) = max_stale else { return Ok(pin(context, age)) };
    match age {
        Some(age) if age <= max => Ok(pin(context, Some(age))),
        age => Err(RequestError::TooStale {
            age_ms: age.unwrap_or_else(|| context.started.elapsed()).as_millis() as u64,
            max_ms: max.as_millis() as u64,
        }),
    }
}

fn pin(context: &Context, stale_for: Option<Duration>) -> Pinned {
    Pinned { state: context.reader.snapshot(), stale_for }
}
