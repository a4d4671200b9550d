//! Every code that a node in good health answers.

use serde_json::{Value, json};

use crate::cases;
use crate::client::{Reply, request};
use crate::place::{MAX_TXN_OPS, MAX_VALUE_BYTES, Place};
use crate::watch::only_so_many_watch;

/// Most keys of a lease.
const MAX_LEASE_KEYS: usize = 4_096;

cases! {
    "| 307 | `not_leader` |" => a_follower_sends_on_who_asks_for_it,
    "| 400 | `missing_key`, `key_too_long` |" => a_key_is_named_and_not_too_long,
    "| 400 | `bad_parameter`, `bad_body` |" => what_is_not_valid_is_refused,
    "| 400 | `too_many_ops` |" => a_transaction_has_so_many_operations,
    "| 400 | `revision_in_future` |" => the_future_is_not_known,
    "| 404 | `key_not_found`, `unknown_node`, `not_found` |" => what_is_not_there_is_not_found,
    "| 404 | `lease_not_found` |" => a_put_names_a_lease_that_is_there,
    "| 405 | `method_not_allowed` |" => methods_are_listed,
    "| 408 | `request_timeout` |" => a_body_comes_in_time,
    "| 409 | `node_conflict` |" => a_name_is_of_one_node,
    "| 409 | `refused` |" => a_name_is_one,
    "| 409 | `lease_limit` |" => a_lease_has_so_many_keys,
    "| 409 | `superseded` |" => a_client_counts_upward,
    "| 409 | `key_reused` |" => a_number_is_of_one_write,
    "| 410 | `revision_trimmed` |" => the_past_is_not_kept_for_ever,
    "| `revision_trimmed` |" => a_watch_of_what_is_not_kept_is_refused,
    "| 412 | `condition_failed` |" => a_condition_holds,
    "| 413 | `value_too_large` |" => a_value_is_not_too_large,
    "| 429 | `overloaded` |" => only_so_many_watch,
    "| 431 | `head_too_large` |" => a_head_is_not_too_large,
    "A head that is no HTTP is answered with a bare 400" => what_is_no_http_gets_a_bare_400,
}

async fn a_follower_sends_on_who_asks_for_it(at: &Place) {
    let reply = at.ask("POST", "/leases?ttl=1h&redirect=true", &[], None).await;
    match at.is_alone() {
        true => assert_eq!(reply.status, 200),
        false => drop(reply.is_problem(307, "not_leader")),
    }
}

async fn a_key_is_named_and_not_too_long(at: &Place) {
    let (longest, long) = ("k".repeat(4_096), "k".repeat(4_097));
    assert_eq!(
        at.stored(&longest, "v").await,
        at.get_json(&format!("/kv/{longest}")).await["mod_revision"]
    );
    for (target, code) in [
        ("/kv/", "missing_key"),
        ("/kv?key=", "missing_key"),
        ("/kv", "missing_key"),
        (&*format!("/kv/{long}"), "key_too_long"),
        (&*format!("/kv?prefix={long}kk"), "key_too_long"),
    ] {
        at.get(target).await.is_problem(400, code);
    }
}

