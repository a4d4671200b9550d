//! What the log amounts to, without its entries.

use bytes::Bytes;

use super::record::Record;
use crate::types::LogId;

/// Where the log begins and ends, and the vote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogState {
    /// The last entry that was purged.
    pub purged: Option<LogId>,
    /// The last entry, or `purged` when there is none after it.
    pub last: Option<LogId>,
    /// The vote as it was last saved.
    pub vote: Option<Bytes>,
}

impl LogState {
    /// The index of the next entry; `None` when any may come: nothing was ever purged, and there is
    /// no entry.
    pub fn next_index(&self) -> Option<u64> {
        self.last.map(|last| last.index + 1)
    }

    /// The entry behind which the log begins, if that is behind what a store has `applied`: then entries between
    /// the two are nowhere. The log is purged only behind a checkpoint, so the store fell back to an older root than
    /// the last (its newest meta page was damaged), or one of the two was replaced.
    pub fn gap_behind(&self, applied: Option<LogId>) -> Option<LogId> {
        self.purged.filter(|purged| applied.is_none_or(|applied| applied.index < purged.index))
    }

    /// The state after `record`, which must be one that the log would accept here.
    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::Entry(id) => self.last = Some(*id),
            Record::Vote(vote) => self.vote = Some(vote.clone()),
            Record::Truncate(last) => self.last = Some(*last),
            Record::Clear => self.last = None,
            Record::Purge(upto) => {
                self.purged = Some(*upto);
                if self.last.is_none_or(|last| last.index < upto.index) {
                    self.last = Some(*upto);
                }
            }
            Record::Mark => {}
        }
    }
}
