//! The first words on a connection: who is calling, who answers, and do both know the secret.
//!
//! ```text
//! caller                                   answerer
//!   Hello { version, purpose, card, nonce } ──▶   version known? right node? right cluster?
//!   ◀── Welcome { version, card, nonce, proof }        else Reject { reason }, and close
//!   Proof { proof } ──▶                                 proof right?
//!   ◀── Accepted                                        else Reject { reason }, and close
//! ```
//!
//! A proof is HMAC-SHA-256 (RFC 2104) under the cluster secret over a label that names the side and both
//! first messages, nonces included: it is worth nothing on another connection or for the other side.
//! Without a configured secret the key is empty, so that "no secret" only matches "no secret".
//!
//! [`Purpose::Member`] is for traffic inside one cluster: both ends hold the same cluster id, and the answerer
//! is the very incarnation the caller wants (an address may have been given to another node).
//! [`Purpose::Introduction`] is how a node outside is asked who it is and invited in.

use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::Sha256;
use tokio::time::timeout;

use super::frame::{self, Frame, FrameError, Kind};
use super::net::Stream;
use crate::codec::{self, CodecError};
use crate::types::{ClusterId, NodeId};

/// Version of the frames and of everything in them. A node that speaks another is refused by name.
pub const PROTOCOL_VERSION: u16 = 6;

/// Begins every Hello, so that a stranger is recognized as one.
const MAGIC: [u8; 8] = *b"ConureDB";

/// How long a handshake may take, network and all; bounds what a silent stranger can hold.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    pub cluster_id: ClusterId,
    /// The incarnation: see [`NodeId`].
    pub node_id: NodeId,
    pub name: String,
    pub raft_addr: String,
    pub http_addr: String,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Traffic between members; only the node `expect` may answer.
    Member { expect: NodeId },
    /// Asking a node who it is, and inviting it.
    Introduction,
}

/// The cluster secret. Never printed.
#[derive(Clone, Default)]
pub struct Secret(Bytes);

