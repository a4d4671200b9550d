//! The links to other nodes, by node and by what they are used for.
//!
//! Raft's RPCs, forwarded requests and snapshots each have a connection of their own, so that a snapshot or a
//! burst of large writes does not delay a heartbeat.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::rpc::{Request, Response};
use super::types::PeerNode;
use crate::actors::messages::RequestError;
use crate::actors::peer::handshake::Purpose;
use crate::actors::peer::link::{Dialer, Link, LinkError};
use crate::codec;
use crate::types::NodeId;

/// What a link is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    Raft,
    Forward,
    Snapshot,
}

/// All links of a node. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    dialer: Dialer,
    links: Arc<Mutex<BTreeMap<(NodeId, Lane), Link>>>,
}

/// Why a peer gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("cannot encode the request or decode the answer: {0}")]
    Codec(#[from] codec::CodecError),
    #[error("{0}")]
    Failed(RequestError),
    #[error("the answer does not belong to the question")]
    Mismatch,
}

impl PeerError {
    /// Whether the peer surely did not act on the request.
    pub fn surely_unsent(&self) -> bool {
        matches!(self, PeerError::Link(LinkError::Unreachable { .. }))
    }
}

impl Peers {
    pub fn new(dialer: Dialer) -> Peers {
        Peers { dialer, links: Arc::default() }
    }

    /// The link to a member. A changed address makes a new link.
    pub fn link(&self, node_id: NodeId, node: &PeerNode, lane: Lane) -> Link {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        match links.get(&(node_id, lane)) {
            Some(link) if link.address() == node.raft_addr => link.clone(),
            _ => {
                let purpose = Purpose::Member { expect: node_id };
                let link = Link::open(self.dialer.clone(), &node.raft_addr, purpose);
                links.insert((node_id, lane), link.clone());
                link
            }
        }
    }

    /// Forgets the links to nodes that are no members any more.
    pub fn retain(&self, keep: impl Fn(NodeId) -> bool) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|(node_id, _), _| keep(*node_id));
    }

    /// Asks a member.
    pub async fn ask(
        &self,
        node_id: NodeId,
        node: &PeerNode,
        lane: Lane,
        request: &Request,
        timeout: Duration,
    ) -> Result<Response, PeerError> {
        ask(&self.link(node_id, node, lane), request, timeout).await
    }

    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }
}

/// Asks over a link; an answer that says "failed" becomes an error.
pub async fn ask(link: &Link, request: &Request, timeout: Duration) -> Result<Response, PeerError> {
    let payload = Bytes::from(codec::encode(request)?);
    let answer = link.call(payload, Instant::now() + timeout).await?;
    match codec::decode(&answer)? {
        Response::Failed(error) => Err(PeerError::Failed(error)),
        response => Ok(response),
    }
}
