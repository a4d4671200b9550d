//! A quorum that is lost for good: what a survivor holds becomes a cluster of its own.

use std::process::Output;

use conuredb::types::Condition;

use crate::cluster::{CALM, Cluster};
use crate::harness::{Node, conure_db, run, until};

async fn recover(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = conure_db();
    command.arg("recover").args(arguments);
    let Output { status, stdout, stderr } = run(command).await;
    (status.code(), String::from_utf8([stdout, stderr].concat()).expect("text"))
}

#[tokio::test]
async fn a_survivor_becomes_a_cluster_of_its_own_with_all_that_it_had_received() {
    let mut cluster = Cluster::start(3, &[]).await;
    let client = cluster.client(0);
    let mut last = 0;
    for number in 0..300 {
        let (key, value) = (format!("k{number:03}"), format!("value {number}"));
        last = client.put(key.as_bytes(), value, Condition::None).await.expect("a put").revision;
    }
    let follower = cluster.follower().await;
    until("the follower to have applied it", async || {
        (cluster.nodes[follower].status().await?.revision == last).then_some(())
    })
    .await;
    let there = cluster.nodes[follower].records("").await;
    let old = cluster.nodes[follower].status().await.expect("a status").cluster_id;

    let home = tempfile::tempdir().expect("a temporary directory");
    let (from, into) = (cluster.nodes[follower].data_dir().to_owned(), home.path().join("new"));
    let (from, into) = (from.to_str().expect("text"), into.to_str().expect("text"));
    let (code, said) = recover(&["--data-dir", from, "--into", into, "--quorum-is-lost"]).await;
    assert_eq!(code, Some(2), "a node runs there: {said}");

    for node in &mut cluster.nodes {
        node.kill();
    }
    let (code, said) = recover(&["--data-dir", from, "--into", into]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nothing was done: say --quorum-is-lost"), "{said}");
    assert!(said.contains("node1 (voter), node2 (voter), node3 (voter)"), "{said}");
    assert!(!std::path::Path::new(into).exists());

    let arguments = ["--data-dir", from, "--into", into, "--quorum-is-lost"];
    let (code, said) = recover(&arguments).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("recovered revision {last} into")), "{said}");
    assert!(said.contains("MISSING   what the old cluster acknowledged after entry"), "{said}");
    let (code, said) = recover(&arguments).await;
    assert_eq!((code, said.contains("is not empty")), (Some(2), true), "{said}");

    let name = cluster.nodes[follower].name.clone();
    let recovered = Node::start_at(&name, CALM, into.as_ref()).await;
    recovered.wait_until_ready().await;
    let status = recovered.status().await.expect("a status");
    assert_eq!(status.revision, last);
    assert_ne!(status.cluster_id, old);
    assert!(recovered.records("").await == there);
    recovered.put("/kv/new", "write").await.is_ok();

    // What is left of the old cluster has no quorum, and the new one is none of its members.
    let other = (follower + 1) % 3;
    cluster.nodes[other].restart().await;
    let reply = cluster.nodes[other].get("/kv/k000").await;
    assert_eq!(reply.status, 503, "{}", reply.text());
}
