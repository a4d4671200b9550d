//! Leases: granted, kept alive, revoked, listed; and keys that name one.

use conuredb::http::HttpOptions;
use conuredb::types::{LeaseId, Lifetime, MAX_KEY_BYTES, Operation, Outcome, TxnOp};
use serde_json::{Value, json};

use crate::fake::{NOW_MS, READ_AFTER_MS};
use crate::wire::{Reply, Server};

const NOBODY: &str = "00000000000000ff";

async fn post(server: &Server, target: &str, body: &str) -> Reply {
    server.request("POST", target, &[], Some(body.as_bytes())).await
}

/// Grants a lease, whose id is the answer.
async fn grant(server: &Server) -> String {
    let granted = post(server, "/leases?ttl=30s", "").await.json();
    granted["id"].as_str().expect("an id").to_owned()
}

fn last_write(server: &Server) -> Operation {
    server.fake.writes.lock().unwrap().last().expect("a write").operation.clone()
}

#[actix_web::test]
async fn a_lease_is_granted_kept_alive_and_revoked() {
    let server = Server::start();
    let granted = post(&server, "/leases", r#"{"ttl":"1m 30s"}"#).await;
    let id = "00000000000000a0";
    let document = json!({ "id": id, "ttl_ms": 90_000, "expires_at_ms": NOW_MS + 90_000 });
    assert_eq!((granted.status, granted.json()), (200, document.clone()));
    assert_eq!(last_write(&server), Operation::LeaseGrant { ttl_ms: 90_000 });

    let kept = server.call("POST", &format!("/leases/{id}/keepalive")).await;
    assert_eq!((kept.status, kept.json()), (200, document));
    // As people type it.
    assert_eq!(server.call("POST", "/leases/A0/keepalive").await.status, 200);

    assert_eq!(server.put(&format!("/kv/a?lease={id}"), b"v").await.status, 200);
    let revoked = server.call("DELETE", &format!("/leases/{id}")).await;
    assert_eq!(revoked.json(), json!({ "deleted": 1, "revision": 2 }));
    assert_eq!(revoked.header("x-conure-deleted"), Some("1"));
    assert_eq!(revoked.header("x-conure-revision"), Some("2"));
    server.get("/kv/a").await.is_problem(404, "key_not_found");
    server.call("DELETE", &format!("/leases/{id}")).await.is_problem(404, "lease_not_found");
}

#[actix_web::test]
async fn a_retried_grant_is_the_same_lease() {
    let server = Server::start();
    let header = ["Idempotency-Key: c:1"];
    let first = server.request("POST", "/leases?ttl=5s", &header, None).await.json();
    let again = server.request("POST", "/leases?ttl=5s", &header, None).await.json();
    assert_eq!(first, again);
    assert_eq!(server.get("/leases").await.json()["items"].as_array().unwrap().len(), 1);
}

#[actix_web::test]
async fn a_key_says_with_which_lease_it_ends() {
    let server = Server::start();
    let id = grant(&server).await;
    server.put(&format!("/kv/a?lease={id}"), b"v").await;
    let lifetime = Lifetime::Lease(LeaseId::new(0xa0).unwrap());
    assert!(
        matches!(last_write(&server), Operation::Put { lifetime: sent, .. } if sent == lifetime)
    );
    let get = server.get("/kv/a").await;
    assert_eq!((get.text(), get.header("x-conure-lease")), ("v", Some(&id[..])));
    assert_eq!(get.header("x-conure-ttl"), None);
    let json = server.request("GET", "/kv/a", &["Accept: application/json"], None).await.json();
    assert_eq!((&json["lease"], &json["expires_at_ms"]), (&json!(id), &Value::Null));
    let history = server.get("/kv?key=a&history=true").await.json();
    assert_eq!(history["items"][0]["lease"], id);

    let txn = json!({ "success": [{ "op": "put", "key": "b", "value": "", "lease": id }] });
    assert_eq!(post(&server, "/txn", &txn.to_string()).await.status, 200);
    let Operation::Txn(sent) = last_write(&server) else { panic!("a transaction is one") };
    assert!(matches!(sent.branch(true), [TxnOp::Put { lifetime: sent, .. }] if *sent == lifetime));
    assert_eq!(server.get("/kv/b").await.header("x-conure-lease"), Some(&id[..]));
    server.put("/kv/a", b"v").await;
    assert_eq!(server.get("/kv/a").await.header("x-conure-lease"), None, "the last put decides");
}

#[actix_web::test]
async fn what_is_no_lease_is_refused_and_says_why() {
    let server = Server::start();
    let id = grant(&server).await;
    for (target, says) in [
        (format!("/kv/a?lease={id}&ttl=3s"), "exclude each other"),
        ("/kv/a?lease=x".to_owned(), "hexadecimal"),
        ("/kv/a?lease=".to_owned(), "hexadecimal"),
        ("/kv/a?lease=0".to_owned(), "hexadecimal"),
        ("/kv/a?lease=%ff".to_owned(), "hexadecimal"),
    ] {
        let problem = server.put(&target, b"v").await.is_problem(400, "bad_parameter");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{target}: {problem}");
    }
    server.put(&format!("/kv/a?lease={NOBODY}"), b"v").await.is_problem(404, "lease_not_found");
    let op = |more: Value| {
        let mut op = json!({ "op": "put", "key": "b", "value": "" });
        op.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "success": [op] }).to_string()
    };
    let both = op(json!({ "lease": id, "ttl": "3s" }));
    let problem = post(&server, "/txn", &both).await.is_problem(400, "bad_parameter");
    assert!(problem["detail"].as_str().unwrap().starts_with("success[0]: "), "{problem}");

    for (target, body, code) in [
        ("/leases?ttl=999ms", "", "bad_parameter"),
        ("/leases?ttl=200years", "", "bad_parameter"),
        ("/leases?ttl=30", "", "bad_parameter"),
        ("/leases?id=7", "", "bad_parameter"),
        ("/leases", "", "bad_body"),
        ("/leases", r#"{"ttl":30}"#, "bad_body"),
        ("/leases", r#"{"ttl":"30s","id":"7"}"#, "bad_body"),
        ("/leases", r#"["30s"]"#, "bad_body"),
    ] {
        post(&server, target, body).await.is_problem(400, code);
    }
    let long = "x".repeat(5_000);
    post(&server, "/leases", &long).await.is_problem(413, "value_too_large");
    for target in ["/leases/x", "/leases/", "/leases/a0/keys"] {
        server.get(target).await.is_problem(400, "bad_parameter");
    }
    for (method, target) in [
        ("GET", format!("/leases/{NOBODY}")),
        ("DELETE", format!("/leases/{NOBODY}")),
        ("POST", format!("/leases/{NOBODY}/keepalive")),
    ] {
        let problem = server.call(method, &target).await.is_problem(404, "lease_not_found");
        assert!(problem["detail"].as_str().unwrap().contains(NOBODY), "{problem}");
    }
    for (method, target, allowed) in [
        ("PUT", "/leases", "GET, HEAD, POST"),
        ("POST", "/leases/a0", "GET, HEAD, DELETE"),
        ("GET", "/leases/a0/keepalive", "POST"),
    ] {
        let reply = server.call(method, target).await;
        assert_eq!(reply.header("allow"), Some(allowed), "{method} {target}");
        reply.is_problem(405, "method_not_allowed");
    }
}

#[actix_web::test]
async fn a_bound_that_is_reached_is_a_conflict() {
    use conuredb::types::{LeaseLimit, MAX_LEASE_KEYS};
    let server = Server::start();
    let id = grant(&server).await;
    let limit = LeaseLimit::Keys(id.parse().unwrap());
    server.fake.answer_with(Outcome::LeaseLimit(limit));
    let problem =
        server.put(&format!("/kv/a?lease={id}"), b"v").await.is_problem(409, "lease_limit");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(&MAX_LEASE_KEYS.to_string()) && detail.contains(&id), "{detail}");
    assert_eq!((&problem["retryable"], &problem["applied"]), (&json!(false), &json!("no")));
    server.fake.answer_with(Outcome::LeaseLimit(LeaseLimit::Leases));
    post(&server, "/leases?ttl=5s", "").await.is_problem(409, "lease_limit");
}

#[actix_web::test]
async fn leases_and_their_keys_are_listed_in_pages() {
    let server = Server::with(HttpOptions { max_scan_results: 2, ..HttpOptions::default() });
    let none = server.get("/leases").await.json();
    assert_eq!(none, json!({ "items": [], "next": null, "revision": 0 }));
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(grant(&server).await);
    }
    let mut seen = Vec::new();
    let mut target = "/leases?limit=100".to_owned();
    loop {
        let page = server.get(&target).await;
        assert_eq!(page.header("x-conure-revision"), Some("0"));
        let page = page.json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2, "the most that this node gives");
        for item in items {
            assert_eq!(item["left_ms"], 30_000 - READ_AFTER_MS);
            assert_eq!((&item["ttl_ms"], &item["keys"]), (&json!(30_000), &json!(0)));
            assert_eq!(item["expires_at_ms"], NOW_MS + 30_000);
            seen.push(item["id"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next"].as_str() else { break };
        target = format!("/leases?cursor={next}");
    }
    assert_eq!(seen, ids);

    let id = &ids[0];
    let longest = "k".repeat(MAX_KEY_BYTES);
    for key in ["a", "%ff", "b", &longest] {
        server.put(&format!("/kv/{key}?lease={id}"), b"v").await;
    }
    let shown = server.get(&format!("/leases/{id}?stale=true")).await;
    assert_eq!(shown.header("x-conure-stale-ms"), Some("120"));
    let shown = shown.json();
    assert_eq!((&shown["id"], &shown["keys"]), (&json!(id), &json!(4)));
    assert_eq!(shown["items"], json!([{ "key": "a" }, { "key": "b" }]));
    let next = shown["next"].as_str().unwrap();
    let rest = server.get(&format!("/leases/{id}?cursor={next}")).await.json();
    assert_eq!(rest["items"], json!([{ "key": longest }, { "key_base64": "/w==" }]));
    assert_eq!(rest["next"], Value::Null);
    for cursor in ["x", "", "%ff"] {
        server.get(&format!("/leases?cursor={cursor}")).await.is_problem(400, "bad_parameter");
    }
    server.get(&format!("/leases/{id}?cursor=!")).await.is_problem(400, "bad_parameter");
}
