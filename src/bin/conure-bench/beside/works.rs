//! What runs beside the clients: begun before they are measured, ended and checked after.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::args::{BesideArgs, Work};
use super::body::Body;
use super::watch::Watchers;
use crate::cluster::client::Running;
use crate::cluster::conure;
use crate::cluster::error::{ClientError, ClusterError};
use crate::cluster::http::HttpClient;
use crate::cluster::keys::Keys;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long one piece of work may take, on a busy machine.
const LONGEST: Duration = Duration::from_secs(600);

/// Keys that are put and deleted in one transaction.
const KEYS_OF_A_TXN: usize = 100;

/// What keys that are there to be deleted begin with; for one that stays there are so many.
const DOOMED: &str = "doomed-";
const DOOMED_FOR_ONE: usize = 2;

/// A work that goes on.
pub struct Beside {
    work: Work,
    begun: Instant,
    resident_before: Vec<u64>,
    stop: Rc<Cell<bool>>,
    doing: Doing,
}

enum Doing {
    Watching(Watchers),
    Other(JoinHandle<Result<Amount, ClusterError>>),
}

/// What was done, in the work's unit, and in how long.
struct Amount {
    done: f64,
    took: Duration,
}

/// What a work came to.
#[derive(Clone, Copy)]
pub struct Did {
    pub per_s: f64,
    /// By how much the memory of the node grew that grew most.
    pub grew_bytes: f64,
}

impl Beside {
    /// Begins a work; when this returns it is under way.
    pub async fn begin(
        work: Work,
        args: &BesideArgs,
        running: &Running,
        keys: &Rc<Keys>,
        dir: &Path,
    ) -> Result<Beside, ClusterError> {
        let leader = running.addresses()[0].clone();
        if work == Work::Compact {
            delete_most(&leader, keys).await.map_err(failed(work))?;
        }
        let mut resident_before = Vec::new();
        for process in running.processes() {
            resident_before.push(process.resident_bytes()?);
            process.forget_peak()?;
        }
        let stop = Rc::new(Cell::new(false));
        let until = stop.clone();
        let begun = Instant::now();
        let doing = match work {
            Work::Watch => {
                let count = args.watchers as usize;
                Doing::Watching(Watchers::begin(count, running, keys).await?)
            }
            Work::Stream => spawn(work, stream(leader, keys.len(), until)),
            Work::Backup => spawn(work, backup(leader, until)),
            Work::Compact => spawn(work, compact(leader)),
            Work::Join => {
                Doing::Other(tokio::task::spawn_local(join(leader, dir.to_owned(), until)))
            }
        };
        Ok(Beside { work, begun, resident_before, stop, doing })
    }

    /// Lets it come to an end, and checks it.
    pub async fn end(self, running: &Running, keys: &Keys) -> Result<Did, ClusterError> {
        self.stop.set(true);
        let amount = match self.doing {
            Doing::Watching(watchers) => {
                let events = watchers.end(keys).await?;
                Amount { done: events as f64, took: self.begun.elapsed() }
            }
            Doing::Other(task) => match tokio::time::timeout(LONGEST, task).await {
                Err(_) => {
                    let what = format!("it has not ended after {LONGEST:?}");
                    return Err(ClusterError::Beside { work: self.work.name(), what });
                }
                Ok(Err(died)) => std::panic::resume_unwind(died.into_panic()),
                Ok(Ok(done)) => done?,
            },
        };
        let mut grew_bytes = 0;
        for (process, before) in running.processes().iter().zip(self.resident_before) {
            grew_bytes = grew_bytes.max(process.peak_bytes()?.saturating_sub(before));
        }
        let per_s = amount.done / amount.took.as_secs_f64().max(1e-3);
        Ok(Did { per_s, grew_bytes: grew_bytes as f64 })
    }
}

fn spawn(work: Work, doing: impl Future<Output = Result<Amount, ClientError>> + 'static) -> Doing {
    Doing::Other(tokio::task::spawn_local(async move { doing.await.map_err(failed(work)) }))
}

fn failed(work: Work) -> impl FnOnce(ClientError) -> ClusterError {
    move |error| ClusterError::Beside { work: work.name(), what: error.to_string() }
}

