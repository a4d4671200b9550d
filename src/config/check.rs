//! What must hold between settings that are each fine alone.

use std::time::Duration;

use super::error::{ConfigError, ConfigErrors};
use super::{Config, HostPort};

/// What the record of the longest value has beside it: its key, the entry around it, headers.
const RECORD_ROOM_BYTES: u64 = 1024 * 1024;

/// Silence of which a restart may be the cause.
const LEAST_PATIENCE: Duration = Duration::from_secs(10);

/// Segments are written in blocks of this length.
const SEGMENT_UNIT_BYTES: u64 = 4_096;

impl Config {
    /// Whether the settings can work together; [`Config::load`] has asked this already.
    pub fn check(&self) -> Result<(), ConfigErrors> {
        let mut errors = Vec::new();
        check(self, &mut errors);
        match errors.is_empty() {
            true => Ok(()),
            false => Err(ConfigErrors(errors)),
        }
    }
}

pub fn check(config: &Config, errors: &mut Vec<ConfigError>) {
    let mut conflict = |keys: &[&'static str], problem: String, mend| {
        let keys = keys.iter().map(|&key| (key, config.origin(key))).collect();
        errors.push(ConfigError::Conflict { keys, problem, mend });
    };

    match &config.raft_advertise_addr {
        None if config.raft_addr.is_wildcard() => conflict(
            &["raft_addr"],
            format!("peers cannot connect to {}, which means every interface", config.raft_addr),
            "set raft_advertise_addr to the name and port at which peers reach this node, such as node1:7001",
        ),
        Some(addr) if addr.is_wildcard() => conflict(
            &["raft_advertise_addr"],
            format!("peers cannot connect to {addr}, which means every interface"),
            "set it to the name and port at which peers reach this node, such as node1:7001",
        ),
        _ => {}
    }
    if let Some(addr) = config.http_advertise_addr.as_ref().filter(|addr| addr.0.is_wildcard()) {
        conflict(
            &["http_advertise_addr"],
            format!("clients cannot connect to {addr}, which means every interface"),
            "set it to the URL at which clients reach this node, such as http://node1:8081",
        );
    }
    if config.seeds.iter().any(|seed| seed.0.is_wildcard()) {
        conflict(
            &["seeds"],
            "one of them means every interface, to which nobody can connect".to_owned(),
            "name the seeds by host, such as http://node1:8081",
        );
    }
    let patience = config.membership.remove_dead_after;
    if !patience.is_zero() && patience < LEAST_PATIENCE {
        conflict(
            &["membership.remove_dead_after"],
            "a node that restarts would be removed".to_owned(),
            "set it to 10s or more, or to 0s for never",
        );
    }
    if overlap(&config.raft_addr, &config.http_addr) {
        conflict(
            &["raft_addr", "http_addr"],
            format!("both listen on port {}", config.raft_addr.port),
            "give them two ports",
        );
    }
    if config.bootstrap == Some(true) && !config.seeds.is_empty() {
        conflict(
            &["bootstrap", "seeds"],
            "a node either founds a cluster or joins one".to_owned(),
            "remove bootstrap to join through the seeds, or remove the seeds",
        );
    }
    if config.cluster_secret.is_some() && config.cluster_secret_file.is_some() {
        conflict(
            &["cluster_secret", "cluster_secret_file"],
            "the secret is given twice".to_owned(),
            "remove one of them",
        );
    }

    let segment_bytes = config.storage.log_segment_bytes;
    for (limit, bytes, mend) in [
        (
            "limits.max_value_bytes",
            config.limits.max_value_bytes,
            "set storage.log_segment_bytes to 1MiB above limits.max_value_bytes or more",
        ),
        (
            "limits.max_txn_bytes",
            config.limits.max_txn_bytes,
            "set storage.log_segment_bytes to 1MiB above limits.max_txn_bytes or more",
        ),
    ] {
        if segment_bytes < bytes as u64 + RECORD_ROOM_BYTES {
            conflict(
                &[limit, "storage.log_segment_bytes"],
                "the reserve for a full disk, two segments, is for entries of one at most"
                    .to_owned(),
                mend,
            );
        }
    }
    if !segment_bytes.is_multiple_of(SEGMENT_UNIT_BYTES) {
        conflict(
            &["storage.log_segment_bytes"],
            format!("{segment_bytes} is no multiple of {SEGMENT_UNIT_BYTES}"),
            "give it a whole number of MiB, such as 16MiB",
        );
    }

    let raft = &config.raft;
    if raft.election_timeout_min >= raft.election_timeout_max {
        conflict(
            &["raft.election_timeout_min", "raft.election_timeout_max"],
            "the least is not below the most, and equal timeouts split votes again and again"
                .to_owned(),
            "set the most to twice the least",
        );
    }
    if raft.lease_clock_drift >= raft.election_timeout_min {
        conflict(
            &["raft.lease_clock_drift", "raft.election_timeout_min"],
            "nothing would be left of a lease".to_owned(),
            "set the drift well below the timeout, such as 50ms of 300ms, or to 0s for no reads by lease",
        );
    }
    if raft.heartbeat_interval * 2 > raft.election_timeout_min {
        conflict(
            &["raft.heartbeat_interval", "raft.election_timeout_min"],
            "one late heartbeat would start an election".to_owned(),
            "set the election timeout to three heartbeats or more",
        );
    }
}

/// Whether one machine cannot listen on both. Two names of one host are not recognized: the second
/// bind then fails, and says so.
fn overlap(a: &HostPort, b: &HostPort) -> bool {
    a.port == b.port && (a.host == b.host || a.is_wildcard() || b.is_wildcard())
}
