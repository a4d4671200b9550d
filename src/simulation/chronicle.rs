//! What became of every key, revision by revision: the change index of a store at the end of a run.
//!
//! It is the store's own word, and so it is judged first: each change has to follow from those before it, and all of
//! them together have to make the records that are there. Then it is what everybody's sightings are held against: a
//! read of any kind at revision `r` shows what the chronicle has at `r`, a watcher was told of all changes of its
//! range and no other, a write that was acknowledged is there under its revision and does what it was asked for.
//!
//! Where nodes keep little of the past its beginning is what a [`Scribe`](super::scribe::Scribe) wrote down while it was
//! there; what both have has to be the same.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Seen, ValueId};
use super::values;
use crate::storage::error::StorageError;
use crate::storage::kv::{Change, ChangeKind, KvSnapshot, PastError};
use crate::types::{End, Key, KeyRange, Lease, LeaseId, Record, Revision};

/// A record without its bytes, which its value stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    pub value: ValueId,
    pub version: u64,
    pub create_revision: Revision,
    pub revision: Revision,
    pub end: End,
}

/// What a revision did to a key, as a watcher or the change index tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    pub revision: Revision,
    pub key: Key,
    pub kind: ChangeKind,
    pub record: Option<Written>,
    /// What was there before.
    pub previous: Option<Written>,
}

impl Written {
    /// An error when nobody wrote these bytes.
    pub fn of(key: &Key, record: &Record) -> Result<Written, String> {
        let value = values::parse(&record.value).ok_or_else(|| {
            let (len_bytes, revision) = (record.value.len(), record.mod_revision);
            format!("{key} holds {len_bytes} bytes of revision {revision} that nobody wrote")
        })?;
        Ok(Written {
            value,
            version: record.version,
            create_revision: record.create_revision,
            revision: record.mod_revision,
            end: record.end,
        })
    }

    pub fn seen(&self) -> Seen {
        Seen { value: self.value, version: self.version, revision: self.revision }
    }
}

impl Deed {
    pub fn new(
        revision: Revision,
        key: &Key,
        kind: ChangeKind,
        record: Option<&Record>,
        previous: Option<&Record>,
    ) -> Result<Deed, String> {
        let written = |record: Option<&Record>| record.map(|it| Written::of(key, it)).transpose();
        let (record, previous) = (written(record)?, written(previous)?);
        Ok(Deed { revision, key: key.clone(), kind, record, previous })
    }
}

/// Why there is no chronicle.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Past(#[from] PastError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What is there is not what anybody wrote.
    #[error("{0}")]
    Wrong(String),
}

impl ReadError {
    /// Whether the disk may be to blame.
    pub fn is_about_storage(&self) -> bool {
        matches!(self, ReadError::Storage(_) | ReadError::Past(PastError::Storage(_)))
    }
}

/// The changes that a state has from a revision on.
pub fn deeds_from(state: &KvSnapshot, from: Revision) -> Result<Vec<Deed>, ReadError> {
    let deeds = state.changes(from, true)?.map(|change| {
        let Change { revision, key, kind, record, previous } = change?;
        let deed = Deed::new(revision, &key, kind, record.as_ref(), previous.as_ref());
        deed.map_err(ReadError::Wrong)
    });
    deeds.collect()
}

/// See the module.
pub struct Chronicle {
    /// In order of revision.
    deeds: Vec<Deed>,
    /// Where the deeds of each key are, in order.
    of_key: BTreeMap<Key, Vec<usize>>,
    /// The last revision.
    revision: Revision,
    /// The records that are there.
    records: BTreeMap<Key, Written>,
    /// The leases that are there, each with its keys.
    leases: BTreeMap<LeaseId, (Lease, Vec<Key>)>,
}

impl Chronicle {
    /// Reads the changes of a state, its records and its leases. `written_down` is what was known of its changes before,
    /// from the first on.
    pub fn read(state: &KvSnapshot, written_down: &[Deed]) -> Result<Chronicle, ReadError> {
        let kept = deeds_from(state, state.oldest_revision() + 1)?;
        let first = kept.first().map_or(Revision::MAX, |deed| deed.revision);
        let overlap = written_down.partition_point(|deed| deed.revision < first);
        let (gone, both) = written_down.split_at(overlap);
        if both.len() > kept.len() {
            let last = &both[both.len() - 1];
            return Err(ReadError::Wrong(format!("there was {last:?}, and it is not there now")));
        }
        if let Some((then, now)) = both.iter().zip(&kept).find(|(then, now)| then != now) {
            return Err(ReadError::Wrong(format!("it was {then:?} and is {now:?} now")));
        }
        let deeds = [gone, &kept].concat();
        let mut of_key: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
        for (at, deed) in deeds.iter().enumerate() {
            of_key.entry(deed.key.clone()).or_default().push(at);
        }
        let mut records = BTreeMap::new();
        for record in state.records(&KeyRange::default(), false, false) {
            let (key, record) = record?;
            let written = Written::of(&key, &record).map_err(ReadError::Wrong)?;
            records.insert(key, written);
        }
        let mut leases = BTreeMap::new();
        for lease in state.leases(None) {
            let lease = lease?;
            let keys = state.lease_keys(lease.id, None).collect::<Result<Vec<Key>, _>>()?;
            leases.insert(lease.id, (lease, keys));
        }
        Ok(Chronicle { deeds, of_key, revision: state.revision(), records, leases })
    }

