//! Reads: by clients, and of everything at the end.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use conuredb::client::{Item, Page, ReadOptions, Scan};
use conuredb::processes::{PATIENCE, ProcessError, until};
use conuredb::simulation::history::{Action, Answer, MAX_SLOTS, Seen, Slot, Step, Told};
use conuredb::simulation::values;
use conuredb::types::Revision;
use rand::Rng;
use reqwest::Method;

use super::{Client, Workload};
use crate::http::{Http, Reply};

/// What a read shows, and the revision that it is of, where that is said.
type Shown = (Option<Revision>, Told);

impl Workload {
    /// A linearizable read of a key, or of all of a group.
    pub(super) async fn read(&self, client: &mut Client) {
        let group = self.any_group(client);
        let step = match client.chance.random_range(0..3) {
            0 => Step::GetAll,
            _ => Step::Get(client.chance.random_range(0..self.slots(group))),
        };
        let by = format!("c{}", client.number);
        match client.persistent.clone() {
            Some(persistent) => {
                let (newest, invoked) = (self.facts().newest, self.event());
                let shown = match step {
                    Step::Get(slot) => {
                        let name = self.name(group, slot);
                        let item =
                            persistent.get_item(name.as_bytes(), ReadOptions::default()).await;
                        item.ok().map(|item| (None, self.told_of(&name, item.as_ref())))
                    }
                    _ => {
                        let prefix = Bytes::from(self.prefix_of(group));
                        let page = persistent.scan(&Scan { prefix, ..Scan::default() }).await;
                        page.ok().map(|page| self.told_of_page(group, &page))
                    }
                };
                if let Some(shown) = shown {
                    self.note_read(Some(client.number), by, group, step, (invoked, newest), shown);
                }
            }
            None => {
                let (node, number) = (self.any_node(client), client.number);
                self.read_at(&client.http, Some(number), node, group, step, by).await;
            }
        }
        self.end_call(group);
    }

    /// A linearizable read at a node. `None` when it gave no answer.
    async fn read_at(
        &self,
        http: &Http,
        client: Option<usize>,
        node: usize,
        group: usize,
        step: Step,
        by: String,
    ) -> Option<()> {
        let (newest, invoked) = (self.facts().newest, self.event());
        let shown = match step {
            Step::Get(slot) => {
                let name = self.name(group, slot);
                let reply = self.get(http, node, &format!("/kv/{name}")).await?;
                let (revision, item) = self.shown(&name, &reply)?;
                (Some(revision), self.told_of(&name, item.as_ref()))
            }
            _ => {
                let prefix = self.prefix_of(group);
                let reply = self.get(http, node, &format!("/kv?prefix={prefix}")).await?;
                if reply.status != 200 {
                    return None;
                }
                match serde_json::from_slice(&reply.body) {
                    Ok(page) => self.told_of_page(group, &page),
                    Err(_) => {
                        self.odd_answer(&prefix, &reply);
                        return None;
                    }
                }
            }
        };
        let by = format!("{by} at node{}", node + 1);
        self.note_read(client, by, group, step, (invoked, newest), shown);
        Some(())
    }

    /// Takes note of a linearizable read that has just been answered. `before` is the moment when it began, and the
    /// newest revision that had been seen then.
    fn note_read(
        &self,
        client: Option<usize>,
        by: String,
        group: usize,
        step: Step,
        before: (u64, Revision),
        (revision, told): Shown,
    ) {
        let (invoked, newest) = before;
        let returned = self.event();
        if let Some(revision) = revision {
            if revision < newest {
                self.findings.violation(format_args!(
                    "{by} was shown revision {revision} after {newest} was seen"
                ));
            }
            let mut facts = self.facts();
            facts.newest = facts.newest.max(revision);
        }
        self.note_shown(client, group, step, told);
        let answer = Answer::Done { succeeded: true, revision: None, told: vec![told] };
        self.note_call(group, by, Action::just(step), invoked, Some((returned, answer)));
    }

