//! The sequences that the original program's users have in their scripts, to the letter.

use conuredb::client::Members;

use crate::harness::{Node, until};

/// Names and addresses of the members, as `/raft/config` lists them.
fn voters(members: &Members) -> Vec<(&str, &str)> {
    let voters = members.servers.iter().filter(|member| member.suffrage == "voter");
    let mut voters: Vec<_> =
        voters.map(|member| (member.id.as_str(), member.address.as_str())).collect();
    voters.sort_unstable();
    voters
}

/// What every sequence ends with: writes at any node, reads at any, a stale one at a follower, a removal.
async fn is_one_cluster(nodes: &[Node]) {
    let members = nodes[0].wait_for_voters(3).await;
    let addresses: Vec<String> = nodes.iter().map(|node| node.raft_addr()).collect();
    let expected: Vec<_> = nodes
        .iter()
        .zip(&addresses)
        .map(|(node, address)| (node.name.as_str(), address.as_str()))
        .collect();
    assert_eq!(voters(&members), expected);
    assert_eq!(members.leader, addresses[0]);
    for node in nodes {
        node.wait_until_ready().await;
    }

    nodes[0].put("/kv?key=color&value=green", "").await.is_ok();
    nodes[1].put("/kv?key=shape", "round").await.is_ok();
    for node in nodes {
        assert_eq!(node.get("/kv?key=color").await.text(), "green");
        assert_eq!(node.get("/kv?key=shape").await.text(), "round");
    }
    let stale = until("a follower to have applied it", async || {
        let reply = nodes[2].get("/kv?key=color&stale=true").await;
        (reply.status == 200).then_some(reply)
    })
    .await;
    assert_eq!(stale.text(), "green");
    assert!(stale.header("x-conure-stale-ms").parse::<u64>().is_ok(), "{stale:?}");
    assert_eq!(stale.header("x-conure-served-by"), "node3");

    nodes[0].remove("node3").await.is_ok();
    let members = nodes[0].wait_for_voters(2).await;
    assert_eq!(voters(&members), expected[..2]);
    nodes[1].put("/kv?key=color&value=blue", "").await.is_ok();
    assert_eq!(nodes[0].get("/kv?key=color").await.text(), "blue");
    nodes[0].remove("node3").await.is_problem(404, "unknown_node", "node1");
}

#[tokio::test]
async fn one_node_puts_gets_and_deletes() {
    let node = Node::start("node1", &["--bootstrap"]).await;
    node.wait_for_voters(1).await;
    node.put("/kv?key=greeting&value=hello%20world", "").await.is_ok();
    assert_eq!(node.get("/kv?key=greeting").await.text(), "hello world");
    node.put("/kv?key=greeting", "from the body").await.is_ok();
    assert_eq!(node.get("/kv?key=greeting").await.text(), "from the body");
    assert_eq!(node.get("/kv?key=greeting&stale=true").await.text(), "from the body");
    node.delete("/kv?key=greeting").await.is_ok();
    node.get("/kv?key=greeting").await.is_problem(404, "key_not_found", "");
    node.delete("/kv?key=greeting").await.is_ok();

    let status = node.get("/status").await.json();
    assert_eq!(status["is_leader"], true);
    assert_eq!(status["leader"], node.raft_addr());
    let health = node.get("/health").await.json();
    assert_eq!((&health["status"], &health["member_count"]), (&"ok".into(), &1.into()));
    assert_eq!(health["node_id"], "node1");
    let stats = node.get("/raft/stats").await.json();
    for field in ["state", "term", "last_log_index", "commit_index", "applied_index", "num_peers"] {
        assert!(!stats[field].is_null(), "{field} is missing in {stats}");
    }
}

#[tokio::test]
async fn one_node_with_no_flag_but_its_addresses_becomes_ready() {
    let node = Node::start("node1", &[]).await;
    node.wait_until_ready().await;
    node.put("/kv?key=a&value=b", "").await.is_ok();
}

#[tokio::test]
async fn nodes_started_without_bootstrap_join_by_two_posts_at_the_first() {
    let mut nodes = vec![Node::start("node1", &["--bootstrap"]).await];
    for name in ["node2", "node3"] {
        nodes.push(Node::start(name, &[]).await);
    }
    nodes[0].wait_for_voters(1).await;
    nodes[0].join(&nodes[1]).await.is_ok();
    nodes[0].join(&nodes[2]).await.is_ok();
    // Saying it again changes nothing.
    nodes[0].join(&nodes[1]).await.is_ok();
    is_one_cluster(&nodes).await;
}

#[tokio::test]
async fn nodes_started_with_bootstrap_false_wait_to_be_joined() {
    let mut nodes = vec![Node::start("node1", &["--bootstrap=true"]).await];
    for name in ["node2", "node3"] {
        nodes.push(Node::start(name, &["--bootstrap=false"]).await);
    }
    nodes[0].wait_for_voters(1).await;
    nodes[1].get("/readyz").await.is_problem(503, "not_ready", "");
    nodes[0].join(&nodes[1]).await.is_ok();
    nodes[0].join(&nodes[2]).await.is_ok();
    is_one_cluster(&nodes).await;
}

#[tokio::test]
async fn nodes_with_seeds_join_by_themselves() {
    let mut nodes = vec![Node::start("node1", &[]).await];
    let seeds = format!("--seeds={}", nodes[0].url());
    for name in ["node2", "node3"] {
        nodes.push(Node::start(name, &["--bootstrap=false", &seeds]).await);
    }
    is_one_cluster(&nodes).await;
}
