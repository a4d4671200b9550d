//! The write path: propose here if this node leads, pass on to the leader if not, try again while that is safe.
//!
//! A write may be tried again when it surely was not applied (nobody took it), or when it carries a request
//! id, which the state machine applies once. In every other case a lost answer is
//! [`RequestError::OutcomeUnknown`]: the caller decides.

use std::time::Duration;

use tokio::time::Instant;

use super::context::Context;
use super::peers::{Lane, PeerError};
use super::propose::Running;
use super::rpc::{Request, Response};
use super::types::PeerNode;
use crate::actors::messages::{RequestError, Write, name_of};
use crate::metrics::Held;
use crate::plants::{Plant, planted};
use crate::types::{Command, Condition, NodeId, Operation, Outcome};

/// What became of one attempt.
pub enum Attempt {
    Done(Outcome),
    /// Nobody took the write.
    NotTaken {
        reason: String,
    },
    /// It was proposed or sent, and no outcome came back.
    Unknown {
        reason: String,
    },
    /// It cannot succeed.
    Refused(RequestError),
}

/// Carries out a write from outside within its time.
pub async fn write(context: &Context, write: Write) -> Result<Outcome, RequestError> {
    let deadline = Instant::now() + write.timeout;
    // While nobody took it, its caller is better served by a certain "not applied" than by all of the wait.
    let give_up = deadline.min(Instant::now() + context.timing.patience());
    let repeatable = write.request_id.is_some();
    // Once an attempt may have had an effect, no later refusal can say that there was none.
    let mut unknown: Option<String> = None;
    loop {
        let attempted = match context.raft() {
            Ok(raft) => attempt(context, &raft, &write, deadline).await,
            Err(RequestError::NoLeader { reason }) => Attempt::NotTaken { reason },
            Err(error) => Attempt::Refused(error),
        };
        let failure = match attempted {
            Attempt::Done(outcome) => return Ok(outcome),
            Attempt::Unknown { reason } => {
                let reason = unknown.insert(reason).clone();
                if !repeatable {
                    return Err(RequestError::OutcomeUnknown { reason });
                }
                None
            }
            Attempt::NotTaken { reason } => Some((RequestError::NoLeader { reason }, true)),
            Attempt::Refused(error) => Some((error, false)),
        };
        let again = failure.as_ref().is_none_or(|(_, again)| *again);
        if again {
            let why = failure.as_ref().map(|(error, _)| error.to_string());
            let why = why.or_else(|| unknown.clone()).unwrap_or_default();
            log::debug!("a write is tried again: {why} request_id={}", name_of(&write.trace));
        }
        let until = if unknown.is_some() { deadline } else { give_up };
        if !again || !context.pause(until).await {
            return Err(match (unknown, failure) {
                (Some(reason), _) => RequestError::OutcomeUnknown { reason },
                (None, Some((error, _))) => error,
                (None, None) => RequestError::TimedOut { waiting_for: "a leader".into() },
            });
        }
    }
}

async fn attempt(context: &Context, raft: &Running, write: &Write, deadline: Instant) -> Attempt {
    if context.leads(raft) {
        return propose(context, raft, write, deadline).await;
    }
    match context.leader(raft) {
        None => Attempt::NotTaken {
            reason: "an election is under way, or no quorum is reachable".into(),
        },
        // Elected in this moment.
        Some((leader, _)) if leader == context.own_id() => {
            Attempt::NotTaken { reason: "leadership is changing".into() }
        }
        Some((_, node)) if !write.forward => Attempt::Refused(RequestError::NotLeader {
            leader_name: node.name,
            leader_raft: node.raft_addr,
            leader_http: node.http_addr,
        }),
        Some((leader, node)) => pass_on(context, leader, &node, write, deadline).await,
    }
}

