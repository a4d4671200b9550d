//! What nodes ask each other: the payloads of the frames.
//!
//! Raft's own RPCs keep openraft's types. The rest are requests that a node passes on to the leader, and
//! the introduction of a node to a cluster. Every request fits a frame; a snapshot travels in pieces.
//! Adding a variant is a new protocol version: bincode numbers variants by position.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

use super::types::{ENVELOPE_BYTES, SnapshotMeta, TypeConfig, Vote, expected_bytes};
use crate::actors::messages::{Join, Remove, RequestError, Trace, Transfer};
use crate::types::{ClusterId, NodeId, Operation, Outcome, RequestId};

/// A question to a peer.
#[derive(Serialize, Deserialize)]
pub enum Request {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<TypeConfig>),
    PreVote(VoteRequest<TypeConfig>),
    TransferLeader(TransferLeaderRequest<TypeConfig>),
    /// A snapshot comes in pieces: begin, pieces in order, end.
    SnapshotBegin,
    SnapshotPiece {
        transfer: u64,
        sequence: u64,
        piece: Bytes,
    },
    SnapshotEnd {
        transfer: u64,
        vote: Vote,
        meta: SnapshotMeta,
    },
    /// A write passed on to the leader. Never passed on twice: a node that does not lead refuses it.
    Write {
        operation: Operation,
        request_id: Option<RequestId>,
        timeout_ms: u64,
        trace: Trace,
    },
    /// Asks the leader up to which log index a linearizable read must wait.
    ReadIndex {
        timeout_ms: u64,
    },
    Join(Join),
    Remove(Remove),
    Transfer(Transfer),
    /// Invites a node into this cluster. It comes if it knows no cluster, or only its own empty one, or was
    /// removed from this one; the last two give up their former life for it.
    Invite {
        cluster_id: ClusterId,
        /// The incarnation whose data are damaged: it has no vote (any more), so that it may give them up.
        replaces: Option<NodeId>,
    },
    /// Asks whether the node `node_id` is a member, of whoever knows.
    Standing {
        node_id: NodeId,
    },
    /// Tells a node that it was removed, so that it stops serving.
    Removed {
        node_id: NodeId,
    },
    /// Tells a node that it lacks entries that it has acknowledged, so that it takes part no more.
    WentBack {
        node_id: NodeId,
        acknowledged: u64,
    },
}

/// The answer to the [`Request`] of the same name.
#[derive(Serialize, Deserialize)]
pub enum Response {
    Append(AppendEntriesResponse<TypeConfig>),
    Vote(VoteResponse<TypeConfig>),
    TransferLeader(TransferLeaderResponse<TypeConfig>),
    SnapshotBegun {
        transfer: u64,
    },
    SnapshotPieceTaken,
    SnapshotEnd(SnapshotResponse<TypeConfig>),
    Written(Outcome),
    ReadIndex {
        index: u64,
    },
    Done,
    /// The invited node's incarnation from now on.
    Invited {
        node_id: NodeId,
    },
    Standing(MemberStanding),
    /// The request was not carried out.
    Failed(RequestError),
}

/// What a node knows of another's membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberStanding {
    Member,
    /// The answering node leads, confirmed by a quorum, and the committed membership lacks the node.
    NotMember,
    /// The answering node does not lead; it cannot tell.
    Unknown,
}

impl Request {
    /// Bytes that it takes, about.
    pub fn expected_bytes(&self) -> usize {
        ENVELOPE_BYTES
            + match self {
                Request::Append(rpc) => expected_bytes(&rpc.entries),
                Request::SnapshotPiece { piece, .. } => piece.len(),
                Request::Write { operation, .. } => operation.payload_bytes(),
                _ => 0,
            }
    }

    /// Whether a node outside the cluster may ask this: only what an introduction needs.
    pub fn open_to_strangers(&self) -> bool {
        matches!(self, Request::Invite { .. })
    }
}
