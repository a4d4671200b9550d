//! How openraft's type parameters are filled, and the way from its types to ours.

use std::fmt;

use bytes::Bytes;
use openraft::impls::leader_id_std;
use openraft_rt::deterministic_rng::DeterministicRng;
use serde::{Deserialize, Serialize};

use crate::actors::messages::Member;
use crate::codec::{self, CodecError};
use crate::types::{Command, LogId, NodeId, Outcome};

/// What the replicated membership says of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerNode {
    pub name: String,
    pub raft_addr: String,
    pub http_addr: String,
    /// A learner that shall be made a voter when it has caught up.
    pub wants_vote: bool,
}

/// The commands of an entry, one behind the other, encoded once, where they are proposed: the log, the peers and the
/// state machine get these bytes. openraft never looks inside; whoever applies them opens them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed(Bytes);

impl Sealed {
    /// Takes commands that [`codec::encode_behind`] put one behind the other.
    pub fn new(commands: Vec<u8>) -> Sealed {
        Sealed(commands.into())
    }

    pub fn open(&self) -> Result<Vec<Command>, CodecError> {
        codec::decode_all(&self.0)
    }

    pub fn len_bytes(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commands of {} bytes", self.0.len())
    }
}

/// What a command takes about the client's bytes, when it is encoded: ids, times, lengths, a condition.
pub const ENVELOPE_BYTES: usize = 96;

/// What became of the commands of an entry, in their order.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcomes(pub Vec<Outcome>);

openraft::declare_raft_types!(
    /// Sealed commands in, outcomes out; standard Raft leader ids (one leader a term), so that a log id is
    /// a term and an index. The runtime's chance is seeded by whoever starts a node.
    pub TypeConfig:
        D = Sealed,
        R = Outcomes,
        NodeId = u64,
        Node = PeerNode,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = DeterministicRng<openraft::TokioRuntime>,
);

pub type Raft = openraft::Raft<TypeConfig, super::state_machine::StateMachine>;
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
pub type RaftLogId = openraft::alias::LogIdOf<TypeConfig>;
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub type Metrics = openraft::RaftMetrics<TypeConfig>;

/// Our log id of theirs.
pub fn log_id(id: &RaftLogId) -> LogId {
    LogId { term: *id.leader_id, index: id.index }
}

/// Their log id of ours.
pub fn raft_log_id(id: LogId) -> RaftLogId {
    RaftLogId { leader_id: id.term.into(), index: id.index }
}

/// A member as the outside sees it.
pub fn member(node_id: NodeId, node: &PeerNode, voter: bool) -> Member {
    Member {
        node_id,
        name: node.name.clone(),
        raft_addr: node.raft_addr.clone(),
        http_addr: node.http_addr.clone(),
        voter,
    }
}

/// All members of a membership, sorted by name. Between two sets of voters, both have to agree on everything: who is
/// in one of them only is no voter yet, or any more. Whoever was told otherwise would take a cluster of three for one
/// that survives the loss of any node, when one of the two that it was before is still needed.
pub fn members(membership: &StoredMembership) -> Vec<Member> {
    let sets = membership.get_joint_config();
    let votes = |id: &NodeId| sets.iter().all(|set| set.contains(id));
    let mut members: Vec<Member> =
        membership.nodes().map(|(id, node)| member(*id, node, votes(id))).collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    members
}

/// Whether one voter is all there are. `voter_ids` would make a set of them, and every write asks this.
pub fn has_one_voter(membership: &StoredMembership) -> bool {
    matches!(membership.get_joint_config().as_slice(), [voters] if voters.len() == 1)
}

/// Whether the voters have a quorum without one of the members.
pub fn has_quorum_without(members: &[Member], one: NodeId) -> bool {
    let voters = members.iter().filter(|member| member.voter).count();
    let others = members.iter().filter(|member| member.voter && member.node_id != one).count();
    others > voters / 2
}

/// Bytes that entries take, about.
pub fn expected_bytes<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> usize {
    let len_bytes = |entry: &Entry| match &entry.payload {
        openraft::EntryPayload::Normal(sealed) => sealed.len_bytes(),
        _ => 0,
    };
    entries.into_iter().map(|entry| len_bytes(entry) + ENVELOPE_BYTES).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn a_voter_is_one_in_the_old_set_and_in_the_new() {
        let voters = |sets: Vec<BTreeSet<NodeId>>| -> Vec<bool> {
            let node = |id: NodeId| PeerNode { name: format!("node{id}"), ..PeerNode::default() };
            let nodes: BTreeMap<NodeId, PeerNode> = (1..=3).map(|id| (id, node(id))).collect();
            let membership = openraft::Membership::new(sets, nodes).expect("sets of known nodes");
            let members = members(&StoredMembership::new(None, membership));
            members.iter().map(|member| member.voter).collect()
        };
        let (two, three) = (BTreeSet::from([1, 2]), BTreeSet::from([1, 2, 3]));
        assert_eq!(voters(vec![three.clone()]), [true, true, true]);
        assert_eq!(voters(vec![two.clone(), three.clone()]), [true, true, false]);
        assert_eq!(voters(vec![three, two]), [true, true, false]);
    }
}
