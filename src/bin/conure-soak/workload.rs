//! The clients of a run: what they ask for, and what they remember of the answers.
//!
//! The counterpart of `simulation::workload`, over HTTP and real time. Every second client is persistent: it uses the
//! project's Rust client, which tries again until it knows. The others are plain: a request, an answer or none; two
//! thirds of their writes carry an idempotency key and are sent again, to any node, when no answer came. They
//! put, create, replace what they saw last, delete and read a few contended keys, read them stale, and put keys
//! that are written once. A contended key makes room for another one when its history is as long as can be judged.
//!
//! Checked as the answers come (`calls`, `reads`):
//! * a linearizable read shows a revision no older than the newest that anybody had seen when it began, and a
//!   write that is acknowledged gets a newer one;
//! * a stale read of one client at one life of a node never shows an older revision than the one before;
//! * a record that is seen is one that somebody wrote, byte for byte, that nobody was told was refused, and a
//!   revision is one record.
//!
//! What has to hold in the end is in `judge`.

mod acts;
mod calls;
mod reads;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use conuredb::client::{Client as Persistent, ClientOptions};
use conuredb::simulation::history::{Call, Revisions, Seen, ValueId};
use conuredb::simulation::linearizable::MAX_CALLS;
use conuredb::types::{Condition, Revision};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use self::acts::{Action, Answer, ONLY};
use crate::Failure;
use crate::findings::Findings;
use crate::fleet::{Fleet, Station};
use crate::http::Http;

/// Calls on a contended key under load; the rest is for the reads at the end.
const MOST_CALLS: usize = MAX_CALLS - 32;

/// Contended keys at a time.
const KEYS: usize = 6;

/// Longest pause of a client between two requests: they are to be in the middle of something whenever something goes
/// wrong, not to wear the machine out.
const LONGEST_PAUSE: Duration = Duration::from_millis(25);

/// How long a plain client waits for an answer: above what an election takes, below what would keep it from its work.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// How long a persistent client goes on with one operation: longer than a cluster is without a leader here.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a client does next.
#[derive(Clone, Copy)]
enum Step {
    Put,
    Create,
    Replace,
    Delete,
    Read,
    StaleRead,
    PutOnce,
}

const STEPS: [(u32, Step); 7] = [
    (20, Step::Put),
    (5, Step::Create),
    (12, Step::Replace),
    (8, Step::Delete),
    (25, Step::Read),
    (15, Step::StaleRead),
    (15, Step::PutOnce),
];

/// A contended key.
#[derive(Default)]
pub struct Register {
    pub name: String,
    pub calls: Vec<Call>,
    under_way: usize,
    pub revisions: Revisions,
    /// What clients know of it: the newest revision each has seen.
    known: BTreeMap<usize, Revision>,
}

#[derive(Default)]
pub struct Facts {
    pub registers: Vec<Register>,
    /// The registers that are in use.
    active: Vec<usize>,
    /// Keys that are written once: acknowledged, and left open.
    pub once: BTreeMap<String, ValueId>,
    pub in_doubt: BTreeMap<String, ValueId>,
    /// Values of writes that surely had no effect.
    pub refused: BTreeSet<ValueId>,
    /// The key that each acknowledged write wrote or deleted.
    pub acknowledged: BTreeMap<Revision, String>,
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
                    load.step(&mut client).await;
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

    async fn step(&self, client: &mut Client) {
        let mut left = client.chance.random_range(0..STEPS.iter().map(|(weight, _)| weight).sum());
        let mut drawn = STEPS[0].1;
        for (weight, step) in STEPS {
            drawn = step;
            match left.checked_sub(weight) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        match drawn {
            Step::Put => self.put(client, Condition::None).await,
            Step::Create => self.put(client, Condition::Absent).await,
            Step::Replace => self.replace(client).await,
            Step::Delete => self.delete(client).await,
            Step::Read => self.read(client).await,
            Step::StaleRead => self.read_stale(client).await,
            Step::PutOnce => self.put_once(client).await,
        }
    }

    /// A contended key that has room for another call; a full one makes room for a new one.
    fn any_register(&self, client: &mut Client) -> (usize, String) {
        let slot = client.chance.random_range(0..KEYS);
        let facts = &mut *self.facts();
        let full = facts.active.get(slot).is_none_or(|number| {
            let register = &facts.registers[*number];
            register.calls.len() + register.under_way >= MOST_CALLS
        });
        if full {
            let number = facts.registers.len();
            let name = format!("{}key/{number}", self.prefix);
            facts.registers.push(Register { name, ..Register::default() });
            match facts.active.get_mut(slot) {
                Some(active) => *active = number,
                None => facts.active.push(number),
            }
        }
        let number = facts.active[slot.min(facts.active.len() - 1)];
        facts.registers[number].under_way += 1;
        (number, facts.registers[number].name.clone())
    }

    /// Notes a record that was seen: one that contradicts another is a finding.
    fn note_seen(&self, register: &mut Register, seen: Seen) {
        if let Err(what) = register.revisions.note(ONLY, seen) {
            self.findings.violation(format_args!("{}: {what}", register.name));
        }
    }

    /// Takes note of a call on a contended key; one without an answer may take effect at any time.
    fn note_call(
        &self,
        register: usize,
        by: String,
        action: Action,
        invoked: u64,
        returned: Option<(u64, Answer)>,
    ) {
        self.operations.fetch_add(1, Ordering::SeqCst);
        self.facts().registers[register].calls.push(Call {
            by,
            action: action.into(),
            invoked,
            returned: returned.map(|(at, answer)| (at, answer.into())),
        });
    }

    fn end_call(&self, register: usize) {
        self.facts().registers[register].under_way -= 1;
    }
}
