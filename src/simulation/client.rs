//! Requests to nodes that may die before they answer, and waiting for what a cluster has to come to.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::surroundings::raft_addr;
use super::world::World;
use crate::actors::messages::{
    Consistency, GetMembers, GetStatus, Join, Member, Read, ReadView, Remove, RequestError, Status,
    Transfer, Watch, Watching, Write,
};
use crate::types::{AskedBy, Condition, Key, Lifetime, Operation, Outcome, Record, RequestId};

/// What a request to the data gives a node.
const REQUEST_LIMIT: Duration = Duration::from_secs(3);

/// What a change of members or leaders gives a node.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);

/// How long [`wait_for`] waits.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

fn gone() -> RequestError {
    RequestError::NotReady { reason: "the node does not run".into() }
}

fn lost() -> RequestError {
    RequestError::OutcomeUnknown { reason: "the node died, or does not answer".into() }
}

/// Sends a message to a node that may die, or stand still, before it answers; waits twice what the node was
/// given.
async fn ask<M>(
    recipient: Option<actix::Recipient<M>>,
    message: M,
    limit: Duration,
) -> Option<M::Result>
where
    M: actix::Message + Send + 'static,
    M::Result: Send,
{
    timeout(limit * 2, recipient?.send(message)).await.ok()?.ok()
}

pub fn key_of(key: &str) -> Key {
    Key::new(Bytes::copy_from_slice(key.as_bytes())).expect("a key")
}

pub async fn put(
    world: &World,
    node: &str,
    key: &str,
    value: &[u8],
    request_id: Option<RequestId>,
) -> Result<Outcome, RequestError> {
    let value = Bytes::copy_from_slice(value);
    let operation = Operation::Put {
        key: key_of(key),
        value,
        condition: Condition::None,
        lifetime: Lifetime::Unbounded,
    };
    write(world, node, operation, request_id).await
}

pub async fn delete(world: &World, node: &str, key: &str) -> Result<Outcome, RequestError> {
    let operation = Operation::Delete { key: key_of(key), condition: Condition::None };
    write(world, node, operation, None).await
}

pub async fn write(
    world: &World,
    node: &str,
    operation: Operation,
    request_id: Option<RequestId>,
) -> Result<Outcome, RequestError> {
    let timeout = REQUEST_LIMIT;
    let write = Write { operation, request_id, timeout, forward: true, trace: None };
    let Some(gateway) = world.gateway(node) else { return Err(gone()) };
    ask(Some(gateway.write), write, REQUEST_LIMIT).await.unwrap_or(Err(lost()))
}

/// A state to read from.
pub async fn view(
    world: &World,
    node: &str,
    consistency: Consistency,
) -> Result<ReadView, RequestError> {
    let read = Read { consistency, timeout: REQUEST_LIMIT, forward: true };
    let recipient = world.gateway(node).map(|gateway| gateway.read);
    ask(recipient, read, REQUEST_LIMIT).await.unwrap_or(Err(gone()))
}

/// Begins to watch a node.
pub async fn watch(world: &World, node: &str, watch: Watch) -> Result<Watching, RequestError> {
    let recipient = world.gateway(node).map(|gateway| gateway.watch);
    ask(recipient, watch, REQUEST_LIMIT).await.unwrap_or(Err(gone()))
}

pub async fn record(world: &World, node: &str, key: &str) -> Result<Option<Record>, RequestError> {
    view(world, node, Consistency::Linearizable).await?.view.get(&key_of(key))
}

pub async fn get(world: &World, node: &str, key: &str) -> Result<Option<Bytes>, RequestError> {
    Ok(record(world, node, key).await?.map(|record| record.value))
}

pub async fn status(world: &World, node: &str) -> Option<Status> {
    let recipient = world.gateway(node).map(|gateway| gateway.status);
    ask(recipient, GetStatus, REQUEST_LIMIT).await
}

pub async fn members(world: &World, node: &str) -> Option<Vec<Member>> {
    let recipient = world.gateway(node).map(|gateway| gateway.members);
    Some(ask(recipient, GetMembers, REQUEST_LIMIT).await?.members)
}

pub async fn transfer(world: &World, node: &str, to: &str) -> Result<(), RequestError> {
    let recipient = world.gateway(node).map(|gateway| gateway.transfer);
    let transfer = Transfer { name: to.into(), timeout: REQUEST_LIMIT, trace: None };
    ask(recipient, transfer, REQUEST_LIMIT).await.unwrap_or(Err(gone()))
}

pub async fn join(world: &World, at: &str, name: &str) -> Result<(), RequestError> {
    ask_to_join(world, at, joining(name, AskedBy::Operator)).await
}

/// A request to let in the node on a machine, under the machine's name.
pub fn joining(machine: &str, asked_by: AskedBy) -> Join {
    Join {
        name: machine.into(),
        raft_addr: raft_addr(machine),
        http_addr: String::new(),
        voter: true,
        asked_by,
        timeout: CHANGE_LIMIT,
        trace: None,
    }
}

pub async fn ask_to_join(world: &World, at: &str, join: Join) -> Result<(), RequestError> {
    let recipient = world.gateway(at).map(|gateway| gateway.join);
    ask(recipient, join, CHANGE_LIMIT).await.unwrap_or(Err(gone()))
}

pub async fn remove(world: &World, at: &str, name: &str) -> Result<(), RequestError> {
    let remove = Remove { name: name.into(), timeout: CHANGE_LIMIT, trace: None };
    let recipient = world.gateway(at).map(|gateway| gateway.remove);
    ask(recipient, remove, CHANGE_LIMIT).await.unwrap_or(Err(gone()))
}

/// Waits until all nodes agree on a leader, and names it.
pub async fn leader(world: &World, names: &[&str]) -> String {
    wait_for(world, "all nodes to agree on a leader", async |world| {
        let mut leaders = Vec::new();
        for name in names {
            leaders.push(status(world, name).await?.leader?.name);
        }
        leaders.dedup();
        match leaders.len() {
            1 => leaders.pop(),
            _ => None,
        }
    })
    .await
}

pub async fn wait_for_voters(world: &World, names: &[&str], voters: usize) {
    wait_for(world, "all nodes to see all voters and be ready", async |world| {
        are_well(world, names, voters).await.then_some(())
    })
    .await
}

/// Whether all nodes are ready and see so many members, all of them voters.
pub async fn are_well(world: &World, names: &[&str], voters: usize) -> bool {
    for name in names {
        let ready = status(world, name).await.is_some_and(|status| status.not_ready.is_empty());
        let Some(members) = members(world, name).await else { return false };
        if !ready || members.len() != voters || !members.iter().all(|member| member.voter) {
            return false;
        }
    }
    true
}

/// Waits for a condition, which has to come within half a minute of simulated time.
pub async fn wait_for<T>(world: &World, what: &str, probe: impl AsyncFn(&World) -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT_LIMIT;
    loop {
        if let Some(found) = probe(world).await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {WAIT_LIMIT:?} of simulated time for {what}");
        sleep(Duration::from_millis(50)).await;
    }
}
