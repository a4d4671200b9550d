//! One node: wired to this machine ([`Serving`]), and run until a signal ([`run`]).
//!
//! Threads: the main one runs the actix system (membership and the HTTP actor), HTTP workers
//! serve requests, one runs Raft and the peer connections, and the log, storage, checkpoint, watch and scrub
//! actors have a thread each (docs/decisions/0013-threads.md).

use std::io;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;

use actix::{Actor, Addr, Arbiter, ArbiterHandle, System};
use actix_web::dev::ServerHandle;
use conuredb::actors::OnFatal;
use conuredb::actors::http::HttpActor;
use conuredb::actors::membership::autopilot::Rules;
use conuredb::actors::messages::inside::Close;
use conuredb::actors::node::{Node, NodeOptions, Surroundings, Threads};
use conuredb::actors::peer::handshake::Secret;
use conuredb::actors::peer::net::Network;
use conuredb::actors::raft::context::RaftTiming;
use conuredb::codec::MAX_ENCODED_BYTES;
use conuredb::config::{Cli, Config, FollowerMode};
use conuredb::env::Chance;
use conuredb::http;
use conuredb::logs::LogSwitch;
use conuredb::metrics::Metrics;
use conuredb::os::net::TcpNetwork;
use conuredb::os::seeds::HttpSeeds;
use conuredb::os::{OsChance, OsClock, process};
use conuredb::storage::disk::{Disk, FileDisk};
use conuredb::storage::log::LogOptions;
use conuredb::storage::store::StoreOptions;
use conuredb::threads;
use conuredb::types::Retention;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Threads that parse requests and build replies.
const HTTP_WORKERS: usize = 2;

/// Applied entries after which a checkpoint is taken, whatever their size: bounds the replay of small
/// entries after a crash to about a second. A checkpoint of random writes to a million records writes most
/// leaves however many writes it is for (docs/decisions/0005-checkpoints.md).
const CHECKPOINT_ENTRIES: u64 = 200_000;

/// Runs a node with the settings that the flags and what else there is amount to.
pub fn run(cli: &Cli) -> ExitCode {
    let config = match Config::load(cli) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("conure-db: {errors}");
            return ExitCode::from(2);
        }
    };
    if cli.check_config {
        print!("{}", config.to_yaml());
        return ExitCode::SUCCESS;
    }
    let log = match LogSwitch::new(&config.log_level, config.log_format) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("conure-db: log_level: {error}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = log.install() {
        eprintln!("conure-db: {error}");
        return ExitCode::FAILURE;
    }
    match System::new().block_on(serve(config, log)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            log::error!("{reason}");
            ExitCode::FAILURE
        }
    }
}

/// The runtime of an arbiter's thread.
async fn runtime_of(arbiter: &Arbiter) -> Result<Handle, String> {
    let (sender, runtime) = oneshot::channel();
    arbiter.spawn_fn(move || {
        threads::name(c"consensus");
        drop(sender.send(Handle::current()));
    });
    runtime.await.map_err(|_| "cannot start the thread for consensus".to_owned())
}

async fn serve(config: Config, log: LogSwitch) -> Result<(), String> {
    let say = |error: &dyn std::fmt::Display| error.to_string();
    let disk = FileDisk::open(&config.data_dir).map_err(|error| say(&error))?;
    let place = Place {
        disk,
        http: listen(&config)?,
        log,
        network: Arc::new(TcpNetwork),
        on_fatal: Arc::new(|reason| {
            log::error!(
                "this node stops, since it could not keep its promises otherwise: {reason}"
            );
            std::process::exit(1);
        }),
    };
    let serving = Serving::start(&config, place).await?;
    log::info!(
        "{} serves HTTP on {}, as {}",
        config.node_id,
        config.http_addr,
        config.http_advertise()
    );

    wait_for_signal().await.map_err(|error| format!("cannot wait for signals: {error}"))?;
    log::info!("closing: requests under way are answered, then the state is written");
    serving.close().await;
    log::info!("closed");
    Ok(())
}

/// Where a node is put: what it owns of this machine, and who hears of its end.
pub struct Place {
    pub disk: FileDisk,
    pub http: TcpListener,
    /// The log of this process.
    pub log: LogSwitch,
    pub network: Arc<dyn Network>,
    pub on_fatal: OnFatal,
}

/// A node that serves, with the threads under it.
pub struct Serving {
    node: Node,
    http: Addr<HttpActor>,
    server: ServerHandle,
    /// Resolves when the server has ended.
    serving: JoinHandle<io::Result<()>>,
    consensus: Arbiter,
}

impl Serving {
    /// Starts a node in the actix system of this thread.
    pub async fn start(config: &Config, place: Place) -> Result<Serving, String> {
        let say = |error: &dyn std::fmt::Display| error.to_string();
        let disk: Arc<dyn Disk> = Arc::new(place.disk);
        let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
        metrics.sample_by(process::sampler(disk.clone()));
        let consensus = Arbiter::new();
        let around = Surroundings {
            disk,
            network: place.network,
            clock: Arc::new(OsClock),
            chance: Arc::new(OsChance),
            seeds: Arc::new(HttpSeeds),
            runtime: runtime_of(&consensus).await?,
            metrics: metrics.clone(),
            on_fatal: place.on_fatal,
        };
        let mut node = Node::start(node_options(config, consensus.handle()), around)
            .await
            .map_err(|error| say(&error))?;
        node.start_scrub(config.storage.scrub_bytes_per_second);

        let state = http::State::new(node.gateway(), metrics, http_options(config, place.log));
        let server =
            http::server(state, vec![place.http], HTTP_WORKERS).map_err(|error| say(&error))?;
        let handle = server.handle();
        Ok(Serving {
            node,
            http: HttpActor::new(handle.clone()).start(),
            server: handle,
            serving: actix::spawn(server),
            consensus,
        })
    }

