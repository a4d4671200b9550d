//! What clients read: of now, of a node's own state, and of the past.

use super::super::chronicle::Written;
use super::super::client::{status, view};
use super::super::history::{Action, Answer, Call, Seen, Slot, Step, Told};
use super::{Account, Life, Sighting, Workload};
use crate::actors::messages::{Consistency, NotKept, RequestError, View};
use crate::types::{Key, Record, Revision};

impl Workload {
    /// A linearizable read, by the lease or not. False when no answer came.
    pub(super) async fn read_group(
        &self,
        by: &str,
        client: Option<usize>,
        node: &str,
        group: usize,
        step: Step,
    ) -> bool {
        let consistency = match self.world.chance.below(2) {
            0 => Consistency::Lease,
            _ => Consistency::Linearizable,
        };
        let (invoked, newest) = (self.event(), self.facts.borrow().newest);
        let start = self.world.starts(node);
        let result = view(&self.world, node, consistency).await;
        let result =
            result.and_then(|it| Ok((it.view.revision(), self.look(&*it.view, group, step)?)));
        let (revision, told) = match result {
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
        self.learn(revision);
        let by = format!("{by} at {node}");
        self.world.note(format_args!(
            "{by} read {step:?} of group {group} ({consistency:?}): {told:?} of {revision}"
        ));
        self.note_told(&by, client, group, step, told, Some(revision));
        let answer = Answer::Done { succeeded: true, revision: None, told: vec![told] };
        let (action, returned) = (Action::just(step), Some((returned, answer)));
        let call = Call { by, action, invoked, returned };
        self.facts.borrow_mut().groups[group].calls.push(call);
        true
    }

    /// What a state shows of a key, or of a group.
    fn look(&self, view: &dyn View, group: usize, step: Step) -> Result<Told, RequestError> {
        match step {
            Step::Get(slot) => {
                let key = self.key(group, slot);
                let record = view.get(&key)?;
                Ok(Told::Seen(record.and_then(|record| self.see(&key, &record))))
            }
            _ => {
                let items: Vec<(Key, Record)> =
                    view.scan(&self.range(group), false, false).collect::<Result<_, _>>()?;
                Ok(self.told_of_all(&items))
            }
        }
    }

    pub(super) fn see(&self, key: &Key, record: &Record) -> Option<Seen> {
        match Written::of(key, record) {
            Ok(written) => Some(written.seen()),
            Err(what) => {
                self.findings.violation(&self.world, what);
                None
            }
        }
    }

    /// Takes note of what a read of a group showed; `at` is the revision that it was of, if that is known.
    pub(super) fn note_told(
        &self,
        by: &str,
        client: Option<usize>,
        group: usize,
        step: Step,
        told: Told,
        at: Option<Revision>,
    ) {
        for (slot, seen) in step.shown(told, self.slots(group)) {
            self.note_seen(client, group, slot, seen);
            if let Some(revision) = at {
                let (by, key) = (by.to_string(), self.key(group, slot));
                let sighting = Sighting { by, key, revision, seen };
                self.facts.borrow_mut().sightings.push(sighting);
            }
        }
    }

    /// What was seen of a key, and by which client now.
    pub(super) fn note_seen(
        &self,
        client: Option<usize>,
        group: usize,
        slot: Slot,
        seen: Option<Seen>,
    ) {
        let group = &mut self.facts.borrow_mut().groups[group];
        if let Err(what) = group.knowledge.note(client, slot, seen) {
            let what = format!("{}{slot}: {what}", group.prefix);
            self.findings.violation(&self.world, what);
        }
    }

    pub(super) async fn read_stale(&self, client: usize, node: &str) {
        let group = self.below(self.load.groups);
        let (step, start) = (self.draw_read(group), self.world.starts(node));
        let Some(before) = self.life(node).await else { return };
        let result = view(&self.world, node, Consistency::Stale { max_stale: None }).await;
        let result =
            result.and_then(|it| Ok((it.view.revision(), self.look(&*it.view, group, step)?)));
        let (revision, told) = match result {
            Ok(read) => read,
            Err(error) => return self.note_refusal(node, start, &error),
        };
        let by = format!("c{client}, stale, at {node}");
        self.world
            .note(format_args!("{by} read {step:?} of group {group}: {told:?} of {revision}"));
        self.findings.checked(1);
        let life = self.life(node).await;
        {
            let mut facts = self.facts.borrow_mut();
            let connection = facts.connections.entry((client, node.to_string())).or_default();
            if life == Some(before) && connection.0 == before && revision < connection.1 {
                let before = connection.1;
                let what =
                    format!("{node} went back from revision {before} to {revision} for c{client}");
                self.findings.violation(&self.world, what);
            }
            *connection = (before, revision);
        }
        self.note_told(&by, None, group, step, told, Some(revision));
    }

    async fn life(&self, node: &str) -> Option<Life> {
        let start = self.world.starts(node);
        Some((start, status(&self.world, node).await?.node_id))
    }

    /// A node's own state, and its revision.
    async fn own_state(&self, node: &str) -> Option<std::sync::Arc<dyn View>> {
        let start = self.world.starts(node);
        match view(&self.world, node, Consistency::Stale { max_stale: None }).await {
            Ok(read) => Some(read.view),
            Err(error) => {
                self.note_refusal(node, start, &error);
                None
            }
        }
    }

    /// Reads an earlier revision, of which a node may not know yet.
    pub(super) async fn read_past(&self, client: usize, node: &str) {
        let group = self.below(self.load.groups);
        let (step, start) = (self.draw_read(group), self.world.starts(node));
        let revision = self.world.chance.below(self.facts.borrow().newest + 1);
        let Some(view) = self.own_state(node).await else { return };
        let told = match view.at(revision) {
            Ok(past) if past.revision() == revision => self.look(&*past, group, step),
            Err(NotKept::Future { revision: its }) if its < revision => return,
            Err(NotKept::Trimmed { oldest })
                if self.load.forgets && oldest > revision && oldest == view.oldest_revision() =>
            {
                return;
            }
            Ok(other) => {
                let what = format!("{node} shows {} for revision {revision}", other.revision());
                return self.findings.violation(&self.world, what);
            }
            Err(why) => {
                let what = format!("{node} does not show revision {revision}: {why:?}");
                return self.findings.violation(&self.world, what);
            }
        };
        match told {
            Ok(told) => {
                let by = format!("c{client}, of the past, at {node}");
                self.world.note(format_args!("{by} read {step:?} of group {group} at {revision}"));
                self.note_told(&by, None, group, step, told, Some(revision));
            }
            Err(error) => self.note_refusal(node, start, &error),
        }
    }

    /// Reads the history of a key.
    pub(super) async fn read_history(&self, client: usize, node: &str) {
        let group = self.below(self.load.groups);
        let key = self.key(group, self.below(self.slots(group)));
        let start = self.world.starts(node);
        let Some(view) = self.own_state(node).await else { return };
        let mut versions = Vec::new();
        let walk = match view.history(&key) {
            Ok(walk) => walk,
            Err(error) => return self.note_refusal(node, start, &error),
        };
        for version in walk {
            let version = match version {
                Ok(version) => version,
                Err(error) => return self.note_refusal(node, start, &error),
            };
            let record = version.record.map(|record| Written::of(&key, &record)).transpose();
            match record {
                Ok(record) => versions.push((version.revision, version.kind, record)),
                Err(what) => return self.findings.violation(&self.world, what),
            }
        }
        let (by, revision) = (format!("c{client} at {node}"), view.revision());
        self.world.note(format_args!("{by} read {} versions of {key}", versions.len()));
        let kept_after = view.oldest_revision();
        let account = Account { by, key, revision, kept_after, versions };
        self.facts.borrow_mut().accounts.push(account);
    }

    pub(super) fn note_refusal(&self, node: &str, start: u64, error: &RequestError) {
        if let RequestError::Storage { detail } = error {
            self.world.note(format_args!("{node} refused a read: {detail}"));
            self.findings.complain(node, start);
        }
    }
}
