//! The model: a vector of entries, and after every record the state it made.
//!
//! What survives a crash must be the state after some record that is not before the durable one. That
//! one sentence says all of it: durable entries, votes and purges survive, what is lost is a suffix,
//! nothing is reordered, and no hole comes to be.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::storage::disk::PowerCut;
use crate::storage::log::{LogState, Lsn};

/// All that a caller can see of a log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    state: LogState,
    entries: Vec<LogEntry>,
}

impl Snapshot {
    pub fn of(log: &Log) -> Snapshot {
        Snapshot::read(log).expect("all entries can be read")
    }

    fn read(log: &Log) -> Result<Snapshot, LogError> {
        Ok(Snapshot { state: log.state(), entries: log.read(0..u64::MAX, u64::MAX)? })
    }

    fn end_with(&mut self, last: Option<LogId>) {
        self.entries.retain(|entry| last.is_some_and(|last| entry.id.index <= last.index));
        self.state.last = last;
    }
}

/// A log next to its model.
pub struct Driver {
    pub log: Log,
    pub writer: LogWriter,
    pub history: History,
}

/// The states a log went through since it was opened.
pub struct History {
    /// After each record, oldest first.
    states: Vec<(Lsn, Snapshot)>,
    pub durable: Lsn,
}

impl History {
    pub fn new() -> History {
        History { states: vec![(Lsn(0), Snapshot::default())], durable: Lsn(0) }
    }

    fn now(&self) -> &Snapshot {
        &self.states.last().expect("there is always a state").1
    }

    fn push(&mut self, lsn: Lsn, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = self.now().clone();
        change(&mut snapshot);
        self.states.push((lsn, snapshot));
    }

    /// Checks a log that was opened after a crash.
    pub fn check_survivor(&self, log: &Log, context: &str) {
        let seen = Snapshot::of(log);
        // The state that was durable counts until the next record.
        let first = self.states.partition_point(|(lsn, _)| *lsn <= self.durable) - 1;
        let allowed = self.states[first..].iter().any(|(_, state)| *state == seen);
        assert!(allowed, "{context}: durable was {:?}, found {:#?}", self.durable, seen.state);
    }
}

impl Driver {
    pub fn open(disk: &MemDisk, history: History) -> Result<Driver, (History, LogError)> {
        let opened =
            open(disk).and_then(|(log, writer, _)| Ok((Snapshot::read(&log)?, log, writer)));
        match opened {
            Ok((seen, log, writer)) => {
                let durable = log.durable();
                let history = History { durable, states: vec![(durable, seen)] };
                Ok(Driver { log, writer, history })
            }
            Err(error) => Err((history, error)),
        }
    }

    pub fn append(&mut self, term: u64, count: u64, payload_bytes: usize) -> Result<(), LogError> {
        let next = self.history.now().state.next_index().unwrap_or(1);
        let new: Vec<_> =
            (next..next + count).map(|index| sized_entry(term, index, payload_bytes)).collect();
        let last = self.log.append(new.clone())?;
        for (entry, back) in new.into_iter().zip((0..count).rev()) {
            self.history.push(Lsn(last.0 - back), |snapshot| {
                snapshot.state.last = Some(entry.id);
                snapshot.entries.push(entry);
            });
        }
        Ok(())
    }

    pub fn save_vote(&mut self, number: u64) -> Result<(), LogError> {
        let lsn = self.log.save_vote(vote(number))?;
        self.history.push(lsn, |snapshot| snapshot.state.vote = Some(vote(number)));
        Ok(())
    }

    /// Keeps this many of the entries.
    pub fn truncate(&mut self, keep: usize) -> Result<(), LogError> {
        let now = self.history.now();
        let last = match keep.checked_sub(1) {
            Some(at) => now.entries.get(at).map(|entry| entry.id).or(now.state.last),
            None => now.state.purged,
        };
        let lsn = self.log.truncate_after(last.map(|last| last.index))?;
        self.history.push(lsn, |snapshot| snapshot.end_with(last));
        Ok(())
    }

    pub fn purge(&mut self, upto: LogId) -> Result<(), LogError> {
        let lsn = self.log.purge(upto)?;
        self.history.push(lsn, |snapshot| {
            if snapshot.state.purged.is_some_and(|purged| purged.index >= upto.index) {
                return;
            }
            snapshot.entries.retain(|entry| entry.id.index > upto.index);
            snapshot.state.purged = Some(upto);
            snapshot.state.last = snapshot.state.last.max(Some(upto));
        });
        Ok(())
    }

    /// Gives up this many of the entries.
    pub fn purge_entries(&mut self, count: usize) -> Result<(), LogError> {
        let entries = &self.history.now().entries;
        let upto = count.checked_sub(1).and_then(|at| entries.get(at)).map(|entry| entry.id);
        upto.map_or(Ok(()), |upto| self.purge(upto))
    }

    pub fn flush(&mut self) -> Result<(), LogError> {
        let result = self.writer.flush();
        self.history.durable = self.log.durable();
        result.map(|_| ())
    }