    /// Closes in order: requests are answered, the lead is handed over, the state is written.
    pub async fn close(self) {
        self.node.end_watches().await;
        let _ = self.http.send(Close).await;
        let _ = self.serving.await;
        self.node.close().await;
        self.consensus.stop();
    }

    /// Ends the node as the death of its process would: its ports close, its threads stop where they are. The actix
    /// system of this thread has to end after it, and with it what is left: the HTTP workers and membership.
    pub async fn kill(self) {
        self.consensus.stop();
        let threads = self.node.kill();
        self.server.stop(false).await;
        let _ = self.serving.await;
        for thread in threads.into_iter().chain([self.consensus]) {
            // It fails for a thread that panicked, which then has ended as well.
            let _ = thread.join();
        }
    }
}

async fn wait_for_signal() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => log::info!("SIGTERM"),
        _ = interrupt.recv() => log::info!("ctrl-c"),
    }
    Ok(())
}

/// Binds the first of the addresses that HTTP may be served on.
fn listen(config: &Config) -> Result<TcpListener, String> {
    let mut last = None;
    for address in config.http_addr.listen_on() {
        match TcpListener::bind(&address) {
            Ok(listener) => return Ok(listener),
            Err(error) => {
                last = Some(format!(
                    "http_addr: cannot listen on {address}: {error}; name an address of this machine that is free"
                ));
            }
        }
    }
    Err(last.unwrap_or_else(|| "http_addr: no address".into()))
}

fn node_options(config: &Config, consensus: ArbiterHandle) -> NodeOptions {
    NodeOptions {
        name: config.node_id.clone(),
        raft_addr: config.raft_addr.to_string(),
        raft_advertise_addr: Some(config.raft_advertise().to_string()),
        http_advertise_addr: config.http_advertise().to_string(),
        founds: config.bootstraps(),
        seeds: config.seeds.iter().map(ToString::to_string).collect(),
        secret: config
            .cluster_secret
            .as_ref()
            .map_or_else(Secret::default, |secret| Secret::new(secret.expose().to_vec())),
        timing: RaftTiming {
            heartbeat_interval: config.raft.heartbeat_interval,
            election_timeout_min: config.raft.election_timeout_min,
            election_timeout_max: config.raft.election_timeout_max,
            checkpoint_entries: CHECKPOINT_ENTRIES,
            checkpoint_bytes: config.raft.checkpoint_log_bytes,
            keep_entries: config.raft.keep_log_entries,
            snapshot_bytes_per_second: config.raft.snapshot_bytes_per_second,
            lease_clock_drift: Some(config.raft.lease_clock_drift).filter(|drift| !drift.is_zero()),
        },
        retention: Retention {
            changes: config.storage.history_max_changes,
            bytes: config.storage.history_max_bytes,
            age_ms: config.storage.history_age_ms(),
        },
        store: StoreOptions { cache_bytes: config.storage.cache_bytes },
        log: LogOptions {
            segment_bytes: config.storage.log_segment_bytes,
            // Not what this node accepts from clients: peers may be set to accept more.
            max_payload_bytes: MAX_ENCODED_BYTES,
            nonce: rand::random(),
            ..LogOptions::default()
        },
        rules: Rules {
            remove_dead_after: Some(config.membership.remove_dead_after)
                .filter(|after| !after.is_zero()),
            odd_voters: config.membership.odd_voters,
            replace_damaged: config.membership.replace_damaged,
        },
        threads: Threads::Dedicated { consensus },
    }
}

fn http_options(config: &Config, log: LogSwitch) -> http::HttpOptions {
    http::HttpOptions {
        node_name: config.node_id.clone(),
        mode: "cluster".into(),
        follower_mode: match config.follower_mode {
            FollowerMode::Forward => http::FollowerMode::Forward,
            FollowerMode::Redirect => http::FollowerMode::Redirect,
        },
        log,
        slow_request: config.log_slow_request,
        request_id_base: OsChance.next_u64(),
        lease_reads: !config.raft.lease_clock_drift.is_zero(),
        max_value_bytes: config.limits.max_value_bytes,
        max_header_bytes: config.limits.max_header_bytes,
        max_inflight_writes: config.limits.max_inflight_writes,
        max_inflight_reads: config.limits.max_inflight_reads,
        max_connections: config.limits.max_connections,
        max_scan_results: config.limits.max_scan_results,
        max_pinned_scans: config.limits.max_pinned_scans,
        max_txn_ops: config.limits.max_txn_ops,
        max_txn_bytes: config.limits.max_txn_bytes,
        max_watchers: config.limits.max_watchers,
        request_timeout: config.timeouts.request,
        write_timeout: config.timeouts.write,
        barrier_timeout: config.barrier_timeout,
        shutdown_timeout: config.timeouts.shutdown,
        ..http::HttpOptions::default()
    }
}
