//! All that crosses an actor boundary, and all that the HTTP floor knows of the actors.
//!
//! A message is what is asked, its `#[rtype]` what happened. Requests from outside go through a
//! [`Gateway`], a bundle of recipients that hides which actor answers. Every request carries its own
//! `timeout`; the actor answers within it, and the answer of a write that ran out of time says
//! whether the write was surely not applied ([`RequestError::applied`]).

mod backup;
pub mod inside;
mod view;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use serde::{Deserialize, Serialize};

pub use self::backup::{Backup, Chunks, TakeBackup};
pub use self::view::{ChangeKind, History, LeaseKeys, Leases, NotKept, Scan, Version, View};
pub use self::watch::{Batch, Event, Feed, Watch, Watching};
use crate::types::{AskedBy, ClusterId, NodeId, Operation, Outcome, RequestId, Revision};

/// Where requests from outside enter the node. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Gateway {
    pub write: Recipient<Write>,
    pub read: Recipient<Read>,
    pub status: Recipient<GetStatus>,
    pub members: Recipient<GetMembers>,
    pub join: Recipient<Join>,
    pub remove: Recipient<Remove>,
    pub transfer: Recipient<Transfer>,
    pub watch: Recipient<Watch>,
    pub backup: Recipient<TakeBackup>,
    pub compact: Recipient<Compact>,
}

/// Why a request from outside was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum RequestError {
    /// No leader is known, or it cannot be reached; nothing was applied.
    #[error("no leader is known: {reason}")]
    NoLeader { reason: String },
    /// This node may not serve yet, or no more (starting, removed, closing); nothing was applied.
    #[error("{reason}")]
    NotReady { reason: String },
    /// Another node leads, and the request asked not to be forwarded; nothing was applied.
    #[error("node {leader_name} leads, at {leader_http}")]
    NotLeader { leader_name: String, leader_raft: String, leader_http: String },
    /// The time given ran out before the request had an effect; nothing was applied.
    #[error("no answer within the time given: {waiting_for}")]
    TimedOut { waiting_for: String },
    /// The write was proposed and its fate is not known: it may be applied now, later or never.
    #[error("the write was proposed, and its outcome is not known: {reason}")]
    OutcomeUnknown { reason: String },
    /// A stale read asked for a bound on its age that this node cannot keep.
    #[error(
        "this node last heard from a leader {age_ms} ms ago, more than the {max_ms} ms allowed"
    )]
    TooStale { age_ms: u64, max_ms: u64 },
    /// The disk is full; reads and deletes go on.
    #[error("the disk is full: {detail}")]
    StorageFull { detail: String },
    /// An id or address that another node holds, or a node that holds data of its own.
    #[error("{detail}")]
    NodeConflict { detail: String },
    /// The cluster has no member of this name.
    #[error("no member is named {name}; the members are {members}")]
    UnknownNode { name: String, members: String },
    /// The request was understood and cannot be done, whoever asks (a name that is no name, the
    /// removal of the last voter).
    #[error("{detail}")]
    Refused { detail: String },
    /// The past is kept from `oldest` on only, in a store that is at `revision`.
    #[error("changes are kept from revision {oldest} on; the store is at revision {revision}")]
    RevisionTrimmed { oldest: Revision, revision: Revision },
    /// More waited for a watcher than may.
    #[error("this watcher takes events more slowly than they come, and too many waited for it")]
    SlowWatcher,
    /// A read of the local state failed (a damaged page); says which file and offset.
    #[error("{detail}")]
    Storage { detail: String },
}

/// Whether a request that failed may have had an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    No,
    Unknown,
}

impl RequestError {
    /// What is known of the effect of the failed request.
    pub fn applied(&self) -> Applied {
        match self {
            RequestError::OutcomeUnknown { .. } => Applied::Unknown,
            _ => Applied::No,
        }
    }
}

/// The id of the request from outside that something is done for: for logs, on every node that takes part.
pub type Trace = Option<Arc<str>>;

/// How a request is called in the log.
pub fn name_of(trace: &Trace) -> &str {
    trace.as_deref().unwrap_or("none")
}

/// A write from outside. The leader stamps it with its clock and proposes it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Outcome, RequestError>")]
pub struct Write {
    pub operation: Operation,
    /// Applied once for each (client, sequence); the first outcome is returned again.
    pub request_id: Option<RequestId>,
    /// From here to the answer, forwarding included.
    pub timeout: Duration,
    /// Whether a node that does not lead passes it on; if not, it answers [`RequestError::NotLeader`].
    pub forward: bool,
    pub trace: Trace,
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// Sees every write acknowledged before the read began (a read index, Raft dissertation 6.4).
    Linearizable,
    /// The same without asking anybody, where this node leads and its lease holds, by its clock (`raft::read`); else as
    /// [`Consistency::Linearizable`].
    Lease,
    /// This node's own state, at most `max_stale` after it last heard from a leader, if given.
    Stale { max_stale: Option<Duration> },
}

