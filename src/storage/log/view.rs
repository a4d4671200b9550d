//! The log in memory: its state, where each entry stands, and the recent entries themselves.
//!
//! The view is always ahead of the disk or level with it: it shows what was staged at once. The index
//! has a slot of 24 bytes for every entry of the log. The cache holds a run of entries that ends with
//! the last one; it gives up its oldest entry when it is over its budget and that entry is durable, so
//! an entry that is not yet on the disk is always in the cache.

use std::collections::VecDeque;

use bytes::Bytes;

use super::record::Record;
use super::{LogEntry, LogError, LogState, Lsn};
use crate::types::LogId;

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the cache only, staged as this record.
    Staged(Lsn),
    Written {
        sequence: u32,
        offset: u32,
        payload_bytes: u32,
    },
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    term: u64,
    place: Place,
}

const _: () = assert!(size_of::<Slot>() == 24);

#[derive(Default)]
pub(super) struct View {
    state: LogState,
    /// Index of the first slot. While there is none, that of the entry to come, if it is known.
    first: u64,
    slots: VecDeque<Slot>,
    /// The payloads of the last slots.
    cache: VecDeque<Bytes>,
    cache_bytes: usize,
}

impl View {
    /// A log in this state whose entries are not known.
    pub fn starting_at(state: LogState) -> View {
        View { first: state.next_index().unwrap_or(0), state, ..View::default() }
    }

    pub fn state(&self) -> &LogState {
        &self.state
    }

    /// Index of the first entry there is; the next index when there is none.
    pub fn first_index(&self) -> u64 {
        self.first
    }

    pub fn end_index(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    pub fn entries(&self) -> u64 {
        self.slots.len() as u64
    }

    pub fn term_at(&self, index: u64) -> Option<u64> {
        match self.state.purged {
            Some(purged) if purged.index == index => Some(purged.term),
            _ => self.slot(index).map(|slot| slot.term),
        }
    }

    pub fn place(&self, index: u64) -> Option<Place> {
        self.slot(index).map(|slot| slot.place)
    }

    /// The entry at `index` if it is in the cache.
    pub fn cached(&self, index: u64) -> Option<LogEntry> {
        let term = self.slot(index)?.term;
        let payload = self.cache.get(index.checked_sub(self.first_cached())? as usize)?;
        Some(LogEntry { id: LogId { term, index }, payload: payload.clone() })
    }

    /// Refuses entries that do not continue the log.
    pub fn check_continued(&self, entries: &[LogEntry]) -> Result<(), LogError> {
        let mut next = self.state.next_index();
        for LogEntry { id, .. } in entries {
            if let Some(expected) = next
                && expected != id.index
            {
                return Err(LogError::Gap { expected, found: *id });
            }
            next = Some(id.index + 1);
        }
        Ok(())
    }

    /// Shows an entry that was staged; it goes into the cache.
    pub fn stage(&mut self, entry: LogEntry, lsn: Lsn) {
        self.push(entry.id, Place::Staged(lsn));
        self.cache_bytes += entry.payload.len();
        self.cache.push_back(entry.payload);
    }

    /// Shows an entry that stands on the disk.
    pub fn push(&mut self, id: LogId, place: Place) {
        let next = self.state.next_index();
        assert!(next.is_none_or(|next| next == id.index), "a hole was let through");
        if self.slots.is_empty() {
            self.first = id.index;
        }
        self.slots.push_back(Slot { term: id.term, place });
        self.state.last = Some(id);
    }

    /// Shows a record that is no entry.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Entry(_) => unreachable!("an entry comes with its place"),
            Record::Truncate(last) => self.cut_from(last.index + 1),
            Record::Clear => self.cut_from(self.first),
            Record::Purge(upto) => self.drop_upto(upto.index),
            Record::Vote(_) | Record::Mark => {}
        }
        self.state.apply(record);
    }

    /// The entry that was staged as record `lsn` is durable. It may be gone from the log by now.
    pub fn written(&mut self, index: u64, lsn: Lsn, place: Place) {
        if let Some(at) = index.checked_sub(self.first)
            && let Some(slot) = self.slots.get_mut(at as usize)
            && slot.place == Place::Staged(lsn)
        {
            slot.place = place;
        }
    }

    /// Brings the cache under its budget, as far as its entries are durable.
    pub fn evict(&mut self, budget_bytes: usize) {
        while self.cache_bytes > budget_bytes {
            let oldest = self.slots[self.slots.len() - self.cache.len()];
            if matches!(oldest.place, Place::Staged(_)) {
                return;
            }
            self.forget_oldest();
        }
    }

    fn slot(&self, index: u64) -> Option<&Slot> {
        self.slots.get(index.checked_sub(self.first)? as usize)
    }

    fn first_cached(&self) -> u64 {
        self.end_index() - self.cache.len() as u64
    }

    fn cut_from(&mut self, from: u64) {
        // Below `first` only while a log is read whose older segments are gone (`recovery.rs`).
        let keep = from.saturating_sub(self.first) as usize;
        while self.slots.len() > keep {
            self.slots.pop_back();
            if let Some(payload) = self.cache.pop_back() {
                self.cache_bytes -= payload.len();
            }
        }
        self.first = self.first.min(from);
    }

    fn drop_upto(&mut self, index: u64) {
        while self.first <= index && !self.slots.is_empty() {
            if self.cache.len() == self.slots.len() {
                self.forget_oldest();
            }
            self.slots.pop_front();
            self.first += 1;
        }
        self.first = self.first.max(index + 1);
    }

    fn forget_oldest(&mut self) {
        if let Some(payload) = self.cache.pop_front() {
            self.cache_bytes -= payload.len();
        }
    }
}
