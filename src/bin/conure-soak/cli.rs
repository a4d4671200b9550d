//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::Failure;
use crate::kinds::Kind;

/// Runs a cluster of real nodes under verified clients and faults. docs/TESTING.md tells what is checked.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub soak: SoakArgs,
    #[command(flatten)]
    pub common: CommonArgs,
}

#[derive(Subcommand)]
pub enum Command {
    /// Measures how long writes wait when the leader is killed, stopped, or handed over
    Failover(FailoverArgs),
}

#[derive(Args)]
pub struct CommonArgs {
    /// Nodes of the cluster
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=5))]
    pub nodes: u16,
    /// The program that nodes run; by default `conure-db` beside this one
    #[arg(long, global = true, value_name = "PATH")]
    pub program: Option<PathBuf>,
    /// Ends the output with one line of JSON
    #[arg(long, global = true)]
    pub json: bool,
}

impl CommonArgs {
    pub fn program(&self) -> Result<PathBuf, Failure> {
        let beside =
            || Ok::<_, std::io::Error>(std::env::current_exe()?.with_file_name("conure-db"));
        let program = self.program.clone().map_or_else(beside, Ok)?;
        match program.is_file() {
            true => Ok(std::path::absolute(program)?),
            false => {
                let at = program.display();
                Err(format!("there is no {at}: build all programs (`cargo build --release`), or name it by --program").into())
            }
        }
    }
}

#[derive(Args)]
pub struct SoakArgs {
    /// Faults to inject
    #[arg(long, default_value_t = 60)]
    pub faults: u64,
    /// Operations of clients to check
    #[arg(long, default_value_t = 50_000)]
    pub ops: u64,
    /// Goes on for so long instead, however many faults and operations that makes
    #[arg(long, value_name = "S", conflicts_with_all = ["faults", "ops"])]
    pub seconds: Option<u64>,
    /// Concurrent clients
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub clients: u16,
    /// From which the order of faults, their victims and the clients' choices follow; random unless told
    #[arg(long)]
    pub seed: Option<u64>,
    /// Only these kinds of faults
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND")]
    pub kinds: Vec<Kind>,
}

impl SoakArgs {
    pub fn duration(&self) -> Option<Duration> {
        self.seconds.map(Duration::from_secs)
    }
}

#[derive(Args)]
pub struct FailoverArgs {
    /// How often the leader goes, in each of the three ways
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub kills: u32,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from(["conure-soak", "failover", "--kills", "3", "--json"]);
        assert!(
            cli.common.json
                && matches!(cli.command, Some(Command::Failover(args)) if args.kills == 3)
        );
        let cli =
            Cli::parse_from(["conure-soak", "--kinds", "kill_leader,power_cut", "--nodes", "5"]);
        assert_eq!((cli.soak.kinds.len(), cli.common.nodes), (2, 5));
    }
}
