//! `conure-sim`: runs simulated clusters under faults by the thousand, and replays one.
//!
//! ```text
//! cli      the command line
//! pool     seeds on worker processes, restarted where one dies       worker   such a process
//! seeds    `--seeds N`: many seeds, their sums, and which failed     one      `--seed N`: one, with its trace
//! repeat   each seed twice, in processes of their own                planted  bugs on purpose, each to be found
//! crash    power cuts at every call of recorded workloads, and single bits flipped at rest
//! ```
//!
//! A seed runs on one thread; several run beside each other in processes, since a panic ends a process of the
//! released program, and a seed that panics must not end the others. docs/TESTING.md says what is checked.
//!
//! Exit status: 0 when nothing was found (by `planted`: when everything was), 1 when something was, 2 when wrongly
//! used.
#![allow(clippy::disallowed_methods)] // a binary is the outermost layer

mod cli;
mod crash;
mod one;
mod planted;
mod pool;
mod repeat;
mod seeds;
mod worker;

use std::process::ExitCode;

use clap::Parser;
use env_logger::Env;

use cli::{Cli, Command};

fn main() -> ExitCode {
    // Injected faults make nodes complain without end; RUST_LOG shows it.
    env_logger::Builder::from_env(Env::default().default_filter_or("off")).init();
    let cli = Cli::parse();
    let ended = match (cli.command, cli.run.seed) {
        (Some(Command::Planted(args)), _) => planted::run(&args),
        (Some(Command::Repeat(args)), _) => repeat::run(&args),
        (Some(Command::Crash(args)), _) => return crash::run(&args),
        (Some(Command::Flips(args)), _) => return crash::flip(&args),
        (Some(Command::Worker(args)), _) => Ok(worker::run(&args)),
        (None, Some(seed)) => Ok(one::run(seed, cli.run.trace)),
        (None, None) => seeds::run(&cli.run),
    };
    match ended {
        Ok(is_good) => ExitCode::from(u8::from(!is_good)),
        Err(error) => {
            eprintln!("conure-sim: {error}");
            ExitCode::from(2)
        }
    }
}
