//! Writes: sent by either kind of client, and what their answers tell.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use conuredb::client::{Applied, ClientError};
use conuredb::simulation::history::Seen;
use conuredb::simulation::values::body;
use conuredb::types::{Condition, Revision};
use rand::Rng;
use reqwest::Method;

use super::acts::{Action, Answer};
use super::{Client, Workload};
use crate::http::{Lost, Reply};

/// How often a plain client sends a write with an idempotency key.
const ATTEMPTS: u32 = 3;

/// What became of a write.
enum Sent {
    Answered(Answer),
    /// Surely without effect: nobody may ever see it.
    Refused,
    Unknown,
}

impl Workload {
    pub(super) async fn put(&self, client: &mut Client, condition: Condition) {
        let (register, name) = self.any_register(client);
        let action = Action::Put { value: self.new_value(), condition };
        self.change(client, register, &name, action).await;
    }

    /// Writes or deletes the key if it still is what this client saw last.
    pub(super) async fn replace(&self, client: &mut Client) {
        let (register, name) = self.any_register(client);
        let known = self.facts().registers[register].known.get(&client.number).copied();
        let condition = known.map_or(Condition::Absent, Condition::ModRevision);
        let action = match client.chance.random_range(0..4) {
            0 => Action::Delete { condition },
            _ => Action::Put { value: self.new_value(), condition },
        };
        self.change(client, register, &name, action).await;
    }

    pub(super) async fn delete(&self, client: &mut Client) {
        let (register, name) = self.any_register(client);
        self.change(client, register, &name, Action::Delete { condition: Condition::None }).await;
    }

    pub(super) async fn put_once(&self, client: &mut Client) {
        let value = self.new_value();
        let name = format!("{}once/{value}", self.prefix);
        let action = Action::Put { value, condition: Condition::None };
        let newest = self.facts().newest;
        let sent = self.send(client, &name, action).await;
        self.operations.fetch_add(1, Ordering::SeqCst);
        match sent {
            Sent::Answered(Answer::Put { version, revision }) => {
                if version != 1 {
                    self.findings.duplicated(format_args!("{name} is in version {version}"));
                }
                self.note_revision(&name, revision, newest);
                self.facts().once.insert(name, value);
            }
            Sent::Answered(answer) => {
                self.findings.violation(format_args!("{name}: a put was answered with {answer:?}"));
            }
            Sent::Refused => {
                self.facts().refused.insert(value);
            }
            Sent::Unknown => {
                self.facts().in_doubt.insert(name, value);
            }
        }
    }

    /// Carries out a write of a contended key, and takes note of it.
    async fn change(&self, client: &mut Client, register: usize, name: &str, action: Action) {
        let newest = self.facts().newest;
        let invoked = self.event();
        let sent = self.send(client, name, action).await;
        let returned = self.event();
        let answer = match sent {
            Sent::Answered(answer) => Some((returned, answer)),
            Sent::Unknown => None,
            Sent::Refused => {
                if let Action::Put { value, .. } = action {
                    self.facts().refused.insert(value);
                }
                return self.end_call(register);
            }
        };
        if let Some((_, Answer::Put { revision, .. } | Answer::Deleted { revision })) = answer {
            self.note_revision(name, revision, newest);
        }
        {
            let mut facts = self.facts();
            let it = &mut facts.registers[register];
            match (answer, action) {
                (Some((_, Answer::Put { revision, version })), Action::Put { value, .. }) => {
                    it.known.insert(client.number, revision);
                    self.note_seen(it, Seen { value, version, revision });
                }
                (Some((_, Answer::Refused { .. } | Answer::Deleted { .. })), _) => {
                    it.known.remove(&client.number);
                }
                _ => {}
            }
        }
        self.note_call(register, format!("c{}", client.number), action, invoked, answer);
        self.end_call(register);
    }

    /// A write that was acknowledged is newer than all that was seen before it began.
    fn note_revision(&self, name: &str, revision: Revision, newest_before: Revision) {
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
        if revision <= newest_before {
            self.findings.violation(format_args!(
                "{name}: revision {revision} for a write after {newest_before} was seen"
            ));
        }
        let mut facts = self.facts();
        facts.newest = facts.newest.max(revision);
        facts.acknowledged.insert(revision, name.to_owned());
    }

