//! What a node counts and measures of itself, as Prometheus reads it from `/metrics`.
//!
//! One [`Metrics`] is made with the node and shared by every actor and by the HTTP floor. Each
//! metric is a public field with a type that says what may be done to it: a [`Timing`] observes
//! durations, a [`Level`] is set, a [`Count`] goes up. All of them are cheap (an atomic, or a lock
//! held for a few instructions) and may be used from any thread.
//!
//! Labels are kept to values fixed in the program, so that no client can make the registry grow: a request is
//! labelled with its route, never with its path. The one exception are the names of peers, which an operator gives,
//! and which are forgotten with the membership they belong to. Nothing here reads a clock or a file; whoever observes
//! a duration took it from tokio's, so a simulated node measures simulated time, and what is known of the process
//! comes through [`Metrics::sample_by`].
//!
//! The text is OpenMetrics 1.0 ([`CONTENT_TYPE`]), which Prometheus reads since 2.5; counters end in
//! `_total` and durations are in seconds, as its naming rules ask. `docs/METRICS.md` tells all of them, and a test
//! holds it equal to what stands here.

mod http;
mod kinds;
mod peers;
mod process;

use std::fmt;
use std::sync::OnceLock;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use self::http::Http;
pub use self::kinds::{Count, Held, Level, Timing};
use self::kinds::{count, count_bytes, gauge_bytes, level, level_bytes, timing};
pub use self::peers::Peers;
use self::process::Process;
pub use self::process::Sample;

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where [`Sample`]s come from.
pub type Sampler = Box<dyn Fn() -> Sample + Send + Sync>;

/// Every metric of a node.
pub struct Metrics {
    registry: Registry,
    /// Those that every program has under these names, without a prefix.
    process_registry: Registry,
    process: Process,
    sampler: OnceLock<Sampler>,

    http: Http,
    /// Requests whose handler runs now.
    pub http_in_flight: Level,
    /// Bytes of request and reply bodies held in memory now.
    pub http_body_bytes: Gauge,
    pub http_connections: Level,
    /// Requests that took longer than the setting `log_slow_request`.
    pub http_slow_requests: Count,
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
    /// Applying one batch of committed entries.
    pub apply: Timing,
    /// A checkpoint of the tree, from its start to the durable meta page.
    pub checkpoint: Timing,
    /// Getting a read index: a round with a quorum, or with the leader.
    pub read_index: Timing,

    pub term: Level,
    /// 1 on the leader, else 0.
    pub is_leader: Level,
    /// 1 while a leader is known, else 0.
    pub has_leader: Level,
    /// 1 on a member that does not vote, else 0.
    pub is_learner: Level,
    pub members: Level,
    pub voters: Level,
    /// Changes of the leader that this node saw, the loss of one included.
    pub leader_changes: Count,
    /// Writes that this node proposed as leader and that have no outcome yet.
    pub proposals_pending: Level,
    /// Proposals of this node that came to nothing, or whose outcome it does not know.
    pub proposals_failed: Count,
    pub read_indexes_failed: Count,
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
    pub applied_entries: Count,
    /// Batches that took longer to apply than [`SLOW_APPLY_MS`].
    pub slow_applies: Count,
    pub revision: Level,
    /// Connections this node holds to peers, up to three for each.
    pub peer_connections: Level,
    pub peers: Peers,
    /// Requests to peers that wait in a link's queue, or for their answer.
    pub peer_requests: Level,
    /// Requests of peers that are being served here.
    pub peer_serving: Level,
    /// Reads and writes that the Raft actor has taken and not answered.
    pub raft_requests: Level,
    /// Appends that wait for the log actor's next flush.
    pub log_waiting: Level,
    /// Bytes of entries that wait for it.
    pub log_staged_bytes: Level,

    pub snapshot_send: Timing,
    pub snapshot_send_failures: Count,
    pub snapshot_sent_bytes: Count,
    pub snapshot_receive: Timing,
    pub snapshot_receive_failures: Count,
    pub snapshot_received_bytes: Count,

    pub keys: Level,
    /// The oldest revision that can be read, and the changes that are kept for it.
    pub oldest_revision: Level,
    pub history_changes: Level,
    pub history_bytes: Level,
    /// Size of the database file.
    pub db_file_bytes: Level,
    /// The part of the database file that the last state uses.
    pub db_live_bytes: Level,
    /// The part of it that only older states use, which somebody still reads.
    pub db_held_bytes: Level,
    /// 1 while the database file is being compacted, else 0.
    pub compacting: Level,
    /// Compactions that ended.
    pub compactions: Count,
    /// Memory of pages that are not on disk yet.
    pub db_dirty_bytes: Level,
    /// Memory that pages take, dirty ones included.
    pub cache_bytes: Level,
    /// The most that pages may take.
    pub cache_limit_bytes: Level,
    /// Size of the Raft log's segments.
    pub log_bytes: Level,
    pub log_appended_bytes: Count,
    /// 1 while the disk is full, so that puts are refused, else 0.
    pub storage_full: Level,

