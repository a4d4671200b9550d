//! The history of one key: what each revision made of it, newest first.
//!
//! It is the chain that `past` walks: from what tree 0 has of the key, back over the changes that replaced it.
//! A version is told when the change that made it is kept, and one more: the oldest record of the chain, which a kept
//! change replaced. Whether there was something before that one is not known any more, and so it is said
//! ([`Versions::is_cut`]).

use super::change::{ChangeId, ChangeKind};
use super::layout::StoredRecord;
use super::past::{PastError, Place};
use super::view::KvSnapshot;
use crate::storage::error::StorageError;
use crate::types::{Key, Record, Revision};

/// What a revision made of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub revision: Revision,
    pub kind: ChangeKind,
    /// What was put; nothing of a delete.
    pub record: Option<Record>,
}

/// Walks versions; see [`KvSnapshot::versions`]. Holds one record at a time. Ends after the first error.
pub struct Versions {
    state: KvSnapshot,
    key: Key,
    next: Option<(Place, StoredRecord)>,
    is_cut: bool,
}

impl KvSnapshot {
    /// What became of `key` up to `revision`, newest first.
    pub fn versions(&self, key: &Key, revision: Revision) -> Result<Versions, PastError> {
        self.check_past(revision)?;
        let next = match self.head(key.as_bytes())? {
            Some(present) => self.walk_back(key.as_bytes(), present, revision)?,
            None => None,
        };
        // A key without a trace may have had one.
        let is_cut = next.is_none() && self.facts.trimmed > 0;
        Ok(Versions { state: self.clone(), key: key.clone(), next, is_cut })
    }
}

impl Versions {
    /// Whether earlier versions may be missing because the past is not kept so far. Certain once the walk
    /// has come to its end.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    fn try_next(&mut self) -> Result<Option<Version>, StorageError> {
        let Some((place, stored)) = self.next.take() else { return Ok(None) };
        let id = ChangeId::of(&stored);
        let mut kind = ChangeKind::Put;
        if id.revision > self.state.facts.trimmed {
            let (its_kind, replaced) = self.state.change_of(self.key.as_bytes(), id)?;
            kind = its_kind;
            self.next = replaced.map(|replaced| (Place::ReplacedBy(id), replaced));
            // A key that came to be is at its beginning, unless its last tombstone was cleared away.
            self.is_cut = self.next.is_none() && self.state.facts.trimmed > 0;
        } else {
            self.is_cut = true;
            if stored.is_deleted {
                return Ok(None); // what removed it is not known any more
            }
        }
        let record = match stored.is_deleted {
            true => None,
            false => Some(self.state.fetch(self.key.as_bytes(), place)?),
        };
        Ok(Some(Version { revision: id.revision, kind, record }))
    }
}

impl Iterator for Versions {
    type Item = Result<Version, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.try_next().transpose()
    }
}
