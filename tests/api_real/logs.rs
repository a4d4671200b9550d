//! What a node logs, and how that is changed.

use serde_json::json;

use crate::cases;
use crate::errors::stall;
use crate::harness::{Node, until};
use crate::place::Place;

cases! {
    "Every request has an id: what it brought in `X-Request-Id`" => every_reply_names_its_request,
    "| `conuredb::http::access` |" => every_request_is_logged_at_debug,
    "| `conuredb::http::slow` |" => a_slow_request_is_logged,
    "| `conuredb::actors::raft::write` |" => the_leader_logs_what_was_passed_on,
    "| `GET /log-level` |" => the_filter_is_told,
    "| `PUT /log-level` with the filter" => the_filter_is_changed,
}

/// Waits for a line of the log that holds all of these.
async fn line_with(node: &Node, texts: &[&str]) -> String {
    until(&format!("a line with {texts:?} in the log of {}", node.name), async || {
        let log = node.log();
        log.lines().find(|line| texts.iter().all(|text| line.contains(text))).map(str::to_owned)
    })
    .await
}

async fn every_reply_names_its_request(at: &Place) {
    let brought = at.ask("GET", "/kv/none", &["X-Request-Id: order/4711"], None).await;
    assert_eq!(brought.header("x-request-id"), Some("order/4711"));
    assert_eq!(brought.json()["request_id"], "order/4711");
    let (one, other) = (at.get("/livez").await, at.get("/livez").await);
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
    let odd = at.ask("GET", "/livez", &["X-Request-Id: two words"], None).await;
    assert_ne!(odd.header("x-request-id"), Some("two words"));
}

async fn every_request_is_logged_at_debug(at: &Place) {
    let id = ["X-Request-Id: logged-1"];
    at.ask("PUT", "/kv/user%2f1?value=secret", &id, None).await;
    let line = line_with(at.node(), &["http::access", "request_id=logged-1"]).await;
    for text in ["method=PUT", "route=kv", "key=user%2f1", "key_bytes=6", "status=200"] {
        assert!(line.contains(text), "{line} lacks {text}");
    }
    assert!(!at.node().log().contains("secret"), "no value is logged");
}

async fn a_slow_request_is_logged(at: &Place) {
    stall(at, "slow-1").await.is_problem(408, "request_timeout");
    let line = line_with(at.node(), &["WARN", "http::slow", "request_id=slow-1"]).await;
    assert!(line.contains("status=408"), "{line}");
}

async fn the_leader_logs_what_was_passed_on(at: &Place) {
    at.ask("PUT", "/kv/passed", &["X-Request-Id: passed-1"], Some(b"v")).await;
    if !at.is_alone() {
        let line = line_with(at.leader(), &["raft::write", "request_id=passed-1"]).await;
        assert!(line.contains(at.name()) && line.contains("was applied"), "{line}");
    }
}

async fn the_filter_is_told(at: &Place) {
    let text = at.get("/log-level").await;
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
    let filter = text.text().trim_end();
    assert_eq!(at.get_json("/log-level").await, json!({ "filter": filter }));
}

async fn the_filter_is_changed(at: &Place) {
    let before = at.get("/log-level").await.text().to_owned();
    assert_eq!(at.put("/log-level", "warn,conuredb::http=trace").await.status, 200);
    assert_eq!(at.get("/log-level").await.text(), "warn,conuredb::http=trace\n");
    let problem = at.put("/log-level", "info,conuredb=loud").await.is_problem(400, "bad_body");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("at byte 14")));
    let back = json!({ "filter": before.trim_end() }).to_string();
    assert_eq!(at.put("/log-level", &back).await.text(), before);
}
