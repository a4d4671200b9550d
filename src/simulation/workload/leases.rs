//! Leases: a client holds one at a time, attaches keys to it, keeps it alive, and gives it up or forgets it.
//!
//! A turn is one step of that, so that all else goes on in between. Checked as the answers come:
//! * a lease has the time that was asked for from when it was granted or kept alive, and never less than before;
//! * it counts the keys that were attached and are;
//! * it is gone only when its time was up by some machine's clock, or was given up, and then for good.
//!
//! Checked at the end against the store's history, which itself has to show that all keys of a lease end at once
//! ([`Chronicle::check`]): every key that was attached was there; no lease ended before the time that its holder was
//! promised; and who gave one up was told what that did.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::super::chronicle::Chronicle;
use super::super::client::key_of;
use super::super::history::ValueId;
use super::super::values::body;
use super::Workload;
use crate::actors::messages::ChangeKind;
use crate::types::{Condition, Key, Lease, LeaseId, Lifetime, Operation, Outcome, Revision};

/// Times to live: some end between two turns of their holder, most are kept up.
const TTL_MS: std::ops::Range<u64> = 600..3_000;

/// A lease, as its holder knows it.
pub(super) struct Held {
    id: LeaseId,
    ttl_ms: u64,
    /// The latest time that was promised.
    until_ms: u64,
    /// Keys that are attached, with the values that they were put with.
    keys: BTreeSet<(Key, ValueId)>,
    /// Puts and deletes of keys whose outcome is not known.
    unsure: u64,
    /// Whether it was given up, perhaps without an answer.
    is_given_up: bool,
    /// What it was told then.
    given_up: Option<(u64, Revision)>,
}

impl Workload {
    /// One step of a client with its lease.
    pub(super) async fn take_lease_turn(&self, client: usize, node: &str) {
        let held = self.facts.borrow().held.get(&client).copied();
        let Some(at) = held else { return self.grant(client, node).await };
        match self.below(16) {
            0..7 => self.attach(client, node, at).await,
            7..12 => self.keep_alive(client, node, at).await,
            12 | 13 => self.detach(client, node, at).await,
            14 => self.give_up(client, node, at).await,
            // Its time will end it.
            _ => drop(self.facts.borrow_mut().held.remove(&client)),
        }
    }

    /// Sends an operation of a client on its lease; the outcome, if it is known, and the earliest and latest moment
    /// at which it was carried out, if the clocks are right.
    async fn of_lease(
        &self,
        client: usize,
        node: &str,
        operation: Operation,
    ) -> (Option<Outcome>, bool, Option<(u64, u64)>) {
        let request_id = (self.below(3) > 0).then(|| self.request_id(client));
        let what = format!("{operation:?}").chars().take(120).collect::<String>();
        let called_ms = self.world.right_ms();
        let sent = self.send(client, node, &what, operation, request_id).await;
        self.findings.checked(1);
        let is_unsure = matches!(sent, Ok(None));
        (sent.ok().flatten(), is_unsure, called_ms.zip(self.world.right_ms()))
    }

    async fn grant(&self, client: usize, node: &str) {
        let ttl_ms = TTL_MS.start + self.world.chance.below(TTL_MS.end - TTL_MS.start);
        let grant = Operation::LeaseGrant { ttl_ms };
        let (Some(outcome), _, at_ms) = self.of_lease(client, node, grant).await else { return };
        let Outcome::Lease(lease) = outcome else {
            return self.violation(format!("a grant came to {outcome:?}"));
        };
        let held = Held {
            id: lease.id,
            ttl_ms,
            until_ms: 0,
            keys: BTreeSet::new(),
            unsure: 0,
            is_given_up: false,
            given_up: None,
        };
        let at = {
            let mut facts = self.facts.borrow_mut();
            if facts.leases.iter().any(|other| other.id == lease.id) {
                self.violation(format!("{lease:?} was granted twice"));
            }
            facts.leases.push(held);
            let at = facts.leases.len() - 1;
            facts.held.insert(client, at);
            at
        };
        self.take_lease(at, lease, at_ms);
    }

    /// Takes note of a lease as the store told it.
    fn take_lease(&self, at: usize, lease: Lease, at_ms: Option<(u64, u64)>) {
        let mut facts = self.facts.borrow_mut();
        let held = &mut facts.leases[at];
        if (lease.id, lease.ttl_ms) != (held.id, held.ttl_ms) {
            self.violation(format!("{lease:?} for lease {} of {} ms", held.id, held.ttl_ms));
        }
        let begun_ms = lease.expires_at_ms.saturating_sub(lease.ttl_ms);
        let is_in_time = at_ms.is_none_or(|(from, to)| (from..=to).contains(&begun_ms));
        if !is_in_time || lease.expires_at_ms < held.until_ms {
            let until_ms = held.until_ms;
            self.violation(format!("{lease:?} at {at_ms:?}, it had time until {until_ms}"));
        }
        let attached = held.keys.len() as u64;
        let most = attached + held.unsure;
        if lease.keys > most || lease.keys < attached.saturating_sub(held.unsure) {
            self.violation(format!("{lease:?}, it has {attached} keys or up to {most}"));
        }
        held.until_ms = lease.expires_at_ms;
    }

    /// The store says that there is no such lease any more.
    fn lose_lease(&self, client: usize, at: usize) {
        let mut facts = self.facts.borrow_mut();
        let held = &facts.leases[at];
        let latest_ms = self.world.latest_clock_ms();
        if !held.is_given_up && latest_ms < held.until_ms {
            let (id, until_ms) = (held.id, held.until_ms);
            self.violation(format!("lease {id} is gone at {latest_ms}, before {until_ms}"));
        }
        facts.held.remove(&client);
    }

