//! Clients of a simulated cluster, and what they check.
//!
//! * Every acknowledged write of a unique key is there at the end, from every node, once.
//! * Registers: one writer counts upward, anyone reads linearizably. A read must not return less than what
//!   had been acknowledged, or read by anyone, before it began.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use conuredb::actors::messages::{
    Consistency, GetStatus, Read, RequestError, Status, Transfer, Write,
};
use conuredb::types::{Condition, Key, Operation, Outcome, Record, RequestId};
use tokio::time::{Instant, sleep, timeout};

use super::world::World;

const CLIENTS: usize = 4;
const WRITE_LIMIT: Duration = Duration::from_secs(3);
const READ_LIMIT: Duration = Duration::from_secs(3);
/// After the last fault, everything has to be well again within this time.
const RECOVERY_LIMIT: Duration = Duration::from_secs(30);

fn gone() -> RequestError {
    RequestError::NotReady { reason: "the node does not run".into() }
}

/// Sends a message to a node that may die before it answers.
async fn ask<M>(
    recipient: Option<actix::Recipient<M>>,
    message: M,
    limit: Duration,
) -> Option<M::Result>
where
    M: actix::Message + Send + 'static,
    M::Result: Send,
{
    timeout(limit, recipient?.send(message)).await.ok()?.ok()
}

pub async fn put(
    world: &World,
    node: &str,
    key: &str,
    value: &[u8],
    request_id: Option<RequestId>,
) -> Result<Outcome, RequestError> {
    let value = Bytes::copy_from_slice(value);
    let operation = Operation::Put { key: key_of(key), value, condition: Condition::None };
    write(world, node, operation, request_id).await
}

pub async fn delete(world: &World, node: &str, key: &str) -> Result<Outcome, RequestError> {
    let operation = Operation::Delete { key: key_of(key), condition: Condition::None };
    write(world, node, operation, None).await
}

fn key_of(key: &str) -> Key {
    Key::new(Bytes::copy_from_slice(key.as_bytes())).expect("a key")
}

async fn write(
    world: &World,
    node: &str,
    operation: Operation,
    request_id: Option<RequestId>,
) -> Result<Outcome, RequestError> {
    let write = Write { operation, request_id, timeout: WRITE_LIMIT, forward: true };
    let recipient = world.gateway(node).map(|gateway| gateway.write);
    ask(recipient, write, WRITE_LIMIT * 2)
        .await
        .unwrap_or(Err(RequestError::OutcomeUnknown { reason: "the node died".into() }))
}

pub async fn record(world: &World, node: &str, key: &str) -> Result<Option<Record>, RequestError> {
    let read = Read { consistency: Consistency::Linearizable, timeout: READ_LIMIT, forward: true };
    let recipient = world.gateway(node).map(|gateway| gateway.read);
    let view = ask(recipient, read, READ_LIMIT * 2).await.unwrap_or(Err(gone()))?;
    view.view.get(&key_of(key))
}

pub async fn get(world: &World, node: &str, key: &str) -> Result<Option<Bytes>, RequestError> {
    Ok(record(world, node, key).await?.map(|record| record.value))
}

pub async fn status(world: &World, node: &str) -> Option<Status> {
    let recipient = world.gateway(node).map(|gateway| gateway.status);
    ask(recipient, GetStatus, READ_LIMIT).await
}

pub async fn transfer(world: &World, node: &str, to: &str) -> Result<(), RequestError> {
    let recipient = world.gateway(node).map(|gateway| gateway.transfer);
    let transfer = Transfer { name: to.into(), timeout: WRITE_LIMIT };
    ask(recipient, transfer, WRITE_LIMIT * 2).await.unwrap_or(Err(gone()))
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
        for name in names {
            let status = status(world, name).await?;
            if status.member_count != voters || !status.not_ready.is_empty() {
                return None;
            }
            let members = world.gateway(name)?.members.send(conuredb::actors::messages::GetMembers);
            let members = members.await.ok()?.members;
            if members.iter().filter(|member| member.voter).count() != voters {
                return None;
            }
        }
        Some(())
    })
    .await
}

pub async fn wait_for<T>(world: &World, what: &str, probe: impl AsyncFn(&World) -> Option<T>) -> T {
    let deadline = Instant::now() + RECOVERY_LIMIT;
    loop {
        if let Some(found) = probe(world).await {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {RECOVERY_LIMIT:?} of simulated time for {what}"
        );
        sleep(Duration::from_millis(50)).await;
    }
}

/// What a register may show: at least `floor`.
#[derive(Default)]
struct Register {
    floor: u64,
}

struct Facts {
    /// Keys whose write was acknowledged, with the value.
    acknowledged: BTreeMap<String, String>,
    registers: BTreeMap<usize, Register>,
    stopped: bool,
}

/// What clients did and saw.
#[derive(Clone)]
pub struct History {
    facts: Rc<RefCell<Facts>>,
}

