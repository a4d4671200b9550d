//! How clients send what they write, and what an answer teaches them.

use super::super::client::write;
use super::super::history::{Answer, Call, Seen, Step, Told};
use super::Workload;
use super::plans::Plan;
use crate::actors::messages::{Applied, RequestError};
use crate::types::{Operation, Outcome, RequestId, Revision, TxnResult};

/// How often a write with an idempotency key is sent.
const ATTEMPTS: u32 = 3;

/// One answered write in so many, of those with an idempotency key, is sent again.
const SENT_AGAIN_ONE_IN: u64 = 12;

impl Workload {
    /// Carries out a write of contended keys, and takes note of it.
    pub(super) async fn change(&self, client: usize, node: &str, group: usize, plan: Plan) {
        // Most writes carry an idempotency key.
        let request_id = (self.below(3) > 0).then(|| self.request_id(client));
        let Plan { action, operation } = plan;
        let what = format!("{action:?} of group {group}");
        let began_ms = self.world.right_ms();
        let (invoked, newest) = (self.event(), self.facts.borrow().newest);
        let outcome = self.send(client, node, &what, operation, request_id).await;
        let returned = self.event();
        // Surely without effect: nobody may ever see it.
        let Ok(outcome) = outcome else { return };
        let present = match &outcome {
            Some(Outcome::Txn { revision, .. }) => Some(*revision),
            _ => None,
        };
        let answer = outcome.and_then(|outcome| self.answer(&what, &action, outcome));
        let by = format!("c{client} at {node}");
        let returned = answer.map(|answer| (returned, answer));
        let call = Call { by, action, invoked, returned };
        self.note_times(&call, began_ms);
        self.note_answer(client, group, &call, newest, present);
        self.facts.borrow_mut().groups[group].calls.push(call);
    }

    /// When records that expire were put, for the check of their deadlines.
    fn note_times(&self, call: &Call, began_ms: Option<u64>) {
        let put_ms = began_ms.zip(self.world.right_ms());
        let mut facts = self.facts.borrow_mut();
        for (step, _) in call.done() {
            if let Step::Put(_, value) = step
                && let Some(brief) = facts.brief.get_mut(&value)
            {
                brief.put_ms = put_ms;
            }
        }
    }

    /// What an answer teaches its client and everybody. `present` is the revision that a transaction names.
    fn note_answer(
        &self,
        client: usize,
        group: usize,
        call: &Call,
        newest: Revision,
        present: Option<Revision>,
    ) {
        let revision = match call.answer() {
            None => return,
            Some(Answer::Done { revision, .. }) => *revision,
            Some(Answer::Refused { .. }) => {
                let slot = call.action.checks[0].0;
                self.facts.borrow_mut().groups[group].knowledge.forget(client, slot);
                return;
            }
        };
        if let Some(revision) = revision
            && revision <= newest
        {
            let what = format!("revision {revision} for a write after {newest} was seen: {call:?}");
            self.findings.violation(&self.world, what);
        }
        if let Some(revision) = revision {
            self.learn(revision);
        }
        for (step, told) in call.done() {
            match (step, told, revision) {
                (Step::Put(slot, value), Told::Put { version }, Some(revision)) => {
                    let seen = Seen { value, version, revision };
                    self.note_seen(Some(client), group, slot, Some(seen));
                }
                (Step::Delete(slot), ..) => {
                    self.facts.borrow_mut().groups[group].knowledge.forget(client, slot);
                }
                (Step::Get(_) | Step::GetAll, ..) => {
                    // What it read beside its own writes is not the state of a revision.
                    let at = if revision.is_none() { present } else { None };
                    self.note_told(&call.by, Some(client), group, step, told, at);
                }
                _ => {}
            }
        }
    }

    /// A revision was seen acknowledged.
    pub(super) fn learn(&self, revision: Revision) {
        let latest_ms = self.world.latest_clock_ms();
        let mut facts = self.facts.borrow_mut();
        if revision > facts.newest {
            facts.newest = revision;
            facts.clocks.insert(revision, latest_ms);
        }
    }

    /// Sends a write until its outcome is known or it may not be sent again: `Ok(None)` when it stays unknown,
    /// an error when it surely had no effect.
    pub(super) async fn send(
        &self,
        client: usize,
        node: &str,
        what: &str,
        operation: Operation,
        request_id: Option<RequestId>,
    ) -> Result<Option<Outcome>, RequestError> {
        let attempts = if request_id.is_some() { ATTEMPTS } else { 1 };
        let id = request_id.as_ref().map_or(0, |id| id.sequence);
        let mut node = node.to_string();
        let mut is_unknown = false;
        for _ in 0..attempts {
            let result = write(&self.world, &node, operation.clone(), request_id.clone()).await;
            self.world.note(format_args!("c{client}:{id} {what} at {node}: {}", told(&result)));
            match result {
                Ok(outcome) => {
                    if request_id.is_some() && self.world.chance.below(SENT_AGAIN_ONE_IN) == 0 {
                        self.send_again(what, operation, request_id, &outcome).await;
                    }
                    return Ok(Some(outcome));
                }
                Err(error) if error.applied() == Applied::Unknown => is_unknown = true,
                Err(error) if !is_unknown => return Err(error),
                Err(_) => {}
            }
            node = self.any_node();
        }
        Ok(None)
    }

    /// Sends a write that was answered once more: it gets that answer again, perhaps without what it had read.
    async fn send_again(
        &self,
        what: &str,
        operation: Operation,
        request_id: Option<RequestId>,
        first: &Outcome,
    ) {
        let node = self.any_node();
        let Ok(again) = write(&self.world, &node, operation, request_id).await else { return };
        self.findings.checked(1);
        let is_same = match (first, &again) {
            (
                Outcome::Txn { succeeded, revision, results },
                Outcome::Txn { succeeded: its_success, revision: its_revision, results: its },
            ) => {
                let alike = |(a, b): (&TxnResult, &TxnResult)| a == b || *b == TxnResult::Forgotten;
                (succeeded, revision, results.len()) == (its_success, its_revision, its.len())
                    && results.iter().zip(its).all(alike)
            }
            _ => *first == again,
        };
        if !is_same {
            let what = format!(
                "{what} was answered with {} and, sent again, with {}",
                told(&Ok(first.clone())),
                told(&Ok(again))
            );
            self.findings.violation(&self.world, what);
        }
    }
}

/// A result for the trace: what was read is told elsewhere, and is long.
fn told(result: &Result<Outcome, RequestError>) -> String {
    match result {
        Ok(Outcome::Txn { succeeded, revision, results }) => {
            format!("txn {succeeded} at {revision}, {} results", results.len())
        }
        other => format!("{other:?}"),
    }
}
