//! The ids of requests, and what a node logs.

use conuredb::http::HttpOptions;
use serde_json::json;

use crate::wire::Server;

#[actix_web::test]
async fn every_reply_names_its_request_and_so_does_what_is_asked_of_the_node() {
    let options = HttpOptions { request_id_base: 0xabc, ..HttpOptions::default() };
    let server = Server::with(options);
    let id_of = async |method, target, header| {
        let body = (method == "PUT").then_some(&b"v"[..]);
        let reply = server.request(method, target, &[header], body).await;
        reply.header("x-request-id").expect("an id").to_owned()
    };
    assert_eq!(id_of("PUT", "/kv/k", "X-Request-Id: order-7/1").await, "order-7/1");
    assert_eq!(id_of("GET", "/livez", "X-Other: x").await, "0000000000000abc-1");
    assert_eq!(id_of("DELETE", "/kv/k", "X-Request-Id: two words").await, "0000000000000abc-2");
    let traces: Vec<Option<String>> = {
        let writes = server.fake.writes.lock().unwrap();
        writes.iter().map(|write| write.trace.as_deref().map(str::to_owned)).collect()
    };
    assert_eq!(traces, [Some("order-7/1".to_owned()), Some("0000000000000abc-2".to_owned())]);

    let join = r#"{"ID":"node2","RaftAddr":"h:1"}"#.as_bytes();
    server.request("POST", "/join", &["X-Request-Id: j"], Some(join)).await;
    assert_eq!(server.fake.joins.lock().unwrap()[0].trace.as_deref(), Some("j"));

    for (target, status) in [("/kv/none", 404), ("/nowhere", 404), ("/kv?kye=a", 400)] {
        let reply = server.request("GET", target, &["X-Request-Id: r-9"], None).await;
        assert_eq!((reply.status, reply.header("x-request-id")), (status, Some("r-9")));
        assert_eq!(reply.json()["request_id"], "r-9", "{target}");
    }
}

#[actix_web::test]
async fn what_is_logged_is_told_and_changed() {
    let server = Server::start();
    assert_eq!(server.get("/log-level").await.text(), "info\n");
    let put = async |body: &str| server.put("/log-level", body.as_bytes()).await;
    assert_eq!(put("warn,conuredb::http=debug\n").await.text(), "warn,conuredb::http=debug\n");
    put(r#"{"filter":"debug"}"#).await;
    let accept = ["Accept: application/json"];
    let told = server.request("GET", "/log-level", &accept, None).await;
    assert_eq!(told.json(), json!({ "filter": "debug" }));

    for (bad, says) in [
        ("inof", "\"inof\" is no level (at byte 0)"),
        ("info,conuredb::http=loud", "\"loud\" is no level (at byte 20)"),
        ("", "empty"),
        ("info/a/b", "second / at byte 6"),
        (r#"{"filter":7}"#, "string"),
        (r#"{"level":"info"}"#, "filter"),
        ("{", "EOF"),
    ] {
        let problem = put(bad).await.is_problem(400, "bad_body");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{bad}: {problem}");
    }
    server.put("/log-level", b"\xff").await.is_problem(400, "bad_body");
    server.put("/log-level", &vec![b'a'; 40_000]).await.is_problem(413, "value_too_large");
    assert_eq!(server.get("/log-level").await.text(), "debug\n", "a bad one changes nothing");
    server.get("/log-level?filter=info").await.is_problem(400, "bad_parameter");
}

#[actix_web::test]
async fn slow_requests_are_counted_and_none_where_that_is_turned_off() {
    for (limit_ns, slow) in [(1, 2), (0, 0)] {
        let slow_request = std::time::Duration::from_nanos(limit_ns);
        let server = Server::with(HttpOptions { slow_request, ..HttpOptions::default() });
        server.put("/kv/k", b"v").await;
        server.get("/kv/none").await;
        assert_eq!(server.metrics.http_slow_requests.get(), slow);
    }
}
