//! ConureDB: a distributed key-value store. Linearizable writes and reads through Raft, a copy-on-write
//! B-tree on disk, an HTTP API, a shell.
//!
//! # The house
//!
//! Imports point down only; `tests/architecture.rs` keeps it so.
//!
//! ```text
//! outside  os · src/bin              this machine, and the programs that wire everything
//!          simulation                a cluster on memory disks and a memory network, from a seed
//!          processes                 real nodes, started and signalled: for conure-soak and tests
//! floor 3  http                      requests to messages, answers and errors to replies
//!          client · shell            the other side of the wire; they know floor 0 only
//! floor 2  actors                    messages · node · storage · log · peer · raft · membership · watch · http
//! floor 1  storage                   disk · the B-tree file · kv · log · backup · identity; synchronous
//! floor 0  types · codec · config · env · logs · metrics · plants
//! ```
//!
//! # The life of a PUT
//!
//! An HTTP worker parses the key, reads the body against its bounds and takes a permit
//! ([`http`]). It sends `Write` to the Raft actor ([`actors::raft::write`]). A node that does not lead passes the
//! write to the leader over their kept connection ([`actors::peer`]). The leader stamps it with its clock and
//! proposes it with the others of that moment, as one entry ([`actors::raft::propose`]); the log actor appends it with
//! one fsync ([`actors::log`], [`storage::log`]) while the peers get theirs. When a quorum holds the entry durably it
//! is committed, and the storage actor applies it in one copy-on-write commit ([`actors::storage`],
//! [`storage::kv`]): data, revision and applied log id together, in memory. The outcome goes back the same way.
//!
//! The tree becomes durable at checkpoints, beside the apply path; the log is purged only up to the last one.
//! After a crash the node opens the last durable root and the log replays the rest.
//!
//! # The life of a GET
//!
//! `Read` asks the Raft actor for a read index ([`actors::raft::read`]): the leader has a quorum confirm that it
//! still leads, many reads sharing a round; a follower asks the leader. When this node has applied that far, the read
//! pins the newest root, in O(1) and without a lock, and reads it on the HTTP worker's own thread. A stale read
//! skips the question. No read ever waits for the writer.
//!
//! A watch reads the same way, again and again: the watch actor pins the newest state after each applied batch and
//! hands what is new in its change index to those who asked for it ([`actors::watch`]).

pub mod actors;
pub mod client;
pub mod codec;
pub mod config;
pub mod env;
pub mod http;
pub mod logs;
pub mod metrics;
pub mod os;
pub mod plants;
pub mod processes;
pub mod shell;
pub mod simulation;
pub mod storage;
pub mod threads;
pub mod types;
