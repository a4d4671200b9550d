//! Leases, through real processes: they outlive leaders and restarts, and end alike on every node.

use std::time::{Duration, Instant};

use conuredb::types::{Condition, LeaseId};

use crate::cluster::Cluster;
use crate::harness::{Node, conuresh, run, until};

/// Longer than any of these tests takes.
const LONG: Duration = Duration::from_secs(3_600);

/// Longer than it takes to put a few keys.
const SHORT: Duration = Duration::from_secs(20);

/// What a node's own state tells of the end of a key: how, and at which revision.
async fn end_of(node: &Node, key: &str) -> (String, u64) {
    until(&format!("{key} to end on {}", node.name), async || {
        let target = format!("/kv?key={key}&history=true&limit=1&stale=true");
        let history = node.try_get(&target).await.ok().filter(|reply| reply.status == 200)?;
        let last = &history.json()["items"][0];
        let kind = last["kind"].as_str().filter(|kind| *kind != "put")?.to_owned();
        Some((kind, last["revision"].as_u64().expect("a revision")))
    })
    .await
}

#[tokio::test]
async fn a_lease_outlives_leaders_and_restarts_and_is_revoked_alike_on_every_node() {
    let mut cluster = Cluster::start(3, &[]).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let client = cluster.client(follower);
    let lease = client.lease_grant(LONG).await.expect("a lease");
    for key in ["a", "b"] {
        client.put_with_lease(key.as_bytes(), "v", lease, Condition::None).await.expect("a write");
    }
    cluster.nodes[leader].kill();
    client.lease_keep_alive(lease).await.expect("the next leader knows it");
    cluster.nodes[leader].restart().await;
    for node in &mut cluster.nodes {
        node.kill();
    }
    for node in &mut cluster.nodes {
        node.restart().await;
    }
    cluster.wait_until_ready().await;
    let kept = client.lease(lease, None).await.expect("an answer").expect("it is there");
    assert_eq!((kept.lease.keys, kept.lease.ttl), (2, LONG));
    for node in &cluster.nodes {
        assert_eq!(node.get("/kv/a").await.header("x-conure-lease"), lease.to_string());
        let metrics = node.get("/metrics").await.text();
        assert!(metrics.contains("\nconuredb_leases 1\n"), "{metrics}");
    }
    let revoked = client.lease_revoke(lease).await.expect("it was there");
    assert_eq!(revoked.deleted, 2);
    for node in &cluster.nodes {
        for key in ["a", "b"] {
            assert_eq!(end_of(node, key).await, ("delete".to_owned(), revoked.revision));
        }
        let target = format!("/leases/{lease}/keepalive");
        node.post(&target, "").await.is_problem(404, "lease_not_found", "");
    }
}

#[tokio::test]
async fn a_lease_that_nobody_keeps_ends_with_all_its_keys_at_one_revision() {
    let mut cluster = Cluster::start(3, &[]).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let client = cluster.client(follower);
    let begun = Instant::now();
    let lease = client.lease_grant(SHORT).await.expect("a lease");
    for n in 0..10 {
        let key = format!("leased/{n}");
        client.put_with_lease(key.as_bytes(), "v", lease, Condition::None).await.expect("a write");
    }
    client.put(b"leased/kept", "v", Condition::None).await.expect("a write");
    // Whoever leads next knows the deadline: it is in its state.
    cluster.nodes[leader].kill();
    let others: Vec<usize> = (0..3).filter(|&node| node != leader).collect();
    let (kind, revision) = end_of(&cluster.nodes[others[0]], "leased/0").await;
    assert!(begun.elapsed() >= SHORT, "not before its time");
    assert_eq!(kind, "expire");
    cluster.nodes[leader].restart().await;
    cluster.wait_until_ready().await;
    for node in &cluster.nodes {
        for n in 0..10 {
            let ended = end_of(node, &format!("leased/{n}")).await;
            assert_eq!(ended, ("expire".to_owned(), revision), "{n} on {}", node.name);
        }
        assert_eq!(node.get("/kv/leased/kept").await.text(), "v");
        assert_eq!(node.get("/leases").await.json()["items"].as_array().map(Vec::len), Some(0));
    }
}

#[tokio::test]
async fn the_shell_grants_shows_and_revokes() {
    let cluster = Cluster::start(1, &[]).await;
    let node = &cluster.nodes[0];
    let shell = async |arguments: &[&str]| {
        let output = run(conuresh(node, arguments)).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        (said, complained, output.status.code())
    };
    let (granted, complained, code) = shell(&["lease", "grant", "1h"]).await;
    assert_eq!(code, Some(0), "{complained}");
    let id = granted.trim_end();
    assert!(id.parse::<LeaseId>().is_ok(), "{granted:?}");
    assert_eq!(shell(&["put", "a b", "v", "--lease", id]).await.2, Some(0));
    assert_eq!(shell(&["lease", "keepalive", id]).await.0, "OK\n");
    let (listed, ..) = shell(&["lease", "list"]).await;
    assert!(listed.starts_with(&format!("{id}\tttl 1h\tleft ")), "{listed}");
    let (shown, ..) = shell(&["lease", "show", id]).await;
    assert!(shown.contains("keys 1\n") && shown.ends_with("\na b\n"), "{shown}");
    assert_eq!(shell(&["ttl", "a b"]).await.0, format!("it ends with lease {id}\n"));
    assert_eq!(shell(&["lease", "revoke", id]).await.0, "OK deleted 1\n");
    for gone in
        [&["lease", "show", id][..], &["lease", "revoke", id], &["put", "a", "v", "--lease", id]]
    {
        let (_, complained, code) = shell(gone).await;
        assert_eq!(code, Some(4), "{gone:?}: {complained}");
        assert!(complained.contains("lease"), "{gone:?}: {complained}");
    }
    assert_eq!(shell(&["get", "a b"]).await.2, Some(4));
}
