//! What a node counts and measures of itself, as Prometheus reads it from `/metrics`.
//!
//! One [`Metrics`] is made with the node and shared by every actor and by the HTTP floor. Each
//! metric is a public field with a type that says what may be done to it: a [`Timing`] observes
//! durations, a [`Level`] is set, a [`Count`] goes up. All of them are cheap (an atomic, or a lock
//! held for a few instructions) and may be used from any thread.
//!
//! Labels are kept to values fixed in the program, so that no client can make the registry grow:
//! a request is labelled with its route, never with its path. Nothing here reads a clock; whoever
//! observes a duration took it from tokio's, so a simulated node measures simulated time.
//!
//! The text is OpenMetrics 1.0 ([`CONTENT_TYPE`]), which Prometheus reads since 2.5; counters end in
//! `_total` and durations are in seconds, as its naming rules ask.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A value that is set: a size, an index, a number of things there are now.
pub type Level = Gauge<u64, AtomicU64>;

/// A number of things that happened since the process started.
pub type Count = Counter;

/// A histogram of durations.
///
/// Buckets double from 50 µs, about an fdatasync on preallocated blocks, up to 26 s, above every
/// default time limit: one set of buckets serves a disk's flush and a request that waited for an
/// election.
#[derive(Clone, Debug)]
pub struct Timing(Histogram);

impl Timing {
    fn new() -> Timing {
        Timing(Histogram::new(exponential_buckets(50e-6, 2.0, 20)))
    }

    pub fn observe(&self, elapsed: Duration) {
        self.0.observe(elapsed.as_secs_f64());
    }
}

/// Names a finished request. All three come from fixed sets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

/// Every metric of a node.
pub struct Metrics {
    registry: Registry,

    requests: Family<RequestLabels, Count>,
    request_seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    rejected: Family<LimitLabels, Count>,
    /// Requests whose handler runs now.
    pub http_in_flight: Gauge,
    /// Bytes of request and reply bodies held in memory now.
    pub http_body_bytes: Gauge,
    /// Read states that scans keep pinned between two pages.
    pub http_pinned_scans: Level,

    /// Watches that are under way.
    pub watchers: Level,
    /// Events that were handed to watchers.
    pub watch_events: Count,
    /// Watches that were ended because too much waited for them.
    pub watchers_cut: Count,

    /// A flush of the Raft log to disk.
    pub log_fsync: Timing,
    /// From the proposal of a write to its being applied, on the leader.
    pub commit: Timing,
    /// A checkpoint of the tree, from its start to the durable meta page.
    pub checkpoint: Timing,

    pub term: Level,
    /// 1 on the leader, else 0.
    pub is_leader: Level,
    /// Changes of the leader that this node saw, the loss of one included.
    pub leader_changes: Count,
    /// Records that expired while this node led, those of leases included.
    pub expired_keys: Count,
    /// Leases that there are.
    pub leases: Level,
    /// Leases that nobody kept alive while this node led.
    pub expired_leases: Count,
    pub commit_index: Level,
    pub applied_index: Level,
    pub last_log_index: Level,
    pub snapshot_index: Level,
    pub revision: Level,
    /// Connections this node holds to peers, up to three for each.
    pub peer_connections: Level,

    /// The oldest revision that can be read, and the changes that are kept for it.
    pub oldest_revision: Level,
    pub history_changes: Level,
    pub history_bytes: Level,
    /// Size of the database file.
    pub db_file_bytes: Level,
    /// The part of the database file that the last state uses.
    pub db_live_bytes: Level,
    /// 1 while the database file is being compacted, else 0.
    pub compacting: Level,
    /// Compactions that ended.
    pub compactions: Count,
    /// Size of the Raft log's segments.
    pub log_bytes: Level,
    /// 1 while the disk is full, so that puts are refused, else 0.
    pub storage_full: Level,

    /// Bytes that the scrub read.
    pub scrub_bytes: Count,
    /// Passes of the scrub over store and log.
    pub scrub_passes: Count,
    /// Damages that the last pass found, or the one under way if it has found more.
    pub scrub_damaged: Level,
}