impl Secret {
    pub fn new(secret: impl Into<Bytes>) -> Secret {
        Secret(secret.into())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret(none)" } else { "Secret(***)" })
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Hello {
    magic: [u8; 8],
    version: u16,
    purpose: Purpose,
    card: Card,
    nonce: u128,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Welcome {
    version: u16,
    card: Card,
    nonce: u128,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Welcome { welcome: Welcome, proof: [u8; 32] },
    Accepted,
    Reject(Reject),
}

/// Why the answerer turned the caller away; told to the caller before the connection closes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Reject {
    #[error("it speaks protocol version {theirs}, we speak {ours}: run the same release on both")]
    Version { theirs: u16, ours: u16 },
    #[error("it belongs to cluster {theirs}, not to {ours}")]
    WrongCluster { theirs: ClusterId, ours: ClusterId },
    #[error("node {name} answers at this address as incarnation {found:016x}, not {wanted:016x}")]
    WrongNode { name: String, found: NodeId, wanted: NodeId },
    #[error("the cluster secrets differ: set the same cluster_secret on all nodes")]
    WrongSecret,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error(transparent)]
    Rejected(#[from] Reject),
    #[error("it did not begin like a ConureDB node")]
    NotAPeer,
    #[error("it left before it proved the cluster secret: the secrets differ, or it was stopped")]
    LeftBeforeProof,
    #[error("no handshake within {HANDSHAKE_TIMEOUT:?}")]
    TimedOut,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a handshake message cannot be read: {0}")]
    Codec(#[from] CodecError),
}

impl From<std::io::Error> for HandshakeError {
    fn from(error: std::io::Error) -> HandshakeError {
        HandshakeError::Frame(FrameError::Io(error))
    }
}

/// One side's half of the proof.
fn mac(
    secret: &Secret,
    side: &[u8],
    hello: &Hello,
    welcome: &Welcome,
) -> Result<Hmac<Sha256>, CodecError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("HMAC takes keys of any length");
    mac.update(side);
    mac.update(&codec::encode(&(hello, welcome))?);
    Ok(mac)
}

const CALLER: &[u8] = b"conuredb caller";
const ANSWERER: &[u8] = b"conuredb answerer";

async fn say(stream: &mut dyn Stream, message: &impl Serialize) -> Result<(), HandshakeError> {
    let payload = Bytes::from(codec::encode(message)?);
    let mut stream = stream;
    Ok(frame::write(&mut stream, &Frame { kind: Kind::Handshake, number: 0, payload }).await?)
}

async fn hear<T: DeserializeOwned>(stream: &mut dyn Stream) -> Result<T, HandshakeError> {
    let mut stream = stream;
    let frame = frame::read(&mut stream, frame::MAX_HANDSHAKE_BYTES).await?;
    match frame.kind {
        Kind::Handshake => Ok(codec::decode(&frame.payload)?),
        Kind::Request | Kind::Response => Err(HandshakeError::NotAPeer),
    }
}

/// The caller's side. Returns who answered, proven to know the secret.
pub async fn call(
    stream: &mut dyn Stream,
    card: Card,
    purpose: Purpose,
    secret: &Secret,
    nonce: u128,
) -> Result<Card, HandshakeError> {
    let hello = Hello { magic: MAGIC, version: PROTOCOL_VERSION, purpose, card, nonce };
    let exchange = async {
        say(stream, &hello).await?;
        let (welcome, proof) = match hear(stream).await? {
            Answer::Welcome { welcome, proof } => (welcome, proof),
            Answer::Reject(reject) => return Err(reject.into()),
            Answer::Accepted => return Err(HandshakeError::NotAPeer),
        };
        if mac(secret, ANSWERER, &hello, &welcome)?.verify_slice(&proof).is_err() {
            return Err(Reject::WrongSecret.into());
        }
        let proof: [u8; 32] = mac(secret, CALLER, &hello, &welcome)?.finalize().into_bytes().into();
        say(stream, &proof).await?;
        match hear(stream).await? {
            Answer::Accepted => Ok(welcome.card),
            Answer::Reject(reject) => Err(reject.into()),
            Answer::Welcome { .. } => Err(HandshakeError::NotAPeer),
        }
    };
    timeout(HANDSHAKE_TIMEOUT, exchange).await.map_err(|_| HandshakeError::TimedOut)?
}

/// The answerer's side. Returns who called and what for, proven to know the secret.
pub async fn answer(
    stream: &mut dyn Stream,
    card: Card,
    secret: &Secret,
    nonce: u128,
) -> Result<(Card, Purpose), HandshakeError> {
    let exchange = async {
        let hello: Hello = hear(stream).await?;
        if hello.magic != MAGIC {
            return Err(HandshakeError::NotAPeer);
        }
        if let Err(reject) = admit(&hello, &card) {
            say(stream, &Answer::Reject(reject.clone())).await?;
            return Err(reject.into());
        }
        let welcome = Welcome { version: PROTOCOL_VERSION, card, nonce };
        let proof = mac(secret, ANSWERER, &hello, &welcome)?.finalize().into_bytes().into();
        say(stream, &Answer::Welcome { welcome: welcome.clone(), proof }).await?;
        let proof: [u8; 32] = match hear(stream).await {
            Err(HandshakeError::Frame(FrameError::Closed)) => {
                return Err(HandshakeError::LeftBeforeProof);
            }
            heard => heard?,
        };
        if mac(secret, CALLER, &hello, &welcome)?.verify_slice(&proof).is_err() {
            say(stream, &Answer::Reject(Reject::WrongSecret)).await?;
            return Err(Reject::WrongSecret.into());
        }
        say(stream, &Answer::Accepted).await?;
        Ok((hello.card, hello.purpose))
    };
    timeout(HANDSHAKE_TIMEOUT, exchange).await.map_err(|_| HandshakeError::TimedOut)?
}

/// What can be judged before the proofs.
fn admit(hello: &Hello, own: &Card) -> Result<(), Reject> {
    if hello.version != PROTOCOL_VERSION {
        return Err(Reject::Version { theirs: PROTOCOL_VERSION, ours: hello.version });
    }
    let Purpose::Member { expect } = hello.purpose else { return Ok(()) };
    if expect != own.node_id {
        return Err(Reject::WrongNode {
            name: own.name.clone(),
            found: own.node_id,
            wanted: expect,
        });
    }
    if !own.cluster_id.is_some() || hello.card.cluster_id != own.cluster_id {
        return Err(Reject::WrongCluster { theirs: own.cluster_id, ours: hello.card.cluster_id });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    fn card(cluster: u128, node_id: NodeId) -> Card {
        Card {
            cluster_id: ClusterId(cluster),
            node_id,
            name: format!("node{node_id}"),
            raft_addr: "a:1".into(),
            http_addr: "http://a:2".into(),
        }
    }

    async fn meet(
        caller: Card,
        purpose: Purpose,
        answerer: Card,
        secrets: (&'static str, &'static str),
    ) -> (Result<Card, HandshakeError>, Result<(Card, Purpose), HandshakeError>) {
        let (mut a, mut b) = tokio::io::duplex(1024);
        let (ours, theirs) = (Secret::new(secrets.0), Secret::new(secrets.1));
        tokio::join!(async move { call(&mut a, caller, purpose, &ours, 1).await }, async move {
            answer(&mut b, answerer, &theirs, 2).await
        },)
    }

    #[tokio::test]
    async fn members_of_one_cluster_learn_each_others_cards() {
        let purpose = Purpose::Member { expect: 2 };
        let (called, answered) = meet(card(9, 1), purpose, card(9, 2), ("s", "s")).await;
        assert_eq!(called.unwrap(), card(9, 2));
        assert_eq!(answered.unwrap(), (card(9, 1), purpose));
    }

    #[tokio::test]
    async fn a_wrong_cluster_node_or_secret_is_refused_by_name_on_both_sides() {
        let cases = [
            (card(8, 1), Purpose::Member { expect: 2 }, ("s", "s"), "belongs to cluster"),
            (card(0, 1), Purpose::Member { expect: 2 }, ("s", "s"), "belongs to cluster"),
            (card(9, 1), Purpose::Member { expect: 3 }, ("s", "s"), "incarnation"),
            (card(9, 1), Purpose::Member { expect: 2 }, ("s", "t"), "secrets differ"),
            (card(9, 1), Purpose::Introduction, ("", "t"), "secrets differ"),
        ];
        for (caller, purpose, secrets, reason) in cases {
            let (called, answered) = meet(caller, purpose, card(9, 2), secrets).await;
            assert!(called.unwrap_err().to_string().contains(reason), "{reason}");
            assert!(answered.is_err(), "{reason}");
        }
    }

    #[tokio::test]
    async fn strangers_may_introduce_themselves_across_clusters() {
        let (called, answered) =
            meet(card(8, 1), Purpose::Introduction, card(9, 2), ("s", "s")).await;
        assert!(called.is_ok() && answered.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn garbage_and_silence_end_within_the_time_limit() {
        for garbage in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], &[0xff; 64], b""] {
            let (mut a, mut b) = tokio::io::duplex(1024);
            a.write_all(garbage).await.unwrap();
            let ended = answer(&mut b, card(9, 2), &Secret::default(), 2).await;
            assert!(ended.is_err());
        }
    }
}
