//! A node: its actors, wired; started from the disk upwards, closed from the outside inwards.
//!
//! ```text
//! start:  identity ▸ log ▸ store ▸ Raft ▸ membership ▸ peers are answered ▸ (HTTP, by the binary)
//! close:  watches end ▸ (HTTP drains) ▸ scrub ▸ membership ▸ Raft hands over and stops ▸ checkpoint ▸ last flush of the log
//! ```
//!
//! Everything that differs between a real node and a simulated one comes in through
//! [`Surroundings`]: disk, network, clocks, chance, threads. A real node gives each writer a thread
//! of its own; a simulated one runs all actors where it stands. How a node opens its disk is in `open`, how one ends
//! that is not closed in `kill`.

mod kill;
mod open;

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use actix::prelude::*;
use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::time::Instant;

use self::open::Opened;
use super::OnFatal;
use super::log::LogActor;
use super::membership::autopilot::Rules;
use super::membership::{MembershipActor, MembershipOptions, Seeds};
use super::messages::Gateway;
use super::messages::inside::Close;
use super::peer::handshake::{Card, Secret};
use super::peer::link::Dialer;
use super::peer::listener::Answerer;
use super::peer::net::Network;
use super::peer::{Spawner, TaskOwner};
use super::raft::actor::{Place, RaftActor};
use super::raft::admin::Admin;
use super::raft::context::{self, RaftTiming};
use super::raft::peers::Peers;
use super::raft::serve::Desk;
use super::scrub::{CurrentLog, ScrubActor};
use super::space::Space;
use super::storage::{CheckpointActor, StorageActor};
use super::watch::WatchActor;
use crate::env::{Chance, Clock};
use crate::metrics::Metrics;
use crate::storage::disk::Disk;
use crate::storage::error::StorageError;
use crate::storage::identity::IdentityError;
use crate::storage::kv::KvReader;
use crate::storage::log::{LogError, LogOptions};
use crate::storage::store::StoreOptions;
use crate::threads;
use crate::types::{LogId, Retention};

/// Segments of the log that are held in reserve for a full disk: one that deletes fill, and the next, or what
/// the tree needs for the checkpoint after which segments can go.
const RESERVE_SEGMENTS: u64 = 2;

/// Where actors run.
#[derive(Debug, Clone)]
pub enum Threads {
    /// Storage, checkpoints and log each on a thread of their own; Raft on this one, which shall be that of
    /// [`Surroundings::runtime`]: the actor, the library and the peer connections then wake each other
    /// without a call of the system (docs/decisions/0013-threads.md).
    Dedicated { consensus: ArbiterHandle },
    /// All on the thread that starts the node: a simulation.
    Here,
}

/// What a node is told.
#[derive(Clone)]
pub struct NodeOptions {
    pub name: String,
    /// Where peers are answered; port 0 lets the system choose.
    pub raft_addr: String,
    /// What peers are told to connect to; `None` for the address that was bound.
    pub raft_advertise_addr: Option<String>,
    pub http_advertise_addr: String,
    /// Whether a node without a cluster founds one.
    pub founds: bool,
    pub seeds: Vec<String>,
    pub secret: Secret,
    pub timing: RaftTiming,
    pub retention: Retention,
    pub store: StoreOptions,
    pub log: LogOptions,
    /// What the leader may change by itself.
    pub rules: Rules,
    pub threads: Threads,
}

/// What a node stands in.
#[derive(Clone)]
pub struct Surroundings {
    pub disk: Arc<dyn Disk>,
    pub network: Arc<dyn Network>,
    pub clock: Arc<dyn Clock>,
    pub chance: Arc<dyn Chance>,
    pub seeds: Arc<dyn Seeds>,
    /// The runtime for Raft and for connections.
    pub runtime: tokio::runtime::Handle,
    pub metrics: Arc<Metrics>,
    pub on_fatal: OnFatal,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("cannot hold room in reserve for a full disk: {0}")]
    Reserve(std::io::Error),
    #[error(
        "raft_addr: cannot listen on {address}: {source}; name an address of this machine that is free"
    )]
    Listen { address: String, source: std::io::Error },
    #[error(
        "the store ends at log index {applied:?}, but the log begins after {purged}: one of the two was damaged or \
         replaced; stop this node, move its data directory away and let it join its cluster again"
    )]
    Gap { applied: Option<LogId>, purged: LogId },
}

impl NodeError {
    /// Whether bytes on the disk are not those that were written there.
    fn is_damage(&self) -> bool {
        match self {
            NodeError::Log(error) => error.is_corrupt(),
            NodeError::Storage(error) => error.is_corrupt(),
            NodeError::Gap { .. } => true,
            NodeError::Identity(_) | NodeError::Reserve(_) | NodeError::Listen { .. } => false,
        }
    }
}

