//! The Raft actor: owns the running Raft and this node's place in a cluster.
//!
//! Requests are carried out by [`super::write`] and [`super::read`] in futures that share the
//! [`Context`]; the actor itself holds what must change in one place: the read rounds, the identity, and the
//! life cycle below.
//!
//! ```text
//! start ──▶ founder? initialize a cluster of one ──▶ serving ──▶ closing: hand leadership over, stop
//!   │                                                │   ▲
//!   └─ removed, damaged, or has lost what it          ◀─ told   └── invited elsewhere: wipe, new incarnation
//!      acknowledged: no Raft, stale reads only (super::expulsion)
//! ```
//!
//! A new life is only begun when nothing is lost: the node is empty and alone, or it was removed, or a
//! confirmed leader of the cluster that invites it back says that it is no member, or its data are damaged and its leader
//! has taken its vote.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use openraft::{Config, SnapshotPolicy};
use openraft_rt::deterministic_rng::DeterministicRng;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};

use super::admin::{self, Admin};
use super::context::Context;
use super::log_store::LogStore;
use super::network::NetworkFactory;
use super::pipeline::Signals;
use super::propose::{Running, Turns};
use super::purge::CatchUps;
use super::read::{self, Rounds};
use super::rpc::MemberStanding;
use super::serve::AcceptInvitation;
use super::state_machine::StateMachine;
use super::types::{PeerNode, Raft};
use super::{expiry, expulsion, retention, stall, watch as watcher, write};
use crate::actors::log::LogActor;
use crate::actors::messages::inside::{Close, WipeLog, WipeStore};
use crate::actors::messages::{GetMembers, GetStatus, RequestError, Write};
use crate::actors::peer::Spawner;
use crate::actors::peer::handshake::Card;
use crate::metrics::Held;
use crate::plants::{Plant, planted};
use crate::storage::disk::Disk;
use crate::storage::identity::{Identity, Standing};
use crate::types::{ClusterId, NodeId, Outcome};

/// How long a closing leader waits for another to take over.
const HAND_OVER_LIMIT: Duration = Duration::from_secs(2);

/// How long a Raft may take to stop: longer than any fsync.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Time for one piece of a snapshot, its installation included.
const SNAPSHOT_PIECE_LIMIT: Duration = Duration::from_secs(60);

/// Where this node stands, and who is told when that changes.
pub struct Place {
    disk: Arc<dyn Disk>,
    identity: watch::Sender<Identity>,
    card: watch::Sender<Card>,
    /// Held while the identity changes: whoever ends the node may come from any thread.
    changing: std::sync::Mutex<()>,
}

impl Place {
    pub fn new(
        disk: Arc<dyn Disk>,
        identity: watch::Sender<Identity>,
        card: watch::Sender<Card>,
    ) -> Place {
        Place { disk, identity, card, changing: std::sync::Mutex::default() }
    }

    pub fn identity(&self) -> Identity {
        self.identity.borrow().clone()
    }

    /// Makes a change of identity durable, then known.
    pub fn change(&self, change: impl FnOnce(&mut Identity)) -> Result<(), RequestError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut identity = self.identity.borrow().clone();
        change(&mut identity);
        identity
            .store(&self.disk)
            .map_err(|error| RequestError::Storage { detail: error.to_string() })?;
        self.card.send_modify(|card| {
            card.node_id = identity.node_id;
            card.cluster_id = identity.cluster_id;
        });
        self.identity.send_replace(identity);
        Ok(())
    }
}

/// See the module.
pub struct RaftActor {
    pub context: Arc<Context>,
    pub place: Arc<Place>,
    pub spawner: Spawner,
    pub log_actor: Addr<LogActor>,
    pub(super) rounds: Rounds,
    /// Held by whatever changes which Raft runs, so that two of them never share a log or a store.
    life: Arc<Mutex<()>>,
}

impl RaftActor {
    pub fn new(
        context: Arc<Context>,
        place: Arc<Place>,
        spawner: Spawner,
        log_actor: Addr<LogActor>,
    ) -> RaftActor {
        RaftActor {
            context,
            place,
            spawner,
            log_actor,
            rounds: Rounds::default(),
            life: Arc::default(),
        }
    }

