//! A node's life on its machine: ordered ends, restarts, locks, settings.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Output;

use crate::cluster::{CALM, Cluster};
use crate::harness::{Node, PATIENCE, conure_db, run, until};
use crate::load::Load;

/// What a process that could not run said, and its exit status.
fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn sigterm_lets_a_request_under_way_finish_and_exits_with_0() {
    let mut node = Node::start("node1", &[]).await;
    node.wait_until_ready().await;
    node.put("/kv/before", "v").await.is_ok();

    // Half a request, so that it is under way when the signal comes.
    let mut stream = TcpStream::connect(node.http_addr()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let head = "PUT /kv/under-way HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("a head");
    stream.write_all(b"01234").expect("half a body");
    let in_flight = "conuredb_http_in_flight 2";
    until("the request to be under way", async || {
        // Two: it, and the one that asks.
        node.get("/metrics").await.text().contains(in_flight).then_some(())
    })
    .await;

    node.signal(rustix::process::Signal::TERM);
    until("the node to have begun its end", async || node.log().contains("closing").then_some(()))
        .await;
    stream.write_all(b"56789").expect("the other half");
    let mut reply = [0; 1024];
    let read = stream.read(&mut reply).expect("an answer");
    let reply = String::from_utf8_lossy(&reply[..read]);
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    assert_eq!(node.ended().await.code(), Some(0));

    node.restart().await;
    node.wait_until_ready().await;
    assert_eq!(node.get("/kv/before").await.text(), "v");
    assert_eq!(node.get("/kv/under-way").await.text(), "0123456789");
}

#[tokio::test]
async fn a_cluster_that_is_restarted_node_by_node_under_load_loses_nothing() {
    let mut cluster = Cluster::start(3, &[]).await;
    let load = Load::start(&cluster, 4);
    for number in 0..3 {
        load.progress(100).await;
        let status = cluster.nodes[number].terminate().await;
        assert_eq!(status.code(), Some(0));
        load.progress(100).await;
        cluster.nodes[number].restart().await;
        cluster.wait_until_ready().await;
    }
    load.stop().await.holds_on(&cluster).await;
}

#[tokio::test]
async fn all_nodes_stopped_in_order_have_everything_after_a_restart() {
    let mut cluster = Cluster::start(3, &[]).await;
    let load = Load::start(&cluster, 4);
    load.progress(500).await;
    let written = load.stop().await;
    for node in &mut cluster.nodes {
        assert_eq!(node.terminate().await.code(), Some(0));
    }
    for node in &mut cluster.nodes {
        node.restart().await;
    }
    cluster.wait_until_ready().await;
    written.holds_on(&cluster).await;
}

#[tokio::test]
async fn a_node_that_is_asked_for_its_status_all_the_time_goes_on() {
    let node = Node::start("node1", CALM).await;
    node.wait_until_ready().await;
    let cluster = Cluster { nodes: vec![node] };
    let load = Load::start(&cluster, 8);
    let node = &cluster.nodes[0];
    let ask = async || {
        while load.acknowledged() < 2_000 {
            for target in ["/status", "/raft/stats", "/raft/config", "/health", "/metrics"] {
                assert_eq!(node.get(target).await.status, 200, "{target}");
            }
        }
    };
    tokio::join!(ask(), ask(), ask(), ask());
    load.stop().await.holds_on(&cluster).await;
}

#[tokio::test]
async fn a_second_node_on_a_data_directory_is_refused_and_the_first_goes_on() {
    let node = Node::start("node1", &[]).await;
    node.wait_until_ready().await;
    let mut second = conure_db();
    second.args(["--raft-addr=127.0.0.1:1", "--http-addr=127.0.0.1:2", "--data-dir"]);
    let (code, text) = said(
        &run({
            second.arg(node.data_dir());
            second
        })
        .await,
    );
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&node.data_dir().display().to_string()), "{text}");
    assert!(text.contains("use"), "{text}");
    node.put("/kv/a", "b").await.is_ok();
}

