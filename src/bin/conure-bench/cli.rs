//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::beside::args::BesideArgs;
use crate::cluster::args::ClusterArgs;
use crate::engines::Kind;
use crate::storage::works::Work;

/// Measures ConureDB. docs/BENCHMARKS.md tells what each figure means.
#[derive(Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// The storage engine, beside others on the same keys
    Storage(StorageArgs),
    /// A whole cluster under closed-loop clients, beside another one
    Cluster(ClusterArgs),
    /// What else a cluster does while clients write, and what that costs them
    Beside(BesideArgs),
    /// Loads an engine, says so, and waits to be killed: a part of `storage`
    #[command(hide = true)]
    Fill(FillArgs),
    /// Opens an engine and prints how long that took: a part of `storage`
    #[command(hide = true)]
    TimedOpen(OpenArgs),
    /// Uses an engine and prints its peak of memory over its cache: a part of `storage`
    #[command(hide = true)]
    Peak(EngineArgs),
}

#[derive(Args)]
pub struct StorageArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// Engines to compare with; all but btreemap need the cargo feature bench-peers
    #[arg(long, value_delimiter = ',', value_name = "ENGINE")]
    pub peers: Vec<Kind>,
    /// Only these works; all of them by default
    #[arg(long, value_delimiter = ',', value_name = "WORK")]
    pub works: Vec<Work>,
    /// How often each work runs on each engine; medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Where the files go, in a directory that is removed at the end; by default among the system's
    /// temporary files
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Ends the output with one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// What makes the keys, the values and the memory to hold them. The processes of one run share it.
#[derive(Args, Clone)]
pub struct DataArgs {
    /// Number of keys, as loaded
    #[arg(long, default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    pub keys: u32,
    /// Length of every value
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(1..=8_388_608))]
    pub value_bytes: u32,
    /// What the keys look like
    #[arg(long, value_enum, default_value_t = KeyShape::Random)]
    pub key_shape: KeyShape,
    /// Memory for an engine's cache; LMDB maps its file instead
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub cache_mib: u32,
    /// From which keys, values and the order of operations follow
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum KeyShape {
    /// 24 random bytes
    Random,
    /// Paths of 60 to 100 bytes with much in common
    Path,
}

/// One engine in one directory, for a process of the run.
#[derive(Args)]
pub struct EngineArgs {
    #[command(flatten)]
    pub data: DataArgs,
    #[arg(long)]
    pub engine: Kind,
    #[arg(long)]
    pub dir: PathBuf,
}

#[derive(Args)]
pub struct FillArgs {
    #[command(flatten)]
    pub on: EngineArgs,
    /// Bytes of keys and values in durable commits after the load
    #[arg(long)]
    pub commit_bytes: u64,
}

#[derive(Args)]
pub struct OpenArgs {
    #[command(flatten)]
    pub on: EngineArgs,
    /// Replay the log too, where the engine has one of its own
    #[arg(long)]
    pub replay: bool,
}

impl DataArgs {
    /// The same as arguments, for a process of this run.
    pub fn to_arguments(&self) -> Vec<String> {
        let shape = match self.key_shape {
            KeyShape::Random => "random",
            KeyShape::Path => "path",
        };
        [
            ("keys", self.keys.to_string()),
            ("value-bytes", self.value_bytes.to_string()),
            ("key-shape", shape.to_owned()),
            ("cache-mib", self.cache_mib.to_string()),
            ("seed", self.seed.to_string()),
        ]
        .map(|(name, value)| format!("--{name}={value}"))
        .into()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn a_process_of_the_run_gets_the_same_data() {
        let given = ["--keys=2000", "--value-bytes=16", "--key-shape=path", "--cache-mib=9"];
        let own = ["conure-bench", "storage", "--seed=7"];
        let Command::Storage(args) = Cli::parse_from(own.iter().chain(&given)).command else {
            panic!("storage was asked for");
        };
        assert_eq!(args.data.to_arguments(), [&given[..], &["--seed=7"]].concat());
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