    /// Bytes that the scrub read.
    pub scrub_bytes: Count,
    /// Passes of the scrub over store and log.
    pub scrub_passes: Count,
    /// Damages that the last pass found, or the one under way if it has found more.
    pub scrub_damaged: Level,
}

/// A batch that takes longer to apply delays everybody behind it; etcd warns from here on, too.
pub const SLOW_APPLY_MS: u64 = 100;

impl Metrics {
    /// A fresh set, all zero. `version` becomes the label of `conuredb_build_info`.
    pub fn new(version: &'static str) -> Metrics {
        let mut registry = Registry::with_prefix("conuredb");
        let mut process_registry = Registry::default();
        let add = &mut registry;
        add.register("build", "What is running, by version", Info::new([("version", version)]));
        Metrics {
            http: Http::new(add),
            http_in_flight: level(add, "http_in_flight", "Requests whose handler runs now"),
            http_body_bytes: gauge_bytes(add, "http_body", "Bytes of bodies held in memory now"),
            http_connections: level(add, "http_connections", "Open connections of clients"),
            http_slow_requests: count(
                add,
                "http_slow_requests",
                "Requests that took longer than log_slow_request",
            ),
            http_pinned_scans: level(add, "http_pinned_scans", "Read states pinned by scans"),
            watchers: level(add, "watchers", "Watches under way"),
            watch_events: count(add, "watch_events", "Events handed to watchers"),
            watchers_cut: count(add, "watchers_cut", "Watches ended because they were too slow"),
            log_fsync: timing(add, "log_fsync_duration", "A flush of the Raft log to disk"),
            commit: timing(
                add,
                "commit_duration",
                "From the proposal of a write to its being applied, on the leader",
            ),
            apply: timing(add, "apply_duration", "Applying a batch of committed entries"),
            checkpoint: timing(add, "checkpoint_duration", "A checkpoint of the tree"),
            read_index: timing(
                add,
                "raft_read_index_duration",
                "Asking a quorum, or the leader, how far a linearizable read must have read",
            ),
            term: level(add, "raft_term", "The current term"),
            is_leader: level(add, "raft_is_leader", "1 on the leader, else 0"),
            has_leader: level(add, "raft_has_leader", "1 while a leader is known, else 0"),
            is_learner: level(add, "raft_is_learner", "1 on a member that does not vote, else 0"),
            members: level(add, "raft_members", "Members of the cluster"),
            voters: level(add, "raft_voters", "Members that vote"),
            leader_changes: count(
                add,
                "raft_leader_changes",
                "Changes of the leader seen, losses included",
            ),
            proposals_pending: level(
                add,
                "raft_proposals_pending",
                "Proposals of this node as leader that have no outcome yet",
            ),
            proposals_failed: count(
                add,
                "raft_proposals_failed",
                "Proposals of this node that came to nothing, or whose outcome is not known",
            ),
            read_indexes_failed: count(
                add,
                "raft_read_indexes_failed",
                "Rounds for a read index that failed; reads try again",
            ),
            expired_keys: count(add, "expired_keys", "Records expired by this node as leader"),
            leases: level(add, "leases", "Leases that there are"),
            expired_leases: count(add, "expired_leases", "Leases expired by this node as leader"),
            commit_index: level(add, "raft_commit_index", "Highest log index known committed"),
            applied_index: level(add, "raft_applied_index", "Highest log index applied"),
            last_log_index: level(add, "raft_last_log_index", "Highest log index stored"),
            snapshot_index: level(add, "raft_snapshot_index", "Log index of the last snapshot"),
            applied_entries: count(add, "applied_entries", "Entries applied since the start"),
            slow_applies: count(add, "slow_applies", "Batches that took 100 ms or longer to apply"),
            revision: level(add, "revision", "Revision of the store"),
            peer_connections: level(add, "peer_connections", "Connections held to peers"),
            peers: Peers::new(add),
            snapshot_send: timing(
                add,
                "snapshot_send_duration",
                "Sending a snapshot to a peer, until it is installed there",
            ),
            snapshot_send_failures: count(
                add,
                "snapshot_send_failures",
                "Snapshots that were begun for a peer and did not get there",
            ),
            snapshot_sent_bytes: count_bytes(add, "snapshot_sent", "Bytes of snapshots sent"),
            snapshot_receive: timing(
                add,
                "snapshot_receive_duration",
                "Receiving a snapshot, from its first piece to its last",
            ),
            snapshot_receive_failures: count(
                add,
                "snapshot_receive_failures",
                "Snapshots that began to come and did not come whole",
            ),
            snapshot_received_bytes: count_bytes(
                add,
                "snapshot_received",
                "Bytes of snapshots received",
            ),
            peer_requests: level(add, "peer_requests", "Requests to peers without an answer yet"),
            peer_serving: level(add, "peer_serving", "Requests of peers that are being served"),
            raft_requests: level(add, "raft_requests", "Reads and writes under way"),
            log_waiting: level(add, "log_waiting", "Appends that wait for a flush of the log"),
            log_staged_bytes: level_bytes(add, "log_staged", "Bytes that wait for it"),
            keys: level(add, "keys", "Keys there are"),
            oldest_revision: level(add, "oldest_revision", "The oldest revision that can be read"),
            history_changes: level(add, "history_changes", "Changes kept for the past"),
            history_bytes: level_bytes(add, "history", "Bytes of these changes"),
            db_file_bytes: level_bytes(add, "db_file", "Size of the database file"),
            db_live_bytes: level_bytes(add, "db_live", "Bytes of it that the last state uses"),
            db_held_bytes: level_bytes(
                add,
                "db_held",
                "Bytes of it that only older states use, which are still read",
            ),
            compacting: level(add, "db_compacting", "1 while the database file is compacted"),
            compactions: count(add, "db_compactions", "Compactions that ended"),
            db_dirty_bytes: level_bytes(
                add,
                "db_dirty",
                "Pages in memory that are not on disk yet",
            ),
            cache_bytes: level_bytes(add, "cache", "Memory that pages take"),
            cache_limit_bytes: level_bytes(add, "cache_limit", "The most that pages may take"),
            log_bytes: level_bytes(add, "log", "Size of the Raft log"),
            log_appended_bytes: count_bytes(add, "log_appended", "Bytes written to the Raft log"),
            scrub_bytes: count_bytes(add, "scrub", "Bytes read again and verified"),
            scrub_passes: count(add, "scrub_passes", "Passes of the scrub over store and log"),
            scrub_damaged: level(add, "scrub_damaged", "Damages that the last pass found"),
            storage_full: level(add, "storage_full", "1 while the disk is full, else 0"),
            process: Process::new(add, &mut process_registry),
            sampler: OnceLock::new(),
            registry,
            process_registry,
        }
    }

