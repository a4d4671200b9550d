//! Whether some order of the calls on a key, each at a moment between its call and its answer, explains all
//! answers (Wing and Gong's search, with Lowe's memory of states that led nowhere).
//!
//! The model is one record: absent, or a value in a version. A call without an answer may take its place at any
//! moment after it began, or none. Each acknowledged write says its revision, and revisions only grow, so of the
//! writes whose revision is known only the next one is ever tried: what is left to search is where the
//! unanswered ones went, and a few hundred calls always decide.
//!
//! Calls that change nothing where they stand are taken as soon as they fit: any order that has them later
//! has them now as well.

use std::collections::{BTreeMap, HashSet};

use super::history::{Action, Answer, Call, Revisions, ValueId};
use crate::types::{Condition, Revision};

/// Most calls in a history.
pub const MAX_CALLS: usize = 512;

/// States after which the search gives up. Histories of the simulator take a few times their length.
const MAX_STATES: usize = 400_000;

/// What the search came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// No order explains the answers; the text tells how far the best one came.
    Violation(String),
    /// The search gave up, which counts as a failure of the run.
    Undecided,
}

/// The record: its value and version, `None` when it is absent.
type State = Option<(ValueId, u64)>;

/// A set of calls.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Set([u64; MAX_CALLS / 64]);

impl Set {
    fn has(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 == 1
    }

    fn with(mut self, index: usize) -> Set {
        self.0[index / 64] |= 1 << (index % 64);
        self
    }

    fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

/// Checks the calls on one key, at most [`MAX_CALLS`] of them. `revisions` knows everything that was seen of
/// the key.
pub fn check(calls: &[Call], revisions: &Revisions) -> Verdict {
    assert!(calls.len() <= MAX_CALLS, "{} calls are more than {MAX_CALLS}", calls.len());
    let mut calls: Vec<&Call> = calls.iter().collect();
    calls.sort_by_key(|call| call.invoked);
    let revision_of = revisions.by_value();
    let ranks = calls.iter().map(|call| rank(call, &revision_of)).collect();
    let mut search =
        Search { calls, revision_of, ranks, dead: HashSet::new(), best: (Set::default(), None) };
    match search.solve(Set::default(), None) {
        Some(true) => Verdict::Linearizable,
        Some(false) => Verdict::Violation(search.explain()),
        None => Verdict::Undecided,
    }
}

/// The revision that a call made, if that is known.
fn rank(call: &Call, revision_of: &BTreeMap<ValueId, Revision>) -> Option<Revision> {
    match (call.answer(), call.action) {
        (Some(Answer::Put { revision, .. } | Answer::Deleted { revision }), _) => Some(revision),
        (None, Action::Put { value, .. }) => revision_of.get(&value).copied(),
        _ => None,
    }
}

struct Search<'a> {
    /// By the moment of the call.
    calls: Vec<&'a Call>,
    revision_of: BTreeMap<ValueId, Revision>,
    ranks: Vec<Option<Revision>>,
    /// From where no order leads to the end.
    dead: HashSet<(Set, State)>,
    /// The furthest that an order came.
    best: (Set, State),
}

