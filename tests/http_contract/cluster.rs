//! The cluster's documents, to the letter, and the requests that change it.

use conuredb::actors::messages::RequestError;
use conuredb::types::AskedBy;
use serde_json::json;

use crate::wire::Server;

#[actix_web::test]
async fn status_config_and_stats_have_the_shapes_of_the_contract() {
    let server = Server::start();
    assert_eq!(
        server.get("/status").await.json(),
        json!({
            "is_leader": true, "leader": "127.0.0.1:7001", "node_id": "node1", "leader_id": "node1",
            "leader_http": "http://127.0.0.1:8001", "role": "leader", "term": 3,
            "commit_index": 12, "applied_index": 11, "revision": 9,
            "cluster_id": "00000000000000000000000000000abc",
            "version": env!("CARGO_PKG_VERSION"), "db_bytes": 4096, "db_bytes_live": 2048,
            "compacting": false, "compactions": 2, "oldest_revision": 4,
        })
    );
    let server_of = |id, port: u16, suffrage| {
        let http = format!("http://127.0.0.1:{}", port + 1000);
        json!({ "id": id, "address": format!("127.0.0.1:{port}"), "suffrage": suffrage, "http_address": http })
    };
    assert_eq!(
        server.get("/raft/config").await.json(),
        json!({
            "leader": "127.0.0.1:7001",
            "servers": [
                server_of("node1", 7001, "voter"),
                server_of("node2", 7002, "voter"),
                server_of("node3", 7003, "nonvoter"),
            ],
        })
    );
    assert_eq!(
        server.get("/raft/stats").await.json(),
        json!({
            "state": "leader", "term": 3, "last_log_index": 13, "last_log_term": 3,
            "commit_index": 12, "applied_index": 11, "last_snapshot_index": 5,
            "last_snapshot_term": 2, "first_log_index": 4, "last_contact": "4ms",
            "num_peers": 2, "log_bytes": 512,
            "peers": { "node2": { "match_index": 10, "lag": 3 } },
        })
    );
    {
        let mut status = server.fake.status.lock().unwrap();
        status.leader = None;
        status.last_contact = None;
        status.role = conuredb::actors::messages::Role::Candidate;
    }
    let status = server.get("/status").await.json();
    assert_eq!((&status["leader"], &status["role"]), (&json!(""), &json!("candidate")));
    assert_eq!((&status["is_leader"], &status["leader_id"]), (&json!(false), &json!("")));
    assert_eq!(server.get("/raft/stats").await.json()["last_contact"], "never");
    assert_eq!(server.get("/raft/config").await.json()["leader"], "");
}

#[actix_web::test]
async fn probes_tell_alive_from_ready() {
    let server = Server::start();
    assert_eq!(server.get("/livez").await.text(), "OK\n");
    assert_eq!(server.get("/readyz").await.text(), "OK\n");
    assert_eq!(server.get("/readyz?verbose").await.json()["applied_index"], 11);
    assert_eq!(
        server.get("/health").await.json(),
        json!({ "status": "ok", "mode": "cluster", "member_count": 3, "node_id": "node1" })
    );
    server.fake.status.lock().unwrap().not_ready =
        vec!["no leader is known".to_owned(), "3 entries behind".to_owned()];
    let not_ready = server.get("/readyz").await.is_problem(503, "not_ready");
    assert_eq!(not_ready["reasons"], json!(["no leader is known", "3 entries behind"]));
    assert_eq!(server.get("/livez").await.status, 200);
    assert_eq!(server.get("/health").await.status, 200);
}

