//! The table of settings: for each key how it is read, what it may be, and how it is shown.
//!
//! A setting exists because it stands here; unknown keys are those that do not. Bounds are wide: they keep
//! out what cannot work (a zero timeout) or what another part could not carry, not what is unusual.

use std::time::Duration;

use config::ValueKind;

use super::Config;
use super::value::{self, Problem, Yaml};
use crate::types::MAX_TXN_OPS;

/// One setting.
pub struct Setting {
    /// Its dotted key.
    pub key: &'static str,
    /// What a good value looks like, with an example.
    pub good: &'static str,
    /// Reads a value into the configuration.
    pub set: fn(&mut Config, &ValueKind) -> Result<(), Problem>,
    /// The effective value as YAML, `None` when there is none or it must not be shown.
    pub show: fn(&Config) -> Option<String>,
}

/// The setting with this key.
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

const MILLI: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const SECOND: Duration = Duration::from_secs(1);
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A setting that is shown as the field it fills.
macro_rules! setting {
    ($key:literal, $($field:ident).+, $read:expr, $good:literal) => {
        Setting {
            key: $key,
            good: $good,
            set: |config, raw| {
                config.$($field).+ = $read(raw)?;
                Ok(())
            },
            show: |config| Some(config.$($field).+.yaml()),
        }
    };
}

/// An optional setting; `$show` tells what is in force when it is not set.
macro_rules! optional {
    ($key:literal, $field:ident, $read:expr, $good:literal, $show:expr) => {
        Setting {
            key: $key,
            good: $good,
            set: |config, raw| {
                config.$field = Some($read(raw)?);
                Ok(())
            },
            show: $show,
        }
    };
}

