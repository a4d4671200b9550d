//! Whether some order of the calls on a group of keys, each at a moment between its call and its answer, explains
//! all answers (Wing and Gong's search, with Lowe's memory of states that led nowhere).
//!
//! The model is a record for each key: absent, or a value in a version. A call takes effect on all of its keys at
//! one moment, so a transaction of which a half is seen has no place. A call without an answer may take its place at
//! any moment after it began, or none. Each acknowledged write says its revision, and revisions only grow, so of the
//! writes whose revision is known only the next one is ever tried: what is left to search is where the
//! unanswered ones went, and a few hundred calls always decide.
//!
//! Calls that change nothing where they stand are taken as soon as they fit: any order that has them later
//! has them now as well.
//!
//! The end of a record's time is a delete that was called before everything, is answered after everything, and has
//! the revision that the store's history says: whoever calls [`check`] adds it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use super::history::{
    Action, Answer, Call, Check, MAX_SLOTS, Revisions, Slot, Step, Told, ValueId,
};
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

/// A record: its value and version, `None` when it is absent.
type Held = Option<(ValueId, u64)>;

/// The records of the group.
type State = [Held; MAX_SLOTS];

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

/// Checks the calls on one group of keys, at most [`MAX_CALLS`] of them. `revisions` knows everything that was seen
/// of the group.
pub fn check(calls: &[Call], revisions: &Revisions) -> Verdict {
    assert!(calls.len() <= MAX_CALLS, "{} calls are more than {MAX_CALLS}", calls.len());
    let mut calls: Vec<&Call> = calls.iter().collect();
    calls.sort_by_key(|call| call.invoked);
    let revision_of = revisions.by_value();
    let ranks = calls.iter().map(|call| rank(call, &revision_of)).collect();
    let kinds = kinds(&calls);
    let best = (Set::default(), State::default());
    let mut search = Search { calls, revision_of, ranks, kinds, dead: HashSet::new(), best };
    match search.solve(Set::default(), State::default()) {
        Some(true) => Verdict::Linearizable,
        Some(false) => Verdict::Violation(search.explain()),
        None => Verdict::Undecided,
    }
}

/// The revision that a call made, if that is known.
fn rank(call: &Call, revision_of: &BTreeMap<ValueId, Revision>) -> Option<Revision> {
    match call.answer() {
        Some(Answer::Done { revision, .. }) => *revision,
        Some(Answer::Refused { .. }) => None,
        None => call.action.puts().find_map(|value| revision_of.get(&value).copied()),
    }
}

/// Numbers the calls by what they do, whatever the values that they put.
fn kinds(calls: &[&Call]) -> Vec<usize> {
    let nameless = |steps: &[Step]| -> Vec<Step> {
        let step = |step: &Step| match step {
            Step::Put(slot, _) => Step::Put(*slot, 0),
            other => *other,
        };
        steps.iter().map(step).collect()
    };
    let mut known: Vec<Action> = Vec::new();
    let kind = |call: &&Call| {
        let Action { checks, success, failure } = &call.action;
        let (success, failure) = (nameless(success), nameless(failure));
        let action = Action { checks: checks.clone(), success, failure };
        known.iter().position(|it| *it == action).unwrap_or_else(|| {
            known.push(action);
            known.len() - 1
        })
    };
    calls.iter().map(kind).collect()
}

struct Search<'a> {
    /// By the moment of the call.
    calls: Vec<&'a Call>,
    revision_of: BTreeMap<ValueId, Revision>,
    ranks: Vec<Option<Revision>>,
    kinds: Vec<usize>,
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
        let answered = |index: usize| self.calls[index].returned.as_ref().map(|(at, _)| *at);
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

    /// The open calls that change a record, with what is there after them; answered ones first.
    fn choices(&self, done: Set, state: State) -> Vec<(usize, State)> {
        let next_rank = self.rest(done).filter_map(|index| self.ranks[index]).min();
        let mut choices = Vec::new();
        // Unanswered writes that nobody saw are alike; the earliest can stand for all of its kind.
        let mut tried: Vec<usize> = Vec::new();
        for index in self.open(done) {
            let call = self.calls[index];
            if self.ranks[index].is_some() && self.ranks[index] != next_rank {
                continue;
            }
            if call.returned.is_none() && self.ranks[index].is_none() {
                let kind = self.kinds[index];
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

    /// The records after a call, if its answer fits; a call without an answer fits everywhere.
    fn apply(&self, call: &Call, state: State) -> Option<State> {
        let Action { checks, .. } = &call.action;
        let succeeds = checks.iter().all(|(slot, check)| self.holds(*check, state[*slot]));
        let told = match call.answer() {
            None => None,
            Some(Answer::Refused { current }) => {
                let (slot, _) = checks.first()?;
                let fits = !succeeds && self.is_current(*current, state[*slot]);
                return fits.then_some(state);
            }
            Some(Answer::Done { succeeded, .. }) if *succeeded != succeeds => return None,
            Some(Answer::Done { told, .. }) => Some(told),
        };
        let mut after = state;
        for (at, step) in call.action.branch(succeeds).iter().enumerate() {
            let told = told.map(|told| told[at]);
            if !carry_out(*step, told, &mut after) {
                return None;
            }
        }
        Some(after)
    }

    fn holds(&self, check: Check, held: Held) -> bool {
        match check {
            Check::Condition(condition) => self.meets(condition, held),
            Check::VersionBelow(bound) => held.map_or(0, |(_, version)| version) < bound,
            Check::Value(value) => held.is_some_and(|(present, _)| present == value),
        }
    }

    fn meets(&self, condition: Condition, held: Held) -> bool {
        // A revision that nobody ever saw is none that a condition could name.
        let unseen = Revision::MAX;
        let revision =
            held.map(|(value, _)| self.revision_of.get(&value).copied().unwrap_or(unseen));
        condition.holds(revision)
    }

    /// Whether a refusal that names this revision fits the record.
    fn is_current(&self, current: Option<Revision>, held: Held) -> bool {
        match (current, held) {
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
        let key = |(slot, held): (Slot, &Held)| match held {
            None => format!("key {slot} is absent"),
            Some((value, version)) => format!("key {slot} has value {value} in version {version}"),
        };
        let state: Vec<String> = state.iter().enumerate().map(key).collect();
        let stuck: Vec<String> = self
            .open(done)
            .into_iter()
            .filter(|index| self.calls[*index].returned.is_some())
            .map(|index| format!("{:?}", self.calls[index]))
            .collect();
        format!(
            "after {} of {} calls {}, and none of these can follow: {}",
            done.len(),
            self.calls.len(),
            state.join(", "),
            stuck.join("; ")
        )
    }
}

/// Carries out a step, and says whether what was told of it fits.
fn carry_out(step: Step, told: Option<Told>, state: &mut State) -> bool {
    let told = match told {
        Some(Told::Forgotten) => None,
        told => told,
    };
    match step {
        Step::Get(slot) => match told {
            Some(Told::Seen(seen)) => seen.map(|seen| (seen.value, seen.version)) == state[slot],
            told => told.is_none(),
        },
        Step::GetAll => match told {
            Some(Told::All(all)) => {
                all.map(|seen| seen.map(|seen| (seen.value, seen.version))) == *state
            }
            told => told.is_none(),
        },
        Step::Put(slot, value) => {
            let version = state[slot].map_or(1, |(_, version)| version + 1);
            state[slot] = Some((value, version));
            told.is_none_or(|told| told == Told::Put { version })
        }
        Step::Delete(slot) => {
            let was_there = state[slot].take().is_some();
            told.is_none_or(|told| told == Told::Deleted(was_there))
        }
    }
}
