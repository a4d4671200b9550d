//! Whole nodes in one process: real actors, real consensus, real storage, on simulated surroundings.
//!
//! Each node has a `LocalSet` for its actors, a memory disk and a place in the memory network. A crash drops the
//! `LocalSet`, fences the disk (what was not synced is lost or torn by chance) and ends the connections;
//! tasks of the dead node that still run on the shared runtime can no longer reach anything.
//! Time is paused and steps only when everything waits, so a run is a function of its seed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use conuredb::actors::membership::Seeds;
use conuredb::actors::messages::{Gateway, Join};
use conuredb::actors::node::{Node, NodeOptions, Surroundings, Threads};
use conuredb::actors::peer::handshake::{Card, Secret};
use conuredb::actors::raft::context::RaftTiming;
use conuredb::env::{Chance, Clock};
use conuredb::metrics::Metrics;
use conuredb::storage::disk::{MemDisk, PowerCut};
use conuredb::storage::log::LogOptions;
use conuredb::storage::store::StoreOptions;
use futures_util::future::BoxFuture;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::net::SimNetwork;

/// The port every simulated node listens on.
const PORT: u16 = 7001;

/// Chance from a seed, shared by all that draws in a run.
pub struct SeededChance(Mutex<SmallRng>);

impl SeededChance {
    pub fn new(seed: u64) -> Arc<SeededChance> {
        Arc::new(SeededChance(Mutex::new(SmallRng::seed_from_u64(seed))))
    }
}

impl Chance for SeededChance {
    fn next_u64(&self) -> u64 {
        self.0.lock().unwrap().next_u64()
    }
}

/// Simulated time as a wall clock.
struct SimClock(Instant);

impl Clock for SimClock {
    fn unix_ms(&self) -> u64 {
        1_700_000_000_000 + self.0.elapsed().as_millis() as u64
    }
}

/// One machine: its disk outlives the nodes that run on it.
struct Machine {
    disk: MemDisk,
    running: Option<Running>,
}

struct Running {
    actors: LocalSet,
    gateway: Gateway,
}

/// All machines, the network between them, and the trace of what happened.
#[derive(Clone)]
pub struct World {
    machines: Rc<RefCell<BTreeMap<String, Machine>>>,
    gateways: Arc<Mutex<BTreeMap<String, Gateway>>>,
    pub network: SimNetwork,
    pub chance: Arc<dyn Chance>,
    trace: Rc<RefCell<String>>,
    /// Reasons for which nodes gave up by themselves.
    fatal: Arc<Mutex<Vec<String>>>,
    began: Instant,
}

impl World {
    fn new(seed: u64) -> World {
        let chance: Arc<dyn Chance> = SeededChance::new(seed);
        World {
            machines: Rc::default(),
            gateways: Arc::default(),
            network: SimNetwork::new(chance.clone()),
            chance,
            trace: Rc::default(),
            fatal: Arc::default(),
            began: Instant::now(),
        }
    }