/// A running node.
pub struct Node {
    gateway: Gateway,
    reader: KvReader,
    raft_addr: String,
    log: Addr<LogActor>,
    storage: Addr<StorageActor>,
    raft: Addr<RaftActor>,
    membership: Addr<MembershipActor>,
    watch: Addr<WatchActor>,
    arbiters: Vec<Arbiter>,
    tasks: TaskOwner,
    scrub: Option<Addr<ScrubActor>>,
    log_in_use: CurrentLog,
    metrics: Arc<Metrics>,
    threads: Threads,
}

impl Node {
    /// Starts a node. It answers peers and requests when this returns; whether it is ready to serve them
    /// is in its status.
    pub async fn start(options: NodeOptions, around: Surroundings) -> Result<Node, NodeError> {
        let Opened { identity, log, log_writer, kv } = open::open(&options, &around)?;
        let reader = kv.reader();
        let log = Arc::new(ArcSwapOption::from_pointee(log));
        let reserve_bytes = RESERVE_SEGMENTS * options.log.segment_bytes;
        let space = Space::open(around.disk.clone(), reserve_bytes, around.metrics.clone());
        let space = Arc::new(space.map_err(NodeError::Reserve)?);

        let listener =
            around.network.listen(&options.raft_addr).await.map_err(|source| {
                NodeError::Listen { address: options.raft_addr.clone(), source }
            })?;
        let raft_addr = options.raft_advertise_addr.clone().unwrap_or(listener.local_address());
        let card = Card {
            cluster_id: identity.cluster_id,
            node_id: identity.node_id,
            name: options.name.clone(),
            raft_addr: raft_addr.clone(),
            http_addr: options.http_advertise_addr.clone(),
        };
        log::info!(
            "{} ({:016x}) of cluster {} answers peers at {raft_addr}",
            card.name,
            card.node_id,
            card.cluster_id
        );
        let (card_sender, card) = watch::channel(card);
        let (identity_sender, identity) = watch::channel(identity);
        let place_of_data = Arc::new(Place::new(around.disk.clone(), identity_sender, card_sender));
        let on_fatal = open::noting_damage(
            around.on_fatal.clone(),
            place_of_data.clone(),
            reader.clone(),
            log.clone(),
            &options,
        );
        let (tasks, spawner) = Spawner::new(around.runtime.clone());
        let own_card: Arc<dyn Fn() -> Card + Send + Sync> = {
            let card = card.clone();
            Arc::new(move || card.borrow().clone())
        };
        let dialer = Dialer {
            network: around.network.clone(),
            spawner: spawner.clone(),
            secret: options.secret.clone(),
            chance: around.chance.clone(),
            metrics: around.metrics.clone(),
            card: own_card.clone(),
        };

        let mut arbiters = Vec::new();
        let metrics = around.metrics.clone();
        let log_actor = {
            let (metrics, on_fatal) = (metrics.clone(), on_fatal.clone());
            let (disk, log_options) = (around.disk.clone(), options.log.clone());
            let space = space.clone();
            place(&options.threads, &mut arbiters, c"log", move |_| {
                LogActor::new(log_writer, disk, log_options, space, metrics, on_fatal)
            })
        };
        let checkpoints =
            place(&options.threads, &mut arbiters, c"checkpoint", |_| CheckpointActor);
        let (applied_sender, applied) = watch::channel(0);
        let storage = {
            let (space, metrics, on_fatal) = (space.clone(), metrics.clone(), on_fatal.clone());
            place(&options.threads, &mut arbiters, c"storage", move |_| {
                StorageActor::new(kv, checkpoints, applied_sender, space, metrics, on_fatal)
            })
        };

        let own_reader = reader.clone();
        let watch = {
            let (reader, applied, metrics) = (reader.clone(), applied.clone(), metrics.clone());
            place(&options.threads, &mut arbiters, c"watch", move |_| {
                WatchActor::new(reader, applied, metrics)
            })
        };

        let context = Arc::new(context::Context {
            timing: options.timing,
            retention: options.retention,
            raft: ArcSwapOption::empty(),
            peers: Peers::new(dialer),
            identity,
            storage: storage.clone(),
            reader,
            applied,
            space,
            log,
            clock: around.clock.clone(),
            chance: around.chance.clone(),
            metrics,
            on_fatal,
            started: Instant::now(),
            store_life: AtomicU64::new(0),
            heard_ms: AtomicU64::new(0),
            elected_ms: AtomicU64::new(0),
        });
        let raft = {
            let (context, spawner) = (context.clone(), spawner.clone());
            let log_actor = log_actor.clone();
            let make = move |_: &mut Context<RaftActor>| {
                RaftActor::new(context, place_of_data, spawner, log_actor)
            };
            match &options.threads {
                Threads::Here => RaftActor::create(make),
                Threads::Dedicated { consensus } => RaftActor::start_in_arbiter(consensus, make),
            }
        };
        let membership = MembershipActor::new(
            Admin::new(context.clone()),
            raft.clone().recipient(),
            MembershipOptions {
                seeds: options.seeds.clone(),
                card: own_card,
                rules: options.rules,
            },
            around.seeds.clone(),
            around.chance.clone(),
        )
        .start();

        let log_in_use: CurrentLog = {
            let context = context.clone();
            Arc::new(move || context.log.load_full())
        };
        let peers = context.peers.clone();
        let desk = Desk {
            context,
            read_index: raft.clone().recipient(),
            invitation: raft.clone().recipient(),
            removal: raft.clone().recipient(),
            way_back: raft.clone().recipient(),
            join: membership.clone().recipient(),
            remove: membership.clone().recipient(),
            transfer: membership.clone().recipient(),
        };
        let answerer = Answerer {
            spawner: spawner.clone(),
            secret: options.secret.clone(),
            chance: around.chance.clone(),
            card,
            serve: desk.into_serve(),
            met: Arc::new(move |card| peers.meet(card)),
            metrics: around.metrics.clone(),
        };
        spawner.spawn(answerer.run(listener));

        let gateway = Gateway {
            write: raft.clone().recipient(),
            read: raft.clone().recipient(),
            status: raft.clone().recipient(),
            members: raft.clone().recipient(),
            join: membership.clone().recipient(),
            remove: membership.clone().recipient(),
            transfer: membership.clone().recipient(),
            watch: watch.clone().recipient(),
            backup: raft.clone().recipient(),
            compact: storage.clone().recipient(),
        };
        Ok(Node {
            gateway,
            reader: own_reader,
            raft_addr,
            log: log_actor,
            storage,
            raft,
            membership,
            watch,
            arbiters,
            tasks,
            scrub: None,
            log_in_use,
            metrics: around.metrics,
            threads: options.threads,
        })
    }