#[actix_web::test]
async fn metrics_count_what_was_asked() {
    let server = Server::start();
    server.put("/kv/secret-key", b"v").await;
    server.get("/kv/secret-none").await;
    let metrics = server.get("/metrics").await;
    assert_eq!(
        metrics.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let text = metrics.text();
    for line in [
        "conuredb_http_requests_total{route=\"kv\",method=\"PUT\",status=\"200\"} 1",
        "conuredb_http_requests_total{route=\"kv\",method=\"GET\",status=\"404\"} 1",
        "conuredb_http_in_flight 1",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is missing from\n{text}");
    }
    assert!(!text.contains("secret"), "no key becomes a label");
}

#[actix_web::test]
async fn join_takes_the_original_fields_and_tells_what_is_wrong_with_others() {
    let server = Server::start();
    let post = |body: &'static str| server.request("POST", "/join", &[], Some(body.as_bytes()));
    for body in [
        r#"{"ID":"node2","RaftAddr":"127.0.0.1:7002"}"#,
        r#"{"ID":"n","RaftAddr":"db-2.local:7001","HttpAddr":"http://db-2.local:8081","Suffrage":"nonvoter"}"#,
        r#"{"ID":"n","RaftAddr":"[::1]:7001","HttpAddr":"[::1]:8081","Suffrage":"voter"}"#,
        r#"{"ID":"n","RaftAddr":"h:1","AskedBy":"node"}"#,
    ] {
        let reply = post(body).await;
        assert_eq!((reply.status, reply.text()), (200, "OK\n"));
    }
    {
        let joins = server.fake.joins.lock().unwrap();
        assert_eq!(
            (joins[0].name.as_str(), joins[0].raft_addr.as_str()),
            ("node2", "127.0.0.1:7002")
        );
        assert_eq!((joins[0].voter, joins[0].http_addr.as_str()), (true, ""));
        assert_eq!(
            (joins[1].voter, joins[1].http_addr.as_str()),
            (false, "http://db-2.local:8081")
        );
        assert_eq!(joins[2].http_addr, "http://[::1]:8081");
        assert_eq!([2, 3].map(|n: usize| joins[n].asked_by), [AskedBy::Operator, AskedBy::Node]);
    }
    for (body, hint) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("[]", "\"ID\""),
        ("null", "\"ID\""),
        (r#"{"ID":"n"}"#, "RaftAddr"),
        (r#"{"ID":"n","RaftAddr":"h:1","Extra":1}"#, "Extra"),
        (r#"{"ID":"n","RaftAddr":"h:1","HTTPAddr":"h:2"}"#, "HttpAddr"),
        (r#"{"ID":"n","ID":"m","RaftAddr":"h:1"}"#, "duplicate"),
        (r#"{"ID":"n","RaftAddr":"h:1"} x"#, "trailing"),
        (r#"{"ID":7,"RaftAddr":"h:1"}"#, "string"),
        (r#"{"ID":"","RaftAddr":"h:1"}"#, "ID takes"),
        (r#"{"ID":"n","RaftAddr":"h"}"#, "host:port"),
        (r#"{"ID":"n","RaftAddr":"h:1","HttpAddr":"ftp://h:1"}"#, "HttpAddr"),
        (r#"{"ID":"n","RaftAddr":"h:1","Suffrage":"king"}"#, "nonvoter"),
        (r#"{"ID":"n","RaftAddr":"h:1","AskedBy":"me"}"#, "operator"),
    ] {
        let problem = post(body).await.is_problem(400, "bad_body");
        assert!(problem["detail"].as_str().unwrap().contains(hint), "{body}: {problem}");
    }
    let binary = server.request("POST", "/join", &[], Some(b"\xff\xfe\x00")).await;
    binary.is_problem(400, "bad_body");
    let deep = "[".repeat(60_000);
    server.request("POST", "/join", &[], Some(deep.as_bytes())).await.is_problem(400, "bad_body");
    let long = vec![b' '; 65_537];
    server.request("POST", "/join", &[], Some(&long)).await.is_problem(413, "value_too_large");
    let query = server.request("POST", "/join?ID=n", &[], Some(b"{}")).await;
    query.is_problem(400, "bad_parameter");
    assert_eq!(server.fake.joins.lock().unwrap().len(), 4);
}

#[actix_web::test]
async fn remove_and_transfer_name_a_member() {
    let server = Server::start();
    let post = |target: &'static str, body: &'static str| {
        server.request("POST", target, &[], Some(body.as_bytes()))
    };
    for target in ["/remove", "/transfer"] {
        let reply = post(target, r#"{"ID":"node2"}"#).await;
        assert_eq!((reply.status, reply.text()), (200, "OK\n"));
        post(target, r#"{"ID":""}"#).await.is_problem(400, "bad_body");
        post(target, r#"{"id":"node2"}"#).await.is_problem(400, "bad_body");
    }
    let unknown = post("/remove", r#"{"ID":"node9"}"#).await.is_problem(404, "unknown_node");
    assert!(unknown["detail"].as_str().unwrap().contains("node1, node2"));
    server.fake.fail_with(RequestError::NodeConflict { detail: "node2 holds data".to_owned() });
    let join = post("/join", r#"{"ID":"node2","RaftAddr":"h:1"}"#).await;
    join.is_problem(409, "node_conflict");
}

#[actix_web::test]
async fn a_compaction_is_begun_on_the_node_that_is_asked_and_seen_in_its_status() {
    let server = Server::start();
    let sizes = json!({ "db_bytes": 4096, "db_bytes_live": 2048, "db_bytes_free": 1024 });
    for begun in [true, false] {
        let reply = server.call("POST", "/compact").await;
        let mut expected = sizes.clone();
        expected["begun"] = begun.into();
        expected["node_id"] = "node1".into();
        assert_eq!((reply.status, reply.json()), (202, expected));
    }
    assert_eq!(server.get("/status").await.json()["compacting"], true);
    server.get("/compact").await.is_problem(405, "method_not_allowed");
    server.call("POST", "/compact?all=true").await.is_problem(400, "bad_parameter");
    server.fake.fail_with(RequestError::NotReady { reason: "this node is closing".into() });
    server.call("POST", "/compact").await.is_problem(503, "not_ready");
}
