//! A round: clients in closed loops, each asking again as soon as it is answered, for a set time or number of
//! operations. All of them run on one thread, so that no lock is in what is measured.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::args::{ClusterArgs, Op, Spread, System};
use super::client::{Client, Running};
use super::error::{ClientError, ClusterError};
use super::keys::{Draw, Keys};
use super::process::{mean_resident_bytes, own_cpu, total_cpu};
use crate::data::Rng;

/// The longest latency that is told from longer ones.
const LONGEST_US: u64 = 60_000_000;

/// How long the last answers of a round may take to come.
const LAST_ANSWERS: Duration = Duration::from_secs(60);

/// Clients that load the keys, and read them afterwards.
const SERVICE_CLIENTS: usize = 64;

/// Keys of a scan.
const SCAN_KEYS: usize = 100;

/// Keys that are read after each round, at all nodes.
const SAMPLE_KEYS: usize = 2_000;

/// What a round showed.
#[derive(Clone, Copy)]
pub struct Figures {
    pub ops_per_s: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Of all nodes and of the clients, for an operation; `None` for nodes that were not started here.
    pub cpu_us_per_op: Option<f64>,
    pub client_cpu_us_per_op: f64,
    /// Of the average node.
    pub rss_bytes: Option<f64>,
}

/// What the clients of a round share.
struct Shared {
    system: System,
    keys: Rc<Keys>,
    op: Op,
    /// Operations that were begun before are not counted.
    counts_from: Instant,
    ends: Cell<Option<Instant>>,
    /// Operations that may still be begun.
    left: Cell<u64>,
    latencies: RefCell<Histogram<u64>>,
}

/// Runs a round.
pub async fn run(
    running: &Running,
    keys: &Rc<Keys>,
    args: &ClusterArgs,
    number: u32,
) -> Result<Figures, ClusterError> {
    let clients = running.clients(args.clients as usize, args.spread()).await?;
    let timed = args.ops.is_none();
    let warmup = Duration::from_secs(if timed { args.warmup.into() } else { 0 });
    let counts_from = Instant::now() + warmup;
    let ends = timed.then(|| counts_from + Duration::from_secs(args.seconds.into()));
    let histogram = Histogram::new_with_bounds(1, LONGEST_US, 3).map_err(|error| {
        ClusterError::Io { action: "make a histogram", source: std::io::Error::other(error) }
    })?;
    let shared = Rc::new(Shared {
        system: running.system,
        keys: keys.clone(),
        op: args.op,
        counts_from,
        ends: Cell::new(ends),
        left: Cell::new(args.ops.unwrap_or(u64::MAX)),
        latencies: RefCell::new(histogram),
    });
    let mut tasks = JoinSet::new();
    let count = clients.len();
    for (index, client) in clients.into_iter().enumerate() {
        let rng = Rng::new(args.run.seed + u64::from(number), index as u64 + 1);
        let draw = Draw::new(rng, args.dist, keys.len(), index, count);
        tasks.spawn_local(work(shared.clone(), client, draw));
    }
    let processes = running.processes();
    let mut ended = pin_until(&mut tasks, counts_from).await?;
    let (begun, cpu, own) = (Instant::now(), total_cpu(processes)?, own_cpu());
    if !ended {
        ended = pin_until(&mut tasks, ends.unwrap_or(begun + Duration::from_secs(86_400))).await?;
    }
    let (took, cpu, own) = (begun.elapsed(), total_cpu(processes)? - cpu, own_cpu() - own);
    let ops = shared.latencies.borrow().len();
    let rss = mean_resident_bytes(processes)?;
    if !ended && !pin_until(&mut tasks, Instant::now() + LAST_ANSWERS).await? {
        return Err(ClusterError::Stuck { system: running.system, limit: LAST_ANSWERS });
    }
    let latencies = shared.latencies.borrow();
    let per_op = |time: Duration| time.as_secs_f64() * 1e6 / ops.max(1) as f64;
    let measured = !processes.is_empty();
    Ok(Figures {
        ops_per_s: ops as f64 / took.as_secs_f64(),
        p50_us: latencies.value_at_quantile(0.5) as f64,
        p99_us: latencies.value_at_quantile(0.99) as f64,
        cpu_us_per_op: measured.then(|| per_op(cpu)),
        client_cpu_us_per_op: per_op(own),
        rss_bytes: measured.then_some(rss as f64),
    })
}

