//! What a person can set on a node, and how the settings come together.
//!
//! A setting has one key, `limits.max_value_bytes` say, and four places to stand in, each overruling
//! the ones before it:
//!
//! ```text
//! defaults  <  YAML file (--config PATH)  <  environment  <  flags
//!              limits:                       CONURE_LIMITS__    --set limits.max_value_bytes=1MiB
//!                max_value_bytes: 1MiB       MAX_VALUE_BYTES    (the keys on top have flags of
//!                                                               their own: --node-id)
//! ```
//!
//! A setting that is misspelt or out of range stops the node instead of leaving a default in force that
//! nobody chose, and the message names the key, the place and the remedy; all mistakes are told at
//! once. Every value remembers its place ([`Config::origins`]), which is also what
//! `conure-db --check-config` shows.
//!
//! Read in this order: this file (the settings and their defaults), `settings` (the table of keys:
//! how each is read, bounded and shown), `layers` (the four places, merged by the `config` crate),
//! `check` (what must hold between settings), [`cli`] (flags), `print`.
//!
//! Everything here is a pure function of its arguments except `files`, which reads the disk and the
//! environment for the binary. Left out: reloading at run time (a restart of one node at a time does
//! it) and TLS, hence only `http://` addresses.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::logs::LogFormat;
use crate::types::{DEFAULT_MAX_VALUE_BYTES, Retention};

mod addr;
mod check;
pub mod cli;
mod error;
mod files;
mod layers;
mod print;
mod settings;
mod value;

#[cfg(test)]
mod tests;

pub use addr::{AddrError, HostPort, HttpAddr};
pub use cli::Cli;
pub use error::{ConfigError, ConfigErrors};

/// The settings of one node. [`Config::default`] is what a node without file, environment and flags has.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The node's name, unique in its cluster: 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub node_id: String,
    pub data_dir: PathBuf,
    /// Where peers' connections are accepted.
    pub raft_addr: HostPort,
    /// Where peers are told to connect to; see [`Config::raft_advertise`].
    pub raft_advertise_addr: Option<HostPort>,
    /// Where HTTP is served.
    pub http_addr: HostPort,
    /// Where clients are told to send HTTP requests; see [`Config::http_advertise`].
    pub http_advertise_addr: Option<HttpAddr>,
    /// `None` unless somebody set it; see [`Config::bootstraps`].
    pub bootstrap: Option<bool>,
    /// Nodes of a cluster to ask for membership.
    pub seeds: Vec<HttpAddr>,
    /// What peers must prove to know.
    pub cluster_secret: Option<Secret>,
    /// Where the secret stands; [`Config::load`] reads it into `cluster_secret` and leaves `None`.
    pub cluster_secret_file: Option<PathBuf>,
    pub follower_mode: FollowerMode,
    /// The longest a linearizable read waits.
    pub barrier_timeout: Duration,
    /// A filter of `env_logger`.
    pub log_level: String,
    pub log_format: LogFormat,
    /// Requests that take longer are logged; zero for none.
    pub log_slow_request: Duration,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub raft: RaftSettings,
    pub storage: StorageSettings,
    pub membership: MembershipSettings,
    /// Where each setting that is no default came from, by key.
    pub origins: BTreeMap<&'static str, String>,
}

/// What a follower does with a request that only the leader can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowerMode {
    /// Asks the leader itself and passes the answer on.
    Forward,
    /// Answers 307 with the leader's address.
    Redirect,
}

