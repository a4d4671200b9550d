//! Every bound, filled: sizes, permits, bytes in flight, time.

use std::time::Duration;

use conuredb::http::HttpOptions;
use serde_json::json;

use crate::wire::{Server, request};

const MIB: usize = 1024 * 1024;

#[actix_web::test]
async fn the_largest_value_is_taken_and_one_byte_more_is_refused() {
    let server = Server::start();
    let largest: Vec<u8> = (0..8 * MIB).map(|n| (n % 251) as u8).collect();
    assert_eq!(server.put("/kv/k", &largest).await.status, 200);
    assert_eq!(server.get("/kv/k").await.body, largest);
    let json = server.request("GET", "/kv/k", &["Accept: application/json"], None).await;
    assert!(json.json()["value_base64"].as_str().unwrap().len() > 8 * MIB);
    let refused = server.put("/kv/k", &vec![0; 8 * MIB + 1]).await;
    assert_eq!(refused.header("connection"), Some("close"));
    assert_eq!(refused.is_problem(413, "value_too_large")["max_bytes"], 8 * MIB);
    assert_eq!(server.get("/kv/k").await.body.len(), 8 * MIB);
}

#[actix_web::test]
async fn an_announced_body_is_refused_before_it_is_sent() {
    let server = Server::start();
    let mut client = server.connect().await;
    let head = "PUT /kv/k HTTP/1.1\r\nHost: t\r\nContent-Length: 18446744073709551615\r\n\r\n";
    client.send(head.as_bytes()).await;
    client.reply().await.is_problem(413, "value_too_large");
}

#[actix_web::test]
async fn a_client_that_waits_for_100_continue_gets_it() {
    let server = Server::start();
    let mut client = server.connect().await;
    client
        .send(&request("PUT", "/kv/k", &["Expect: 100-continue", "Content-Length: 5"], None))
        .await;
    assert_eq!(client.reply().await.status, 100);
    client.send(b"12345").await;
    assert_eq!(client.reply().await.status, 200);
    assert_eq!(server.get("/kv/k").await.text(), "12345");
}

#[actix_web::test]
async fn a_chunked_body_is_cut_at_the_cap_and_the_client_sees_why() {
    let options = HttpOptions { max_value_bytes: 64 * 1024, ..HttpOptions::default() };
    let server = Server::with(options);
    let mut client = server.connect().await;
    client.send(b"PUT /kv/k HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let chunk = [&b"8000\r\n"[..], &[b'x'; 0x8000], b"\r\n"].concat();
    for _ in 0..64 {
        client.send(&chunk).await;
    }
    let reply = client.reply().await;
    assert_eq!(reply.header("connection"), Some("close"));
    reply.is_problem(413, "value_too_large");
    assert_eq!(server.metrics.http_body_bytes.get(), 0);
    // The body never ends; the connection does.
    let cut = tokio::time::timeout(Duration::from_secs(20), client.is_closed()).await;
    assert_eq!(cut, Ok(true));
}

#[actix_web::test]
async fn a_body_that_stops_coming_is_a_408() {
    let options =
        HttpOptions { request_timeout: Duration::from_millis(200), ..HttpOptions::default() };
    let server = Server::with(options);
    let mut client = server.connect().await;
    client.send(b"PUT /kv/k HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf").await;
    client.reply().await.is_problem(408, "request_timeout");
    let mut client = server.connect().await;
    client.send(b"GET /kv/k HTTP/1.1\r\nHo").await;
    assert_eq!(client.reply().await.status, 408);
    assert!(client.is_closed().await);
}

#[actix_web::test]
async fn heads_are_bounded() {
    let server = Server::start();
    let livez = async |len_bytes| {
        let field = format!("X-Long: {}", "x".repeat(len_bytes));
        server.request("GET", "/livez", &[&field], None).await
    };
    assert_eq!(livez(60_000).await.status, 200);
    livez(70_000).await.is_problem(431, "head_too_large");
    // Beyond the parser's own limits the reply is bare.
    assert_eq!(livez(140_000).await.status, 431);
    let many: Vec<String> = (0..100).map(|n| format!("X-{n}: x")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(server.request("GET", "/livez", &many, None).await.status, 431);
    let target = format!("/kv/{}", "k".repeat(70_000));
    assert_eq!(server.get(&target).await.status, 400);
}

#[actix_web::test]
async fn writes_beyond_the_permits_are_refused_at_once_and_reads_go_on() {
    let options =
        HttpOptions { max_inflight_writes: 2, max_inflight_reads: 1, ..HttpOptions::default() };
    let server = Server::with(options);
    server.fake.gate.send_replace(false);
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    first.send(&request("PUT", "/kv/a", &[], Some(b"v"))).await;
    second.send(&request("DELETE", "/kv/b", &[], None)).await;
    server.fake.has_received(2).await;
    server.put("/kv/c", b"v").await.is_problem(429, "overloaded");
    server.call("DELETE", "/kv?prefix=c").await.is_problem(429, "overloaded");

    let mut read = server.connect().await;
    read.send(&request("GET", "/kv/a", &[], None)).await;
    server.fake.has_received(3).await;
    let problem = server.get("/kv/a").await.is_problem(429, "overloaded");
    assert_eq!((&problem["retryable"], &problem["applied"]), (&json!(true), &json!("no")));
    server.get("/kv?prefix=").await.is_problem(429, "overloaded");
    assert_eq!(server.get("/status").await.status, 200, "what asks nobody goes on");

    server.fake.gate.send_replace(true);
    assert_eq!(first.reply().await.status, 200);
    assert_eq!(second.reply().await.status, 200);
    assert_ne!(read.reply().await.status, 429);
    assert_eq!(server.put("/kv/c", b"v").await.status, 200);
    assert!(server.metrics.encode().unwrap().contains("http_rejected_total{limit=\"writes\"} 2"));
}

#[actix_web::test]
async fn a_client_that_leaves_does_not_free_its_permit_before_the_answer() {
    let options = HttpOptions { max_inflight_writes: 1, ..HttpOptions::default() };
    let server = Server::with(options);
    server.fake.gate.send_replace(false);
    let mut client = server.connect().await;
    client.send(&request("PUT", "/kv/a", &[], Some(b"v"))).await;
    server.fake.has_received(1).await;
    client.stream.get_ref().set_zero_linger().unwrap();
    drop(client);
    // The handler is dropped when the worker sees the reset.
    while server.metrics.http_in_flight.get() > 0 {
        tokio::task::yield_now().await;
    }
    server.put("/kv/b", b"v").await.is_problem(429, "overloaded");
    server.fake.gate.send_replace(true);
    while server.put("/kv/b", b"v").await.status == 429 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.get("/kv/a").await.text(), "v");
}

#[actix_web::test]
async fn a_node_that_does_not_answer_leaves_no_request_hanging() {
    let timeout = Duration::from_millis(10);
    let options =
        HttpOptions { write_timeout: timeout, barrier_timeout: timeout, ..HttpOptions::default() };
    let server = Server::with(options);
    server.fake.gate.send_replace(false);
    let (write, read) = tokio::join!(server.put("/kv/a", b"v"), server.get("/kv/a"));
    let problem = write.is_problem(504, "timeout");
    assert_eq!((&problem["applied"], &problem["retryable"]), (&json!("unknown"), &json!(false)));
    read.is_problem(503, "not_ready");
}

#[actix_web::test]
async fn connections_are_counted_while_they_are_open() {
    let server = Server::start();
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = server.connect().await;
        client.send(&request("GET", "/livez", &[], None)).await;
        assert_eq!(client.reply().await.status, 200);
        clients.push(client);
    }
    assert_eq!(server.metrics.http_connections.get(), 3);
    drop(clients);
    let closed = async {
        while server.metrics.http_connections.get() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), closed).await.expect("they are closed");
}

