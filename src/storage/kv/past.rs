//! Reading the past: what a key had at an earlier revision.
//!
//! Tree 0 holds the present record of a key, or its tombstone; the change that made it, whose id it bears,
//! holds the record before, which bears the id of its own; and so on back. A read of revision `r` goes along that
//! chain to the first record that is not younger than `r`. It reads no value on the way. The id has an ordinal,
//! because a revision can have as many changes as the past may hold, and to look for one key among them would
//! take a walk for each step.
//!
//! A chain is as long as the key was written often since `r`; all chains together, as many steps as
//! there are changes kept. A tombstone in a chain says that there was no record; so does its end.

use super::change::{self, ChangeId, ChangeKind};
use super::layout::{self, BadBytes, StoredRecord};
use super::view::{KvSnapshot, Records};
use super::{CHANGES, KV, bad};
use crate::storage::error::StorageError;
use crate::types::{Key, KeyRange, Record, Revision};

/// Why the past cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// `oldest` is the first revision that the same question can be asked of.
    #[error("the past is kept from revision {oldest} on")]
    Trimmed { oldest: Revision },
    /// The store has come to `revision` only.
    #[error("this is not yet the past: the store is at revision {revision}")]
    Future { revision: Revision },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Present,
    /// The change replaced it.
    ReplacedBy(ChangeId),
}

impl KvSnapshot {
    /// The oldest revision that this state can tell of.
    pub fn oldest_revision(&self) -> Revision {
        self.facts.trimmed
    }

    /// The record that `key` had right after `revision`.
    pub fn get_at(&self, key: &Key, revision: Revision) -> Result<Option<Record>, PastError> {
        self.check_past(revision)?;
        let Some(present) = self.head(key.as_bytes())? else { return Ok(None) };
        let past = self.walk_back(key.as_bytes(), present, revision)?;
        let Some((place, _)) = past.filter(|(_, stored)| !stored.is_deleted) else {
            return Ok(None);
        };
        Ok(Some(self.fetch(key.as_bytes(), place)?))
    }

    /// [`KvSnapshot::records`] as it was right after `revision`.
    pub fn records_at(
        &self,
        range: &KeyRange,
        revision: Revision,
        reverse: bool,
        keys_only: bool,
    ) -> Result<Records, PastError> {
        self.check_past(revision)?;
        Ok(Records::new(self, range, revision, reverse, keys_only))
    }

    pub(super) fn check_past(&self, revision: Revision) -> Result<(), PastError> {
        match revision {
            past if past < self.facts.trimmed => {
                Err(PastError::Trimmed { oldest: self.facts.trimmed })
            }
            future if future > self.facts.revision => {
                Err(PastError::Future { revision: self.facts.revision })
            }
            _ => Ok(()),
        }
    }

    /// What tree 0 has of a key, without its value.
    pub(super) fn head(&self, key: &[u8]) -> Result<Option<StoredRecord>, StorageError> {
        let head = self
            .snapshot
            .read_head(KV, key, |mut head| layout::decode_record_head(&mut head).map_err(bad))?;
        head.transpose()
    }

    /// Goes back from `present` to the first record of `key` that is not younger than `revision`. Nothing
    /// when there was none yet. Reads no values.
    pub(super) fn walk_back(
        &self,
        key: &[u8],
        present: StoredRecord,
        revision: Revision,
    ) -> Result<Option<(Place, StoredRecord)>, StorageError> {
        let (mut place, mut stored) = (Place::Present, present);
        while stored.record.mod_revision > revision {
            let id = ChangeId::of(&stored);
            place = Place::ReplacedBy(id);
            match self.change_of(key, id)? {
                (_, Some(replaced)) => stored = replaced,
                (_, None) => return Ok(None),
            }
        }
        Ok(Some((place, stored)))
    }

    /// What a change of `key` was, and what it replaced, without its value.
    pub(super) fn change_of(
        &self,
        key: &[u8],
        id: ChangeId,
    ) -> Result<(ChangeKind, Option<StoredRecord>), StorageError> {
        let found = self.snapshot.read_head(CHANGES, &id.encode(), |head| {
            let change = change::decode_change_head(head)?;
            match change.key.is_none_or(|its| its == key) {
                true => Ok((change.kind, change.replaced)),
                false => Err(BadBytes("a record was not made by the change that it names")),
            }
        })?;
        found.unwrap_or(Err(BadBytes("the change that made a record is missing"))).map_err(bad)
    }

    /// The record of `key` that lies at `place`, with its value.
    pub(super) fn fetch(&self, key: &[u8], place: Place) -> Result<Record, StorageError> {
        let stored = match place {
            Place::Present => self.stored(key)?,
            Place::ReplacedBy(id) => self.change(id)?.and_then(|change| change.replaced),
        };
        let record = stored.and_then(StoredRecord::live);
        record.ok_or(bad(BadBytes("a record is not where it was found")))
    }
}