    pub fn maintain(&mut self) -> Result<(), LogError> {
        let result = self.writer.maintain();
        self.history.durable = self.log.durable();
        result.map(|_| ())
    }

    pub fn check(&self, context: &str) {
        assert_eq!(Snapshot::of(&self.log), *self.history.now(), "{context}");
    }

    /// A fixed workload that rolls and recycles segments, truncates, votes and purges.
    pub fn work(&mut self) -> Result<(), LogError> {
        for term in 1..=6 {
            self.save_vote(term)?;
            self.append(term, 5, 300)?;
            self.flush()?;
            self.append(term, 4, 700)?;
            self.save_vote(term * 10)?;
            let entries = self.history.now().entries.len();
            self.truncate(entries - 3)?;
            self.append(term + 1, 3, if term % 2 == 0 { 10_000 } else { 500 })?;
            self.flush()?;
            self.writer.work_ahead()?;
            self.purge_entries(entries / 2)?;
            if term % 3 == 0 {
                self.maintain()?;
            }
            self.flush()?;
        }
        self.truncate(2)?;
        self.append(9, 6, 900)?;
        self.flush()?;
        self.purge(id(11, 100))?;
        self.append(11, 6, 900)?;
        self.save_vote(99)?;
        self.flush()
    }

    fn random_step(&mut self, chance: &mut StdRng, term: &mut u64) -> Result<(), LogError> {
        let entries = self.history.now().entries.len();
        match chance.random_range(0..20) {
            0..8 => {
                *term += u64::from(chance.random_ratio(1, 8));
                let largest = match chance.random_range(0..16) {
                    0 => 12_000,
                    1..4 => 2_500,
                    _ => 200,
                };
                self.append(*term, chance.random_range(0..6), chance.random_range(0..largest))
            }
            8..10 => self.save_vote(chance.random()),
            10..12 => self.truncate(chance.random_range(entries / 2..=entries)),
            12..14 => self.purge_entries(chance.random_range(0..=entries)),
            14 if chance.random_ratio(1, 10) => {
                let last = self.history.now().state.last.map_or(0, |last| last.index);
                *term += 1;
                self.purge(id(*term, last + chance.random_range(1..50)))
            }
            14..18 => self.flush(),
            18 => self.writer.work_ahead(),
            _ => self.maintain(),
        }
    }
}

/// Opens a log after a crash, with further power cuts while it recovers.
fn recover(disk: &mut MemDisk, history: History, chance: &mut StdRng, context: &str) -> Driver {
    let mut history = history;
    loop {
        if chance.random_ratio(1, 3) {
            disk.cut_power_after(chance.random_range(0..20));
        }
        match Driver::open(disk, history) {
            Ok(driver) => {
                disk.cut_power_after(u64::MAX);
                return driver;
            }
            Err((unchanged, error)) => {
                assert!(io_kind(&error) == Some(io::ErrorKind::NotConnected), "{context}: {error}");
                history = unchanged;
                *disk = disk.crash(PowerCut::ByChance(chance));
            }
        }
    }
}

/// Tells which seed it was, whatever the failure says.
struct TellSeed(u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat with CONURE_LOG_SEEDS={}..{}", self.0, self.0 + 1);
        }
    }
}

fn random_life(seed: u64) {
    let _tell = TellSeed(seed);
    let context = format!("seed {seed}");
    let mut chance = StdRng::seed_from_u64(seed);
    let mut disk = MemDisk::new();
    let mut driver = recover(&mut disk, History::new(), &mut chance, &context);
    let mut term = 1;
    for _ in 0..12 {
        disk.cut_power_after(chance.random_range(0..60));
        for _ in 0..60 {
            if driver.random_step(&mut chance, &mut term).is_err() {
                break;
            }
        }
        let Driver { history, .. } = driver;
        disk = match chance.random_range(0..6) {
            0 => disk.crash(PowerCut::KeepNone),
            1 => disk.crash(PowerCut::KeepAll),
            _ => disk.crash(PowerCut::ByChance(&mut chance)),
        };
        let copy = MemDisk::from_contents(disk.contents());
        history.check_survivor(&reopen(&copy).0, &context);
        let left = History { states: history.states.clone(), durable: history.durable };
        driver = recover(&mut disk, history, &mut chance, &context);
        left.check_survivor(&driver.log, &context);
        driver.check(&context);
    }
}

/// `CONURE_LOG_SEEDS=1000..2000` runs others.
#[test]
fn whatever_happens_in_whatever_order_what_was_durable_survives_every_crash() {
    let seeds = std::env::var("CONURE_LOG_SEEDS").unwrap_or_else(|_| "0..150".to_owned());
    let (start, end) = seeds.split_once("..").expect("CONURE_LOG_SEEDS is a range of seeds");
    let (start, end): (u64, u64) = (start.parse().unwrap(), end.parse().unwrap());
    (start..end).for_each(random_life);
}
