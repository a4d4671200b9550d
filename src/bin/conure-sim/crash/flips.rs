//! Single bits that flip while nobody looks: in pages and in log records, at rest.
//!
//! A directory is what a workload of a node left. In each of its forks one bit flips; then a node starts on it, applies
//! the log, and reads everything. Either that is refused, or what is read is exactly what was written. A flip that a start
//! does not meet may still be found by the offline check; what is left lies in bytes that nothing uses.

use std::process::ExitCode;

use clap::Args;
use conuredb::storage::disk::MemDisk;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use super::images::{Failure, Workload};
use super::node::{Node, State, check, start};

#[derive(Args)]
pub struct FlipsArgs {
    /// How many bits to flip, each in a directory of its own
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    flips: u64,
    /// The seed of the first one
    #[arg(long, default_value_t = 0, value_name = "S")]
    from: u64,
    /// Ends the output with one line of JSON
    #[arg(long)]
    json: bool,
}

/// Flips in the files that one workload left.
const FLIPS_OF_A_WORKLOAD: u64 = 500;

/// What became of the flips; the last line with `--json`.
#[derive(Debug, Default, Serialize)]
struct Report {
    flips: u64,
    /// A start or a read said what is damaged.
    refused: u64,
    /// Only the offline check did: nothing that was read has it.
    found_by_check: u64,
    /// All is there, and the check finds nothing: the byte is not in use.
    unused: u64,
    /// Something else was read than was written.
    served: u64,
}

pub fn flip(args: &FlipsArgs) -> ExitCode {
    let report = match flip_all(args.from..args.from.saturating_add(args.flips)) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("conure-sim: a workload failed before any flip: {error}");
            return ExitCode::FAILURE;
        }
    };
    let Report { flips, refused, found_by_check, unused, served } = report;
    println!(
        "{flips} flips: {refused} refused, {found_by_check} found by the check, {unused} in bytes \
         that are not in use, {served} served"
    );
    if args.json {
        println!("{}", serde_json::to_string(&report).expect("numbers"));
    }
    if served == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn flip_all(seeds: std::ops::Range<u64>) -> Result<Report, Failure> {
    let mut report = Report::default();
    let mut seeds = seeds.peekable();
    while let Some(&first) = seeds.peek() {
        let workload = first / FLIPS_OF_A_WORKLOAD;
        let recorded = Workload::<Node>::record(workload)?;
        let (disk, state) = recorded.left()?;
        if let Some(found) = check(&disk.fork())?.first() {
            return Err(format!("the check finds before any flip: {found:?}").into());
        }
        while let Some(seed) = seeds.next_if(|seed| seed / FLIPS_OF_A_WORKLOAD == workload) {
            report.note(seed, &disk, state);
        }
    }
    Ok(report)
}

impl Report {
    fn note(&mut self, seed: u64, disk: &MemDisk, state: &State) {
        let chance = &mut StdRng::seed_from_u64(seed);
        let disk = disk.fork();
        let (name, offset, bit) = draw(&disk, chance);
        disk.flip_bit(&name, offset, bit);
        self.flips += 1;
        // The check first, and on a fork: a start may repair what it finds.
        let is_found = !check(&disk.fork()).is_ok_and(|findings| findings.is_empty());
        match (start(&disk), is_found) {
            (Ok(found), _) if found != *state => {
                self.served += 1;
                println!("flip {seed}: bit {bit} of byte {offset} of {name} is served as data");
            }
            (Err(_), _) => self.refused += 1,
            (Ok(_), true) => self.found_by_check += 1,
            (Ok(_), false) => self.unused += 1,
        }
    }
}

/// A bit of any byte: half of them in the store's file, half in the segments of the log.
fn draw(disk: &MemDisk, chance: &mut StdRng) -> (String, u64, u8) {
    let contents = disk.contents();
    let in_store: bool = chance.random();
    let files: Vec<(&String, usize)> = contents
        .iter()
        .filter(|(name, content)| name.ends_with(".db") == in_store && !content.is_empty())
        .map(|(name, content)| (name, content.len()))
        .collect();
    let mut nth = chance.random_range(0..files.iter().map(|(_, len)| len).sum());
    for (name, len) in files {
        if nth < len {
            return (name.clone(), nth as u64, chance.random_range(0..8));
        }
        nth -= len;
    }
    unreachable!("a byte lies in one of the files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flips_in_used_bytes_are_refused_and_nothing_is_served() {
        let report = flip_all(0..400).unwrap();
        assert_eq!((report.flips, report.served), (400, 0), "{report:?}");
        assert!(report.refused > 40, "{report:?}");
        assert!(report.unused > 40, "{report:?}");
    }
}
