//! What must hold at every moment of a run, looked at all the time.
//!
//! A node counts as a voter only when it has nearly all of the log: else a cluster that loses one node while
//! another joins has no quorum that knows what was acknowledged. And nothing grows beyond its bound ([`bounds`]).
//! By the way the store's history is written down ([`Scribe`]).

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::{Either, join, select};
use tokio::time::sleep;

use super::bounds;
use super::client::{members, status};
use super::operator::Operator;
use super::scribe::Scribe;
use crate::types::NodeId;

const LOOK_EVERY: Duration = Duration::from_millis(40);

/// Entries that a new voter may lack: what the leader allows (64), and what came while it was made one.
const MOST_LAG: u64 = 160;

/// See the module.
pub struct Sentinel<'a> {
    operator: &'a Operator,
    scribe: &'a Scribe,
    /// How many watchers there are.
    watchers: usize,
    voters: RefCell<BTreeSet<NodeId>>,
    turn: Cell<usize>,
}

impl<'a> Sentinel<'a> {
    pub fn new(operator: &'a Operator, scribe: &'a Scribe, watchers: usize) -> Sentinel<'a> {
        Sentinel { operator, scribe, watchers, voters: RefCell::default(), turn: Cell::new(0) }
    }

    /// Looks again and again until `work` is done.
    pub async fn watch_while<T>(&self, work: impl Future<Output = T>) -> T {
        let watching = async {
            self.look(false).await;
            loop {
                sleep(LOOK_EVERY).await;
                self.look(true).await;
            }
        };
        // By itself, since nobody who asks a node that stands still may hold it up.
        let writing = async {
            loop {
                self.scribe.look(self.operator);
                sleep(LOOK_EVERY).await;
            }
        };
        let looking = join(watching, writing);
        let (work, looking) = (std::pin::pin!(work), std::pin::pin!(looking));
        match select(work, looking).await {
            Either::Left((done, _)) => done,
            Either::Right((((), ()), _)) => unreachable!("the watch does not end"),
        }
    }

    async fn look(&self, judges: bool) {
        let world = &self.operator.world;
        bounds::look(self.operator, self.watchers);
        // One after the other: whoever leads is asked often enough.
        let names = self.operator.names();
        self.turn.set(self.turn.get() + 1);
        let name = &names[self.turn.get() % names.len()];
        let Some(members) = members(world, name).await else { return };
        for member in members.into_iter().filter(|member| member.voter) {
            if !self.voters.borrow_mut().insert(member.node_id) || !judges {
                continue;
            }
            let Some(there) = status(world, &member.name).await else { continue };
            let Some(here) = world.state(name).and_then(|state| state.applied()) else { continue };
            // A successor with an empty disk is not the one that became a voter.
            if there.node_id == member.node_id && here.index > there.applied_index + MOST_LAG {
                let what = format!(
                    "{} became a voter with {} of {} entries applied",
                    member.name, there.applied_index, here.index
                );
                self.operator.findings.violation(world, what);
            }
        }
    }
}
