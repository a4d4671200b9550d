//! The clients of a simulated cluster: what they ask for, and what they remember of the answers.
//!
//! Up to eight clients, each with one request under way, ask any node for anything: puts, deletes, conditional
//! writes and reads of a few contended keys, stale reads, and puts of keys that are written once. A write with
//! an idempotency key whose outcome is unknown is sent again, to any node; without one it stays open.
//!
//! Checked as the answers come:
//! * a linearizable read shows a revision no older than the newest that anybody had seen when it began, and a
//!   write that is acknowledged gets a newer one;
//! * a stale read on one connection never shows an older revision than the one before;
//! * a record that is seen is one that somebody wrote, byte for byte, and a revision is one record.
//!
//! Checked at the end: an order that explains each key ([`super::linearizable`]), and every acknowledged write
//! of a key that is written once, from every node, in its first version.
//!
//! Here is the place for what clients will do next: transactions are another [`Step`], judged like the others; a
//! watch is a client that compares what it hears with the revisions in `Facts`.

mod reads;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::client::{key_of, write};
use super::history::{Action, Answer, Call, Revisions, Seen, ValueId};
use super::linearizable::MAX_CALLS;
use super::report::Findings;
use super::values::body;
use super::world::World;
use crate::actors::messages::{Applied, RequestError};
use crate::types::{Condition, NodeId, Operation, Outcome, RequestId, Revision};

/// Calls on a contended key under load; the rest is for the reads at the end.
const MOST_CALLS: usize = MAX_CALLS - 32;

/// How often a write with an idempotency key is sent.
const ATTEMPTS: u32 = 3;

/// How many clients, on how many contended keys, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub clients: usize,
    pub keys: usize,
    /// Longest pause of a client between two requests.
    pub pause: Duration,
}

/// What a client does next.
enum Step {
    Put,
    Create,
    Replace,
    Delete,
    Read,
    StaleRead,
    PutOnce,
}

const STEPS: [(u64, Step); 7] = [
    (20, Step::Put),
    (5, Step::Create),
    (12, Step::Replace),
    (8, Step::Delete),
    (25, Step::Read),
    (10, Step::StaleRead),
    (20, Step::PutOnce),
];

/// A contended key.
#[derive(Default)]
struct Register {
    name: String,
    calls: Vec<Call>,
    under_way: usize,
    revisions: Revisions,
    /// What clients know of it: the newest revision each has seen.
    known: BTreeMap<usize, Revision>,
}

#[derive(Default)]
struct Facts {
    /// Numbers the moments of calls and answers.
    events: u64,
    values: ValueId,
    registers: Vec<Register>,
    /// Keys that are written once and were acknowledged.
    once: BTreeMap<String, ValueId>,
    sequences: BTreeMap<usize, u64>,
    /// The newest revision that anybody has seen acknowledged.
    newest: Revision,
    /// By client and node: the life of the node, and the revision that the last stale read showed.
    connections: BTreeMap<(usize, String), (Life, Revision)>,
    is_stopped: bool,
}

/// A start of a node, and its incarnation: one that joins again after its removal begins anew.
type Life = (u64, NodeId);

/// All clients of a run, and what they remember.
#[derive(Clone)]
pub struct Workload {
    world: World,
    findings: Findings,
    load: Load,
    nodes: Rc<RefCell<Vec<String>>>,
    facts: Rc<RefCell<Facts>>,
}

impl Workload {
    /// `nodes` are those that clients know; it may change.
    pub fn new(
        world: &World,
        findings: &Findings,
        load: Load,
        nodes: Rc<RefCell<Vec<String>>>,
    ) -> Workload {
        let register = |number| Register { name: format!("key/{number}"), ..Register::default() };
        let registers = (0..load.keys).map(register).collect();
        let facts = Facts { registers, ..Facts::default() };
        let (world, findings) = (world.clone(), findings.clone());
        Workload { world, findings, load, nodes, facts: Rc::new(RefCell::new(facts)) }
    }

    pub fn stop(&self) {
        self.facts.borrow_mut().is_stopped = true;
    }

