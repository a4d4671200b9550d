//! What the HTTP floor lets its owner decide: limits, times and the mode of a follower.
//!
//! The node fills this from its settings; the floor itself reads no configuration. Every bound of
//! the floor that an operator may need to move is here, the others are constants beside their use.

use std::time::Duration;

use crate::logs::{LogFormat, LogSwitch};
use crate::types::DEFAULT_MAX_VALUE_BYTES;

/// What a node that does not lead does with a request only the leader can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowerMode {
    /// Passes it on and answers as the leader did.
    Forward,
    /// Answers 307 with the leader's address.
    Redirect,
}

/// Limits, times and names of an HTTP server.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// The name every reply carries in `X-Conure-Served-By`.
    pub node_name: String,
    /// What `/health` says of how the node was started.
    pub mode: String,
    pub follower_mode: FollowerMode,
    /// The log of this process, which requests may change.
    pub log: LogSwitch,
    /// Requests that take longer are logged; zero for none.
    pub slow_request: Duration,
    /// What the ids of this process's requests begin with: drawn at random.
    pub request_id_base: u64,
    /// Whether `consistency=lease` may be asked for.
    pub lease_reads: bool,

    /// Longest value of a PUT; one byte more is a 413.
    pub max_value_bytes: usize,
    /// Longest head that is served, request line included; a longer one is a 431. The parser itself
    /// gives up at 128 KiB, and at a request target of 64 KiB.
    pub max_header_bytes: usize,
    /// Writes proposed and not yet answered.
    pub max_inflight_writes: usize,
    /// Reads waiting for their state or building their reply.
    pub max_inflight_reads: usize,
    /// Bytes of request and reply bodies held at the same time. Not below the cost of one JSON reply
    /// with a value of the greatest length.
    pub max_body_bytes_in_flight: u32,
    /// Open connections, over all workers. Further clients wait in the kernel's backlog.
    pub max_connections: usize,
    /// Most items of a page, whatever `limit` asks for.
    pub max_scan_results: usize,
    /// Most items of each list of a transaction.
    pub max_txn_ops: usize,
    /// Longest body of a transaction.
    pub max_txn_bytes: usize,
    /// Read states pinned between the pages of scans; the one idle longest makes room.
    pub max_pinned_scans: usize,
    /// Watches at the same time.
    pub max_watchers: usize,

    /// For a request's head to arrive, again for its body, and for a page to be built.
    pub request_timeout: Duration,
    /// From a write's proposal to its outcome.
    pub write_timeout: Duration,
    /// For a linearizable read to get its state.
    pub barrier_timeout: Duration,
    /// For a change of membership or leadership.
    pub join_timeout: Duration,
    /// How long a client may leave what it was sent unread before its connection is cut.
    pub stall_timeout: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// How long a stopping server waits for the requests it has.
    pub shutdown_timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> HttpOptions {
        HttpOptions {
            node_name: "node1".to_owned(),
            mode: "cluster".to_owned(),
            follower_mode: FollowerMode::Forward,
            log: LogSwitch::new("info", LogFormat::Text).expect("a level is a filter"),
            slow_request: Duration::from_secs(1),
            request_id_base: 0,
            lease_reads: false,
            max_value_bytes: DEFAULT_MAX_VALUE_BYTES,
            max_header_bytes: 64 * 1024,
            max_inflight_writes: 4_096,
            max_inflight_reads: 4_096,
            max_body_bytes_in_flight: 256 * 1024 * 1024,
            max_connections: 16_384,
            max_scan_results: 10_000,
            max_pinned_scans: 64,
            max_txn_ops: 128,
            max_txn_bytes: 4 * 1024 * 1024,
            max_watchers: 4_096,
            request_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(5),
            barrier_timeout: Duration::from_secs(3),
            join_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}