/// Bounds of what one node takes on at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_value_bytes: usize,
    /// Writes beyond this are refused with 429.
    pub max_inflight_writes: usize,
    /// Reads beyond this are refused with 429.
    pub max_inflight_reads: usize,
    pub max_connections: usize,
    /// Bytes of one request's line and headers.
    pub max_header_bytes: usize,
    /// Most items in one page of a scan.
    pub max_scan_results: usize,
    /// Most scans whose revision is kept for their next page.
    pub max_pinned_scans: usize,
    /// Most items of each list of a transaction.
    pub max_txn_ops: usize,
    /// Bytes of a transaction's body.
    pub max_txn_bytes: usize,
    /// Watches beyond this are refused with 429.
    pub max_watchers: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// How long a write waits for its outcome before 504.
    pub write: Duration,
    /// How long a client may take to send a request before 408.
    pub request: Duration,
    /// How long a closing node waits for the requests it has.
    pub shutdown: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftSettings {
    pub heartbeat_interval: Duration,
    /// A follower that hears nothing for a time drawn between these two stands for election.
    pub election_timeout_min: Duration,
    pub election_timeout_max: Duration,
    /// Log written since the last checkpoint that starts the next one.
    pub checkpoint_log_bytes: u64,
    /// Entries kept behind a checkpoint, so that a follower that lags by less needs no snapshot.
    pub keep_log_entries: u64,
    /// How fast a snapshot is sent to a follower; 0 for as fast as it goes.
    pub snapshot_bytes_per_second: u64,
    /// By how much the clocks of two nodes may differ after `election_timeout_min`, for reads by the leader's lease; 0
    /// where they are off.
    pub lease_clock_drift: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageSettings {
    /// Memory for pages that were read from disk.
    pub cache_bytes: usize,
    /// Length of a preallocated file of the log.
    pub log_segment_bytes: u64,
    /// How fast pages and records that nobody reads are verified; 0 turns it off.
    pub scrub_bytes_per_second: u64,
    /// How much of the past is kept: changes, their bytes, and for how long; 0 for any time.
    pub history_max_changes: u64,
    pub history_max_bytes: u64,
    pub history_max_age: Duration,
}

impl StorageSettings {
    /// `history_max_age` in milliseconds, unless it is without end.
    pub fn history_age_ms(&self) -> Option<u64> {
        let age_ms = u64::try_from(self.history_max_age.as_millis()).unwrap_or(u64::MAX);
        (age_ms > 0).then_some(age_ms)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipSettings {
    /// Silence after which the leader removes a member, if enough voters are left that answer; zero for never.
    pub remove_dead_after: Duration,
    /// Whether the leader keeps the number of voters odd.
    pub odd_voters: bool,
    /// Whether a node whose data are damaged asks its peers to replace it.
    pub replace_damaged: bool,
}

impl Default for Config {
    fn default() -> Config {
        let local = |host: &str, port| HostPort { host: host.to_owned(), port };
        Config {
            node_id: "node1".to_owned(),
            data_dir: PathBuf::from("./data"),
            raft_addr: local("127.0.0.1", 7001),
            raft_advertise_addr: None,
            http_addr: local("", 8081),
            http_advertise_addr: None,
            bootstrap: None,
            seeds: Vec::new(),
            cluster_secret: None,
            cluster_secret_file: None,
            follower_mode: FollowerMode::Forward,
            barrier_timeout: Duration::from_secs(3),
            log_level: "info".to_owned(),
            log_format: LogFormat::Text,
            log_slow_request: Duration::from_secs(1),
            limits: Limits {
                max_value_bytes: DEFAULT_MAX_VALUE_BYTES,
                max_inflight_writes: 1_024,
                max_inflight_reads: 4_096,
                max_connections: 10_000,
                max_header_bytes: 32 * 1024,
                max_scan_results: 10_000,
                max_pinned_scans: 64,
                max_txn_ops: 128,
                max_txn_bytes: 4 << 20,
                max_watchers: 4_096,
            },
            timeouts: Timeouts {
                write: Duration::from_secs(5),
                request: Duration::from_secs(30),
                shutdown: Duration::from_secs(10),
            },
            raft: RaftSettings {
                heartbeat_interval: Duration::from_millis(100),
                election_timeout_min: Duration::from_millis(300),
                election_timeout_max: Duration::from_millis(600),
                checkpoint_log_bytes: 64 * 1024 * 1024,
                keep_log_entries: 10_000,
                snapshot_bytes_per_second: 64 * 1024 * 1024,
                lease_clock_drift: Duration::ZERO,
            },
            storage: StorageSettings {
                cache_bytes: 128 * 1024 * 1024,
                log_segment_bytes: 16 * 1024 * 1024,
                scrub_bytes_per_second: 4 * 1024 * 1024,
                history_max_changes: Retention::default().changes,
                history_max_bytes: Retention::default().bytes,
                history_max_age: Duration::ZERO,
            },
            membership: MembershipSettings {
                remove_dead_after: Duration::ZERO,
                odd_voters: false,
                replace_damaged: true,
            },
            origins: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Whether a node without data founds a cluster of its own. Unless it was set, a node that was given
    /// seeds does not: it joins theirs.
    pub fn bootstraps(&self) -> bool {
        self.bootstrap.unwrap_or(self.seeds.is_empty())
    }

    /// The keys of all settings, in the order in which they are shown.
    pub fn keys() -> impl Iterator<Item = &'static str> {
        settings::SETTINGS.iter().map(|setting| setting.key)
    }

    /// The address peers are told.
    pub fn raft_advertise(&self) -> HostPort {
        self.raft_advertise_addr.clone().unwrap_or_else(|| self.raft_addr.clone())
    }

    /// The address clients are told: when nobody set one and HTTP listens on every interface, the
    /// host that peers are told, since that one is reachable from elsewhere.
    pub fn http_advertise(&self) -> HttpAddr {
        self.http_advertise_addr.clone().unwrap_or_else(|| {
            let host = match self.http_addr.is_wildcard() {
                true => self.raft_advertise().host,
                false => self.http_addr.host.clone(),
            };
            HttpAddr(HostPort { host, port: self.http_addr.port })
        })
    }

    /// Where `key` got its value, for messages.
    fn origin(&self, key: &str) -> String {
        self.origins.get(key).cloned().unwrap_or_else(|| "default".to_owned())
    }
}

/// The cluster's shared secret. Only [`Secret::expose`] shows it; `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}