/// Proposes a write on this node, which leads or believes so.
pub async fn propose(
    context: &Context,
    raft: &Running,
    write: &Write,
    deadline: Instant,
) -> Attempt {
    if let Some(refusal) = context.space.refuses(&write.operation) {
        return Attempt::Refused(refusal);
    }
    let command = Command {
        time_ms: context.clock.unix_ms(),
        request_id: write.request_id.clone(),
        operation: match planted(Plant::ConditionCheckedAtPropose) {
            true => decided_here(context, &write.operation),
            false => write.operation.clone(),
        },
    };
    let proposed = Instant::now();
    let _pending = Held::new(&context.metrics.proposals_pending);
    let attempt = raft.propose(command, deadline).await;
    if let Attempt::Done(_) = attempt {
        context.metrics.commit.observe(proposed.elapsed());
    } else {
        context.metrics.proposals_failed.inc();
    }
    attempt
}

/// A planted bug: what holds of the key when the write is proposed is taken for what will hold when it is applied.
fn decided_here(context: &Context, operation: &Operation) -> Operation {
    let mut decided = operation.clone();
    if let Operation::Put { key, condition, .. } | Operation::Delete { key, condition } =
        &mut decided
        && let Ok(present) = context.reader.snapshot().get(key)
        && condition.holds(present.map(|record| record.mod_revision))
    {
        *condition = Condition::None;
    }
    decided
}

async fn pass_on(
    context: &Context,
    leader: NodeId,
    node: &PeerNode,
    write: &Write,
    deadline: Instant,
) -> Attempt {
    let timeout = deadline.saturating_duration_since(Instant::now());
    let request = Request::Write {
        operation: write.operation.clone(),
        request_id: write.request_id.clone(),
        timeout_ms: inner_timeout(timeout).as_millis() as u64,
        trace: write.trace.clone(),
    };
    match context.peers.ask(leader, node, Lane::Forward, &request, timeout).await {
        Ok(Response::Written(outcome)) => Attempt::Done(outcome),
        Ok(_) => Attempt::Unknown { reason: PeerError::Mismatch.to_string() },
        Err(PeerError::Failed(RequestError::OutcomeUnknown { reason })) => {
            Attempt::Unknown { reason }
        }
        Err(PeerError::Failed(
            error @ (RequestError::NoLeader { .. } | RequestError::NotReady { .. }),
        )) => Attempt::NotTaken { reason: error.to_string() },
        Err(PeerError::Failed(error)) => Attempt::Refused(error),
        Err(error) if error.surely_unsent() => Attempt::NotTaken { reason: error.to_string() },
        Err(error) => Attempt::Unknown { reason: error.to_string() },
    }
}

/// What a node gives the next one of its time: less, so that the answer still arrives.
pub fn inner_timeout(timeout: Duration) -> Duration {
    timeout * 9 / 10
}

/// A write that a peer passed on: proposed here or refused, never passed on again.
pub async fn serve(context: &Context, write: Write, from: &str) -> Result<Response, RequestError> {
    let begun = Instant::now();
    let served = propose_for(context, &write).await;
    if log::log_enabled!(log::Level::Debug) {
        let became = match &served {
            Ok(_) => "was applied".to_owned(),
            Err(error) => format!("failed: {error}"),
        };
        log::debug!(
            "a write that {from} passed on {became} request_id={} ms={}",
            name_of(&write.trace),
            begun.elapsed().as_millis()
        );
    }
    served
}

async fn propose_for(context: &Context, write: &Write) -> Result<Response, RequestError> {
    let raft = context.raft()?;
    let deadline = Instant::now() + write.timeout;
    if !context.leads(&raft) {
        return Err(RequestError::NoLeader { reason: "the node asked does not lead".into() });
    }
    match propose(context, &raft, write, deadline).await {
        Attempt::Done(outcome) => Ok(Response::Written(outcome)),
        Attempt::NotTaken { reason } => Err(RequestError::NoLeader { reason }),
        Attempt::Unknown { reason } => Err(RequestError::OutcomeUnknown { reason }),
        Attempt::Refused(error) => Err(error),
    }
}
