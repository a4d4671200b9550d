//! Images of a disk that lost its power, and what has to be found on them.
//!
//! A workload runs once, on a disk that records it ([`super::trace`]). Then its calls are done again one by one, and
//! before each, and after the last, the disk is forked, crashed in several ways ([`Cut`]), and opened. What is there must be
//! a state that the promise in force allows, sound in itself. Then the store goes on: it writes once more, with the
//! power cut somewhere in the middle half of the time, and what it showed, or the state after, must be there.
//!
//! Everything about an image follows from its [`ImageSeed`].

use std::fmt;
use std::sync::Arc;

use conuredb::storage::disk::{Disk, MemDisk, PowerCut};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::trace::{Promise, Recorder, Replay, Trace};

/// An error of whatever is under test; it is printed, and never matched.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is crashed.
pub trait Subject {
    type State: PartialEq;

    /// Works on an empty disk, and tells the history what may be found on it at each moment.
    fn work(
        disk: Arc<dyn Disk>,
        chance: &mut StdRng,
        history: &mut History<Self::State>,
    ) -> Result<(), Failure>;

    /// Opens what is on a disk as a restart does, checks all its invariants, and says what it holds.
    fn recover(disk: &MemDisk) -> Result<Self::State, Failure>;

    /// Opens a disk that holds `found`, does one thing more, and makes it durable. The state after that, and whether it
    /// was reached.
    fn go_on(disk: &MemDisk, found: &Self::State) -> (Self::State, Result<(), Failure>);
}

/// All states that a workload meant to make durable, oldest first.
pub struct History<S> {
    states: Vec<S>,
    promise: Promise,
    recorder: Recorder,
}

impl<S> History<S> {
    fn new(empty: S, recorder: Recorder) -> History<S> {
        History { states: vec![empty], promise: Promise::default(), recorder }
    }

    pub fn now(&self) -> &S {
        self.states.last().expect("there is a first state")
    }

    /// From now on this state may be found, too.
    pub fn begin(&mut self, state: S) {
        self.states.push(state);
        self.promise.newest = self.states.len() - 1;
        self.recorder.promise(self.promise);
    }

    /// The newest state was acknowledged: nothing older may be found.
    pub fn all_durable(&mut self) {
        self.promise.durable = self.states.len() - 1;
        self.recorder.promise(self.promise);
    }
}

/// Ways to cut the power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Nothing that was not synced survives.
    KeepNone,
    /// All of it does.
    KeepAll,
    /// The process dies and the system goes on: all is there, and nothing that was not synced is durable.
    Dies,
    /// Writes are dropped, torn and reordered.
    Chance,
    /// The same, and again while the store recovers, once or twice.
    ChanceAgain,
}

impl Cut {
    /// Cuts at each boundary where something was not synced.
    const ALL: [Cut; 8] = [
        Cut::KeepNone,
        Cut::KeepAll,
        Cut::Dies,
        Cut::Chance,
        Cut::Chance,
        Cut::ChanceAgain,
        Cut::ChanceAgain,
        Cut::ChanceAgain,
    ];

    /// And where all was: there is one image only.
    fn is_another(self, is_synced: bool) -> bool {
        !is_synced || matches!(self, Cut::KeepNone | Cut::ChanceAgain)
    }
}

/// Which image of which workload, in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSeed {
    pub workload: u64,
    /// How many calls were done.
    boundary: u32,
    /// Which of [`Cut::ALL`].
    cut: u8,
}

impl ImageSeed {
    const CUT_BITS: u32 = 4;
    const BOUNDARY_BITS: u32 = 20;

    pub fn new(number: u64) -> ImageSeed {
        let boundary = (number >> Self::CUT_BITS) & ((1 << Self::BOUNDARY_BITS) - 1);
        ImageSeed {
            workload: number >> (Self::CUT_BITS + Self::BOUNDARY_BITS),
            boundary: boundary as u32,
            cut: (number & ((1 << Self::CUT_BITS) - 1)) as u8,
        }
    }

    pub fn number(self) -> u64 {
        (self.workload << Self::BOUNDARY_BITS | u64::from(self.boundary)) << Self::CUT_BITS
            | u64::from(self.cut)
    }
}

impl fmt::Display for ImageSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}

/// An image that does not hold what it has to.
#[derive(Debug)]
pub struct Bad {
    pub seed: ImageSeed,
    pub what: String,
}

/// A workload that was recorded, to be crashed.
pub struct Workload<S: Subject> {
    number: u64,
    states: Vec<S::State>,
    trace: Trace,
}

/// Whom to ask for the next image, and whom to tell.
pub trait Watch {
    /// Whether this image is to be made.
    fn wants(&mut self, seed: ImageSeed) -> bool;
    /// It was made; `what` lies in words before the cut.
    fn made(&mut self, seed: ImageSeed, what: &dyn Fn() -> String, result: Result<(), Bad>);
}

