//! Gets, gets with a snapshot each, scans of 100 and of all, on one and on two threads.
//!
//! Every engine is scanned whole before, so that all caches are as warm as they get. Of every value one byte
//! is read, and every 64th is compared as a whole.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use super::round::{Database, Open, Round, failed};
use super::works::Work;
use crate::data::{Data, Rng};
use crate::engines::Tree;
use crate::error::BenchError;

pub const WORKS: [Work; 7] = [
    Work::Get1t,
    Work::Get2t,
    Work::Snapget1t,
    Work::Snapget2t,
    Work::Scan100On1t,
    Work::Scan100On2t,
    Work::Fullscan,
];

/// Gets of a thread: long enough to be steady, and no longer than all keys once.
const MOST_GETS: usize = 1_000_000;
const SCAN_KEYS: usize = 100;
/// Scans of a thread, of the keys there are.
const KEYS_PER_SCAN: usize = 25;
const MOST_SCANS: usize = 40_000;

/// One of this many gets and scanned pairs is compared as a whole.
const CHECKED_OF: usize = 64;

/// The first of the sequences of random numbers that the threads take their keys from.
const READS: u64 = 100;

pub fn run(round: &mut Round<'_>, trees: &mut [Open<dyn Tree>]) -> Result<(), BenchError> {
    let data = round.data;
    for open in trees.iter() {
        full_scan(open, data)?;
    }
    let gets = data.len().min(MOST_GETS);
    let scans = (data.len() / KEYS_PER_SCAN).min(MOST_SCANS);
    for work in WORKS.into_iter().filter(|work| round.works.contains(work)) {
        for turn in round.turns(work, trees.len()) {
            let open = &trees[turn];
            let (each, threads, count): (Job, u64, usize) = match work {
                Work::Get1t => (gets_of_one_view, 1, gets),
                Work::Get2t => (gets_of_one_view, 2, gets),
                Work::Snapget1t => (gets_of_many_views, 1, gets),
                Work::Snapget2t => (gets_of_many_views, 2, gets),
                Work::Scan100On1t => (scans_of_100, 1, scans),
                Work::Scan100On2t => (scans_of_100, 2, scans),
                _ => {
                    let begun = Instant::now();
                    full_scan(open, data)?;
                    let rate = data.len() as f64 / begun.elapsed().as_secs_f64();
                    round.record(work, open.database.kind, rate);
                    continue;
                }
            };
            let rate = on_threads(threads, count, |sequence| {
                each(open, data, &mut Rng::new(data.seed, READS + sequence), count)
            })?;
            round.record(work, open.database.kind, rate);
        }
    }
    Ok(())
}

/// What one thread does, `count` times.
type Job = fn(&Open<dyn Tree>, &Data, &mut Rng, usize) -> Result<(), BenchError>;

/// Runs `each` on so many threads, which begin together, and returns how much they did in a second. The
/// threads take the time themselves: the one that waits for them may wake up late.
fn on_threads(
    threads: u64,
    count: usize,
    each: impl Fn(u64) -> Result<(), BenchError> + Sync,
) -> Result<f64, BenchError> {
    let start = Barrier::new(threads as usize);
    let spans = std::thread::scope(|scope| {
        let run = |sequence| {
            let (start, each) = (&start, &each);
            scope.spawn(move || {
                start.wait();
                let begun = Instant::now();
                each(sequence).map(|()| (begun, Instant::now()))
            })
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        let join =
            |thread: ScopedJoinHandle<'_, _>| thread.join().expect("a reader does not panic");
        running.into_iter().map(join).collect::<Result<Vec<_>, _>>()
    })?;
    let (first, last) =
        (spans.iter().map(|span| span.0).min(), spans.iter().map(|span| span.1).max());
    let elapsed = last.zip(first).map_or(0.0, |(last, first)| (last - first).as_secs_f64());
    Ok((threads * count as u64) as f64 / elapsed)
}

fn gets_of_one_view(
    open: &Open<dyn Tree>,
    data: &Data,
    rng: &mut Rng,
    count: usize,
) -> Result<(), BenchError> {
    let fail = failed(open.database.kind, Work::Get1t);
    let view = open.engine.view().map_err(&fail)?;
    for turn in 0..count {
        let number = rng.below(data.len());
        let mut seen = Seen::new(&open.database, data, number, turn);
        view.get(data.key(number), &mut |value| seen.take(value)).map_err(&fail)?;
        seen.finish()?;
    }
    Ok(())
}

fn gets_of_many_views(
    open: &Open<dyn Tree>,
    data: &Data,
    rng: &mut Rng,
    count: usize,
) -> Result<(), BenchError> {
    let fail = failed(open.database.kind, Work::Snapget1t);
    for turn in 0..count {
        let number = rng.below(data.len());
        let mut seen = Seen::new(&open.database, data, number, turn);
        open.engine.get_fresh(data.key(number), &mut |value| seen.take(value)).map_err(&fail)?;
        seen.finish()?;
    }
    Ok(())
}

/// What a get found: nothing, or a value, which is compared when it is this get's turn.
struct Seen<'a> {
    database: &'a Database,
    data: &'a Data,
    number: usize,
    is_checked: bool,
    outcome: Option<Result<(), BenchError>>,
}

