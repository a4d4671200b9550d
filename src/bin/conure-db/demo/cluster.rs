//! The nodes of a demo. Each has a thread with an actix system of its own, so that it can end as a process does:
//! alone, and at any time.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix::System;
use conuredb::client::{Client, ClientOptions};
use conuredb::config::{Config, HostPort, Secret};
use conuredb::logs::LogSwitch;
use conuredb::storage::disk::FileDisk;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::journal;
use super::links::Links;
use crate::serve::{Place, Serving};

/// How long the cluster may take to form, and a dead node to let go of its directory.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Less memory and disk than a node of its own machine takes: several share this one.
const CACHE_BYTES: usize = 32 * 1024 * 1024;
/// The least that holds the longest value.
const LOG_SEGMENT_BYTES: u64 = 10 * 1024 * 1024;

/// Elections that a busy machine does not start by itself, and that a person can watch.
const HEARTBEAT: Duration = Duration::from_millis(150);
const ELECTION_MIN: Duration = Duration::from_millis(600);
const ELECTION_MAX: Duration = Duration::from_millis(1_200);

/// How a node is to end.
enum End {
    /// As the death of its process.
    Kill,
    /// In order.
    Close,
}

/// All nodes, running or not.
pub struct Cluster {
    nodes: Vec<Member>,
    pub links: Links,
    log: LogSwitch,
}

/// What outlives a node: its settings, which have its ports and its directory.
struct Member {
    config: Config,
    /// The sockets of its first life, bound before there is a node so that all ports are known.
    sockets: Mutex<Option<Sockets>>,
    life: tokio::sync::Mutex<Option<Life>>,
}

struct Sockets {
    raft: TcpListener,
    http: TcpListener,
}

/// A thread that runs a node.
struct Life {
    ends: mpsc::UnboundedSender<End>,
    thread: JoinHandle<()>,
}

impl Cluster {
    /// Nodes `node1` to `node<count>` with directories in `home` and ports that are free. None runs yet.
    pub fn new(count: usize, home: &Path, log: LogSwitch) -> io::Result<Cluster> {
        let secret = format!("{:032x}", rand::random::<u128>());
        let mut nodes: Vec<Member> = Vec::new();
        for number in 1..=count {
            let sockets = Sockets { raft: free_port()?, http: free_port()? };
            let local = |port| HostPort { host: "127.0.0.1".to_owned(), port };
            let mut config = Config {
                node_id: format!("node{number}"),
                data_dir: home.join(format!("node{number}")),
                raft_addr: local(sockets.raft.local_addr()?.port()),
                http_addr: local(sockets.http.local_addr()?.port()),
                // The first founds the cluster, the others ask it to let them in.
                seeds: nodes
                    .first()
                    .map(|first| first.config.http_advertise())
                    .into_iter()
                    .collect(),
                cluster_secret: Some(Secret::new(secret.clone())),
                ..Config::default()
            };
            config.raft.heartbeat_interval = HEARTBEAT;
            config.raft.election_timeout_min = ELECTION_MIN;
            config.raft.election_timeout_max = ELECTION_MAX;
            config.storage.cache_bytes = CACHE_BYTES;
            config.storage.log_segment_bytes = LOG_SEGMENT_BYTES;
            let (sockets, life) = (Mutex::new(Some(sockets)), tokio::sync::Mutex::new(None));
            nodes.push(Member { config, sockets, life });
        }
        let addresses = nodes.iter().map(|node| node.config.raft_addr.to_string());
        let links = Links::new(addresses.collect::<Vec<_>>().into_iter());
        Ok(Cluster { nodes, links, log })
    }

    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    pub fn name(&self, number: usize) -> &str {
        &self.nodes[number].config.node_id
    }

    pub fn url(&self, number: usize) -> String {
        self.nodes[number].config.http_advertise().to_string()
    }

    pub fn urls(&self) -> Vec<String> {
        (0..self.count()).map(|number| self.url(number)).collect()
    }

    pub fn data_dir(&self, number: usize) -> &Path {
        &self.nodes[number].config.data_dir
    }

    /// Whether the node was started and has not ended.
    pub async fn runs(&self, number: usize) -> bool {
        let life = self.nodes[number].life.lock().await;
        life.as_ref().is_some_and(|life| !life.thread.is_finished())
    }

