//! Concurrent clients that write unique keys and remember what was acknowledged.
//!
//! Two kinds, since they promise different things. A persistent one uses the project's client: retries carry
//! the write's name, so each write comes to be exactly once. A plain one is `curl`: one attempt, no name. What it
//! has no answer for may be there or not; what was refused with `applied: no` is not; whatever is there was
//! written once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use conuredb::client::Applied;
use conuredb::types::Condition;
use reqwest::Client as Http;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::harness::until;

/// How long a plain client waits for its answer: above the node's own limit for a write.
const PLAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// Pause after a failed attempt: a dead node refuses at once, and would be asked without end.
const BREATH: Duration = Duration::from_millis(20);

/// Clients at work.
pub struct Load {
    clients: JoinSet<Vec<(String, Fate)>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicUsize,
}

/// What a client knows of one write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Acknowledged,
    /// Surely not applied: the answer says so, or nobody took the connection.
    Refused,
    InDoubt,
}

/// What became of all writes.
#[derive(Default)]
pub struct Outcome {
    pub acknowledged: BTreeSet<String>,
    pub refused: BTreeSet<String>,
    pub in_doubt: BTreeSet<String>,
}

/// The value of a key: different for each, so that a mix-up shows.
pub fn value_of(key: &str) -> String {
    format!("value of {key}")
}

impl Load {
    /// Starts `count` clients, every second one plain, spread over the nodes.
    pub fn start(cluster: &Cluster, count: usize) -> Load {
        let mut load = Load { clients: JoinSet::new(), shared: Arc::default() };
        for number in 0..count {
            let shared = load.shared.clone();
            if number % 2 == 0 {
                let client = cluster.client(number);
                load.clients.spawn(work(shared, number, async move |key: String| {
                    match client.put(key.as_bytes(), value_of(&key), Condition::None).await {
                        Ok(_) => Fate::Acknowledged,
                        Err(error) if error.applied() == Applied::No => Fate::Refused,
                        Err(_) => Fate::InDoubt,
                    }
                }));
            } else {
                let urls: Vec<String> = cluster.nodes.iter().map(|node| node.url()).collect();
                let http = Http::builder().no_proxy().timeout(PLAIN_TIMEOUT).build();
                let http = http.expect("an HTTP client");
                let mut at = number;
                load.clients.spawn(work(shared, number, async move |key: String| {
                    let request = http.put(format!("{}/kv/{key}", urls[at % urls.len()]));
                    let fate = plain_fate(request.body(value_of(&key)).send().await).await;
                    at += usize::from(fate != Fate::Acknowledged);
                    fate
                }));
            }
        }
        load
    }

    pub fn acknowledged(&self) -> usize {
        self.shared.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until so many more writes were acknowledged.
    pub async fn progress(&self, more: usize) {
        let goal = self.acknowledged() + more;
        until(&format!("{more} more writes"), async || (self.acknowledged() >= goal).then_some(()))
            .await;
    }

    /// Lets every client finish its write.
    pub async fn stop(mut self) -> Outcome {
        self.shared.stop.store(true, Ordering::SeqCst);
        let mut outcome = Outcome::default();
        while let Some(writes) = self.clients.join_next().await {
            for (key, fate) in writes.expect("a client without a panic") {
                match fate {
                    Fate::Acknowledged => outcome.acknowledged.insert(key),
                    Fate::Refused => outcome.refused.insert(key),
                    Fate::InDoubt => outcome.in_doubt.insert(key),
                };
            }
        }
        outcome
    }
}

async fn work(
    shared: Arc<Shared>,
    client: usize,
    mut put: impl AsyncFnMut(String) -> Fate,
) -> Vec<(String, Fate)> {
    let mut writes = Vec::new();
    while !shared.stop.load(Ordering::SeqCst) {
        let key = format!("load-{client}-{}", writes.len());
        let fate = put(key.clone()).await;
        writes.push((key, fate));
        match fate {
            Fate::Acknowledged => drop(shared.acknowledged.fetch_add(1, Ordering::SeqCst)),
            Fate::Refused | Fate::InDoubt => tokio::time::sleep(BREATH).await,
        }
    }
    writes
}

/// What one bare request tells.
async fn plain_fate(answer: reqwest::Result<reqwest::Response>) -> Fate {
    let response = match answer {
        Ok(response) if response.status() == 200 => return Fate::Acknowledged,
        Ok(response) => response,
        Err(error) if error.is_connect() => return Fate::Refused,
        Err(_) => return Fate::InDoubt,
    };
    match response.json::<serde_json::Value>().await {
        Ok(problem) if problem["applied"] == "no" => Fate::Refused,
        Ok(_) | Err(_) => Fate::InDoubt,
    }
}

impl Outcome {
    /// Reads everything from every node: what was acknowledged is there, nothing was written twice or made up, and all
    /// nodes agree.
    pub async fn holds_on(&self, cluster: &Cluster) {
        let mut first = None;
        for node in &cluster.nodes {
            let records = node.records("load-").await;
            for key in &self.acknowledged {
                assert!(records.contains_key(key.as_bytes()), "{} lost {key}", node.name);
            }
            for (key, stored) in &records {
                let key = String::from_utf8_lossy(key).into_owned();
                assert!(!self.refused.contains(&key), "{}: {key} was refused", node.name);
                let known = self.acknowledged.contains(&key) || self.in_doubt.contains(&key);
                assert!(known, "{}: nobody wrote {key}", node.name);
                assert_eq!(stored.value, value_of(&key).as_bytes(), "{}: {key}", node.name);
                assert_eq!(stored.version, 1, "{}: {key} was written twice", node.name);
            }
            let first = first.get_or_insert_with(|| records.clone());
            assert!(*first == records, "{} differs from {}", node.name, cluster.nodes[0].name);
        }
        println!(
            "{} writes acknowledged, {} refused, {} in doubt",
            self.acknowledged.len(),
            self.refused.len(),
            self.in_doubt.len()
        );
    }
}
