//! Nodes that leave, come back, come back empty, or belong to somebody else.

use crate::cluster::{CALM, Cluster};
use crate::harness::{Node, until};
use crate::load::Load;
use conuredb::client::Member;

#[tokio::test]
async fn a_removed_node_refuses_with_a_reason_answers_stale_reads_and_can_come_back() {
    let mut cluster = Cluster::start(3, &[]).await;
    let leader = cluster.leader().await;
    let (out, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[leader].put("/kv/k", "before").await.is_ok();
    // It has to have the value before it is cut off for good.
    assert_eq!(cluster.nodes[out].get("/kv/k").await.text(), "before");

    let name = cluster.nodes[out].name.clone();
    // Any member takes the request.
    cluster.nodes[other].remove(&name).await.is_ok();
    let removed = &cluster.nodes[out];
    until("the removed node to know", async || {
        let reply = removed.get("/readyz").await;
        (reply.status == 503 && reply.text().contains("removed")).then_some(())
    })
    .await;
    removed.put("/kv/k", "after").await.is_problem(503, "not_ready", "removed");
    removed.get("/kv/k").await.is_problem(503, "not_ready", "removed");
    assert_eq!(removed.get("/kv/k?stale=true").await.text(), "before");
    assert_eq!(removed.get("/livez").await.status, 200);

    // It also knows after a restart, and the others do well without it.
    cluster.nodes[out].kill();
    cluster.nodes[leader].put("/kv/k", "meanwhile").await.is_ok();
    cluster.nodes[out].restart().await;
    until("the removed node to know again", async || {
        let reply = cluster.nodes[out].put("/kv/k", "after").await;
        (reply.status == 503 && reply.text().contains("removed")).then_some(())
    })
    .await;
    assert_eq!(cluster.nodes[other].get("/kv/k").await.text(), "meanwhile");

    cluster.nodes[leader].join(&cluster.nodes[out]).await.is_ok();
    for node in &cluster.nodes {
        node.wait_for_voters(3).await;
        node.wait_until_ready().await;
    }
    assert_eq!(cluster.nodes[out].get("/kv/k").await.text(), "meanwhile");
    cluster.nodes[out].put("/kv/k", "again").await.is_ok();
}

#[tokio::test]
async fn a_removal_under_load_loses_nothing_and_leaves_a_cluster_of_two() {
    let mut cluster = Cluster::start(3, &[]).await;
    let load = Load::start(&cluster, 4);
    load.progress(100).await;
    // The leader removes itself: it hands over first.
    let leader = cluster.leader().await;
    let name = cluster.nodes[leader].name.clone();
    cluster.nodes[leader].remove(&name).await.is_ok();
    load.progress(100).await;
    let written = load.stop().await;
    drop(cluster.nodes.remove(leader));
    for node in &cluster.nodes {
        node.wait_for_voters(2).await;
    }
    written.holds_on(&cluster).await;
}

#[tokio::test]
async fn the_last_voter_cannot_be_removed() {
    let node = Node::start("node1", CALM).await;
    node.wait_until_ready().await;
    node.remove("node1").await.is_problem(409, "refused", "last voter");
    node.put("/kv/k", "v").await.is_ok();
}

#[tokio::test]
async fn a_node_whose_disk_was_wiped_comes_back_under_its_name() {
    let mut cluster = Cluster::start(3, &[]).await;
    let load = Load::start(&cluster, 4);
    load.progress(200).await;
    // Not the first, which would found a cluster of its own; and not the leader, to make it one failure.
    if cluster.leader().await == 2 {
        cluster.nodes[0].transfer("node1").await.is_ok();
    }
    cluster.nodes[2].kill();
    cluster.nodes[2].wipe();
    load.progress(200).await;
    cluster.nodes[2].restart().await;
    cluster.nodes[2].wait_for_voters(3).await;
    cluster.wait_until_ready().await;
    load.progress(100).await;
    let written = load.stop().await;
    written.holds_on(&cluster).await;
    // As a full member: the cluster can lose another one.
    let leader = cluster.leader().await;
    cluster.nodes[if leader == 2 { 0 } else { leader }].kill();
    cluster.nodes[2].put("/kv/one-more", "v").await.is_ok();
}

#[tokio::test]
async fn a_node_with_data_of_its_own_cluster_refuses_to_join_another() {
    let first = Node::start("node1", CALM).await;
    let other = Node::start("node2", CALM).await;
    for node in [&first, &other] {
        node.wait_until_ready().await;
    }
    other.put("/kv/precious", "data").await.is_ok();
    let refused = first.join(&other).await;
    let refused = refused.is_problem(409, "node_conflict", "data up to revision 1");
    assert!(refused.text().contains("move its data directory away"), "{}", refused.text());
    assert_eq!(other.get("/kv/precious").await.text(), "data");
    first.wait_for_voters(1).await;
    other.wait_for_voters(1).await;
}

#[tokio::test]
async fn a_wrong_name_and_a_taken_address_are_conflicts() {
    let cluster = Cluster::start(3, &[]).await;
    let address = cluster.nodes[1].raft_addr();
    let body = format!(r#"{{"ID":"node9","RaftAddr":"{address}"}}"#);
    let refused = cluster.nodes[0].post("/join", &body).await;
    refused.is_problem(409, "node_conflict", "node2");
    for node in &cluster.nodes {
        node.wait_for_voters(3).await;
    }
}

/// A node named `reader` that follows without a vote.
async fn nonvoter(member: &Node) -> Node {
    let reader = Node::start("reader", &[CALM, &["--bootstrap=false"]].concat()).await;
    let address = reader.raft_addr();
    let body = format!(r#"{{"ID":"reader","RaftAddr":"{address}","Suffrage":"nonvoter"}}"#);
    member.post("/join", &body).await.is_ok();
    reader.wait_until_ready().await;
    reader
}

#[tokio::test]
async fn a_nonvoter_follows_and_never_votes() {
    let cluster = Cluster::start(1, &[]).await;
    let reader = nonvoter(&cluster.nodes[0]).await;
    cluster.nodes[0].put("/kv/k", "v").await.is_ok();
    assert_eq!(reader.get("/kv/k").await.text(), "v");
    reader.put("/kv/k", "w").await.is_ok();
    let members = cluster.nodes[0].members().await.expect("members");
    let suffrage: Vec<_> = members.servers.iter().map(|member| &member.suffrage[..]).collect();
    assert!(suffrage.contains(&"nonvoter") && suffrage.len() == 2, "{suffrage:?}");
    cluster.nodes[0].transfer("reader").await.is_problem(409, "refused", "learner");
}

#[tokio::test]
async fn a_member_whose_addresses_changed_says_so_and_stays_what_it_is() {
    let mut cluster = Cluster::start(3, &[]).await;
    cluster.nodes.push(nonvoter(&cluster.nodes[0]).await);

    let leader = cluster.leader().await;
    for moved in [(leader + 1) % 3, leader, 3] {
        let node = &mut cluster.nodes[moved];
        node.kill();
        node.move_away().expect("free ports");
        node.restart().await;
        let (node, other) = (&cluster.nodes[moved], &cluster.nodes[(moved + 1) % 3]);
        node.wait_until_ready().await;
        node.put("/kv/k", node.raft_addr()).await.is_ok();
        assert_eq!(other.get("/kv/k").await.text(), node.raft_addr());
        let known = until_known_where_it_is(node, other).await;
        assert_eq!(known.suffrage == "voter", moved < 3, "{}", known.suffrage);
    }
}

/// Waits until another member has the address of a node in the membership.
async fn until_known_where_it_is(node: &Node, other: &Node) -> Member {
    until("its new address to be known", async || {
        let members = other.members().await?.servers;
        members
            .into_iter()
            .find(|member| member.address == node.raft_addr() && member.id == node.name)
    })
    .await
}

#[tokio::test]
async fn two_members_that_change_places_are_found() {
    let mut cluster = Cluster::start(3, &[]).await;
    let leader = cluster.leader().await;
    cluster.nodes.rotate_left(leader);
    let [_, one, two] = &mut cluster.nodes[..] else { panic!("three nodes") };
    one.kill();
    two.kill();
    one.swap_places(two);
    one.restart().await;
    two.restart().await;
    for node in &cluster.nodes {
        node.wait_until_ready().await;
        node.put("/kv/k", node.raft_addr()).await.is_ok();
        assert_eq!(cluster.nodes[0].get("/kv/k").await.text(), node.raft_addr());
    }
    for node in &cluster.nodes {
        until_known_where_it_is(node, &cluster.nodes[0]).await;
    }
}

#[tokio::test]
async fn a_majority_that_moved_is_found_by_a_leader_that_is_ahead() {
    let mut cluster = Cluster::start(3, &[]).await;
    let leader = cluster.leader().await;
    cluster.nodes.rotate_left(leader);
    cluster.nodes[0].put("/kv/k", "first").await.is_ok();
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    // In the leader's log, and in no other: neither of the two can be elected.
    assert_eq!(cluster.nodes[0].put("/kv/k", "second").await.status, 504);
    for node in &mut cluster.nodes[1..] {
        node.move_away().expect("free ports");
        node.restart().await;
    }
    for node in &cluster.nodes {
        until_known_where_it_is(node, &cluster.nodes[0]).await;
        // A read that came before the quorum may be answered as of then.
        until("what the leader had in its log", async || {
            (node.get("/kv/k").await.text() == "second").then_some(())
        })
        .await;
    }
}
