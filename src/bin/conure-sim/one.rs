//! One seed, for people who want to know what happened.

use conuredb::simulation::scenario;

/// Runs a seed; true when nothing was found.
pub fn run(seed: u64, with_trace: bool) -> bool {
    let report = scenario::run(seed, if with_trace { |line| print!("{line}") } else { |_| {} });
    let seconds = report.simulated_ms as f64 / 1_000.0;
    let faults: u64 = report.faults_by_kind.values().sum();
    println!(
        "seed {seed}: {seconds:.1} simulated seconds, {faults} faults, {} checked operations, trace {}",
        report.checked_ops, report.digest
    );
    match report.failed() {
        false => println!("nothing was found"),
        true => println!("FAILED: {}", report.summary()),
    }
    !report.failed()
}
