//! The log and the state machine together, as a node has them: entries are applied when they are durable, checkpoints
//! run beside, the log is purged behind them, compaction steps come between, and a start applies what the store has not.
//!
//! A state is the vote, where the log ends, and what the records are after all of its entries. Which entries the log
//! still has is not a part of it, but it must reach back to the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use conuredb::codec;
use conuredb::storage::compact::CompactProgress;
use conuredb::storage::disk::{Disk, MemDisk};
use conuredb::storage::inspect::survey::{Finding, survey};
use conuredb::storage::kv::{Entry, FILE, Kv, KvSnapshot, Payload};
use conuredb::storage::log::{Log, LogEntry, LogWriter};
use conuredb::storage::store::Store;
use conuredb::types::{Command, Condition, Key, KeyRange, Lifetime, LogId, Operation, Revision};
use rand::Rng;
use rand::rngs::StdRng;

use super::images::{Failure, History, Subject};
use super::{log, store};

const STEPS: usize = 70;
const MOST_ENTRIES: u64 = 4;
const KEYS: u8 = 60;

/// Entries that the log keeps behind a checkpoint, as a node does for slow followers.
const KEPT_BEHIND: u64 = 5;

/// Bytes of the log that a start applies at once.
const REPLAY_BYTES: u64 = 4_000;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    vote: Option<Bytes>,
    last: Option<LogId>,
    revision: Revision,
    records: BTreeMap<Bytes, (Revision, Bytes)>,
}

impl State {
    /// What the state machine's rules make of an operation.
    fn apply(&mut self, operation: &Operation) {
        let revision = self.revision + 1;
        let has_changed = match operation {
            Operation::Put { key, value, .. } => {
                self.records.insert(key.clone().into_bytes(), (revision, value.clone()));
                true
            }
            Operation::Delete { key, .. } => self.records.remove(key.as_bytes()).is_some(),
            Operation::DeleteRange { range } => {
                let before = self.records.len();
                self.records.retain(|key, _| !range.contains(key));
                self.records.len() < before
            }
            Operation::Txn(_)
            | Operation::Expire
            | Operation::Retain(_)
            | Operation::LeaseGrant { .. }
            | Operation::LeaseKeepAlive { .. }
            | Operation::LeaseRevoke { .. } => unreachable!("the workload has none"),
        };
        self.revision += u64::from(has_changed);
    }
}

pub struct Node;

impl Subject for Node {
    type State = State;

    fn work(
        disk: Arc<dyn Disk>,
        chance: &mut StdRng,
        history: &mut History<State>,
    ) -> Result<(), Failure> {
        let (parts, _) = Parts::open(disk)?;
        Work { parts, history, chance, term: 1, committed: State::default() }.run()
    }

    fn recover(disk: &MemDisk) -> Result<State, Failure> {
        // A meta page that was being written is torn, and the other stands in.
        match check(disk)?.iter().find(|found| found.page.is_none_or(|page| page > 1)) {
            None => start(disk),
            Some(Finding { file, offset, problem, .. }) => {
                Err(format!("the check finds {file} at {offset}: {problem}").into())
            }
        }
    }

    fn go_on(disk: &MemDisk, found: &State) -> (State, Result<(), Failure>) {
        let last = found.last.map_or(LogId { term: 1, index: 0 }, |last| last);
        let id = LogId { term: last.term + 1, index: last.index + 1 };
        let operation = put(b"gone on", vec![7; 2_500]);
        let mut next = found.clone();
        next.apply(&operation);
        next.last = Some(id);
        let go_on = || {
            let (mut parts, _) = Parts::open(Arc::new(disk.clone()))?;
            let command = Command { time_ms: 0, request_id: None, operation };
            parts.log.append(vec![LogEntry { id, payload: codec::encode(&command)?.into() }])?;
            parts.writer.flush()?;
            parts.apply_log()?;
            parts.checkpoint(&mut |_| Ok(()))?;
            parts.purge()
        };
        (next, go_on())
    }
}

