//! The flags of `conure-bench cluster`.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Bounds of what one thread can drive; a longer histogram or more sockets would measure the client.
const MOST_CLIENTS: i64 = 10_000;

#[derive(Args)]
pub struct ClusterArgs {
    /// Nodes of each system
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// What the clients do
    #[arg(long, value_enum, default_value_t = Op::Put)]
    pub op: Op,
    /// Clients, each with one request at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=MOST_CLIENTS))]
    pub clients: u32,
    /// Length of every value
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub value_bytes: u32,
    /// How long a round is measured
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
    /// Ends a round after this many operations, however long they take
    #[arg(long, value_name = "N", conflicts_with_all = ["seconds", "warmup"],
          value_parser = clap::value_parser!(u64).range(1..))]
    pub ops: Option<u64>,
    /// Rounds of each system, in turns; medians are printed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// Seconds at the beginning of a round that do not count
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=600))]
    pub warmup: u32,
    /// Number of keys; each is written by one client only, so there have to be as many
    #[arg(long, default_value_t = 100_000,
          value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub keys: u32,
    /// Which keys are asked for
    #[arg(long, value_enum, default_value_t = Dist::Uniform)]
    pub dist: Dist,
    /// Which nodes the clients talk to [default: leader, or a follower for get-stale]
    #[arg(long, value_enum)]
    pub spread: Option<Spread>,
    /// Another system to measure in turns; etcd needs the cargo feature bench-peers
    #[arg(long, value_enum)]
    pub vs: Option<Peer>,
    /// Running nodes to measure, as URLs, instead of starting some; repeatable. Or etcd, to start and measure that alone
    #[arg(long, value_name = "URL", num_args = 1.., conflicts_with = "nodes")]
    pub target: Vec<String>,
    #[command(flatten)]
    pub run: RunArgs,
}

/// What every run on a cluster needs.
#[derive(Args, Clone)]
pub struct RunArgs {
    /// Where the nodes' files go, in a directory that is removed at the end; by default among the system's
    /// temporary files
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// From which values and the order of keys follow
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Ends the output with one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// What `--target` takes instead of URLs.
const ETCD: &str = "etcd";

impl ClusterArgs {
    /// The systems of a run, the project's first.
    pub fn systems(&self) -> Vec<System> {
        if self.target == [ETCD] {
            return vec![System::Etcd];
        }
        let peer = self.vs.map(|Peer::Etcd| System::Etcd);
        std::iter::once(System::Conure).chain(peer).collect()
    }

    pub fn spread(&self) -> Spread {
        self.spread.unwrap_or(match self.op {
            Op::GetStale => Spread::Follower,
            Op::Put | Op::Get | Op::Mixed | Op::Scan => Spread::Leader,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Op {
    /// Writes, each durable on a majority when it is answered
    Put,
    /// Linearizable reads
    Get,
    /// Reads of one node's own state (etcd: serializable)
    GetStale,
    /// As many puts as linearizable gets
    Mixed,
    /// Linearizable reads of 100 keys in a row
    Scan,
}

impl Op {
    pub fn name(self) -> &'static str {
        match self {
            Op::Put => "put",
            Op::Get => "get",
            Op::GetStale => "get-stale",
            Op::Mixed => "mixed",
            Op::Scan => "scan",
        }
    }

    pub fn reads(self) -> bool {
        self != Op::Put
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Dist {
    /// All alike
    Uniform,
    /// The key of rank n in proportion to 1/n
    Zipf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Spread {
    /// All clients at the leader
    Leader,
    /// All at one node that does not lead
    Follower,
    /// Evenly over all nodes
    All,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Peer {
    Etcd,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    Conure,
    Etcd,
}

impl System {
    pub fn name(self) -> &'static str {
        match self {
            System::Conure => "conure",
            System::Etcd => "etcd",
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
