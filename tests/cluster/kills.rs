//! kill -9 under load: what was acknowledged is read back from every node, and nothing is there twice.

use crate::cluster::Cluster;
use crate::load::Load;

const CLIENTS: usize = 8;

/// Writes between two kills: every client is in the middle of something.
const BETWEEN: usize = 200;

#[tokio::test]
async fn acknowledged_writes_survive_kill_of_the_leader_five_times() {
    let mut cluster = Cluster::start(3, &[]).await;
    let load = Load::start(&cluster, CLIENTS);
    for _ in 0..5 {
        load.progress(BETWEEN).await;
        let leader = cluster.leader().await;
        cluster.nodes[leader].kill();
        // The other two go on without it.
        load.progress(BETWEEN).await;
        cluster.nodes[leader].restart().await;
        cluster.nodes[leader].wait_until_ready().await;
    }
    load.progress(BETWEEN).await;
    load.stop().await.holds_on(&cluster).await;
}

#[tokio::test]
async fn acknowledged_writes_survive_kill_of_all_nodes_at_once() {
    // Checkpoints while it happens, so that a node comes back from one and the log behind it.
    let mut cluster = Cluster::start(3, &["--set=raft.checkpoint_log_bytes=1MiB"]).await;
    let load = Load::start(&cluster, CLIENTS);
    for _ in 0..2 {
        load.progress(5 * BETWEEN).await;
        for node in &mut cluster.nodes {
            node.kill();
        }
        for node in &mut cluster.nodes {
            node.restart().await;
        }
        cluster.wait_until_ready().await;
    }
    load.progress(BETWEEN).await;
    load.stop().await.holds_on(&cluster).await;
}
