//! Every refusal, as clients see it.

use conuredb::actors::messages::RequestError;
use conuredb::http::{FollowerMode, HttpOptions};
use serde_json::json;

use crate::wire::{Server, request};

fn text(text: &str) -> String {
    text.to_owned()
}

#[actix_web::test]
async fn every_error_of_the_node_has_its_status_and_code() {
    // Some of these no node says to some of these requests.
    let server = Server::unchecked();
    for (error, status, code, retryable, applied) in [
        (RequestError::NoLeader { reason: text("r") }, 503, "no_leader", true, "no"),
        (RequestError::NotReady { reason: text("r") }, 503, "not_ready", true, "no"),
        (RequestError::TimedOut { waiting_for: text("r") }, 504, "timeout", true, "no"),
        (RequestError::OutcomeUnknown { reason: text("r") }, 504, "timeout", false, "unknown"),
        (RequestError::TooStale { age_ms: 900, max_ms: 500 }, 503, "too_stale", true, "no"),
        (RequestError::StorageFull { detail: text("r") }, 507, "storage_full", true, "no"),
        (RequestError::NodeConflict { detail: text("r") }, 409, "node_conflict", false, "no"),
        (RequestError::Refused { detail: text("r") }, 409, "refused", false, "no"),
        (RequestError::Storage { detail: text("r") }, 500, "storage_failed", false, "no"),
        (
            RequestError::UnknownNode { name: text("n"), members: text("m") },
            404,
            "unknown_node",
            false,
            "no",
        ),
    ] {
        server.fake.fail_with(error.clone());
        for method in ["PUT", "DELETE", "GET"] {
            let body = (method == "PUT").then_some(&b"v"[..]);
            let problem = server.request(method, "/kv/k", &[], body).await.is_problem(status, code);
            assert_eq!(problem["detail"], error.to_string());
            assert_eq!(
                (&problem["retryable"], &problem["applied"]),
                (&json!(retryable), &json!(applied))
            );
        }
        server.get("/kv?prefix=k").await.is_problem(status, code);
        let join = r#"{"ID":"n","RaftAddr":"h:1"}"#.as_bytes();
        server.request("POST", "/join", &[], Some(join)).await.is_problem(status, code);
    }
}

#[actix_web::test]
async fn an_unknown_outcome_may_be_retried_with_an_idempotency_key() {
    let server = Server::start();
    server.fake.fail_with(RequestError::OutcomeUnknown { reason: text("the leader changed") });
    let header = ["Idempotency-Key: c:1"];
    let problem =
        server.request("PUT", "/kv/k", &header, Some(b"v")).await.is_problem(504, "timeout");
    assert_eq!((&problem["retryable"], &problem["applied"]), (&json!(true), &json!("unknown")));
}

#[actix_web::test]
async fn a_redirect_leads_to_the_same_target_on_the_leader() {
    let server = Server::start();
    let forwards = |server: &Server| server.fake.writes.lock().unwrap().last().unwrap().forward;
    server.put("/kv/k", b"v").await;
    assert!(forwards(&server));
    server.fake.fail_with(RequestError::NotLeader {
        leader_name: text("node2"),
        leader_raft: text("10.0.0.2:7001"),
        leader_http: text("http://10.0.0.2:8081"),
    });
    for (method, target) in [
        ("PUT", "/kv/a%2f../b?value=x%20y&redirect=true"),
        ("DELETE", "/kv?prefix=%ff&redirect=1"),
        ("GET", "/kv?key=k&redirect=true"),
        ("GET", "/kv?prefix=&redirect=true"),
    ] {
        let reply = server.call(method, target).await;
        let location = format!("http://10.0.0.2:8081{target}");
        assert_eq!(reply.header("location"), Some(location.as_str()));
        let problem = reply.is_problem(307, "not_leader");
        assert_eq!(
            (&problem["leader"], &problem["applied"]),
            (&json!("10.0.0.2:7001"), &json!("no"))
        );
        assert_eq!(problem["leader_http"], "http://10.0.0.2:8081");
    }
    assert!(!forwards(&server));
    assert!(!server.fake.reads.lock().unwrap().last().unwrap().forward);

    let options = HttpOptions { follower_mode: FollowerMode::Redirect, ..HttpOptions::default() };
    let server = Server::with(options);
    server.fake.fail_with(RequestError::NotLeader {
        leader_name: text("node2"),
        leader_raft: text("10.0.0.2:7001"),
        leader_http: String::new(),
    });
    // Without an address there is nowhere to lead to.
    let problem = server.put("/kv/k", b"v").await.is_problem(503, "no_leader");
    assert_eq!(problem["leader"], "10.0.0.2:7001");
    assert!(!forwards(&server));
}