/// Starts a node and reads everything.
pub fn start(disk: &MemDisk) -> Result<State, Failure> {
    let (_, state) = Parts::open(Arc::new(disk.clone()))?;
    Ok(state)
}

/// What an operator's check finds on a disk before a node starts on it, after the check of the store itself.
pub fn check(disk: &MemDisk) -> Result<Vec<Finding>, Failure> {
    let disk: &Arc<dyn Disk> = &(Arc::new(disk.clone()) as Arc<dyn Disk>);
    let names = disk.list()?;
    if !names.iter().any(|name| name == FILE) {
        return Ok(Vec::new()); // the node never started
    }
    let findings = survey(disk)?.findings;
    Store::open(disk, FILE, store::OPTIONS)?.check()?;
    Ok(findings)
}

/// The two halves, open.
struct Parts {
    log: Log,
    writer: LogWriter,
    kv: Kv,
}

impl Parts {
    /// Opens both and applies what the store has not.
    fn open(disk: Arc<dyn Disk>) -> Result<(Parts, State), Failure> {
        let kv = Kv::open(disk.clone(), store::OPTIONS)?;
        let (log, writer, _) = Log::open(disk, log::options())?;
        let mut parts = Parts { log, writer, kv };
        let applied = parts.applied();
        if let Some(purged) = parts.log.state().gap_behind(applied) {
            return Err(
                format!("the store ends at {applied:?}, the log begins after {purged}").into()
            );
        }
        parts.apply_log()?;
        let state = read(&parts.kv.reader().snapshot(), &parts.log)?;
        Ok((parts, state))
    }

    fn applied(&self) -> Option<LogId> {
        self.kv.reader().snapshot().applied()
    }

    fn apply_log(&mut self) -> Result<(), Failure> {
        loop {
            let next = self.applied().map_or(0, |id| id.index + 1);
            let entries = self.log.read(next..u64::MAX, REPLAY_BYTES)?;
            if entries.is_empty() {
                return Ok(());
            }
            let entries = entries.into_iter().map(|LogEntry { id, payload }| {
                Ok(Entry { id, payload: Payload::Command(codec::decode(&payload)?) })
            });
            self.kv.apply(entries.collect::<Result<Vec<_>, Failure>>()?)?;
        }
    }

    fn checkpoint(
        &mut self,
        beside: &mut dyn FnMut(&mut Parts) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if let Some(checkpoint) = self.kv.begin_checkpoint()? {
            beside(self)?;
            self.kv.finish_checkpoint(checkpoint.write())?;
        }
        Ok(())
    }

    /// Gives up what a durable checkpoint holds of the log, but for a few entries.
    fn purge(&mut self) -> Result<(), Failure> {
        let durable = self.kv.durable().and_then(|state| state.applied());
        let upto = durable.and_then(|id| {
            let index = id.index.checked_sub(KEPT_BEHIND)?;
            Some(LogId { term: self.log.term_at(index)?, index })
        });
        if let Some(upto) = upto {
            self.log.purge(upto)?;
        }
        // Also with nothing to purge: what was staged before counts as durable from here on.
        self.writer.flush()?;
        Ok(())
    }
}

fn read(state: &KvSnapshot, log: &Log) -> Result<State, Failure> {
    let records = state.records(&KeyRange::default(), false, false).map(|record| {
        let (key, record) = record?;
        Ok((key.into_bytes(), (record.mod_revision, record.value)))
    });
    let records = records.collect::<Result<_, Failure>>()?;
    let log = log.state();
    if state.applied() != log.last {
        return Err(format!("applied up to {:?}, not {:?}", state.applied(), log.last).into());
    }
    Ok(State { vote: log.vote, last: log.last, revision: state.revision(), records })
}

fn put(key: &[u8], value: Vec<u8>) -> Operation {
    let key = Key::new(key.to_vec()).expect("a short key");
    Operation::Put {
        key,
        value: value.into(),
        condition: Condition::None,
        lifetime: Lifetime::Unbounded,
    }
}

struct Work<'a> {
    parts: Parts,
    history: &'a mut History<State>,
    chance: &'a mut StdRng,
    term: u64,
    /// After the entries that are durable, and committed by that, since this node is alone.
    committed: State,
}