impl Metrics {
    /// A fresh set, all zero. `version` becomes the label of `conuredb_build_info`.
    pub fn new(version: &'static str) -> Metrics {
        let mut registry = Registry::with_prefix("conuredb");
        let add = &mut registry;
        let timings: fn() -> Histogram = || Timing::new().0;
        let requests: Family<RequestLabels, Count> = Family::default();
        let request_seconds = Family::new_with_constructor(timings);
        let rejected: Family<LimitLabels, Count> = Family::default();
        add.register("build", "What is running", Info::new([("version", version)]));
        add.register("http_requests", "Requests answered", requests.clone());
        add.register_with_unit(
            "http_request_duration",
            "From a request's head to the head of its reply",
            Unit::Seconds,
            request_seconds.clone(),
        );
        add.register(
            "http_rejected",
            "Requests refused because a limit was reached",
            rejected.clone(),
        );
        Metrics {
            http_in_flight: gauge(add, "http_in_flight", "Requests whose handler runs now"),
            http_body_bytes: gauge(add, "http_body_bytes", "Bytes of bodies held in memory now"),
            http_pinned_scans: level(add, "http_pinned_scans", "Read states pinned by scans"),
            watchers: level(add, "watchers", "Watches under way"),
            watch_events: count(add, "watch_events", "Events handed to watchers"),
            watchers_cut: count(add, "watchers_cut", "Watches ended because they were too slow"),
            log_fsync: timing(add, "log_fsync_duration", "A flush of the Raft log to disk"),
            commit: timing(
                add,
                "commit_duration",
                "From the proposal of a write to its being applied",
            ),
            checkpoint: timing(add, "checkpoint_duration", "A checkpoint of the tree"),
            term: level(add, "raft_term", "The current term"),
            is_leader: level(add, "raft_is_leader", "1 on the leader, else 0"),
            leader_changes: count(add, "raft_leader_changes", "Changes of the leader seen"),
            expired_keys: count(add, "expired_keys", "Records expired by this node as leader"),
            leases: level(add, "leases", "Leases that there are"),
            expired_leases: count(add, "expired_leases", "Leases expired by this node as leader"),
            commit_index: level(add, "raft_commit_index", "Highest log index known committed"),
            applied_index: level(add, "raft_applied_index", "Highest log index applied"),
            last_log_index: level(add, "raft_last_log_index", "Highest log index stored"),
            snapshot_index: level(add, "raft_snapshot_index", "Log index of the last snapshot"),
            revision: level(add, "revision", "Revision of the store"),
            peer_connections: level(add, "peer_connections", "Connections held to peers"),
            oldest_revision: level(add, "oldest_revision", "Oldest revision that can be read"),
            history_changes: level(add, "history_changes", "Changes kept for the past"),
            history_bytes: level(add, "history_bytes", "Bytes of these changes"),
            db_file_bytes: level(add, "db_file_bytes", "Size of the database file"),
            db_live_bytes: level(add, "db_live_bytes", "Bytes of it that the last state uses"),
            compacting: level(add, "db_compacting", "1 while the database file is compacted"),
            compactions: count(add, "db_compactions", "Compactions that ended"),
            log_bytes: level(add, "log_bytes", "Size of the Raft log"),
            scrub_bytes: count(add, "scrub_bytes", "Bytes read again and verified"),
            scrub_passes: count(add, "scrub_passes", "Passes of the scrub over store and log"),
            scrub_damaged: level(add, "scrub_damaged", "Damages that the last pass found"),
            storage_full: level(add, "storage_full", "1 while the disk is full, else 0"),
            registry,
            requests,
            request_seconds,
            rejected,
        }
    }

    /// Counts an answered request. `route` and `method` are names fixed in the program.
    pub fn observe_request(
        &self,
        route: &'static str,
        method: &'static str,
        status: u16,
        elapsed: Duration,
    ) {
        let status = match status {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.requests.get_or_create(&RequestLabels { route, method, status }).inc();
        self.request_seconds.get_or_create(&RouteLabels { route }).observe(elapsed.as_secs_f64());
    }

    /// Counts a request refused because `limit` was reached.
    pub fn observe_rejected(&self, limit: &'static str) {
        self.rejected.get_or_create(&LimitLabels { limit }).inc();
    }

    /// The text that `/metrics` answers.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn level(registry: &mut Registry, name: &str, help: &str) -> Level {
    let level = Level::default();
    registry.register(name, help, level.clone());
    level
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn count(registry: &mut Registry, name: &str, help: &str) -> Count {
    let count = Count::default();
    registry.register(name, help, count.clone());
    count
}

fn timing(registry: &mut Registry, name: &str, help: &str) -> Timing {
    let timing = Timing::new();
    registry.register_with_unit(name, help, Unit::Seconds, timing.0.clone());
    timing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_carries_the_prefix_and_durations_are_in_seconds() {
        let metrics = Metrics::new("1.2.3");
        metrics.observe_request("kv", "PUT", 204, Duration::from_millis(3));
        metrics.observe_rejected("writes");
        metrics.log_fsync.observe(Duration::from_micros(60));
        metrics.leader_changes.inc();
        metrics.term.set(7);
        let text = metrics.encode().expect("a string takes every write");
        for line in [
            "conuredb_build_info{version=\"1.2.3\"} 1",
            "conuredb_http_requests_total{route=\"kv\",method=\"PUT\",status=\"2xx\"} 1",
            "conuredb_http_request_duration_seconds_count{route=\"kv\"} 1",
            "conuredb_http_rejected_total{limit=\"writes\"} 1",
            "conuredb_log_fsync_duration_seconds_bucket{le=\"0.0001\"} 1",
            "conuredb_raft_leader_changes_total 1",
            "conuredb_raft_term 7",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing from\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let foreign = text.lines().filter(|l| !l.starts_with('#') && !l.starts_with("conuredb_"));
        assert_eq!(foreign.count(), 0);
    }
}