impl<S: Subject> Workload<S>
where
    S::State: Default,
{
    /// Runs the workload of this number.
    pub fn record(number: u64) -> Result<Workload<S>, Failure> {
        let recorder = Recorder::new();
        let mut history = History::new(S::State::default(), recorder.clone());
        let mut chance = StdRng::seed_from_u64(number);
        S::work(Arc::new(recorder.clone()), &mut chance, &mut history)?;
        let History { states, .. } = history;
        Ok(Workload { number, states, trace: recorder.finish() })
    }

    /// The disk as the workload left it, and the state that it holds.
    pub fn left(&self) -> Result<(MemDisk, &S::State), Failure> {
        let mut replay = Replay::new();
        self.trace.calls.iter().try_for_each(|(_, call)| replay.call(call))?;
        let last = self.states.last().expect("there is a first state");
        Ok((replay.fork().crash(PowerCut::KeepNone), last))
    }

    /// Makes all images of it that are wanted.
    pub fn crash(&self, watch: &mut dyn Watch) -> Result<(), Failure> {
        let mut replay = Replay::new();
        for boundary in 0..=self.trace.calls.len() {
            let next = self.trace.calls.get(boundary);
            let promise = next.map_or(self.trace.end, |(promise, _)| *promise);
            for (number, cut) in (0..).zip(Cut::ALL) {
                let seed =
                    ImageSeed { workload: self.number, boundary: boundary as u32, cut: number };
                if cut.is_another(replay.is_synced()) && watch.wants(seed) {
                    let image = Image { replay: &replay, states: &self.states, promise, cut };
                    let what = || self.tell(boundary, cut, promise);
                    let result = image.check::<S>(&mut StdRng::seed_from_u64(seed.number()));
                    watch.made(seed, &what, result.map_err(|what| Bad { seed, what }));
                }
            }
            if let Some((_, call)) = next {
                replay.call(call)?;
            }
        }
        Ok(())
    }

    /// Has the disk know nothing of the syncs: a broken store, for the tests of this harness.
    #[cfg(test)]
    pub fn forget_syncs(&mut self) {
        use super::trace::Call;
        self.trace.calls.retain(|(_, call)| !matches!(call, Call::Sync { .. }));
    }

    fn tell(&self, boundary: usize, cut: Cut, promise: Promise) -> String {
        let calls: Vec<String> = (boundary.saturating_sub(12)..boundary)
            .map(|number| format!("  {number}: {}", brief(&self.trace.calls[number].1)))
            .collect();
        let Promise { durable, newest } = promise;
        format!(
            "{}\n  power cut: {cut:?}; allowed: states {durable} to {newest} of {}",
            calls.join("\n"),
            self.states.len()
        )
    }
}

fn brief(call: &super::trace::Call) -> String {
    match call {
        super::trace::Call::Write { file, offset, data } => {
            format!("Write {{ file: {file}, offset: {offset}, {} bytes }}", data.len())
        }
        other => format!("{other:?}"),
    }
}

/// One disk that is about to be crashed.
struct Image<'a, State> {
    replay: &'a Replay,
    states: &'a [State],
    promise: Promise,
    cut: Cut,
}

/// Calls of a recovery before the power goes again. Recoveries write early and then read.
const CALLS: u64 = 24;
const MANY_CALLS: u64 = 160;

impl<State: PartialEq> Image<'_, State> {
    fn check<S: Subject<State = State>>(&self, chance: &mut StdRng) -> Result<(), String> {
        let disk = self.replay.fork();
        let mut disk = match self.cut {
            Cut::Dies => disk,
            Cut::KeepNone => disk.crash(PowerCut::KeepNone),
            Cut::KeepAll => disk.crash(PowerCut::KeepAll),
            Cut::Chance | Cut::ChanceAgain => disk.crash(PowerCut::ByChance(chance)),
        };
        let mut shown = None;
        if self.cut == Cut::ChanceAgain {
            for _ in 0..chance.random_range(1..=2) {
                cut_later(&disk, chance);
                match S::recover(&disk) {
                    Ok(state) => self.is_allowed(&mut shown, state)?,
                    Err(error) if has_power(&disk) => return Err(refused("again", &error)),
                    Err(_) => {}
                }
                disk = disk.crash(PowerCut::ByChance(chance));
            }
        }
        let found = S::recover(&disk).map_err(|error| refused("", &error))?;
        self.is_allowed(&mut shown, found)?;
        let found = shown.expect("it was shown");

        let is_cut = chance.random();
        if is_cut {
            cut_later(&disk, chance);
        }
        let (next, gone_on) = S::go_on(&disk, &found);
        match gone_on {
            Err(error) if !is_cut || has_power(&disk) => {
                return Err(refused("to go on", &error));
            }
            Ok(()) | Err(_) => {}
        }
        let is_reached = gone_on.is_ok();
        let disk = match is_reached {
            true => disk.crash(PowerCut::KeepNone),
            false => disk.crash(PowerCut::ByChance(chance)),
        };
        let last = S::recover(&disk).map_err(|error| refused("after going on", &error))?;
        match last == next || !is_reached && last == found {
            true => Ok(()),
            false if last == found => Err("what was written after the recovery is gone".into()),
            false => Err("after going on there is neither the state before nor that after".into()),
        }
    }

    /// Whether a state may be found; what was shown once is that one for good.
    fn is_allowed(&self, shown: &mut Option<State>, found: State) -> Result<(), String> {
        let Promise { durable, newest } = self.promise;
        if shown.as_ref().is_some_and(|shown| *shown != found) {
            return Err("it holds another state than a recovery before showed".to_owned());
        }
        if !self.states[durable..=newest].contains(&found) {
            return Err(match self.states.iter().position(|state| *state == found) {
                Some(number) => {
                    format!("it holds state {number}, not one of {durable} to {newest}")
                }
                None => "it holds a state that never was".to_owned(),
            });
        }
        *shown = Some(found);
        Ok(())
    }
}

fn cut_later(disk: &MemDisk, chance: &mut StdRng) {
    let most = if chance.random() { CALLS } else { MANY_CALLS };
    disk.cut_power_after(chance.random_range(0..most));
}

fn has_power(disk: &MemDisk) -> bool {
    disk.list().is_ok()
}

fn refused(when: &str, error: &Failure) -> String {
    format!("it cannot be opened {when}: {error}")
}
