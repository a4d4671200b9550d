//! Which incarnations are members, and which were.
//!
//! A node that is configured to join asks for it by itself, and asks again when an answer is lost. Whoever was
//! removed comes back only when an operator joins it again, so a leader has to tell one that was removed from one that was
//! never let in; the node may know neither, if it was cut off all the while. The membership has only who is in.
//!
//! So the state machine keeps the incarnations that it has seen in memberships, the latest
//! [`KNOWN_INCARNATIONS`]. Past that the one that was let in first and is no member is forgotten.

use bytes::{Buf, BufMut};

use super::layout::BadBytes;
use super::view::KvSnapshot;
use super::{SYSTEM, bad};
use crate::storage::error::StorageError;
use crate::storage::txn::WriteTxn;
use crate::types::NodeId;

pub(crate) const INCARNATIONS: &[u8] = b"incarnations";

/// Incarnations remembered, unless more are members.
pub const KNOWN_INCARNATIONS: usize = 256;

/// node_id u64 · whether it is a member u8, the one that was let in first at the beginning
const ENCODED_BYTES: usize = 8 + 1;

struct Incarnation {
    node_id: NodeId,
    is_member: bool,
}

/// Takes note of a membership: of these incarnations and no others.
pub(super) fn note(txn: &mut WriteTxn<'_>, members: &[NodeId]) -> Result<(), StorageError> {
    let stored = txn.get(SYSTEM, INCARNATIONS)?;
    let mut known = decode(stored.as_deref().unwrap_or_default()).map_err(bad)?;
    for incarnation in &mut known {
        incarnation.is_member = members.contains(&incarnation.node_id);
    }
    for &node_id in members {
        if !known.iter().any(|it| it.node_id == node_id) {
            known.push(Incarnation { node_id, is_member: true });
        }
    }
    let mut surplus = known.len().saturating_sub(KNOWN_INCARNATIONS);
    known.retain(|it| {
        let is_forgotten = surplus > 0 && !it.is_member;
        surplus -= usize::from(is_forgotten);
        !is_forgotten
    });
    txn.put(SYSTEM, INCARNATIONS, &encode(&known))?;
    Ok(())
}

impl KvSnapshot {
    /// Whether this incarnation was a member and is none any more.
    pub fn was_removed(&self, node_id: NodeId) -> Result<bool, StorageError> {
        let stored = self.snapshot.get(SYSTEM, INCARNATIONS)?;
        let known = decode(stored.as_deref().unwrap_or_default()).map_err(bad)?;
        Ok(known.iter().any(|it| it.node_id == node_id && !it.is_member))
    }
}

fn encode(known: &[Incarnation]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(known.len() * ENCODED_BYTES);
    for Incarnation { node_id, is_member } in known {
        bytes.put_u64_le(*node_id);
        bytes.put_u8((*is_member).into());
    }
    bytes
}

fn decode(bytes: &[u8]) -> Result<Vec<Incarnation>, BadBytes> {
    let (known, rest) = bytes.as_chunks::<ENCODED_BYTES>();
    if !rest.is_empty() {
        return Err(BadBytes("the known incarnations have a bad length"));
    }
    let read = |mut bytes: &[u8]| Incarnation {
        node_id: bytes.get_u64_le(),
        is_member: bytes.get_u8() != 0,
    };
    Ok(known.iter().map(|bytes| read(bytes)).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::disk::MemDisk;
    use crate::storage::kv::{Entry, Kv, Payload};
    use crate::storage::store::StoreOptions;
    use crate::types::LogId;

    struct Cluster {
        kv: Kv,
        index: u64,
    }

    impl Cluster {
        fn change(&mut self, members: impl IntoIterator<Item = NodeId>) {
            let id = LogId { term: 1, index: self.index };
            self.index += 1;
            let members = members.into_iter().collect();
            let payload = Payload::Membership { entry: "opaque".into(), members };
            self.kv.apply(vec![Entry { id, payload }]).expect("no I/O fails");
        }

        fn removed(&self, node_id: NodeId) -> bool {
            self.kv.reader().snapshot().was_removed(node_id).expect("no I/O fails")
        }
    }

    fn cluster() -> Cluster {
        let kv =
            Kv::open(Arc::new(MemDisk::new()), StoreOptions::default()).expect("an empty disk");
        Cluster { kv, index: 0 }
    }

    #[test]
    fn who_was_a_member_and_is_none_was_removed() {
        let mut cluster = cluster();
        assert!(!cluster.removed(2), "before the first membership");
        cluster.change([1, 2, 3]);
        cluster.change([1, 3]);
        assert_eq!([1, 2, 3, 4].map(|id| cluster.removed(id)), [false, true, false, false]);
        cluster.change([1, 2, 3]);
        assert!(!cluster.removed(2), "an operator joined it again");
    }

    #[test]
    fn only_the_latest_are_known_and_all_members() {
        let mut cluster = cluster();
        cluster.change([1]);
        for newcomer in 2..=KNOWN_INCARNATIONS as u64 + 10 {
            cluster.change([1, newcomer]);
        }
        cluster.change([1]);
        let removed = |id: &u64| cluster.removed(*id);
        let known: Vec<u64> = (1..1_000).filter(removed).collect();
        assert_eq!(known, Vec::from_iter(12..=KNOWN_INCARNATIONS as u64 + 10));
        let members = 5_000..5_000 + KNOWN_INCARNATIONS as u64 + 1;
        cluster.change(members.clone());
        cluster.change([1]);
        assert!(members.skip(2).all(|id| cluster.removed(id)));
    }
}
