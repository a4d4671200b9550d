//! Nodes that may take part no more: removed from their cluster, found to have lost what they acknowledged, or damaged.
//!
//! A log never goes back, unless somebody gives the node an older copy of its disk. Then it lacks entries that it has
//! acknowledged, and a quorum that counts on it may lose them; its vote may be of a term that it has voted in. The leader
//! that was told of these entries finds out at its first words to the node (`super::network`) and tells it. What
//! it cannot know, it cannot tell: a leader that was elected meanwhile never heard from the node.
//!
//! Either way the node notes where it stands, durably, stops its Raft and serves stale reads only. It comes back as
//! a new incarnation: by an empty disk, or when it is removed (if it was not) and joined again. A damaged one does not
//! wait for that, its peers replace it (`crate::actors::membership`).

use actix::prelude::*;

use super::actor::{Parts, RaftActor};
use crate::storage::identity::{Identity, Standing};
use crate::types::NodeId;

/// Tells this node that it was removed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct NoteRemoval {
    pub node_id: NodeId,
}

/// Tells this node that it lacks entries that it has acknowledged.
#[derive(Message)]
#[rtype(result = "()")]
pub struct NoteWayBack {
    pub node_id: NodeId,
    /// It had the log up to here.
    pub acknowledged: u64,
}

/// Says why a node that starts takes no part.
pub fn tell(identity: &Identity) {
    let cluster = identity.cluster_id;
    match identity.standing {
        Standing::WentBack => log::error!(
            "the data directory is older than what this node has acknowledged to cluster {cluster}: it takes no part, \
             and serves stale reads only. Stop it, move the directory away and start it with an empty one"
        ),
        Standing::Damaged => log::error!(
            "this node of cluster {cluster} takes no part, since its data is damaged: it waits for its peers to give it \
             anew"
        ),
        _ => log::warn!("this node was removed from cluster {cluster}; it serves stale reads only"),
    }
}

/// Stops taking part, for good.
async fn expel(parts: Parts, node_id: NodeId, standing: Standing) {
    let _life = parts.life.lock().await;
    let identity = parts.place.identity();
    // A node that went back can still be removed, and then joined; not the other way round.
    let is_known = identity.standing == standing || identity.standing == Standing::Removed;
    if identity.node_id != node_id || is_known {
        return;
    }
    if let Err(error) = parts.place.change(|identity| identity.standing = standing) {
        (parts.context.on_fatal)(error.to_string());
    }
    tell(&parts.place.identity());
    parts.stop().await;
}

impl Handler<NoteRemoval> for RaftActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: NoteRemoval, _: &mut Self::Context) -> Self::Result {
        Box::pin(expel(self.parts(), message.node_id, Standing::Removed))
    }
}

impl Handler<NoteWayBack> for RaftActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: NoteWayBack, _: &mut Self::Context) -> Self::Result {
        log::error!(
            "this node had acknowledged the log up to entry {}, and lacks some of it",
            message.acknowledged
        );
        Box::pin(expel(self.parts(), message.node_id, Standing::WentBack))
    }
}