/// Lets the clients work until `until`. True when all of them have ended before; the first error ends all.
async fn pin_until(
    tasks: &mut JoinSet<Result<(), ClusterError>>,
    until: Instant,
) -> Result<bool, ClusterError> {
    loop {
        match tokio::time::timeout_at(until, tasks.join_next()).await {
            Err(_) => return Ok(false),
            Ok(None) => return Ok(true),
            Ok(Some(Ok(done))) => done?,
            Ok(Some(Err(panicked))) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
}

async fn work(shared: Rc<Shared>, mut client: Client, mut draw: Draw) -> Result<(), ClusterError> {
    loop {
        let begun = Instant::now();
        let left = shared.left.get();
        if left == 0 || shared.ends.get().is_some_and(|end| begun >= end) {
            return Ok(());
        }
        shared.left.set(left - 1);
        let number = draw.next();
        let writes = shared.op == Op::Put || shared.op == Op::Mixed && draw.coin();
        let (keys, system) = (&shared.keys, shared.system);
        match shared.op {
            _ if writes => put(keys, system, &mut client, number).await?,
            Op::Scan => scan(keys, system, &mut client, number).await?,
            op => get(keys, system, &mut client, number, op == Op::GetStale).await?,
        }
        let now = Instant::now();
        if begun >= shared.counts_from && shared.ends.get().is_none_or(|end| now < end) {
            let took = (now - begun).as_micros() as u64;
            shared.latencies.borrow_mut().saturating_record(took.max(1));
        }
    }
}

fn request_error(
    system: System,
    doing: &'static str,
    key: &str,
) -> impl FnOnce(ClientError) -> ClusterError {
    let key = key.to_owned();
    move |source| ClusterError::Request { system, doing, key, source }
}

async fn put(
    keys: &Keys,
    system: System,
    client: &mut Client,
    number: usize,
) -> Result<(), ClusterError> {
    let key = Keys::name(number);
    let written = client.put(&key, keys.next_value(number)).await;
    written.map_err(request_error(system, "writing", &key))?;
    keys.note_written(number);
    Ok(())
}

async fn get(
    keys: &Keys,
    system: System,
    client: &mut Client,
    number: usize,
    stale: bool,
) -> Result<(), ClusterError> {
    let key = Keys::name(number);
    let found = client.get(&key, stale).await.map_err(request_error(system, "reading", &key))?;
    let checked = keys.check(number, found.as_ref());
    checked.map_err(|what| ClusterError::WrongBytes { system, key, what })
}

async fn scan(
    keys: &Keys,
    system: System,
    client: &mut Client,
    first: usize,
) -> Result<(), ClusterError> {
    let key = Keys::name(first);
    let found = client.scan(&key, SCAN_KEYS).await;
    let found = found.map_err(request_error(system, "scanning from", &key))?;
    let checked = keys.check_scan(first, SCAN_KEYS, &found);
    checked.map_err(|what| ClusterError::WrongBytes { system, key, what })
}

/// Writes every key once, so that reads find something.
pub async fn load(running: &Running, keys: &Rc<Keys>) -> Result<(), ClusterError> {
    each(
        running,
        Spread::Leader,
        (0..keys.len()).collect(),
        keys,
        |keys, system, client, number| Box::pin(put(keys, system, client, number)),
    )
    .await
}

/// Reads a sample of the keys at all nodes, and compares.
pub async fn verify(running: &Running, keys: &Rc<Keys>, rng: &mut Rng) -> Result<(), ClusterError> {
    let sample = (0..SAMPLE_KEYS).map(|_| rng.below(keys.len())).collect();
    each(running, Spread::All, sample, keys, |keys, system, client, number| {
        Box::pin(get(keys, system, client, number, false))
    })
    .await
}

type Doing<'a> = std::pin::Pin<Box<dyn Future<Output = Result<(), ClusterError>> + 'a>>;

/// Does something with each of these keys.
async fn each(
    running: &Running,
    spread: Spread,
    numbers: Vec<usize>,
    keys: &Rc<Keys>,
    act: for<'a> fn(&'a Keys, System, &'a mut Client, usize) -> Doing<'a>,
) -> Result<(), ClusterError> {
    let system = running.system;
    let queue = Rc::new(RefCell::new(numbers));
    let mut tasks = JoinSet::new();
    for mut client in running.clients(SERVICE_CLIENTS, spread).await? {
        let (queue, keys) = (queue.clone(), keys.clone());
        tasks.spawn_local(async move {
            loop {
                let Some(number) = queue.borrow_mut().pop() else { return Ok(()) };
                act(&keys, system, &mut client, number).await?;
            }
        });
    }
    match pin_until(&mut tasks, Instant::now() + Duration::from_secs(3_600)).await? {
        true => Ok(()),
        false => Err(ClusterError::Stuck { system, limit: LAST_ANSWERS }),
    }
}
