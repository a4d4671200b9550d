//! A body far beyond the cap does not grow the server, nor does a range that is streamed. Alone in its process, since
//! it measures that, and one test after the other.

#![allow(
    clippy::disallowed_methods,
    reason = "a test is its own outermost layer: it opens sockets"
)]

#[path = "http_contract/client.rs"]
#[allow(dead_code, reason = "this test needs the server, not the client")]
mod client;
#[path = "http_contract/document.rs"]
#[allow(dead_code, reason = "this test needs the server, not the client")]
mod document;
#[path = "http_contract/fake/mod.rs"]
#[allow(dead_code, reason = "this test needs a few of its switches")]
mod fake;
#[path = "http_contract/wire.rs"]
#[allow(dead_code, reason = "this test needs the server, not the client")]
mod wire;

use std::convert::Infallible;

use futures_util::stream;

const MIB: usize = 1024 * 1024;

/// The most memory this process ever had in use.
fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[actix_web::test]
async fn memory_stays_flat() {
    on_a_body_beyond_the_cap().await;
    on_a_range_that_is_streamed().await;
}

async fn on_a_body_beyond_the_cap() {
    let server = wire::Server::start();
    let url = format!("http://{}/kv/k", server.address);
    let client = reqwest::Client::new();
    let put = |body: reqwest::Body| client.put(&url).body(body).send();
    assert_eq!(put(vec![0; MIB].into()).await.unwrap().status(), 200);

    let before = peak_bytes();
    let chunks = || stream::iter((0..1024).map(|_| Ok::<_, Infallible>(vec![b'x'; 64 * 1024])));
    for _ in 0..3 {
        let reply = put(reqwest::Body::wrap_stream(chunks())).await.unwrap();
        assert_eq!(reply.status(), 413);
        let problem: serde_json::Value = reply.json().await.unwrap();
        assert_eq!(problem["code"], "value_too_large");
    }
    let grown = peak_bytes() - before;
    // The cap, twice while the buffer doubles, and what the client has under way.
    assert!(grown < 28 * MIB, "three bodies of 64 MiB took {} MiB", grown / MIB);

    let reply = put(vec![0; 64 * MIB].into()).await.unwrap();
    assert_eq!(reply.status(), 413, "also when the length is announced");
    assert_eq!(put("small".into()).await.unwrap().status(), 200);
}

/// Some 40 MB of lines, twice at a time.
async fn on_a_range_that_is_streamed() {
    const KEYS: usize = 20_000;
    let server = wire::Server::start();
    server.fake.fill(KEYS, 1_900);
    let client = reqwest::Client::new();
    let url = format!("http://{}/kv?prefix=", server.address);
    let before = peak_bytes();
    let stream = async || {
        let accept = ("accept", "application/x-ndjson");
        let mut reply = client.get(&url).header(accept.0, accept.1).send().await.unwrap();
        let (mut bytes, mut lines) = (0, 0);
        while let Some(chunk) = reply.chunk().await.unwrap() {
            bytes += chunk.len();
            lines += chunk.iter().filter(|&&byte| byte == b'\n').count();
        }
        (bytes, lines)
    };
    let (one, other) = futures_util::join!(stream(), stream());
    assert_eq!((one, one.1), (other, KEYS));
    assert!(one.0 > 35 * MIB, "{} bytes came", one.0);
    let grown = peak_bytes() - before;
    assert!(grown < 8 * MIB, "two streams of {} MiB took {} MiB", one.0 / MIB, grown / MIB);
}
