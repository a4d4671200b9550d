//! `conure-sim crash` and `conure-sim flips`: what a power cut and a bad medium leave of the files of a node.
//!
//! Workloads are numbered. Each is one of three kinds by turns, and everything it does follows from its number:
//!
//! ```text
//! store  the B-tree file: commits, checkpoints, compaction      trace   a disk that records, and its replay
//! log    the Raft log: rolls, purges, truncations, votes        images  cuts, promises, and what is checked
//! node   both, as a node uses them                              flips   single bits
//! ```
//!
//! Left out: errors of single calls, which the tests of the storage floor inject at every call, and full disks.

mod flips;
mod images;
mod log;
mod node;
mod store;
mod trace;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use self::images::{Bad, Failure, ImageSeed, Subject, Watch, Workload};

pub use self::flips::{FlipsArgs, flip};

#[derive(Args)]
pub struct CrashArgs {
    /// How many images to make and open
    #[arg(long, default_value_t = 50_000, value_name = "N")]
    images: u64,
    /// The number of the first workload
    #[arg(long, default_value_t = 0, value_name = "S")]
    from: u64,
    /// Only this image, with what came before the power cut
    #[arg(long, value_name = "N", conflicts_with_all = ["images", "from"])]
    seed: Option<u64>,
    /// Ends the output with one line of JSON
    #[arg(long)]
    json: bool,
}

/// The last line with `--json`.
#[derive(Serialize)]
struct Report {
    images: u64,
    bad: u64,
}

/// Bad images that are told one by one.
const TOLD: usize = 20;

/// The image being made, for a panic to name; its number plus one.
static CURRENT: AtomicU64 = AtomicU64::new(0);

pub fn run(args: &CrashArgs) -> ExitCode {
    name_image_in_panics();
    let only = args.seed.map(ImageSeed::new);
    let mut crashes = Crashes { wanted: args.images, only, ..Crashes::default() };
    let begun = Instant::now();
    let mut workload = only.map_or(args.from, |only| only.workload);
    while !crashes.is_done() {
        let before = crashes.made;
        if let Err(error) = crash(workload, &mut crashes) {
            eprintln!("conure-sim: workload {workload} failed before any power cut: {error}");
            return ExitCode::FAILURE;
        }
        if only.is_some() && crashes.made == before {
            eprintln!("conure-sim: there is no image with this seed");
            return ExitCode::from(2);
        }
        workload += 1;
    }
    println!(
        "{} images of {} workloads in {:.1} s: {} bad",
        crashes.made,
        workload - only.map_or(args.from, |only| only.workload),
        begun.elapsed().as_secs_f64(),
        crashes.bad
    );
    if args.json {
        let report = Report { images: crashes.made, bad: crashes.bad };
        println!("{}", serde_json::to_string(&report).expect("two numbers"));
    }
    if crashes.bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Makes the images of a workload, which is of the kind that its number says.
fn crash(workload: u64, crashes: &mut Crashes) -> Result<(), Failure> {
    match workload % 3 {
        0 => crash_one::<store::StoreFile>(workload, crashes),
        1 => crash_one::<log::RaftLog>(workload, crashes),
        _ => crash_one::<node::Node>(workload, crashes),
    }
}

fn crash_one<S: Subject>(workload: u64, crashes: &mut Crashes) -> Result<(), Failure>
where
    S::State: Default,
{
    Workload::<S>::record(workload)?.crash(crashes)
}

/// A panic is a bad image like others, but ends the run: it has to say which one it was.
fn name_image_in_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if let Some(seed) = CURRENT.load(Ordering::Relaxed).checked_sub(1) {
            eprintln!("image {seed} panics; replay it with: conure-sim crash --seed {seed}");
        }
        before(info);
    }));
}

/// How often a long run says where it is.
const TELL_EVERY: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Crashes {
    wanted: u64,
    only: Option<ImageSeed>,
    made: u64,
    bad: u64,
    told_at: Option<Instant>,
}

impl Crashes {
    fn is_done(&self) -> bool {
        match self.only {
            Some(_) => self.made > 0,
            None => self.made >= self.wanted,
        }
    }
}

impl Watch for Crashes {
    fn wants(&mut self, seed: ImageSeed) -> bool {
        let wants = !self.is_done() && self.only.is_none_or(|only| only == seed);
        if wants {
            CURRENT.store(seed.number() + 1, Ordering::Relaxed);
        }
        wants
    }

    fn made(&mut self, seed: ImageSeed, what: &dyn Fn() -> String, result: Result<(), Bad>) {
        CURRENT.store(0, Ordering::Relaxed);
        self.made += 1;
        if self.only.is_some() {
            println!("image {seed} of workload {}, after\n{}", seed.workload, what());
        }
        let told_at = self.told_at.get_or_insert_with(Instant::now);
        if told_at.elapsed() >= TELL_EVERY {
            println!("{} of {} images, {} bad", self.made, self.wanted, self.bad);
            *told_at = Instant::now();
        }
        if let Err(Bad { seed, what }) = result {
            self.bad += 1;
            if self.bad as usize <= TOLD {
                println!(
                    "image {seed} is bad: {what}\n  replay it with: conure-sim crash --seed {seed}"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_number_and_back() {
        for number in [0, 7, 16, 1 << 24, 123_456_789_012] {
            assert_eq!(ImageSeed::new(number).number(), number);
        }
    }

    /// The first workloads of all three kinds, without the fsyncs that they made.
    #[test]
    fn a_store_that_does_not_sync_is_found_out() {
        fn bad<S: Subject>(number: u64) -> u64
        where
            S::State: Default,
        {
            let mut crashes = Crashes { wanted: 300, ..Crashes::default() };
            let mut workload = Workload::<S>::record(number).unwrap();
            workload.forget_syncs();
            workload.crash(&mut crashes).unwrap();
            crashes.bad
        }
        assert!(bad::<store::StoreFile>(0) > 0);
        assert!(bad::<log::RaftLog>(1) > 0);
        assert!(bad::<node::Node>(2) > 0);
    }
}
