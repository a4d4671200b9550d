//! The client against servers that fail in every way it has to live with.

mod backup;
#[path = "../scripted/mod.rs"]
mod scripted;
mod streams;

use std::collections::BTreeSet;
use std::time::Duration;

use conuredb::client::{Applied, Client, ClientError, ClientOptions, Join, ReadOptions, Scan};
use conuredb::types::{AskedBy, Condition};
use scripted::{Answer, Request, Server, nobody, store};
use serde_json::json;

/// Fresh names for each client; the tests of one process share no server.
fn client(servers: &[&str]) -> Client {
    client_with(servers, |_| {})
}

fn client_with(servers: &[&str], change: impl FnOnce(&mut ClientOptions)) -> Client {
    let mut options = ClientOptions::new(7);
    options.timeout = Duration::from_secs(30);
    change(&mut options);
    Client::new(servers.iter().map(|server| server.to_string()).collect(), options).unwrap()
}

/// A script that gives `answers` one after the other, and after them what `store` says.
fn first(answers: Vec<Answer>) -> impl FnMut(&Request) -> Answer + Send + 'static {
    let (mut answers, mut store) = (answers.into_iter(), store(100));
    move |request| match request.target.as_str() {
        "/raft/config" => store(request),
        _ => answers.next().unwrap_or_else(|| store(request)),
    }
}

/// A script that always says `answer`.
fn always(answer: Answer) -> impl FnMut(&Request) -> Answer + Send + 'static {
    move |_| answer.clone()
}

fn names(requests: &[Request]) -> Vec<String> {
    let name = |request: &Request| request.header("idempotency-key").unwrap_or("none").to_owned();
    requests.iter().map(name).collect()
}

#[tokio::test]
async fn any_bytes_go_in_and_come_back() {
    let server = Server::start(store(100)).await;
    let client = client(&[&server.url]);
    let all: Vec<u8> = (0..=255).collect();
    for key in [&b"plain"[..], b"a/b?c&d=e f+g%2f", b"..", b"\xff\x00", &all] {
        let written = client.put(key, all.clone(), Condition::None).await.unwrap();
        let value = client.get(key, ReadOptions::default()).await.unwrap().unwrap();
        assert_eq!((value.bytes, value.mod_revision), (all.clone().into(), written.revision));
        let item = client.get_item(key, ReadOptions::default()).await.unwrap().unwrap();
        assert_eq!((&item.key[..], item.value), (key, Some(all.clone().into())));
    }
    client.put(b"empty", "", Condition::None).await.unwrap();
    assert_eq!(server.seen().last().unwrap().header("content-length"), Some("0"));
    assert_eq!(client.get(b"empty", ReadOptions::default()).await.unwrap().unwrap().bytes.len(), 0);
    assert_eq!(client.get(b"none", ReadOptions::default()).await.unwrap(), None);
    assert!(client.delete(b"plain", Condition::None).await.unwrap().existed);
    assert!(!client.delete(b"plain", Condition::None).await.unwrap().existed);
    assert_eq!(client.delete_prefix(b"a/").await.unwrap().deleted, 1);
}

#[tokio::test]
async fn conditions_and_read_options_are_sent() {
    let server = Server::start(store(100)).await;
    let client = client(&[&server.url]);
    let written = client.put(b"k", "1", Condition::Absent).await.unwrap();
    let refused = client.put(b"k", "2", Condition::Absent).await.unwrap_err();
    assert!(refused.is_code("condition_failed"), "{refused}");
    client.put(b"k", "2", Condition::ModRevision(written.revision)).await.unwrap();
    let refused = client.delete(b"k", Condition::ModRevision(written.revision)).await.unwrap_err();
    assert!(refused.is_code("condition_failed"), "{refused}");
    let read =
        ReadOptions { max_stale: Some(Duration::from_millis(500)), ..ReadOptions::default() };
    client.get(b"k", read).await.unwrap();
    assert_eq!(server.seen().last().unwrap().target, "/kv?key=k&stale=true&max_stale=500ms");
}

