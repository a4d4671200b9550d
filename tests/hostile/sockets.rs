//! Connections in numbers that say little or nothing.

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bystander::Bystander;
use crate::harness::until;
use crate::{KIB, MIB, started};

/// As many as are asked for, where the system allows them.
const IDLE: u64 = 10_000;

/// Files that a test process or a node needs besides.
const OTHER_FILES: u64 = 500;

/// What an idle connection that has been served may cost.
const IDLE_BYTES: u64 = 32 * KIB;

/// Opens the limit on files, for this process and the nodes that it starts; how many connections fit.
fn most_connections() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let open = rustix::process::Rlimit { current: limit.maximum, ..limit };
    setrlimit(Resource::Nofile, open).expect("the soft limit may come up to the hard one");
    IDLE.min(limit.maximum.unwrap_or(u64::MAX).saturating_sub(OTHER_FILES))
}

#[tokio::test]
async fn ten_thousand_idle_connections_leave_service_and_memory_as_they_were() {
    let count = most_connections();
    if count < IDLE {
        println!("only {count} connections: the limit on open files (ulimit -Hn) allows no more");
    }
    let node = started(&["--set=limits.max_connections=12000"]).await;
    let bystander = Bystander::of(&node);
    bystander.is_served(5).await;
    let before = node.resident_bytes();
    let mut idle = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(node.http_addr()).await.expect("a connection");
        // One that has been served is kept longer than one that has said nothing.
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: t\r\n\r\n").await.expect("a request");
        idle.push(stream);
    }
    let mut start = [0; 12];
    for stream in &mut idle {
        stream.read_exact(&mut start).await.expect("an answer");
        assert_eq!(&start, b"HTTP/1.1 200");
    }
    bystander.is_served(50).await;
    let grown = node.resident_bytes().saturating_sub(before);
    println!("{count} idle connections took {} KiB each", grown / KIB / count);
    assert!(grown < count * IDLE_BYTES, "{count} idle connections took {} MiB", grown / MIB);
    drop(idle);
    bystander.ends_unharmed().await;
}

#[tokio::test]
async fn half_open_and_reset_connections_are_forgotten() {
    let node = started(&["--set=timeouts.request=2s"]).await;
    let bystander = Bystander::of(&node);
    let connections = async || {
        let metrics = node.get("/metrics").await.text();
        let line = metrics.lines().find_map(|line| line.strip_prefix("conuredb_http_in_flight "));
        line.and_then(|number| number.parse::<u64>().ok()).expect("a gauge of requests")
    };
    let mut half_open = Vec::new();
    for number in 0..600 {
        let mut stream = TcpStream::connect(node.http_addr()).await.expect("a connection");
        let begun = match number % 3 {
            0 => "GET /kv/k HTTP/1.1\r\nHo",
            1 => "PUT /kv/k HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\nhalf",
            _ => "PUT /kv/k HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nhalf",
        };
        stream.write_all(begun.as_bytes()).await.expect("a beginning");
        match number % 2 {
            // Says that it will say no more, and listens on.
            0 => stream.shutdown().await.expect("an end"),
            // Gone without a word, as far as the node's parser is concerned.
            _ => stream.set_zero_linger().expect("a reset"),
        }
        if number % 2 == 0 {
            half_open.push(stream);
        }
    }
    bystander.is_served(20).await;
    for mut stream in half_open {
        let mut said = Vec::new();
        let ended =
            tokio::time::timeout(crate::harness::PATIENCE, stream.read_to_end(&mut said)).await;
        assert!(ended.is_ok(), "a half-open connection is kept");
    }
    until("no request to be under way but this one and the bystander's", async || {
        (connections().await <= 2).then_some(())
    })
    .await;
    assert_eq!(node.get("/kv/k").await.status, 404, "half a body is no value");
    bystander.ends_unharmed().await;
}