    pub(super) fn parts(&self) -> Parts {
        Parts {
            context: self.context.clone(),
            place: self.place.clone(),
            spawner: self.spawner.clone(),
            log_actor: self.log_actor.clone(),
            life: self.life.clone(),
        }
    }

    /// Begins a round for the reads that wait for one.
    pub(super) fn begin_round(&mut self, ctx: &mut actix::Context<Self>) {
        let readers = self.rounds.begin();
        let round = read::round(self.context.clone()).into_actor(self);
        ctx.spawn(round.map(move |result, actor, ctx| {
            let late = match planted(Plant::ReadRoundReused) {
                true => actor.rounds.begin(),
                false => Vec::new(),
            };
            for reader in readers.into_iter().chain(late) {
                let _ = reader.send(result.clone());
            }
            if actor.rounds.end() {
                actor.begin_round(ctx);
            }
        }));
    }
}

impl Actor for RaftActor {
    type Context = actix::Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let on_fatal = self.context.on_fatal.clone();
        let parts = self.parts();
        let starting = async move {
            let _life = parts.life.clone().lock_owned().await;
            parts.start().await
        };
        ctx.spawn(starting.into_actor(self).map(move |started, _, _| {
            if let Err(reason) = started {
                on_fatal(reason);
            }
        }));
    }
}

/// What the actor's futures need of it.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) context: Arc<Context>,
    pub(super) place: Arc<Place>,
    spawner: Spawner,
    log_actor: Addr<LogActor>,
    pub(super) life: Arc<Mutex<()>>,
}

impl Parts {
    /// Starts Raft on what the log and the store hold, and finishes founding a cluster.
    async fn start(&self) -> Result<(), String> {
        let identity = self.place.identity();
        if !identity.standing.takes_part() {
            expulsion::tell(&identity);
            return Ok(());
        }
        let log = self.context.log.load_full().ok_or("the log is not open")?;
        let config = Arc::new(self.config().validate().map_err(|error| error.to_string())?);
        let snapshot_bytes_per_second = self.context.timing.snapshot_bytes_per_second;
        let peers = self.context.peers.clone();
        let log_end = watch::Sender::new(log.state().last.map_or(0, |last| last.index + 1));
        let hurry_until = watch::Sender::new(Instant::now());
        let signals =
            Signals { log_end: log_end.subscribe(), hurry_until: hurry_until.subscribe() };
        let catch_ups = CatchUps::default();
        let network = NetworkFactory::new(
            identity.node_id,
            peers,
            signals,
            catch_ups.clone(),
            snapshot_bytes_per_second,
        );
        let turns = Arc::<Turns>::default();
        let log_store =
            LogStore::new((*log).clone(), self.log_actor.clone(), turns.clone(), log_end);
        let store_life = self.context.store_life.load(Ordering::Acquire);
        let state_machine = StateMachine::new(self.context.storage.clone(), store_life);
        let making = Raft::new(identity.node_id, config, network, log_store, state_machine);
        let seed = self.context.chance.next_u64();
        let seeded = DeterministicRng::<openraft::TokioRuntime>::scope(seed, making);
        let made = self.spawner.runtime().spawn(seeded).await;
        let raft = made.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        if identity.standing == Standing::Founder
            && !raft.is_initialized().await.map_err(|error| error.to_string())?
        {
            let card = self.place.card.borrow().clone();
            let own = PeerNode {
                name: card.name,
                raft_addr: card.raft_addr,
                http_addr: card.http_addr,
                wants_vote: true,
            };
            let members = BTreeMap::from([(identity.node_id, own)]);
            raft.initialize(members).await.map_err(|error| error.to_string())?;
            log::info!("founded cluster {}", identity.cluster_id);
        }
        let raft = Arc::new(Running::new(raft, &log, turns, hurry_until, catch_ups, &self.spawner));
        self.context.raft.store(Some(raft.clone()));
        self.spawner.spawn(watcher::follow(self.context.clone(), raft.clone()));
        self.spawner.spawn(expiry::follow(self.context.clone(), raft.clone()));
        self.spawner.spawn(retention::follow(self.context.clone(), raft.clone()));
        self.spawner.spawn(stall::follow(self.context.clone(), raft.clone()));
        self.spawner.spawn(watcher::checkpoints(self.context.clone(), raft));
        Ok(())
    }

