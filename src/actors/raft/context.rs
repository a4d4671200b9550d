//! What the parts of the Raft actor share: the running Raft, its peers, and what this node is.
//!
//! Handlers run concurrently, so they hold an `Arc<Context>` and no reference to the actor. The running Raft
//! can be absent (starting, being reset, closed); then every request says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::Addr;
use arc_swap::ArcSwapOption;
use openraft::Instant as _;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;
use tokio::time::Instant;

use super::peers::Peers;
use super::propose::Running;
use super::types::{Metrics, PeerNode, Raft, has_one_voter, members};
use crate::actors::messages::{Member, Members, PeerProgress, RequestError, Role, Status};
use crate::actors::space::Space;
use crate::actors::storage::StorageActor;
use crate::env::{Chance, Clock};
use crate::storage::identity::{Identity, Standing};
use crate::storage::kv::KvReader;
use crate::storage::log::Log;
use crate::types::{NodeId, Retention};

/// Committed entries that a ready node may be about to apply: under load there are always some. A read waits for
/// those it needs.
const READY_LAG: u64 = 1024;

/// Timing of consensus.
#[derive(Debug, Clone, Copy)]
pub struct RaftTiming {
    pub heartbeat_interval: Duration,
    pub election_timeout_min: Duration,
    pub election_timeout_max: Duration,
    /// Applied entries after which a checkpoint is taken.
    pub checkpoint_entries: u64,
    /// Bytes of log after which a checkpoint is taken.
    pub checkpoint_bytes: u64,
    /// Entries kept behind the last checkpoint, for followers that lag a little.
    pub keep_entries: u64,
    /// How fast a snapshot is sent to a follower; 0 for as fast as it goes.
    pub snapshot_bytes_per_second: u64,
    /// By how much the clocks of two nodes may differ after the shortest election timeout; `None` where nobody has said, and
    /// no read goes by the lease.
    pub lease_clock_drift: Option<Duration>,
}

impl RaftTiming {
    /// For how long after a quorum last acknowledged it a leader may take itself for one: openraft's leader
    /// lease. Followers vote for another only after it.
    pub fn leader_lease(&self) -> Duration {
        self.election_timeout_max
    }

    /// For how long after it was sent what a quorum acknowledged a leader answers reads without asking.
    pub fn lease_of_reads(&self) -> Option<Duration> {
        Some(self.election_timeout_min.saturating_sub(self.lease_clock_drift?))
    }

    /// After how long a silence a follower takes its leader for lost. Others may have stood for election by then, and more
    /// than once; that none was won says that no quorum is within reach.
    pub fn leader_silence(&self) -> Duration {
        self.election_timeout_max * 2
    }

    /// How long a request that nobody took goes on looking for a leader: several elections, of which the
    /// first usually succeeds.
    pub fn patience(&self) -> Duration {
        self.election_timeout_max * 4
    }

    /// How long a request waits before it looks again where the leader is.
    pub fn retry_pause(&self) -> Duration {
        self.heartbeat_interval / 4
    }
}

/// Shared by all handlers of a node's Raft actor.
pub struct Context {
    pub timing: RaftTiming,
    /// How much of the past this node is set to keep; what is in force is in the state.
    pub retention: Retention,
    pub raft: ArcSwapOption<Running>,
    pub peers: Peers,
    pub identity: watch::Receiver<Identity>,
    pub storage: Addr<StorageActor>,
    pub reader: KvReader,
    /// The index after the last applied entry.
    pub applied: watch::Receiver<u64>,
    pub space: Arc<Space>,
    pub log: Arc<ArcSwapOption<Log>>,
    pub clock: Arc<dyn Clock>,
    pub chance: Arc<dyn Chance>,
    pub metrics: Arc<crate::metrics::Metrics>,
    pub on_fatal: crate::actors::OnFatal,
    pub started: Instant,
    /// The life of the store that the running Raft belongs to: see [`crate::actors::messages::inside::WipeStore`].
    pub store_life: AtomicU64,
    /// When a leader was last heard, in milliseconds after `started`, plus one; 0 for never.
    pub heard_ms: AtomicU64,
    /// When this node was last elected, in milliseconds after `started`.
    pub elected_ms: AtomicU64,
}

