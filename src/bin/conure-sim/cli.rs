//! The command line.

use std::num::NonZero;

use clap::{Args, Parser, Subcommand};

use crate::crash::{CrashArgs, FlipsArgs};

/// Runs simulated ConureDB clusters under faults, from seeds.
///
/// docs/TESTING.md tells what goes wrong in them and what is checked.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Subcommand)]
pub enum Command {
    /// Plants bugs one by one and looks whether the simulator finds them
    Planted(PlantedArgs),
    /// Runs each seed twice, in processes of their own, and compares the traces
    Repeat(RepeatArgs),
    /// Cuts the power at every write and fsync of recorded workloads, and opens what is left
    Crash(CrashArgs),
    /// Flips single bits of a node's files at rest: each must be refused, or not matter
    Flips(FlipsArgs),
    /// Runs seeds and prints a line of JSON for each: a part of the others
    #[command(hide = true)]
    Worker(WorkerArgs),
}

#[derive(Args)]
pub struct RunArgs {
    /// How many seeds to run
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0, value_name = "S")]
    pub from: u64,
    /// Runs this seed alone
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "from", "json", "jobs"])]
    pub seed: Option<u64>,
    /// Prints what happens in it
    #[arg(long, requires = "seed")]
    pub trace: bool,
    /// Ends the output with one line of JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub jobs: Jobs,
}

#[derive(Args)]
pub struct PlantedArgs {
    /// Seeds in which a bug has to be found
    #[arg(long, default_value_t = 2000, value_name = "N")]
    pub seeds: u64,
    /// Only this bug
    #[arg(long, value_name = "NAME")]
    pub only: Option<String>,
    /// Ends the output with one line of JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub jobs: Jobs,
}

#[derive(Args)]
pub struct RepeatArgs {
    /// How many seeds to run twice
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0, value_name = "S")]
    pub from: u64,
    /// Ends the output with one line of JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub jobs: Jobs,
}

#[derive(Args, Clone, Copy)]
pub struct Jobs {
    /// Processes beside each other; by default one for each processor
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<u64>>,
}

impl Jobs {
    pub fn count(self) -> u64 {
        let processors = || std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        self.jobs.map_or_else(processors, NonZero::get)
    }
}

#[derive(Args)]
pub struct WorkerArgs {
    #[arg(long)]
    pub from: u64,
    /// The end of the seeds, not included
    #[arg(long)]
    pub end: u64,
    /// Every so-manieth of them
    #[arg(long)]
    pub step: NonZero<u64>,
    /// A bug to plant
    #[arg(long)]
    pub plant: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
