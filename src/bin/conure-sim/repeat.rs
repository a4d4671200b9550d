//! Whether a run is a function of its seed: each runs twice, in different processes, and the traces are compared.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use crate::cli::RepeatArgs;
use crate::pool::{Pool, Work};

pub const PATIENCE: Duration = Duration::from_secs(3_600);

/// Runs the seeds twice; true when every trace repeats.
pub fn run(args: &RepeatArgs) -> io::Result<bool> {
    let end = args.from + args.seeds;
    // Other numbers of processes give each seed other seeds before it in its process.
    let jobs = args.jobs.count();
    let first = digests(Work { from: args.from, end, jobs, plant: None })?;
    let second = digests(Work { from: args.from, end, jobs: jobs + 1, plant: None })?;
    let differ: Vec<u64> = (args.from..end)
        .filter(|seed| first.get(seed).is_none_or(|digest| second.get(seed) != Some(digest)))
        .collect();
    match differ.is_empty() {
        true => println!("{} seeds gave the same trace twice", args.seeds),
        false => println!("these seeds gave two traces: {differ:?}"),
    }
    if args.json {
        println!("{{\"seeds\":{},\"differ\":{}}}", args.seeds, differ.len());
    }
    Ok(differ.is_empty())
}

fn digests(work: Work) -> io::Result<BTreeMap<u64, String>> {
    let mut pool = Pool::start(work)?;
    let mut digests = BTreeMap::new();
    while let Some(next) = pool.next(Instant::now() + PATIENCE)? {
        let Ok(report) = next else { continue };
        // A seed that panicked has no trace to compare.
        if !report.digest.is_empty() {
            digests.insert(report.seed, report.digest);
        }
    }
    Ok(digests)
}