/// Streams all keys until told to stop, and counts them each time.
async fn stream(address: String, keys: usize, stop: Rc<Cell<bool>>) -> Result<Amount, ClientError> {
    let (begun, mut done) = (Instant::now(), 0);
    while !stop.get() {
        let mut body = Body::open(&address, "/kv?prefix=bench-", "application/x-ndjson").await?;
        let mut lines = 0;
        while let Some(piece) = body.next().await? {
            lines += piece.iter().filter(|&&byte| byte == b'\n').count();
        }
        if lines != keys {
            return Err(body.refused(&format!("{lines} lines for {keys} keys")));
        }
        done += lines;
    }
    Ok(Amount { done: done as f64, took: begun.elapsed() })
}

/// Takes backups until told to stop. A body that breaks off is an error.
async fn backup(address: String, stop: Rc<Cell<bool>>) -> Result<Amount, ClientError> {
    let (begun, mut done) = (Instant::now(), 0);
    while !stop.get() {
        let mut body = Body::open(&address, "/backup", "*/*").await?;
        while let Some(piece) = body.next().await? {
            done += piece.len();
        }
    }
    Ok(Amount { done: done as f64 / 1e6, took: begun.elapsed() })
}

/// Puts keys among those that stay, and deletes them: the file is mostly empty then.
async fn delete_most(address: &str, keys: &Keys) -> Result<(), ClientError> {
    let mut client = HttpClient::connect(address).await?;
    let value = "x".repeat(keys.next_value(0).len());
    for first in (0..keys.len() * DOOMED_FOR_ONE).step_by(KEYS_OF_A_TXN) {
        let numbers = first..first + KEYS_OF_A_TXN;
        let put = |number| serde_json::json!({ "op": "put", "key": format!("{DOOMED}{number:010}"), "value": value });
        let txn = serde_json::json!({ "success": numbers.map(put).collect::<Vec<Value>>() });
        client.send("POST", "/txn", txn.to_string().as_bytes()).await?;
    }
    client.send("DELETE", &format!("/kv?prefix={DOOMED}"), b"").await?;
    Ok(())
}

/// Compacts the file of a node once. Not before something was written since: what is deleted is free when its
/// last reader is gone.
async fn compact(address: String) -> Result<Amount, ClientError> {
    let before = number(&conure::page(&address, "/status").await?, "db_bytes");
    let begun = Instant::now();
    HttpClient::connect(&address).await?.send("POST", "/compact", b"").await?;
    loop {
        sleep(LOOK_EVERY).await;
        let status = conure::page(&address, "/status").await?;
        if status["compacting"] == false {
            let given_back = before - number(&status, "db_bytes");
            return Ok(Amount { done: given_back / 1e6, took: begun.elapsed() });
        }
    }
}

fn number(document: &Value, name: &str) -> f64 {
    document[name].as_f64().unwrap_or(0.0)
}

/// Lets a new node join, become a voter and leave again, until told to stop.
async fn join(
    leader: String,
    dir: std::path::PathBuf,
    stop: Rc<Cell<bool>>,
) -> Result<Amount, ClusterError> {
    let (mut joined, mut took) = (0, Duration::ZERO);
    while !stop.get() {
        let name = format!("joiner{joined}");
        let begun = Instant::now();
        let (mut node, address) = conure::start_another(&name, &dir, &leader)?;
        while !is_voter(&leader, &name, &address).await {
            node.check()?;
            sleep(LOOK_EVERY).await;
        }
        took += begun.elapsed();
        joined += 1;
        let request = serde_json::json!({ "ID": name }).to_string();
        let client = HttpClient::connect(&leader).await;
        let removed = match client {
            Ok(mut client) => client.send("POST", "/remove", request.as_bytes()).await,
            Err(error) => Err(error),
        };
        removed.map_err(failed(Work::Join))?;
        drop(node);
        fs::remove_dir_all(dir.join(&name)).map_err(ClusterError::io("remove a node's files"))?;
    }
    Ok(Amount { done: f64::from(joined), took })
}

/// Whether a node votes, and says itself that it is ready.
async fn is_voter(leader: &str, name: &str, address: &str) -> bool {
    let Ok(config) = conure::page(leader, "/raft/config").await else { return false };
    let servers = config["servers"].as_array().map_or(&[][..], Vec::as_slice);
    let is_it = |server: &Value| server["id"] == name && server["suffrage"] == "voter";
    let Ok(mut client) = HttpClient::connect(address).await else { return false };
    servers.iter().any(is_it) && client.page("/readyz").await.is_ok_and(|ready| ready.status == 200)
}
