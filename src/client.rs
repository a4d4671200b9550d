//! The HTTP client of a cluster: any server, retries within a deadline, and no write applied twice.
//!
//! ```text
//! put, get, scan …   kv.rs        what the store does, typed
//! items, history     items.rs     all of a range, page by page
//! stream             stream.rs    all of a range, as one stream of lines.rs
//!                    past.rs      what became of a key
//! txn                txn.rs       several at once
//! lease_…            leases.rs    leases;  keeper.rs keeps one alive
//! lock               lock.rs      who works alone
//! campaign, observe  election.rs  who leads;  both by queue.rs
//! status, join …     cluster.rs   what operators do
//! look_at            observe.rs   what one node says of itself
//! backup             backup.rs    all of the store, as a file
//!      │
//!   transport.rs     one operation: attempts, retries, redirects
//!      ├── servers.rs    whom to ask: the servers given, and those the cluster tells of
//!      └── writers.rs    the name of each write, by which a retry is known as one
//!   watch.rs         a stream of changes that outlives its connections;  events.rs reads it
//!   call.rs          what one exchange means: requests, bounded replies, refusals
//!   error.rs         what a caller learns when it does not work
//! ```
//!
//! Any node answers any request, so the client needs to find a live one and not the leader. It stays
//! with a server until that fails, then goes on to the next; in the background it asks `/raft/config`
//! for the others, so that it outlives the servers it was given.
//!
//! A write whose connection breaks, or that ends in 504, may have been applied. It carries an
//! `Idempotency-Key`, so sending it again is safe, and that is done until the deadline. What is still
//! unknown then is said to be unknown: see [`Applied`].
//!
//! Left out: TLS and authentication (the server has neither yet).

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;

mod backup;
mod call;
mod cluster;
mod election;
mod error;
mod events;
mod items;
mod keeper;
mod kv;
mod leases;
mod lines;
mod lock;
mod observe;
mod past;
mod queue;
mod servers;
mod stream;
mod transport;
mod txn;
mod watch;
mod writers;

pub use backup::{Backup, BackupError};
pub use cluster::{Compacting, Health, Join, LogLevel, Member, Members, Ready, Status};
pub use election::{ELECTION_PREFIX, Leader, Leadership, Observer};
pub use error::{Applied, ClientError, Problem};
pub use items::Items;
pub use keeper::{LeaseKeeper, LeaseLost};
pub use kv::{BadItem, Deleted, DeletedRange, Item, Page, ReadOptions, Scan, Value, Written};
pub use leases::{LeaseInfo, LeaseKeys, LeasePage};
pub use lock::{LOCK_PREFIX, Lock};
pub use observe::{Observation, Peer, Samples, Stats};
pub use past::{History, Version, VersionKind};
pub use queue::RecipeError;
pub use stream::Records;
pub use txn::{TxnAnswer, TxnDone, txn_document};
pub use watch::{Event, EventKind, Keys, Watch, Watcher};

/// Longest reply that is read, by default. It holds a value of the greatest length a server can be set
/// to (64 MiB) in base64, and pages of scans; a longer page is refused, and asked for in smaller ones.
const MAX_REPLY_BYTES: usize = 96 * 1024 * 1024;

/// A server that falls silent in the middle of a stream is given up after this: watches have a heartbeat every 15 s,
/// and the next bytes of a backup need no more than a disk.
const LONGEST_SILENCE: Duration = Duration::from_secs(40);

/// Long enough for several elections (of about 600 ms each), or for one slow write.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Names this client's writes and draws its pauses. Random, and never the same for two clients: the
    /// second would be answered with the outcomes of the first.
    pub seed: u128,
    /// How long one operation may take with all its retries.
    pub timeout: Duration,
    /// How long one attempt of it may take. Above the server's own `timeouts.write` (5 s), so that a
    /// slow write ends in the server's 504 and not in a broken connection.
    pub attempt_timeout: Duration,
    pub connect_timeout: Duration,
    /// How long to go on while no server takes a connection and nothing is in doubt: `timeout` for a
    /// program that outlasts a restart, less for a person who forgot to start a node.
    pub patience: Duration,
    pub max_reply_bytes: usize,
}

impl ClientOptions {
    pub fn new(seed: u128) -> ClientOptions {
        ClientOptions {
            seed,
            timeout: DEFAULT_TIMEOUT,
            patience: DEFAULT_TIMEOUT,
            attempt_timeout: Duration::from_secs(7),
            connect_timeout: Duration::from_secs(1),
            max_reply_bytes: MAX_REPLY_BYTES,
        }
    }
}

/// A client of one cluster. Cheap to clone; clones share connections and what they learn.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    http: reqwest::Client,
    servers: servers::Servers,
    writers: writers::Writers,
    pauses: transport::Pauses,
    options: ClientOptions,
}

impl Client {
    /// A client that starts with `servers`, each an `http://host:port` or `host:port`. Connects to
    /// none of them yet.
    pub fn new(servers: Vec<String>, options: ClientOptions) -> Result<Client, ClientError> {
        let http = reqwest::Client::builder()
            // Redirects are followed by `transport`, which keeps method, body and headers.
            .redirect(Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout(options.connect_timeout)
            .build()
            .map_err(ClientError::Setup)?;
        Ok(Client {
            shared: Arc::new(Shared {
                http,
                servers: servers::Servers::new(&servers)?,
                writers: writers::Writers::new(options.seed),
                pauses: transport::Pauses::new(options.seed),
                options,
            }),
        })
    }

    /// How long one operation may take with all its retries.
    pub fn timeout(&self) -> Duration {
        self.shared.options.timeout
    }

    /// The servers this client knows: the ones it was given first, then those it learned.
    pub fn servers(&self) -> Vec<String> {
        self.shared.servers.all()
    }

    /// The server the next request goes to.
    pub fn current_server(&self) -> String {
        self.shared.servers.current()
    }
}
