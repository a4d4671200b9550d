//! The autopilot: which change of voters the leader makes by itself next.
//!
//! It promotes learners that have caught up. When told to, it removes members that have been silent for long
//! ([`Rules::remove_dead_after`]), and keeps the number of voters odd ([`Rules::odd_voters`]): an even
//! one needs a larger quorum and survives no more failures.
//!
//! Who is silent is what the leader knows by contact, which only advises: it decides that a change is proposed, and the
//! change is made through the log by the voters there are. So a leader that is cut off removes nobody, whatever it
//! believes. Three rules keep the cluster from harm:
//! * never fewer than three voters are left, and
//! * those that are left have a quorum that answers now;
//! * one change is made at a time, and the next one is thought about anew.
//!
//! A member that was removed is not let in again by itself when it is back: it was told to be gone for good, as by
//! `POST /remove`, and somebody joins it again.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use super::{CHANGE_LIMIT, Parts};
use crate::actors::raft::admin::{MemberChange, Peer};
use crate::plants::{Plant, planted};
use crate::types::NodeId;

/// A learner that lacks no more entries than this is made a voter: a moment of replication.
pub(super) const PROMOTE_LAG: u64 = 64;

/// With fewer voters the loss of one more would stop the cluster.
const LEAST_VOTERS: usize = 3;

/// What the autopilot may do beside promoting learners.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// Silence after which a member is removed; `None` for never.
    pub remove_dead_after: Option<Duration>,
    /// Whether the number of voters is kept odd: learners wait to be promoted in twos, and a voter too many becomes
    /// a learner that waits.
    pub odd_voters: bool,
    /// Whether a node whose data are damaged asks to be replaced, see `super::damage`.
    pub replace_damaged: bool,
}

/// A change that is worth making.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Promote(BTreeSet<NodeId>),
    /// Makes a voter a learner that waits.
    Demote(NodeId),
    Remove(NodeId),
}

impl Parts {
    /// Makes the next change, if one is worth it and no other is under way.
    pub(super) async fn steer(&self) {
        let peers = self.watched_peers();
        let Some(step) = next_step(&peers, self.rules, self.admin.answers_within()) else { return };
        let Ok(_changing) = self.change.try_lock() else { return };
        let deadline = Instant::now() + CHANGE_LIMIT;
        let (change, ids, done) = match step {
            Step::Promote(ids) => {
                (MemberChange::Promote(ids.clone()), ids, "caught up, and a voter now")
            }
            Step::Demote(id) => {
                let done = "a learner now, so that the number of voters is odd";
                (MemberChange::Demote(id), BTreeSet::from([id]), done)
            }
            Step::Remove(id) => {
                let done = "removed after a long silence";
                (MemberChange::Remove(id), BTreeSet::from([id]), done)
            }
        };
        let names: Vec<&str> = peers
            .iter()
            .filter(|peer| ids.contains(&peer.member.node_id))
            .map(|peer| peer.member.name.as_str())
            .collect();
        match self.admin.change(change, deadline).await {
            Ok(()) => log::info!("{done}: {}", names.join(", ")),
            Err(error) => log::warn!("no change of {} this time: {error}", names.join(", ")),
        }
    }

    /// The members as this leader sees them. Nobody is silent for longer than this leader has looked for it: who
    /// was added just now, or had another leader before, has had no time to answer.
    pub(super) fn watched_peers(&self) -> Vec<Peer> {
        let mut peers = self.admin.peers();
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|id, _| peers.iter().any(|peer| peer.member.node_id == *id));
        for peer in &mut peers {
            let since = watched.entry(peer.member.node_id).or_insert_with(Instant::now);
            peer.silent_for = peer.silent_for.min(since.elapsed());
        }
        peers
    }

    /// Whether a learner waits for another one before it is promoted.
    pub(super) fn is_kept_waiting(&self, node_id: NodeId) -> bool {
        let peers = self.watched_peers();
        let within = self.admin.answers_within();
        let is_ready = |peer: &Peer| peer.member.node_id == node_id && is_ready(peer, within);
        peers.iter().any(is_ready) && next_step(&peers, self.rules, within).is_none()
    }
}

/// Whether a learner has caught up and shall be a voter.
fn is_ready(peer: &Peer, answers_within: Duration) -> bool {
    let has_caught_up = peer.lag.is_some_and(|lag| lag <= PROMOTE_LAG);
    !peer.member.voter
        && peer.wants_vote
        && (planted(Plant::LearnerStageSkipped)
            || (has_caught_up && peer.silent_for <= answers_within))
}

