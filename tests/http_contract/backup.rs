//! Backups as a client gets them: the stream and its headers, how it breaks, and how many there may be.

use std::time::Duration;

use bytes::Bytes;
use conuredb::actors::messages::{Consistency, RequestError};
use tokio::io::AsyncReadExt;

use crate::wire::{Server, request};

/// The bytes of a chunk that is longer than what goes to a socket at a time.
fn long_chunk() -> Bytes {
    (0..200_000_u32).map(|n| (n % 251) as u8).collect()
}

#[actix_web::test]
async fn a_backup_is_what_the_node_gives_and_says_what_it_is_of() {
    let server = Server::start();
    server.put("/kv/k", b"v").await;
    let chunks = [Bytes::from_static(b"head"), long_chunk(), Bytes::from_static(b"tail")];
    *server.fake.backup.lock().unwrap() = chunks.iter().cloned().map(Ok).collect();
    let mut client = server.connect().await;
    client.send(&request("GET", "/backup", &[], None)).await;
    let reply = client.chunked_reply().await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body, chunks.concat());
    assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
    assert_eq!(
        reply.header("content-disposition"),
        Some("attachment; filename=\"conuredb-1.backup\"")
    );
    assert_eq!(reply.header("x-conure-revision"), Some("1"));
    assert_eq!(reply.header("x-conure-applied-index"), Some("11"));
    assert_eq!(reply.header("x-conure-cluster-id"), Some(&*format!("{:032x}", 0xabc)));

    let head = server.call("HEAD", "/backup").await;
    assert_eq!((head.status, head.header("x-conure-revision")), (200, Some("1")));
    let asked = |at: usize| server.fake.backups.lock().unwrap()[at].of.consistency;
    assert_eq!(asked(0), Consistency::Linearizable);
    server.call("HEAD", "/backup?stale=true&max_stale=2s").await;
    let max_stale = Some(Duration::from_secs(2));
    assert_eq!(asked(2), Consistency::Stale { max_stale });

    server.get("/backup?revision=1").await.is_problem(400, "bad_parameter");
    server.call("POST", "/backup").await.is_problem(405, "method_not_allowed");
    server.fake.fail_with(RequestError::NoLeader { reason: "an election".into() });
    server.get("/backup").await.is_problem(503, "no_leader");
}

#[actix_web::test]
async fn a_backup_that_cannot_go_on_breaks_off_without_its_last_chunk() {
    let server = Server::start();
    let failure = RequestError::Storage { detail: "page 7 is damaged".into() };
    *server.fake.backup.lock().unwrap() = vec![Ok(Bytes::from_static(b"head")), Err(failure)];
    let mut client = server.connect().await;
    client.send(&request("GET", "/backup", &[], None)).await;
    assert_eq!(client.reply().await.status, 200);
    let mut rest = Vec::new();
    // How the connection ends is the protocol layer's business; that the end mark is missing counts.
    let _ = client.stream.read_to_end(&mut rest).await;
    assert_eq!(rest, b"4\r\nhead\r\n");
}

#[actix_web::test]
async fn only_so_many_backups_are_sent_at_a_time() {
    let server = Server::start();
    *server.fake.backup.lock().unwrap() = vec![Ok(Bytes::from_static(b"all of it"))];
    server.fake.gate.send_replace(false);
    let mut clients = [server.connect().await, server.connect().await];
    for client in &mut clients {
        client.send(&request("GET", "/backup", &[], None)).await;
    }
    server.fake.has_received(2).await;
    server.get("/backup").await.is_problem(429, "overloaded");
    server.fake.gate.send_replace(true);
    for client in &mut clients {
        assert_eq!(client.chunked_reply().await.text(), "all of it");
    }
    // Their places are free again when their bodies have left.
    let again = async {
        while server.call("HEAD", "/backup").await.status == 429 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), again).await.expect("a place is free again");
}
