//! What comes in pieces: watches.

use conuredb::client::{ClientError, EventKind, Keys, Watch};
use serde_json::json;

use super::client;
use super::scripted::{Answer, Server};

/// An event of a stream, with an id if its revision ends there.
fn event(key: &str, revision: u64, id: &str) -> String {
    let data = json!({ "key": key, "value": "v", "mod_revision": revision, "create_revision": 1, "version": 1 });
    format!("event: put\ndata: {data}\n{id}\n")
}

/// A watch whose connections say `streams`, one after the other; with what it asked for.
async fn watched(streams: Vec<String>) -> (Vec<Result<String, ClientError>>, Vec<String>) {
    let mut answers = streams.into_iter();
    let server = Server::start(move |request| match request.target.as_str() {
        "/raft/config" => Answer::json(json!({})),
        _ => match answers.next() {
            Some(stream) => Answer::ok(stream),
            None => Answer::problem(410, "revision_trimmed", "no"),
        },
    })
    .await;
    let mut watcher = client(&[&server.url]).watch(Watch::of(Keys::Prefix("a b".into())));
    let mut told = Vec::new();
    while let Some(event) = watcher.next().await {
        told.push(event.map(|event| {
            assert_eq!(event.kind, EventKind::Put);
            format!("{}@{}", event.item.key.escape_ascii(), event.item.mod_revision)
        }));
    }
    (told, server.seen().into_iter().map(|request| request.target).collect())
}

#[tokio::test]
async fn a_watch_goes_on_where_its_connection_ended_even_within_a_revision() {
    let head = |id| format!("retry: 1\nid: {id}\n\n");
    let (told, asked) = watched(vec![
        head(4) + &event("a", 5, "id: 5\n") + &event("b", 6, "") + &event("c", 6, ""),
        // The same revision again, cut once more in its middle.
        head(5) + &event("b", 6, ""),
        head(5) + &event("b", 6, "") + &event("c", 6, "") + &event("d", 6, "id: 6\n"),
        // Nothing but a heartbeat, and half an event.
        head(6) + ": heartbeat\nid: 9\n\n" + &event("e", 10, "id: 10\n")[..20],
        head(9) + &event("e", 10, "id: 10\n"),
    ])
    .await;
    let (last, events) = told.split_last().expect("an end");
    let events: Vec<&str> = events.iter().map(|event| &event.as_ref().unwrap()[..]).collect();
    assert_eq!(events, ["a@5", "b@6", "c@6", "d@6", "e@10"]);
    assert!(last.as_ref().is_err_and(|error| error.is_code("revision_trimmed")));
    let from = |from: &str| format!("/watch?prefix=a%20b{from}");
    assert_eq!(
        asked,
        [
            "",
            "&from_revision=6",
            "&from_revision=6",
            "&from_revision=7",
            "&from_revision=10",
            "&from_revision=11"
        ]
        .map(from)
    );
}

#[tokio::test]
async fn a_watch_that_was_cut_goes_on_and_one_that_cannot_ends() {
    let error = |code: &str, retryable: bool| {
        let problem =
            json!({ "code": code, "retryable": retryable, "applied": "no", "detail": "d" });
        format!("event: error\ndata: {problem}\n\n")
    };
    let (told, _) = watched(vec![
        event("a", 5, "id: 5\n") + &error("slow_watcher", true),
        event("b", 6, "id: 6\n") + &error("storage_failed", false),
    ])
    .await;
    assert_eq!(told.len(), 3);
    assert!(told[2].as_ref().is_err_and(|error| error.is_code("storage_failed")), "{told:?}");
}