    /// Whether each change follows from those before it, and the records from all of them.
    pub fn check(&self) -> Result<(), String> {
        let mut present: BTreeMap<&Key, Written> = BTreeMap::new();
        let mut last = 0;
        for deed in &self.deeds {
            let wrong = |what: &str| Err(format!("the history has {deed:?}: {what}"));
            if deed.revision != last && deed.revision != last + 1 {
                return wrong(&format!("it follows revision {last}"));
            }
            let before = present.get(&deed.key).copied();
            if deed.previous != before {
                return wrong(&format!("before it there was {before:?}"));
            }
            if before.is_some_and(|before| before.revision == deed.revision) {
                return wrong("its revision did two things to the key");
            }
            match (deed.kind, deed.record) {
                (ChangeKind::Put, Some(record)) => {
                    let expected = Written {
                        version: before.map_or(1, |before| before.version + 1),
                        create_revision: before.map_or(deed.revision, |it| it.create_revision),
                        revision: deed.revision,
                        ..record
                    };
                    if record != expected {
                        return wrong(&format!("it should have been {expected:?}"));
                    }
                    present.insert(&deed.key, record);
                }
                (ChangeKind::Delete | ChangeKind::Expire, None) => {
                    let Some(before) = present.remove(&deed.key) else {
                        return wrong("there was nothing to remove");
                    };
                    if deed.kind == ChangeKind::Expire && before.end == End::Never {
                        return wrong("the record had no deadline");
                    }
                }
                _ => return wrong("its record does not suit its kind"),
            }
            last = deed.revision;
        }
        if last != self.revision {
            return Err(format!("the history ends with {last}, the store at {}", self.revision));
        }
        if !present.into_iter().eq(self.records.iter().map(|(key, it)| (key, *it))) {
            return Err("the history does not make the records that are there".into());
        }
        self.check_leases()
    }

    /// Whether each lease that ended took all of its keys with it at once and got no other, and whether those that
    /// are there have the keys that name them.
    fn check_leases(&self) -> Result<(), String> {
        let mut present: BTreeMap<LeaseId, BTreeSet<&Key>> = BTreeMap::new();
        let mut over: BTreeMap<LeaseId, Revision> = BTreeMap::new();
        for deeds in self.deeds.chunk_by(|one, other| one.revision == other.revision) {
            for deed in deeds {
                if let Some(id) = deed.previous.and_then(|previous| previous.end.lease()) {
                    present.entry(id).or_default().remove(&deed.key);
                    if deed.kind == ChangeKind::Expire {
                        over.insert(id, deed.revision);
                    }
                }
                if let Some(id) = deed.record.and_then(|record| record.end.lease()) {
                    present.entry(id).or_default().insert(&deed.key);
                }
            }
            let revision = deeds[0].revision;
            let ended =
                over.iter().find(|(id, _)| present.get(id).is_some_and(|it| !it.is_empty()));
            if let Some((id, at)) = ended {
                let keys = &present[id];
                return Err(format!("lease {id} ended at {at}, and has {keys:?} at {revision}"));
            }
        }
        present.retain(|_, keys| !keys.is_empty());
        let named = present.into_iter().map(|(id, keys)| (id, keys.into_iter().collect()));
        let held = self.leases.iter().filter(|(_, (_, keys))| !keys.is_empty());
        let held = held.map(|(id, (_, keys))| (*id, keys.iter().collect::<Vec<&Key>>()));
        if !named.eq(held) {
            return Err(format!("the records name other leases than these: {:?}", self.leases));
        }
        match self.leases.values().find(|(lease, keys)| lease.keys != keys.len() as u64) {
            Some((lease, keys)) => Err(format!("{lease:?} has the keys {keys:?}")),
            None => Ok(()),
        }
    }

    /// A lease that is there at the end.
    pub fn lease(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&id).map(|(lease, _)| lease)
    }

    pub fn deeds(&self) -> &[Deed] {
        &self.deeds
    }

    /// What a revision did.
    pub fn of_revision(&self, revision: Revision) -> &[Deed] {
        let from = self.deeds.partition_point(|deed| deed.revision < revision);
        let to = self.deeds.partition_point(|deed| deed.revision <= revision);
        &self.deeds[from..to]
    }

    /// What became of a key up to a revision, in order.
    pub fn of_key(&self, key: &Key, revision: Revision) -> impl DoubleEndedIterator<Item = &Deed> {
        let all = self.of_key.get(key).map_or(&[][..], Vec::as_slice);
        let until = all.partition_point(|at| self.deeds[*at].revision <= revision);
        all[..until].iter().map(|at| &self.deeds[*at])
    }

    /// The record that a key had right after a revision.
    pub fn record_at(&self, key: &Key, revision: Revision) -> Option<Written> {
        self.of_key(key, revision).next_back()?.record
    }
}
