//! Connections between nodes: who is at the other end, and bytes asked and answered.
//!
//! Read in this order:
//! * [`net`]: the network as a trait, so that a simulation can cut, delay and lose;
//! * [`frame`]: length-prefixed, checksummed frames with a bound;
//! * [`handshake`]: the two ends name themselves and prove the cluster secret;
//! * [`link`]: the calling side, one persistent connection with many requests in flight;
//! * [`listener`]: the answering side.
//!
//! Payloads are opaque here. What they mean (Raft RPCs, forwarded requests) is the business of
//! [`super::raft`]. There is no encryption: the secret keeps strangers out of a cluster on a
//! network that is trusted not to read or alter traffic in flight. TLS belongs into [`net`].

pub mod frame;
pub mod handshake;
pub mod link;
pub mod listener;
pub mod net;

use std::future::Future;

use tokio::sync::watch;

/// Starts tasks on a given runtime and ends them all when the node closes or is dropped.
///
/// In a real node the runtime is the multi-threaded one that Raft runs on; in a simulation it is
/// the one paused runtime, and dropping the [`TaskOwner`] is part of a crash.
#[derive(Clone)]
pub struct Spawner {
    runtime: tokio::runtime::Handle,
    ended: watch::Receiver<()>,
}

/// Ends all tasks of its [`Spawner`] when dropped.
pub struct TaskOwner {
    _ended: watch::Sender<()>,
}

impl Spawner {
    pub fn new(runtime: tokio::runtime::Handle) -> (TaskOwner, Spawner) {
        let (sender, ended) = watch::channel(());
        (TaskOwner { _ended: sender }, Spawner { runtime, ended })
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut ended = self.ended.clone();
        self.runtime.spawn(async move {
            tokio::select! {
                biased;
                // The owner never sends; the channel closes when it is dropped.
                _ = ended.changed() => {}
                () = task => {}
            }
        });
    }

    /// The runtime itself, for work that must outlive or precede the node's tasks.
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }
}
