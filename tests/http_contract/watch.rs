//! `GET /watch`: what is asked for, how events are spelt on the wire, how a stream ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use conuredb::actors::messages::{Batch, ChangeKind, Event, RequestError, Watch};
use conuredb::http::HttpOptions;
use conuredb::types::{End, Key, KeyRange, Record, Revision};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use crate::fake::Feeder;
use crate::wire::{Client, Server, request};

const PATIENCE: Duration = Duration::from_secs(60);

fn record(revision: Revision, value: &[u8]) -> Record {
    Record {
        create_revision: 1,
        mod_revision: revision,
        version: 2,
        end: End::Never,
        value: Bytes::copy_from_slice(value),
    }
}

fn event(revision: Revision, key: &[u8], value: Option<&[u8]>, before: Option<&[u8]>) -> Event {
    let key = Key::new(key.to_vec()).unwrap();
    let kind = if value.is_some() { ChangeKind::Put } else { ChangeKind::Delete };
    let record_of = |value: &[u8]| record(revision, value);
    Event::new(revision, kind, key, value.map(record_of), before.map(|value| record(1, value)))
}

fn batch(events: Vec<Event>, through: Revision, with_previous: bool) -> Arc<Batch> {
    Arc::new(Batch::new(events.into_iter().map(Arc::new).collect(), through, with_previous, false))
}

impl Server {
    /// Opens a stream, and takes its head and its first block.
    async fn watch(&self, target: &str, headers: &[&str]) -> (Client, Vec<String>) {
        let mut client = self.connect().await;
        client.send(&request("GET", target, headers, None)).await;
        let head = client.reply().await;
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        assert_eq!(head.header("cache-control"), Some("no-cache"));
        assert_eq!(head.header("x-conure-served-by"), Some("node1"));
        let first = client.block().await.expect("a first block");
        (client, first)
    }

    fn last_watch(&self) -> (Watch, Feeder) {
        self.fake.watches.lock().unwrap().last().expect("a watch").clone()
    }
}

fn data(block: &[String]) -> Value {
    let line = block.iter().find_map(|line| line.strip_prefix("data: "));
    serde_json::from_str(line.expect("data")).expect("JSON")
}

#[actix_web::test]
async fn events_are_streamed_with_ids_where_a_watch_can_be_resumed() {
    let server = Server::start();
    server.put("/kv/a", b"1").await;
    let (mut client, first) = server.watch("/watch?prefix=a", &[]).await;
    assert_eq!(first, ["retry: 1000", "id: 1"]);
    let (_, feeder) = server.last_watch();
    let events = vec![
        event(2, b"a", Some(b"two\nlines"), None),
        event(3, b"a\xff", Some(b"\x00\xff"), None),
        event(3, b"ab", None, None),
    ];
    feeder.send(Ok(batch(events, 3, false))).unwrap();
    let block = client.block().await.unwrap();
    assert_eq!((&block[0][..], &block[2][..]), ("event: put", "id: 2"));
    assert_eq!(
        data(&block),
        json!({ "key": "a", "value": "two\nlines", "mod_revision": 2, "create_revision": 1, "version": 2 })
    );
    let block = client.block().await.unwrap();
    assert_eq!(block.len(), 2, "revision 3 is not whole yet: {block:?}");
    assert_eq!(
        (&data(&block)["key_base64"], &data(&block)["value_base64"]),
        (&json!("Yf8="), &json!("AP8="))
    );
    let block = client.block().await.unwrap();
    assert_eq!((&block[0][..], &block[2][..]), ("event: delete", "id: 3"));
    assert_eq!(data(&block), json!({ "key": "ab", "mod_revision": 3 }));

    feeder.send(Ok(batch(Vec::new(), 9, false))).unwrap();
    assert_eq!(client.block().await.unwrap(), [": heartbeat", "id: 9"]);
    // The second half of a revision comes later.
    feeder.send(Ok(batch(vec![event(10, b"a", Some(b""), None)], 9, false))).unwrap();
    assert_eq!(client.block().await.unwrap().len(), 2);
    feeder.send(Ok(batch(vec![event(10, b"b", Some(b""), None)], 10, false))).unwrap();
    assert_eq!(client.block().await.unwrap()[2], "id: 10");
}

