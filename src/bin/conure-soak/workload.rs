//! The clients of a run: what they ask for, and what they remember of the answers.
//!
//! The counterpart of `simulation::workload`, over HTTP and real time. Every second client is persistent: it uses the
//! project's Rust client, which tries again until it knows. The others are plain: a request, an answer or none; two
//! thirds of their writes carry an idempotency key and are sent again, to any node, when no answer came. They
//! put, create, replace what they saw last, delete, read and scan a few groups of contended keys, write several keys of a
//! group in one transaction, read stale, and put keys that are written once. A group makes room for another one when its
//! history is as long as can be judged.
//!
//! ```text
//! plans   what they write, drawn        send    how it is sent, and what becomes of it
//! writes  what its answer tells         reads   what they read
//! ```
//!
//! Checked as the answers come (`writes`, `reads`):
//! * a linearizable read shows a revision no older than the newest that anybody had seen when it began, and a
//!   write that is acknowledged gets a newer one, which no other write has;
//! * a stale read of one client at one life of a node never shows an older revision than the one before;
//! * a record that is seen is one that somebody wrote, byte for byte, that nobody was told was refused, and a
//!   revision is one record.
//!
//! What has to hold in the end is in `judge`.

mod plans;
mod reads;
mod send;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use conuredb::client::{Client as Persistent, ClientOptions};
use conuredb::simulation::history::{Action, Answer, Call, Knowledge, MAX_SLOTS, Slot, ValueId};
use conuredb::simulation::linearizable::MAX_CALLS;
use conuredb::types::Revision;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use crate::Failure;
use crate::findings::Findings;
use crate::fleet::{Fleet, Station};
use crate::http::Http;

/// Calls on a group under load; the rest is for the reads at the end.
const MOST_CALLS: usize = MAX_CALLS - 32;

/// Groups of contended keys at a time.
const GROUPS: usize = 4;

/// Longest pause of a client between two requests: they are to be in the middle of something whenever something goes
/// wrong, not to wear the machine out.
const LONGEST_PAUSE: Duration = Duration::from_millis(25);

/// How long a plain client waits for an answer: above what an election takes, below what would keep it from its work.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// How long a persistent client goes on with one operation: longer than a cluster is without a leader here.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a client does next.
#[derive(Clone, Copy)]
enum Turn {
    Put,
    Create,
    Replace,
    Delete,
    Transact,
    Read,
    ReadStale,
    PutOnce,
}

const TURNS: [(u32, Turn); 8] = [
    (16, Turn::Put),
    (4, Turn::Create),
    (10, Turn::Replace),
    (6, Turn::Delete),
    (16, Turn::Transact),
    (23, Turn::Read),
    (12, Turn::ReadStale),
    (13, Turn::PutOnce),
];

/// Contended keys that transactions write together.
#[derive(Default)]
pub struct Group {
    pub calls: Vec<Call>,
    under_way: usize,
    pub knowledge: Knowledge,
}

#[derive(Default)]
pub struct Facts {
    pub groups: Vec<Group>,
    /// Those that are in use.
    active: Vec<usize>,
    /// Keys that are written once: acknowledged, and left open.
    pub once: BTreeMap<String, ValueId>,
    pub in_doubt: BTreeMap<String, ValueId>,
    /// Values of writes that surely had no effect.
    pub refused: BTreeSet<ValueId>,
    /// The keys that each acknowledged write wrote or deleted.
    pub acknowledged: BTreeMap<Revision, BTreeSet<String>>,
    /// The newest revision that anybody has seen.
    newest: Revision,
    /// By client and node: which of its lives, and the revision that the last stale read showed.
    stale: BTreeMap<(usize, usize), (u64, Revision)>,
}

/// All clients of a round, and what they remember.
pub struct Workload {
    pub prefix: String,
    stations: Arc<Vec<Station>>,
    findings: Arc<Findings>,
    facts: Mutex<Facts>,
    /// Numbers the moments of calls and answers.
    events: AtomicU64,
    values: AtomicU64,
    operations: AtomicU64,
    acknowledged: AtomicU64,
    is_stopped: AtomicBool,
}

/// One of them.
struct Client {
    number: usize,
    chance: StdRng,
    http: Http,
    persistent: Option<Persistent>,
    session: String,
    sequence: u64,
}

impl Workload {
    pub fn new(fleet: &Fleet, findings: &Arc<Findings>, round: u64) -> Workload {
        Workload {
            prefix: format!("soak/{round}/"),
            stations: fleet.stations.clone(),
            findings: findings.clone(),
            facts: Mutex::default(),
            events: AtomicU64::new(0),
            values: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            is_stopped: AtomicBool::new(false),
        }
    }

