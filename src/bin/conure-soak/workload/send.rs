//! How either kind of client sends a write, and what becomes of it.

use bytes::Bytes;
use conuredb::client::{Applied, Client as Persistent, ClientError, txn_document};
use conuredb::simulation::values::body;
use conuredb::types::{Condition, Revision};
use rand::Rng;
use reqwest::Method;

use super::plans::{Outcome, Request};
use super::{Client, Workload};
use crate::http::{Lost, Reply};

/// How often a plain client sends a write with an idempotency key.
const ATTEMPTS: u32 = 3;

/// What became of a write.
pub enum Sent {
    Answered(Outcome),
    /// Surely without effect: nobody may ever see it.
    Refused,
    Unknown,
}

impl Workload {
    pub(super) async fn send(&self, client: &mut Client, what: &str, request: &Request) -> Sent {
        let sent = match client.persistent.clone() {
            Some(persistent) => send_until_known(&persistent, request).await,
            None => None,
        };
        match sent {
            None => self.send_plain(client, what, request).await,
            Some(Ok(outcome)) => Sent::Answered(outcome),
            Some(Err(error)) => {
                if error.problem().is_some_and(|problem| is_odd(problem.status)) {
                    self.findings.violation(format_args!("{what}: {error}"));
                }
                match error.applied() {
                    Applied::No => Sent::Refused,
                    Applied::Unknown => Sent::Unknown,
                }
            }
        }
    }

    async fn send_plain(&self, client: &mut Client, what: &str, request: &Request) -> Sent {
        let mut headers = vec![("accept", "application/json".to_owned())];
        let mut attempts = 1;
        if client.chance.random_range(0..3) > 0 {
            client.sequence += 1;
            headers.push(("idempotency-key", format!("{}:{}", client.session, client.sequence)));
            attempts = ATTEMPTS;
        }
        let (method, path, value, condition) = match request {
            Request::Put { key, value, condition } => {
                (Method::PUT, format!("/kv/{key}"), Bytes::from(body(*value)), *condition)
            }
            Request::Delete { key, condition } => {
                (Method::DELETE, format!("/kv/{key}"), Bytes::new(), *condition)
            }
            Request::Txn(txn) => {
                let document = Bytes::from(txn_document(txn).to_string());
                (Method::POST, "/txn".to_owned(), document, Condition::None)
            }
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
            let url = format!("{}{path}", self.stations[self.any_node(client)].url);
            match client.http.send(method.clone(), url, &headers, value.clone()).await {
                Ok(reply) => match self.plain_outcome(what, request, &reply) {
                    Some(outcome) => return Sent::Answered(outcome),
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
    fn plain_outcome(&self, what: &str, request: &Request, reply: &Reply) -> Option<Outcome> {
        match (reply.status, request) {
            (200, Request::Put { .. }) => {
                let said = reply.json();
                let put = said["revision"].as_u64().zip(said["version"].as_u64());
                put.map(|(revision, version)| Outcome::Put { revision, version })
            }
            (200, Request::Delete { .. }) => {
                let existed = reply.number("x-conure-deleted") == Some(1);
                Some(deleted(existed, reply.number("x-conure-revision")))
            }
            (200, Request::Txn(_)) => match serde_json::from_slice(&reply.body) {
                Ok(done) => Some(Outcome::Txn(done)),
                Err(error) => {
                    self.findings
                        .violation(format_args!("{what}: {error} in the answer {}", reply.text()));
                    None
                }
            },
            (412, Request::Put { .. } | Request::Delete { .. }) => {
                Some(Outcome::Refused { current: reply.json()["current_revision"].as_u64() })
            }
            (status, _) => {
                if is_odd(status) {
                    self.findings.violation(format_args!("{what}: {status} {}", reply.text()));
                }
                None
            }
        }
    }
}

/// Sends a write by the Rust client; nothing when it is one that plain requests are for.
async fn send_until_known(
    client: &Persistent,
    request: &Request,
) -> Option<Result<Outcome, ClientError>> {
    Some(match request {
        Request::Put { key, value, condition: Condition::None } => {
            let put = client.put(key.as_bytes(), body(*value), Condition::None).await;
            put.map(|put| Outcome::Put { revision: put.revision, version: put.version })
        }
        Request::Delete { key, condition: Condition::None } => {
            let gone = client.delete(key.as_bytes(), Condition::None).await;
            gone.map(|gone| deleted(gone.existed, gone.revision))
        }
        Request::Txn(txn) => client.txn(txn).await.map(Outcome::Txn),
        Request::Put { .. } | Request::Delete { .. } => return None,
    })
}

/// A status that no fault explains: the request was good, and whoever cannot serve it says 5xx or 429.
fn is_odd(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 408 | 429)
}

fn deleted(existed: bool, revision: Option<Revision>) -> Outcome {
    match existed {
        true => Outcome::Deleted { revision: revision.unwrap_or_default() },
        false => Outcome::NothingDeleted,
    }
}