#[tokio::test]
async fn pages_follow_the_cursor() {
    let server = Server::start(store(2)).await;
    let client = client(&[&server.url]);
    for key in [&b"a"[..], b"b\xff", b"c", b"d", b"e"] {
        client.put(key, key.to_vec(), Condition::None).await.unwrap();
    }
    let mut scan =
        Scan { start: Some("b".into()), end: Some("e".into()), reverse: true, ..Scan::default() };
    let mut keys = Vec::new();
    loop {
        let page = client.scan(&scan).await.unwrap();
        keys.extend(page.items.into_iter().map(|item| item.key.to_vec()));
        match page.next {
            Some(next) => scan.cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(keys, [&b"d"[..], b"c", b"b\xff"]);
}

#[tokio::test]
async fn a_retried_write_keeps_its_name_and_the_next_has_another() {
    let troubles = vec![
        Answer::Break,
        Answer::problem(504, "timeout", "unknown"),
        Answer::problem(503, "no_leader", "no"),
        Answer::problem(429, "overloaded", "no"),
        Answer::Say { status: 502, headers: Vec::new(), body: b"<html>".to_vec() },
    ];
    let server = Server::start(first(troubles)).await;
    let client = client(&[&server.url]);
    client.put(b"k", "v", Condition::None).await.unwrap();
    client.put(b"k", "w", Condition::None).await.unwrap();
    let names = names(&server.seen());
    let (once, again) = (format!("{:032x}-1:1", 7), format!("{:032x}-1:2", 7));
    assert_eq!(names[..6], vec![once; 6]);
    assert_eq!(names[6..], [again]);
    assert!(server.seen().iter().take(6).all(|request| request.body == b"v"));
}

#[tokio::test]
async fn parallel_writes_have_sessions_of_their_own() {
    let server = Server::start(store(100)).await;
    let client = client(&[&server.url]);
    let writes = (0..8u8).map(|n| {
        let client = client.clone();
        tokio::spawn(async move { client.put(&[n + 1], "v", Condition::None).await.map(|_| ()) })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap().unwrap();
    }
    let names = names(&server.seen());
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 8, "{names:?}");
}

#[tokio::test]
async fn a_dead_server_is_left_for_a_live_one_and_not_asked_again() {
    let (dead, live) = (nobody().await, Server::start(store(100)).await);
    let client = client(&[&dead, &live.url]);
    // "No such key" is an answer as good as any.
    assert_eq!(client.get(b"k", ReadOptions::default()).await.unwrap(), None);
    assert_eq!(client.current_server(), live.url);
    assert_eq!(client.servers(), [dead, live.url.clone()]);
}

#[tokio::test]
async fn a_silent_server_is_left_after_an_attempts_time() {
    let silent = Server::start(always(Answer::Silence)).await;
    let live = Server::start(store(100)).await;
    let client = client_with(&[&silent.url, &live.url], |options| {
        options.attempt_timeout = Duration::from_secs(1);
    });
    client.put(b"k", "v", Condition::None).await.unwrap();
    assert_eq!(names(&silent.seen()), names(&live.seen()));
}

#[tokio::test]
async fn members_become_servers_and_outlive_the_one_given() {
    let live = Server::start(store(100)).await;
    let members = json!({ "leader": "", "servers": [{ "id": "node2", "http_address": live.url }] });
    let given = Server::start(always(Answer::json(members))).await;
    let client = client(&[&given.url]);
    client.status().await.unwrap();
    // The members are asked for in the background.
    while client.servers().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    given.stop().await;
    client.put(b"k", "v", Condition::None).await.unwrap();
    assert_eq!(client.current_server(), live.url);
}

#[tokio::test]
async fn a_redirect_takes_method_body_and_name_along() {
    let leader = Server::start(store(100)).await;
    let leader_url = leader.url.clone();
    let follower = Server::start(move |request: &Request| {
        let location = format!("{leader_url}{}", request.target);
        Answer::problem(307, "not_leader", "no").with("Location", location)
    })
    .await;
    let client = client(&[&follower.url]);
    client.put(b"k ", "v", Condition::None).await.unwrap();
    let (asked, served) = (follower.seen(), leader.seen());
    assert_eq!(served[0].method, "PUT");
    assert_eq!(served[0].body, b"v");
    assert_eq!(served[0].target, asked[0].target);
    assert_eq!(names(&served), names(&asked));
}

#[tokio::test]
async fn redirects_in_a_circle_end() {
    let server = Server::start(|request: &Request| {
        let host = request.header("host").unwrap();
        Answer::problem(307, "not_leader", "no")
            .with("Location", format!("http://{host}{}", request.target))
    })
    .await;
    let client =
        client_with(&[&server.url], |options| options.timeout = Duration::from_millis(200));
    let error = client.put(b"k", "v", Condition::None).await.unwrap_err();
    assert!(error.is_code("not_leader"), "{error}");
    assert_eq!(error.applied(), Applied::No);
    assert!(server.seen().len() < 50, "{}", server.seen().len());
}

#[tokio::test]
async fn an_unknown_outcome_stays_unknown_whatever_later_attempts_are_told() {
    let refuses = Answer::problem(503, "no_leader", "no");
    for trouble in [Answer::problem(504, "timeout", "unknown"), Answer::Break] {
        let mut troubles = Some(trouble).into_iter();
        let refuses = refuses.clone();
        let server =
            Server::start(move |_: &Request| troubles.next().unwrap_or_else(|| refuses.clone()))
                .await;
        let client =
            client_with(&[&server.url], |options| options.timeout = Duration::from_secs(1));
        let error = client.put(b"k", "v", Condition::None).await.unwrap_err();
        assert!(error.is_code("no_leader"), "{error}");
        assert_eq!(error.applied(), Applied::Unknown);
        assert!(error.to_string().contains("may have been applied or not"), "{error}");
    }
    let server = Server::start(always(refuses)).await;
    let client = client_with(&[&server.url], |options| options.timeout = Duration::from_secs(1));
    let error = client.put(b"k", "v", Condition::None).await.unwrap_err();
    assert_eq!(error.applied(), Applied::No);
    assert!(server.seen().len() > 1);
}

#[tokio::test]
async fn a_condition_that_a_retry_finds_unmet_was_never_met() {
    let troubles = vec![
        Answer::problem(504, "timeout", "unknown"),
        Answer::problem(412, "condition_failed", "no"),
    ];
    let server = Server::start(first(troubles)).await;
    let error = client(&[&server.url]).put(b"k", "v", Condition::Absent).await.unwrap_err();
    assert!(error.is_code("condition_failed"), "{error}");
    assert_eq!(error.applied(), Applied::No);
}

#[tokio::test]
async fn a_wish_to_wait_is_granted_within_the_time_there_is() {
    let busy = || Answer::problem(429, "overloaded", "no");
    let server = Server::start(first(vec![busy().with("Retry-After", 1)])).await;
    let before = tokio::time::Instant::now();
    client(&[&server.url]).put(b"k", "v", Condition::None).await.unwrap();
    assert!(before.elapsed() >= Duration::from_secs(1));

    let server = Server::start(first(vec![busy().with("Retry-After", 60)])).await;
    let error = client(&[&server.url]).put(b"k", "v", Condition::None).await.unwrap_err();
    assert!(error.is_code("overloaded"), "{error}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn what_is_refused_for_good_is_asked_once() {
    for (status, code) in [
        (400, "bad_parameter"),
        (413, "value_too_large"),
        (409, "superseded"),
        (507, "storage_full"),
    ] {
        let server = Server::start(always(Answer::problem(status, code, "no"))).await;
        let error = client(&[&server.url]).put(b"k", "v", Condition::None).await.unwrap_err();
        assert!(error.is_code(code), "{error}");
        assert_eq!(
            error.to_string(),
            format!("scripted {code} ({status} {code} of {})", server.url)
        );
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn when_nobody_answers_the_error_names_all_that_were_tried() {
    let (a, b) = (nobody().await, nobody().await);
    let client = client_with(&[&a, &b], |options| options.timeout = Duration::from_secs(1));
    let error = client.get(b"k", ReadOptions::default()).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Unreachable { tried, .. } if *tried == [a, b]),
        "{error:?}"
    );
    assert!(error.to_string().contains("Connection refused"), "{error}");
    assert_eq!(error.applied(), Applied::No);
}

#[tokio::test]
async fn where_nobody_listens_the_search_ends_early() {
    let nobody = nobody().await;
    let client = client_with(&[&nobody], |options| options.patience = Duration::from_millis(100));
    let before = tokio::time::Instant::now();
    client.put(b"k", "v", Condition::None).await.unwrap_err();
    assert!(before.elapsed() < Duration::from_secs(20), "{:?}", before.elapsed());
}

#[tokio::test]
async fn replies_have_a_bound_with_and_without_a_length() {
    for answer in [Answer::ok(vec![0; 1001]), Answer::Endless] {
        let server = Server::start(always(answer)).await;
        let client = client_with(&[&server.url], |options| options.max_reply_bytes = 1000);
        let error = client.get(b"k", ReadOptions::default()).await.unwrap_err();
        assert!(matches!(error, ClientError::ReplyTooLong { limit_bytes: 1000, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_reply_of_something_else_is_told_apart() {
    let server = Server::start(always(Answer::ok("<html>"))).await;
    let client = client(&[&server.url]);
    let error = client.status().await.unwrap_err();
    assert!(error.to_string().contains("does not answer like a ConureDB node"), "{error}");
    assert_eq!(error.applied(), Applied::No);
    let error = client.put(b"k", "v", Condition::None).await.unwrap_err();
    assert_eq!(error.applied(), Applied::Unknown);
}

#[tokio::test]
async fn a_join_is_repeated_when_its_outcome_is_unknown_and_a_removal_is_not() {
    let join = Join { id: "node2".to_owned(), raft_addr: "h:7002".to_owned(), ..Join::default() };
    let server = Server::start(first(vec![Answer::Break])).await;
    client(&[&server.url]).join(&join).await.unwrap();
    assert_eq!(server.seen().len(), 2);
    assert_eq!(server.seen()[0].body, br#"{"ID":"node2","RaftAddr":"h:7002"}"#);
    let by_itself = Join { asked_by: AskedBy::Node, ..join };
    let server_of_node = Server::start(first(vec![])).await;
    client(&[&server_of_node.url]).join(&by_itself).await.unwrap();
    let body = br#"{"AskedBy":"node","ID":"node2","RaftAddr":"h:7002"}"#;
    assert_eq!(server_of_node.seen()[0].body, body);

    let server = Server::start(first(vec![Answer::Break])).await;
    let error = client(&[&server.url]).remove("node2").await.unwrap_err();
    assert_eq!(error.applied(), Applied::Unknown);
    assert_eq!(server.seen().len(), 1);

    let server = Server::start(first(vec![Answer::problem(503, "no_leader", "no")])).await;
    let error = client(&[&server.url]).remove("node2").await.unwrap_err();
    assert!(error.is_code("unknown_node"), "{error}");
}

#[tokio::test]
async fn readiness_is_that_of_the_server_asked() {
    let server = Server::start(always(Answer::problem(503, "not_ready", "no"))).await;
    let ready = client(&[&server.url, &nobody().await]).ready().await.unwrap();
    assert!(!ready.ready && ready.reasons.contains("scripted not_ready"), "{ready:?}");
    assert_eq!(server.seen().len(), 1);
}