    /// Starts so many clients.
    pub fn start(self: &Arc<Self>, clients: usize, seed: u64) -> Result<JoinSet<()>, Failure> {
        let mut running = JoinSet::new();
        for number in 0..clients {
            let mut chance = StdRng::seed_from_u64(
                seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            );
            // Not from the seed: nodes remember a session's outcomes, also those of another run.
            let name: u128 = rand::random();
            let persistent = match number % 2 {
                0 => Some(self.persistent(name, &mut chance)?),
                _ => None,
            };
            let (http, session) = (Http::new(ANSWER_LIMIT)?, format!("{name:032x}"));
            let mut client = Client { number, chance, http, persistent, session, sequence: 0 };
            let load = self.clone();
            running.spawn(async move {
                while !load.is_stopped.load(Ordering::SeqCst) {
                    load.take_turn(&mut client).await;
                    tokio::time::sleep(LONGEST_PAUSE.mul_f64(client.chance.random())).await;
                }
            });
        }
        Ok(running)
    }

    fn persistent(&self, name: u128, chance: &mut StdRng) -> Result<Persistent, Failure> {
        let options = ClientOptions {
            timeout: PATIENCE,
            patience: PATIENCE,
            attempt_timeout: Duration::from_secs(6),
            ..ClientOptions::new(name)
        };
        let first = chance.random_range(0..self.stations.len());
        let mut servers: Vec<String> =
            self.stations.iter().map(|station| station.url.clone()).collect();
        servers.rotate_left(first);
        Ok(Persistent::new(servers, options)?)
    }

    /// Lets every client finish what it does, and ends.
    pub async fn stop(&self, running: JoinSet<()>) {
        self.is_stopped.store(true, Ordering::SeqCst);
        running.join_all().await;
    }

    /// Operations so far whose answers count.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::SeqCst)
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self) -> u64 {
        self.events.fetch_add(1, Ordering::SeqCst)
    }

    fn new_value(&self) -> ValueId {
        self.values.fetch_add(1, Ordering::SeqCst)
    }

    fn any_node(&self, client: &mut Client) -> usize {
        client.chance.random_range(0..self.stations.len())
    }

    async fn take_turn(&self, client: &mut Client) {
        let mut left = client.chance.random_range(0..TURNS.iter().map(|(weight, _)| weight).sum());
        let mut drawn = TURNS[0].1;
        for (weight, turn) in TURNS {
            drawn = turn;
            match left.checked_sub(weight) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        match drawn {
            Turn::Read => self.read(client).await,
            Turn::ReadStale => self.read_stale(client).await,
            Turn::PutOnce => self.put_once(client).await,
            Turn::Put | Turn::Create | Turn::Replace | Turn::Delete | Turn::Transact => {
                let plan = self.plan(client, drawn);
                self.change(client, plan).await;
            }
        }
    }

    /// What the keys of a group begin with.
    pub fn prefix_of(&self, group: usize) -> String {
        format!("{}group/{group}/", self.prefix)
    }

    fn name(&self, group: usize, slot: Slot) -> String {
        format!("{}{slot}", self.prefix_of(group))
    }

    /// How many keys it has.
    fn slots(&self, group: usize) -> usize {
        MAX_SLOTS - group % MAX_SLOTS
    }

    /// A group that has room for another call, which is counted as under way; a full one makes room for a new one.
    fn any_group(&self, client: &mut Client) -> usize {
        let place = client.chance.random_range(0..GROUPS);
        let facts = &mut *self.facts();
        let full = facts.active.get(place).is_none_or(|number| {
            let group = &facts.groups[*number];
            group.calls.len() + group.under_way >= MOST_CALLS
        });
        if full {
            let number = facts.groups.len();
            facts.groups.push(Group::default());
            match facts.active.get_mut(place) {
                Some(active) => *active = number,
                None => facts.active.push(number),
            }
        }
        let number = facts.active[place.min(facts.active.len() - 1)];
        facts.groups[number].under_way += 1;
        number
    }

    /// Takes note of a call on a group; one without an answer may take effect at any time.
    fn note_call(
        &self,
        group: usize,
        by: String,
        action: Action,
        invoked: u64,
        returned: Option<(u64, Answer)>,
    ) {
        self.operations.fetch_add(1, Ordering::SeqCst);
        self.facts().groups[group].calls.push(Call { by, action, invoked, returned });
    }

    fn end_call(&self, group: usize) {
        self.facts().groups[group].under_way -= 1;
    }
}
