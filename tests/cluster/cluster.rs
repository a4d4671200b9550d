//! Several processes as one cluster, and what they all know.

use std::collections::BTreeMap;
use std::time::Instant;

use conuredb::client::{Client, ClientOptions, Members, Page, Status};
use serde::de::DeserializeOwned;

use crate::harness::{LOOK_EVERY, Node, PATIENCE, until};

/// Elections that a busy machine does not start by itself; they still end within a second or two.
pub const CALM: &[&str] = &[
    "--set=raft.heartbeat_interval=200ms",
    "--set=raft.election_timeout_min=800ms",
    "--set=raft.election_timeout_max=1600ms",
];

/// Nodes `node1`, `node2` …, all voters.
pub struct Cluster {
    pub nodes: Vec<Node>,
}

/// A record as every node must hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub value: Vec<u8>,
    pub version: u64,
}

impl Cluster {
    /// The first node founds the cluster, the others join by its address.
    pub async fn start(count: usize, flags: &[&str]) -> Cluster {
        Cluster::start_with(count, &[CALM, flags].concat()).await
    }

    /// The same with elections as these flags say.
    pub async fn start_with(count: usize, flags: &[&str]) -> Cluster {
        let first = Node::start("node1", flags).await;
        let seeds = format!("--seeds={}", first.url());
        let mut nodes = vec![first];
        for number in 2..=count {
            let flags = [flags, &["--bootstrap=false", &seeds]].concat();
            nodes.push(Node::start(&format!("node{number}"), &flags).await);
        }
        let cluster = Cluster { nodes };
        for node in &cluster.nodes {
            node.wait_for_voters(count).await;
            node.wait_until_ready().await;
        }
        cluster
    }

    /// Which node leads, as a running one knows.
    pub async fn leader(&self) -> usize {
        until("a leader", async || {
            for (number, node) in self.nodes.iter().enumerate() {
                if node.is_running() && node.status().await.is_some_and(|status| status.is_leader) {
                    return Some(number);
                }
            }
            None
        })
        .await
    }

    /// The number of a node that follows.
    pub async fn follower(&self) -> usize {
        (self.leader().await + 1) % self.nodes.len()
    }

    /// A client that begins at node `first` and knows all.
    pub fn client(&self, first: usize) -> Client {
        let count = self.nodes.len();
        let servers = (0..count).map(|n| self.nodes[(first + n) % count].url()).collect();
        client(servers)
    }

    pub async fn wait_until_ready(&self) {
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            node.wait_until_ready().await;
        }
    }
}

/// A client that outlasts restarts.
pub fn client(servers: Vec<String>) -> Client {
    let options = ClientOptions {
        timeout: PATIENCE,
        patience: PATIENCE,
        ..ClientOptions::new(rand::random())
    };
    Client::new(servers, options).expect("good addresses")
}

impl Node {
    /// A document of this node, `None` while it gives none.
    async fn document<T: DeserializeOwned>(&self, target: &str) -> Option<T> {
        let reply = self.try_get(target).await.ok().filter(|reply| reply.status == 200)?;
        serde_json::from_slice(&reply.body).ok()
    }

    pub async fn status(&self) -> Option<Status> {
        self.document("/status").await
    }

    pub async fn members(&self) -> Option<Members> {
        self.document("/raft/config").await
    }

    /// Waits until this node counts as many voters, and a leader among the members.
    pub async fn wait_for_voters(&self, count: usize) -> Members {
        until(&format!("{} to know {count} voters", self.name), async || {
            let members = self.members().await?;
            let voters = members.servers.iter().filter(|member| member.suffrage == "voter").count();
            (voters == count && members.servers.len() == count && !members.leader.is_empty())
                .then_some(members)
        })
        .await
    }

    /// Waits for `/readyz`; a failure tells what it said last, and what Raft counts.
    pub async fn wait_until_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = match self.try_get("/readyz").await {
                Ok(reply) if reply.status == 200 => return,
                Ok(reply) => reply.text(),
                Err(error) => error.to_string(),
            };
            if Instant::now() > deadline {
                let stats = self.try_get("/raft/stats").await.map(|reply| reply.text());
                panic!("{} is not ready after {PATIENCE:?}: {said}\n{stats:?}", self.name);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// All records below a prefix, read linearizably from this very node.
    pub async fn records(&self, prefix: &str) -> BTreeMap<Vec<u8>, Stored> {
        let mut records = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let target = format!("/kv?prefix={prefix}&limit=2000{cursor}");
            let reply = until("a page of a scan", async || {
                self.try_get(&target).await.ok().filter(|reply| reply.status == 200)
            })
            .await;
            assert_eq!(reply.header("x-conure-served-by"), self.name);
            let page: Page = serde_json::from_slice(&reply.body).expect("a page");
            for item in page.items {
                let value = item.value.expect("a value").into();
                let stored = Stored { value, version: item.version };
                let twice = records.insert(item.key.to_vec(), stored);
                assert_eq!(twice, None, "a scan lists a key once");
            }
            match page.next {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return records,
            }
        }
    }
}