    fn config(&self) -> Config {
        let timing = self.context.timing;
        let ms = |duration: Duration| duration.as_millis() as u64;
        Config {
            cluster_name: "conuredb".into(),
            heartbeat_interval: ms(timing.heartbeat_interval),
            election_timeout_min: ms(timing.election_timeout_min),
            election_timeout_max: ms(timing.election_timeout_max),
            install_snapshot_timeout: ms(SNAPSHOT_PIECE_LIMIT),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(timing.checkpoint_entries),
            // Never by itself: `super::purge` says when.
            max_in_snapshot_log_to_keep: u64::MAX,
            // A restarted leader must win an election before it serves: its applied state is that of the
            // last checkpoint.
            enable_leader_restore: Some(false),
            enable_pre_vote: Some(true),
            // The least that openraft allows: leader lease plus the longest election timeout.
            quorum_loss_probe_interval: Some(2 * ms(timing.election_timeout_max)),
            // Peers get entries while the leader's own fsync is under way.
            broadcast_submitted_on_append: Some(true),
            backoff: "50ms 100ms ..500ms".into(),
            ..Config::default()
        }
    }

    pub(super) async fn stop(&self) {
        let Some(raft) = self.context.raft.swap(None) else { return };
        // A Raft that waits for room on a full disk, to save a vote, does not hear that it is to stop.
        match timeout(STOP_LIMIT, raft.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::warn!("consensus did not stop cleanly: {error}"),
            Err(_) => log::warn!("consensus did not stop within {STOP_LIMIT:?}"),
        }
    }

    /// Accepts an invitation or says why not. Answers with the incarnation that joins.
    async fn accept(self, invitation: AcceptInvitation) -> Result<NodeId, RequestError> {
        let AcceptInvitation { cluster_id, replaces } = invitation;
        let _life = self.life.lock().await;
        let identity = self.place.identity();
        let standing = identity.standing;
        let pristine = self.context.log.load_full().is_none_or(|log| log.state().last.is_none());
        let same_cluster = identity.cluster_id == cluster_id;
        let may_belong = same_cluster || !identity.cluster_id.is_some();
        if replaces == Some(identity.node_id) && may_belong && self.context.is_damaged() {
            return self.begin_new_life(cluster_id).await;
        }
        if pristine && standing.takes_part() && may_belong {
            if !same_cluster {
                self.place.change(|identity| {
                    identity.cluster_id = cluster_id;
                    identity.standing = Standing::Invited;
                })?;
                log::info!("invited into cluster {cluster_id}");
            }
            return Ok(identity.node_id);
        }
        match (standing, same_cluster) {
            (Standing::Removed | Standing::WentBack, _) => {}
            (_, true) => self.refuse_unless_outside(&identity).await?,
            (_, false) => self.refuse_unless_empty(&identity)?,
        }
        self.begin_new_life(cluster_id).await
    }

    /// A node that has a log of the inviting cluster gives it up only when a confirmed leader says that it is no
    /// member: whoever invites may lead no more, and this node's vote may count.
    async fn refuse_unless_outside(&self, identity: &Identity) -> Result<(), RequestError> {
        match Admin::new(self.context.clone()).ask_standing().await {
            MemberStanding::NotMember => Ok(()),
            MemberStanding::Member | MemberStanding::Unknown => Err(RequestError::NotReady {
                reason: format!(
                    "{} has a log of this cluster, and no leader confirms that it is no member any more",
                    identity.name
                ),
            }),
        }
    }

