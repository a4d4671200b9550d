//! The Raft port: frames that are cut, damaged, replayed or of another version, and more strangers than there are
//! places. Nobody among them knows the secret.

use std::time::Duration;

use bytes::Bytes;
use conuredb::actors::peer::frame::{self, Frame, Kind};
use conuredb::actors::peer::handshake::{self, Card, Purpose, Reject, Secret};
use conuredb::codec;
use conuredb::types::ClusterId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::bystander::Bystander;
use crate::harness::{Node, PATIENCE, until};
use crate::{MIB, exchange, is_ready, peak, started};

const SECRET: &str = "--cluster-secret=open sesame";

/// How soon a stranger who was let go comes again.
const RETURN_AFTER: Duration = Duration::from_secs(3);

/// What a stranger may say first. The fields are those of the first message, in its order.
#[derive(Serialize)]
struct Hello {
    magic: [u8; 8],
    version: u16,
    purpose: Purpose,
    card: Card,
    nonce: u128,
}

/// What it is told; the variants stand in for those of the same place.
#[derive(Serialize, Deserialize)]
enum Answer {
    _Welcome { _version: u16, _card: Card, _nonce: u128, _proof: [u8; 32] },
    _Accepted,
    Reject(Reject),
}

fn card() -> Card {
    Card {
        cluster_id: ClusterId(7),
        node_id: 7,
        name: "stranger".into(),
        raft_addr: "127.0.0.1:1".into(),
        http_addr: "http://127.0.0.1:2".into(),
    }
}

async fn hello(version: u16) -> Vec<u8> {
    let hello = Hello {
        magic: *b"ConureDB",
        version,
        purpose: Purpose::Introduction,
        card: card(),
        nonce: 7,
    };
    let payload = Bytes::from(codec::encode(&hello).expect("it fits"));
    let mut bytes = Vec::new();
    frame::write(&mut bytes, &Frame { kind: Kind::Handshake, number: 0, payload })
        .await
        .expect("memory");
    bytes
}

async fn alone() -> Node {
    started(&[SECRET]).await
}

#[tokio::test]
async fn truncated_and_damaged_frames_are_refused_and_harm_nobody() {
    let node = alone().await;
    let bystander = Bystander::of(&node);
    bystander.is_served(5).await;
    let before = node.resident_bytes();
    let whole = hello(handshake::PROTOCOL_VERSION).await;
    let mut callers = JoinSet::new();
    for cut in 0..whole.len() {
        let (address, bytes) = (node.raft_addr(), whole[..cut].to_vec());
        callers.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            stream.write_all(&bytes).await.expect("a part");
            stream.shutdown().await.expect("an end");
            let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
            assert!(closed.is_ok(), "cut at {}: it is kept", bytes.len());
        });
    }
    for at in 0..whole.len() {
        let (address, mut bytes) = (node.raft_addr(), whole.clone());
        bytes[at] ^= 0x55;
        callers.spawn(async move {
            assert!(exchange(&address, &bytes).await.is_some(), "byte {at} damaged: it is kept");
        });
    }
    while let Some(done) = callers.join_next().await {
        done.expect("it is let go");
    }
    let grown = peak(&node).saturating_sub(before);
    assert!(grown < 32 * MIB, "they took {} MiB", grown / MIB);
    bystander.ends_unharmed().await;
}

#[tokio::test]
async fn a_hello_of_another_version_is_refused_by_number() {
    let node = alone().await;
    for version in [0, handshake::PROTOCOL_VERSION - 1, handshake::PROTOCOL_VERSION + 1, u16::MAX] {
        let said = exchange(&node.raft_addr(), &hello(version).await).await.expect("it is let go");
        let answer =
            frame::read(&mut &said[..], frame::MAX_HANDSHAKE_BYTES).await.expect("a frame");
        let Answer::Reject(reject) = codec::decode(&answer.payload).expect("an answer") else {
            panic!("version {version} was welcome");
        };
        let ours = handshake::PROTOCOL_VERSION;
        assert_eq!(reject, Reject::Version { theirs: ours, ours: version });
        assert_eq!(
            node.log_lines(&format!("it speaks protocol version {ours}, we speak {version}")).len(),
            1
        );
    }
}

/// Answers like a node of the next version: it says which it speaks to whoever begins with another.
async fn of_the_next_version() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a caller");
            let hello = frame::read(&mut stream, frame::MAX_HANDSHAKE_BYTES).await;
            assert_eq!(hello.expect("a first word").kind, Kind::Handshake);
            let ours = handshake::PROTOCOL_VERSION;
            let answer = Answer::Reject(Reject::Version { theirs: ours + 1, ours });
            let payload = Bytes::from(codec::encode(&answer).expect("it fits"));
            let refusal = Frame { kind: Kind::Handshake, number: 0, payload };
            frame::write(&mut stream, &refusal).await.expect("it is heard");
        }
    });
    address
}

