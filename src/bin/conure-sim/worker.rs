//! A process that runs seeds and prints a line of JSON for each.
//!
//! A panic anywhere in a run is a finding: the hook prints it as the seed's report and ends the process, also where
//! panics unwind and a task's would be caught. The pool then goes on behind that seed in another process.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use conuredb::simulation::report::SeedReport;
use conuredb::simulation::scenario;

use crate::cli::WorkerArgs;
use crate::planted::plant_by_name;

/// The seed that runs.
static SEED: AtomicU64 = AtomicU64::new(0);

/// How a process ends whose seed panicked.
const PANICKED: i32 = 101;

pub fn run(args: &WorkerArgs) -> bool {
    if let Some(name) = &args.plant
        && !plant_by_name(name)
    {
        eprintln!("conure-sim: no bug is called {name}");
        return false;
    }
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = match std::env::var_os("RUST_BACKTRACE") {
            Some(_) => format!("\n{}", std::backtrace::Backtrace::force_capture()),
            None => String::new(),
        };
        let report =
            SeedReport::aborted(SEED.load(Ordering::Relaxed), format!("{panic}{backtrace}"));
        print(&report);
        std::process::exit(PANICKED);
    }));
    for seed in (args.from..args.end).step_by(args.step.get() as usize) {
        SEED.store(seed, Ordering::Relaxed);
        print(&scenario::run(seed, |_| {}));
    }
    true
}

fn print(report: &SeedReport) {
    let line = serde_json::to_string(report).expect("text and numbers");
    let mut out = std::io::stdout().lock();
    // Whoever reads it may be gone; then so is the work.
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}
