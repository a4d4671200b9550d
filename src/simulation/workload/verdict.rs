//! The reads at the end of a run, and what is then held against everything that clients saw.

use std::collections::{BTreeMap, BTreeSet};

use super::super::chronicle::{Chronicle, Deed};
use super::super::client::{key_of, view};
use super::super::history::{Action, Answer, Call, Step, Told, ValueId};
use super::super::linearizable::{Verdict, check};
use super::super::values::body;
use super::{Facts, Workload};
use crate::actors::messages::{ChangeKind, Consistency};
use crate::types::{Key, Revision};

impl Workload {
    /// Reads everything from a node that is well. False when it refused a read.
    pub async fn read_all(&self, node: &str) -> bool {
        for group in 0..self.load.groups {
            if !self.read_group("at the end", None, node, group, Step::GetAll).await {
                return false;
            }
        }
        let start = self.world.starts(node);
        let view = match view(&self.world, node, Consistency::Linearizable).await {
            Ok(view) => view.view,
            Err(error) => {
                self.note_refusal(node, start, &error);
                return false;
            }
        };
        for (key, value) in &self.facts.borrow().once {
            match view.get(&key_of(key)) {
                Ok(None) => self.findings.lost(&self.world, format!("{key}, at {node}")),
                Ok(Some(record)) => {
                    if record.version != 1 {
                        let what = format!("{key} is in version {} at {node}", record.version);
                        self.findings.duplicated(&self.world, what);
                    }
                    if record.value != body(*value) {
                        let what = format!("{key} at {node} has bytes that nobody wrote");
                        self.findings.violation(&self.world, what);
                    }
                }
                Err(error) => {
                    self.note_refusal(node, start, &error);
                    return false;
                }
            }
        }
        true
    }

    /// Holds what the clients saw against the history of the store, and looks for an order that explains it.
    pub fn judge(&self, chronicle: &Chronicle) {
        if let Err(what) = chronicle.check() {
            self.findings.violation(&self.world, what);
        }
        self.judge_values(chronicle);
        self.judge_sightings(chronicle);
        self.judge_deadlines(chronicle);
        self.judge_leases(chronicle);
        for group in 0..self.load.groups {
            self.judge_answers(chronicle, group);
            self.judge_order(chronicle, group);
        }
    }

    pub(super) fn violation(&self, what: impl std::fmt::Display) {
        self.findings.violation(&self.world, what);
    }

    /// Every value is where it was put, once.
    fn judge_values(&self, chronicle: &Chronicle) {
        let facts = self.facts.borrow();
        let mut put = BTreeSet::new();
        for deed in chronicle.deeds() {
            let Some(record) = deed.record else { continue };
            if facts.values.get(record.value as usize) != Some(&deed.key) {
                self.violation(format!("value {} stands at {}", record.value, deed.key));
            }
            if !put.insert(record.value) {
                let what = format!("value {} was put again: {deed:?}", record.value);
                self.findings.duplicated(&self.world, what);
            }
            let is_brief = facts.brief.contains_key(&record.value);
            let lease = facts.leased.get(&record.value).copied();
            if record.end.at_ms().is_some() != is_brief || record.end.lease() != lease {
                self.violation(format!("an end that nobody set, or none: {deed:?}"));
            }
        }
    }

    /// What was read at a revision is what the history has there.
    fn judge_sightings(&self, chronicle: &Chronicle) {
        let facts = self.facts.borrow();
        for sighting in &facts.sightings {
            let record = chronicle.record_at(&sighting.key, sighting.revision);
            if record.map(|record| record.seen()) != sighting.seen {
                self.violation(format!(
                    "{} saw {:?} of {} at revision {}, where the history has {record:?}",
                    sighting.by, sighting.seen, sighting.key, sighting.revision
                ));
            }
        }
        for account in &facts.accounts {
            // The newest that is not kept is told, too, where it is a record, which the change behind it holds.
            let mut is_kept = true;
            let deeds = chronicle.of_key(&account.key, account.revision).rev().take_while(|deed| {
                let was_kept = std::mem::replace(&mut is_kept, deed.revision > account.kept_after);
                was_kept && (is_kept || deed.record.is_some())
            });
            if !deeds.map(|it| (it.revision, it.kind, it.record)).eq(account.versions.clone()) {
                self.violation(format!(
                    "{} was told another history of {} up to revision {}",
                    account.by, account.key, account.revision
                ));
            }
        }
        self.findings.checked((facts.sightings.len() + facts.accounts.len()) as u64);
    }

    /// Records end at their time by the clock of the log, which is that of one leader or another, and not before.
    fn judge_deadlines(&self, chronicle: &Chronicle) {
        let facts = self.facts.borrow();
        for deed in chronicle.deeds() {
            let ended = deed.previous.filter(|_| deed.kind == ChangeKind::Expire);
            if let Some(deadline_ms) = ended.and_then(|it| it.end.at_ms()) {
                self.findings.checked(1);
                let latest_ms = self.latest_clock_ms(&facts, deed.revision);
                if latest_ms < deadline_ms {
                    self.violation(format!("no clock had shown more than {latest_ms}: {deed:?}"));
                }
            }
            let Some(record) = deed.record else { continue };
            let brief = facts.brief.get(&record.value);
            if let Some(brief) = brief
                && let Some((called_ms, answered_ms)) = brief.put_ms
                && let Some(deadline_ms) = record.end.at_ms()
                && !(called_ms..=answered_ms).contains(&deadline_ms.saturating_sub(brief.ttl_ms))
            {
                let (ttl, from, to) = (brief.ttl_ms, called_ms, answered_ms);
                self.violation(format!("put between {from} and {to} for {ttl} ms: {deed:?}"));
            }
        }
    }

