//! What clients write, drawn; and between a call as the model has it and an operation as the store takes it.

use bytes::Bytes;

use super::super::client::key_of;
use super::super::history::{Action, Answer, Check, MAX_SLOTS, Seen, Slot, Step, Told, ValueId};
use super::super::transactions::{self, Drawer, Names};
use super::super::values::body;
use super::{Brief, Turn, Workload};
use crate::types::{Condition, Key, KeyRange, Lifetime, Operation, Outcome, Record, TxnResult};

/// Times to live: some end while a request is under way, some outlive a crash.
const TTL_MS: std::ops::Range<u64> = 20..2_500;

/// A write of contended keys.
pub struct Plan {
    pub action: Action,
    pub operation: Operation,
}

impl Workload {
    /// The write that a turn is; nothing when it is a read.
    pub(super) fn plan(&self, turn: &Turn, client: usize, group: usize) -> Option<Plan> {
        let slot = self.below(self.slots(group));
        let put_if = |condition| {
            let checks = checks(slot, condition);
            Action { checks, ..Action::just(Step::Put(slot, self.value(group, slot))) }
        };
        let action = match turn {
            Turn::Put => put_if(Condition::None),
            Turn::Create => put_if(Condition::Absent),
            Turn::Delete => Action::just(Step::Delete(slot)),
            Turn::Replace => {
                let condition = self.as_known(client, group, slot);
                match self.below(4) {
                    0 => {
                        let checks = checks(slot, condition);
                        Action { checks, ..Action::just(Step::Delete(slot)) }
                    }
                    _ => put_if(condition),
                }
            }
            Turn::Transact => {
                let mut hand = Hand { load: self, client, group };
                let action = transactions::draw(self.slots(group), &mut hand);
                let txn = transactions::operation(&action, &hand);
                let operation = Operation::Txn(txn.expect("a branch writes each key once"));
                return Some(Plan { action, operation });
            }
            _ => return None,
        };
        let operation = self.single(group, &action);
        Some(Plan { action, operation })
    }

    /// A read of one key or of all of a group.
    pub(super) fn draw_read(&self, group: usize) -> Step {
        match self.below(3) {
            0 => Step::GetAll,
            _ => Step::Get(self.below(self.slots(group))),
        }
    }

    /// That the key still is what this client saw last.
    fn as_known(&self, client: usize, group: usize, slot: Slot) -> Condition {
        self.facts.borrow().groups[group].knowledge.as_known(client, slot)
    }

    /// Names a value for a key of a group. One in four expires.
    fn value(&self, group: usize, slot: Slot) -> ValueId {
        let value = self.new_value(&self.key(group, slot));
        if self.below(4) == 0 {
            let ttl_ms = TTL_MS.start + self.world.chance.below(TTL_MS.end - TTL_MS.start);
            let mut facts = self.facts.borrow_mut();
            facts.brief.insert(value, Brief { ttl_ms, put_ms: None });
            facts.groups[group].brief += 1;
        }
        value
    }

    /// An action of one step as an operation of its own.
    fn single(&self, group: usize, action: &Action) -> Operation {
        let condition = match action.checks.first() {
            Some((_, Check::Condition(condition))) => *condition,
            _ => Condition::None,
        };
        match action.success[0] {
            Step::Put(slot, value) => Operation::Put {
                key: self.key(group, slot),
                value: Bytes::from(body(value)),
                condition,
                lifetime: self.lifetime(value),
            },
            Step::Delete(slot) => Operation::Delete { key: self.key(group, slot), condition },
            Step::Get(_) | Step::GetAll => unreachable!("a read is no write"),
        }
    }

    fn lifetime(&self, value: ValueId) -> Lifetime {
        match self.facts.borrow().brief.get(&value) {
            Some(brief) => Lifetime::Ttl { ms: brief.ttl_ms },
            None => Lifetime::Unbounded,
        }
    }

    /// All keys of a group.
    pub(super) fn range(&self, group: usize) -> KeyRange {
        KeyRange::prefix(self.facts.borrow().groups[group].prefix.clone())
    }

