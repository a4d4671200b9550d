//! What was called and what was answered: the history of one key, and the facts that hold across keys.
//!
//! Moments are numbers of events, not times: many events share a simulated moment, and their order counts.

use std::collections::BTreeMap;

use crate::types::{Condition, Revision};

/// Names a written value: each write has one of its own.
pub type ValueId = u64;

/// A call on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Who called, and where: for people.
    pub by: String,
    pub action: Action,
    pub invoked: u64,
    /// `None` when no answer came: it may take effect at any later moment, or never.
    pub returned: Option<(u64, Answer)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Read,
    Put { value: ValueId, condition: Condition },
    Delete { condition: Condition },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// What a read saw.
    Seen(Option<Seen>),
    Put {
        revision: Revision,
        version: u64,
    },
    /// A delete of a key that was there, or of one that was not.
    Deleted {
        revision: Revision,
    },
    NothingDeleted,
    /// The condition did not hold: the key's revision, if it is there.
    Refused {
        current: Option<Revision>,
    },
}

/// A record as a read shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub value: ValueId,
    pub version: u64,
    pub revision: Revision,
}

impl Call {
    pub fn answer(&self) -> Option<Answer> {
        self.returned.map(|(_, answer)| answer)
    }
}

/// Which write each revision of a key is, from everything anybody saw of it: puts, reads, stale reads, the
/// final scans. The same revision has one value and one version wherever it is seen.
#[derive(Debug, Default)]
pub struct Revisions {
    seen: BTreeMap<Revision, (ValueId, u64)>,
}

impl Revisions {
    /// Takes note of a sighting; an error when it contradicts an earlier one.
    pub fn note(&mut self, seen: Seen) -> Result<(), String> {
        let now = (seen.value, seen.version);
        let known = *self.seen.entry(seen.revision).or_insert(now);
        if known != now {
            return Err(format!(
                "revision {} is value {} in version {} here and value {} in version {} elsewhere",
                seen.revision, now.0, now.1, known.0, known.1
            ));
        }
        Ok(())
    }

    pub fn value_of(&self, revision: Revision) -> Option<ValueId> {
        self.seen.get(&revision).map(|(value, _)| *value)
    }

    /// The revision of each value that was seen.
    pub fn by_value(&self) -> BTreeMap<ValueId, Revision> {
        self.seen.iter().map(|(revision, (value, _))| (*value, *revision)).collect()
    }
}
