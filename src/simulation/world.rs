//! The machines of a run: real nodes on memory disks, and what can happen to them.
//!
//! Each node has a `LocalSet` for its actors, a memory disk and a place in the memory network. A crash drops the
//! `LocalSet`, fences the disk (what was not synced is lost or torn by chance) and ends the connections;
//! tasks of the dead node that still run on the shared runtime can no longer reach anything.
//! Time is paused and steps only when everything waits, so a run is a function of its seed.
//!
//! A slow disk is a machine whose actors are not polled for a while: they are what waits for a disk, and the
//! disk's calls, being synchronous, cannot wait by themselves.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::net::SimNetwork;
use super::surroundings::{Gateways, SeededChance, SimClock, SimSeeds, options};
use crate::actors::messages::Gateway;
use crate::actors::node::{Node, NodeError, NodeOptions, Surroundings};
use crate::actors::scrub::CurrentLog;
use crate::env::{Chance, Clock};
use crate::metrics::Metrics;
use crate::storage::disk::{MemDisk, PowerCut};
use crate::storage::kv::{KvReader, KvSnapshot};

/// One machine: its disk and its clock outlive the nodes that run on it.
struct Machine {
    disk: MemDisk,
    clock: Arc<SimClock>,
    /// How often a node was started here.
    starts: u64,
    running: Option<Running>,
}

struct Running {
    actors: LocalSet,
    gateway: Gateway,
    reader: KvReader,
    log: CurrentLog,
    metrics: Arc<Metrics>,
    /// Its actors are not polled.
    is_held: bool,
}

