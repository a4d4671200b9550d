//! How a node comes by sound data when its own are damaged: it is replaced, by itself under a new incarnation.
//!
//! Nothing is mended in place: which bytes are right nobody can tell who has not all of the log. The node asks the leader
//! to replace it. The leader looks whether the others have a quorum that answers and has what is committed. If so it takes the
//! node's vote, a change which that quorum has to commit without it, and only then invites it anew: the node begins a new
//! life, wipes its disk, comes in as a learner, gets a snapshot and is promoted; the former incarnation is removed.
//! Without such a quorum nothing of the damaged data is touched.
//!
//! A node that found a damaged page which it did not need to go on asks while it goes on; one that cannot go on takes no
//! part meanwhile (`crate::storage::identity::Standing::Damaged`). Whoever cannot read who the members are asks its seeds.
//!
//! One at a time: a second node is not replaced while the first one's successor is no voter yet, so that a batch of bad
//! disks does not take the last good copy of a page.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::autopilot::PROMOTE_LAG;
use super::{CHANGE_LIMIT, Parts};
use crate::actors::messages::{Join, Member, RequestError};
use crate::actors::raft::admin::{MemberChange, Peer};
use crate::types::NodeId;

/// Pause between two requests: doubled with each new life, up to the longest, since a disk that damages what it is given
/// would have all of it sent again and again; and whenever this node hands the lead over for it, since the one that leads
/// then may be damaged, too. Refusals double it a few times only: what it waits for may come at any moment.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);
const DOUBLING_REFUSALS: u32 = 3;
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// What a node knows of its requests to be replaced.
#[derive(Default)]
pub(super) struct Asked {
    last: Option<Instant>,
    /// Times that this process has begun a new life or handed the lead over for damage.
    times: u32,
    /// Refusals in a row.
    refusals: u32,
    /// The members of the cluster when it asked first, and itself as it was then; a new life has forgotten them, and
    /// may not be let in at once.
    members: Vec<Member>,
}

impl Asked {
    /// Its data are sound again, and it is a member.
    fn end(&mut self) {
        self.times += u32::from(!self.members.is_empty());
        self.members.clear();
    }

    fn pause(&self) -> Duration {
        let doublings = self.times.min(16) + self.refusals.min(DOUBLING_REFUSALS);
        ASK_AGAIN_AFTER.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
    }
}

