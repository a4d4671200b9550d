//! The flags of `conure-bench beside`.

use clap::{Args, ValueEnum};

use crate::cluster::args::RunArgs;

#[derive(Args)]
pub struct BesideArgs {
    /// Only these works; all of them by default
    #[arg(long, value_delimiter = ',', value_name = "WORK")]
    works: Vec<Work>,
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// Keys that are there
    #[arg(long, default_value_t = 200_000,
          value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    pub keys: u32,
    /// Length of every value
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub value_bytes: u32,
    /// Clients that write, each with one request at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub clients: u32,
    /// Watchers of the work `watch`
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub watchers: u32,
    /// How long the clients are measured, alone and beside a work
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
    /// Rounds of each work; medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    #[command(flatten)]
    pub run: RunArgs,
}

impl BesideArgs {
    pub fn works(&self) -> &[Work] {
        if self.works.is_empty() { Work::value_variants() } else { &self.works }
    }
}

/// What runs beside the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// The leader streams all keys as NDJSON, again and again
    Stream,
    /// The leader sends backups, one after the other
    Backup,
    /// Watchers of overlapping prefixes at all nodes: every write reaches about ten of them
    Watch,
    /// The leader compacts its file, of which the greater part was deleted
    Compact,
    /// A node without data joins, gets a snapshot and becomes a voter
    Join,
}

impl Work {
    pub fn name(self) -> &'static str {
        match self {
            Work::Stream => "stream",
            Work::Backup => "backup",
            Work::Watch => "watch",
            Work::Compact => "compact",
            Work::Join => "join",
        }
    }

    /// Of what its rate is.
    pub fn unit(self) -> &'static str {
        match self {
            Work::Stream => "keys/s",
            Work::Backup => "MB/s",
            Work::Watch => "events/s",
            Work::Compact => "MB/s given back",
            Work::Join => "joins/s",
        }
    }
}