    /// Begins to verify what nobody reads, at most so many bytes a second; 0 means not at all.
    pub fn start_scrub(&mut self, bytes_per_second: u64) {
        if bytes_per_second > 0 && self.scrub.is_none() {
            let (storage, log) = (self.storage.clone(), self.log_in_use.clone());
            let metrics = self.metrics.clone();
            self.scrub = Some(place(&self.threads, &mut self.arbiters, c"scrub", move |_| {
                ScrubActor::new(bytes_per_second, storage, log, metrics)
            }));
        }
    }

    /// Where requests enter.
    pub fn gateway(&self) -> Gateway {
        self.gateway.clone()
    }

    /// The states of this node's store, all trees of them: for whoever compares nodes.
    pub fn reader(&self) -> KvReader {
        self.reader.clone()
    }

    /// The log that is in use, whichever it is: for whoever looks how much waits for it.
    pub fn log_in_use(&self) -> CurrentLog {
        self.log_in_use.clone()
    }

    /// Where peers are told to connect.
    pub fn raft_addr(&self) -> &str {
        &self.raft_addr
    }

    /// Ends every watch. Their requests last as long as they do, so this comes before HTTP drains.
    pub async fn end_watches(&self) {
        let _ = self.watch.send(Close).await;
    }

    /// Closes in order and waits: leadership is handed over, a checkpoint written, the log flushed.
    pub async fn close(self) {
        self.end_watches().await;
        if let Some(scrub) = self.scrub {
            let _ = scrub.send(Close).await;
        }
        let _ = self.membership.send(Close).await;
        let _ = self.raft.send(Close).await;
        let _ = self.storage.send(Close).await;
        let _ = self.log.send(Close).await;
        drop(self.tasks);
        for arbiter in self.arbiters {
            arbiter.stop();
        }
    }
}

/// Starts an actor on a thread of its own, or here.
fn place<A: Actor<Context = Context<A>>>(
    threads: &Threads,
    arbiters: &mut Vec<Arbiter>,
    name: &'static CStr,
    make: impl FnOnce(&mut Context<A>) -> A + Send + 'static,
) -> Addr<A> {
    match threads {
        Threads::Here => A::create(make),
        Threads::Dedicated { .. } => {
            let arbiter = Arbiter::new();
            arbiter.spawn_fn(|| threads::name(name));
            let address = A::start_in_arbiter(&arbiter.handle(), make);
            arbiters.push(arbiter);
            address
        }
    }
}