    /// What the model has for an outcome.
    pub(super) fn answer(&self, what: &str, action: &Action, outcome: Outcome) -> Option<Answer> {
        let done = |revision, told| Answer::Done { succeeded: true, revision, told: vec![told] };
        match outcome {
            Outcome::Put { revision, version, .. } => {
                Some(done(Some(revision), Told::Put { version }))
            }
            Outcome::Deleted { count, revision } => {
                Some(done((count > 0).then_some(revision), Told::Deleted(count > 0)))
            }
            Outcome::ConditionFailed { current, .. } => Some(Answer::Refused { current }),
            Outcome::Txn { succeeded, revision, results } => {
                let steps = action.branch(succeeded);
                let told: Option<Vec<Told>> =
                    steps.iter().zip(&results).map(|(step, it)| self.told(*step, it)).collect();
                let Some(told) = told.filter(|told| told.len() == results.len()) else {
                    let what = format!("{what}: these results do not suit it: {results:?}");
                    self.findings.violation(&self.world, what);
                    return None;
                };
                let wrote = |it: &Told| matches!(it, Told::Put { .. } | Told::Deleted(true));
                let revision = told.iter().any(wrote).then_some(revision);
                Some(Answer::Done { succeeded, revision, told })
            }
            other => {
                self.findings.violation(&self.world, format!("{what}: the outcome is {other:?}"));
                None
            }
        }
    }

    /// What the model has for a result; nothing when it is not one of this step.
    fn told(&self, step: Step, result: &TxnResult) -> Option<Told> {
        match (step, result) {
            (Step::Put(..), TxnResult::Put { version, .. }) => {
                Some(Told::Put { version: *version })
            }
            (Step::Delete(_), TxnResult::Deleted { count }) => Some(Told::Deleted(*count > 0)),
            (Step::Get(_) | Step::GetAll, TxnResult::Forgotten) => Some(Told::Forgotten),
            (Step::Get(_), TxnResult::Found { items, has_more: false }) => {
                let item = items.first();
                Some(Told::Seen(item.and_then(|(key, record)| self.see(key, record))))
            }
            (Step::GetAll, TxnResult::Found { items, has_more: false }) => {
                Some(self.told_of_all(items))
            }
            _ => None,
        }
    }

    /// The records of a group by its slots.
    pub(super) fn told_of_all(&self, items: &[(Key, Record)]) -> Told {
        let mut all = [None; MAX_SLOTS];
        for (key, record) in items {
            let slot = key.as_bytes().last().map(|digit| usize::from(digit.wrapping_sub(b'0')));
            match slot.and_then(|slot| all.get_mut(slot)) {
                Some(place) => *place = self.see(key, record),
                None => self.findings.violation(&self.world, format!("{key} is no one's key")),
            }
        }
        Told::All(all)
    }

    /// Writes a key that nobody wrote before or writes again.
    pub(super) async fn put_once(&self, client: usize, node: &str) {
        let request_id = self.request_id(client);
        let name = format!("once/{client}/{}", request_id.sequence);
        let key = key_of(&name);
        let value = self.new_value(&key);
        let what = format!("put of {name}");
        let operation = Operation::Put {
            key,
            value: Bytes::from(body(value)),
            condition: Condition::None,
            lifetime: Lifetime::Unbounded,
        };
        let sent = self.send(client, node, &what, operation, Some(request_id)).await;
        self.findings.checked(1);
        if let Ok(Some(Outcome::Put { version, revision, .. })) = sent {
            if version != 1 {
                self.findings.duplicated(&self.world, format!("{name} is in version {version}"));
            }
            self.learn(revision);
            self.facts.borrow_mut().once.insert(name, value);
        }
    }
}

/// A client that draws a transaction on a group.
struct Hand<'a> {
    load: &'a Workload,
    client: usize,
    group: usize,
}

impl Drawer for Hand<'_> {
    fn below(&mut self, bound: usize) -> usize {
        self.load.below(bound)
    }

    fn known(&self, slot: Slot) -> Option<Seen> {
        self.load.facts.borrow().groups[self.group].knowledge.last(self.client, slot)
    }

    fn value(&mut self, slot: Slot) -> ValueId {
        self.load.value(self.group, slot)
    }
}

impl Names for Hand<'_> {
    fn key(&self, slot: Slot) -> Key {
        self.load.key(self.group, slot)
    }

    fn range(&self) -> KeyRange {
        self.load.range(self.group)
    }

    fn lifetime(&self, value: ValueId) -> Lifetime {
        self.load.lifetime(value)
    }
}

fn checks(slot: Slot, condition: Condition) -> Vec<(Slot, Check)> {
    match condition {
        Condition::None => Vec::new(),
        condition => vec![(slot, Check::Condition(condition))],
    }
}
