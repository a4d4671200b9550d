//! The membership with which a restored store begins.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::types::PeerNode;
use crate::codec::{self, CodecError};
use crate::types::NodeId;

/// The membership entry that has one node, a voter, as the store keeps it. Its addresses are not known before the
/// node runs: it announces them as it does when they change.
pub fn membership_of_one(node_id: NodeId, name: &str) -> Result<Bytes, CodecError> {
    let node = PeerNode { name: name.to_owned(), wants_vote: true, ..PeerNode::default() };
    let voters = vec![BTreeSet::from([node_id])];
    let membership = openraft::Membership::new(voters, BTreeMap::from([(node_id, node)]))
        .expect("the only voter is among the nodes");
    codec::encode(&membership).map(Bytes::from)
}
