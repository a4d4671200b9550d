//! What stands in place of the operating system: chance and clocks from the seed, seeds without HTTP, and the
//! settings of a simulated node.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use tokio::time::{Instant, sleep};

use crate::actors::membership::Seeds;
use crate::actors::membership::autopilot::Rules;
use crate::actors::messages::{Gateway, Join};
use crate::actors::node::{NodeOptions, Threads};
use crate::actors::peer::handshake::{Card, Secret};
use crate::actors::raft::context::RaftTiming;
use crate::env::{Chance, Clock};
use crate::storage::log::LogOptions;
use crate::storage::store::StoreOptions;
use crate::types::{AskedBy, Retention};

/// The port every simulated node listens on.
const PORT: u16 = 7001;

/// When simulated time begins, milliseconds since the Unix epoch.
const BEGINNING_MS: i64 = 1_700_000_000_000;

/// Chance from a seed, shared by all that draws in a run.
pub struct SeededChance(Mutex<SmallRng>);

impl SeededChance {
    pub fn new(seed: u64) -> Arc<SeededChance> {
        Arc::new(SeededChance(Mutex::new(SmallRng::seed_from_u64(seed))))
    }
}

impl Chance for SeededChance {
    fn next_u64(&self) -> u64 {
        self.0.lock().expect("no draw panics").next_u64()
    }
}

/// Simulated time as one machine's wall clock shows it: it may be wrong, and drift.
pub struct SimClock {
    began: Instant,
    ahead_ms: AtomicI64,
    drift_ppm: AtomicI64,
    /// The latest that it ever showed.
    latest_ms: AtomicU64,
}

impl SimClock {
    pub fn new(began: Instant) -> SimClock {
        SimClock {
            began,
            ahead_ms: AtomicI64::new(0),
            drift_ppm: AtomicI64::new(0),
            latest_ms: AtomicU64::new(0),
        }
    }

    /// Puts the clock forward, or back.
    pub fn jump(&self, by_ms: i64) {
        self.ahead_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// Has the clock gain so many microseconds each second from the beginning of the run on.
    pub fn drift(&self, ppm: i64) {
        self.drift_ppm.store(ppm, Ordering::Relaxed);
    }

    /// The latest that anybody has read from it.
    pub fn latest_ms(&self) -> u64 {
        self.latest_ms.load(Ordering::Relaxed)
    }

    /// Whether it shows the time that it would show if nothing had been done to it.
    pub fn is_right(&self) -> bool {
        let ahead = self.ahead_ms.load(Ordering::Relaxed);
        (ahead, self.drift_ppm.load(Ordering::Relaxed)) == (0, 0)
    }
}

impl Clock for SimClock {
    fn unix_ms(&self) -> u64 {
        let elapsed_ms = self.began.elapsed().as_millis() as i64;
        let gained_ms = elapsed_ms * self.drift_ppm.load(Ordering::Relaxed) / 1_000_000;
        let ms = BEGINNING_MS + elapsed_ms + gained_ms + self.ahead_ms.load(Ordering::Relaxed);
        let ms = ms.max(0) as u64;
        self.latest_ms.fetch_max(ms, Ordering::Relaxed);
        ms
    }
}

/// Where requests enter the nodes that run.
pub type Gateways = Arc<Mutex<BTreeMap<String, Gateway>>>;

/// How long a node goes on asking a seed, and its pause between two attempts.
const SEED_LIMIT: Duration = Duration::from_secs(5);
const SEED_PAUSE: Duration = Duration::from_millis(200);

/// Joins through another node's gateway instead of its HTTP port, again and again until it is let in or time is up.
pub struct SimSeeds {
    pub gateways: Gateways,
    /// Whether answers arrive.
    pub answer: Arc<AtomicBool>,
}

impl Seeds for SimSeeds {
    fn join(
        &self,
        seed: &str,
        own: &Card,
        voter: bool,
        asked_by: AskedBy,
    ) -> BoxFuture<'static, Result<(), String>> {
        let gateway = self.gateways.lock().expect("no holder panics").get(seed).cloned();
        let answer = self.answer.clone();
        let join = Join {
            name: own.name.clone(),
            raft_addr: own.raft_addr.clone(),
            http_addr: own.http_addr.clone(),
            voter,
            asked_by,
            timeout: SEED_LIMIT,
            trace: None,
        };
        Box::pin(async move {
            let gateway = gateway.ok_or("it does not run")?;
            let deadline = Instant::now() + SEED_LIMIT;
            loop {
                let joined = gateway.join.send(join.clone()).await;
                let failure = match joined {
                    Ok(Ok(())) if answer.load(Ordering::Relaxed) => return Ok(()),
                    Ok(Ok(())) => "its answer was lost".to_owned(),
                    Ok(Err(error)) => error.to_string(),
                    Err(error) => return Err(error.to_string()),
                };
                if Instant::now() >= deadline {
                    return Err(failure);
                }
                sleep(SEED_PAUSE).await;
            }
        })
    }
}

/// The settings of the node on a machine.
pub fn options(machine: &str, seeds: &[&str]) -> NodeOptions {
    NodeOptions {
        name: machine.into(),
        raft_addr: raft_addr(machine),
        raft_advertise_addr: None,
        http_advertise_addr: format!("http://{machine}:8081"),
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
            snapshot_bytes_per_second: 0,
            lease_clock_drift: Some(Duration::from_millis(50)),
        },
        retention: Retention::default(),
        store: StoreOptions { cache_bytes: 1 << 20 },
        log: LogOptions {
            segment_bytes: 64 << 10,
            // A transaction with four long values fits, each of them with less than 12,000 bytes.
            max_payload_bytes: 48 << 10,
            cache_bytes: 64 << 10,
            max_staged_bytes: 4 << 20,
            ..LogOptions::default()
        },
        rules: Rules { replace_damaged: true, ..Rules::default() },
        threads: Threads::Here,
    }
}

/// Timing by a clock that runs at so many thousandths of the right speed: simulated time is one, so that what a node
/// measures with a fast clock is shorter.
pub fn by_clock(timing: RaftTiming, per_mille: u32) -> RaftTiming {
    let real = |measured: Duration| measured * 1_000 / per_mille;
    RaftTiming {
        heartbeat_interval: real(timing.heartbeat_interval),
        election_timeout_min: real(timing.election_timeout_min),
        election_timeout_max: real(timing.election_timeout_max),
        lease_clock_drift: timing.lease_clock_drift.map(real),
        ..timing
    }
}

/// How fast the clocks of nodes may be, in thousandths: the drift that reads by lease count on, 50 of 300 ms, is between the
/// slowest and the fastest.
pub const CLOCK_RATES: std::ops::RangeInclusive<u32> = 920..=1_080;

/// Where the node on a machine answers its peers.
pub fn raft_addr(machine: &str) -> String {
    format!("{machine}:{PORT}")
}