    /// Runs all clients until [`Workload::stop`].
    pub async fn run(&self) {
        futures_util::future::join_all((0..self.load.clients).map(|client| self.client(client)))
            .await;
    }

    async fn client(&self, client: usize) {
        while !self.facts.borrow().is_stopped {
            let node = self.any_node();
            match self.draw() {
                Step::Put => self.put(client, &node, Condition::None).await,
                Step::Create => self.put(client, &node, Condition::Absent).await,
                Step::Replace => self.replace(client, &node).await,
                Step::Delete => self.delete(client, &node).await,
                Step::Read => self.read(client, &node).await,
                Step::StaleRead => self.read_stale(client, &node).await,
                Step::PutOnce => self.put_once(client, &node).await,
            }
            let pause_us = self.world.chance.below(self.load.pause.as_micros() as u64);
            sleep(Duration::from_micros(pause_us)).await;
        }
    }

    fn draw(&self) -> &'static Step {
        let mut left = self.world.chance.below(STEPS.iter().map(|(weight, _)| weight).sum());
        let drawn = STEPS.iter().find(|(weight, _)| match left.checked_sub(*weight) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        &drawn.expect("a number below the sum").1
    }

    fn any_node(&self) -> String {
        let nodes = self.nodes.borrow();
        nodes[self.world.chance.below(nodes.len() as u64) as usize].clone()
    }

    fn event(&self) -> u64 {
        let mut facts = self.facts.borrow_mut();
        facts.events += 1;
        facts.events
    }

    fn new_value(&self) -> ValueId {
        let mut facts = self.facts.borrow_mut();
        facts.values += 1;
        facts.values
    }

    /// A contended key that has room for another call.
    fn any_register(&self) -> Option<usize> {
        let register = self.world.chance.below(self.load.keys as u64) as usize;
        let registers = &mut self.facts.borrow_mut().registers;
        let has_room = registers[register].calls.len() + registers[register].under_way < MOST_CALLS;
        registers[register].under_way += usize::from(has_room);
        has_room.then_some(register)
    }

    fn name(&self, register: usize) -> String {
        self.facts.borrow().registers[register].name.clone()
    }

    /// Most writes carry an idempotency key.
    fn request_id(&self, client: usize) -> RequestId {
        let mut facts = self.facts.borrow_mut();
        let sequence = facts.sequences.entry(client).or_default();
        *sequence += 1;
        RequestId { client: format!("c{client}"), sequence: *sequence }
    }

    async fn put(&self, client: usize, node: &str, condition: Condition) {
        let Some(register) = self.any_register() else { return };
        let value = self.new_value();
        let action = Action::Put { value, condition };
        let operation = Operation::Put {
            key: key_of(&self.name(register)),
            value: Bytes::from(body(value)),
            condition,
            ttl_ms: None,
        };
        self.change(client, node, register, action, operation).await;
    }

    /// Writes or deletes the key if it still is what this client saw last.
    async fn replace(&self, client: usize, node: &str) {
        let Some(register) = self.any_register() else { return };
        let known = self.facts.borrow().registers[register].known.get(&client).copied();
        let condition = known.map_or(Condition::Absent, Condition::ModRevision);
        let key = key_of(&self.name(register));
        let (action, operation) = match self.world.chance.below(4) {
            0 => (Action::Delete { condition }, Operation::Delete { key, condition }),
            _ => {
                let value = self.new_value();
                let body = Bytes::from(body(value));
                let operation = Operation::Put { key, value: body, condition, ttl_ms: None };
                (Action::Put { value, condition }, operation)
            }
        };
        self.change(client, node, register, action, operation).await;
    }

    async fn delete(&self, client: usize, node: &str) {
        let Some(register) = self.any_register() else { return };
        let condition = Condition::None;
        let operation = Operation::Delete { key: key_of(&self.name(register)), condition };
        self.change(client, node, register, Action::Delete { condition }, operation).await;
    }

