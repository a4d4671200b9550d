//! One key: its values, what can be asked of a read, and under which conditions it is written.

use serde_json::json;

use crate::cases;
use crate::harness::until;
use crate::place::{Place, revision};

cases! {
    "| `PUT /kv/K` with a body" => a_value_is_stored_by_either_spelling,
    "| `GET /kv/K` |" => a_value_comes_back_as_it_was,
    "| `HEAD /kv/K` |" => a_head_is_a_get_without_its_body,
    "| `DELETE /kv/K` |" => a_delete_says_whether_there_was_a_key,
    "Bytes are percent-decoded once and never normalized" => keys_are_bytes,
    "Unknown and repeated parameters are refused with 400" => parameters_are_strict,
    "With `Accept: application/json` the answers carry more" => answers_as_json_carry_more,
    "| `stale=true` |" => a_stale_read_says_how_stale,
    "| `max_stale=500ms` |" => a_stale_read_is_bounded,
    "| `consistency=lease` |" => reads_by_lease_need_a_bound_of_the_clocks,
    "| `redirect=true` |" => a_redirect_is_asked_for,
    "| `If-Match: \"7\"` |" => only_if_this_revision_wrote_last,
    "| `If-Match: *` |" => only_if_there_is_a_key,
    "| `If-None-Match: *` |" => only_if_there_is_no_key,
    "| `If-None-Match: \"7\"` |" => what_a_client_knows_is_not_sent,
    "`Idempotency-Key: <client>:<sequence>` on PUT, DELETE, POST /txn and POST /leases" => a_retried_write_takes_effect_once,
}

async fn a_value_is_stored_by_either_spelling(at: &Place) {
    let by_body = at.put("/kv/put/a", "one").await;
    assert_eq!((by_body.status, by_body.text()), (200, "OK\n"));
    let tag = format!("\"{}\"", revision(&by_body));
    assert_eq!(by_body.header("etag"), Some(&*tag));
    let by_query = at.ask("PUT", "/kv?key=put/b&value=two", &[], None).await;
    assert_eq!((by_query.status, revision(&by_query)), (200, revision(&by_body) + 1));
    at.put("/kv?key=put/c&value=query", "body").await;
    assert_eq!(at.get("/kv/put/c").await.text(), "body", "a body wins");
    at.put("/kv/put/d", "").await;
    assert_eq!(at.get("/kv/put/d").await.text(), "", "an empty value is one");
    at.ask("PUT", "/kv/put/e", &[], None).await.is_problem(400, "bad_body");
}

async fn a_value_comes_back_as_it_was(at: &Place) {
    let bytes: Vec<u8> = (0..=255).collect();
    let put = at.ask("PUT", "/kv/get", &[], Some(&bytes)).await;
    let later = at.stored("get/other", "v").await;
    let get = at.get("/kv?key=get").await;
    assert_eq!((get.status, &get.body), (200, &bytes));
    assert_eq!(get.header("content-type"), Some("application/octet-stream"));
    assert_eq!(get.header("etag"), put.header("etag"));
    assert!(revision(&get) >= later, "that of the store");
    at.get("/kv/get/none").await.is_problem(404, "key_not_found");
}

