//! What clients read, while they write and at the end, and what that must be.

use super::super::client::{key_of, status, view};
use super::super::history::{Action, Answer, Call, Seen};
use super::super::linearizable::{Verdict, check};
use super::super::values::{self, body};
use super::{Life, Register, Workload};
use crate::actors::messages::{Consistency, RequestError};
use crate::types::Record;

impl Workload {
    pub(super) async fn read(&self, client: usize, node: &str) {
        let Some(register) = self.any_register() else { return };
        self.read_register(&format!("c{client}"), Some(client), node, register).await;
        self.facts.borrow_mut().registers[register].under_way -= 1;
    }

    /// A linearizable read. False when no answer came.
    async fn read_register(
        &self,
        by: &str,
        client: Option<usize>,
        node: &str,
        register: usize,
    ) -> bool {
        let name = self.name(register);
        let (invoked, newest) = (self.event(), self.facts.borrow().newest);
        let start = self.world.starts(node);
        let result = view(&self.world, node, Consistency::Linearizable).await;
        let result = result.and_then(|it| Ok((it.view.revision(), it.view.get(&key_of(&name))?)));
        let (revision, record) = match result {
            Ok(read) => read,
            Err(error) => {
                self.note_refusal(node, start, &error);
                return false;
            }
        };
        let returned = self.event();
        if revision < newest {
            let what = format!("{node} showed revision {revision} after {newest} was seen");
            self.findings.violation(&self.world, what);
        }
        let seen = record.and_then(|record| self.see(&name, &record));
        self.world.note(format_args!("{by} read {name} at {node}: {seen:?} of {revision}"));
        let mut facts = self.facts.borrow_mut();
        facts.newest = facts.newest.max(revision);
        let it = &mut facts.registers[register];
        if let Some(seen) = seen {
            self.note_seen(it, seen);
        }
        if let Some(client) = client {
            match seen {
                Some(seen) => it.known.insert(client, seen.revision),
                None => it.known.remove(&client),
            };
        }
        let returned = Some((returned, Answer::Seen(seen)));
        it.calls.push(Call {
            by: format!("{by} at {node}"),
            action: Action::Read,
            invoked,
            returned,
        });
        true
    }

    pub(super) async fn read_stale(&self, client: usize, node: &str) {
        let register = self.world.chance.below(self.load.keys as u64) as usize;
        let (name, start) = (self.name(register), self.world.starts(node));
        let Some(before) = self.life(node).await else { return };
        let result = view(&self.world, node, Consistency::Stale { max_stale: None }).await;
        let result = result.and_then(|it| Ok((it.view.revision(), it.view.get(&key_of(&name))?)));
        let (revision, record) = match result {
            Ok(read) => read,
            Err(error) => return self.note_refusal(node, start, &error),
        };
        let seen = record.and_then(|record| self.see(&name, &record));
        self.world
            .note(format_args!("c{client} read {name} stale at {node}: {seen:?} of {revision}"));
        self.findings.checked(1);
        let life = self.life(node).await;
        let mut facts = self.facts.borrow_mut();
        let connection = facts.connections.entry((client, node.to_string())).or_default();
        if life == Some(before) && connection.0 == before && revision < connection.1 {
            let before = connection.1;
            let what =
                format!("{node} went back from revision {before} to {revision} for c{client}");
            self.findings.violation(&self.world, what);
        }
        *connection = (before, revision);
        let Some(seen) = seen else { return };
        if seen.revision > revision {
            let what = format!("{node} showed revision {} of {name} at {revision}", seen.revision);
            self.findings.violation(&self.world, what);
        }
        self.note_seen(&mut facts.registers[register], seen);
    }

    async fn life(&self, node: &str) -> Option<Life> {
        let start = self.world.starts(node);
        Some((start, status(&self.world, node).await?.node_id))
    }

    fn see(&self, key: &str, record: &Record) -> Option<Seen> {
        let Some(value) = values::parse(&record.value) else {
            let len_bytes = record.value.len();
            let what = format!("{key} holds {len_bytes} bytes that nobody wrote");
            self.findings.violation(&self.world, what);
            return None;
        };
        Some(Seen { value, version: record.version, revision: record.mod_revision })
    }

    pub(super) fn note_seen(&self, register: &mut Register, seen: Seen) {
        if let Err(what) = register.revisions.note(seen) {
            self.findings.violation(&self.world, format!("{}: {what}", register.name));
        }
    }

    fn note_refusal(&self, node: &str, start: u64, error: &RequestError) {
        if let RequestError::Storage { detail } = error {
            self.world.note(format_args!("{node} refused a read: {detail}"));
            self.findings.complain(node, start);
        }
    }

    /// Reads everything from a node that is well. False when it refused a read.
    pub async fn read_all(&self, node: &str) -> bool {
        for register in 0..self.load.keys {
            if !self.read_register("at the end", None, node, register).await {
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

    /// Looks for an order that explains each key.
    pub fn judge(&self) {
        for register in &self.facts.borrow().registers {
            self.findings.checked(register.calls.len() as u64);
            match check(&register.calls, &register.revisions) {
                Verdict::Linearizable => {}
                Verdict::Violation(how) => {
                    let what = format!("{} is not linearizable: {how}", register.name);
                    self.findings.violation(&self.world, what);
                }
                Verdict::Undecided => self.findings.undecided(&self.world, &register.name),
            }
        }
    }
}
