//! Streams of changes.

use serde_json::{Value, json};

use crate::cases;
use crate::client::{Client, request};
use crate::harness::until;
use crate::place::{MAX_WATCHERS, Place, revision};

cases! {
    "| `key=K`, `prefix=P`, `start=A`, `end=B` |" => what_is_watched_is_named_as_in_reads,
    "| `from_revision=N` |" => a_watch_begins_in_the_past,
    "| `prev=true` |" => what_was_before_is_told,
    "A client that connects again with `Last-Event-ID: <id>`" => a_watch_is_resumed,
    "`limits.max_watchers` bounds the watches of a" => only_so_many_watch,
}

async fn watch(at: &Place, query: &str, headers: &[&str]) -> Client {
    until("a place among the watches", async || begun(at, query, headers).await).await
}

/// A watch, unless there are as many as may be. Those of other cases may not have ended yet.
async fn begun(at: &Place, query: &str, headers: &[&str]) -> Option<Client> {
    let mut client = at.connect().await;
    client.send(&request("GET", &format!("/watch?{query}"), headers, None)).await;
    let reply = client.reply().await;
    if reply.status == 429 {
        reply.is_problem(429, "overloaded");
        return None;
    }
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/event-stream")));
    Some(client)
}

/// The next event: its kind, its data, and its id if a watch can be resumed behind it.
async fn event(client: &mut Client) -> (String, Value, Option<u64>) {
    loop {
        let lines = client.block().await.expect("the stream goes on");
        let field = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name));
        // The first block and heartbeats tell a position alone.
        let Some(kind) = field("event: ") else { continue };
        let data = serde_json::from_str(field("data: ").expect("data")).expect("JSON");
        return (kind.to_owned(), data, field("id: ").map(|id| id.parse().expect("a number")));
    }
}

async fn what_is_watched_is_named_as_in_reads(at: &Place) {
    let first = at.stored("watch/named/a", "1").await;
    let second = at.stored("watch/named/b", "2").await;
    let third = revision(&at.delete("/kv/watch/named/a").await);
    for (query, revisions) in [
        ("key=watch/named/a", vec![first, third]),
        ("prefix=watch/named/", vec![first, second, third]),
        ("start=watch/named/b&end=watch/named/c", vec![second]),
    ] {
        let mut client = watch(at, &format!("{query}&from_revision={first}"), &[]).await;
        for revision in revisions {
            let (_, data, id) = event(&mut client).await;
            assert_eq!((&data["mod_revision"], id), (&json!(revision), Some(revision)), "{query}");
        }
    }
    for (query, code) in [("", "missing_key"), ("key=a&prefix=b", "bad_parameter")] {
        let problem = at.get(&format!("/watch?{query}")).await.is_problem(400, code);
        let detail = problem["detail"].as_str().expect("a text");
        assert!(detail.contains("key") && detail.contains("prefix"), "{detail} names both ways");
    }
}

async fn a_watch_begins_in_the_past(at: &Place) {
    let first = at.stored("watch/from", "1").await;
    let second = at.stored("watch/from", "2").await;
    let mut client = watch(at, &format!("key=watch/from&from_revision={second}"), &[]).await;
    let (kind, data, _) = event(&mut client).await;
    let told = json!({
        "key": "watch/from", "value": "2", "mod_revision": second, "create_revision": first, "version": 2
    });
    assert_eq!((kind.as_str(), data), ("put", told));
    let third = revision(&at.delete("/kv/watch/from").await);
    let (kind, data, _) = event(&mut client).await;
    assert_eq!(kind, "delete");
    assert_eq!(data, json!({ "key": "watch/from", "mod_revision": third }));
}

async fn what_was_before_is_told(at: &Place) {
    let first = at.stored("watch/prev", "1").await;
    at.stored("watch/prev", "2").await;
    let query = format!("key=watch/prev&from_revision={first}&prev=true");
    let mut client = watch(at, &query, &[]).await;
    assert_eq!(event(&mut client).await.1["previous"], Value::Null);
    let previous = event(&mut client).await.1["previous"].clone();
    assert_eq!((&previous["value"], &previous["mod_revision"]), (&json!("1"), &json!(first)));
}

async fn a_watch_is_resumed(at: &Place) {
    let first = at.stored("watch/resume", "1").await;
    at.stored("watch/resume", "2").await;
    // It goes before from_revision.
    let headers = [&*format!("Last-Event-ID: {first}")];
    let mut client = watch(at, "key=watch/resume&from_revision=1", &headers).await;
    assert_eq!(event(&mut client).await.1["value"], "2");
    let bad = at.ask("GET", "/watch?key=a", &["Last-Event-ID: x"], None).await;
    bad.is_problem(400, "bad_parameter");
}

/// Also what 429 `overloaded` looks like.
pub async fn only_so_many_watch(at: &Place) {
    let mut watching = Vec::new();
    while watching.len() < MAX_WATCHERS {
        watching.push(watch(at, "prefix=", &[]).await);
    }
    at.get("/watch?prefix=").await.is_problem(429, "overloaded");
}
