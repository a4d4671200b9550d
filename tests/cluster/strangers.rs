//! Who comes to the raft port and does not belong there: each is turned away with one line in the log, and the cluster
//! goes on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use conuredb::types::Condition;

use crate::cluster::{CALM, Cluster};
use crate::harness::{Node, PATIENCE, until};

/// Sends these bytes to the raft port and waits until the node closes. What it answers does not matter.
async fn call(node: &Node, bytes: Vec<u8>) {
    let address = node.raft_addr();
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        // The node may close at the first byte it does not like.
        let _ = stream.write_all(&bytes);
        let ended = stream.read_to_end(&mut Vec::new());
        let still_open = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!still_open, "the connection stays open");
    })
    .await
    .expect("the connection ends");
}

#[tokio::test]
async fn garbage_on_the_raft_port_costs_one_log_line_each_and_harms_nothing() {
    let cluster = Cluster::start(3, &[]).await;
    let client = cluster.client(0);
    let noise: Vec<u8> =
        (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    // A header that announces 4 GiB of handshake.
    let giant = [&[0xff; 4][..], &[0; 4], &[1], &[0; 7], &[0; 64]].concat();
    let strangers = [
        b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello, cut short".to_vec(),
        noise,
        giant,
        vec![0; 1024],
    ];
    for node in &cluster.nodes {
        let term = node.status().await.expect("a status").term;
        let memory = node.resident_bytes();
        let before = node.log_lines("refused").len();
        for (number, stranger) in strangers.iter().enumerate() {
            call(node, stranger.clone()).await;
            let refusals = until("a line in the log", async || {
                let lines = node.log_lines("refused").split_off(before);
                (lines.len() > number).then_some(lines)
            })
            .await;
            assert_eq!(refusals.len(), number + 1, "{refusals:#?}");
            assert!(refusals[number].contains("WARN") && refusals[number].contains("127.0.0.1"));
        }
        assert!(node.resident_bytes() < memory + 64 * 1024 * 1024, "a length was believed");
        client.put(node.name.as_bytes(), "v", Condition::None).await.expect("a write");
        let status = node.status().await.expect("a status");
        assert_eq!(status.term, term, "nobody had to be elected anew");
    }
}

#[tokio::test]
async fn a_stranger_that_says_nothing_is_let_go_and_many_do_not_block_the_peers() {
    let cluster = Cluster::start(3, &[]).await;
    let mut silent = Vec::new();
    for node in &cluster.nodes {
        for _ in 0..64 {
            silent.push(TcpStream::connect(node.raft_addr()).expect("a connection"));
        }
    }
    let client = cluster.client(0);
    for number in 0..20u8 {
        client.put(&[b'k', number], "v", Condition::None).await.expect("a write");
    }
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        // Closed by the node: the end of the stream, or a reset.
        let ended = stream.read(&mut [0; 16]);
        assert!(
            !matches!(&ended, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock),
            "{ended:?}"
        );
    }
    assert_eq!(cluster.nodes[1].records("k").await.len(), 20);
}

#[tokio::test]
async fn a_node_with_another_secret_is_refused_by_both_ways_in() {
    let flags = [CALM, &["--cluster-secret=open sesame"]].concat();
    let first = Node::start("node1", &flags).await;
    first.wait_until_ready().await;
    let seeds = format!("--seeds={}", first.url());

    // It asks to be joined; the leader calls it back and the secrets differ.
    let wrong = [CALM, &["--bootstrap=false", &seeds, "--cluster-secret=open barley"]].concat();
    let thief = Node::start("node2", &wrong).await;
    let line = until("the refusal in the log", async || {
        thief.log_lines("the cluster secrets differ").into_iter().next()
    })
    .await;
    assert!(line.contains("set the same cluster_secret on all nodes"), "{line}");
    first.join(&thief).await.is_problem(503, "not_ready", "secrets differ");
    let none = Node::start("node3", &[CALM, &["--bootstrap=false"]].concat()).await;
    first.join(&none).await.is_problem(503, "not_ready", "secrets differ");
    assert_eq!(first.members().await.expect("members").servers.len(), 1);
    for node in [&first, &thief, &none] {
        assert!(
            !node.log().contains("sesame") && !node.log().contains("barley"),
            "a secret is told"
        );
    }

    // The same secret, from a file, is let in.
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("secret");
    std::fs::write(&file, "open sesame\n").expect("a file");
    let from_file = format!("--cluster-secret-file={}", file.display());
    let friendly = [CALM, &["--bootstrap=false", &seeds, &from_file]].concat();
    let friend = Node::start("node4", &friendly).await;
    friend.wait_for_voters(2).await;
}