    /// Carries out a write of a contended key, and takes note of it.
    async fn change(
        &self,
        client: usize,
        node: &str,
        register: usize,
        action: Action,
        operation: Operation,
    ) {
        let request_id = (self.world.chance.below(3) > 0).then(|| self.request_id(client));
        let name = self.name(register);
        let (invoked, newest) = (self.event(), self.facts.borrow().newest);
        let outcome = self.send(client, node, &name, action, operation, request_id).await;
        let returned = self.event();
        let answer = outcome.map(|outcome| outcome.and_then(|outcome| self.answer(&name, outcome)));
        let mut facts = self.facts.borrow_mut();
        facts.registers[register].under_way -= 1;
        // Surely without effect: nobody may ever see it.
        let Ok(answer) = answer else { return };
        if let Some(Answer::Put { revision, .. } | Answer::Deleted { revision }) = answer {
            if revision <= newest {
                let what =
                    format!("{name}: revision {revision} for a write after {newest} was seen");
                self.findings.violation(&self.world, what);
            }
            facts.newest = facts.newest.max(revision);
        }
        let it = &mut facts.registers[register];
        match (answer, action) {
            (Some(Answer::Put { revision, version }), Action::Put { value, .. }) => {
                it.known.insert(client, revision);
                self.note_seen(it, Seen { value, version, revision });
            }
            (Some(Answer::Refused { .. } | Answer::Deleted { .. }), _) => {
                it.known.remove(&client);
            }
            _ => {}
        }
        let by = format!("c{client} at {node}");
        let returned = answer.map(|answer| (returned, answer));
        it.calls.push(Call { by, action, invoked, returned });
    }

    /// Sends a write until its outcome is known or it may not be sent again: `Ok(None)` when it stays unknown,
    /// an error when it surely had no effect.
    async fn send(
        &self,
        client: usize,
        node: &str,
        key: &str,
        action: Action,
        operation: Operation,
        request_id: Option<RequestId>,
    ) -> Result<Option<Outcome>, RequestError> {
        let attempts = if request_id.is_some() { ATTEMPTS } else { 1 };
        let mut node = node.to_string();
        let mut is_unknown = false;
        for _ in 0..attempts {
            let result = write(&self.world, &node, operation.clone(), request_id.clone()).await;
            let id = request_id.as_ref().map_or(0, |id| id.sequence);
            self.world.note(format_args!("c{client}:{id} {action:?} {key} at {node}: {result:?}"));
            match result {
                Ok(outcome) => return Ok(Some(outcome)),
                Err(error) if error.applied() == Applied::Unknown => is_unknown = true,
                Err(error) if !is_unknown => return Err(error),
                Err(_) => {}
            }
            node = self.any_node();
        }
        Ok(None)
    }

    fn answer(&self, key: &str, outcome: Outcome) -> Option<Answer> {
        match outcome {
            Outcome::Put { revision, version, .. } => Some(Answer::Put { revision, version }),
            Outcome::Deleted { count: 0, .. } => Some(Answer::NothingDeleted),
            Outcome::Deleted { revision, .. } => Some(Answer::Deleted { revision }),
            Outcome::ConditionFailed { current, .. } => Some(Answer::Refused { current }),
            Outcome::Superseded { .. } | Outcome::Txn { .. } | Outcome::None => {
                self.findings.violation(&self.world, format!("{key}: the outcome is {outcome:?}"));
                None
            }
        }
    }

    async fn put_once(&self, client: usize, node: &str) {
        let value = self.new_value();
        let request_id = self.request_id(client);
        let name = format!("once/{client}/{}", request_id.sequence);
        let condition = Condition::None;
        let operation = Operation::Put {
            key: key_of(&name),
            value: Bytes::from(body(value)),
            condition,
            ttl_ms: None,
        };
        let action = Action::Put { value, condition };
        let sent = self.send(client, node, &name, action, operation, Some(request_id)).await;
        self.findings.checked(1);
        if let Ok(Some(Outcome::Put { version, revision, .. })) = sent {
            if version != 1 {
                self.findings.duplicated(&self.world, format!("{name} is in version {version}"));
            }
            let mut facts = self.facts.borrow_mut();
            facts.newest = facts.newest.max(revision);
            facts.once.insert(name, value);
        }
    }
}