#[tokio::test]
async fn whoever_has_a_node_of_the_next_version_join_is_told_what_to_do() {
    let node = alone().await;
    let address = of_the_next_version().await;
    let join = serde_json::json!({ "ID": "next", "RaftAddr": address });
    let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    let asked = http.post(format!("{}/join", node.url())).body(join.to_string());
    let reply = asked.send().await.expect("an answer");
    let (status, said) = (reply.status(), reply.text().await.expect("a reason"));
    let (ours, theirs) = (handshake::PROTOCOL_VERSION, handshake::PROTOCOL_VERSION + 1);
    let why = format!("it speaks protocol version {theirs}, we speak {ours}: run the same release");
    assert!(!status.is_success() && said.contains(&why), "{status}: {said}");
    let bystander = Bystander::of(&node);
    bystander.ends_unharmed().await;
}

/// Introduces itself with the secret, and keeps what it said.
async fn overheard(node: &Node) -> Vec<u8> {
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let stream = TcpStream::connect(node.raft_addr()).await.expect("a connection");
    let (mut from_node, mut to_node) = stream.into_split();
    let (mut from_caller, mut to_caller) = tokio::io::split(far);
    let hear = async {
        let (mut heard, mut chunk) = (Vec::new(), [0; 4096]);
        while let Ok(len @ 1..) = from_caller.read(&mut chunk).await {
            heard.extend_from_slice(&chunk[..len]);
            to_node.write_all(&chunk[..len]).await.expect("the node reads");
        }
        heard
    };
    let answer = async {
        let _ = tokio::io::copy(&mut from_node, &mut to_caller).await;
        std::future::pending::<()>().await;
    };
    let call = async move {
        let secret = Secret::new("open sesame");
        let met = handshake::call(&mut near, card(), Purpose::Introduction, &secret, 7).await;
        met.expect("the secret is right").name
    };
    let talk = async { tokio::join!(call, hear) };
    let (name, heard) = tokio::select! {
        told = talk => told,
        () = answer => unreachable!("it waits for ever"),
    };
    assert_eq!(name, node.name);
    heard
}

#[tokio::test]
async fn a_replayed_handshake_proves_nothing() {
    let node = alone().await;
    let heard = overheard(&node).await;
    assert!(node.log_lines("refused").is_empty(), "the first was good");
    for _ in 0..20 {
        assert!(exchange(&node.raft_addr(), &heard).await.is_some(), "a replay is kept");
    }
    let refusals = until("the refusals in the log", async || {
        let lines = node.log_lines("the cluster secrets differ");
        (lines.len() >= 20).then_some(lines)
    })
    .await;
    assert_eq!(refusals.len(), 20);
}

#[tokio::test]
async fn a_flood_of_strangers_keeps_neither_clients_nor_peers_out() {
    /// More than a node has places for.
    const STRANGERS: usize = 300;
    let flags =
        [SECRET, "--set=raft.election_timeout_min=800ms", "--set=raft.election_timeout_max=1600ms"];
    let leader = started(&flags).await;
    let seeds = format!("--seeds={}", leader.url());
    let flags = [&flags[..], &["--bootstrap=false", &seeds]].concat();
    let mut follower = Node::start("node2", &flags).await;
    // With a third one a majority is there while the second is away.
    let third = Node::start("node3", &flags).await;
    for node in [&follower, &third] {
        is_voter(node).await;
    }
    let bystander = Bystander::of(&leader);
    bystander.is_served(5).await;
    let before = leader.resident_bytes();
    let mut flood = JoinSet::new();
    let hello = hello(handshake::PROTOCOL_VERSION).await;
    for number in 0..STRANGERS {
        let (address, hello) = (leader.raft_addr(), hello.clone());
        flood.spawn(async move {
            loop {
                let Ok(mut stream) = TcpStream::connect(&address).await else { continue };
                // Silent, or welcome and then silent.
                if number % 2 == 0 {
                    let _ = stream.write_all(&hello).await;
                }
                let _ = stream.read_to_end(&mut Vec::new()).await;
                tokio::time::sleep(RETURN_AFTER).await;
            }
        });
    }
    until("strangers to be let go", async || {
        (!leader.log_lines("that prove no secret").is_empty()).then_some(())
    })
    .await;
    bystander.is_served(20).await;
    // It connects anew, in the middle of it, and the leader to it.
    follower.kill();
    follower.restart().await;
    is_ready(&follower).await;
    let through_follower = follower.put("/kv/flooded", "v").await;
    assert_eq!(through_follower.status, 200, "{}", through_follower.text());
    let grown = leader.resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "{STRANGERS} strangers took {} MiB", grown / MIB);
    flood.shutdown().await;
    bystander.ends_unharmed().await;
}

/// Waits until a node is one of three voters, and ready.
async fn is_voter(node: &Node) {
    is_ready(node).await;
    until("three voters", async || {
        let config = node.try_get("/raft/config").await.ok()?.text();
        (config.matches("\"voter\"").count() == 3).then_some(())
    })
    .await;
}