    /// Starts a node that does not run, on its directory and its ports.
    pub async fn start(&self, number: usize) -> Result<(), String> {
        let node = &self.nodes[number];
        let mut life = node.life.lock().await;
        if life.as_ref().is_some_and(|life| !life.thread.is_finished()) {
            return Err(format!("{} runs already", node.config.node_id));
        }
        let disk = free_directory(&node.config.data_dir).await?;
        let sockets = node.sockets.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (raft, http) = match sockets {
            Some(sockets) => (Some(sockets.raft), sockets.http),
            None => (
                None,
                TcpListener::bind(address(&node.config.http_addr)?).map_err(|error| {
                    format!("another program took {} meanwhile: {error}", node.config.http_addr)
                })?,
            ),
        };
        let (ends, orders) = mpsc::unbounded_channel();
        let (name, fatal) = (node.config.node_id.clone(), ends.clone());
        let place = Place {
            disk,
            http,
            log: self.log.clone(),
            network: self.links.of(number, raft),
            on_fatal: Arc::new(move |reason| {
                journal::tell(&format!(
                    "{name} stops, since it could not keep its promises: {reason}"
                ));
                // Nobody listens where it ends already.
                let _ = fatal.send(End::Kill);
            }),
        };
        let (started, has_started) = oneshot::channel();
        let config = node.config.clone();
        let thread = thread::Builder::new()
            .name(config.node_id.clone())
            .spawn(move || live(&config, place, started, orders))
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        *life = Some(Life { ends, thread });
        has_started.await.unwrap_or_else(|_| Err("its thread panicked".to_owned()))
    }

    /// Ends a node as SIGKILL would end its process. An error when it does not run.
    pub async fn kill(&self, number: usize) -> Result<(), String> {
        match self.end(number, End::Kill).await {
            true => Ok(()),
            false => Err(format!("{} does not run", self.name(number))),
        }
    }

    /// Ends all nodes, and waits for their threads: nothing uses their directories any more.
    pub async fn kill_all(&self) {
        for number in 0..self.count() {
            self.end(number, End::Kill).await;
        }
    }

    /// Closes all nodes in order.
    pub async fn close_all(&self) {
        for number in 0..self.count() {
            self.end(number, End::Close).await;
        }
    }

    /// False when it did not run.
    async fn end(&self, number: usize, end: End) -> bool {
        let Some(life) = self.nodes[number].life.lock().await.take() else { return false };
        let ran = life.ends.send(end).is_ok();
        // It fails for a thread that panicked, which then has ended as well.
        let _ = tokio::task::spawn_blocking(move || life.thread.join()).await;
        ran
    }

    /// Waits until every node knows that all vote, and who leads. From then on any majority can go on: a node that
    /// has not heard of the last change of voters yet could need one that is killed next.
    pub async fn formed(&self) -> Result<(), String> {
        let client = Client::new(self.urls(), ClientOptions::new(rand::random()));
        let client = client.map_err(|error| error.to_string())?;
        let deadline = Instant::now() + PATIENCE;
        for number in 0..self.count() {
            while !self.knows_all(&client, number).await {
                if Instant::now() > deadline {
                    let name = self.name(number);
                    return Err(format!(
                        "after {PATIENCE:?} {name} does not know that all vote; the log says more"
                    ));
                }
                sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    async fn knows_all(&self, client: &Client, number: usize) -> bool {
        let Ok(members) = client.members_of(&self.url(number), PATIENCE).await else {
            return false;
        };
        let voters = members.servers.iter().filter(|member| member.suffrage == "voter").count();
        voters == self.count() && !members.leader.is_empty()
    }
}

/// The life of a node, in its own thread.
fn live(
    config: &Config,
    place: Place,
    started: oneshot::Sender<Result<(), String>>,
    mut orders: mpsc::UnboundedReceiver<End>,
) {
    let system = System::new();
    journal::name_system(System::current().id(), &config.node_id);
    system.block_on(async {
        let serving = match Serving::start(config, place).await {
            Ok(serving) => serving,
            Err(reason) => {
                let _ = started.send(Err(format!("{}: {reason}", config.node_id)));
                return;
            }
        };
        let _ = started.send(Ok(()));
        match orders.recv().await {
            Some(End::Close) => serving.close().await,
            Some(End::Kill) | None => serving.kill().await,
        }
    });
    // Ends the threads that the system still knows, those of HTTP, and drops what runs on this one.
    System::current().stop();
    if let Err(error) = system.run() {
        log::warn!("{}: the actix system: {error}", config.node_id);
    }
}

fn free_port() -> io::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", 0))
}

fn address(at: &HostPort) -> Result<SocketAddr, String> {
    at.to_string().parse().map_err(|error| format!("{at}: {error}"))
}

/// The directory, as soon as the last thread of a node that was killed has let it go.
async fn free_directory(path: &PathBuf) -> Result<FileDisk, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match FileDisk::open(path) {
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
            {
                sleep(LOOK_EVERY).await;
            }
            opened => return opened.map_err(|error| error.to_string()),
        }
    }
}