    /// Says where to ask for what is known of the process; once.
    pub fn sample_by(&self, sampler: Sampler) {
        let _ = self.sampler.set(sampler);
    }

    /// Counts an answered request. `route` and `method` are names fixed in the program.
    pub fn observe_request(
        &self,
        route: &'static str,
        method: &'static str,
        status: u16,
        elapsed: std::time::Duration,
    ) {
        self.http.observe(route, method, status, elapsed);
    }

    /// Counts a request refused because `limit` was reached.
    pub fn observe_rejected(&self, limit: &'static str) {
        self.http.reject(limit);
    }

    /// The text that `/metrics` answers.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        if let Some(sampler) = self.sampler.get() {
            self.process.take(&sampler());
        }
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        encode_registry(&mut text, &self.process_registry)?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_name_carries_the_prefix_and_durations_are_in_seconds() {
        let metrics = Metrics::new("1.2.3");
        metrics.observe_request("kv", "PUT", 204, Duration::from_millis(3));
        metrics.observe_request("kv", "PUT", 599, Duration::from_millis(3));
        metrics.observe_rejected("writes");
        metrics.log_fsync.observe(Duration::from_micros(60));
        metrics.leader_changes.inc();
        metrics.scrub_bytes.inc_by(9);
        metrics.term.set(7);
        metrics.sample_by(Box::new(|| Sample {
            cpu_seconds: Some(1.5),
            open_fds: Some(12),
            disk_free_bytes: Some(4_096),
            ..Sample::default()
        }));
        let text = metrics.encode().expect("a string takes every write");
        for line in [
            "conuredb_build_info{version=\"1.2.3\"} 1",
            "conuredb_http_requests_total{route=\"kv\",method=\"PUT\",status=\"204\"} 1",
            "conuredb_http_requests_total{route=\"kv\",method=\"PUT\",status=\"other\"} 1",
            "conuredb_http_request_duration_seconds_count{route=\"kv\",method=\"PUT\"} 2",
            "conuredb_http_rejected_total{limit=\"writes\"} 1",
            "conuredb_http_rejected_total{limit=\"reads\"} 0",
            "conuredb_log_fsync_duration_seconds_bucket{le=\"0.0001\"} 1",
            "conuredb_raft_leader_changes_total 1",
            "conuredb_scrub_bytes_total 9",
            "conuredb_raft_term 7",
            "# UNIT conuredb_db_file_bytes bytes",
            "conuredb_disk_free_bytes 4096",
            "process_cpu_seconds_total 1.5",
            "process_open_fds 12",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing from\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(text.matches("# EOF").count(), 1);
        let foreign = text.lines().filter(|line| {
            !line.starts_with('#')
                && !line.starts_with("conuredb_")
                && !line.starts_with("process_")
        });
        assert_eq!(foreign.count(), 0);
    }

    #[test]
    fn peers_are_forgotten_with_their_membership() {
        let metrics = Metrics::new("1");
        metrics.peers.observe_round_trip("node2", Duration::from_millis(1));
        metrics.peers.set_lag("node2", 3);
        let text = metrics.encode().expect("text");
        assert!(text.contains("conuredb_peer_lag_entries{peer=\"node2\"} 3"), "{text}");
        metrics.peers.forget();
        assert!(!metrics.encode().expect("text").contains("node2"));
    }
}
