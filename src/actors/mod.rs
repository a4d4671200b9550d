//! Floor 2: the actors of a node and the messages between them.
//!
//! Read in this order:
//! * [`messages`]: all that crosses an actor boundary; `messages::inside` is for this floor alone;
//! * [`node`]: how the actors are wired, started and closed;
//! * [`storage`], [`log`]: the writers of the two files; [`space`]: what they do when the disk is full;
//! * [`scrub`]: reads again what nobody reads;
//! * [`peer`]: connections between nodes;
//! * [`raft`]: consensus, and the life of requests;
//! * [`membership`]: who belongs to the cluster;
//! * [`watch`]: tells watchers of applied changes;
//! * [`http`]: holds the running HTTP server.
//!
//! The floor above sees [`messages`] and nothing else.

use std::sync::Arc;

pub mod http;
pub mod log;
pub mod membership;
pub mod messages;
pub mod node;
pub mod peer;
pub mod raft;
pub mod scrub;
pub mod space;
pub mod storage;
pub mod watch;

/// Called with the reason when the node can no longer keep its promises: a failed write or fsync, damage. A
/// real process ends itself; it never goes on with half of it.
pub type OnFatal = Arc<dyn Fn(String) + Send + Sync>;

/// Runs a test's scenario, which may start actors, in paused time: it goes on when everybody waits.
#[cfg(test)]
fn in_paused_time(scenario: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(tokio::task::LocalSet::new().run_until(scenario));
}
