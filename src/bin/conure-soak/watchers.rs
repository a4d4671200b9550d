//! Watchers of a round: each is told of all changes, over whichever node answers, whatever becomes of the nodes.
//!
//! They use the Rust client, which resumes by itself. A revision changes one key, or those of a transaction,
//! each once. So what a watcher was told is whole if revisions only grow, if the version of each key follows from the one before, if
//! every acknowledged write is there with all of its keys and no other, and if all watchers were told the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use conuredb::client::{Client, ClientOptions, Event, EventKind, Keys, Watch};
use conuredb::processes::{LOOK_EVERY, PATIENCE};
use conuredb::types::Revision;
use tokio::task::JoinSet;

use crate::Failure;
use crate::findings::Findings;
use crate::fleet::Fleet;
use crate::workload::Workload;

/// How long a watcher goes on without any node that answers: longer than anything lasts here.
const WATCH_PATIENCE: Duration = Duration::from_secs(180);

/// What a watcher was told.
#[derive(Default)]
struct Told {
    deeds: Vec<Deed>,
    /// Why the watch ended, if it did.
    end: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Deed {
    revision: Revision,
    key: Bytes,
    kind: EventKind,
    /// Of what was put.
    version: u64,
}

impl From<Event> for Deed {
    fn from(Event { kind, item, .. }: Event) -> Deed {
        Deed { revision: item.mod_revision, key: item.key, kind, version: item.version }
    }
}

/// See the module.
pub struct Watchers {
    told: Vec<Arc<Mutex<Told>>>,
    /// End with it.
    _running: JoinSet<()>,
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watchers {
    /// One that begins at each node, before anybody writes.
    pub async fn start(fleet: &Fleet, prefix: &str) -> Result<Watchers, Failure> {
        let leader = fleet.leader().await?;
        let status = fleet.status(leader).await.ok_or("the leader does not answer")?;
        let from = status.revision + 1;
        let (mut all, mut running) = (Vec::new(), JoinSet::new());
        for first in 0..fleet.count() {
            let mut servers: Vec<String> =
                fleet.stations.iter().map(|station| station.url.clone()).collect();
            servers.rotate_left(first);
            let options = ClientOptions {
                timeout: WATCH_PATIENCE,
                patience: WATCH_PATIENCE,
                ..ClientOptions::new(rand::random())
            };
            let keys = Keys::Prefix(Bytes::from(prefix.to_owned()));
            let watch = Watch { from: Some(from), ..Watch::of(keys) };
            let mut watcher = Client::new(servers, options)?.watch(watch);
            let told = Arc::new(Mutex::new(Told::default()));
            all.push(told.clone());
            running.spawn(async move {
                while let Some(event) = watcher.next().await {
                    match event {
                        Ok(event) => lock(&told).deeds.push(event.into()),
                        Err(error) => lock(&told).end = Some(error.to_string()),
                    }
                }
            });
        }
        Ok(Watchers { told: all, _running: running })
    }

    /// Holds what they were told against what was acknowledged. Nobody writes any more.
    pub async fn judge(&self, load: &Workload, findings: &Findings) {
        let acknowledged = load.facts().acknowledged.clone();
        let Some((last, keys)) = acknowledged.last_key_value() else { return };
        let deadline = Instant::now() + PATIENCE;
        let is_behind = |told: &Mutex<Told>| {
            let told = lock(told);
            let newest = told.deeds.iter().rev().skip_while(|deed| deed.revision > *last);
            let told_of_last = newest.take_while(|deed| deed.revision == *last).count();
            told.end.is_none() && told_of_last < keys.len()
        };
        while self.told.iter().any(|told| is_behind(told)) && Instant::now() < deadline {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let mut first: Option<Vec<Deed>> = None;
        for (number, told) in self.told.iter().enumerate() {
            let told = lock(told);
            let wrong = |what: &str| findings.violation(format_args!("watcher {number}: {what}"));
            if let Some(end) = &told.end {
                wrong(&format!("the watch ended: {end}"));
                continue;
            }
            let until = told.deeds.partition_point(|deed| deed.revision <= *last);
            let deeds = &told.deeds[..until];
            findings.checked(deeds.len() as u64);
            if let Err(what) = follows(deeds, &acknowledged) {
                wrong(&what);
            }
            match &first {
                None => first = Some(deeds.to_vec()),
                Some(first) if first != deeds => {
                    let apart = first.iter().zip(deeds).find(|(one, other)| one != other);
                    wrong(&format!("it was told other things than watcher 0: {apart:?}"));
                }
                Some(_) => {}
            }
        }
    }
}

/// Whether changes follow from each other, and every acknowledged write is among them, as a whole.
fn follows(
    deeds: &[Deed],
    acknowledged: &BTreeMap<Revision, BTreeSet<String>>,
) -> Result<(), String> {
    let mut versions: BTreeMap<&Bytes, u64> = BTreeMap::new();
    let mut revisions: BTreeMap<Revision, BTreeSet<&[u8]>> = BTreeMap::new();
    let mut last = 0;
    for deed in deeds {
        let is_new = revisions.entry(deed.revision).or_default().insert(&deed.key);
        if deed.revision < last || !is_new {
            return Err(format!("{deed:?} after revision {last}"));
        }
        last = deed.revision;
        let version = versions.entry(&deed.key).or_default();
        let follows = match deed.kind {
            EventKind::Put => deed.version == *version + 1,
            EventKind::Delete | EventKind::Expire => *version > 0,
        };
        if !follows {
            return Err(format!("{deed:?} after version {version}"));
        }
        *version = if deed.kind == EventKind::Put { deed.version } else { 0 };
    }
    for (revision, keys) in acknowledged {
        let told = revisions.get(revision);
        if told.is_none_or(|told| !told.iter().copied().eq(keys.iter().map(String::as_bytes))) {
            return Err(format!("revision {revision} is {keys:?}, and it was told of {told:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(revision: Revision, key: &'static str, version: u64) -> Deed {
        Deed { revision, key: Bytes::from(key), kind: EventKind::Put, version }
    }

    fn delete(revision: Revision, key: &'static str) -> Deed {
        Deed { revision, key: Bytes::from(key), kind: EventKind::Delete, version: 0 }
    }

    #[test]
    fn gaps_repetitions_and_disorder_are_seen() {
        let whole = [
            put(1, "a", 1),
            put(2, "b", 1),
            delete(3, "a"),
            put(3, "b", 2),
            put(4, "a", 1),
            put(5, "b", 3),
        ];
        let mut acknowledged: BTreeMap<Revision, BTreeSet<String>> = BTreeMap::new();
        for deed in &whole {
            let key = String::from_utf8(deed.key.to_vec()).unwrap();
            acknowledged.entry(deed.revision).or_default().insert(key);
        }
        assert_eq!(follows(&whole, &acknowledged), Ok(()));
        for gap in 0..whole.len() {
            let mut told = whole.to_vec();
            told.remove(gap);
            assert!(follows(&told, &acknowledged).is_err(), "without change {gap}");
        }
        for again in 0..whole.len() {
            let mut told = whole.to_vec();
            told.insert(again, whole[again].clone());
            assert!(follows(&told, &BTreeMap::new()).is_err(), "change {again} twice");
        }
        for one in [0, 1, 3, 4] {
            let mut swapped = whole.to_vec();
            swapped.swap(one, one + 1);
            assert!(follows(&swapped, &BTreeMap::new()).is_err(), "change {one} late");
        }
        let with_more = [&whole[..], &[put(5, "c", 1)]].concat();
        assert!(follows(&with_more, &acknowledged).is_err(), "a key that nobody wrote");
        assert!(
            follows(&[put(1, "a", 2)], &BTreeMap::new()).is_err(),
            "the first version is missing"
        );
    }
}
