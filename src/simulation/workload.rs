//! The clients of a simulated cluster: what they ask for, and what they remember of the answers.
//!
//! Up to eight clients, each with one request under way, ask any node for anything: puts, with a time to live or
//! without, deletes, conditional writes, transactions, reads and scans of a few groups of contended keys; stale reads
//! and reads of the past; puts of keys that are written once; and leases, each held by one of them. A write with an idempotency key whose outcome is
//! unknown is sent again, to any node; without one it stays open. Some are sent again though they were answered.
//! Watchers look on ([`super::watchers`]).
//!
//! Checked as the answers come:
//! * a linearizable read shows a revision no older than the newest that anybody had seen when it began, and a
//!   write that is acknowledged gets a newer one;
//! * a stale read on one connection never shows an older revision than the one before;
//! * a record that is seen is one that somebody wrote, byte for byte, and a revision is one record;
//! * a write that is sent again gets the answer that it got before.
//!
//! Checked at the end, in [`verdict`]: an order that explains each group ([`super::linearizable`]); every sighting
//! and every answer against the history of the store ([`super::chronicle`]); that records end at their time and not
//! before; every acknowledged write of a key that is written once, from every node, in its first version; and what
//! became of each lease ([`leases`]).

mod leases;
mod plans;
mod reads;
mod verdict;
mod writes;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use self::leases::Held;
use super::chronicle::Written;
use super::client::key_of;
use super::history::{Call, Knowledge, MAX_SLOTS, Seen, Slot, ValueId};
use super::linearizable::MAX_CALLS;
use super::report::Findings;
use super::world::World;
use crate::actors::messages::ChangeKind;
use crate::types::{Key, LeaseId, NodeId, RequestId, Revision};

/// Calls on a group under load, and records that may expire; the rest is for the reads at the end.
const MOST_CALLS: usize = MAX_CALLS - 64;

/// How many clients, on how many groups of contended keys, and how fast; and how many watchers.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub clients: usize,
    pub groups: usize,
    /// Longest pause of a client between two requests.
    pub pause: Duration,
    pub watchers: usize,
    /// Whether nodes keep so little of the past that some of it goes in a run.
    pub forgets: bool,
}

/// What a client does next.
enum Turn {
    Put,
    Create,
    Replace,
    Delete,
    Transact,
    Read,
    ReadStale,
    ReadPast,
    ReadHistory,
    PutOnce,
    Lease,
}

const TURNS: [(u64, Turn); 11] = [
    (18, Turn::Put),
    (5, Turn::Create),
    (10, Turn::Replace),
    (6, Turn::Delete),
    (18, Turn::Transact),
    (20, Turn::Read),
    (8, Turn::ReadStale),
    (5, Turn::ReadPast),
    (2, Turn::ReadHistory),
    (16, Turn::PutOnce),
    (14, Turn::Lease),
];

/// Contended keys that transactions write together.
#[derive(Default)]
struct Group {
    /// What its keys begin with.
    prefix: String,
    slots: usize,
    calls: Vec<Call>,
    under_way: usize,
    /// Puts of records that may expire: the end of each is another call.
    brief: usize,
    knowledge: Knowledge,
}

impl Group {
    fn key(&self, slot: Slot) -> Key {
        key_of(&format!("{}{slot}", self.prefix))
    }
}

/// A record that expires.
#[derive(Clone, Copy)]
struct Brief {
    ttl_ms: u64,
    /// When it was called and answered, by a clock that is right.
    put_ms: Option<(u64, u64)>,
}

/// What a read showed of a key at a revision.
struct Sighting {
    by: String,
    key: Key,
    revision: Revision,
    seen: Option<Seen>,
}

/// What a node told of the history of a key up to a revision, newest first.
struct Account {
    by: String,
    key: Key,
    revision: Revision,
    /// What came after this revision was kept.
    kept_after: Revision,
    versions: Vec<(Revision, ChangeKind, Option<Written>)>,
}

