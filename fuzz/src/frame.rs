//! What comes through a connection between nodes: from a stranger, and from a peer.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use conuredb::actors::peer::frame::{self, Frame, Kind};
use conuredb::actors::peer::handshake::{self, Card, Purpose, Secret};
use conuredb::actors::raft::rpc::{Request, Response};
use conuredb::codec;
use conuredb::types::ClusterId;
use tokio::io::AsyncWriteExt;

/// Room of the simulated socket: no answer of a handshake waits for a reader.
const PIPE_BYTES: usize = 64 * 1024;

fn card() -> Card {
    Card {
        cluster_id: ClusterId(9),
        node_id: 2,
        name: "n2".into(),
        raft_addr: "n2:7001".into(),
        http_addr: "http://n2:8081".into(),
    }
}

/// Reads the bytes as frames, as the payload of frames, and as the other side of a handshake.
pub fn decode(input: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(async {
        let mut reader = input;
        while let Ok(frame) = frame::read(&mut reader, frame::MAX_PAYLOAD_BYTES).await {
            messages(&frame.payload);
        }
        messages(input);
        through_a_frame(input).await;
        handshakes(input).await;
    });
}

/// Payloads of peers.
fn messages(payload: &[u8]) {
    if let Ok(request) = codec::decode::<Request>(payload) {
        codec::encode(&request).expect("what was decoded fits");
    }
    if let Ok(response) = codec::decode::<Response>(payload) {
        codec::encode(&response).expect("what was decoded fits");
    }
}

async fn through_a_frame(input: &[u8]) {
    let kinds = [Kind::Handshake, Kind::Request, Kind::Response];
    let kind = kinds[input.len() % kinds.len()];
    let sent = Frame { kind, number: input.len() as u64, payload: Bytes::copy_from_slice(input) };
    let mut bytes = BytesMut::new();
    frame::put(&mut bytes, &sent).expect("it is short");
    let read = frame::read(&mut &bytes[..], frame::MAX_PAYLOAD_BYTES).await;
    assert_eq!(read.expect("it was written by this program"), sent);
}

/// A stranger that says the input, bare and then as the payload of a handshake's frame; to either side.
async fn handshakes(input: &[u8]) {
    let mut framed = BytesMut::new();
    let payload = Bytes::copy_from_slice(input);
    let frame = Frame { kind: Kind::Handshake, number: 0, payload };
    frame::put(&mut framed, &frame).expect("it is short");
    for said in [input, &framed[..]] {
        let (mut ours, mut theirs) = tokio::io::duplex(PIPE_BYTES.max(said.len()));
        theirs.write_all(said).await.expect("there is room");
        theirs.shutdown().await.expect("a pipe");
        let secret = Secret::new("a secret that the input does not know");
        let answered = handshake::answer(&mut ours, card(), &secret, 1).await;
        assert!(answered.is_err(), "a stranger was let in");

        let (mut ours, mut theirs) = tokio::io::duplex(PIPE_BYTES.max(said.len()));
        theirs.write_all(said).await.expect("there is room");
        theirs.shutdown().await.expect("a pipe");
        let purpose = Purpose::Member { expect: 2 };
        let called = handshake::call(&mut ours, card(), purpose, &secret, 1);
        let called = tokio::time::timeout(Duration::from_secs(60), called).await;
        assert!(called.is_ok_and(|called| called.is_err()), "a stranger passed for a peer");
    }
}