    /// Runs `script` in a world made from `seed`, and returns what it returns and the trace.
    pub fn run<T, F: Future<Output = T>>(
        seed: u64,
        script: impl FnOnce(World) -> F,
    ) -> (T, String) {
        let _ = env_logger::builder().is_test(true).try_init();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()))
            .build()
            .expect("a runtime without I/O");
        runtime.block_on(async {
            let world = World::new(seed);
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
                if let Some(running) = &mut machine.running {
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
        let _ = writeln!(self.trace.borrow_mut(), "{at:>7} {event}");
    }

    /// Starts the node on a machine, called as the machine is; the machine comes to be with its first start.
    pub async fn start(&self, name: &str, seeds: &[&str]) {
        self.start_as(name, name, seeds).await;
    }

    /// Starts a node that calls itself `node_name` on a machine.
    pub async fn start_as(&self, name: &str, node_name: &str, seeds: &[&str]) {
        let disk = {
            let mut machines = self.machines.borrow_mut();
            let machine = machines
                .entry(name.into())
                .or_insert_with(|| Machine { disk: MemDisk::new(), running: None });
            machine.disk.clone()
        };
        self.note(format_args!("start {name}"));
        let fatal = self.fatal.clone();
        let failed_name = name.to_string();
        let around = Surroundings {
            disk: Arc::new(disk),
            network: self.network.host(name),
            clock: Arc::new(SimClock(self.began)),
            chance: self.chance.clone(),
            seeds: Arc::new(SimSeeds { gateways: self.gateways.clone() }),
            runtime: tokio::runtime::Handle::current(),
            metrics: Arc::new(Metrics::new("sim")),
            on_fatal: Arc::new(move |reason| {
                fatal.lock().unwrap().push(format!("{failed_name}: {reason}"));
            }),
        };
        let options = NodeOptions { name: node_name.into(), ..options(name, seeds) };
        let actors = LocalSet::new();
        let node = actors.run_until(Node::start(options, around)).await;
        let node = node.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let gateway = node.gateway();
        // The node lives as long as its actors: nothing closes it but a crash.
        actors.spawn_local(async move {
            let _node = node;
            std::future::pending::<()>().await;
        });
        self.gateways.lock().unwrap().insert(name.into(), gateway.clone());
        let mut machines = self.machines.borrow_mut();
        if let Some(machine) = machines.get_mut(name) {
            machine.running = Some(Running { actors, gateway });
        }
    }

    /// Kills the node on a machine as a power cut does.
    pub fn crash(&self, name: &str) {
        self.note(format_args!("crash {name}"));
        self.gateways.lock().unwrap().remove(name);
        self.network.kill(name);
        let mut machines = self.machines.borrow_mut();
        let Some(machine) = machines.get_mut(name) else { return };
        let mut rng = SmallRng::seed_from_u64(self.chance.next_u64());
        machine.disk = machine.disk.crash(PowerCut::ByChance(&mut rng));
        machine.running = None;
    }

    /// Gives a machine that does not run an empty disk.
    pub fn lose_disk(&self, name: &str) {
        self.note(format_args!("lose the disk of {name}"));
        if let Some(machine) = self.machines.borrow_mut().get_mut(name) {
            machine.disk = MemDisk::new();
        }
    }

    /// Leaves a machine's disk this much room, or as much as it wants.
    pub fn leave_room(&self, name: &str, room_bytes: Option<u64>) {
        self.note(format_args!("room on {name}: {room_bytes:?}"));
        let machines = self.machines.borrow();
        let Some(machine) = machines.get(name) else { return };
        let used_bytes: u64 = machine.disk.contents().values().map(|file| file.len() as u64).sum();
        machine.disk.set_capacity(room_bytes.map(|room_bytes| used_bytes + room_bytes));
    }

    /// Where requests to a node enter, if it runs.
    pub fn gateway(&self, name: &str) -> Option<Gateway> {
        let machines = self.machines.borrow();
        machines.get(name)?.running.as_ref().map(|running| running.gateway.clone())
    }

    pub fn runs(&self, name: &str) -> bool {
        self.gateway(name).is_some()
    }

    /// Why nodes gave up by themselves, if any did. A crashed node's last words do not count.
    pub fn fatal(&self) -> Vec<String> {
        self.fatal.lock().unwrap().clone()
    }

    /// Forgets what a crashed node's fenced disk made it say.
    pub fn forget_last_words(&self, name: &str) {
        self.fatal.lock().unwrap().retain(|reason| !reason.starts_with(&format!("{name}:")));
    }
}

fn options(name: &str, seeds: &[&str]) -> NodeOptions {
    NodeOptions {
        name: name.into(),
        raft_addr: format!("{name}:{PORT}"),
        raft_advertise_addr: None,
        http_advertise_addr: format!("http://{name}:8081"),
        founds: seeds.is_empty(),
        seeds: seeds.iter().map(|seed| seed.to_string()).collect(),
        secret: Secret::new("simulated"),
        timing: RaftTiming {
            heartbeat_interval: Duration::from_millis(100),
            election_timeout_min: Duration::from_millis(300),
            election_timeout_max: Duration::from_millis(600),
            // Small, so that checkpoints, purges and snapshots happen in a short run.
            checkpoint_entries: 40,
            checkpoint_bytes: 1 << 20,
            keep_entries: 10,
        },
        store: StoreOptions { cache_bytes: 1 << 20 },
        log: LogOptions {
            segment_bytes: 64 << 10,
            max_payload_bytes: 32 << 10,
            cache_bytes: 64 << 10,
            ..LogOptions::default()
        },
        threads: Threads::Here,
    }
}

/// Joins through another node's gateway instead of its HTTP port.
struct SimSeeds {
    gateways: Arc<Mutex<BTreeMap<String, Gateway>>>,
}

impl Seeds for SimSeeds {
    fn join(&self, seed: &str, own: &Card) -> BoxFuture<'static, Result<(), String>> {
        let gateway = self.gateways.lock().unwrap().get(seed).cloned();
        let join = Join {
            name: own.name.clone(),
            raft_addr: own.raft_addr.clone(),
            http_addr: own.http_addr.clone(),
            voter: true,
            timeout: Duration::from_secs(5),
        };
        Box::pin(async move {
            let gateway = gateway.ok_or("it does not run")?;
            let joined = gateway.join.send(join).await.map_err(|error| error.to_string())?;
            joined.map_err(|error| error.to_string())
        })
    }
}
