//! The links to other nodes, by node and by what they are used for.
//!
//! Heartbeats, log entries, forwarded requests and snapshots each have a connection of their own, so that
//! neither a snapshot nor a large entry delays a heartbeat.
//!
//! Addresses come from the membership as it is now ([`Peers::remember`]), and from members that moved and call from
//! elsewhere (`addresses.rs`): openraft keeps a client for as long as a node is a member, also when its address changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::addresses::Addresses;
use super::rpc::{Request, Response};
use super::types::PeerNode;
use crate::actors::messages::RequestError;
use crate::actors::peer::handshake::{Card, Purpose};
use crate::actors::peer::link::{Dialer, Link, LinkError};
use crate::codec;
use crate::types::NodeId;

/// What a link is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    Heartbeat,
    Raft,
    Forward,
    Snapshot,
}

impl Lane {
    /// Its name in the metrics.
    fn name(self) -> &'static str {
        match self {
            Lane::Heartbeat => "heartbeat",
            Lane::Raft => "raft",
            Lane::Forward => "forward",
            Lane::Snapshot => "snapshot",
        }
    }
}

/// All links of a node. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    dialer: Dialer,
    links: Arc<Mutex<BTreeMap<(NodeId, Lane), Link>>>,
    addresses: Arc<Mutex<Addresses>>,
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
        Peers { dialer, links: Arc::default(), addresses: Arc::default() }
    }

    /// The link to a member. A changed address makes a new link.
    pub fn link(&self, node_id: NodeId, node: &PeerNode, lane: Lane) -> Link {
        let known = self.addresses().of(node_id).map(str::to_owned);
        let address = known.unwrap_or_else(|| node.raft_addr.clone());
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        match links.get(&(node_id, lane)) {
            Some(link) if link.address() == address => link.clone(),
            _ => {
                let purpose = Purpose::Member { expect: node_id };
                let link = Link::open(self.dialer.clone(), &address, purpose);
                links.insert((node_id, lane), link.clone());
                link
            }
        }
    }

    /// Takes note of where the members are now, and forgets the links to nodes that are none.
    pub fn remember(&self, members: BTreeMap<NodeId, String>) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|(node_id, _), _| members.contains_key(node_id));
        self.addresses().remember(members);
    }

    /// Takes note of where a member that called says it is.
    pub fn meet(&self, card: &Card) {
        self.addresses().meet(card.node_id, &card.raft_addr);
    }

    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all links and addresses: this node begins a new life.
    pub fn forget(&self) {
        self.remember(BTreeMap::new());
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
        let asked = Instant::now();
        let link = self.link(node_id, node, lane);
        let answer = ask(&link, request, timeout).await;
        if answer.as_ref().is_err_and(PeerError::surely_unsent) {
            let address = link.address();
            if let Some(met) = self.addresses().miss(node_id, address) {
                log::info!("{} is not at {address}, and looked for at {met}", node.name);
            }
        }
        let measured = &self.dialer.metrics.peers;
        match &answer {
            Err(PeerError::Link(_)) => measured.count_failure(lane.name()),
            Ok(_) if lane == Lane::Heartbeat => {
                measured.observe_round_trip(&node.name, asked.elapsed());
            }
            _ => {}
        }
        answer
    }

    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }
}

/// Asks over a link; an answer that says "failed" becomes an error.
pub async fn ask(link: &Link, request: &Request, timeout: Duration) -> Result<Response, PeerError> {
    let payload = Bytes::from(codec::encode_expecting(request, request.expected_bytes())?);
    let answer = link.call(payload, Instant::now() + timeout).await?;
    match codec::decode(&answer)? {
        Response::Failed(error) => Err(PeerError::Failed(error)),
        response => Ok(response),
    }
}