    pub(super) async fn read_stale(&self, client: &mut Client) {
        let group = self.any_group(client);
        let slot = client.chance.random_range(0..self.slots(group));
        let (name, node) = (self.name(group, slot), self.any_node(client));
        let life = self.stations[node].life();
        let shown = match self.get(&client.http, node, &format!("/kv/{name}?stale=true")).await {
            Some(reply) => self.shown(&name, &reply),
            None => None,
        };
        let life = life.filter(|life| self.stations[node].life() == Some(*life));
        if let Some((revision, item)) = shown {
            self.operations.fetch_add(1, Ordering::SeqCst);
            let place = (client.number, node);
            let before = life.and_then(|life| self.facts().stale.insert(place, (life, revision)));
            if let Some((_, before)) =
                before.filter(|before| Some(before.0) == life && revision < before.1)
            {
                let (node, number) = (&self.stations[node].url, client.number);
                self.findings.violation(format_args!(
                    "{node} went back from {before} to {revision} for c{number}"
                ));
            }
            if let Some(seen) = item.and_then(|item| self.see(&name, &item)) {
                if seen.revision > revision {
                    let at = seen.revision;
                    self.findings.violation(format_args!(
                        "{name}: a record of {at} in a state of {revision}"
                    ));
                }
                self.note_seen(None, group, slot, Some(seen));
            }
        }
        self.end_call(group);
    }

    async fn get(&self, http: &Http, node: usize, target: &str) -> Option<Reply> {
        let url = format!("{}{target}", self.stations[node].url);
        let json = [("accept", "application/json".to_owned())];
        http.send(Method::GET, url, &json, Bytes::new()).await.ok()
    }

    /// The revision and the record that a reply shows; `None` when it is a refusal.
    fn shown(&self, name: &str, reply: &Reply) -> Option<(Revision, Option<Item>)> {
        if !matches!(reply.status, 200 | 404) {
            return None;
        }
        let revision = reply.number("x-conure-revision");
        let item = serde_json::from_slice::<Item>(&reply.body);
        match (revision, reply.status, item) {
            (Some(revision), 404, _) => Some((revision, None)),
            (Some(revision), _, Ok(item)) => Some((revision, Some(item))),
            _ => {
                self.odd_answer(name, reply);
                None
            }
        }
    }

    fn odd_answer(&self, what: &str, reply: &Reply) {
        self.findings.violation(format_args!("{what}: an answer that is none: {}", reply.text()));
    }

    fn told_of(&self, name: &str, item: Option<&Item>) -> Told {
        Told::Seen(item.and_then(|item| self.see(name, item)))
    }

    fn told_of_page(&self, group: usize, page: &Page) -> Shown {
        (Some(page.revision), Told::All(self.see_all(group, &page.items)))
    }

    /// The records of a group by its slots.
    pub(super) fn see_all(&self, group: usize, items: &[Item]) -> [Option<Seen>; MAX_SLOTS] {
        let mut all = [None; MAX_SLOTS];
        let names: Vec<String> =
            (0..self.slots(group)).map(|slot| self.name(group, slot)).collect();
        for item in items {
            match names.iter().position(|name| name.as_bytes() == item.key) {
                Some(slot) => all[slot] = self.see(&names[slot], item),
                None => self.findings.violation(format_args!("{:?} is no one's key", item.key)),
            }
        }
        all
    }

    /// Which write a record is.
    pub(super) fn see(&self, name: &str, item: &Item) -> Option<Seen> {
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

    /// Takes note of what a read of a group showed.
    pub(super) fn note_shown(&self, client: Option<usize>, group: usize, step: Step, told: Told) {
        for (slot, seen) in step.shown(told, self.slots(group)) {
            self.note_seen(client, group, slot, seen);
        }
    }

    /// Takes note of a record that was seen, or that there is none: one that contradicts another is a finding.
    pub(super) fn note_seen(
        &self,
        client: Option<usize>,
        group: usize,
        slot: Slot,
        seen: Option<Seen>,
    ) {
        let noted = self.facts().groups[group].knowledge.note(client, slot, seen);
        if let Err(what) = noted {
            self.findings.violation(format_args!("{}: {what}", self.name(group, slot)));
        }
    }

    /// Reads all contended keys from a node that is well.
    pub async fn read_all(&self, http: &Http, node: usize) -> Result<(), ProcessError> {
        let count = self.facts().groups.len();
        for group in 0..count {
            let what = format!("node{} to give {}", node + 1, self.prefix_of(group));
            until(&what, PATIENCE, async || {
                let by = "at the end".to_owned();
                self.read_at(http, None, node, group, Step::GetAll, by).await
            })
            .await?;
        }
        Ok(())
    }
}