#[actix_web::test]
async fn a_client_that_closes_its_side_has_left() {
    let server = Server::start();
    let (mut client, _) = server.watch("/watch?prefix=a", &[]).await;
    let (_, feeder) = server.last_watch();
    client.stream.shutdown().await.unwrap();
    timeout(PATIENCE, feeder.closed()).await.expect("its place is free before anything is sent");
    assert!(client.is_closed().await);
}

#[actix_web::test]
async fn the_value_before_comes_when_asked_for() {
    let server = Server::start();
    let (mut client, _) = server.watch("/watch?key=a&prev=true", &[]).await;
    let (watch, feeder) = server.last_watch();
    assert!(watch.previous);
    let events = vec![event(2, b"a", Some(b"new"), Some(b"old")), event(3, b"a", Some(b"x"), None)];
    feeder.send(Ok(batch(events, 3, true))).unwrap();
    let told = data(&client.block().await.unwrap());
    let old = json!({ "value": "old", "mod_revision": 1, "create_revision": 1, "version": 2 });
    assert_eq!((&told["value"], &told["previous"]), (&json!("new"), &old));
    assert_eq!(data(&client.block().await.unwrap())["previous"], Value::Null);
}

#[actix_web::test]
async fn what_is_asked_for_reaches_the_node() {
    let server = Server::start();
    let range = |start: &[u8], end: &[u8]| KeyRange {
        start: Bytes::copy_from_slice(start),
        end: Some(Bytes::copy_from_slice(end)),
    };
    let cases: [(&str, &[&str], KeyRange, Option<Revision>); 8] = [
        ("/watch?key=a%00b", &[], range(b"a\0b", b"a\0b\0"), None),
        ("/watch?prefix=a", &[], range(b"a", b"b"), None),
        ("/watch?prefix=", &[], KeyRange::default(), None),
        ("/watch?start=b&end=d&from_revision=7", &[], range(b"b", b"d"), Some(7)),
        ("/watch?prefix=a&start=ab", &[], range(b"ab", b"b"), None),
        ("/watch?prefix=a", &["Last-Event-ID: 41"], range(b"a", b"b"), Some(42)),
        // A browser that connects again repeats the URL.
        ("/watch?prefix=a&from_revision=7", &["Last-Event-ID: 41"], range(b"a", b"b"), Some(42)),
        ("/watch?prefix=a", &["Last-Event-ID:"], range(b"a", b"b"), None),
    ];
    for (target, headers, expected, from) in cases {
        let (_client, first) = server.watch(target, headers).await;
        let (watch, _) = server.last_watch();
        assert_eq!((watch.range, watch.from, watch.previous), (expected, from, false), "{target}");
        assert_eq!(first[1], format!("id: {}", from.map_or(0, |from| from - 1)));
    }
}

#[actix_web::test]
async fn what_makes_no_watch_is_refused_before_the_stream() {
    let server = Server::start();
    for (target, code) in [
        ("/watch", "missing_key"),
        ("/watch?key=", "missing_key"),
        ("/watch?key=a&prefix=b", "bad_parameter"),
        ("/watch?start=b&end=a", "bad_parameter"),
        ("/watch?key=a&from_revision=0", "bad_parameter"),
        ("/watch?key=a&from_revision=x", "bad_parameter"),
        ("/watch?key=a&prev=maybe", "bad_parameter"),
        ("/watch?key=a&stale=true", "bad_parameter"),
    ] {
        server.get(target).await.is_problem(400, code);
    }
    for last in ["x", "-1", "18446744073709551615"] {
        let header = format!("Last-Event-ID: {last}");
        let reply = server.request("GET", "/watch?key=a", &[&header], None).await;
        reply.is_problem(400, "bad_parameter");
    }
    let refused = server.call("POST", "/watch?key=a").await;
    refused.is_problem(405, "method_not_allowed");
    server.fake.fail_with(RequestError::RevisionTrimmed { oldest: 8, revision: 12 });
    let problem =
        server.get("/watch?key=a&from_revision=3").await.is_problem(410, "revision_trimmed");
    assert_eq!((&problem["oldest_revision"], &problem["revision"]), (&json!(8), &json!(12)));
    let head = server.call("HEAD", "/watch?key=a").await;
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(server.fake.watches.lock().unwrap().len(), 0);
}