impl Work<'_> {
    fn run(mut self) -> Result<(), Failure> {
        for _ in 0..STEPS {
            match self.chance.random_range(0..20) {
                0..7 => self.propose()?,
                7..9 => {
                    let vote = Bytes::from(vec![self.chance.random(); 17]);
                    self.parts.log.save_vote(vote.clone())?;
                    self.push(|state| state.vote = Some(vote));
                }
                9 => self.truncate()?,
                10..14 => self.commit()?,
                14..16 => self.checkpoint()?,
                16 => {
                    self.parts.purge()?;
                    self.acknowledge();
                }
                17 => {
                    if self.parts.kv.compact_step()? == CompactProgress::NeedsCheckpoint {
                        self.checkpoint()?;
                    }
                }
                18 => self.parts.writer.work_ahead()?,
                _ => {
                    self.parts.writer.maintain()?;
                    self.acknowledge();
                }
            }
        }
        self.commit()?;
        self.checkpoint()?;
        self.parts.purge()?;
        // As a node closes.
        while !self.parts.writer.maintain()? {}
        self.acknowledge();
        let found = read(&self.parts.kv.reader().snapshot(), &self.parts.log)?;
        match found == *self.history.now() {
            true => Ok(()),
            false => Err("the state machine does not do what its rules say".into()),
        }
    }

    fn push(&mut self, change: impl FnOnce(&mut State)) {
        let mut state = self.history.now().clone();
        change(&mut state);
        self.history.begin(state);
    }

    /// All that was staged is durable.
    fn acknowledge(&mut self) {
        self.history.all_durable();
        self.committed = self.history.now().clone();
    }

    /// Appends entries, which are not durable yet.
    fn propose(&mut self) -> Result<(), Failure> {
        for _ in 0..self.chance.random_range(1..=MOST_ENTRIES) {
            let operation = self.operation();
            let index = self.history.now().last.map_or(1, |last| last.index + 1);
            let id = LogId { term: self.term, index };
            let command = Command { time_ms: 0, request_id: None, operation: operation.clone() };
            let payload = codec::encode(&command)?.into();
            self.parts.log.append(vec![LogEntry { id, payload }])?;
            self.push(|state| {
                state.apply(&operation);
                state.last = Some(id);
            });
        }
        Ok(())
    }

    fn operation(&mut self) -> Operation {
        let key = |nth: u8| vec![b'k', nth % 7, nth];
        let nth = self.chance.random_range(0..KEYS);
        match self.chance.random_range(0..12) {
            0..3 => Operation::Delete {
                key: Key::new(key(nth)).expect("a short key"),
                condition: Condition::None,
            },
            3 => Operation::DeleteRange { range: KeyRange::prefix(vec![b'k', nth % 7]) },
            kind => {
                let longest = if kind == 4 { 2_900 } else { 300 };
                put(&key(nth), vec![self.chance.random(); self.chance.random_range(0..longest)])
            }
        }
    }

    /// Drops what was proposed and is not durable, as another leader has a node do.
    fn truncate(&mut self) -> Result<(), Failure> {
        let committed = self.committed.clone();
        let Some(last) = committed.last else { return Ok(()) };
        if self.history.now().last == Some(last) {
            return Ok(());
        }
        self.parts.log.truncate_after(Some(last.index))?;
        self.term += 1;
        // The vote is no entry, and stays.
        self.push(|state| *state = State { vote: state.vote.take(), ..committed });
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Failure> {
        self.parts.writer.flush()?;
        self.acknowledge();
        self.parts.apply_log()
    }

    /// A checkpoint, with a durable write beside it.
    fn checkpoint(&mut self) -> Result<(), Failure> {
        self.commit()?;
        let Some(checkpoint) = self.parts.kv.begin_checkpoint()? else { return Ok(()) };
        self.propose()?;
        self.commit()?;
        self.parts.kv.finish_checkpoint(checkpoint.write())?;
        Ok(())
    }
}
