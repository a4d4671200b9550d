//! Hostile input against real nodes: a clear refusal, flat memory, and other clients unharmed.
//!
//! What a single request may hold is in `tests/http_contract` (limits, errors, wire); what a single stranger says to the
//! Raft port in `tests/cluster/strangers.rs`. Here they come in numbers, and a bystander reads and writes all the
//! while: none of its requests may fail. Memory is what the node's process has in RAM, held against a bound that
//! says what each connection or body may cost.
//!
//! ```text
//! bystander.rs   the client that is not to notice
//! bodies.rs      a gibibyte, heads without end, slow ones, pipelines
//! sockets.rs     ten thousand idle connections, and ones that are half open
//! targets.rs     absurd limits, cursors, keys and parameters
//! peers.rs       the Raft port: truncated, replayed and wrong frames, and floods
//! ```
#![allow(clippy::disallowed_methods)] // real clocks, files and sockets are the point

#[path = "../cluster/harness.rs"]
#[allow(dead_code, reason = "this suite needs a part of it")]
mod harness;
#[path = "../cluster/http.rs"]
#[allow(dead_code, reason = "this suite needs a part of it")]
mod http;

mod bodies;
mod bystander;
mod peers;
mod sockets;
mod targets;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The most memory that the node's process ever had in RAM.
fn peak(node: &harness::Node) -> u64 {
    node.peak_resident_bytes().expect("a running node")
}

/// A node alone, ready to serve.
async fn started(flags: &[&str]) -> harness::Node {
    let node = harness::Node::start("node1", flags).await;
    is_ready(&node).await;
    node
}

async fn is_ready(node: &harness::Node) {
    harness::until("the node to be ready", async || {
        let ready = node.try_get("/readyz").await.is_ok_and(|reply| reply.status == 200);
        ready.then_some(())
    })
    .await;
}

/// Bytes sent as they are to a node's HTTP port or Raft port, and what it says until it closes; `None` when it does
/// not close in time.
async fn exchange(address: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let (mut from, mut to) = stream.into_split();
    let said = async {
        let mut said = Vec::new();
        // A reset after the reply is an end, too.
        let _ = from.read_to_end(&mut said).await;
        said
    };
    let send = async {
        // The node may close before it has read all.
        let _ = to.write_all(bytes).await;
        // Half open until it does.
        std::future::pending::<()>().await;
    };
    tokio::time::timeout(harness::PATIENCE, async {
        tokio::select! {
            said = said => said,
            () = send => unreachable!("it waits for ever"),
        }
    })
    .await
    .ok()
}
