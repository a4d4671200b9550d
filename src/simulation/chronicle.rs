//! What became of every key, revision by revision: the change index of a store at the end of a run.
//!
//! It is the store's own word, and so it is judged first: each change has to follow from those before it, and all of
//! them together have to make the records that are there. Then it is what everybody's sightings are held against: a
//! read of any kind at revision `r` shows what the chronicle has at `r`, a watcher was told of all changes of its
//! range and no other, a write that was acknowledged is there under its revision and does what it was asked for.

use std::collections::BTreeMap;

use super::history::{Seen, ValueId};
use super::values;
use crate::storage::error::StorageError;
use crate::storage::kv::{Change, ChangeKind, KvSnapshot, PastError};
use crate::types::{Key, KeyRange, Record, Revision};

/// A record without its bytes, which its value stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    pub value: ValueId,
    pub version: u64,
    pub create_revision: Revision,
    pub revision: Revision,
    pub expires_at_ms: Option<u64>,
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
            expires_at_ms: record.expires_at_ms(),
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
}

impl Chronicle {
    /// Reads all changes of a state, and its records.
    pub fn read(state: &KvSnapshot) -> Result<Chronicle, ReadError> {
        let mut deeds = Vec::new();
        let mut of_key: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
        for change in state.changes(1, true)? {
            let Change { revision, key, kind, record, previous } = change?;
            of_key.entry(key.clone()).or_default().push(deeds.len());
            let deed = Deed::new(revision, &key, kind, record.as_ref(), previous.as_ref());
            deeds.push(deed.map_err(ReadError::Wrong)?);
        }
        let mut records = BTreeMap::new();
        for record in state.records(&KeyRange::default(), false, false) {
            let (key, record) = record?;
            let written = Written::of(&key, &record).map_err(ReadError::Wrong)?;
            records.insert(key, written);
        }
        Ok(Chronicle { deeds, of_key, revision: state.revision(), records })
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
                    if deed.kind == ChangeKind::Expire && before.expires_at_ms.is_none() {
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
        match present.into_iter().eq(self.records.iter().map(|(key, it)| (key, *it))) {
            true => Ok(()),
            false => Err("the history does not make the records that are there".into()),
        }
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