async fn a_head_is_a_get_without_its_body(at: &Place) {
    at.stored("head", "four").await;
    let (get, head) = (at.get("/kv/head").await, at.ask("HEAD", "/kv/head", &[], None).await);
    assert_eq!((head.status, head.body.len()), (200, 0));
    for name in ["etag", "content-length", "content-type"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
}

async fn a_delete_says_whether_there_was_a_key(at: &Place) {
    at.stored("delete", "v").await;
    for deleted in ["1", "0"] {
        let reply = at.delete("/kv/delete").await;
        assert_eq!((reply.status, reply.text()), (200, "OK\n"));
        assert_eq!(reply.header("x-conure-deleted"), Some(deleted));
    }
    at.get("/kv/delete").await.is_problem(404, "key_not_found");
}

async fn keys_are_bytes(at: &Place) {
    for (path, query) in [
        ("bytes/../x", "bytes/../x"),
        ("bytes//%2Fy", "bytes%2F%2f/y"),
        ("bytes/%00%FF", "bytes/%00%ff"),
        ("bytes/a+b", "bytes/a%2Bb"),
        ("bytes/a%20b%23", "bytes/a%20b%23"),
    ] {
        at.stored(path, path).await;
        assert_eq!(at.get(&format!("/kv?key={query}")).await.text(), path);
    }
    at.get("/kv/bytes/a%20%2Bb").await.is_problem(404, "key_not_found");
}

async fn parameters_are_strict(at: &Place) {
    at.stored("strict", "v").await;
    for target in ["/kv/strict?stale=ture", "/kv/strict?sale=true", "/kv?key=strict&key=strict"] {
        at.get(target).await.is_problem(400, "bad_parameter");
    }
    for on in ["stale", "stale=true", "stale=1"] {
        let reply = at.get_until(200, &format!("/kv/strict?{on}")).await;
        assert!(reply.header("x-conure-stale-ms").is_some(), "{on}");
    }
    for off in ["stale=false", "stale=0"] {
        let reply = at.get(&format!("/kv/strict?{off}")).await;
        assert_eq!(reply.header("x-conure-stale-ms"), None, "{off}");
    }
}

async fn answers_as_json_carry_more(at: &Place) {
    let accept = ["Accept: application/json"];
    let put = at.ask("PUT", "/kv/json", &accept, Some(b"v1")).await;
    let first = revision(&put);
    let written = json!({ "create_revision": first, "revision": first, "version": 1 });
    assert_eq!(put.json(), written);
    let second = at.stored("json", "v2").await;
    let record = json!({
        "key": "json", "value": "v2", "mod_revision": second, "create_revision": first, "version": 2
    });
    assert_eq!(at.get_json("/kv/json").await, record);
    at.ask("PUT", "/kv/json%ff", &[], Some(b"\xff")).await;
    let record = at.get_json("/kv/json%ff").await;
    assert_eq!(
        (&record["key_base64"], &record["value_base64"]),
        (&json!("anNvbv8="), &json!("/w=="))
    );
    let deleted = at.ask("DELETE", "/kv/json", &accept, None).await.json();
    assert_eq!(deleted["deleted"], 1);
}

async fn a_stale_read_says_how_stale(at: &Place) {
    at.stored("stale", "v").await;
    let reply = at.get_until(200, "/kv/stale?stale=true").await;
    assert_eq!(reply.text(), "v");
    let age_ms = reply.header("x-conure-stale-ms").expect("an age").parse::<u64>();
    assert!(age_ms.is_ok(), "{reply:?}");
}

async fn a_stale_read_is_bounded(at: &Place) {
    at.stored("bounded", "v").await;
    let reply = at.get_until(200, "/kv/bounded?stale=true&max_stale=1h").await;
    assert_eq!(reply.text(), "v");
    let unbounded = at.get("/kv/bounded?max_stale=1h").await;
    unbounded.is_problem(400, "bad_parameter");
}

async fn reads_by_lease_need_a_bound_of_the_clocks(at: &Place) {
    at.stored("ordered", "v").await;
    assert_eq!(at.get("/kv/ordered?consistency=linearizable").await.text(), "v");
    at.get("/kv/ordered?consistency=lease").await.is_problem(400, "bad_parameter");
}

async fn a_redirect_is_asked_for(at: &Place) {
    at.stored("redirect", "v").await;
    for (method, target) in [
        ("GET", "/kv/redirect?redirect=true"),
        ("PUT", "/kv/redirect?redirect&value=w"),
        ("DELETE", "/kv?key=redirect/none&redirect=1"),
        ("GET", "/kv?prefix=redirect&redirect=true"),
    ] {
        let reply = at.ask(method, target, &[], None).await;
        if at.is_alone() {
            assert_eq!(reply.status, 200, "{method} {target}: the leader does it itself");
            continue;
        }
        let problem = reply.is_problem(307, "not_leader");
        let there = format!("{}{target}", at.leader().url());
        assert_eq!(reply.header("location"), Some(&*there));
        assert_eq!(problem["leader_http"], at.leader().url());
        assert_eq!(problem["leader"], at.leader().raft_addr());
    }
}

async fn only_if_this_revision_wrote_last(at: &Place) {
    let first = at.stored("match", "v1").await;
    let (right, wrong) = (format!("If-Match: \"{first}\""), "If-Match: \"1\"");
    assert_eq!(at.ask("GET", "/kv/match", &[&right], None).await.status, 200);
    at.ask("GET", "/kv/match", &[wrong], None).await.is_problem(412, "condition_failed");
    let refused = at.ask("PUT", "/kv/match", &[wrong], Some(b"v2")).await;
    let problem = refused.is_problem(412, "condition_failed");
    assert_eq!((&problem["current_revision"], &problem["applied"]), (&json!(first), &json!("no")));
    assert_eq!(at.ask("PUT", "/kv/match", &[&right], Some(b"v2")).await.status, 200);
    at.ask("DELETE", "/kv/match", &[&right], None).await.is_problem(412, "condition_failed");
    assert_eq!(at.get("/kv/match").await.text(), "v2");
}

async fn only_if_there_is_a_key(at: &Place) {
    let any = ["If-Match: *"];
    for (method, body) in [("PUT", Some(&b"v"[..])), ("DELETE", None), ("GET", None)] {
        at.ask(method, "/kv/present", &any, body).await.is_problem(412, "condition_failed");
    }
    at.stored("present", "v").await;
    for (method, body) in [("GET", None), ("PUT", Some(&b"v"[..])), ("DELETE", None)] {
        assert_eq!(at.ask(method, "/kv/present", &any, body).await.status, 200, "{method}");
    }
}

async fn only_if_there_is_no_key(at: &Place) {
    let none = ["If-None-Match: *"];
    assert_eq!(at.ask("PUT", "/kv/absent", &none, Some(b"v1")).await.status, 200);
    at.ask("PUT", "/kv/absent", &none, Some(b"v2")).await.is_problem(412, "condition_failed");
    at.ask("DELETE", "/kv/absent", &none, None).await.is_problem(412, "condition_failed");
    assert_eq!(at.ask("GET", "/kv/absent", &none, None).await.status, 304);
}

async fn what_a_client_knows_is_not_sent(at: &Place) {
    let first = at.stored("known", "v").await;
    let known = format!("If-None-Match: \"{first}\"");
    let reply = at.ask("GET", "/kv/known", &[&known], None).await;
    assert_eq!((reply.status, reply.body.len()), (304, 0));
    at.ask("PUT", "/kv/known", &[&known], Some(b"v")).await.is_problem(400, "bad_parameter");
    at.stored("known", "w").await;
    assert_eq!(at.ask("GET", "/kv/known", &[&known], None).await.text(), "w");
}

async fn a_retried_write_takes_effect_once(at: &Place) {
    let key = ["Idempotency-Key: api-put:1", "Accept: application/json"];
    let first = at.ask("PUT", "/kv/retried", &key, Some(b"v")).await.json();
    at.stored("retried", "w").await;
    assert_eq!(at.ask("PUT", "/kv/retried", &key, Some(b"v")).await.json(), first);
    assert_eq!(at.get("/kv/retried").await.text(), "w");
    let key = ["Idempotency-Key: api-delete:1"];
    for _ in 0..2 {
        let deleted = at.ask("DELETE", "/kv/retried", &key, None).await;
        assert_eq!(deleted.header("x-conure-deleted"), Some("1"));
    }
    let txn = br#"{"success":[{"op":"put","key":"retried","value":"t"}]}"#;
    let key = ["Idempotency-Key: api-txn:1"];
    let first = at.ask("POST", "/txn", &key, Some(txn)).await.json();
    assert_eq!(at.ask("POST", "/txn", &key, Some(txn)).await.json(), first);
    let key = ["Idempotency-Key: api-lease:1"];
    let first = at.ask("POST", "/leases?ttl=1h", &key, None).await.json();
    assert_eq!(at.ask("POST", "/leases?ttl=1h", &key, None).await.json(), first);
    // The other nodes know of it, too, when they have applied it.
    until("the key to be there", async || {
        let reply = at.get("/kv/retried?stale=true").await;
        (reply.status == 200 && reply.text() == "t").then_some(())
    })
    .await;
}