impl Search<'_> {
    /// Whether the calls outside `done` can follow from `state`; `None` when it takes too long to tell.
    fn solve(&mut self, done: Set, state: State) -> Option<bool> {
        let done = self.take_idle(done, state);
        if done.len() > self.best.0.len() {
            self.best = (done, state);
        }
        if self.rest(done).all(|index| self.calls[index].returned.is_none()) {
            return Some(true);
        }
        if self.dead.contains(&(done, state)) {
            return Some(false);
        }
        if self.dead.len() >= MAX_STATES {
            return None;
        }
        for (index, next) in self.choices(done, state) {
            match self.solve(done.with(index), next) {
                Some(false) => {}
                decided => return decided,
            }
        }
        self.dead.insert((done, state));
        Some(false)
    }

    fn rest(&self, done: Set) -> impl Iterator<Item = usize> + '_ {
        (0..self.calls.len()).filter(move |index| !done.has(*index))
    }

    /// The calls that may come next: those that began before any of the rest was answered.
    fn open(&self, done: Set) -> Vec<usize> {
        let answered = |index: usize| self.calls[index].returned.map(|(at, _)| at);
        let first_answer = self.rest(done).filter_map(answered).min().unwrap_or(u64::MAX);
        self.rest(done).filter(|index| self.calls[*index].invoked < first_answer).collect()
    }

    /// Takes all answered calls that fit here and change nothing.
    fn take_idle(&self, mut done: Set, state: State) -> Set {
        loop {
            let before = done;
            for index in self.open(done) {
                let call = self.calls[index];
                if call.returned.is_some() && self.apply(call, state) == Some(state) {
                    done = done.with(index);
                }
            }
            if done == before {
                return done;
            }
        }
    }

    /// The open calls that change the record, with what it is after them; answered ones first.
    fn choices(&self, done: Set, state: State) -> Vec<(usize, State)> {
        let next_rank = self.rest(done).filter_map(|index| self.ranks[index]).min();
        let mut choices = Vec::new();
        // Unanswered writes that nobody saw are alike; the earliest can stand for all of its kind.
        let mut tried: Vec<Action> = Vec::new();
        for index in self.open(done) {
            let call = self.calls[index];
            if self.ranks[index].is_some() && self.ranks[index] != next_rank {
                continue;
            }
            if call.returned.is_none() && self.ranks[index].is_none() {
                let kind = match call.action {
                    Action::Put { condition, .. } => Action::Put { value: 0, condition },
                    other => other,
                };
                if tried.contains(&kind) {
                    continue;
                }
                tried.push(kind);
            }
            if let Some(next) = self.apply(call, state)
                && next != state
            {
                choices.push((index, next));
            }
        }
        choices.sort_by_key(|(index, _)| self.calls[*index].returned.is_none());
        choices
    }

    /// The record after a call, if its answer fits; a call without an answer fits everywhere.
    fn apply(&self, call: &Call, state: State) -> Option<State> {
        let condition = match call.action {
            Action::Read => {
                let Some(Answer::Seen(seen)) = call.answer() else { return Some(state) };
                return (seen.map(|seen| (seen.value, seen.version)) == state).then_some(state);
            }
            Action::Put { condition, .. } | Action::Delete { condition } => condition,
        };
        let holds = self.holds(condition, state);
        let after = match call.action {
            Action::Put { value, .. } => Some((value, state.map_or(1, |(_, version)| version + 1))),
            _ => None,
        };
        let fits = match call.answer() {
            None => return Some(if holds { after } else { state }),
            Some(Answer::Put { version, .. }) => holds && after.map(|(_, v)| v) == Some(version),
            Some(Answer::Deleted { .. }) => holds && state.is_some(),
            Some(Answer::NothingDeleted) => holds && state.is_none(),
            Some(Answer::Refused { current }) => {
                return (!holds && self.is_current(current, state)).then_some(state);
            }
            Some(Answer::Seen(_)) => false,
        };
        fits.then_some(after)
    }

    fn holds(&self, condition: Condition, state: State) -> bool {
        // A revision that nobody ever saw is none that a condition could name.
        let unseen = Revision::MAX;
        let revision =
            state.map(|(value, _)| self.revision_of.get(&value).copied().unwrap_or(unseen));
        condition.holds(revision)
    }

    /// Whether a refusal that names this revision fits the record.
    fn is_current(&self, current: Option<Revision>, state: State) -> bool {
        match (current, state) {
            (None, None) => true,
            (Some(current), Some((value, _))) => {
                self.revision_of.get(&value).is_none_or(|revision| *revision == current)
            }
            _ => false,
        }
    }

    /// How far the best order came, and what could not follow.
    fn explain(&self) -> String {
        let (done, state) = self.best;
        let state = match state {
            None => "the key is absent".to_string(),
            Some((value, version)) => format!("the key has value {value} in version {version}"),
        };
        let stuck: Vec<String> = self
            .open(done)
            .into_iter()
            .filter(|index| self.calls[*index].returned.is_some())
            .map(|index| format!("{:?}", self.calls[index]))
            .collect();
        format!(
            "after {} of {} calls {state}, and none of these can follow: {}",
            done.len(),
            self.calls.len(),
            stuck.join("; ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::Seen;
    use super::*;

    /// Writes one history: `put(value, revision)` and so on, from `invoked` to `returned`.
    #[derive(Default)]
    struct Script(Vec<Call>, Revisions);

    impl Script {
        fn call(mut self, from: u64, action: Action, returned: Option<(u64, Answer)>) -> Script {
            self.0.push(Call { by: "test".into(), action, invoked: from, returned });
            self
        }

        fn put(
            mut self,
            from: u64,
            to: u64,
            value: ValueId,
            revision: u64,
            version: u64,
        ) -> Script {
            self.1.note(Seen { value, version, revision }).expect("a consistent script");
            let action = Action::Put { value, condition: Condition::None };
            self.call(from, action, Some((to, Answer::Put { revision, version })))
        }

        fn lost_put(self, from: u64, value: ValueId) -> Script {
            self.call(from, Action::Put { value, condition: Condition::None }, None)
        }

        fn put_if(self, from: u64, to: u64, condition: Condition, answer: Answer) -> Script {
            self.call(from, Action::Put { value: 99, condition }, Some((to, answer)))
        }

        fn read(mut self, from: u64, to: u64, seen: Option<(ValueId, u64, u64)>) -> Script {
            let seen = seen.map(|(value, revision, version)| Seen { value, version, revision });
            if let Some(seen) = seen {
                self.1.note(seen).expect("a consistent script");
            }
            self.call(from, Action::Read, Some((to, Answer::Seen(seen))))
        }

        fn delete(self, from: u64, to: u64, answer: Answer) -> Script {
            self.call(from, Action::Delete { condition: Condition::None }, Some((to, answer)))
        }

        fn verdict(&self) -> Verdict {
            check(&self.0, &self.1)
        }

        fn is_fine(&self) -> bool {
            match self.verdict() {
                Verdict::Linearizable => true,
                Verdict::Violation(_) => false,
                Verdict::Undecided => panic!("undecided"),
            }
        }
    }

    #[test]
    fn calls_that_overlap_may_stand_in_either_order() {
        for seen in [None, Some((1, 10, 1))] {
            let script = Script::default().put(1, 4, 1, 10, 1).read(2, 3, seen);
            assert!(script.is_fine(), "{seen:?}");
        }
        let script = Script::default()
            .put(1, 9, 1, 10, 1)
            .put(2, 8, 2, 11, 2)
            .read(3, 4, Some((1, 10, 1)))
            .read(5, 6, Some((2, 11, 2)))
            .delete(10, 11, Answer::Deleted { revision: 12 })
            .delete(12, 13, Answer::NothingDeleted)
            .put(14, 15, 3, 13, 1);
        assert!(script.is_fine());
    }

    #[test]
    fn a_stale_read_is_found() {
        let script =
            Script::default().put(1, 2, 1, 10, 1).put(3, 4, 2, 11, 2).read(5, 6, Some((1, 10, 1)));
        assert!(!script.is_fine());
    }

    #[test]
    fn a_read_that_goes_back_behind_another_is_found() {
        let script = Script::default()
            .put(1, 2, 1, 10, 1)
            .put(3, 20, 2, 11, 2)
            .read(5, 6, Some((2, 11, 2)))
            .read(7, 8, Some((1, 10, 1)));
        assert!(!script.is_fine());
    }

    #[test]
    fn a_lost_write_is_found() {
        assert!(!Script::default().put(1, 2, 1, 10, 1).read(3, 4, None).is_fine());
        let overwritten_by_nothing = Script::default()
            .put(1, 2, 1, 10, 1)
            .put(3, 4, 2, 11, 2)
            .put(5, 6, 3, 12, 2)
            .read(7, 8, Some((3, 12, 2)));
        assert!(!overwritten_by_nothing.is_fine(), "a version is missing");
    }

    #[test]
    fn a_write_that_was_applied_twice_is_found() {
        let by_version = Script::default().put(1, 2, 1, 10, 1).read(3, 4, Some((1, 11, 2)));
        assert!(!by_version.is_fine());
        let by_value = Script::default()
            .put(1, 2, 1, 10, 1)
            .put(3, 4, 2, 11, 2)
            .read(5, 6, Some((2, 11, 2)))
            .read(7, 8, Some((1, 10, 1)));
        assert!(!by_value.is_fine());
    }

    #[test]
    fn a_write_of_unknown_outcome_takes_effect_late_or_never_but_once() {
        let never =
            Script::default().put(1, 2, 1, 10, 1).lost_put(3, 2).read(4, 5, Some((1, 10, 1)));
        assert!(never.is_fine());
        let late = Script::default()
            .lost_put(1, 2)
            .put(3, 4, 1, 10, 1)
            .read(5, 6, Some((1, 10, 1)))
            .read(7, 8, Some((2, 11, 2)));
        assert!(late.is_fine());
        let twice = Script::default()
            .lost_put(1, 2)
            .read(3, 4, Some((2, 9, 1)))
            .put(5, 6, 1, 10, 2)
            .read(7, 8, Some((2, 11, 3)));
        assert!(!twice.is_fine());
        let early = Script::default().read(1, 2, Some((2, 9, 1))).lost_put(3, 2);
        assert!(!early.is_fine(), "it was read before it was called");
    }

    #[test]
    fn writes_that_nobody_saw_explain_what_others_saw() {
        let script = Script::default().lost_put(1, 7).lost_put(2, 8).put(3, 4, 1, 10, 3);
        assert!(script.is_fine(), "two unseen writes came before");
        let script = Script::default().lost_put(1, 7).put(3, 4, 1, 10, 3);
        assert!(!script.is_fine(), "only one unseen write was there");
    }

    #[test]
    fn conditions_are_judged_where_they_stand() {
        let put = || Script::default().put(1, 2, 1, 10, 1);
        let (absent, at) = (Condition::Absent, Condition::ModRevision);
        let refused = |current| Answer::Refused { current };
        assert!(put().put_if(3, 4, absent, refused(Some(10))).is_fine());
        assert!(!put().put_if(3, 4, absent, Answer::Put { revision: 11, version: 2 }).is_fine());
        assert!(put().put_if(3, 4, at(10), Answer::Put { revision: 11, version: 2 }).is_fine());
        assert!(!put().put_if(3, 4, at(10), refused(Some(10))).is_fine());
        let replaced = put().put(3, 4, 2, 11, 2);
        assert!(!replaced.put_if(5, 6, at(10), Answer::Put { revision: 12, version: 3 }).is_fine());
    }

    #[test]
    fn revisions_in_another_order_than_time_are_found() {
        assert!(!Script::default().put(1, 2, 1, 11, 1).put(3, 4, 2, 10, 2).is_fine());
    }

    #[test]
    fn a_revision_has_one_value() {
        let mut revisions = Revisions::default();
        let seen = Seen { value: 1, version: 1, revision: 5 };
        assert!(revisions.note(seen).is_ok() && revisions.note(seen).is_ok());
        assert!(revisions.note(Seen { value: 2, ..seen }).is_err());
        assert!(revisions.note(Seen { version: 2, ..seen }).is_err());
    }

    /// The longest history there may be, with many unanswered writes, is decided.
    #[test]
    fn the_longest_history_is_decided() {
        let mut script = Script::default();
        let mut version = 0;
        for number in 0..MAX_CALLS as u64 / 4 {
            let at = number * 10;
            version += 2;
            // Every second unanswered write took effect, unseen, before the one that was answered.
            script = script.lost_put(at, 10_000 + number).lost_put(at + 1, 20_000 + number);
            script = script.put(at + 2, at + 3, number, 1_000 + number, version);
            script = script.read(at + 4, at + 5, Some((number, 1_000 + number, version)));
        }
        assert!(script.is_fine());
        let end = 10 * MAX_CALLS as u64;
        script.0.pop();
        assert!(!script.read(end, end + 1, Some((0, 1_000, 2))).is_fine());
    }
}
