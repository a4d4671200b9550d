//! Reads: by clients, and of everything at the end.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use conuredb::client::{Item, ReadOptions};
use conuredb::processes::{PATIENCE, ProcessError, until};
use conuredb::simulation::history::Seen;
use conuredb::simulation::values;
use conuredb::types::Revision;
use reqwest::Method;

use super::acts::{Action, Answer};
use super::{Client, Workload};
use crate::http::{Http, Reply};

impl Workload {
    pub(super) async fn read(&self, client: &mut Client) {
        let (register, name) = self.any_register(client);
        let by = format!("c{}", client.number);
        let seen = match client.persistent.clone() {
            Some(persistent) => {
                let invoked = self.event();
                let item = persistent.get_item(name.as_bytes(), ReadOptions::default()).await;
                item.ok().map(|item| {
                    let seen = item.and_then(|item| self.see(&name, &item));
                    self.note_read(register, by, invoked, seen);
                    seen
                })
            }
            None => {
                let node = self.any_node(client);
                self.read_at(&client.http, node, register, &name, by).await
            }
        };
        let mut facts = self.facts();
        let it = &mut facts.registers[register];
        match seen {
            Some(Some(seen)) => drop(it.known.insert(client.number, seen.revision)),
            Some(None) => drop(it.known.remove(&client.number)),
            None => {}
        }
        it.under_way -= 1;
    }

    /// A linearizable read at a node. `None` when it gave no answer.
    async fn read_at(
        &self,
        http: &Http,
        node: usize,
        register: usize,
        name: &str,
        by: String,
    ) -> Option<Option<Seen>> {
        let newest = self.facts().newest;
        let invoked = self.event();
        let reply = self.get(http, node, name, "").await?;
        let (revision, seen) = self.shown(name, &reply)?;
        if revision < newest {
            let node = &self.stations[node].url;
            self.findings.violation(format_args!(
                "{node} showed revision {revision} after {newest} was seen"
            ));
        }
        self.note_read(register, format!("{by} at node{}", node + 1), invoked, seen);
        let mut facts = self.facts();
        facts.newest = facts.newest.max(revision);
        Some(seen)
    }

    /// Takes note of a linearizable read that has just been answered.
    fn note_read(&self, register: usize, by: String, invoked: u64, seen: Option<Seen>) {
        let returned = (self.event(), Answer::Seen(seen));
        if let Some(seen) = seen {
            self.note_seen(&mut self.facts().registers[register], seen);
        }
        self.note_call(register, by, Action::Read, invoked, Some(returned));
    }

    pub(super) async fn read_stale(&self, client: &mut Client) {
        let (register, name) = self.any_register(client);
        let node = self.any_node(client);
        let life = self.stations[node].life();
        let shown = match self.get(&client.http, node, &name, "?stale=true").await {
            Some(reply) => self.shown(&name, &reply),
            None => None,
        };
        let life = life.filter(|life| self.stations[node].life() == Some(*life));
        if let Some((revision, seen)) = shown {
            self.operations.fetch_add(1, Ordering::SeqCst);
            let mut facts = self.facts();
            let place = (client.number, node);
            let before = life.and_then(|life| facts.stale.insert(place, (life, revision)));
            if let Some((_, before)) =
                before.filter(|before| Some(before.0) == life && revision < before.1)
            {
                let (node, number) = (&self.stations[node].url, client.number);
                self.findings.violation(format_args!(
                    "{node} went back from {before} to {revision} for c{number}"
                ));
            }
            if let Some(seen) = seen {
                if seen.revision > revision {
                    let at = seen.revision;
                    self.findings.violation(format_args!(
                        "{name}: a record of {at} in a state of {revision}"
                    ));
                }
                self.note_seen(&mut facts.registers[register], seen);
            }
        }
        self.end_call(register);
    }

    async fn get(&self, http: &Http, node: usize, name: &str, query: &str) -> Option<Reply> {
        let url = format!("{}/kv/{name}{query}", self.stations[node].url);
        let json = [("accept", "application/json".to_owned())];
        http.send(Method::GET, url, &json, Bytes::new()).await.ok()
    }

    /// The revision and the record that a reply shows; `None` when it is a refusal.
    fn shown(&self, name: &str, reply: &Reply) -> Option<(Revision, Option<Seen>)> {
        if !matches!(reply.status, 200 | 404) {
            return None;
        }
        let revision = reply.number("x-conure-revision");
        let item = serde_json::from_slice::<Item>(&reply.body);
        match (revision, reply.status, item) {
            (Some(revision), 404, _) => Some((revision, None)),
            (Some(revision), _, Ok(item)) => Some((revision, self.see(name, &item))),
            _ => {
                self.findings
                    .violation(format_args!("{name}: an answer that is none: {}", reply.text()));
                None
            }
        }
    }

    /// Which write a record is.
    fn see(&self, name: &str, item: &Item) -> Option<Seen> {
        let bytes = item.value.as_deref().unwrap_or_default();
        let value =
            values::parse(bytes).filter(|value| *value < self.values.load(Ordering::SeqCst));
        let Some(value) = value else {
            self.findings
                .violation(format_args!("{name} holds {} bytes that nobody wrote", bytes.len()));
            return None;
        };
        if self.facts().refused.contains(&value) {
            self.findings
                .violation(format_args!("{name} holds value {value}, whose write was refused"));
        }
        Some(Seen { value, version: item.version, revision: item.mod_revision })
    }

    /// Reads all contended keys from a node that is well.
    pub async fn read_all(&self, http: &Http, node: usize) -> Result<(), ProcessError> {
        let count = self.facts().registers.len();
        for register in 0..count {
            let name = self.facts().registers[register].name.clone();
            until(&format!("node{} to give {name}", node + 1), PATIENCE, async || {
                self.read_at(http, node, register, &name, "at the end".to_owned()).await
            })
            .await?;
        }
        Ok(())
    }
}