impl<'a> Seen<'a> {
    fn new(database: &'a Database, data: &'a Data, number: usize, turn: usize) -> Seen<'a> {
        let is_checked = turn.is_multiple_of(CHECKED_OF);
        Seen { database, data, number, is_checked, outcome: None }
    }

    fn take(&mut self, value: &[u8]) {
        black_box(value.get(value.len() / 2));
        self.outcome = Some(match self.is_checked || value.len() != self.data.value_bytes() {
            true => self.check(Some(value)),
            false => Ok(()),
        });
    }

    fn finish(self) -> Result<(), BenchError> {
        match self.outcome {
            Some(outcome) => outcome,
            None => self.check(None),
        }
    }

    fn check(&self, value: Option<&[u8]>) -> Result<(), BenchError> {
        let Database { kind, keeper, .. } = self.database;
        keeper.check(self.data, self.number, value, (*kind, "a get"))
    }
}

fn scans_of_100(
    open: &Open<dyn Tree>,
    data: &Data,
    rng: &mut Rng,
    count: usize,
) -> Result<(), BenchError> {
    let fail = failed(open.database.kind, Work::Scan100On1t);
    let view = open.engine.view().map_err(&fail)?;
    for turn in 0..count {
        let number = rng.below(data.len());
        let (mut order, mut first) = (InOrder::new(open), None);
        view.scan(data.key(number), SCAN_KEYS, &mut |key, value| {
            order.take(key, value);
            if first.is_none() && turn.is_multiple_of(CHECKED_OF) {
                first = Some((key == data.key(number), value.to_vec()));
            }
        })
        .map_err(&fail)?;
        if let Some((is_found, value)) = first {
            let Database { kind, keeper, .. } = &open.database;
            keeper.check(data, number, is_found.then_some(&value[..]), (*kind, "a scan"))?;
        }
        order.finish()?;
    }
    Ok(())
}

/// Scans all there is; returns when all keys came, in order.
fn full_scan(open: &Open<dyn Tree>, data: &Data) -> Result<(), BenchError> {
    let fail = failed(open.database.kind, Work::Fullscan);
    let view = open.engine.view().map_err(&fail)?;
    let (count, mut order) = (Cell::new(0), InOrder::new(open));
    let mut each = |key: &[u8], value: &[u8]| {
        count.set(count.get() + 1);
        // Comparing all would cost more than the scan.
        if count.get() % CHECKED_OF == 0 {
            order.take(key, value);
        }
        black_box(value.get(value.len() / 2));
    };
    view.scan(&[], usize::MAX, &mut each).map_err(&fail)?;
    order.finish()?;
    if count.get() != data.len() {
        let what = "a scan of everything gave more or fewer keys than there are";
        let engine = open.database.kind;
        return Err(BenchError::WrongBytes { engine, work: "fullscan", key: Vec::new(), what });
    }
    Ok(())
}

/// Whether the keys of a scan rise.
struct InOrder<'a> {
    open: &'a Open<dyn Tree>,
    last: Vec<u8>,
    fallen: bool,
}

impl<'a> InOrder<'a> {
    fn new(open: &'a Open<dyn Tree>) -> InOrder<'a> {
        InOrder { open, last: Vec::with_capacity(128), fallen: false }
    }

    fn take(&mut self, key: &[u8], value: &[u8]) {
        black_box(value.get(value.len() / 2));
        self.fallen |= key <= &self.last[..];
        self.last.clear();
        self.last.extend_from_slice(key);
    }

    fn finish(self) -> Result<(), BenchError> {
        if !self.fallen {
            return Ok(());
        }
        let (engine, what) = (self.open.database.kind, "it came after a greater one");
        Err(BenchError::WrongBytes { engine, work: "a scan", key: self.last, what })
    }
}