    async fn send(&self, client: &mut Client, name: &str, action: Action) -> Sent {
        let persistent = client.persistent.clone();
        let sent = match (persistent, action) {
            (Some(persistent), Action::Put { value, condition: Condition::None }) => {
                let put = persistent.put(name.as_bytes(), body(value), Condition::None).await;
                put.map(|put| Answer::Put { revision: put.revision, version: put.version })
            }
            (Some(persistent), Action::Delete { condition: Condition::None }) => {
                let deleted = persistent.delete(name.as_bytes(), Condition::None).await;
                deleted.map(|deleted| deleted_answer(deleted.existed, deleted.revision))
            }
            _ => return self.send_plain(client, name, action).await,
        };
        match sent {
            Ok(answer) => Sent::Answered(answer),
            Err(error) => {
                self.note_odd_refusal(name, &error);
                match error.applied() {
                    Applied::No => Sent::Refused,
                    Applied::Unknown => Sent::Unknown,
                }
            }
        }
    }

    /// Refusals that no fault explains.
    fn note_odd_refusal(&self, name: &str, error: &ClientError) {
        if error.problem().is_some_and(|problem| is_odd(problem.status)) {
            self.findings.violation(format_args!("{name}: {error}"));
        }
    }

    async fn send_plain(&self, client: &mut Client, name: &str, action: Action) -> Sent {
        let mut headers = vec![("accept", "application/json".to_owned())];
        let mut attempts = 1;
        if client.chance.random_range(0..3) > 0 {
            client.sequence += 1;
            headers.push(("idempotency-key", format!("{}:{}", client.session, client.sequence)));
            attempts = ATTEMPTS;
        }
        let (method, value, condition) = match action {
            Action::Put { value, condition } => (Method::PUT, Bytes::from(body(value)), condition),
            Action::Delete { condition } => (Method::DELETE, Bytes::new(), condition),
            Action::Read => unreachable!("a read is no write"),
        };
        match condition {
            Condition::None => {}
            Condition::Absent => headers.push(("if-none-match", "*".to_owned())),
            Condition::Present => headers.push(("if-match", "*".to_owned())),
            Condition::ModRevision(revision) => {
                headers.push(("if-match", format!("\"{revision}\"")))
            }
        }
        let mut is_unknown = false;
        for _ in 0..attempts {
            let url = format!("{}/kv/{name}", self.stations[self.any_node(client)].url);
            match client.http.send(method.clone(), url, &headers, value.clone()).await {
                Ok(reply) => match self.plain_answer(name, action, &reply) {
                    Some(answer) => return Sent::Answered(answer),
                    None if reply.was_refused() => {}
                    None => is_unknown = true,
                },
                Err(Lost::Unsent) => {}
                Err(Lost::Unanswered) => is_unknown = true,
            }
        }
        match is_unknown {
            true => Sent::Unknown,
            false => Sent::Refused,
        }
    }

    /// What a reply tells of a write; `None` when it was not carried out, or who knows.
    fn plain_answer(&self, name: &str, action: Action, reply: &Reply) -> Option<Answer> {
        match (reply.status, action) {
            (200, Action::Put { .. }) => {
                let said = reply.json();
                let put = said["revision"].as_u64().zip(said["version"].as_u64());
                put.map(|(revision, version)| Answer::Put { revision, version })
            }
            (200, _) => {
                let existed = reply.number("x-conure-deleted") == Some(1);
                Some(deleted_answer(existed, reply.number("x-conure-revision")))
            }
            (412, _) => {
                Some(Answer::Refused { current: reply.json()["current_revision"].as_u64() })
            }
            (status, _) => {
                if is_odd(status) {
                    self.findings.violation(format_args!("{name}: {status} {}", reply.text()));
                }
                None
            }
        }
    }
}

/// A status that no fault explains: the request was good, and whoever cannot serve it says 5xx or 429.
fn is_odd(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 408 | 429)
}

fn deleted_answer(existed: bool, revision: Option<Revision>) -> Answer {
    match existed {
        true => Answer::Deleted { revision: revision.unwrap_or_default() },
        false => Answer::NothingDeleted,
    }
}
