//! Asks the node below: a message through the gateway, its answer or why there is none.
//!
//! The node promises an answer within the time a message names. Should that fail, [`GRACE`] later the
//! floor answers by itself: no request hangs, and for a write the answer is "outcome unknown", since the
//! message was delivered.
//!
//! What bounds the node's work must not depend on clients that stay. The protocol layer drops a
//! handler when its connection breaks; the question then goes on in a task of its own and keeps its
//! permit and its bytes until the node has answered.

use std::time::Duration;

use actix::prelude::*;
use actix_web::{HttpRequest, rt};
use scopeguard::{ScopeGuard, guard};

use super::admission::{Hold, Permit};
use super::error::Problem;
use super::target::Params;
use super::{State, trace};
use crate::actors::messages::{
    Backup, Consistency, GetMembers, GetStatus, Members, Read, ReadView, RequestError, Status,
    TakeBackup, Watch, Watching, Write,
};
use crate::types::{Operation, Outcome, RequestId};

/// How long after its own time limit the node may still answer.
const GRACE: Duration = Duration::from_secs(1);

/// How long the node may take for what it answers from memory.
const FROM_MEMORY: Duration = Duration::from_secs(2);

/// Sends `message` and waits for its answer, `held` being kept until then.
pub async fn ask<M, T, H>(
    recipient: &Recipient<M>,
    message: M,
    timeout: Duration,
    held: H,
    lost: fn(String) -> RequestError,
) -> Result<(T, H), RequestError>
where
    M: Message<Result = Result<T, RequestError>> + Send + 'static,
    T: Send + 'static,
    H: 'static,
{
    let answer = Box::pin(tokio::time::timeout(timeout + GRACE, recipient.send(message)));
    let mut question = guard((answer, held), |(answer, held)| {
        rt::spawn(async move {
            let _ = answer.await;
            drop(held);
        });
    });
    let answered = trace::asking(question.0.as_mut()).await;
    let (_, held) = ScopeGuard::into_inner(question);
    match answered {
        Ok(Ok(answer)) => answer.map(|answer| (answer, held)),
        Ok(Err(_)) => Err(lost("the node stopped before it answered".to_owned())),
        Err(_) => Err(lost("the node gave no answer".to_owned())),
    }
}

/// Why a question that changes nothing has no answer.
fn lost_read(reason: String) -> RequestError {
    RequestError::NotReady { reason }
}

/// Why a request that changes something has no answer: it was handed over, so it may have happened.
pub fn lost_change(reason: String) -> RequestError {
    RequestError::OutcomeUnknown { reason }
}

/// Proposes a write. `hold` covers the value's bytes.
pub async fn write(
    state: &State,
    operation: Operation,
    request_id: Option<RequestId>,
    redirect: bool,
    permit: Permit,
    hold: Hold,
) -> Result<Outcome, RequestError> {
    let timeout = state.options.write_timeout;
    let forward = state.forwards(redirect);
    let message = Write { operation, request_id, timeout, forward, trace: trace::id() };
    let held = (permit, hold);
    ask(&state.gateway.write, message, timeout, held, lost_change).await.map(|(outcome, _)| outcome)
}

/// What `consistency`, `stale`, `max_stale` and `redirect` ask for.
pub fn question(params: &Params, state: &State) -> Result<Read, Problem> {
    let consistency = consistency(params, state.options.lease_reads)?;
    let forward = state.forwards(params.flag("redirect")?);
    Ok(Read { consistency, timeout: state.options.barrier_timeout, forward })
}

fn consistency(params: &Params, lease_reads: bool) -> Result<Consistency, Problem> {
    let (stale, max_stale) = (params.flag("stale")?, params.duration("max_stale")?);
    let refuse = |why| Err(Problem::parameter("consistency", why));
    match params.bytes("consistency").as_deref() {
        Some(_) if stale => refuse("says how reads are that are not stale; leave it or stale out"),
        Some(b"lease") if !lease_reads => refuse(
            "lease is off on this node: it needs a bound of what clocks differ by, raft.lease_clock_drift",
        ),
        Some(b"lease" | b"linearizable") | None if !stale && max_stale.is_some() => {
            Err(Problem::parameter("max_stale", "bounds a stale read; add stale=true"))
        }
        Some(b"lease") => Ok(Consistency::Lease),
        Some(b"linearizable") => Ok(Consistency::Linearizable),
        Some(_) => refuse("takes linearizable or lease"),
        None if stale => Ok(Consistency::Stale { max_stale }),
        None => Ok(Consistency::Linearizable),
    }
}

/// Gets a state to read from. The permit is kept until the reply is built.
pub async fn read(
    question: Read,
    request: &HttpRequest,
    state: &State,
) -> Result<(ReadView, Permit), Problem> {
    let permit = state.admission.read()?;
    let view = ask(&state.gateway.read, question, question.timeout, permit, lost_read).await;
    view.map_err(|error| Problem::from_node(error, request))
}

/// Gets a backup to send.
pub async fn take_backup(
    of: Read,
    permit: Permit,
    state: &State,
) -> Result<(Backup, Permit), RequestError> {
    let message = TakeBackup { of, trace: trace::id() };
    ask(&state.gateway.backup, message, of.timeout, permit, lost_read).await
}

pub async fn status(state: &State) -> Result<Status, RequestError> {
    from_memory(&state.gateway.status, GetStatus).await
}

pub async fn members(state: &State) -> Result<Members, RequestError> {
    from_memory(&state.gateway.members, GetMembers).await
}

/// Begins a watch.
pub async fn watch(question: Watch, state: &State) -> Result<Watching, RequestError> {
    from_memory(&state.gateway.watch, question).await?
}

async fn from_memory<M>(recipient: &Recipient<M>, message: M) -> Result<M::Result, RequestError>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    match trace::asking(tokio::time::timeout(FROM_MEMORY, recipient.send(message))).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(lost_read("the node is closing".to_owned())),
        Err(_) => Err(lost_read("the node gave no answer".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract::parameters::BACKUP;
    use super::*;

    #[test]
    fn how_fresh_a_read_is_is_said_once_and_by_lease_only_where_that_is_on() {
        let asked = |query, lease_reads| {
            let params = Params::parse(Some(query), &[BACKUP]);
            consistency(&params.expect("known names"), lease_reads).ok()
        };
        assert_eq!(asked("", true), Some(Consistency::Linearizable));
        assert_eq!(asked("consistency=linearizable", false), Some(Consistency::Linearizable));
        assert_eq!(asked("consistency=lease", true), Some(Consistency::Lease));
        assert_eq!(asked("consistency=lease", false), None);
        assert_eq!(asked("stale", true), Some(Consistency::Stale { max_stale: None }));
        let refused = [
            "consistency",
            "consistency=Lease",
            "consistency=stale",
            "consistency=lease&stale",
            "consistency=lease&max_stale=1s",
            "max_stale=1s",
        ];
        for query in refused {
            assert_eq!(asked(query, true), None, "{query}");
        }
    }
}