#[actix_web::test]
async fn bytes_of_bodies_in_flight_are_bounded() {
    let options =
        HttpOptions { max_body_bytes_in_flight: (2 * MIB) as u32, ..HttpOptions::default() };
    let server = Server::with(options);
    server.fake.gate.send_replace(false);
    let body = vec![b'x'; 3 * MIB / 2];
    let mut first = server.connect().await;
    first.send(&request("PUT", "/kv/a", &[], Some(&body))).await;
    server.fake.has_received(1).await;
    assert!(server.metrics.http_body_bytes.get() >= body.len() as i64);
    let refused = server.put("/kv/b", &body).await;
    refused.is_problem(429, "overloaded");
    server.fake.gate.send_replace(true);
    assert_eq!(first.reply().await.status, 200);
    assert_eq!(server.get("/kv/a").await.body.len(), body.len());
}

#[actix_web::test]
async fn a_page_ends_where_the_byte_budget_does_and_the_scan_gets_on() {
    let options =
        HttpOptions { max_body_bytes_in_flight: (2 * MIB) as u32, ..HttpOptions::default() };
    let server = Server::with(options);
    for n in 0..40 {
        server.put(&format!("/kv/{n:02}"), &[b'x'; MIB / 10]).await;
    }
    let mut target = "/kv?prefix=".to_owned();
    let (mut pages, mut items) = (0, 0);
    loop {
        let page = server.get(&target).await.json();
        pages += 1;
        items += page["items"].as_array().unwrap().len();
        let Some(next) = page["next"].as_str() else { break };
        target = format!("/kv?cursor={next}");
    }
    assert!(items == 40 && pages > 1, "{items} items in {pages} pages");
}

#[actix_web::test]
async fn a_stopping_server_lets_running_requests_finish() {
    let server = Server::start();
    server.fake.gate.send_replace(false);
    let mut client = server.connect().await;
    client.send(&request("PUT", "/kv/a", &[], Some(b"v"))).await;
    server.fake.has_received(1).await;
    let stopped = actix_web::rt::spawn(server.handle.stop(true));
    tokio::task::yield_now().await;
    assert!(!stopped.is_finished());
    server.fake.gate.send_replace(true);
    assert_eq!(client.reply().await.status, 200);
    assert!(client.is_closed().await);
    stopped.await.unwrap();
}