/// Asks for a state to read from.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<ReadView, RequestError>")]
pub struct Read {
    pub consistency: Consistency,
    pub timeout: Duration,
    /// As in [`Write::forward`]: whether a node that does not lead asks the leader for a read index.
    pub forward: bool,
}

/// The answer to [`Read`]: a pinned state that stays as it is while it is held.
#[derive(Clone)]
pub struct ReadView {
    pub view: Arc<dyn View>,
    /// Only for stale reads: how long ago this node last heard from a leader.
    pub stale_for: Option<Duration>,
    /// This node's wall clock, to tell how long a record has still to live.
    pub now_ms: u64,
}

/// What a node does in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Leader,
    Follower,
    Candidate,
    Learner,
}

/// Asks for what this node knows of itself and its cluster. Answered at once, from memory.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Status")]
pub struct GetStatus;

/// The answer to [`GetStatus`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// This node's name, as configured.
    pub node_name: String,
    pub node_id: NodeId,
    pub cluster_id: ClusterId,
    pub role: Role,
    pub term: u64,
    /// The leader as far as this node knows.
    pub leader: Option<Member>,
    pub commit_index: u64,
    pub applied_index: u64,
    pub last_log_index: u64,
    pub last_log_term: u64,
    pub snapshot_index: u64,
    pub snapshot_term: u64,
    /// The first entry that the log still has, or will have; a follower that needs an older one gets a snapshot.
    pub first_log_index: u64,
    pub revision: Revision,
    /// Since this node last heard from a leader, or was acknowledged by a quorum as leader.
    pub last_contact: Option<Duration>,
    /// On the leader: replication to each other member, by name.
    pub peers: BTreeMap<String, PeerProgress>,
    pub member_count: usize,
    /// Why `/readyz` would refuse; empty when ready.
    pub not_ready: Vec<String>,
    pub db_file_bytes: u64,
    pub db_live_bytes: u64,
    pub log_bytes: u64,
    /// Whether the file of the store is being compacted, and how often that ended since the node started.
    pub compacting: bool,
    pub compactions: u64,
    /// The oldest revision that can be read.
    pub oldest_revision: Revision,
}

/// How far a member's log is known to match the leader's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerProgress {
    pub match_index: u64,
    /// Entries the member lacks.
    pub lag: u64,
}

/// A member of the cluster as the replicated membership holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub node_id: NodeId,
    pub name: String,
    /// `host:port` for peers; resolved anew on every connection.
    pub raft_addr: String,
    /// `http://host:port` for clients; empty when unknown.
    pub http_addr: String,
    pub voter: bool,
}

/// Asks for the membership this node holds.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Members")]
pub struct GetMembers;

/// The answer to [`GetMembers`], sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    pub leader: Option<Member>,
    pub members: Vec<Member>,
}

/// Adds a node as a learner and, when it has caught up, makes it a voter. Idempotent.
///
/// The answer comes when the node is what was asked for, or when time is up; the promotion of a
/// node that needs longer goes on by itself.
#[derive(Debug, Clone, Message, Serialize, Deserialize)]
#[rtype(result = "Result<(), RequestError>")]
pub struct Join {
    pub name: String,
    pub raft_addr: String,
    /// Empty: the node itself is asked.
    pub http_addr: String,
    pub voter: bool,
    pub asked_by: AskedBy,
    pub timeout: Duration,
    pub trace: Trace,
}

/// Takes a member out of the cluster. The leader may remove itself and hands over first.
#[derive(Debug, Clone, Message, Serialize, Deserialize)]
#[rtype(result = "Result<(), RequestError>")]
pub struct Remove {
    pub name: String,
    pub timeout: Duration,
    pub trace: Trace,
}

/// Begins to compact the file of this node's store, unless that is under way. The answer does not wait for the end.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Compacting, RequestError>")]
pub struct Compact {
    pub trace: Trace,
}

/// The answer to [`Compact`]: the file as it was then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacting {
    /// Whether it was begun by this; else it was under way.
    pub begun: bool,
    pub file_bytes: u64,
    pub live_bytes: u64,
    pub free_bytes: u64,
}

/// Moves leadership to a voter.
#[derive(Debug, Clone, Message, Serialize, Deserialize)]
#[rtype(result = "Result<(), RequestError>")]
pub struct Transfer {
    pub name: String,
    pub timeout: Duration,
    pub trace: Trace,
}
