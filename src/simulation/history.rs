//! What was called and what was answered: the calls on the keys of one group, which transactions write together.
//!
//! Every call is a small transaction: checks, and the steps of one branch or the other. A put is a branch of one
//! step, a conditional put has a check before it, a read changes nothing. So there is one model, and what
//! is atomic of the one is atomic of all.
//!
//! Moments are numbers of events, not times: many events share a simulated moment, and their order counts.

use std::collections::BTreeMap;

use crate::types::{Condition, Revision};

/// Names a written value: each write has one of its own.
pub type ValueId = u64;

/// A key of a group, by its place in the group.
pub type Slot = usize;

/// Most keys of a group.
pub const MAX_SLOTS: usize = 3;

/// A call on the keys of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Who called, and where: for people.
    pub by: String,
    pub action: Action,
    pub invoked: u64,
    /// `None` when no answer came: it may take effect at any later moment, or never.
    pub returned: Option<(u64, Answer)>,
}

/// What is to be done at one moment: `success` when all checks hold of the state before, else `failure`. Each
/// step sees what those before it did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Action {
    pub checks: Vec<(Slot, Check)>,
    pub success: Vec<Step>,
    pub failure: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    Condition(Condition),
    /// Absent keys have version 0.
    VersionBelow(u64),
    Value(ValueId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Get(Slot),
    /// All keys of the group, as a scan of it shows them.
    GetAll,
    Put(Slot, ValueId),
    Delete(Slot),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Done {
        succeeded: bool,
        /// Of what was written, if something was.
        revision: Option<Revision>,
        /// Of each step of the branch that was carried out.
        told: Vec<Told>,
    },
    /// The condition of a single write, its first check, did not hold: the key's revision, if it is there.
    Refused { current: Option<Revision> },
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Seen(Option<Seen>),
    All([Option<Seen>; MAX_SLOTS]),
    Put {
        version: u64,
    },
    /// Whether there was something to delete.
    Deleted(bool),
    /// It is not known any more: a retry of a write that read much.
    Forgotten,
}

/// A record as a read shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub value: ValueId,
    pub version: u64,
    pub revision: Revision,
}

impl Action {
    /// One step without a check.
    pub fn just(step: Step) -> Action {
        Action { success: vec![step], ..Action::default() }
    }

    pub fn branch(&self, succeeds: bool) -> &[Step] {
        if succeeds { &self.success } else { &self.failure }
    }

    /// The values that a branch of it puts.
    pub fn puts(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.success.iter().chain(&self.failure).filter_map(|step| match step {
            Step::Put(_, value) => Some(*value),
            _ => None,
        })
    }
}

impl Step {
    /// What a read of a group of so many keys showed of which key; nothing of a step that is none.
    pub fn shown(self, told: Told, slots: usize) -> Vec<(Slot, Option<Seen>)> {
        match (self, told) {
            (Step::Get(slot), Told::Seen(seen)) => vec![(slot, seen)],
            (Step::GetAll, Told::All(all)) => all.into_iter().enumerate().take(slots).collect(),
            _ => Vec::new(),
        }
    }
}

impl Call {
    pub fn answer(&self) -> Option<&Answer> {
        self.returned.as_ref().map(|(_, answer)| answer)
    }

    /// What its answer says it did, step by step; nothing when there is none, or when it was refused.
    pub fn done(&self) -> impl Iterator<Item = (Step, Told)> + '_ {
        let done = match self.answer() {
            Some(Answer::Done { succeeded, told, .. }) => Some((*succeeded, told)),
            _ => None,
        };
        done.into_iter().flat_map(|(succeeded, told)| {
            self.action.branch(succeeded).iter().copied().zip(told.iter().copied())
        })
    }
}

/// Which write each revision of each key of a group is, from everything anybody saw of them. A revision of a key
/// has one value and one version wherever it is seen.
#[derive(Debug, Default)]
pub struct Revisions {
    seen: BTreeMap<(Revision, Slot), (ValueId, u64)>,
}

impl Revisions {
    /// Takes note of a sighting; an error when it contradicts an earlier one.
    pub fn note(&mut self, slot: Slot, seen: Seen) -> Result<(), String> {
        let now = (seen.value, seen.version);
        let known = *self.seen.entry((seen.revision, slot)).or_insert(now);
        if known != now {
            return Err(format!(
                "revision {} is value {} in version {} here and value {} in version {} elsewhere",
                seen.revision, now.0, now.1, known.0, known.1
            ));
        }
        Ok(())
    }

    /// The revision of each value that was seen.
    pub fn by_value(&self) -> BTreeMap<ValueId, Revision> {
        self.seen.iter().map(|((revision, _), (value, _))| (*value, *revision)).collect()
    }
}

/// What clients know of the keys of a group.
#[derive(Debug, Default)]
pub struct Knowledge {
    pub revisions: Revisions,
    /// What each client has seen last of each key.
    last: BTreeMap<(usize, Slot), Seen>,
}

impl Knowledge {
    /// Takes note of a record, or that there is none, which a client saw as the last of a key; without a client, of a
    /// record that may be an old one. An error when it contradicts what was seen before.
    pub fn note(
        &mut self,
        client: Option<usize>,
        slot: Slot,
        seen: Option<Seen>,
    ) -> Result<(), String> {
        if let Some(client) = client {
            match seen {
                Some(seen) => self.last.insert((client, slot), seen),
                None => self.last.remove(&(client, slot)),
            };
        }
        seen.map_or(Ok(()), |seen| self.revisions.note(slot, seen))
    }

    pub fn last(&self, client: usize, slot: Slot) -> Option<Seen> {
        self.last.get(&(client, slot)).copied()
    }

    pub fn forget(&mut self, client: usize, slot: Slot) {
        self.last.remove(&(client, slot));
    }

    /// That a key still is what a client saw last.
    pub fn as_known(&self, client: usize, slot: Slot) -> Condition {
        let last = self.last(client, slot);
        last.map_or(Condition::Absent, |seen| Condition::ModRevision(seen.revision))
    }
}
