//! What clients write to a group, drawn: as the checker has it, and as it is sent.

use conuredb::client::TxnDone;
use conuredb::simulation::history::{Action, Check, Seen, Slot, Step, ValueId};
use conuredb::simulation::transactions::{self, Drawer, Names};
use conuredb::types::{Condition, Key, KeyRange, Lifetime, Revision, Txn};
use rand::Rng;
use rand::rngs::StdRng;

use super::{Client, Turn, Workload};

/// A write of contended keys.
pub struct Plan {
    pub group: usize,
    pub action: Action,
    pub request: Request,
}

/// A write as it is sent.
#[derive(Debug)]
pub enum Request {
    Put { key: String, value: ValueId, condition: Condition },
    Delete { key: String, condition: Condition },
    Txn(Txn),
}

/// What was answered.
#[derive(Debug)]
pub enum Outcome {
    Put {
        revision: Revision,
        version: u64,
    },
    Deleted {
        revision: Revision,
    },
    NothingDeleted,
    /// The condition did not hold: the key's revision, if it is there.
    Refused {
        current: Option<Revision>,
    },
    Txn(TxnDone),
}

impl Workload {
    /// The write that a turn is.
    pub(super) fn plan(&self, client: &mut Client, turn: Turn) -> Plan {
        let group = self.any_group(client);
        if matches!(turn, Turn::Transact) {
            let (number, chance) = (client.number, &mut client.chance);
            let mut hand = Hand { load: self, chance, client: number, group };
            let action = transactions::draw(self.slots(group), &mut hand);
            let txn = transactions::operation(&action, &hand);
            let request = Request::Txn(txn.expect("a branch writes each key once"));
            return Plan { group, action, request };
        }
        let slot = client.chance.random_range(0..self.slots(group));
        let condition = match turn {
            Turn::Create => Condition::Absent,
            Turn::Replace => self.facts().groups[group].knowledge.as_known(client.number, slot),
            _ => Condition::None,
        };
        let deletes = match turn {
            Turn::Delete => true,
            Turn::Replace => client.chance.random_range(0..4) == 0,
            _ => false,
        };
        let key = self.name(group, slot);
        let (step, request) = match deletes {
            true => (Step::Delete(slot), Request::Delete { key, condition }),
            false => {
                let value = self.new_value();
                (Step::Put(slot, value), Request::Put { key, value, condition })
            }
        };
        let checks = match condition {
            Condition::None => Vec::new(),
            condition => vec![(slot, Check::Condition(condition))],
        };
        Plan { group, action: Action { checks, ..Action::just(step) }, request }
    }
}

/// A client that draws a transaction on a group.
struct Hand<'a> {
    load: &'a Workload,
    chance: &'a mut StdRng,
    client: usize,
    group: usize,
}

impl Drawer for Hand<'_> {
    fn below(&mut self, bound: usize) -> usize {
        self.chance.random_range(0..bound)
    }

    fn known(&self, slot: Slot) -> Option<Seen> {
        self.load.facts().groups[self.group].knowledge.last(self.client, slot)
    }

    fn value(&mut self, _: Slot) -> ValueId {
        self.load.new_value()
    }
}

impl Names for Hand<'_> {
    fn key(&self, slot: Slot) -> Key {
        Key::new(self.load.name(self.group, slot)).expect("a short name")
    }

    fn range(&self) -> KeyRange {
        KeyRange::prefix(self.load.prefix_of(self.group))
    }

    fn lifetime(&self, _: ValueId) -> Lifetime {
        Lifetime::Unbounded
    }
}