async fn what_is_not_valid_is_refused(at: &Place) {
    at.get("/kv/%zz").await.is_problem(400, "bad_parameter");
    at.ask("PUT", "/kv/k", &["Idempotency-Key: none"], Some(b"v"))
        .await
        .is_problem(400, "bad_parameter");
    for (target, body) in [("/txn", "no JSON"), ("/join", "{}"), ("/leases", r#"{"ttl":30}"#)] {
        at.post(target, body).await.is_problem(400, "bad_body");
    }
}

async fn a_transaction_has_so_many_operations(at: &Place) {
    let get = json!({ "op": "get", "key": "k" });
    let txn = json!({ "success": vec![get; MAX_TXN_OPS + 1] }).to_string();
    let problem = at.post("/txn", &txn).await.is_problem(400, "too_many_ops");
    assert_eq!(problem["max_ops"], MAX_TXN_OPS);
}

async fn the_future_is_not_known(at: &Place) {
    let now = at.stored("future", "v").await;
    let target = format!("/kv/future?revision={}", now + 1_000_000);
    let problem = at.get(&target).await.is_problem(400, "revision_in_future");
    assert!(problem["revision"].as_u64() >= Some(now), "{problem}");
}

async fn what_is_not_there_is_not_found(at: &Place) {
    let problem = at.get("/kv/none").await.is_problem(404, "key_not_found");
    assert_eq!((&problem["retryable"], &problem["applied"]), (&json!(false), &json!("no")));
    at.post("/remove", r#"{"ID":"nobody"}"#).await.is_problem(404, "unknown_node");
    at.get("/nowhere").await.is_problem(404, "not_found");
}

async fn a_put_names_a_lease_that_is_there(at: &Place) {
    at.put("/kv/leaseless?lease=ff", "v").await.is_problem(404, "lease_not_found");
    let txn = r#"{"success":[{"op":"put","key":"leaseless","value":"v","lease":"ff"}]}"#;
    at.post("/txn", txn).await.is_problem(404, "lease_not_found");
    at.get("/kv/leaseless").await.is_problem(404, "key_not_found");
}

async fn methods_are_listed(at: &Place) {
    let reply = at.ask("DELETE", "/leases", &[], None).await;
    reply.is_problem(405, "method_not_allowed");
    assert_eq!(reply.header("allow"), Some("GET, HEAD, POST"));
}

/// Announces a body and keeps it back, in the name of this request.
pub async fn stall(at: &Place, id: &str) -> Reply {
    let mut client = at.connect().await;
    let headers = [&*format!("X-Request-Id: {id}"), "Content-Length: 10"];
    client.send(&request("PUT", "/kv/stalled", &headers, None)).await;
    client.reply_to("PUT").await
}

async fn a_body_comes_in_time(at: &Place) {
    let problem = stall(at, "stalled-1").await.is_problem(408, "request_timeout");
    assert_eq!((&problem["applied"], &problem["request_id"]), (&json!("no"), &json!("stalled-1")));
}

async fn a_name_is_of_one_node(at: &Place) {
    let join = json!({ "ID": "another", "RaftAddr": at.leader().raft_addr() }).to_string();
    at.post("/join", &join).await.is_problem(409, "node_conflict");
}

async fn a_name_is_one(at: &Place) {
    let join = json!({ "ID": "no/name", "RaftAddr": at.leader().raft_addr() }).to_string();
    at.post("/join", &join).await.is_problem(409, "refused");
}

async fn a_lease_has_so_many_keys(at: &Place) {
    let id = at.post("/leases?ttl=1h", "").await.json()["id"].clone();
    let put =
        |n: usize| json!({ "op": "put", "key": format!("full/{n}"), "value": "", "lease": id });
    let numbers: Vec<usize> = (0..MAX_LEASE_KEYS).collect();
    for some in numbers.chunks(MAX_TXN_OPS / 4) {
        let puts: Vec<Value> = some.iter().copied().map(put).collect();
        let reply = at.post("/txn", &json!({ "success": puts }).to_string()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let target = format!("/kv/full/more?lease={}", id.as_str().expect("an id"));
    at.put(&target, "v").await.is_problem(409, "lease_limit");
}

async fn a_client_counts_upward(at: &Place) {
    for (sequence, status) in [(2, 200), (1, 409)] {
        let key = format!("Idempotency-Key: upward:{sequence}");
        let reply = at.ask("PUT", "/kv/upward", &[&key], Some(b"v")).await;
        assert_eq!(reply.status, status);
        if status == 409 {
            assert_eq!(reply.is_problem(409, "superseded")["applied"], "unknown");
        }
    }
}

async fn a_number_is_of_one_write(at: &Place) {
    let key = ["Idempotency-Key: reused:1"];
    assert_eq!(at.ask("PUT", "/kv/reused", &key, Some(b"v")).await.status, 200);
    at.ask("DELETE", "/kv/reused", &key, None).await.is_problem(409, "key_reused");
    at.ask("POST", "/leases?ttl=1h", &key, None).await.is_problem(409, "key_reused");
    assert_eq!(at.get("/kv/reused").await.text(), "v");
}

/// More was written by then than is kept; how much that is, is applied now and then.
async fn the_past_is_not_kept_for_ever(at: &Place) {
    let reply = at.get_until(410, "/kv/get?revision=1").await;
    let problem = reply.is_problem(410, "revision_trimmed");
    assert!(problem["oldest_revision"].as_u64() > Some(1), "{problem}");
}

async fn a_watch_of_what_is_not_kept_is_refused(at: &Place) {
    let reply = at.get_until(410, "/watch?prefix=&from_revision=1").await;
    assert!(reply.is_problem(410, "revision_trimmed")["oldest_revision"].as_u64() > Some(1));
}

async fn a_condition_holds(at: &Place) {
    let now = at.stored("condition", "v").await;
    let reply = at.ask("DELETE", "/kv/condition", &["If-Match: \"1\""], None).await;
    assert_eq!(reply.is_problem(412, "condition_failed")["current_revision"], now);
    assert_eq!(reply.header("etag"), Some(&*format!("\"{now}\"")));
}

async fn a_value_is_not_too_large(at: &Place) {
    at.stored("largest", &"v".repeat(MAX_VALUE_BYTES)).await;
    let reply = at.put("/kv/larger", &"v".repeat(MAX_VALUE_BYTES + 1)).await;
    let problem = reply.is_problem(413, "value_too_large");
    assert_eq!(problem["max_bytes"], MAX_VALUE_BYTES);
    let detail = problem["detail"].as_str().expect("a text");
    assert!(detail.contains("limits.max_value_bytes"), "{detail} names the setting");
    at.get("/kv/larger").await.is_problem(404, "key_not_found");
}

async fn a_head_is_not_too_large(at: &Place) {
    let long = format!("X-Long: {}", "x".repeat(70_000));
    at.ask("GET", "/kv/k", &[&long], None).await.is_problem(431, "head_too_large");
}

async fn what_is_no_http_gets_a_bare_400(at: &Place) {
    let mut client = at.connect().await;
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.body.len()), (400, 0));
}
