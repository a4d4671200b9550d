//! Leadership that is moved on purpose, and a node that is cut off from its leader.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::cluster::Cluster;
use crate::harness::until;
use crate::load::Load;

/// The node's own limits for a write (5 s) and a linearizable read (3 s), and room for a busy machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn leadership_moves_on_request_under_load_and_no_write_is_lost_or_doubled() {
    let cluster = Cluster::start(3, &[]).await;
    let load = Load::start(&cluster, 8);
    for round in 0..6 {
        load.progress(100).await;
        let leader = cluster.leader().await;
        let next = (leader + 1) % 3;
        // Any node takes the request: the leader, the one that shall lead, the third.
        let asked = &cluster.nodes[(leader + round) % 3];
        asked.transfer(&cluster.nodes[next].name).await.is_ok();
        until("the other to lead", async || {
            cluster.nodes[next].status().await?.is_leader.then_some(())
        })
        .await;
    }
    load.progress(100).await;
    load.stop().await.holds_on(&cluster).await;
    cluster.nodes[0].transfer("node9").await.is_problem(404, "unknown_node", "node9");
}

#[tokio::test]
async fn a_node_cut_off_from_its_leader_says_so_in_time_and_recovers() {
    let cluster = Cluster::start(3, &[]).await;
    let alone = &cluster.nodes[cluster.follower().await];
    let others = || cluster.nodes.iter().filter(|node| node.name != alone.name);
    alone.put("/kv/k", "before").await.is_ok();
    assert_eq!(alone.get("/kv/k").await.text(), "before");

    others().for_each(|node| node.signal(Signal::STOP));
    until("the lone node to be unready", async || {
        (alone.get("/readyz").await.status == 503).then_some(())
    })
    .await;
    alone.get("/readyz").await.is_problem(503, "not_ready", "");
    assert_eq!(alone.get("/livez").await.status, 200);

    let asked = Instant::now();
    let write = alone.put("/kv/k", "cut off").await;
    assert!(matches!(write.status, 503 | 504), "{}", write.text());
    assert!(asked.elapsed() < ANSWER_LIMIT, "a write took {:?}", asked.elapsed());
    let refused = write.json()["applied"] == "no";
    let asked = Instant::now();
    let read = alone.get("/kv/k").await;
    assert!(matches!(read.status, 503 | 504), "{}", read.text());
    assert!(asked.elapsed() < ANSWER_LIMIT, "a read took {:?}", asked.elapsed());

    // Stale reads go on, and know how stale they are.
    let stale = alone.get("/kv/k?stale=true").await;
    assert_eq!(stale.text(), "before");
    let age = stale.header("x-conure-stale-ms").parse::<u64>().expect("milliseconds");
    assert!(age > 0, "{stale:?}");
    alone.get("/kv/k?stale=true&max_stale=1ms").await.is_problem(503, "too_stale", "");

    others().for_each(|node| node.signal(Signal::CONT));
    cluster.wait_until_ready().await;
    let now = alone.get("/kv/k").await.text();
    assert!(now == "before" || (!refused && now == "cut off"), "{now}, refused: {refused}");
    for node in &cluster.nodes {
        node.put("/kv/k", node.name.clone()).await.is_ok();
        assert_eq!(alone.get("/kv/k").await.text(), node.name);
    }
}

#[tokio::test]
async fn a_frozen_leader_is_replaced_and_follows_when_it_wakes() {
    let cluster = Cluster::start(3, &[]).await;
    let load = Load::start(&cluster, 8);
    load.progress(100).await;
    let frozen = cluster.leader().await;
    cluster.nodes[frozen].signal(Signal::STOP);
    let rest = || cluster.nodes.iter().enumerate().filter(|(number, _)| *number != frozen);
    until("another leader", async || {
        for (_, node) in rest() {
            if node.status().await.is_some_and(|status| status.is_leader) {
                return Some(());
            }
        }
        None
    })
    .await;
    load.progress(100).await;
    cluster.nodes[frozen].signal(Signal::CONT);
    cluster.wait_until_ready().await;
    load.progress(100).await;
    load.stop().await.holds_on(&cluster).await;
}