impl History {
    pub fn new() -> History {
        let facts =
            Facts { acknowledged: BTreeMap::new(), registers: BTreeMap::new(), stopped: false };
        History { facts: Rc::new(RefCell::new(facts)) }
    }

    pub fn stop(&self) {
        self.facts.borrow_mut().stopped = true;
    }

    /// Runs all clients until [`History::stop`].
    pub async fn run(self, world: World, names: &[&str]) {
        let clients = (0..CLIENTS).map(|client| self.client(&world, client, names));
        futures_util::future::join_all(clients).await;
    }

    async fn client(&self, world: &World, client: usize, names: &[&str]) {
        let mut sequence = 0;
        while !self.facts.borrow().stopped {
            sequence += 1;
            let node = names[world.chance.below(names.len() as u64) as usize];
            match world.chance.below(3) {
                0 => self.write_unique(world, node, client, sequence).await,
                1 => self.write_register(world, node, client, sequence).await,
                _ => self.read_register(world, node).await,
            }
            sleep(Duration::from_millis(world.chance.below(40))).await;
        }
    }

    async fn write_unique(&self, world: &World, node: &str, client: usize, sequence: u64) {
        let key = format!("unique/{client}/{sequence}");
        let value = format!("{key} by {node} {}", "x".repeat(world.chance.below(2_000) as usize));
        // The key is written once by this client, so a retry inside the node must not apply twice.
        let request_id = Some(RequestId { client: format!("c{client}"), sequence });
        let result = put(world, node, &key, value.as_bytes(), request_id).await;
        world.note(format_args!("c{client} put {key} at {node}: {}", brief(&result)));
        if let Ok(Outcome::Put { version, .. }) = result {
            assert_eq!(version, 1, "{key} was applied twice");
            self.facts.borrow_mut().acknowledged.insert(key, value);
        }
    }

    async fn write_register(&self, world: &World, node: &str, client: usize, sequence: u64) {
        let key = format!("register/{client}");
        // A write whose outcome is unknown may yet be applied, after the client's next one. Numbered
        // requests keep it from undoing that: the late one is refused as superseded.
        let request_id = Some(RequestId { client: format!("c{client}"), sequence });
        let result = put(world, node, &key, sequence.to_string().as_bytes(), request_id).await;
        world.note(format_args!("c{client} set {key}={sequence} at {node}: {}", brief(&result)));
        if let Ok(outcome) = result {
            assert!(matches!(outcome, Outcome::Put { .. }), "{key}={sequence}: {outcome:?}");
            self.raise(client, sequence);
        }
    }

    fn raise(&self, client: usize, value: u64) {
        let mut facts = self.facts.borrow_mut();
        let register = facts.registers.entry(client).or_default();
        register.floor = register.floor.max(value);
    }

    fn floor(&self, client: usize) -> u64 {
        self.facts.borrow().registers.get(&client).map_or(0, |register| register.floor)
    }

    async fn read_register(&self, world: &World, node: &str) {
        let client = world.chance.below(CLIENTS as u64) as usize;
        let floor = self.floor(client);
        let Ok(value) = get(world, node, &format!("register/{client}")).await else { return };
        let value = value.map_or(0, |bytes| String::from_utf8_lossy(&bytes).parse().unwrap_or(0));
        world.note(format_args!("read register/{client}={value} at {node}"));
        assert!(
            value >= floor,
            "{node} returned {value} of register {client} after {floor} was seen"
        );
        self.raise(client, value);
    }

    /// After all faults: the cluster is well, every acknowledged write is there from every node, once, and all
    /// nodes hold the same.
    pub async fn verify(&self, world: &World, names: &[&str]) -> usize {
        wait_for_voters(world, names, names.len()).await;
        let acknowledged = self.facts.borrow().acknowledged.clone();
        let mut revisions = Vec::new();
        for name in names {
            for (key, value) in &acknowledged {
                let record = record(world, name, key).await.expect("a read of a healed cluster");
                let record = record.unwrap_or_else(|| panic!("{name} lost {key}"));
                assert_eq!(record.value, value.as_bytes(), "{name}: {key}");
                assert_eq!(record.version, 1, "{name}: {key} was applied twice");
            }
            for client in 0..CLIENTS {
                self.read_register(world, name).await;
                assert!(self.floor(client) < u64::MAX);
            }
            revisions.push(status(world, name).await.expect("a status").revision);
        }
        revisions.dedup();
        assert_eq!(revisions.len(), 1, "nodes differ in revision: {revisions:?}");
        assert_eq!(world.fatal(), Vec::<String>::new(), "nodes gave up");
        world.note(format_args!("verified {} writes", acknowledged.len()));
        acknowledged.len()
    }
}

fn brief(result: &Result<Outcome, RequestError>) -> String {
    match result {
        Ok(outcome) => format!("{outcome:?}"),
        Err(error) => format!("failed: {error}"),
    }
}
