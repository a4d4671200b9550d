//! Writes the store's history down while it is there: nodes may be set to keep little of it.
//!
//! It looks at the node that has come furthest, again and again. What a node has applied is committed, so that no later
//! state has anything else there ([`Chronicle::read`](super::chronicle::Chronicle::read) holds it against what is
//! left at the end). A scribe that comes too late is a fault of the simulation, and is told as a finding: nodes have to
//! keep more than what happens between two looks.

use std::cell::{Cell, Ref, RefCell};

use super::chronicle::{Deed, deeds_from};
use super::operator::Operator;
use crate::types::Revision;

/// See the module.
#[derive(Default)]
pub struct Scribe {
    deeds: RefCell<Vec<Deed>>,
    /// All up to here is written down.
    through: Cell<Revision>,
}

impl Scribe {
    /// Writes down what is new.
    pub fn look(&self, operator: &Operator) {
        let world = &operator.world;
        let states = operator.names().into_iter().filter_map(|name| world.state(&name));
        let Some(state) = states.max_by_key(|state| state.revision()) else { return };
        if state.revision() <= self.through.get() {
            return;
        }
        match deeds_from(&state, self.through.get() + 1) {
            Ok(deeds) => {
                self.deeds.borrow_mut().extend(deeds);
                self.through.set(state.revision());
            }
            // A damaged disk, which others will meet, too.
            Err(error) if error.is_about_storage() => {}
            Err(error) => {
                let what = format!("the history behind {}: {error}", self.through.get());
                operator.findings.violation(world, what);
                self.through.set(state.revision());
            }
        }
    }

    pub fn deeds(&self) -> Ref<'_, Vec<Deed>> {
        self.deeds.borrow()
    }
}