impl Context {
    /// The running Raft, or why there is none: for good, or (as with an election) for a moment.
    pub fn raft(&self) -> Result<Arc<Running>, RequestError> {
        let standing = self.identity.borrow().standing;
        if let Some(why) = outside(standing) {
            let reason = match standing {
                Standing::Damaged => why.to_owned(),
                _ => format!("{why}; join it again to serve"),
            };
            return Err(RequestError::NotReady { reason });
        }
        if !self.identity.borrow().cluster_id.is_some() {
            let reason =
                "this node belongs to no cluster yet: join it at a member, or give it seeds".into();
            return Err(RequestError::NotReady { reason });
        }
        self.raft.load_full().ok_or_else(|| RequestError::NoLeader {
            reason: "this node is starting or closing".into(),
        })
    }

    /// Whether this node may take part in consensus: it was not removed and has lost nothing.
    pub fn takes_part(&self) -> bool {
        self.identity.borrow().standing.takes_part()
    }

    /// Whether what this node holds was found damaged.
    pub fn is_damaged(&self) -> bool {
        let of_log = || self.log.load().as_ref().and_then(|log| log.damage());
        self.identity.borrow().standing == Standing::Damaged
            || self.reader.damage().or_else(of_log).is_some()
    }

    pub fn own_id(&self) -> NodeId {
        self.identity.borrow().node_id
    }

    /// The leader as this node knows it: its id and where it is. `None` while there is an election, on a leader that is
    /// cut off from its quorum, and on a follower that has heard nothing for long.
    pub fn leader(&self, raft: &Raft) -> Option<(NodeId, PeerNode)> {
        let metrics = raft.metrics();
        let metrics = WatchReceiver::borrow_watched(&metrics);
        let leader = self.leader_by(&metrics)?;
        let node = metrics.membership_config.get_node(&leader)?.clone();
        Some((leader, node))
    }

    /// Whether this node leads, and its quorum follows.
    pub fn leads(&self, raft: &Raft) -> bool {
        let metrics = raft.metrics();
        self.leader_by(&WatchReceiver::borrow_watched(&metrics)) == Some(self.own_id())
    }

    /// The leader by these metrics. This node itself only within its lease: after that the others may follow
    /// another, and what is proposed or asked here would wait in vain. Another one only while it is heard: openraft
    /// names the leader of the last vote for as long as no election is won, which without a quorum is for ever.
    pub fn leader_by(&self, metrics: &Metrics) -> Option<NodeId> {
        let leader = metrics.current_leader?;
        let leads = match leader == metrics.id {
            true => self.holds_lease(metrics),
            false => self.heard_ago().is_some_and(|age| age <= self.timing.leader_silence()),
        };
        leads.then_some(leader)
    }

    fn holds_lease(&self, metrics: &Metrics) -> bool {
        // A quorum has voted for a leader that none has acknowledged yet.
        let elected = || {
            let elected = Duration::from_millis(self.elected_ms.load(Ordering::Relaxed));
            self.started.elapsed().saturating_sub(elected)
        };
        let acknowledged = self.acknowledged_ago(metrics).unwrap_or_else(elected);
        acknowledged <= self.timing.leader_lease()
    }

    /// Notes that this node was elected just now.
    pub fn note_elected(&self) {
        self.elected_ms.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Notes that a leader was heard just now.
    pub fn hear_leader(&self) {
        let elapsed = self.started.elapsed().as_millis() as u64;
        self.heard_ms.store(elapsed + 1, Ordering::Relaxed);
    }

    /// Time since a leader was heard; for a leader, since a quorum acknowledged it.
    pub fn last_contact(&self, metrics: &Metrics) -> Option<Duration> {
        match metrics.state {
            ServerState::Leader => self.acknowledged_ago(metrics),
            _ => self.heard_ago(),
        }
    }

    /// On a leader: time since a quorum acknowledged it; `None` before the first time.
    fn acknowledged_ago(&self, metrics: &Metrics) -> Option<Duration> {
        // A leader that is its own quorum hears itself all the time.
        match has_one_voter(&metrics.membership_config) {
            true => Some(Duration::ZERO),
            false => metrics.last_quorum_acked.map(|at| at.elapsed()),
        }
    }

    /// Time since this node heard from a leader; `None` when it has not since it started.
    pub fn staleness(&self) -> Option<Duration> {
        match self.raft.load_full() {
            Some(raft) => {
                let metrics = raft.metrics();
                self.last_contact(&WatchReceiver::borrow_watched(&metrics))
            }
            None => self.heard_ago(),
        }
    }

    fn heard_ago(&self) -> Option<Duration> {
        let heard_ms = self.heard_ms.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.started.elapsed().saturating_sub(Duration::from_millis(heard_ms)))
    }

