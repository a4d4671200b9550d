//! A measurement, printed: what a client of one node waits for a durable write, one after the other.
//!
//! Numbers of a debug build on a shared machine mean little (`cargo test --release --test cluster latency --
//! --nocapture` shows better ones), so only the answers are checked.

use std::time::{Duration, Instant};

use crate::harness::Node;

const WRITES: usize = 1_000;

#[tokio::test]
async fn a_thousand_durable_puts_on_one_connection_are_all_there() {
    let node = Node::start("node1", &[]).await;
    node.wait_until_ready().await;
    let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().expect("a client");
    let begun = Instant::now();
    let mut times: Vec<Duration> = Vec::with_capacity(WRITES);
    for number in 0..WRITES {
        let sent = Instant::now();
        let put = http.put(format!("{}/kv/key-{number:04}", node.url())).body(number.to_string());
        let reply = put.send().await.expect("an answer");
        assert_eq!(reply.status(), 200);
        // Read to its end, so that the connection is used again.
        assert_eq!(reply.text().await.expect("a body"), "OK\n");
        times.push(sent.elapsed());
    }
    let all = begun.elapsed();
    times.sort_unstable();
    println!(
        "{WRITES} durable writes, one after the other: {all:?}; median {:?}, 99th of 100 {:?}, longest {:?}",
        times[WRITES / 2],
        times[WRITES * 99 / 100],
        times[WRITES - 1]
    );
    let records = node.records("key-").await;
    assert_eq!(records.len(), WRITES);
    for (number, (key, stored)) in records.iter().enumerate() {
        assert_eq!(key, format!("key-{number:04}").as_bytes());
        assert_eq!((&stored.value[..], stored.version), (number.to_string().as_bytes(), 1));
    }
}
