//! What the soak does to a key, and what it is told, in its own words; and as the checker has them.
//!
//! The checker judges groups of keys under transactions. Here each key is a group of its own, with one slot.

use conuredb::simulation::history::{self, Check, Seen, Slot, Step, Told, ValueId};
use conuredb::types::{Condition, Revision};

/// The one key of a group.
pub const ONLY: Slot = 0;

#[derive(Debug, Clone, Copy)]
pub enum Action {
    Put { value: ValueId, condition: Condition },
    Delete { condition: Condition },
    Read,
}

#[derive(Debug, Clone, Copy)]
pub enum Answer {
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
    Seen(Option<Seen>),
}

impl From<Action> for history::Action {
    fn from(action: Action) -> history::Action {
        let (step, condition) = match action {
            Action::Put { value, condition } => (Step::Put(ONLY, value), condition),
            Action::Delete { condition } => (Step::Delete(ONLY), condition),
            Action::Read => (Step::Get(ONLY), Condition::None),
        };
        let checks = match condition {
            Condition::None => Vec::new(),
            condition => vec![(ONLY, Check::Condition(condition))],
        };
        history::Action { checks, ..history::Action::just(step) }
    }
}

impl From<Answer> for history::Answer {
    fn from(answer: Answer) -> history::Answer {
        let done =
            |revision, told| history::Answer::Done { succeeded: true, revision, told: vec![told] };
        match answer {
            Answer::Put { revision, version } => done(Some(revision), Told::Put { version }),
            Answer::Deleted { revision } => done(Some(revision), Told::Deleted(true)),
            Answer::NothingDeleted => done(None, Told::Deleted(false)),
            Answer::Refused { current } => history::Answer::Refused { current },
            Answer::Seen(seen) => done(None, Told::Seen(seen)),
        }
    }
}
