//! The flags of `conure-db`.
//!
//! Flags are kept as the text they were given: one table (`settings`) reads them, so that a bad
//! value says the same thing from whichever place it comes. The keys on top have a flag each, the
//! nested ones are reached by `--set`.

use clap::Parser;

/// A node of ConureDB, a distributed key-value store.
///
/// Settings come from defaults, overruled by the file, by the environment (CONURE_NODE_ID,
/// CONURE_LIMITS__MAX_VALUE_BYTES) and by flags, in this order.
#[derive(Parser, Clone, Debug, Default)]
#[command(name = "conure-db", version)]
pub struct Cli {
    /// YAML file of settings
    #[arg(long, value_name = "PATH", env = "CONURE_CONFIG")]
    pub config: Option<String>,

    /// Print the settings in force, with where each came from, and exit
    #[arg(long)]
    pub check_config: bool,

    /// Name of this node, unique in its cluster [default: node1]
    #[arg(long, value_name = "NAME")]
    pub node_id: Option<String>,

    /// Directory for all of this node's data [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,

    /// Where to listen for peers [default: 127.0.0.1:7001]
    #[arg(long, value_name = "HOST:PORT")]
    pub raft_addr: Option<String>,

    /// Where peers reach this node [default: --raft-addr]
    #[arg(long, value_name = "HOST:PORT")]
    pub raft_advertise_addr: Option<String>,

    /// Where to serve HTTP; no host means every interface [default: :8081]
    #[arg(long, value_name = "HOST:PORT")]
    pub http_addr: Option<String>,

    /// Where clients reach this node [default: made from --http-addr]
    #[arg(long, value_name = "URL")]
    pub http_advertise_addr: Option<String>,

    /// Found a cluster when there is no data yet [default: true, false with --seeds]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub bootstrap: Option<String>,

    /// HTTP addresses of nodes to join, with commas between
    #[arg(long, value_name = "URLS")]
    pub seeds: Option<String>,

    /// Secret that all nodes share; other users of the machine see flags, so prefer the file
    #[arg(long, value_name = "TEXT")]
    pub cluster_secret: Option<String>,

    /// File that holds the secret
    #[arg(long, value_name = "PATH")]
    pub cluster_secret_file: Option<String>,

    /// What a follower does with a write: forward or redirect [default: forward]
    #[arg(long, value_name = "MODE")]
    pub follower_mode: Option<String>,

    /// The longest a linearizable read waits [default: 3s]
    #[arg(long, value_name = "DURATION")]
    pub barrier_timeout: Option<String>,

    /// What to log: a level, also by target (info,conuredb::http=debug) [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log_level: Option<String>,

    /// How to log: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// Log requests that take longer; 0s for none [default: 1s]
    #[arg(long, value_name = "DURATION")]
    pub log_slow_request: Option<String>,

    /// Any setting by its key, such as limits.max_value_bytes=1MiB; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<(String, String)>,
}

impl Cli {
    /// Whether any flag was given. A settings file may come from the environment, and is none.
    pub fn has_flags(&self) -> bool {
        self.check_config || !self.given().is_empty()
    }

    /// Each setting that was given: its key, the flag, the text.
    pub(super) fn given(&self) -> Vec<(String, String, String)> {
        let own = [
            ("node_id", &self.node_id),
            ("data_dir", &self.data_dir),
            ("raft_addr", &self.raft_addr),
            ("raft_advertise_addr", &self.raft_advertise_addr),
            ("http_addr", &self.http_addr),
            ("http_advertise_addr", &self.http_advertise_addr),
            ("bootstrap", &self.bootstrap),
            ("seeds", &self.seeds),
            ("cluster_secret", &self.cluster_secret),
            ("cluster_secret_file", &self.cluster_secret_file),
            ("follower_mode", &self.follower_mode),
            ("barrier_timeout", &self.barrier_timeout),
            ("log_level", &self.log_level),
            ("log_format", &self.log_format),
            ("log_slow_request", &self.log_slow_request),
        ];
        let own = own.into_iter().filter_map(|(key, text)| {
            let flag = format!("--{}", key.replace('_', "-"));
            text.clone().map(|text| (key.to_owned(), flag, text))
        });
        let set =
            self.set.iter().map(|(key, text)| (key.clone(), "--set".to_owned(), text.clone()));
        own.chain(set).collect()
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.to_owned())),
        None => Err("expected KEY=VALUE, such as limits.max_value_bytes=1MiB".to_owned()),
    }
}
