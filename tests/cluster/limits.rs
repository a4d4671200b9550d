//! Nodes that are set to different limits, as all are while one is raised node after node.

use crate::cluster::{CALM, Cluster};
use crate::harness::{Node, until};

/// Takes what no segment of a node with default settings holds.
const LARGE: &[&str] =
    &["--set=limits.max_value_bytes=24MiB", "--set=storage.log_segment_bytes=32MiB"];

const VALUE_BYTES: usize = 20 << 20;

#[tokio::test]
async fn a_long_value_that_one_node_takes_is_no_trouble_to_the_others() {
    let mut cluster = Cluster::start(1, &[]).await;
    let seeds = format!("--seeds={}", cluster.nodes[0].url());
    let large = [CALM, LARGE, &["--bootstrap=false", &seeds]].concat();
    cluster.nodes.push(Node::start("node2", &large).await);
    let (small, large) = (&cluster.nodes[0], &cluster.nodes[1]);
    large.wait_for_voters(2).await;
    large.wait_until_ready().await;

    large.put("/kv/passed%20on", vec![1; VALUE_BYTES]).await.is_ok();
    small.transfer("node2").await.is_ok();
    large.put("/kv/proposed", vec![2; VALUE_BYTES]).await.is_ok();
    small.put("/kv/refused", vec![3; VALUE_BYTES]).await.is_problem(
        413,
        "value_too_large",
        "limits.max_value_bytes",
    );

    // What it holds of them it reads from its log again.
    cluster.nodes[0].kill();
    cluster.nodes[0].restart().await;
    for (key, byte) in [("passed%20on", 1), ("proposed", 2)] {
        let value = until("the value", async || {
            let reply = cluster.nodes[0].try_get(&format!("/kv/{key}?stale=true")).await.ok()?;
            (reply.status == 200).then_some(reply.body)
        })
        .await;
        assert!(value == vec![byte; VALUE_BYTES], "{key}: {} bytes", value.len());
    }
}
