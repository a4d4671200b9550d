//! Many seeds: a line a minute, the failed ones at once, and the sums.

use std::io;
use std::time::{Duration, Instant};

use conuredb::simulation::report::{SeedReport, Totals};

use crate::cli::RunArgs;
use crate::pool::{Pool, Work};

const SAY_EVERY: Duration = Duration::from_secs(60);

/// Runs the seeds; true when nothing was found.
pub fn run(args: &RunArgs) -> io::Result<bool> {
    let begun = Instant::now();
    let work =
        Work { from: args.from, end: args.from + args.seeds, jobs: args.jobs.count(), plant: None };
    let mut pool = Pool::start(work)?;
    let mut totals = Totals::default();
    let mut failed = Vec::new();
    let mut say_at = begun + SAY_EVERY;
    while let Some(next) = pool.next(say_at)? {
        if let Ok(report) = next {
            totals.add(&report);
            if report.failed() {
                tell_failure(&report);
                failed.push(report.seed);
            }
        }
        if Instant::now() >= say_at {
            say_at += SAY_EVERY;
            println!("{} of {} seeds, {}", totals.seeds, args.seeds, sums(&totals));
        }
    }
    summarize(&totals, begun.elapsed(), &mut failed);
    if args.json {
        println!("{}", serde_json::to_string(&totals).expect("text and finite numbers"));
    }
    Ok(!totals.failed())
}

/// Names a failed seed, and the command that replays it.
pub fn tell_failure(report: &SeedReport) {
    println!("seed {} FAILED: {}", report.seed, report.summary());
    println!("  replay it: cargo run --release --bin conure-sim -- --seed {} --trace", report.seed);
}

fn sums(totals: &Totals) -> String {
    format!(
        "{:.2} simulated hours, {} faults, {} checked operations; {} undecided, {} violations, {} lost, {} duplicated",
        totals.simulated_hours,
        totals.faults,
        totals.checked_ops,
        totals.undecided,
        totals.violations,
        totals.lost,
        totals.duplicated
    )
}

fn summarize(totals: &Totals, took: Duration, failed: &mut [u64]) {
    println!("{} seeds in {:.0} s: {}", totals.seeds, took.as_secs_f64(), sums(totals));
    for (kind, count) in &totals.faults_by_kind {
        println!("  {count:>8} {kind}");
    }
    failed.sort_unstable();
    if !failed.is_empty() {
        println!("failed seeds: {failed:?}");
    }
}