    /// A node gives up a cluster of its own only when that holds nothing. That it holds nothing is known only when
    /// all of its log is applied.
    fn refuse_unless_empty(&self, identity: &Identity) -> Result<(), RequestError> {
        let status = self.context.status();
        if status.revision == 0 && status.member_count <= 1 {
            let last = self.context.log.load_full().and_then(|log| log.state().last);
            let applied = *self.context.applied.borrow();
            if self.context.raft.load().is_some() && last.is_none_or(|last| last.index < applied) {
                return Ok(());
            }
            return Err(RequestError::NotReady {
                reason: format!(
                    "{} does not know yet whether it holds data; ask again",
                    identity.name
                ),
            });
        }
        Err(RequestError::NodeConflict {
            detail: format!(
                "{} belongs to cluster {}, with {} member(s) and data up to revision {}: to give that up, stop it, \
                 move its data directory away and start it again",
                identity.name, identity.cluster_id, status.member_count, status.revision
            ),
        })
    }

    /// Wipes log and store and joins `cluster_id` as a new incarnation. Each step is repeated at the next
    /// start if a crash comes between: see [`Standing::Resetting`].
    async fn begin_new_life(&self, cluster_id: ClusterId) -> Result<NodeId, RequestError> {
        let node_id = self.context.chance.next_u64();
        log::info!(
            "giving up the former life of this node to join cluster {cluster_id} as {node_id:016x}"
        );
        self.place.change(|identity| {
            identity.node_id = node_id;
            identity.cluster_id = cluster_id;
            identity.standing = Standing::Resetting;
        })?;
        self.stop().await;
        self.context.peers.forget();
        let failed = |reason: String| RequestError::Storage { detail: reason };
        let log = self.log_actor.send(WipeLog).await.map_err(|error| failed(error.to_string()))?;
        self.context.log.store(Some(Arc::new(log.map_err(|error| failed(error.to_string()))?)));
        let wiped = self.context.storage.send(WipeStore).await;
        let life = wiped.map_err(|error| failed(error.to_string()))?;
        let life = life.map_err(|error| failed(error.to_string()))?;
        self.context.store_life.store(life, Ordering::Release);
        self.context.heard_ms.store(0, Ordering::Relaxed);
        self.context.metrics.scrub_damaged.set(0);
        self.place.change(|identity| identity.standing = Standing::Invited)?;
        self.start().await.map_err(failed)?;
        Ok(node_id)
    }
}

impl Handler<Write> for RaftActor {
    type Result = ResponseFuture<Result<Outcome, RequestError>>;

    fn handle(&mut self, message: Write, _: &mut Self::Context) -> Self::Result {
        let context = self.context.clone();
        let held = Held::new(&context.metrics.raft_requests);
        Box::pin(async move {
            let _held = held;
            write::write(&context, message).await
        })
    }
}

impl Handler<GetStatus> for RaftActor {
    type Result = MessageResult<GetStatus>;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.context.status())
    }
}

impl Handler<GetMembers> for RaftActor {
    type Result = MessageResult<GetMembers>;

    fn handle(&mut self, _: GetMembers, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.context.members())
    }
}

impl Handler<AcceptInvitation> for RaftActor {
    type Result = ResponseActFuture<Self, Result<NodeId, RequestError>>;

    fn handle(&mut self, message: AcceptInvitation, _: &mut Self::Context) -> Self::Result {
        let accepting = self.parts().accept(message).into_actor(self);
        Box::pin(accepting.map(|accepted, actor, _| {
            if let Err(RequestError::Storage { detail }) = &accepted {
                (actor.context.on_fatal)(detail.clone());
            }
            accepted
        }))
    }
}

impl Handler<Close> for RaftActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Close, _: &mut Self::Context) -> Self::Result {
        let parts = self.parts();
        let closing = async move {
            let _life = parts.life.lock().await;
            if let Ok(raft) = parts.context.raft() {
                admin::step_aside(&parts.context, &raft, Instant::now() + HAND_OVER_LIMIT).await;
            }
            parts.stop().await;
        };
        Box::pin(closing.into_actor(self).map(|(), _, ctx| ctx.stop()))
    }
}
