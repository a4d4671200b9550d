//! Watches of real clusters: what was acknowledged is told once and in order, whatever happens to connections and nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use conuredb::client::{Client, Event, Keys, Watch, Watcher};
use conuredb::types::Condition;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cluster::{Cluster, client};
use crate::harness::{Node, PATIENCE, until};
use crate::load::{Load, value_of};

/// The last key that a test writes.
const LAST: &[u8] = b"~last";

async fn next(watcher: &mut Watcher) -> Event {
    let event = timeout(PATIENCE, watcher.next()).await.expect("an event in time");
    event.expect("no end").expect("no error")
}

/// All events up to that of the last key.
async fn told(mut watcher: Watcher) -> Vec<Event> {
    let mut told = Vec::new();
    loop {
        let event = next(&mut watcher).await;
        if event.item.key == LAST {
            return told;
        }
        told.push(event);
    }
}

/// Each write is a revision of its own here, so revisions only rise; what was acknowledged was told.
fn check(told: &[Event], acknowledged: &BTreeSet<String>) {
    assert!(told.is_sorted_by(|a, b| a.item.mod_revision < b.item.mod_revision), "order");
    let mut keys = BTreeMap::new();
    for event in told {
        let key = String::from_utf8(event.item.key.to_vec()).expect("a key of the load");
        assert_eq!(event.item.value.as_deref(), Some(value_of(&key).as_bytes()));
        assert_eq!(keys.insert(key, ()), None, "{event:?} was told twice");
    }
    let missed = acknowledged.iter().filter(|key| !keys.contains_key(*key)).count();
    assert_eq!(missed, 0, "of {} acknowledged writes", acknowledged.len());
}