#[actix_web::test]
async fn a_stream_that_cannot_go_on_says_why_and_where_to_resume() {
    let server = Server::start();
    for (reason, code, retryable) in [
        (RequestError::SlowWatcher, "slow_watcher", true),
        (RequestError::NotReady { reason: "closing".into() }, "not_ready", true),
        (RequestError::RevisionTrimmed { oldest: 90, revision: 99 }, "revision_trimmed", false),
        (RequestError::Storage { detail: "page 7".into() }, "storage_failed", false),
    ] {
        let (mut client, _) = server.watch("/watch?prefix=", &[]).await;
        let (_, feeder) = server.last_watch();
        feeder.send(Ok(batch(vec![event(5, b"a", Some(b"1"), None)], 5, false))).unwrap();
        feeder.send(Err(reason)).unwrap();
        assert_eq!(client.block().await.unwrap()[2], "id: 5");
        let block = client.block().await.unwrap();
        assert_eq!(block[0], "event: error");
        let problem = data(&block);
        assert_eq!((&problem["code"], &problem["retryable"]), (&json!(code), &json!(retryable)));
        assert_eq!(problem["resume_from"], 6);
        assert_eq!(client.block().await, None, "the stream ends");
    }
}

#[actix_web::test]
async fn watches_beyond_the_limit_are_refused_and_take_no_place_of_reads() {
    let options = HttpOptions { max_watchers: 2, max_inflight_reads: 1, ..HttpOptions::default() };
    let server = Server::with(options);
    let first = server.watch("/watch?prefix=", &[]).await;
    let _second = server.watch("/watch?prefix=", &[]).await;
    server.get("/watch?prefix=").await.is_problem(429, "overloaded");
    assert_eq!(server.put("/kv/a", b"1").await.status, 200);
    assert_eq!(server.get("/kv/a").await.status, 200);
    let (_, feeder) = server.fake.watches.lock().unwrap()[0].clone();
    drop(first);
    // The connection is known to be gone when something is written to it.
    let wait = async {
        while server.get("/watch?prefix=nobody").await.status == 429 {
            let _ = feeder.send(Ok(batch(Vec::new(), 1, false)));
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("the place is given back");
}

#[actix_web::test]
async fn a_client_that_reads_nothing_is_cut_and_gives_its_place_back() {
    let options = HttpOptions {
        max_watchers: 1,
        stall_timeout: Duration::from_secs(1),
        ..HttpOptions::default()
    };
    let server = Server::with(options);
    let stuck = server.watch("/watch?prefix=", &[]).await;
    let (_, feeder) = server.last_watch();
    // More than the buffers of both ends hold.
    for revision in 1..=64 {
        let value = vec![b'v'; 1 << 20];
        feeder
            .send(Ok(batch(vec![event(revision, b"a", Some(&value), None)], revision, false)))
            .unwrap();
    }
    let wait = async {
        while !feeder.is_closed() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("the connection is cut");
    let _next = server.watch("/watch?prefix=", &[]).await;
    drop(stuck);
}

#[actix_web::test]
async fn pieces_of_one_watcher_alone_are_within_the_byte_budget() {
    let options = HttpOptions { max_body_bytes_in_flight: 1 << 20, ..HttpOptions::default() };
    let server = Server::with(options);
    let (mut client, _) = server.watch("/watch?prefix=", &[]).await;
    let (_, feeder) = server.last_watch();
    let own = |revision, len| {
        let large = event(revision, b"a", Some(&vec![b'v'; len]), None);
        Arc::new(Batch::new(vec![Arc::new(large)], revision, false, true))
    };
    feeder.send(Ok(own(1, 100_000))).unwrap();
    feeder.send(Ok(own(2, 2 << 20))).unwrap();
    assert_eq!(client.block().await.unwrap()[2], "id: 1");
    let problem = data(&client.block().await.unwrap());
    assert_eq!((&problem["code"], &problem["resume_from"]), (&json!("overloaded"), &json!(2)));
    assert_eq!(client.block().await, None);
    assert_eq!(server.metrics.http_body_bytes.get(), 0);
}
