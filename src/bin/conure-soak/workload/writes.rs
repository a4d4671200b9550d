//! Writes, carried out by either kind of client, and what their answers tell.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use conuredb::client::{TxnAnswer, TxnDone};
use conuredb::simulation::history::{Action, Answer, Seen, Step, Told};
use conuredb::types::{Condition, Revision};

use super::plans::{Outcome, Plan, Request};
use super::send::Sent;
use super::{Client, Workload};

impl Workload {
    pub(super) async fn put_once(&self, client: &mut Client) {
        let value = self.new_value();
        let name = format!("{}once/{value}", self.prefix);
        let request = Request::Put { key: name.clone(), value, condition: Condition::None };
        let newest = self.facts().newest;
        let sent = self.send(client, &name, &request).await;
        self.operations.fetch_add(1, Ordering::SeqCst);
        match sent {
            Sent::Answered(Outcome::Put { version, revision }) => {
                if version != 1 {
                    self.findings.duplicated(format_args!("{name} is in version {version}"));
                }
                self.note_acknowledged(&name, revision, newest, [name.clone()].into());
                self.facts().once.insert(name, value);
            }
            Sent::Answered(outcome) => {
                self.findings
                    .violation(format_args!("{name}: a put was answered with {outcome:?}"));
            }
            Sent::Refused => {
                self.facts().refused.insert(value);
            }
            Sent::Unknown => {
                self.facts().in_doubt.insert(name, value);
            }
        }
    }

    /// Carries out a write of contended keys, and takes note of it.
    pub(super) async fn change(&self, client: &mut Client, plan: Plan) {
        let Plan { group, action, request } = plan;
        let what = self.prefix_of(group);
        let newest = self.facts().newest;
        let invoked = self.event();
        let sent = self.send(client, &what, &request).await;
        let returned = self.event();
        let answer = match sent {
            Sent::Answered(outcome) => self.answer(group, &action, newest, outcome),
            Sent::Unknown => None,
            Sent::Refused => {
                self.facts().refused.extend(action.puts());
                return self.end_call(group);
            }
        };
        if let Some(answer) = &answer {
            self.note_answer(client.number, group, &action, newest, answer);
        }
        let answer = answer.map(|answer| (returned, answer));
        self.note_call(group, format!("c{}", client.number), action, invoked, answer);
        self.end_call(group);
    }

    /// What the checker has for an answer; nothing when it is none to this action, which is a finding.
    fn answer(
        &self,
        group: usize,
        action: &Action,
        newest_before: Revision,
        outcome: Outcome,
    ) -> Option<Answer> {
        let done = |revision, told| Answer::Done { succeeded: true, revision, told: vec![told] };
        Some(match outcome {
            Outcome::Put { revision, version } => done(Some(revision), Told::Put { version }),
            Outcome::Deleted { revision } => done(Some(revision), Told::Deleted(true)),
            Outcome::NothingDeleted => done(None, Told::Deleted(false)),
            Outcome::Refused { current } => Answer::Refused { current },
            Outcome::Txn(TxnDone { succeeded, revision, results }) => {
                let steps = action.branch(succeeded);
                let told = steps.iter().zip(&results).map(|(step, it)| self.told(group, *step, it));
                let told: Option<Vec<Told>> = told.collect();
                let Some(told) = told.filter(|told| told.len() == steps.len()) else {
                    let what = self.prefix_of(group);
                    self.findings
                        .violation(format_args!("{what}: no answer to {action:?}: {results:?}"));
                    return None;
                };
                let wrote = told.iter().any(has_written);
                if !wrote && revision < newest_before {
                    let what = self.prefix_of(group);
                    self.findings.violation(format_args!(
                        "{what}: a transaction at {revision} after {newest_before} was seen"
                    ));
                }
                Answer::Done { succeeded, revision: wrote.then_some(revision), told }
            }
        })
    }

    /// What the checker has for a result of a transaction; nothing when it is not one of this step.
    fn told(&self, group: usize, step: Step, result: &TxnAnswer) -> Option<Told> {
        match (step, result) {
            (Step::Put(..), TxnAnswer::Put { version, .. }) => {
                Some(Told::Put { version: *version })
            }
            (Step::Delete(_), TxnAnswer::Delete { deleted }) => Some(Told::Deleted(*deleted > 0)),
            (Step::Get(_), TxnAnswer::Get { forgotten: true, .. })
            | (Step::GetAll, TxnAnswer::Range { forgotten: true, .. }) => Some(Told::Forgotten),
            (Step::Get(slot), TxnAnswer::Get { item, too_large: false, .. }) => {
                let name = self.name(group, slot);
                Some(Told::Seen(item.as_ref().and_then(|item| self.see(&name, item))))
            }
            (Step::GetAll, TxnAnswer::Range { items, more: false, .. }) => {
                Some(Told::All(self.see_all(group, items)))
            }
            _ => None,
        }
    }

    /// What an answer teaches its client and everybody.
    fn note_answer(
        &self,
        client: usize,
        group: usize,
        action: &Action,
        newest: Revision,
        answer: &Answer,
    ) {
        let (succeeded, revision, told) = match answer {
            Answer::Done { succeeded, revision, told } => (*succeeded, *revision, told),
            Answer::Refused { .. } => {
                let (slot, _) = action.checks[0];
                self.facts().groups[group].knowledge.forget(client, slot);
                return;
            }
        };
        let mut written = BTreeSet::new();
        for (step, told) in action.branch(succeeded).iter().zip(told) {
            match (*step, *told, revision) {
                (Step::Put(slot, value), Told::Put { version }, Some(revision)) => {
                    written.insert(self.name(group, slot));
                    let seen = Seen { value, version, revision };
                    self.note_seen(Some(client), group, slot, Some(seen));
                }
                (Step::Delete(slot), told, _) => {
                    if has_written(&told) {
                        written.insert(self.name(group, slot));
                    }
                    self.note_seen(Some(client), group, slot, None);
                }
                (step, told, _) => self.note_shown(Some(client), group, step, told),
            }
        }
        if let Some(revision) = revision {
            self.note_acknowledged(&self.prefix_of(group), revision, newest, written);
        }
    }

    /// A write that was acknowledged is newer than all that was seen before it began.
    fn note_acknowledged(
        &self,
        what: &str,
        revision: Revision,
        newest_before: Revision,
        written: BTreeSet<String>,
    ) {
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
        if revision <= newest_before {
            self.findings.violation(format_args!(
                "{what}: revision {revision} for a write after {newest_before} was seen"
            ));
        }
        let mut facts = self.facts();
        facts.newest = facts.newest.max(revision);
        if let Some(others) = facts.acknowledged.insert(revision, written) {
            self.findings.violation(format_args!(
                "{what}: revision {revision} was acknowledged before, for {others:?}"
            ));
        }
    }
}

fn has_written(told: &Told) -> bool {
    matches!(told, Told::Put { .. } | Told::Deleted(true))
}
