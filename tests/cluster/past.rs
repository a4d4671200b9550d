//! The past, through real processes: every node tells the same, a restart forgets nothing, the shell shows it.

use crate::cluster::Cluster;
use crate::harness::{conuresh, run};

/// What a shell command prints.
async fn shell(cluster: &Cluster, node: usize, arguments: &[&str]) -> String {
    let output = run(conuresh(&cluster.nodes[node], arguments)).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test]
async fn every_node_tells_the_same_past_also_after_a_restart() {
    let mut cluster = Cluster::start(3, &[]).await;
    let follower = cluster.follower().await;
    let node = &cluster.nodes[follower];
    node.put("/kv/user/1", "one").await.is_ok();
    node.put("/kv/user/2", "two").await.is_ok();
    node.put("/kv/user/1", "more").await.is_ok();
    node.delete("/kv/user/2").await.is_ok();
    node.put("/kv/user/3", "three").await.is_ok();
    let tell = async |cluster: &Cluster| {
        let mut told = Vec::new();
        for node in &cluster.nodes {
            let mut answers = Vec::new();
            for target in [
                "/kv/user/1?revision=2",
                "/kv?prefix=user/&revision=3",
                "/kv?prefix=user/&revision=4&count_only=true",
                "/kv?key=user/2&history=true",
                "/kv?key=user/1&history=true&revision=2",
            ] {
                let reply = node.get(target).await;
                assert_eq!(reply.status, 200, "{target}: {}", reply.text());
                answers.push(reply.text());
            }
            node.get("/kv/user/2?revision=4").await.is_problem(404, "key_not_found", "");
            let future = node.get("/kv/user/1?revision=6").await;
            future.is_problem(400, "revision_in_future", "the store is at 5");
            told.push(answers);
        }
        told
    };
    let told = tell(&cluster).await;
    assert_eq!(told[0][0], "one");
    assert!(told[0][1].contains("\"two\"") && told[0][1].contains("\"more\""), "{}", told[0][1]);
    assert!(told[0][2].contains("\"count\":1"), "{}", told[0][2]);
    assert!(told.iter().all(|answers| *answers == told[0]), "{told:?}");

    let history = shell(&cluster, follower, &["history", "user/2"]).await;
    assert_eq!(history, "4\tdelete\n2\tput\ttwo\n");
    let get = ["get", "user/1", "--revision", "2"];
    assert_eq!(shell(&cluster, follower, &get).await, "one");
    let diff = shell(&cluster, follower, &["diff", "2", "5", "user/"]).await;
    assert_eq!(diff, "-user/1\tone\n+user/1\tmore\n-user/2\ttwo\n+user/3\tthree\n");
    assert_eq!(shell(&cluster, follower, &["diff", "5", "5"]).await, "");

    for node in &mut cluster.nodes {
        node.kill();
    }
    for node in &mut cluster.nodes {
        node.restart().await;
    }
    cluster.wait_until_ready().await;
    assert_eq!(tell(&cluster).await, told);
}