impl Parts {
    /// Asks to be replaced if this node's data are damaged, and on until it is let in again.
    pub(super) async fn ask_to_be_replaced(&self) {
        let context = self.admin.context();
        let is_damaged = self.rules.replace_damaged && context.is_damaged();
        if !is_damaged && self.own_member().is_some() {
            self.asked().end();
            return;
        }
        let Some(members) = self.whom_to_ask(is_damaged) else { return };
        let (own_id, card) = (context.own_id(), (self.card)());
        if self.admin.leads() {
            let deadline = Instant::now() + CHANGE_LIMIT;
            let stepped = match self.refuse_if_needed(own_id) {
                Ok(()) => self.admin.step_aside(deadline).await,
                Err(error) => Err(error),
            };
            self.asked().times += 1;
            if let Err(error) = stepped {
                return log::warn!("this node is damaged, and goes on leading: {error}");
            }
        }
        let own = members.iter().find(|member| member.name == card.name);
        let join = Join {
            name: card.name,
            raft_addr: card.raft_addr,
            http_addr: card.http_addr,
            voter: own.is_none_or(|own| own.voter),
            asked_by: self.asks_as(),
            timeout: CHANGE_LIMIT,
            trace: None,
        };
        let answer = self.admin.ask_to_join(&members, &join).await;
        {
            let mut asked = self.asked();
            asked.refusals = if answer.is_err() { asked.refusals + 1 } else { 0 };
        }
        match answer {
            Ok(()) => log::info!("this node's data were damaged; its peers give them anew"),
            Err(error) => log::warn!("this node's data are damaged, and not replaced yet: {error}"),
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The members, if it is time to ask them.
    fn whom_to_ask(&self, is_damaged: bool) -> Option<Vec<Member>> {
        let mut asked = self.asked();
        if is_damaged && asked.members.is_empty() {
            asked.members = self.admin.known_members();
        }
        let is_due = asked.last.is_none_or(|last| last.elapsed() >= asked.pause());
        if asked.members.is_empty() || !is_due {
            return None;
        }
        asked.last = Some(Instant::now());
        Some(asked.members.clone())
    }

    /// On the leader: puts a new incarnation in the place of a damaged one.
    pub(super) async fn replace(
        &self,
        damaged: &Member,
        successor: Member,
        wants_vote: bool,
        deadline: Instant,
    ) -> Result<Member, RequestError> {
        // Between two sets of voters nothing is committed by one of them alone.
        if self.admin.context().is_damaged() || self.admin.is_joint() {
            return Err(needed());
        }
        self.refuse_if_needed(damaged.node_id)?;
        self.refuse_unless_others_answer(damaged.node_id).await?;
        log::warn!("{} is damaged, and is replaced", damaged.name);
        if damaged.voter {
            self.admin.change(MemberChange::Demote(damaged.node_id), deadline).await?;
        }
        self.let_in(successor, Some(damaged.node_id), wants_vote, deadline).await
    }

    /// By what this leader knows by contact.
    fn refuse_if_needed(&self, damaged: NodeId) -> Result<(), RequestError> {
        let within = self.admin.answers_within();
        match can_be_replaced(&self.watched_peers(), damaged, within) {
            true => Ok(()),
            false => Err(needed()),
        }
    }

    /// By asking them now: contact may be a second old.
    async fn refuse_unless_others_answer(&self, damaged: NodeId) -> Result<(), RequestError> {
        let own = self.admin.context().own_id();
        let members = self.members();
        let voters = || members.iter().filter(|member| member.voter);
        let mut answering = 0;
        for voter in voters().filter(|voter| voter.node_id != damaged) {
            let answers = voter.node_id == own
                || self
                    .admin
                    .introduce(&voter.raft_addr)
                    .await
                    .is_ok_and(|card| card.node_id == voter.node_id);
            answering += usize::from(answers);
        }
        match answering > voters().count() / 2 {
            true => Ok(()),
            false => Err(needed()),
        }
    }
}

fn needed() -> RequestError {
    RequestError::NotReady {
        reason: "a damaged member is replaced when a quorum of the other voters answers, led by a sound one, and has \
                 what is committed, and no other member is just joining"
            .into(),
    }
}

fn can_be_replaced(peers: &[Peer], damaged: NodeId, answers_within: Duration) -> bool {
    let is_other = |peer: &&Peer| peer.member.node_id != damaged;
    let is_sound = |peer: &Peer| {
        let has_all = peer.leads || peer.lag.is_some_and(|lag| lag <= PROMOTE_LAG);
        peer.member.voter && has_all && peer.silent_for <= answers_within
    };
    let voters = peers.iter().filter(|peer| peer.member.voter).count();
    let sound = peers.iter().filter(is_other).filter(|peer| is_sound(peer)).count();
    // One that is silent takes nothing, one that has caught up holds all.
    let is_joining = |peer: &Peer| {
        let lacks_some = peer.lag.is_none_or(|lag| lag > PROMOTE_LAG);
        !peer.member.voter && peer.wants_vote && lacks_some && peer.silent_for <= answers_within
    };
    sound > voters / 2 && !peers.iter().filter(is_other).any(is_joining)
}

#[cfg(test)]
mod tests {
    use super::super::autopilot::tests::{ANSWERS_WITHIN, peers};
    use super::*;

    /// The damaged one is the second.
    fn can(cluster: &str) -> bool {
        can_be_replaced(&peers(cluster), 1, ANSWERS_WITHIN)
    }

    #[test]
    fn a_damaged_member_is_replaced_if_the_others_are_a_quorum_of_what_there_is() {
        assert!(can("Lvv"));
        assert!(can("Lsv"), "it may be silent itself");
        assert!(can("Lvvvs"));
        assert!(!can("Lv"), "one of two is no quorum");
        assert!(!can("Lvs"), "the other is silent");
        assert!(!can("Lvl"), "the other lags");
        assert!(!can("Lvvss"));
        assert!(can("Lr") && can("Ln"), "a learner is needed for nothing");
    }

    #[test]
    fn one_is_replaced_at_a_time() {
        assert!(!can("Lvvn"));
        assert!(can("Lvvr"), "it holds all, and waits for another learner");
        assert!(can("Lvvx"), "it is gone");
    }
}
