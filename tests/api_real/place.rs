//! The node that is asked, and the cluster that it is one of.

use std::net::SocketAddr;

use rustix::process::Signal;

use crate::client::{Client, Reply, request};
use crate::cluster::Cluster;
use crate::harness::{Node, until};

/// Bounds that can be filled in a moment, and elections that no busy machine begins: who leads is promised to the cases.
const FLAGS: &[&str] = &[
    "--set=limits.max_value_bytes=64KiB",
    "--set=limits.max_watchers=4",
    "--set=limits.max_scan_results=50",
    "--set=limits.max_txn_ops=1024",
    "--set=timeouts.request=3s",
    "--set=timeouts.write=10s",
    "--set=raft.heartbeat_interval=400ms",
    "--set=raft.election_timeout_min=2s",
    "--set=raft.election_timeout_max=4s",
    "--set=storage.history_max_changes=1000",
    "--log-level=info,conuredb::http::access=debug,conuredb::actors::raft::write=debug",
];

/// The limits of [`FLAGS`].
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
pub const MAX_WATCHERS: usize = 4;
pub const MAX_SCAN_RESULTS: usize = 50;
pub const MAX_TXN_OPS: usize = 1024;

pub struct Place {
    cluster: Cluster,
    asked: usize,
    address: SocketAddr,
}

impl Place {
    /// A node that is its own cluster.
    pub async fn alone() -> Place {
        Place::of(1, 0).await
    }

    /// The last of three, which follows the first.
    pub async fn follower() -> Place {
        let place = Place::of(3, 2).await;
        assert_eq!(place.cluster.leader().await, 0, "who founded the cluster leads it");
        place
    }

    async fn of(count: usize, asked: usize) -> Place {
        let cluster = Cluster::start_with(count, FLAGS).await;
        let address = cluster.nodes[asked].http_addr().parse().expect("an address");
        Place { cluster, asked, address }
    }

    pub fn is_alone(&self) -> bool {
        self.cluster.nodes.len() == 1
    }

    /// The node that is asked.
    pub fn node(&self) -> &Node {
        &self.cluster.nodes[self.asked]
    }

    pub fn name(&self) -> &str {
        &self.node().name
    }

    /// The node that leads.
    pub fn leader(&self) -> &Node {
        &self.cluster.nodes[0]
    }

    /// A new node that is in no cluster.
    pub async fn stranger(&self, name: &str) -> Node {
        Node::start(name, &[FLAGS, &["--bootstrap=false"]].concat()).await
    }

    /// Kills the node that is not asked and does not lead, and stops the leader where it stands.
    pub async fn lose_the_quorum(&mut self) {
        self.cluster.nodes[1].kill();
        self.leader().signal(Signal::STOP);
    }

    pub async fn connect(&self) -> Client {
        Client::to(self.address).await
    }

    /// Sends a request and reads all of the reply, streams of a known end included.
    pub async fn ask(
        &self,
        method: &str,
        target: &str,
        headers: &[&str],
        body: Option<&[u8]>,
    ) -> Reply {
        let mut client = self.connect().await;
        client.send(&request(method, target, headers, body)).await;
        let reply = client.whole_reply(method).await;
        let by = reply.header("x-conure-served-by");
        assert_eq!(by, Some(self.name()), "{method} {target}: whoever is asked answers");
        reply
    }

    pub async fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, &[], None).await
    }

    /// The same with `Accept: application/json`.
    pub async fn get_json(&self, target: &str) -> serde_json::Value {
        let reply = self.ask("GET", target, &["Accept: application/json"], None).await;
        assert_eq!(reply.status, 200, "{target}: {reply:?}");
        reply.json()
    }

    pub async fn put(&self, target: &str, body: &str) -> Reply {
        self.ask("PUT", target, &[], Some(body.as_bytes())).await
    }

    pub async fn delete(&self, target: &str) -> Reply {
        self.ask("DELETE", target, &[], None).await
    }

    pub async fn post(&self, target: &str, body: &str) -> Reply {
        self.ask("POST", target, &[], Some(body.as_bytes())).await
    }

    /// Stores a value; the revision of the write.
    pub async fn stored(&self, key: &str, value: &str) -> u64 {
        let reply = self.put(&format!("/kv/{key}"), value).await;
        assert_eq!((reply.status, reply.text()), (200, "OK\n"));
        revision(&reply)
    }

    /// Asks until the answer has this status. A follower may lag behind what it passed on.
    pub async fn get_until(&self, status: u16, target: &str) -> Reply {
        until(&format!("{status} for {target}"), async || {
            Some(self.get(target).await).filter(|reply| reply.status == status)
        })
        .await
    }
}

/// What `X-Conure-Revision` says.
pub fn revision(reply: &Reply) -> u64 {
    let said =
        reply.header("x-conure-revision").unwrap_or_else(|| panic!("no revision: {reply:?}"));
    said.parse().expect("a number")
}
