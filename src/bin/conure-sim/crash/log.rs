//! The Raft log alone: entries, votes, truncations and purges, over segments that are rolled and recycled.
//!
//! A state is what a caller can see after a record. Records are durable in their order, so after a crash there must
//! be the state after some record that is not before the last one that was acknowledged.

use std::sync::Arc;

use bytes::Bytes;
use conuredb::storage::disk::{Disk, MemDisk};
use conuredb::storage::log::{Log, LogEntry, LogOptions, LogWriter};
use conuredb::types::LogId;
use rand::Rng;
use rand::rngs::StdRng;

use super::images::{Failure, History, Subject};

/// Small segments, so that a short workload rolls and recycles several, and entries that none of them holds.
pub fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 8 << 10,
        cache_bytes: 512,
        max_payload_bytes: 12 << 10,
        max_staged_bytes: 1 << 20,
        nonce: 0x5eed,
    }
}

const STEPS: usize = 70;
const MOST_ENTRIES: u64 = 5;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    purged: Option<LogId>,
    last: Option<LogId>,
    vote: Option<Bytes>,
    entries: Vec<LogEntry>,
}

pub struct RaftLog;

impl Subject for RaftLog {
    type State = Seen;

    fn work(
        disk: Arc<dyn Disk>,
        chance: &mut StdRng,
        history: &mut History<Seen>,
    ) -> Result<(), Failure> {
        let (log, writer, _) = Log::open(disk, options())?;
        Work { log, writer, history, chance, term: 1, last_index: 0 }.run()
    }

    fn recover(disk: &MemDisk) -> Result<Seen, Failure> {
        let (log, _, _) = Log::open(Arc::new(disk.clone()), options())?;
        read(&log)
    }

    fn go_on(disk: &MemDisk, found: &Seen) -> (Seen, Result<(), Failure>) {
        let index = found.last.map_or(1, |last| last.index + 1);
        let id = LogId { term: found.last.map_or(1, |last| last.term + 1), index };
        let new = LogEntry { id, payload: vec![9; 2_000].into() };
        let mut next = found.clone();
        next.last = Some(id);
        next.entries.push(new.clone());
        let go_on = || {
            let (log, mut writer, _) = Log::open(Arc::new(disk.clone()), options())?;
            log.append(vec![new])?;
            writer.flush()?;
            Ok(())
        };
        (next, go_on())
    }
}

/// All that a caller can see.
pub fn read(log: &Log) -> Result<Seen, Failure> {
    let state = log.state();
    let entries = log.read(0..u64::MAX, u64::MAX)?;
    Ok(Seen { purged: state.purged, last: state.last, vote: state.vote, entries })
}

struct Work<'a> {
    log: Log,
    writer: LogWriter,
    history: &'a mut History<Seen>,
    chance: &'a mut StdRng,
    term: u64,
    /// The highest index that there ever was.
    last_index: u64,
}

impl Work<'_> {
    fn run(mut self) -> Result<(), Failure> {
        for _ in 0..STEPS {
            let entries = self.history.now().entries.len();
            match self.chance.random_range(0..20) {
                0..8 => self.append()?,
                8..10 => {
                    let vote = Bytes::from(vec![self.chance.random(); 17]);
                    self.log.save_vote(vote.clone())?;
                    self.push(|seen| seen.vote = Some(vote));
                }
                10..12 => self.truncate(entries)?,
                12..14 if entries > 0 => {
                    let upto = self.history.now().entries[self.chance.random_range(0..entries)].id;
                    self.purge(upto)?;
                }
                14 if self.chance.random_ratio(1, 6) => {
                    // As after a snapshot was installed: the log goes on behind it.
                    self.term += 1;
                    let index = self.last_index + self.chance.random_range(1..40);
                    self.purge(LogId { term: self.term, index })?;
                }
                14..18 => self.flush()?,
                18 => self.writer.work_ahead()?,
                _ => self.maintain()?,
            }
        }
        self.flush()?;
        self.maintain()
    }

    fn push(&mut self, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.history.now().clone();
        change(&mut seen);
        self.history.begin(seen);
    }

    fn append(&mut self) -> Result<(), Failure> {
        self.term += u64::from(self.chance.random_ratio(1, 8));
        let longest = match self.chance.random_range(0..16) {
            0 => 12_000,
            1..4 => 2_500,
            _ => 200,
        };
        let next = self.history.now().last.map_or(1, |last| last.index + 1);
        let count = self.chance.random_range(1..=MOST_ENTRIES);
        let entry = |index| {
            let payload = vec![self.chance.random::<u8>(); self.chance.random_range(0..longest)];
            LogEntry { id: LogId { term: self.term, index }, payload: payload.into() }
        };
        let new: Vec<LogEntry> = (next..next + count).map(entry).collect();
        self.log.append(new.clone())?;
        for entry in new {
            self.last_index = self.last_index.max(entry.id.index);
            self.push(|seen| {
                seen.last = Some(entry.id);
                seen.entries.push(entry);
            });
        }
        Ok(())
    }

    /// Removes some of the last entries.
    fn truncate(&mut self, entries: usize) -> Result<(), Failure> {
        let kept = self.chance.random_range(entries / 2..=entries);
        if kept == entries {
            return Ok(());
        }
        let now = self.history.now();
        let last = kept.checked_sub(1).map_or(now.purged, |at| Some(now.entries[at].id));
        self.log.truncate_after(last.map(|last| last.index))?;
        self.push(|seen| {
            seen.entries.truncate(kept);
            seen.last = last;
        });
        Ok(())
    }

    fn purge(&mut self, upto: LogId) -> Result<(), Failure> {
        self.log.purge(upto)?;
        self.last_index = self.last_index.max(upto.index);
        self.push(|seen| {
            seen.entries.retain(|entry| entry.id.index > upto.index);
            seen.purged = Some(upto);
            seen.last = seen.last.max(Some(upto));
        });
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush()?;
        self.history.all_durable();
        Ok(())
    }

    fn maintain(&mut self) -> Result<(), Failure> {
        self.writer.maintain()?;
        self.history.all_durable();
        Ok(())
    }
}
