//! The logs of real nodes: the id of a request on every node that takes part, slow requests, levels that change.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::Cluster;
use crate::harness::{Node, conuresh, run, until};

/// Waits for a line of the node's log that holds all of these.
async fn line_with(node: &Node, texts: &[&str]) -> String {
    until(&format!("a line with {texts:?} in the log of {}", node.name), async || {
        let log = node.log();
        log.lines().find(|line| texts.iter().all(|text| line.contains(text))).map(str::to_owned)
    })
    .await
}

#[tokio::test]
async fn a_write_through_a_follower_has_its_id_in_the_logs_of_both() {
    let debug = "--log-level=info,conuredb::http=debug,conuredb::actors::raft::write=debug";
    let cluster = Cluster::start(3, &[debug]).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let (leader, follower) = (&cluster.nodes[leader], &cluster.nodes[follower]);
    let id = [("x-request-id", "order-4711")];
    let put = follower.request(Method::PUT, "/kv/user%2f1?value=secret", &id, "").await;
    let put = put.expect("an answer");
    put.is_ok();
    assert_eq!(put.header("x-request-id"), "order-4711");
    let answered = line_with(follower, &["order-4711", "answered"]).await;
    for text in ["method=PUT", "route=kv", "key=user%2f1", "key_bytes=6", "status=200", "node_ms="]
    {
        assert!(answered.contains(text), "{answered} lacks {text}");
    }
    let passed_on = line_with(leader, &["order-4711", "passed on"]).await;
    assert!(passed_on.contains(&follower.name) && passed_on.contains("was applied"), "{passed_on}");
    for node in [leader, follower] {
        assert!(!node.log().contains("secret"), "no value is logged");
    }
}

#[tokio::test]
async fn a_slow_request_is_told_as_json_with_where_its_time_went() {
    let flags = ["--log-format=json", "--log-slow-request=200ms"];
    let node = Node::start("node1", &flags).await;
    node.wait_until_ready().await;
    let mut stream = TcpStream::connect(node.http_addr()).await.expect("a connection");
    let head = "PUT /kv/slow HTTP/1.1\r\nHost: t\r\nX-Request-Id: s-1\r\nContent-Length: 1\r\n\
                Expect: 100-continue\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("a request");
    // That the body is asked for says that the time runs.
    let mut asked = [0; 12];
    stream.read_exact(&mut asked).await.expect("an answer");
    assert_eq!(&asked, b"HTTP/1.1 100");
    tokio::time::sleep(Duration::from_millis(300)).await;
    stream.write_all(b"v").await.expect("a body");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("a reply");
    assert!(reply.contains("HTTP/1.1 200"), "{reply}");

    let line = line_with(&node, &["conuredb::http::slow", "s-1"]).await;
    let line: Value = serde_json::from_str(&line).expect("JSON");
    for (field, value) in [
        ("level", "WARN"),
        ("message", "slow"),
        ("request_id", "s-1"),
        ("method", "PUT"),
        ("route", "kv"),
        ("key", "slow"),
        ("served_by", "node1"),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
    assert_eq!((&line["status"], &line["key_bytes"]), (&200.into(), &4.into()));
    let [ms, body_ms] = ["ms", "body_ms"].map(|field| line[field].as_u64().expect(field));
    assert!(ms >= body_ms && body_ms >= 299, "{line}");
    for line in node.log().lines() {
        let line: Value = serde_json::from_str(line).expect("every line is JSON");
        assert!(line["time"].is_string() && line["target"].is_string(), "{line}");
    }
}

#[tokio::test]
async fn the_level_changes_while_the_node_runs() {
    let node = Node::start("node1", &["--log-level=warn"]).await;
    node.wait_until_ready().await;
    assert!(!node.log().contains("INFO"), "{}", node.log());
    let shell = async |arguments: &[&str]| {
        let output = run(conuresh(&node, arguments)).await;
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    assert_eq!(shell(&["log-level"]).await.1, "node1 logs warn\n");
    let filter = "warn,conuredb::http::access=debug";
    assert_eq!(shell(&["log-level", filter]).await.1, format!("node1 logs {filter}\n"));
    let id = [("x-request-id", "seen")];
    node.request(Method::GET, "/livez", &id, "").await.expect("an answer");
    line_with(&node, &["DEBUG", "answered", "request_id=seen"]).await;

    let (code, _, said) = shell(&["log-level", "loud"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("\"loud\" is no level (at byte 0)"), "{said}");
    shell(&["log-level", "off"]).await;
    let unseen = [("x-request-id", "unseen")];
    node.request(Method::GET, "/livez", &unseen, "").await.expect("an answer");
    assert_eq!(shell(&["log-level"]).await.1, "node1 logs off\n");
    assert!(!node.log().contains("unseen"), "{}", node.log());
}
