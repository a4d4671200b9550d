//! How long writes wait when the leader goes: killed, stopped by SIGTERM, or told to hand over.
//!
//! The nodes run with their default settings. Each of the others has a client that writes all the time, one write
//! after the other, none sent twice. What counts is, of a kill, the time until a write that was sent after it is
//! acknowledged, through every node that is left, the slower of them; of the other two, the longest that any
//! write took meanwhile. An error is any answer but a good one. The writes that were on their way when a leader is
//! killed may be applied or not, and nobody can tell them; otherwise a client that goes through a follower has no
//! part in who leads, and an error is a finding.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use conuredb::processes::{PATIENCE, until};
use reqwest::Method;
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;

use crate::Failure;
use crate::cli::{CommonArgs, FailoverArgs};
use crate::fleet::{Around, Fleet};
use crate::http::Http;

/// Above a node's own limit for a write, so that what it says is heard.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Writes of each client before and after the leader goes.
const STEADY_WRITES: usize = 20;

/// What was measured of one way to go.
#[derive(Serialize)]
struct Figures {
    count: usize,
    median_ms: f64,
    max_ms: f64,
    errors: u64,
}

#[derive(Clone, Copy)]
enum Way {
    Kill,
    Terminate,
    Transfer,
}

impl Way {
    const ALL: [(Way, &'static str, u64); 3] = [
        (Way::Kill, "kills", 1_500),
        (Way::Terminate, "terminations", 300),
        (Way::Transfer, "transfers", 300),
    ];
}

/// Whether every client had its answers, where the leader was not killed.
pub async fn run(common: &CommonArgs, args: &FailoverArgs) -> Result<bool, Failure> {
    let count = usize::from(common.nodes);
    let mut fleet = Fleet::found(&common.program()?, count, &[], Around::default(), None).await?;
    let mut all = serde_json::Map::new();
    let mut errors = 0;
    for (way, name, goal_ms) in Way::ALL {
        let mut times = Vec::new();
        let mut failed = 0;
        for _ in 0..args.kills {
            let (time, errors) = once(&mut fleet, way).await?;
            times.push(time);
            failed += errors;
        }
        let figures = sum_up(times, failed);
        println!(
            "{:>3} {name:<12}  writes waited {:6.0} ms (median), {:6.0} ms (longest); goal {goal_ms} ms; {} client errors",
            figures.count, figures.median_ms, figures.max_ms, figures.errors
        );
        if !matches!(way, Way::Kill) {
            errors += failed;
        }
        all.insert(name.to_owned(), json!(figures));
    }
    if common.json {
        println!("{}", json!({ "nodes": count, "failover": all }));
    }
    Ok(errors == 0)
}

fn sum_up(mut times: Vec<Duration>, errors: u64) -> Figures {
    times.sort_unstable();
    let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1_000.0);
    let (count, middle) = (times.len(), times.len() / 2);
    Figures { count, median_ms: ms(times.get(middle)), max_ms: ms(times.last()), errors }
}

/// Lets the leader go once; how long writes waited, and how many got no good answer.
async fn once(fleet: &mut Fleet, way: Way) -> Result<(Duration, u64), Failure> {
    let leader = fleet.leader().await?;
    let next = fleet.others(leader).next().ok_or("a cluster of one")?;
    let writers = Writers::start(fleet, leader)?;
    writers.steady().await?;
    let gone = Instant::now();
    match way {
        Way::Kill => fleet.nodes[leader].kill()?,
        Way::Terminate => drop(fleet.nodes[leader].terminate().await?),
        Way::Transfer => {
            let url = format!("{}/transfer", fleet.nodes[leader].url());
            until("leadership to be moved", PATIENCE, async || {
                let moved = fleet.http.post(url.clone(), json!({ "ID": fleet.name(next) })).await;
                moved.is_ok_and(|reply| reply.status == 200).then_some(())
            })
            .await?;
        }
    }
    writers.steady().await?;
    let histories = writers.stop().await;
    let (mut wait, mut errors) = (Duration::ZERO, 0);
    for writes in histories {
        errors += writes.iter().filter(|write| !write.is_good).count() as u64;
        let waited = match way {
            Way::Kill => {
                let first = writes.iter().find(|write| write.is_good && write.sent >= gone);
                first.map(|write| write.answered - gone)
            }
            _ => writes.iter().map(|write| write.answered - write.sent).max(),
        };
        wait = wait.max(waited.ok_or("a client wrote nothing")?);
    }
    if !fleet.nodes[leader].is_running() {
        fleet.start(leader).await?;
    }
    fleet.become_well().await?;
    Ok((wait, errors))
}

struct Write {
    sent: Instant,
    answered: Instant,
    is_good: bool,
}

/// A client at each node but one, and what became of its writes.
struct Writers {
    running: JoinSet<Vec<Write>>,
    is_over: Arc<AtomicBool>,
    good: Arc<std::sync::Mutex<Vec<usize>>>,
}

impl Writers {
    fn start(fleet: &Fleet, leader: usize) -> Result<Writers, Failure> {
        let (is_over, good) =
            (Arc::<AtomicBool>::default(), Arc::<std::sync::Mutex<Vec<usize>>>::default());
        let mut running = JoinSet::new();
        for (number, node) in fleet.others(leader).enumerate() {
            good.lock().map_err(|_| "a client panicked")?.push(0);
            let (is_over, good) = (is_over.clone(), good.clone());
            let (http, url) = (
                Http::new(ANSWER_LIMIT)?,
                format!("{}/kv/failover/{node}", fleet.nodes[node].url()),
            );
            running.spawn(async move {
                let mut writes = Vec::new();
                while !is_over.load(Ordering::SeqCst) {
                    let sent = Instant::now();
                    let reply =
                        http.send(Method::PUT, url.clone(), &[], Bytes::from_static(b"v")).await;
                    let is_good = reply.is_ok_and(|reply| reply.status == 200);
                    writes.push(Write { sent, answered: Instant::now(), is_good });
                    if let (true, Ok(mut good)) = (is_good, good.lock()) {
                        good[number] += 1;
                    }
                }
                writes
            });
        }
        Ok(Writers { running, is_over, good })
    }

    /// Waits until each client had some more good answers.
    async fn steady(&self) -> Result<(), Failure> {
        let now = || self.good.lock().map(|good| good.clone()).unwrap_or_default();
        let before = now();
        let enough =
            || now().iter().zip(&before).all(|(now, before)| now - before >= STEADY_WRITES);
        Ok(until("writes to flow", PATIENCE, async || enough().then_some(())).await?)
    }

    async fn stop(self) -> Vec<Vec<Write>> {
        self.is_over.store(true, Ordering::SeqCst);
        self.running.join_all().await
    }
}
