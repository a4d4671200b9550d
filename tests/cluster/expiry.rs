//! Keys that expire, through real processes: at the same revision on every node, whoever leads meanwhile.

use std::time::{Duration, Instant};

use conuredb::client::ReadOptions;
use conuredb::types::Condition;

use crate::cluster::Cluster;
use crate::harness::{Node, conuresh, run, until};

/// How long the keys of these tests live: longer than it takes to put them and to look.
const TTL: Duration = Duration::from_secs(15);

/// Waits until a node's own state tells that the key expired; says at which revision.
async fn until_expired(node: &Node, key: &str) -> u64 {
    until(&format!("{key} to expire on {}", node.name), async || {
        let target = format!("/kv?key={key}&history=true&limit=1&stale=true");
        let history = node.try_get(&target).await.ok().filter(|reply| reply.status == 200)?;
        let last = &history.json()["items"][0];
        (last["kind"] == "expire").then(|| last["revision"].as_u64().expect("a revision"))
    })
    .await
}

#[tokio::test]
async fn a_key_expires_at_one_revision_on_every_node_over_a_change_of_the_leader() {
    let mut cluster = Cluster::start(3, &[]).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let client = cluster.client(follower);
    let begun = Instant::now();
    client.put_for(b"short", "v", TTL, Condition::None).await.expect("a write");
    client.put_for(b"kept", "v", TTL, Condition::None).await.expect("a write");
    client.put(b"kept", "for good", Condition::None).await.expect("a write");
    client.put_for(b"long", "v", TTL * 1_000, Condition::None).await.expect("a write");
    let read = client.get(b"short", ReadOptions::default()).await.expect("an answer");
    let ttl = read.expect("it lives").ttl.expect("it expires");
    assert!(ttl <= TTL && begun.elapsed() + ttl >= TTL - Duration::from_millis(1), "{ttl:?}");

    // Whoever leads next knows the deadlines: they are in its state.
    cluster.nodes[leader].kill();
    let others: Vec<usize> = (0..3).filter(|&node| node != leader).collect();
    let revision = until_expired(&cluster.nodes[others[0]], "short").await;
    assert!(begun.elapsed() >= TTL, "not before its time");
    cluster.nodes[leader].restart().await;
    cluster.wait_until_ready().await;
    for node in &cluster.nodes {
        assert_eq!(until_expired(node, "short").await, revision, "{}", node.name);
        node.get("/kv/short").await.is_problem(404, "key_not_found", "");
        let before = node.get(&format!("/kv/short?revision={}", revision - 1)).await;
        assert_eq!(before.text(), "v");
        assert_eq!(node.get("/kv/kept").await.text(), "for good");
        assert_eq!(node.get("/kv/kept").await.header("x-conure-ttl"), "");
        assert!(node.get("/kv/long").await.header("x-conure-ttl").ends_with("ms"));
    }
    let ttl = run(conuresh(&cluster.nodes[follower], &["ttl", "long"])).await;
    assert!(String::from_utf8_lossy(&ttl.stdout).contains('h'), "{ttl:?}");
}

#[tokio::test]
async fn a_key_whose_time_passes_while_all_nodes_are_down_expires_when_they_are_back() {
    let mut cluster = Cluster::start(1, &[]).await;
    let node = &mut cluster.nodes[0];
    let put = run(conuresh(node, &["put", "a", "v", "--ttl", "3s"])).await;
    assert!(put.status.success(), "{put:?}");
    for n in 0..600 {
        node.put(&format!("/kv/many/{n}?ttl=3s"), "v").await.is_ok();
    }
    node.kill();
    node.restart().await;
    until_expired(node, "a").await;
    until("all of them to expire", async || {
        let page = node.get("/kv?prefix=&count_only=true").await.json();
        (page["count"] == 0).then_some(())
    })
    .await;
    let metrics = node.get("/metrics").await.text();
    assert!(metrics.contains("conuredb_expired_keys_total"), "{metrics}");
}