    /// The latest that any clock had shown when a revision was known.
    pub(super) fn latest_clock_ms(&self, facts: &Facts, revision: Revision) -> u64 {
        let known = facts.clocks.range(revision..).next();
        known.map_or_else(|| self.world.latest_clock_ms(), |(_, ms)| *ms)
    }

    /// Every acknowledged write is in the history under its revision, whole and alone; and of an unanswered one all
    /// or nothing.
    fn judge_answers(&self, chronicle: &Chronicle, group: usize) {
        let facts = self.facts.borrow();
        let by_value = by_value(chronicle);
        let group = &facts.groups[group];
        for call in &group.calls {
            let done: Vec<(Key, ChangeKind, Option<ValueId>)> = match call.answer() {
                Some(Answer::Done { revision: Some(_), .. }) => call
                    .done()
                    .filter_map(|(step, told)| match (step, told) {
                        (Step::Put(slot, value), _) => {
                            Some((group.key(slot), ChangeKind::Put, Some(value)))
                        }
                        (Step::Delete(slot), Told::Deleted(true)) => {
                            Some((group.key(slot), ChangeKind::Delete, None))
                        }
                        _ => None,
                    })
                    .collect(),
                Some(_) => continue,
                None => {
                    self.judge_unanswered(call, &by_value);
                    continue;
                }
            };
            let Some(Answer::Done { revision: Some(revision), .. }) = call.answer() else {
                continue;
            };
            let deeds = chronicle.of_revision(*revision);
            let of = |deed: &Deed| (deed.key.clone(), deed.kind, deed.record.map(|it| it.value));
            if !deeds.iter().map(of).eq(done) {
                self.violation(format!("revision {revision} is {deeds:?}, and {call:?} was told"));
            }
        }
    }

    fn judge_unanswered(&self, call: &Call, by_value: &BTreeMap<ValueId, Revision>) {
        let revisions = |steps: &[Step]| -> Vec<Option<Revision>> {
            let puts = steps.iter().filter_map(|step| match step {
                Step::Put(_, value) => Some(by_value.get(value).copied()),
                _ => None,
            });
            puts.collect()
        };
        let Action { success, failure, .. } = &call.action;
        let (of_one, of_other) = (revisions(success), revisions(failure));
        let is_even = |of: &[Option<Revision>]| of.windows(2).all(|pair| pair[0] == pair[1]);
        let is_done = |of: &[Option<Revision>]| of.iter().any(Option::is_some);
        if !is_even(&of_one) || !is_even(&of_other) || is_done(&of_one) && is_done(&of_other) {
            self.violation(format!("a part of {call:?} was done: {of_one:?}, {of_other:?}"));
        }
    }

    /// Looks for an order that explains a group.
    fn judge_order(&self, chronicle: &Chronicle, group: usize) {
        let mut facts = self.facts.borrow_mut();
        let group = &mut facts.groups[group];
        let mut calls = std::mem::take(&mut group.calls);
        self.findings.checked(calls.len() as u64);
        let by_value = by_value(chronicle);
        // What put something, or could do nothing else, was not done if the history has nothing of it.
        let puts = |steps: &[Step]| steps.iter().any(|step| matches!(step, Step::Put(..)));
        let deletes = |steps: &[Step]| steps.iter().any(|step| matches!(step, Step::Delete(_)));
        let shows = |steps: &[Step]| puts(steps) || !deletes(steps);
        calls.retain(|call| {
            let Action { success, failure, .. } = &call.action;
            let is_in_history = call.action.puts().any(|value| by_value.contains_key(&value));
            call.returned.is_some() || is_in_history || !(shows(success) && shows(failure))
        });
        for slot in 0..group.slots {
            let key = group.key(slot);
            for deed in chronicle.of_key(&key, Revision::MAX) {
                if let Some(record) = deed.record
                    && let Err(what) = group.knowledge.revisions.note(slot, record.seen())
                {
                    self.violation(format!("{key}: {what}"));
                }
            }
        }
        calls.extend(expiries(chronicle, &group.prefix));
        match check(&calls, &group.knowledge.revisions) {
            Verdict::Linearizable => {}
            Verdict::Violation(how) => {
                self.violation(format!("{} is not linearizable: {how}", group.prefix));
            }
            Verdict::Undecided => self.findings.undecided(&self.world, &group.prefix),
        }
    }
}

/// The revision of each value.
fn by_value(chronicle: &Chronicle) -> BTreeMap<ValueId, Revision> {
    let put = |deed: &Deed| Some((deed.record?.value, deed.revision));
    chronicle.deeds().iter().filter_map(put).collect()
}

/// What expired of a group, as the checker of orders has it.
fn expiries(chronicle: &Chronicle, prefix: &str) -> Vec<Call> {
    let mut ends: BTreeMap<Revision, Vec<Step>> = BTreeMap::new();
    for deed in chronicle.deeds().iter().filter(|deed| deed.kind == ChangeKind::Expire) {
        let slot = deed.key.as_bytes().strip_prefix(prefix.as_bytes());
        if let Some([digit]) = slot {
            let slot = usize::from(digit.wrapping_sub(b'0'));
            ends.entry(deed.revision).or_default().push(Step::Delete(slot));
        }
    }
    let call = |(revision, success): (Revision, Vec<Step>)| {
        let told = vec![Told::Deleted(true); success.len()];
        let answer = Answer::Done { succeeded: true, revision: Some(revision), told };
        Call {
            by: "time".into(),
            action: Action { success, ..Action::default() },
            invoked: 0,
            returned: Some((u64::MAX, answer)),
        }
    };
    ends.into_iter().map(call).collect()
}
