//! What keeps a store small: the past that ends as it is set, and files that give back what they do not need.

use conuredb::types::Condition;

use crate::cluster::{CALM, Cluster, client};
use crate::harness::{Node, conuresh, run, until};

async fn oldest_revision(node: &Node) -> u64 {
    node.status().await.map_or(0, |status| status.oldest_revision)
}

#[tokio::test]
async fn every_node_keeps_as_much_of_the_past_as_the_leader_is_set_to() {
    let mut cluster = Cluster::start(3, &["--set=storage.history_max_changes=10"]).await;
    let client = cluster.client(0);
    until("the setting to be in force", async || {
        client.put(b"k", "v", Condition::None).await.expect("a put");
        let revision = cluster.nodes[0].status().await?.revision;
        (revision > 20 && oldest_revision(&cluster.nodes[0]).await + 12 > revision).then_some(())
    })
    .await;
    let last = client.put(b"k", "v", Condition::None).await.expect("a put");
    let oldest = last.revision - 10;
    for node in &cluster.nodes {
        until("all nodes to have applied it", async || {
            (oldest_revision(node).await == oldest).then_some(())
        })
        .await;
        let gone = node.get_until(410, &format!("/kv/k?revision={}", oldest - 1)).await;
        gone.is_problem(410, "revision_trimmed", "");
        let kept = node.get_until(200, &format!("/kv/k?revision={oldest}")).await;
        assert_eq!(kept.text(), "v");
        let metrics = node.get_until(200, "/metrics").await.text();
        for line in
            [format!("conuredb_oldest_revision {oldest}"), "conuredb_history_changes 10".to_owned()]
        {
            assert!(metrics.lines().any(|have| have == line), "{line} is not in\n{metrics}");
        }
    }
    for node in &mut cluster.nodes {
        node.kill();
    }
    for node in &mut cluster.nodes {
        node.restart().await;
    }
    cluster.wait_until_ready().await;
    for node in &cluster.nodes {
        until("the state of before", async || {
            (oldest_revision(node).await == oldest).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_idle_store_forgets_what_is_too_old() {
    let flags = [CALM, &["--set=storage.history_max_age=2s"]].concat();
    let node = Node::start("node1", &flags).await;
    node.wait_until_ready().await;
    let client = client(vec![node.url()]);
    for value in ["one", "two", "three"] {
        client.put(b"k", value, Condition::None).await.expect("a put");
    }
    until("the past to end", async || (oldest_revision(&node).await == 3).then_some(())).await;
    node.get_until(410, "/kv/k?revision=2").await.is_problem(410, "revision_trimmed", "");
    assert_eq!(node.get_until(200, "/kv/k").await.text(), "three");
}

#[tokio::test]
async fn a_compaction_gives_back_what_was_deleted() {
    let flags = [CALM, &["--set=storage.history_max_changes=1"]].concat();
    let node = Node::start("node1", &flags).await;
    node.wait_until_ready().await;
    let client = client(vec![node.url()]);
    for n in 0..60 {
        let (key, value) = (format!("large/{n}"), vec![n; 200_000]);
        client.put(key.as_bytes(), value, Condition::None).await.expect("a put");
    }
    client.delete_prefix(b"large/").await.expect("a delete");
    until("the past to end", async || {
        client.put(b"small", "stays", Condition::None).await.expect("a put");
        let status = node.status().await?;
        (status.oldest_revision + 2 > status.revision).then_some(())
    })
    .await;
    let compacted = run(conuresh(&node, &["--timeout", "60s", "compact"])).await;
    let said = String::from_utf8_lossy(&compacted.stdout).into_owned();
    assert!(compacted.status.success(), "{compacted:?}");
    assert!(said.starts_with("OK node1: ") && said.contains(" bytes, there were "), "{said}");
    let status = node.status().await.expect("a status");
    assert!(!status.compacting && status.compactions >= 1, "{status:?}");
    assert!(status.db_bytes < 2_000_000, "{status:?}");
    assert_eq!(node.get_until(200, "/kv/small").await.text(), "stays");
}