/// All settings, in the order in which they are shown.
pub static SETTINGS: &[Setting] = &[
    setting!("node_id", node_id, value::node_name, "1 to 64 of A-Z a-z 0-9 . _ -, such as node1"),
    setting!("data_dir", data_dir, value::parsed, "a directory, such as ./data"),
    setting!(
        "raft_addr",
        raft_addr,
        value::parsed,
        "a host and a port to listen on for peers, such as 127.0.0.1:7001"
    ),
    optional!(
        "raft_advertise_addr",
        raft_advertise_addr,
        value::parsed,
        "the host and the port at which peers reach this node, such as node1:7001",
        |config| Some(config.raft_advertise().yaml())
    ),
    setting!(
        "http_addr",
        http_addr,
        value::parsed,
        "a host and a port to serve HTTP on, such as :8081 (every interface)"
    ),
    optional!(
        "http_advertise_addr",
        http_advertise_addr,
        value::parsed,
        "the URL at which clients reach this node, such as http://node1:8081",
        |config| Some(config.http_advertise().yaml())
    ),
    // Showing "true" for a default would make it an explicit true when it is read again.
    optional!("bootstrap", bootstrap, value::boolean, "true or false", |config| {
        config.bootstrap.map(|yes| yes.yaml())
    }),
    setting!(
        "seeds",
        seeds,
        value::list,
        "the HTTP addresses of nodes to join, such as http://node1:8081,http://node2:8081"
    ),
    optional!("cluster_secret", cluster_secret, value::secret, "quoted text", |_| None),
    optional!(
        "cluster_secret_file",
        cluster_secret_file,
        value::parsed,
        "the path of a file that holds the secret, such as /run/secrets/conure",
        |config| config.cluster_secret_file.as_ref().map(Yaml::yaml)
    ),
    setting!("follower_mode", follower_mode, value::follower_mode, "forward or redirect"),
    setting!(
        "barrier_timeout",
        barrier_timeout,
        |raw| value::duration(raw, MILLI..=HOUR),
        "a duration, such as 3s"
    ),
    setting!(
        "log_level",
        log_level,
        value::log_filter,
        "off, error, warn, info, debug or trace, also by target: info,conuredb::http=debug"
    ),
    setting!("log_format", log_format, value::log_format, "text or json"),
    setting!(
        "log_slow_request",
        log_slow_request,
        |raw| value::duration(raw, Duration::ZERO..=HOUR),
        "a duration, such as 500ms, or 0s for none"
    ),
    setting!(
        "limits.max_value_bytes",
        limits.max_value_bytes,
        |raw| value::size(raw, KIB..=64 * MIB),
        "a size from 1KiB to 64MiB, such as 8MiB"
    ),
    setting!(
        "limits.max_inflight_writes",
        limits.max_inflight_writes,
        |raw| value::size(raw, 1..=MIB),
        "a number from 1, such as 1024"
    ),
    setting!(
        "limits.max_inflight_reads",
        limits.max_inflight_reads,
        |raw| value::size(raw, 1..=MIB),
        "a number from 1, such as 4096"
    ),
    setting!(
        "limits.max_connections",
        limits.max_connections,
        |raw| value::size(raw, 1..=MIB),
        "a number from 1, such as 10000"
    ),
    // The longest key, percent-encoded, makes a request line of 12 KiB.
    setting!(
        "limits.max_header_bytes",
        limits.max_header_bytes,
        |raw| value::size(raw, 16 * KIB..=MIB),
        "a size from 16KiB to 1MiB, such as 32KiB"
    ),
    setting!(
        "limits.max_scan_results",
        limits.max_scan_results,
        |raw| value::size(raw, 1..=MIB),
        "a number from 1, such as 10000"
    ),
    setting!(
        "limits.max_pinned_scans",
        limits.max_pinned_scans,
        |raw| value::size(raw, 1..=MIB),
        "a number from 1, such as 64"
    ),
    setting!(
        "limits.max_txn_ops",
        limits.max_txn_ops,
        |raw| value::size(raw, 1..=MAX_TXN_OPS as u64),
        "a number from 1 to 1024, such as 128"
    ),
    setting!(
        "limits.max_txn_bytes",
        limits.max_txn_bytes,
        |raw| value::size(raw, KIB..=64 * MIB),
        "a size from 1KiB to 64MiB, such as 4MiB"
    ),
    setting!(
        "limits.max_watchers",
        limits.max_watchers,
        |raw| value::size(raw, 1..=MIB),
        "a number from 1, such as 4096"
    ),
    setting!(
        "timeouts.write",
        timeouts.write,
        |raw| value::duration(raw, MILLI..=HOUR),
        "a duration, such as 5s"
    ),
    setting!(
        "timeouts.request",
        timeouts.request,
        |raw| value::duration(raw, MILLI..=HOUR),
        "a duration, such as 30s"
    ),
    setting!(
        "timeouts.shutdown",
        timeouts.shutdown,
        |raw| value::duration(raw, Duration::ZERO..=HOUR),
        "a duration, such as 10s"
    ),
    setting!(
        "raft.heartbeat_interval",
        raft.heartbeat_interval,
        |raw| value::duration(raw, MILLI..=MINUTE),
        "a duration, such as 100ms"
    ),
    setting!(
        "raft.election_timeout_min",
        raft.election_timeout_min,
        |raw| value::duration(raw, MILLI..=MINUTE),
        "a duration, such as 300ms"
    ),
    setting!(
        "raft.election_timeout_max",
        raft.election_timeout_max,
        |raw| value::duration(raw, MILLI..=MINUTE),
        "a duration, such as 600ms"
    ),
    setting!(
        "raft.checkpoint_log_bytes",
        raft.checkpoint_log_bytes,
        |raw| value::size(raw, MIB..=64 * GIB),
        "a size from 1MiB, such as 64MiB"
    ),
    setting!(
        "raft.keep_log_entries",
        raft.keep_log_entries,
        |raw| value::size(raw, 0..=GIB),
        "a number, such as 10000"
    ),
    setting!(
        "raft.snapshot_bytes_per_second",
        raft.snapshot_bytes_per_second,
        |raw| value::size(raw, 0..=64 * GIB),
        "a size, such as 64MiB, or 0 for no bound"
    ),
    setting!(
        "raft.lease_clock_drift",
        raft.lease_clock_drift,
        |raw| value::duration(raw, Duration::ZERO..=MINUTE),
        "a duration, such as 50ms, or 0s for no reads by lease"
    ),
    setting!(
        "storage.cache_bytes",
        storage.cache_bytes,
        |raw| value::size(raw, MIB..=1024 * GIB),
        "a size from 1MiB, such as 256MiB"
    ),
    setting!(
        "storage.log_segment_bytes",
        storage.log_segment_bytes,
        |raw| value::size(raw, MIB..=GIB),
        "a size from 1MiB to 1GiB, such as 16MiB"
    ),
    setting!(
        "storage.scrub_bytes_per_second",
        storage.scrub_bytes_per_second,
        |raw| value::size(raw, 0..=GIB),
        "a size up to 1GiB, such as 4MiB, or 0 for none"
    ),
    setting!(
        "storage.history_max_changes",
        storage.history_max_changes,
        |raw| value::size(raw, 1..=GIB),
        "a number from 1, such as 65536"
    ),
    setting!(
        "storage.history_max_bytes",
        storage.history_max_bytes,
        |raw| value::size(raw, KIB..=1024 * GIB),
        "a size from 1KiB, such as 64MiB"
    ),
    setting!(
        "storage.history_max_age",
        storage.history_max_age,
        |raw| value::age(raw, SECOND..=CENTURY),
        "a duration from 1s, such as 24h, or 0s for any"
    ),
    setting!(
        "membership.remove_dead_after",
        membership.remove_dead_after,
        |raw| value::duration(raw, Duration::ZERO..=720 * HOUR),
        "a duration from 10s, such as 24h, or 0s for never"
    ),
    setting!("membership.odd_voters", membership.odd_voters, value::boolean, "true or false"),
    setting!(
        "membership.replace_damaged",
        membership.replace_damaged,
        value::boolean,
        "true or false"
    ),
];