/// What to do next. `answers_within` is the silence up to which a member counts as answering.
fn next_step(peers: &[Peer], rules: Rules, answers_within: Duration) -> Option<Step> {
    let voters: Vec<&Peer> = peers.iter().filter(|peer| peer.member.voter).collect();
    let mut ready: Vec<&Peer> =
        peers.iter().filter(|peer| is_ready(peer, answers_within)).collect();
    ready.sort_by_key(|peer| peer.lag);
    let is_dead =
        |peer: &Peer| rules.remove_dead_after.is_some_and(|after| peer.silent_for > after);
    let can_spare = |gone: &Peer| {
        let rest = || voters.iter().filter(|voter| voter.member.node_id != gone.member.node_id);
        let answering = rest().filter(|voter| voter.silent_for <= answers_within).count();
        let count = rest().count();
        count >= LEAST_VOTERS && answering > count / 2
    };

    let dead_learner = peers.iter().find(|peer| !peer.member.voter && is_dead(peer));
    let dead_voter = voters.iter().find(|voter| is_dead(voter));
    let removable = dead_voter.filter(|voter| can_spare(voter));
    if let Some(gone) = dead_learner.or(removable.copied()) {
        return Some(Step::Remove(gone.member.node_id));
    }

    let promoted = match rules.odd_voters {
        false => ready.len(),
        // One more when that makes the number odd, and as many pairs as there are.
        true => {
            let one = 1 - voters.len() % 2;
            if ready.len() < one { 0 } else { ready.len() - (ready.len() - one) % 2 }
        }
    };
    // For a moment even: it takes the place of a voter that could not be spared.
    let replaces = usize::from(dead_voter.is_some() && voters.len() == LEAST_VOTERS);
    let promoted = promoted.max(replaces.min(ready.len()));
    if promoted > 0 {
        let ids = ready[..promoted].iter().map(|peer| peer.member.node_id).collect();
        return Some(Step::Promote(ids));
    }

    if rules.odd_voters && voters.len().is_multiple_of(2) {
        let others = voters.iter().filter(|voter| !voter.leads && can_spare(voter));
        let last = others.max_by_key(|voter| (voter.silent_for > answers_within, voter.lag));
        return last.map(|voter| Step::Demote(voter.member.node_id));
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::actors::messages::Member;

    pub const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
    const DEAD_AFTER: Duration = Duration::from_secs(60);
    const REMOVES: Rules =
        Rules { remove_dead_after: Some(DEAD_AFTER), odd_voters: false, replace_damaged: false };
    const ODD: Rules = Rules { remove_dead_after: None, odd_voters: true, replace_damaged: false };
    const BOTH: Rules = Rules { odd_voters: true, ..REMOVES };

    /// A cluster by a word: `L` its leader, `v` a voter that answers, `s` one that is silent, `d` a dead one, `r` a
    /// learner that is ready, `n` one that is not, `x` a dead one, `l` a voter that lags.
    pub fn peers(cluster: &str) -> Vec<Peer> {
        let peer = |(number, kind): (usize, char)| Peer {
            member: Member {
                node_id: number as NodeId,
                name: format!("n{number}"),
                raft_addr: String::new(),
                http_addr: String::new(),
                voter: "Lvsdl".contains(kind),
            },
            leads: kind == 'L',
            wants_vote: true,
            lag: Some(if "nl".contains(kind) { PROMOTE_LAG + 1 } else { number as u64 }),
            silent_for: match kind {
                's' => ANSWERS_WITHIN * 2,
                'd' | 'x' => DEAD_AFTER * 2,
                _ => Duration::ZERO,
            },
        };
        cluster.chars().enumerate().map(peer).collect()
    }

    fn step(cluster: &str, rules: Rules) -> Option<Step> {
        next_step(&peers(cluster), rules, ANSWERS_WITHIN)
    }

    fn promote<const N: usize>(ids: [NodeId; N]) -> Option<Step> {
        Some(Step::Promote(BTreeSet::from(ids)))
    }

    #[test]
    fn learners_are_promoted_when_they_have_caught_up() {
        assert_eq!(step("Lr", Rules::default()), promote([1]));
        assert_eq!(step("Lnrr", Rules::default()), promote([2, 3]));
        assert_eq!(step("Ln", Rules::default()), None);
    }

    #[test]
    fn nobody_is_removed_or_demoted_unless_told_so() {
        assert_eq!(step("Lvvddx", Rules::default()), None);
        assert_eq!(step("Lvvv", Rules::default()), None);
    }

    #[test]
    fn the_dead_are_removed_while_enough_voters_are_left_that_answer() {
        assert_eq!(step("Lvvd", REMOVES), Some(Step::Remove(3)));
        assert_eq!(step("Lvvdd", REMOVES), Some(Step::Remove(3)));
        assert_eq!(step("Lvd", REMOVES), None, "two would be left");
        assert_eq!(step("Lsssd", REMOVES), None, "one of four would answer");
        assert_eq!(step("Lvssd", REMOVES), None, "two of four are no quorum");
        assert_eq!(step("Lvx", REMOVES), Some(Step::Remove(2)), "a learner is no loss");
        assert_eq!(step("Lvss", REMOVES), None, "not silent for long enough");
    }

    #[test]
    fn a_learner_takes_the_place_of_a_dead_voter_that_cannot_be_spared() {
        for rules in [REMOVES, BOTH] {
            assert_eq!(step("Lvdr", rules), promote([3]));
            assert_eq!(step("Lvdv", rules), Some(Step::Remove(2)));
            assert_eq!(step("Lvdn", rules), None);
        }
    }

    #[test]
    fn the_number_of_voters_is_kept_odd() {
        assert_eq!(step("Lr", ODD), None, "two voters survive as little as one");
        assert_eq!(step("Lrr", ODD), promote([1, 2]));
        assert_eq!(step("Lrrr", ODD), promote([1, 2]));
        assert_eq!(step("Lvr", ODD), promote([2]));
        assert_eq!(step("Lvvr", ODD), None);
        assert_eq!(step("Lvvv", ODD), Some(Step::Demote(3)));
        assert_eq!(step("Lvsv", ODD), Some(Step::Demote(2)));
        assert_eq!(step("Lv", ODD), None, "never below three");
        assert_eq!(step("Lvvvv", ODD), None);
    }
}
