//! Transactions on the keys of a group: how they are drawn, and what the store takes for them.
//!
//! The clients of the simulation and those of real nodes share it, as they share the model ([`super::history`]) and
//! its judge ([`super::linearizable`]).

use bytes::Bytes;

use super::history::{Action, Check, MAX_SLOTS, Seen, Slot, Step, ValueId};
use super::values::body;
use crate::types::{
    Compare, Condition, Key, KeyRange, Lifetime, Operand, Relation, Txn, TxnError, TxnOp,
};

/// A client that draws one.
pub trait Drawer {
    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize;
    /// What the client saw last of a key.
    fn known(&self, slot: Slot) -> Option<Seen>;
    /// Names a value for a key.
    fn value(&mut self, slot: Slot) -> ValueId;
}

/// The keys of a group, by name.
pub trait Names {
    fn key(&self, slot: Slot) -> Key;
    /// All of them.
    fn range(&self) -> KeyRange;
    /// How long a value is there.
    fn lifetime(&self, value: ValueId) -> Lifetime;
}

/// Up to two checks; then writes of most keys when they hold, and reads or one write when not.
pub fn draw(slots: usize, by: &mut impl Drawer) -> Action {
    let checks = (0..by.below(3)).map(|_| draw_check(slots, by)).collect();
    let first = by.below(slots);
    let mut success: Vec<Step> = (0..slots)
        .map(|nth| (first + nth) % slots)
        .map(|slot| match by.below(6) {
            0 => Step::Get(slot),
            1 => Step::Delete(slot),
            _ => Step::Put(slot, by.value(slot)),
        })
        .collect();
    if by.below(3) == 0 {
        success.insert(by.below(success.len() + 1), Step::GetAll);
    }
    let failure = match by.below(4) {
        0 => vec![],
        1 => vec![Step::Put(first, by.value(first)), Step::GetAll],
        2 => vec![Step::Delete(first)],
        _ => vec![Step::GetAll],
    };
    Action { checks, success, failure }
}

fn draw_check(slots: usize, by: &mut impl Drawer) -> (Slot, Check) {
    let slot = by.below(slots);
    let check = match (by.below(5), by.known(slot)) {
        (0, _) => Check::Condition(Condition::Present),
        (1, _) | (2 | 3, None) => Check::Condition(Condition::Absent),
        (2, Some(known)) => Check::Condition(Condition::ModRevision(known.revision)),
        (3, Some(known)) => Check::Value(known.value),
        _ => Check::VersionBelow(1 + by.below(4) as u64),
    };
    (slot, check)
}

/// What the store takes for it.
pub fn operation(action: &Action, names: &impl Names) -> Result<Txn, TxnError> {
    let compare = |(slot, check): &(Slot, Check)| {
        let (is, to) = match *check {
            Check::Condition(Condition::Absent) => (Relation::Equal, Operand::Exists(false)),
            Check::Condition(Condition::ModRevision(revision)) => {
                (Relation::Equal, Operand::ModRevision(revision))
            }
            Check::Condition(Condition::Present | Condition::None) => {
                (Relation::Equal, Operand::Exists(true))
            }
            Check::VersionBelow(bound) => (Relation::Less, Operand::Version(bound)),
            Check::Value(value) => (Relation::Equal, Operand::Value(Bytes::from(body(value)))),
        };
        Compare { key: names.key(*slot), is, to }
    };
    let operate = |step: &Step| match *step {
        Step::Get(slot) => TxnOp::Get { key: names.key(slot) },
        Step::GetAll => TxnOp::Range {
            range: names.range(),
            limit: MAX_SLOTS,
            reverse: false,
            keys_only: false,
        },
        Step::Put(slot, value) => TxnOp::Put {
            key: names.key(slot),
            value: Bytes::from(body(value)),
            lifetime: names.lifetime(value),
        },
        Step::Delete(slot) => TxnOp::Delete { range: KeyRange::only(&names.key(slot)) },
    };
    Txn::new(
        action.checks.iter().map(compare).collect(),
        action.success.iter().map(operate).collect(),
        action.failure.iter().map(operate).collect(),
    )
}