#[actix_web::test]
async fn unknown_paths_and_methods_are_told_apart() {
    let server = Server::start();
    for path in
        ["/", "/kvx", "/status/", "/unknown", "/watch/", "/openapi", "/backup/", "//kv", "*"]
    {
        server.get(path).await.is_problem(404, "not_found");
    }
    for (method, path, allow) in [
        ("POST", "/kv/k", "GET, HEAD, PUT, DELETE"),
        ("PATCH", "/kv?key=k", "GET, HEAD, PUT, DELETE"),
        ("OPTIONS", "/kv", "GET, HEAD, PUT, DELETE"),
        ("BREW", "/kv/k", "GET, HEAD, PUT, DELETE"),
        ("GET", "/join", "POST"),
        ("PUT", "/remove", "POST"),
        ("DELETE", "/status", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
    ] {
        let reply = server.call(method, path).await;
        assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
        reply.is_problem(405, "method_not_allowed");
    }
}

#[actix_web::test]
async fn parameters_are_refused_by_name() {
    let server = Server::start();
    for (method, target, name) in [
        ("GET", "/kv?kye=a", "kye"),
        ("GET", "/kv?key=a&key=b", "key"),
        ("GET", "/kv/a?key=b", "key"),
        ("GET", "/kv/a?vlaue=b", "vlaue"),
        ("PUT", "/kv/a?value=b&ttl=30", "ttl"),
        ("PUT", "/kv/a?value=b&ttl=0s", "ttl"),
        ("PUT", "/kv/a?value=b&ttl=101years", "ttl"),
        ("GET", "/kv/a?ttl=30s", "ttl"),
        ("GET", "/kv/a?revision=x", "revision"),
        ("PUT", "/kv/a?value=b&revision=3", "revision"),
        ("GET", "/kv/a?value=b", "value"),
        ("GET", "/kv?key=%zz", "key"),
        ("DELETE", "/kv?key=a&stale=true", "stale"),
        ("GET", "/readyz?verbos", "verbos"),
    ] {
        let problem = server.call(method, target).await.is_problem(400, "bad_parameter");
        assert!(problem["detail"].as_str().unwrap().starts_with(&format!("{name}: ")), "{problem}");
    }
    for target in ["/kv/%", "/kv/a%2"] {
        server.get(target).await.is_problem(400, "bad_parameter");
    }
    for target in ["/kv/", "/kv?key=", "/kv?key", "/kv"] {
        for method in ["GET", "PUT", "DELETE"] {
            server.call(method, target).await.is_problem(400, "missing_key");
        }
    }
    assert!(server.fake.writes.lock().unwrap().is_empty(), "nothing was proposed");
}

#[actix_web::test]
async fn a_connection_goes_on_after_an_error_and_answers_in_order() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.send(&request("GET", "/kv/none", &[], None)).await;
    client.reply().await.is_problem(404, "key_not_found");
    client.send(&request("PUT", "/kv?kye=a", &[], Some(b"a body that is not wanted"))).await;
    client.reply().await.is_problem(400, "bad_parameter");
    let mut pipeline = Vec::new();
    for n in 0..20 {
        pipeline.extend(request("PUT", &format!("/kv/{n}"), &[], Some(format!("{n}").as_bytes())));
        pipeline.extend(request("GET", &format!("/kv/{n}"), &[], None));
    }
    client.send(&pipeline).await;
    for n in 0..20 {
        assert_eq!(client.reply().await.status, 200);
        assert_eq!(client.reply().await.text(), n.to_string());
    }
}

#[actix_web::test]
async fn bytes_that_are_no_http_are_answered_and_cut() {
    let server = Server::start();
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET /kv/k\r\n\r\n",
        b"GET /kv/\xff HTTP/1.1\r\nHost: t\r\n\r\n",
        b"GET /kv/k HTTP/1.1\r\n\r\n",
        b"PUT /kv/k HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n",
        b"PUT /kv/k HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"PUT /kv/k HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let mut client = server.connect().await;
        client.send(garbage).await;
        assert_eq!(client.reply().await.status, 400, "{}", garbage.escape_ascii());
        assert!(client.is_closed().await);
    }
    let mut client = server.connect().await;
    client.send(b"PUT /kv/k HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").await;
    client.reply().await.is_problem(400, "bad_body");
    assert!(server.fake.writes.lock().unwrap().is_empty());
}