    /// Waits a moment for another leader to be known, at most until `deadline`.
    pub async fn pause(&self, deadline: Instant) -> bool {
        let until = Instant::now() + self.timing.retry_pause();
        if until >= deadline {
            return false;
        }
        tokio::time::sleep_until(until).await;
        true
    }

    /// The membership this node holds.
    pub fn members(&self) -> Members {
        let Some(raft) = self.raft.load_full() else {
            return Members { leader: None, members: Vec::new() };
        };
        let metrics = raft.metrics();
        let metrics = WatchReceiver::borrow_watched(&metrics);
        let members = members(&metrics.membership_config);
        let leader = self.leader_by(&metrics);
        let leader = members.iter().find(|member| Some(member.node_id) == leader).cloned();
        Members { leader, members }
    }

    /// What this node knows of itself and its cluster.
    pub fn status(&self) -> Status {
        let identity = self.identity.borrow().clone();
        let raft = self.raft.load_full();
        let metrics = match &raft {
            Some(raft) => {
                let metrics = raft.metrics();
                WatchReceiver::borrow_watched(&metrics).clone()
            }
            None => Metrics::new_initial(identity.node_id),
        };
        let Members { leader, members } = self.members();
        let state = self.reader.snapshot();
        let last = self.log.load_full().and_then(|log| log.state().last);
        // Copied, and never held: a second borrow of one channel waits for a sender that waits for the first.
        let applied = *self.applied.borrow();
        let index = |id: &Option<super::types::RaftLogId>| id.map_or(0, |id| id.index);
        let role = match metrics.state {
            // Beyond its lease it is looking for a quorum again, as a candidate does.
            ServerState::Leader if self.leader_by(&metrics).is_some() => Role::Leader,
            ServerState::Leader | ServerState::Candidate => Role::Candidate,
            ServerState::Follower => Role::Follower,
            ServerState::Learner | ServerState::Shutdown => Role::Learner,
        };
        Status {
            role,
            term: metrics.current_term,
            commit_index: index(&metrics.cluster_committed).max(index(&metrics.local_committed)),
            applied_index: applied.saturating_sub(1),
            last_log_index: metrics.last_log_index.unwrap_or(0),
            last_log_term: last.map_or(0, |id| id.term),
            snapshot_index: index(&metrics.snapshot),
            snapshot_term: metrics.snapshot.map_or(0, |id| *id.leader_id),
            first_log_index: metrics.purged.map_or(0, |id| id.index + 1),
            revision: state.revision(),
            last_contact: self.last_contact(&metrics),
            peers: peer_progress(&metrics, &members),
            member_count: members.len(),
            not_ready: self.not_ready(&identity, &metrics, applied, leader.as_ref()),
            leader,
            node_name: identity.name,
            node_id: identity.node_id,
            cluster_id: identity.cluster_id,
            db_file_bytes: self.metrics.db_file_bytes.get(),
            db_live_bytes: self.metrics.db_live_bytes.get(),
            log_bytes: self.log.load_full().map_or(0, |log| log.file_bytes()),
            compacting: self.metrics.compacting.get() > 0,
            compactions: self.metrics.compactions.get(),
            oldest_revision: state.oldest_revision(),
        }
    }