fn everything() -> Watch {
    Watch { from: Some(1), ..Watch::of(Keys::Prefix("".into())) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_outlives_the_node_that_served_it_and_misses_nothing() {
    let mut cluster = Cluster::start(3, &[]).await;
    let load = Load::start(&cluster, 4);
    let mut watchers = JoinSet::new();
    for number in 0..3 {
        watchers.spawn(told(cluster.client(number).watch(everything())));
    }
    for victim in [cluster.leader().await, 0, 1] {
        load.progress(100).await;
        cluster.nodes[victim].kill();
        load.progress(50).await;
        cluster.nodes[victim].restart().await;
        cluster.wait_until_ready().await;
    }
    load.progress(100).await;
    let outcome = load.stop().await;
    cluster.client(0).put(LAST, "end", Condition::None).await.expect("a write");
    while let Some(told) = watchers.join_next().await {
        check(&told.expect("no panic"), &outcome.acknowledged);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_break_off_at_any_point_resume_without_gap_or_repetition() {
    let cluster = Cluster::start(3, &[]).await;
    let load = Load::start(&cluster, 4);
    let mut watchers = JoinSet::new();
    for number in 0..8 {
        let clients: Vec<Client> = (0..3).map(|first| cluster.client(first)).collect();
        watchers.spawn(async move {
            let (mut all, mut watch) = (Vec::new(), everything());
            for lap in number.. {
                let mut watcher = clients[lap % 3].watch(watch.clone());
                // A client that was not told of anything yet begins again where it was.
                for _ in 0..(lap * 37) % 90 + 1 {
                    let event = next(&mut watcher).await;
                    if event.item.key == LAST {
                        return all;
                    }
                    all.push(event);
                }
                watch.from = watcher.position();
            }
            unreachable!("it ends with the last key")
        });
    }
    load.progress(600).await;
    let outcome = load.stop().await;
    cluster.client(0).put(LAST, "end", Condition::None).await.expect("a write");
    while let Some(told) = watchers.join_next().await {
        check(&told.expect("no panic"), &outcome.acknowledged);
    }
}

/// A connection that asks for a watch of all keys and then reads nothing.
async fn deaf(node: &Node) -> TcpStream {
    let mut stream = TcpStream::connect(node.http_addr()).await.expect("a connection");
    let request = "GET /watch?prefix= HTTP/1.1\r\nHost: test\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("a request");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deaf_watcher_is_cut_while_others_go_on() {
    let node = Node::start("node1", &[]).await;
    node.wait_until_ready().await;
    let client = client(vec![node.url()]);
    let mut deaf = deaf(&node).await;
    client.put(b"k", "first", Condition::None).await.expect("a write");
    let mut watcher = client.watch(everything());
    next(&mut watcher).await;
    until("both to be watching", async || {
        (node.metric("conuredb_watchers").await? == 2.0).then_some(())
    })
    .await;
    let mut told = 0;
    // What the sockets' buffers hold, and then what may wait.
    until("the deaf one to be cut", async || {
        for _ in 0..16 {
            let value = vec![b'v'; 256 * 1024];
            client.put(b"k", value, Condition::None).await.expect("a write");
            next(&mut watcher).await;
            told += 1;
        }
        (node.metric("conuredb_watchers_cut_total").await? == 1.0).then_some(())
    })
    .await;
    let last = client.put(b"k", "last", Condition::None).await.expect("a write");
    assert_eq!(next(&mut watcher).await.item.mod_revision, last.revision);

    // Whoever reads on after all finds the reason at the end.
    let mut stream = Vec::new();
    let read = timeout(PATIENCE, async {
        while !stream.ends_with(b"0\r\n\r\n") {
            assert_ne!(deaf.read_buf(&mut stream).await.expect("bytes"), 0, "cut without a word");
        }
    });
    read.await.expect("the stream ends");
    let tail = String::from_utf8_lossy(&stream[stream.len() - 1_000..]).into_owned();
    assert!(tail.contains("event: error") && tail.contains("\"code\":\"slow_watcher\""), "{tail}");
    println!("cut after {told} values of 256 KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_watchers_are_told_and_writes_go_on() {
    const WATCHERS: usize = 1_000;
    const WRITES: u64 = 500;
    let cluster = Cluster::start(3, &[]).await;
    let follower = &cluster.nodes[cluster.follower().await];
    let reader = client(vec![follower.url()]);
    let mut watchers = JoinSet::new();
    for number in 0..WATCHERS {
        // Prefixes within prefixes: "", "7", "73", "731".
        let name = key_of(number as u64 % WRITES);
        let prefix = name[..number % 4].to_owned();
        let watch = Watch { from: Some(1), ..Watch::of(Keys::Prefix(prefix.clone().into())) };
        let mut watcher = reader.watch(watch);
        watchers.spawn(async move {
            let expected = (0..WRITES).filter(|n| key_of(*n).starts_with(&prefix)).count();
            let mut last = 0;
            for _ in 0..expected {
                // Without a limit of its own: all are waited for together, once everything is written.
                let event = watcher.next().await.expect("no end").expect("no error");
                assert!(
                    event.item.mod_revision > last && event.item.key.starts_with(prefix.as_bytes())
                );
                last = event.item.mod_revision;
            }
        });
    }
    until("all to be watching", async || {
        (follower.metric("conuredb_watchers").await? >= WATCHERS as f64).then_some(())
    })
    .await;
    let began = Instant::now();
    let writer = cluster.client(0);
    for n in 0..WRITES {
        writer.put(key_of(n).as_bytes(), "v", Condition::None).await.expect("a write");
    }
    let written = began.elapsed();
    timeout(PATIENCE, async {
        while let Some(told) = watchers.join_next().await {
            told.expect("no panic");
        }
    })
    .await
    .expect("all were told in time");
    assert_eq!(follower.metric("conuredb_watchers_cut_total").await, Some(0.0));
    println!(
        "{WRITES} writes in {written:?}, told to {WATCHERS} watchers in {:?}",
        began.elapsed()
    );
}

fn key_of(n: u64) -> String {
    format!("{:03}/{n}", n * 37 % 1_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_node_ends_its_watches_at_once() {
    let mut node = Node::start("node1", &["--set=timeouts.shutdown=60s"]).await;
    node.wait_until_ready().await;
    let mut stream = deaf(&node).await;
    let mut said = Vec::new();
    while !said.windows(4).any(|bytes| bytes == b"id: ") {
        stream.read_buf(&mut said).await.expect("bytes");
    }
    let began = Instant::now();
    node.terminate().await;
    assert!(began.elapsed() < Duration::from_secs(30), "it waited for the watch");
    stream.read_to_end(&mut said).await.expect("the rest");
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("event: error") && said.contains("\"code\":\"not_ready\""), "{said}");
}
