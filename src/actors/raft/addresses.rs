//! Where the members are called: where the membership says, or where a member says that calls.
//!
//! A member that moved is not where the membership says until that is changed, for which a quorum is needed, which those that
//! moved may be part of. But it calls the others, and says in its handshake where it is. So each address that fails gives way
//! to the other one, and the one that answers stays in use: what a caller says of itself never takes a link from an address
//! that works. Nothing of this outlives the process.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::NodeId;

/// Nodes whose words on where they are a node keeps that knows of no members yet.
const MAX_MET: usize = 64;

/// See the module.
#[derive(Default)]
pub struct Addresses {
    /// As the membership says.
    known: BTreeMap<NodeId, String>,
    /// As members themselves said that are elsewhere.
    met: BTreeMap<NodeId, String>,
    /// Those who are called there, since they were not found where they are known to be.
    moved: BTreeSet<NodeId>,
}

impl Addresses {
    /// Where to call a node, if anything is known of it.
    pub fn of(&self, node_id: NodeId) -> Option<&str> {
        let met = self.met.get(&node_id).filter(|_| self.moved.contains(&node_id));
        met.or_else(|| self.known.get(&node_id)).map(String::as_str)
    }

    /// Takes note of the membership. What a member said of itself before the membership moved it is forgotten.
    pub fn remember(&mut self, members: BTreeMap<NodeId, String>) {
        let Addresses { known, met, moved } = self;
        met.retain(|node_id, met| {
            let address = members.get(node_id);
            let is_news = known.get(node_id).is_some_and(|known| Some(known) != address);
            address.is_some_and(|address| address != met) && !is_news
        });
        moved.retain(|node_id| met.contains_key(node_id));
        *known = members;
    }

    /// Takes note of where a node that called says it is.
    pub fn meet(&mut self, node_id: NodeId, address: &str) {
        // Early in a start no member is known yet; whoever proved the secret until then is taken for one.
        let may_be_member = self.known.is_empty() && self.met.len() < MAX_MET;
        match self.known.get(&node_id) {
            Some(known) if known == address => {
                self.met.remove(&node_id);
                self.moved.remove(&node_id);
            }
            None if !may_be_member => {}
            _ => drop(self.met.insert(node_id, address.to_owned())),
        }
    }

    /// Takes note that a node cannot be reached at an address. The next call goes to the other, if there is one: it is
    /// returned when it is the one that the membership does not have.
    pub fn miss(&mut self, node_id: NodeId, address: &str) -> Option<&str> {
        let met = self.met.get(&node_id)?;
        if met == address {
            self.moved.remove(&node_id);
            return None;
        }
        self.moved.insert(node_id).then_some(met)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(members: &[(NodeId, &str)]) -> BTreeMap<NodeId, String> {
        members.iter().map(|(node_id, address)| (*node_id, (*address).to_owned())).collect()
    }

    #[test]
    fn an_address_that_fails_gives_way_to_the_other_and_one_that_works_to_none() {
        let mut addresses = Addresses::default();
        addresses.remember(members(&[(1, "old"), (2, "b")]));
        addresses.meet(1, "new");
        assert_eq!(addresses.of(1), Some("old"), "it may be there all the same");
        assert_eq!(addresses.miss(1, "old"), Some("new"));
        assert_eq!(addresses.of(1), Some("new"));
        // Another link found out too.
        assert_eq!(addresses.miss(1, "old"), None);
        assert_eq!(addresses.of(1), Some("new"));
        // A failure that passes does not lose the address.
        addresses.miss(1, "new");
        assert_eq!(addresses.of(1), Some("old"));
        assert_eq!(addresses.miss(1, "old"), Some("new"));
        assert_eq!(addresses.miss(2, "b"), None);
        assert_eq!(addresses.of(2), Some("b"));
    }

    #[test]
    fn what_the_membership_says_later_counts() {
        let mut addresses = Addresses::default();
        for later in ["new", "third"] {
            addresses.remember(members(&[(1, "old")]));
            addresses.meet(1, "new");
            addresses.miss(1, "old");
            addresses.remember(members(&[(1, "old"), (2, "b")]));
            assert_eq!(addresses.of(1), Some("new"), "nothing was said of it");
            addresses.remember(members(&[(1, later)]));
            assert_eq!(addresses.miss(1, later), None);
            assert_eq!(addresses.of(1), Some(later));
            addresses.meet(1, later);
            assert_eq!(addresses.of(1), Some(later));
        }
        addresses.meet(1, "new");
        addresses.remember(members(&[]));
        assert_eq!(addresses.of(1), None);
    }

    #[test]
    fn a_node_that_knows_no_members_remembers_a_bounded_number_of_callers() {
        let mut addresses = Addresses::default();
        (0..2 * MAX_MET as NodeId).for_each(|node_id| addresses.meet(node_id, "new"));
        assert_eq!(addresses.met.len(), MAX_MET);
        addresses.remember(members(&[(1, "old")]));
        assert_eq!(addresses.met.len(), 1);
        assert_eq!(addresses.miss(1, "old"), Some("new"));
        addresses.meet(9, "stranger");
        assert_eq!(addresses.of(9), None);
    }
}