    fn not_ready(
        &self,
        identity: &Identity,
        metrics: &Metrics,
        applied: u64,
        leader: Option<&Member>,
    ) -> Vec<String> {
        let mut reasons = Vec::new();
        reasons.extend(outside(identity.standing).map(str::to_owned));
        if let Err(fatal) = &metrics.running_state {
            reasons.push(format!("consensus stopped: {fatal}"));
        }
        if self.raft.load().is_none() && identity.standing.takes_part() {
            reasons.push("this node is starting or closing".to_string());
        }
        if leader.is_none() {
            reasons.push("no leader is known".to_string());
        }
        // Of a newcomer that got a snapshot from before it joined, its membership is not what is: whoever takes it for
        // ready, and the cluster for whole, might take the next node down.
        let takes_part = identity.standing.takes_part() && self.raft.load().is_some();
        if takes_part && metrics.membership_config.get_node(&identity.node_id).is_none() {
            reasons.push("this node does not know yet that it is a member".to_string());
        }
        reasons.extend(behind(metrics, applied));
        let last_contact = self.last_contact(metrics);
        match last_contact {
            Some(age) if age > self.timing.leader_silence() => {
                reasons.push(format!("no leader was heard for {} ms", age.as_millis()));
            }
            Some(_) => {}
            None => reasons.push("no leader was heard since this node started".to_string()),
        }
        reasons
    }
}

/// What a node says whose data are damaged.
pub const DAMAGED: &str = "this node's data are damaged: it takes no part until its peers give them anew, for which a \
                           quorum of them has to answer";

/// Why a node that stands so takes no part.
fn outside(standing: Standing) -> Option<&'static str> {
    match standing {
        Standing::Removed => Some("this node was removed from its cluster"),
        Standing::WentBack => Some(
            "this node's data is older than what it has acknowledged: give it an empty data directory, or \
             remove it first",
        ),
        Standing::Damaged => Some(DAMAGED),
        Standing::Invited | Standing::Founder | Standing::Resetting | Standing::Restoring => None,
    }
}

/// How far the other members are, as a leader knows.
pub fn peer_progress(
    metrics: &Metrics,
    members: &[Member],
) -> std::collections::BTreeMap<String, PeerProgress> {
    let last = metrics.last_log_index.unwrap_or(0);
    let Some(replication) = &metrics.replication else { return Default::default() };
    members
        .iter()
        .filter(|member| member.node_id != metrics.id)
        .filter_map(|member| {
            let matched = replication.get(&member.node_id)?.as_ref().map_or(0, |id| id.index);
            let progress = PeerProgress { match_index: matched, lag: last.saturating_sub(matched) };
            Some((member.name.clone(), progress))
        })
        .collect()
}

/// Why a node that applied so many entries is too far behind, if it is.
fn behind(metrics: &Metrics, applied: u64) -> Option<String> {
    // A leader learns how far the log is committed with the first entry of its own term.
    let least_term = if metrics.state.is_leader() { metrics.current_term } else { 0 };
    let committed = metrics.cluster_committed.filter(|id| *id.leader_id >= least_term);
    let Some(committed) = committed else {
        return Some("how far the log is committed is not known yet".to_string());
    };
    let left = (committed.index + 1).saturating_sub(applied);
    (left > READY_LAG).then(|| format!("{left} committed entries are not applied yet"))
}

#[cfg(test)]
mod tests {
    use super::super::types::raft_log_id;
    use super::*;
    use crate::types::LogId;

    #[test]
    fn a_node_is_behind_until_it_knows_what_is_committed_and_has_about_applied_it() {
        let committed = |term, index| Some(raft_log_id(LogId { term, index }));
        let mut metrics = Metrics::new_initial(1);
        assert!(behind(&metrics, 5_000).is_some_and(|reason| reason.contains("not known")));
        metrics.cluster_committed = committed(3, 4_999);
        assert_eq!(behind(&metrics, 5_000), None);
        assert_eq!(behind(&metrics, 5_000 - READY_LAG), None);
        assert!(behind(&metrics, 4_999 - READY_LAG).is_some_and(|reason| reason.contains("1025")));
        // The leader of the next term knows of what the one before committed only.
        metrics.current_term = 4;
        assert_eq!(behind(&metrics, 5_000), None);
        metrics.state = ServerState::Leader;
        assert!(behind(&metrics, 5_000).is_some_and(|reason| reason.contains("not known")));
    }
}