/// What a node holds for others.
pub struct NodeLoad {
    pub staged_log_bytes: usize,
    pub peer_connections: u64,
    pub watchers: u64,
    /// Requests that wait, by what for.
    pub queues: [(&'static str, u64); 4],
}

/// Why a node gave up by itself, and in which of its lives.
struct LastWords {
    machine: String,
    start: u64,
    reason: String,
}

/// Is told every line of a trace.
pub type Listener = fn(&str);

/// All machines, the network between them, and the trace of what happened.
#[derive(Clone)]
pub struct World {
    machines: Rc<RefCell<BTreeMap<String, Machine>>>,
    gateways: Gateways,
    /// Whether nodes that ask to be let in are told the answer. If not, they ask again.
    pub seeds_answer: Arc<AtomicBool>,
    pub network: SimNetwork,
    pub chance: Arc<dyn Chance>,
    trace: Rc<RefCell<String>>,
    /// Told every line of the trace at once: what is known of a run that panics.
    listener: Listener,
    last_words: Arc<Mutex<Vec<LastWords>>>,
    began: Instant,
}

impl World {
    fn new(seed: u64, listener: Listener) -> World {
        let chance: Arc<dyn Chance> = SeededChance::new(seed);
        World {
            machines: Rc::default(),
            gateways: Arc::default(),
            seeds_answer: Arc::new(AtomicBool::new(true)),
            network: SimNetwork::new(chance.clone()),
            chance,
            trace: Rc::default(),
            listener,
            last_words: Arc::default(),
            began: Instant::now(),
        }
    }

    /// Runs `script` in a world made from `seed`, and returns what it returns and the trace.
    pub fn run<T, F: Future<Output = T>>(
        seed: u64,
        script: impl FnOnce(World) -> F,
    ) -> (T, String) {
        World::run_before(|_| {}, seed, script)
    }

    /// As [`World::run`], with every line of the trace told to `listener` as it is noted.
    pub fn run_before<T, F: Future<Output = T>>(
        listener: Listener,
        seed: u64,
        script: impl FnOnce(World) -> F,
    ) -> (T, String) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()))
            .build()
            .expect("a runtime without I/O");
        runtime.block_on(async {
            let world = World::new(seed, listener);
            let result = world.clone().drive(script(world.clone())).await;
            let trace = world.trace.borrow().clone();
            (result, trace)
        })
    }

    /// Polls the script and every node's actors until the script is done.
    async fn drive<T>(self, script: impl Future<Output = T>) -> T {
        let mut script = pin!(script);
        std::future::poll_fn(|cx| {
            let done = script.as_mut().poll(cx);
            let mut machines = self.machines.borrow_mut();
            for machine in machines.values_mut() {
                if let Some(running) = machine.running.as_mut().filter(|running| !running.is_held) {
                    let _ = pin!(&mut running.actors).poll(cx);
                }
            }
            match done {
                Poll::Ready(result) => Poll::Ready(result),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Notes an event with its simulated time.
    pub fn note(&self, event: impl std::fmt::Display) {
        let at = self.began.elapsed().as_millis();
        let mut trace = self.trace.borrow_mut();
        let begin = trace.len();
        let _ = writeln!(trace, "{at:>7} {event}");
        (self.listener)(&trace[begin..]);
    }

    /// Simulated time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Starts the node on a machine, called as the machine is; the machine comes to be with its first start.
    /// For disks that nobody hurt: the node must start.
    pub async fn start(&self, name: &str, seeds: &[&str]) {
        self.start_as(name, name, seeds).await;
    }

    /// Starts a node that calls itself `node_name` on a machine.
    pub async fn start_as(&self, name: &str, node_name: &str, seeds: &[&str]) {
        let options = NodeOptions { name: node_name.into(), ..options(name, seeds) };
        let started = self.try_start(name, options).await;
        started.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
    }

    /// Starts a node on a machine, or says why it does not start.
    pub async fn try_start(&self, name: &str, options: NodeOptions) -> Result<(), NodeError> {
        let (disk, clock, start) = {
            let mut machines = self.machines.borrow_mut();
            let machine = machines.entry(name.into()).or_insert_with(|| Machine {
                disk: MemDisk::new(),
                clock: Arc::new(SimClock::new(self.began)),
                starts: 0,
                running: None,
            });
            machine.starts += 1;
            (machine.disk.clone(), machine.clock.clone(), machine.starts)
        };
        self.note(format_args!("start {name}"));
        let last_words = self.last_words.clone();
        let machine = name.to_string();
        let metrics = Arc::new(Metrics::new("sim"));
        let around = Surroundings {
            disk: Arc::new(disk),
            network: self.network.host(name),
            clock,
            chance: self.chance.clone(),
            seeds: Arc::new(SimSeeds {
                gateways: self.gateways.clone(),
                answer: self.seeds_answer.clone(),
            }),
            runtime: tokio::runtime::Handle::current(),
            metrics: metrics.clone(),
            on_fatal: Arc::new(move |reason| {
                let machine = machine.clone();
                let words = LastWords { machine, start, reason };
                last_words.lock().expect("no holder panics").push(words);
            }),
        };
        let actors = LocalSet::new();
        let node = actors.run_until(Node::start(options, around)).await?;
        let (gateway, reader, log) = (node.gateway(), node.reader(), node.log_in_use());
        // The node lives as long as its actors: nothing closes it but a crash.
        actors.spawn_local(async move {
            let _node = node;
            std::future::pending::<()>().await;
        });
        self.gateways.lock().expect("no holder panics").insert(name.into(), gateway.clone());
        let mut machines = self.machines.borrow_mut();
        let machine = machines.get_mut(name).expect("it was made above");
        machine.running = Some(Running { actors, gateway, reader, log, metrics, is_held: false });
        Ok(())
    }

    /// Ends the node on a machine as a power cut does: of what was not synced, chance decides.
    pub fn crash(&self, name: &str) {
        self.note(format_args!("crash {name}"));
        let mut rng = SmallRng::seed_from_u64(self.chance.next_u64());
        self.end(name, |disk| disk.crash(PowerCut::ByChance(&mut rng)));
    }

    /// Ends the node on a machine as a signal does: the system keeps what was not synced.
    pub fn kill(&self, name: &str) {
        self.note(format_args!("kill {name}"));
        self.end(name, |disk| disk.outlive());
    }

    fn end(&self, name: &str, disk_after: impl FnOnce(&MemDisk) -> MemDisk) {
        self.gateways.lock().expect("no holder panics").remove(name);
        self.network.kill(name);
        let mut machines = self.machines.borrow_mut();
        let Some(machine) = machines.get_mut(name) else { return };
        machine.disk = disk_after(&machine.disk);
        machine.running = None;
    }

    /// Gives a machine that does not run an empty disk.
    pub fn lose_disk(&self, name: &str) {
        self.note(format_args!("lose the disk of {name}"));
        if let Some(machine) = self.machines.borrow_mut().get_mut(name) {
            machine.disk = MemDisk::new();
        }
    }

    /// Puts an older copy of its disk back into a machine that does not run.
    pub fn put_back(&self, name: &str, copy: MemDisk) {
        self.note(format_args!("put an old copy of the disk of {name} back"));
        if let Some(machine) = self.machines.borrow_mut().get_mut(name) {
            machine.disk = copy;
        }
    }

    /// Stops or continues the actors of a machine: see the module on slow disks.
    pub fn hold(&self, name: &str, is_held: bool) {
        let mut machines = self.machines.borrow_mut();
        let running = machines.get_mut(name).and_then(|machine| machine.running.as_mut());
        if let Some(running) = running {
            running.is_held = is_held;
        }
    }

    /// The disk of a machine.
    pub fn disk(&self, name: &str) -> Option<MemDisk> {
        self.machines.borrow().get(name).map(|machine| machine.disk.clone())
    }

    /// The wall clock of a machine.
    pub fn clock(&self, name: &str) -> Option<Arc<SimClock>> {
        self.machines.borrow().get(name).map(|machine| machine.clock.clone())
    }

    /// The latest that any wall clock has shown so far.
    pub fn latest_clock_ms(&self) -> u64 {
        let machines = self.machines.borrow();
        machines.values().map(|machine| machine.clock.latest_ms()).max().unwrap_or(0)
    }

    /// The wall clock of all machines, unless one of them is or was wrong.
    pub fn right_ms(&self) -> Option<u64> {
        let machines = self.machines.borrow();
        let first = machines.values().next()?.clock.unix_ms();
        machines.values().all(|machine| machine.clock.is_right()).then_some(first)
    }

    /// Leaves a machine's disk this much room, or as much as it wants.
    pub fn leave_room(&self, name: &str, room_bytes: Option<u64>) {
        self.note(format_args!("room on {name}: {room_bytes:?}"));
        let Some(disk) = self.disk(name) else { return };
        let used_bytes: u64 = disk.contents().values().map(|file| file.len() as u64).sum();
        disk.set_capacity(room_bytes.map(|room_bytes| used_bytes + room_bytes));
    }

    /// Where requests to a node enter, if it runs.
    pub fn gateway(&self, name: &str) -> Option<Gateway> {
        let machines = self.machines.borrow();
        machines.get(name)?.running.as_ref().map(|running| running.gateway.clone())
    }

    /// The present state of a node's store, if it runs.
    pub fn state(&self, name: &str) -> Option<KvSnapshot> {
        let machines = self.machines.borrow();
        machines.get(name)?.running.as_ref().map(|running| running.reader.snapshot())
    }

    /// Whether the node on a machine has met what is damaged.
    pub fn is_damaged(&self, name: &str) -> bool {
        let machines = self.machines.borrow();
        let running = machines.get(name).and_then(|machine| machine.running.as_ref());
        running.is_some_and(|running| {
            let log = (running.log)();
            running.reader.damage().or_else(|| log?.damage()).is_some()
        })
    }

    /// What a node holds for others now, if it runs.
    pub fn load(&self, name: &str) -> Option<NodeLoad> {
        let machines = self.machines.borrow();
        let running = machines.get(name)?.running.as_ref()?;
        let metrics = &running.metrics;
        Some(NodeLoad {
            staged_log_bytes: (running.log)().map_or(0, |log| log.staged_bytes()),
            peer_connections: metrics.peer_connections.get(),
            watchers: metrics.watchers.get(),
            queues: [
                ("for peers to answer", metrics.peer_requests.get()),
                ("of peers for an answer", metrics.peer_serving.get()),
                ("for the Raft actor", metrics.raft_requests.get()),
                ("for the log", metrics.log_waiting.get()),
            ],
        })
    }

    pub fn runs(&self, name: &str) -> bool {
        self.gateway(name).is_some()
    }

    /// Which of its lives the node on a machine is in.
    pub fn starts(&self, name: &str) -> u64 {
        self.machines.borrow().get(name).map_or(0, |machine| machine.starts)
    }

    /// Why the node that runs on a machine gave up by itself, if it did. What a dead node said when its
    /// disk was gone does not count.
    pub fn gave_up(&self, name: &str) -> Option<String> {
        if !self.runs(name) {
            return None;
        }
        let start = self.starts(name);
        let last_words = self.last_words.lock().expect("no holder panics");
        let words = last_words.iter().find(|words| words.machine == name && words.start == start);
        words.map(|words| words.reason.clone())
    }

    /// The nodes that gave up by themselves, and why.
    pub fn fatal(&self) -> Vec<String> {
        let names: Vec<String> = self.machines.borrow().keys().cloned().collect();
        let gave_up = |name: String| Some(format!("{name}: {}", self.gave_up(&name)?));
        names.into_iter().filter_map(gave_up).collect()
    }
}