#[tokio::test]
async fn a_stopped_node_is_checked_and_a_running_one_left_alone() {
    let mut node = Node::start("node1", &[]).await;
    node.wait_until_ready().await;
    for number in 0..50 {
        node.put(&format!("/kv/key-{number}"), "value").await.is_ok();
    }
    let check = async |node: &Node| {
        let mut command = conure_db();
        command.args(["check", "--data-dir"]).arg(node.data_dir());
        said(&run(command).await)
    };
    let (code, text) = check(&node).await;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("in use"), "{text}");

    node.kill();
    let (code, text) = check(&node).await;
    assert_eq!(code, Some(0), "{text}");
    node.restart().await;
    node.wait_until_ready().await;
    // A read waits until all of the log is applied, which being ready does not promise.
    assert_eq!(node.get("/kv/key-49").await.text(), "value");
    node.terminate().await;
    let (code, text) = check(&node).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("0 records") && text.contains(" 50 "), "{text}");
}

#[tokio::test]
async fn the_data_directory_of_another_node_is_refused_by_name() {
    let mut node = Node::start("node1", &[]).await;
    node.wait_until_ready().await;
    node.put("/kv/a", "b").await.is_ok();
    node.terminate().await;
    let mut other = conure_db();
    other.args(["--node-id=node2", "--raft-addr", &node.raft_addr()]);
    other.args(["--http-addr", &node.http_addr(), "--data-dir"]).arg(node.data_dir());
    let (code, text) = said(&run(other).await);
    assert_eq!(code, Some(1), "{text}");
    for says in ["belongs to node \"node1\"", "configured as \"node2\"", "identity"] {
        assert!(text.contains(says), "{text}");
    }
    node.restart().await;
    node.wait_until_ready().await;
    assert_eq!(node.get("/kv/a").await.text(), "b");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let node = Node::start("node1", &[]).await;
    let home = tempfile::tempdir().expect("a directory");
    for (raft, http, key) in [
        ("127.0.0.1:1".to_owned(), node.http_addr(), "http_addr"),
        (node.raft_addr(), "127.0.0.1:2".to_owned(), "raft_addr"),
    ] {
        let mut other = conure_db();
        other.args(["--raft-addr", &raft, "--http-addr", &http, "--data-dir"]).arg(home.path());
        let (code, text) = said(&run(other).await);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(&format!("{key}: cannot listen on ")), "{text}");
    }
}

#[tokio::test]
async fn check_config_prints_what_is_in_force_and_where_it_came_from() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("conure.yml");
    fs::write(&file, "node_id: from-file\nlimits:\n  max_value_bytes: 1MiB\n").expect("a file");
    let mut command = conure_db();
    command.env("CONURE_FOLLOWER_MODE", "redirect");
    command.args(["--check-config", "--http-addr=127.0.0.1:9999", "--config"]).arg(&file);
    let (code, text) = said(&run(command).await);
    assert_eq!(code, Some(0), "{text}");
    for line in [
        "node_id: \"from-file\"",
        "http_addr: \"127.0.0.1:9999\"",
        "follower_mode: redirect",
        "max_value_bytes: 1048576",
        "CONURE_FOLLOWER_MODE",
        "conure.yml",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[tokio::test]
async fn bad_settings_exit_with_2_and_name_the_key_and_its_place() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("conure.yml");
    fs::write(&file, "barrier_timeout: fast\nnode_idd: a\n").expect("a file");
    let mut command = conure_db();
    command.env("CONURE_LOG_FORMAT", "xml").arg("--config").arg(&file).arg("--raft-addr=nowhere");
    let (code, text) = said(&run(command).await);
    assert_eq!(code, Some(2), "{text}");
    for says in [
        "barrier_timeout is \"fast\"",
        "there is no setting \"node_idd\"; did you mean \"node_id\"?",
        "conure.yml",
        "environment variable CONURE_LOG_FORMAT",
        "flag --raft-addr: raft_addr is \"nowhere\": it has no port",
    ] {
        assert!(text.contains(says), "{says:?} is missing in\n{text}");
    }
    assert!(fs::read_dir(home.path()).expect("a directory").count() == 1, "it made files");

    for flag in ["--no-such-flag", "--bootstrap=maybe", "--set=limits.max_value_bytes=1GiB"] {
        let mut command = conure_db();
        command.current_dir(home.path()).arg(flag);
        let (code, text) = said(&run(command).await);
        assert_eq!(code, Some(2), "{flag}: {text}");
    }
}

#[tokio::test]
async fn logs_are_json_lines_on_request() {
    let mut node = Node::start("node1", &[CALM, &["--log-format=json"]].concat()).await;
    node.wait_until_ready().await;
    node.terminate().await;
    let log = node.log();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    assert!(log.contains("serves HTTP on"), "{log}");
}