#[derive(Default)]
struct Facts {
    /// Numbers the moments of calls and answers.
    events: u64,
    /// Which key each value was written to. A value is the number of its write.
    values: Vec<Key>,
    groups: Vec<Group>,
    brief: BTreeMap<ValueId, Brief>,
    /// Keys that are written once and were acknowledged.
    once: BTreeMap<String, ValueId>,
    /// All leases that were granted, and which of them each client holds.
    leases: Vec<Held>,
    held: BTreeMap<usize, usize>,
    /// The lease that a value was put with.
    leased: BTreeMap<ValueId, LeaseId>,
    sequences: BTreeMap<usize, u64>,
    /// The newest revision that anybody has seen acknowledged.
    newest: Revision,
    /// By the newest revision that was known: the latest that any clock had shown by then.
    clocks: BTreeMap<Revision, u64>,
    sightings: Vec<Sighting>,
    accounts: Vec<Account>,
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
        let group = |number| Group {
            prefix: format!("g{number}/"),
            slots: MAX_SLOTS - number % MAX_SLOTS,
            ..Group::default()
        };
        let facts = Facts { groups: (0..load.groups).map(group).collect(), ..Facts::default() };
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
                Turn::PutOnce => self.put_once(client, &node).await,
                Turn::Lease => self.take_lease_turn(client, &node).await,
                Turn::ReadStale => self.read_stale(client, &node).await,
                Turn::ReadPast => self.read_past(client, &node).await,
                Turn::ReadHistory => self.read_history(client, &node).await,
                turn => self.take_turn(client, &node, turn).await,
            }
            let pause_us = self.world.chance.below(self.load.pause.as_micros() as u64);
            sleep(Duration::from_micros(pause_us)).await;
        }
    }

    /// A turn that is a call on a group.
    async fn take_turn(&self, client: usize, node: &str, turn: &Turn) {
        let Some(group) = self.any_group() else { return };
        match self.plan(turn, client, group) {
            Some(plan) => self.change(client, node, group, plan).await,
            None => {
                let step = self.draw_read(group);
                let by = format!("c{client}");
                self.read_group(&by, Some(client), node, group, step).await;
            }
        }
        self.facts.borrow_mut().groups[group].under_way -= 1;
    }

    fn below(&self, bound: usize) -> usize {
        self.world.chance.below(bound as u64) as usize
    }

    fn draw(&self) -> &'static Turn {
        let mut left = self.world.chance.below(TURNS.iter().map(|(weight, _)| weight).sum());
        let drawn = TURNS.iter().find(|(weight, _)| match left.checked_sub(*weight) {
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
        nodes[self.below(nodes.len())].clone()
    }

    fn event(&self) -> u64 {
        let mut facts = self.facts.borrow_mut();
        facts.events += 1;
        facts.events
    }

    /// Names the value of a coming write of `key`.
    fn new_value(&self, key: &Key) -> ValueId {
        let values = &mut self.facts.borrow_mut().values;
        values.push(key.clone());
        values.len() as ValueId - 1
    }

    /// A group that has room for another call, which is counted as under way.
    fn any_group(&self) -> Option<usize> {
        let number = self.below(self.load.groups);
        let group = &mut self.facts.borrow_mut().groups[number];
        let has_room = group.calls.len() + group.under_way + group.brief < MOST_CALLS;
        group.under_way += usize::from(has_room);
        has_room.then_some(number)
    }

    fn slots(&self, group: usize) -> usize {
        self.facts.borrow().groups[group].slots
    }

    fn key(&self, group: usize, slot: Slot) -> Key {
        self.facts.borrow().groups[group].key(slot)
    }

    fn request_id(&self, client: usize) -> RequestId {
        let mut facts = self.facts.borrow_mut();
        let sequence = facts.sequences.entry(client).or_default();
        *sequence += 1;
        RequestId { client: format!("c{client}"), sequence: *sequence }
    }
}
