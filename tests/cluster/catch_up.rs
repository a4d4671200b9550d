//! A node that joins while clients write more than the log keeps: one snapshot, and the log behind it.

use conuredb::types::Condition;

use crate::cluster::{CALM, Cluster};
use crate::harness::{Node, until};

/// The log is cut after little, and a snapshot takes seconds.
const FLAGS: &[&str] = &[
    "--set=raft.checkpoint_log_bytes=1MiB",
    "--set=raft.keep_log_entries=0",
    "--set=raft.snapshot_bytes_per_second=512KiB",
    "--set=storage.log_segment_bytes=2MiB",
    "--set=limits.max_value_bytes=64KiB",
    "--set=limits.max_txn_bytes=64KiB",
];

const VALUE_BYTES: usize = 16 * 1024;

/// 2 MiB: four seconds of the pace above.
const VALUES_BEFORE: usize = 128;

/// 6 MiB: more than the log keeps by itself, less than it keeps for who catches up.
const VALUES_MEANWHILE: usize = 384;

#[tokio::test]
async fn a_node_that_joins_under_load_needs_one_snapshot() {
    let mut cluster = Cluster::start(1, FLAGS).await;
    let client = cluster.client(0);
    let put = async |prefix: &str, number: usize| {
        let (key, value) = (format!("{prefix}/{number}"), vec![number as u8; VALUE_BYTES]);
        client.put(key.as_bytes(), value, Condition::None).await.expect("a write");
    };
    for number in 0..VALUES_BEFORE {
        put("before", number).await;
    }
    let leader = &cluster.nodes[0];
    until("the log is cut", async || (leader.first_log_index().await > Some(8)).then_some(()))
        .await;
    let seeds = format!("--seeds={}", leader.url());
    let flags = [CALM, FLAGS, &["--bootstrap=false", &seeds]].concat();
    let newcomer = Node::start("node2", &flags).await;
    until("a snapshot is on its way", async || {
        (leader.metric("conuredb_snapshot_sent_bytes_total").await? > 0.0).then_some(())
    })
    .await;
    for number in 0..VALUES_MEANWHILE {
        put("meanwhile", number).await;
    }
    newcomer.wait_for_voters(2).await;
    newcomer.wait_until_ready().await;

    let sent = leader.metric("conuredb_snapshot_send_duration_seconds_count").await;
    assert_eq!(sent, Some(1.0), "snapshots of one join");
    assert_eq!(newcomer.records("before%2F").await.len(), VALUES_BEFORE);
    assert_eq!(newcomer.records("meanwhile%2F").await.len(), VALUES_MEANWHILE);

    // What was kept for it goes when it has caught up.
    until("the log is cut again", async || {
        (leader.metric("conuredb_log_bytes").await? < 5.0 * 1024.0 * 1024.0).then_some(())
    })
    .await;
    cluster.nodes.push(newcomer);
}
