//! What a node measures of the others: how long they take to answer, how far they are behind.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::kinds::{Count, Level, histogram};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabels {
    peer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabels {
    lane: &'static str,
}

/// What connections to peers are for; counted from the start, so that a rate of failures is 0 and not unknown.
const LANES: [&str; 4] = ["heartbeat", "raft", "forward", "snapshot"];

pub struct Peers {
    round_trip: Family<PeerLabels, Histogram, fn() -> Histogram>,
    lag: Family<PeerLabels, Level>,
    failures: Family<LaneLabels, Count>,
}

impl Peers {
    pub fn new(add: &mut Registry) -> Peers {
        let peers = Peers {
            round_trip: Family::new_with_constructor(histogram),
            lag: Family::default(),
            failures: Family::default(),
        };
        add.register_with_unit(
            "peer_round_trip",
            "From a heartbeat to its answer, on the leader, by peer",
            Unit::Seconds,
            peers.round_trip.clone(),
        );
        let about = "Entries that a peer lacks, on the leader, by peer";
        add.register("peer_lag_entries", about, peers.lag.clone());
        let about = "Requests to peers that got no answer, by what the connection is for (lane)";
        add.register("peer_request_failures", about, peers.failures.clone());
        for lane in LANES {
            drop(peers.failures.get_or_create(&LaneLabels { lane }));
        }
        peers
    }

    pub fn observe_round_trip(&self, peer: &str, elapsed: Duration) {
        let labels = PeerLabels { peer: peer.to_owned() };
        self.round_trip.get_or_create(&labels).observe(elapsed.as_secs_f64());
    }

    pub fn set_lag(&self, peer: &str, entries: u64) {
        self.lag.get_or_create(&PeerLabels { peer: peer.to_owned() }).set(entries);
    }

    /// This node does not lead: it does not know how far the others are.
    pub fn forget_lag(&self) {
        self.lag.clear();
    }

    /// Counts a request without an answer. `lane` is a name fixed in the program.
    pub fn count_failure(&self, lane: &'static str) {
        self.failures.get_or_create(&LaneLabels { lane }).inc();
    }

    /// The membership changed.
    pub fn forget(&self) {
        self.round_trip.clear();
        self.lag.clear();
    }
}
