//! `conure-bench`: the project's own measurements, each repeatable with one command.
//!
//! `conure-bench storage` compares the storage engine with others on the same keys, in the same process,
//! in turns; `conure-bench cluster` does so with clusters of real processes, and `conure-bench beside` with what
//! such a cluster does besides. docs/BENCHMARKS.md says what each
//! figure means. In the order to read:
//!
//! ```text
//! cli       the command line                  data      keys and values, from a seed
//! engines   what is measured, behind traits   storage   the works, and the rounds they run in
//! cluster   whole clusters under clients          beside     what else they do meanwhile
//! results   figures, medians and ratios       table     for people      json   for programs
//! stats     median, percentile                files     directory sizes and bytes written
//! memory    of a process                      error     what ends a run
//! ```
//!
//! Exit status: 0 when all works were done, 1 when an engine or a cluster failed or gave a
//! wrong byte, 2 when wrongly used or when something is not installed or not built in.
#![allow(clippy::disallowed_methods)] // a binary is the outermost layer

mod beside;
mod cli;
mod cluster;
mod data;
mod engines;
mod error;
mod files;
mod json;
mod memory;
mod results;
mod stats;
mod storage;
mod table;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use error::BenchError;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Storage(args) => storage::run(&args),
        Command::Cluster(args) => cluster::run(&args).map_err(BenchError::Cluster),
        Command::Beside(args) => beside::run(&args).map_err(BenchError::Cluster),
        Command::Fill(args) => storage::reopen::fill_until_killed(&args),
        Command::TimedOpen(args) => storage::reopen::print_open_ms(&args),
        Command::Peak(args) => storage::peak::print_peak(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conure-bench: {error}");
            ExitCode::from(if error.is_misuse() { 2 } else { 1 })
        }
    }
}