    async fn keep_alive(&self, client: usize, node: &str, at: usize) {
        let id = self.facts.borrow().leases[at].id;
        let keep = Operation::LeaseKeepAlive { id };
        match self.of_lease(client, node, keep).await {
            (Some(Outcome::Lease(lease)), _, at_ms) => self.take_lease(at, lease, at_ms),
            (Some(Outcome::NoLease(_)), ..) => self.lose_lease(client, at),
            (Some(other), ..) => self.violation(format!("a keepalive came to {other:?}")),
            (None, ..) => {}
        }
    }

    /// Puts a new key that ends with the lease.
    async fn attach(&self, client: usize, node: &str, at: usize) {
        let id = self.facts.borrow().leases[at].id;
        let number = self.event();
        let key = key_of(&format!("lease/{client}/{number}"));
        let value = self.new_value(&key);
        self.facts.borrow_mut().leased.insert(value, id);
        let put = Operation::Put {
            key: key.clone(),
            value: Bytes::from(body(value)),
            condition: Condition::None,
            lifetime: Lifetime::Lease(id),
        };
        let (outcome, is_unsure, _) = self.of_lease(client, node, put).await;
        match outcome {
            Some(Outcome::Put { revision, .. }) => {
                self.learn(revision);
                self.facts.borrow_mut().leases[at].keys.insert((key, value));
            }
            Some(Outcome::NoLease(_)) => self.lose_lease(client, at),
            Some(other) => self.violation(format!("a put with a lease came to {other:?}")),
            None => self.facts.borrow_mut().leases[at].unsure += u64::from(is_unsure),
        }
    }

    /// Puts a key of the lease again, to stay, or deletes it.
    async fn detach(&self, client: usize, node: &str, at: usize) {
        let first = self.facts.borrow().leases[at].keys.first().cloned();
        let Some((key, former)) = first else { return };
        let condition = Condition::Present;
        let operation = match self.below(2) {
            0 => Operation::Delete { key: key.clone(), condition },
            _ => {
                let value = Bytes::from(body(self.new_value(&key)));
                let lifetime = Lifetime::Unbounded;
                Operation::Put { key: key.clone(), value, condition, lifetime }
            }
        };
        let (outcome, is_unsure, _) = self.of_lease(client, node, operation).await;
        match outcome {
            Some(Outcome::Put { revision, .. } | Outcome::Deleted { revision, count: 1 }) => {
                self.learn(revision);
                self.facts.borrow_mut().leases[at].keys.remove(&(key, former));
            }
            // The lease is over, and its keys with it; unless this key left before, and nobody knew.
            Some(Outcome::ConditionFailed { .. }) => {
                let is_sure = self.facts.borrow().leases[at].unsure == 0;
                self.facts.borrow_mut().leases[at].keys.remove(&(key, former));
                if is_sure {
                    self.lose_lease(client, at);
                }
            }
            Some(other) => self.violation(format!("a key that leaves its lease: {other:?}")),
            None => self.facts.borrow_mut().leases[at].unsure += u64::from(is_unsure),
        }
    }

    async fn give_up(&self, client: usize, node: &str, at: usize) {
        let id = {
            let mut facts = self.facts.borrow_mut();
            facts.held.remove(&client);
            facts.leases[at].id
        };
        let revoke = Operation::LeaseRevoke { id };
        let (outcome, is_unsure, _) = self.of_lease(client, node, revoke).await;
        match outcome {
            Some(Outcome::Deleted { count, revision }) => {
                let held = &mut self.facts.borrow_mut().leases[at];
                (held.is_given_up, held.given_up) = (true, Some((count, revision)));
            }
            Some(Outcome::NoLease(_)) => self.lose_lease(client, at),
            Some(other) => self.violation(format!("a lease that is given up: {other:?}")),
            None => self.facts.borrow_mut().leases[at].is_given_up |= is_unsure,
        }
    }

    /// Holds what became of each lease against the history.
    pub(super) fn judge_leases(&self, chronicle: &Chronicle) {
        let facts = self.facts.borrow();
        for held in &facts.leases {
            for (key, value) in &held.keys {
                let mut deeds = chronicle.of_key(key, Revision::MAX);
                if !deeds.any(|deed| deed.record.is_some_and(|it| it.value == *value)) {
                    self.findings.lost(&self.world, format!("{key} of lease {}", held.id));
                }
            }
            let id = held.id;
            let of_it = chronicle.deeds().iter().filter(|deed| {
                deed.previous.is_some_and(|previous| previous.end.lease() == Some(id))
            });
            let (mut expired, mut deleted) = (None, 0);
            for deed in of_it {
                match deed.kind {
                    ChangeKind::Expire => expired = Some(deed.revision),
                    ChangeKind::Delete if held.given_up.map(|it| it.1) == Some(deed.revision) => {
                        deleted += 1;
                    }
                    ChangeKind::Put | ChangeKind::Delete => {}
                }
            }
            if let Some(revision) = expired {
                self.findings.checked(1);
                let (latest_ms, until_ms) = (self.latest_clock_ms(&facts, revision), held.until_ms);
                if latest_ms < until_ms {
                    self.violation(format!(
                        "lease {id} ended at revision {revision}, when no clock had shown more than \
                         {latest_ms}, and its holder was promised {until_ms}"
                    ));
                }
            }
            if let Some((count, revision)) = held.given_up
                // Without keys it made no revision of its own.
                && (count > 0 && count != deleted
                    || expired.is_some()
                    || chronicle.lease(id).is_some())
            {
                self.violation(format!(
                    "lease {id} was given up with {count} keys at revision {revision}, where {deleted} went; \
                     expired: {expired:?}, still there: {:?}",
                    chronicle.lease(id)
                ));
            }
        }
    }
}
