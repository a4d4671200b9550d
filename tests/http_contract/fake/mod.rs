//! A node behind the gateway: a map with revisions, and switches for what a test needs to go wrong.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use conuredb::actors::messages::*;
use conuredb::types::*;
use futures_util::stream;
use tokio::sync::{mpsc, watch};

mod store;
mod view;

use store::Store;
use view::Snapshot;

/// What a watch is to tell.
pub type Feeder = mpsc::UnboundedSender<Result<Arc<Batch>, RequestError>>;

type Map = BTreeMap<Bytes, Record>;

/// When all writes come, and how long after them all reads.
pub const NOW_MS: u64 = 1_000_000;
pub const READ_AFTER_MS: u64 = 250;

/// What the fake node is and does; shared by its actor and the test.
pub struct Fake {
    store: Mutex<Store>,
    /// Every request from the HTTP floor, as it came.
    pub writes: Mutex<Vec<Write>>,
    pub reads: Mutex<Vec<Read>>,
    pub joins: Mutex<Vec<Join>>,
    /// The watches that were asked for, and what feeds them.
    pub watches: Mutex<Vec<(Watch, Feeder)>>,
    /// What a backup is made of, and the backups that were asked for.
    pub backup: Mutex<Vec<Result<Bytes, RequestError>>>,
    pub backups: Mutex<Vec<TakeBackup>>,
    /// Answers every request that has an error to give, while it is set.
    pub fault: Mutex<Option<RequestError>>,
    /// What comes of every write, while it is set.
    outcome: Mutex<Option<Outcome>>,
    pub status: Mutex<Status>,
    /// The oldest revision that is kept.
    pub oldest: Mutex<Revision>,
    /// Requests wait while it is shut.
    pub gate: watch::Sender<bool>,
    /// How many requests have arrived.
    pub arrived: watch::Sender<usize>,
    node: Mutex<Option<Addr<Node>>>,
}

pub fn member(name: &str, port: u16) -> Member {
    Member {
        node_id: port.into(),
        name: name.to_owned(),
        raft_addr: format!("127.0.0.1:{port}"),
        http_addr: format!("http://127.0.0.1:{}", port + 1000),
        voter: port != 7003,
    }
}

impl Fake {
    pub fn new() -> Arc<Fake> {
        let status = Status {
            node_name: "node1".to_owned(),
            node_id: 7001,
            cluster_id: ClusterId(0xabc),
            role: Role::Leader,
            term: 3,
            leader: Some(member("node1", 7001)),
            commit_index: 12,
            applied_index: 11,
            last_log_index: 13,
            last_log_term: 3,
            snapshot_index: 5,
            snapshot_term: 2,
            first_log_index: 4,
            revision: 9,
            last_contact: Some(Duration::from_millis(4)),
            peers: BTreeMap::from([("node2".to_owned(), PeerProgress { match_index: 10, lag: 3 })]),
            member_count: 3,
            not_ready: Vec::new(),
            db_file_bytes: 4096,
            db_live_bytes: 2048,
            log_bytes: 512,
            compacting: false,
            compactions: 2,
            oldest_revision: 4,
        };
        Arc::new(Fake {
            store: Mutex::default(),
            writes: Mutex::default(),
            reads: Mutex::default(),
            joins: Mutex::default(),
            watches: Mutex::default(),
            backup: Mutex::default(),
            backups: Mutex::default(),
            fault: Mutex::new(None),
            outcome: Mutex::new(None),
            status: Mutex::new(status),
            oldest: Mutex::new(0),
            gate: watch::channel(true).0,
            arrived: watch::channel(0).0,
            node: Mutex::default(),
        })
    }

    /// Starts the actor. All messages go to one; the floor cannot tell.
    pub fn gateway(self: &Arc<Fake>) -> Gateway {
        let node = Node(self.clone()).start();
        *self.node.lock().unwrap() = Some(node.clone());
        Gateway {
            write: node.clone().recipient(),
            read: node.clone().recipient(),
            status: node.clone().recipient(),
            members: node.clone().recipient(),
            join: node.clone().recipient(),
            remove: node.clone().recipient(),
            transfer: node.clone().recipient(),
            watch: node.clone().recipient(),
            backup: node.clone().recipient(),
            compact: node.recipient(),
        }
    }

    pub fn fail_with(&self, error: RequestError) {
        *self.fault.lock().unwrap() = Some(error);
    }

    #[allow(dead_code, reason = "the tests of leases need it")]
    pub fn answer_with(&self, outcome: Outcome) {
        *self.outcome.lock().unwrap() = Some(outcome);
    }

    /// Ends the node; nobody answers any more.
    pub async fn stop(&self) {
        let node = self.node.lock().unwrap().clone().expect("a node that was started");
        node.send(Stop).await.expect("it runs");
    }

    pub async fn has_received(&self, count: usize) {
        self.arrived.subscribe().wait_for(|&arrived| arrived >= count).await.unwrap();
    }

    /// Stores so many keys at once, with values of this length.
    #[allow(dead_code, reason = "the test of memory needs it")]
    pub fn fill(&self, keys: usize, value_bytes: usize) {
        let mut store = self.store();
        let value = Bytes::from(vec![b'v'; value_bytes]);
        let (create_revision, mod_revision, version) = (1, 1, 1);
        let record = Record { create_revision, mod_revision, version, end: End::Never, value };
        let pairs = (0..keys).map(|n| (Bytes::from(format!("key{n:08}")), record.clone()));
        store.map = Arc::new(pairs.collect());
        (store.revision, store.past) = (1, vec![Arc::default()]);
    }

    async fn admit(&self) -> Result<(), RequestError> {
        self.arrived.send_modify(|arrived| *arrived += 1);
        self.gate.subscribe().wait_for(|&open| open).await.unwrap();
        self.fault.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }
}

struct Node(Arc<Fake>);

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for Node {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Actor for Node {
    type Context = Context<Self>;
}

impl Handler<Write> for Node {
    type Result = ResponseFuture<Result<Outcome, RequestError>>;

    fn handle(&mut self, write: Write, _: &mut Self::Context) -> Self::Result {
        let fake = self.0.clone();
        Box::pin(async move {
            fake.writes.lock().unwrap().push(write.clone());
            fake.admit().await?;
            let set = fake.outcome.lock().unwrap().clone();
            Ok(set.unwrap_or_else(|| fake.store().apply(write)))
        })
    }
}

impl Handler<Read> for Node {
    type Result = ResponseFuture<Result<ReadView, RequestError>>;

    fn handle(&mut self, read: Read, _: &mut Self::Context) -> Self::Result {
        let fake = self.0.clone();
        Box::pin(async move {
            fake.reads.lock().unwrap().push(read);
            fake.admit().await?;
            let store = fake.store();
            let view = Snapshot {
                revision: store.revision,
                oldest: *fake.oldest.lock().unwrap(),
                map: store.map.clone(),
                past: store.past.clone(),
                leases: store.leases.clone(),
            };
            let stale_for = match read.consistency {
                Consistency::Linearizable | Consistency::Lease => None,
                Consistency::Stale { .. } => Some(Duration::from_millis(120)),
            };
            Ok(ReadView { view: Arc::new(view), stale_for, now_ms: NOW_MS + READ_AFTER_MS })
        })
    }
}

impl Handler<GetStatus> for Node {
    type Result = MessageResult<GetStatus>;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.0.status.lock().unwrap().clone())
    }
}

impl Handler<GetMembers> for Node {
    type Result = MessageResult<GetMembers>;

    fn handle(&mut self, _: GetMembers, _: &mut Self::Context) -> Self::Result {
        let leader = self.0.status.lock().unwrap().leader.clone();
        let members = vec![member("node1", 7001), member("node2", 7002), member("node3", 7003)];
        MessageResult(Members { leader, members })
    }
}

impl Handler<Join> for Node {
    type Result = ResponseFuture<Result<(), RequestError>>;

    fn handle(&mut self, join: Join, _: &mut Self::Context) -> Self::Result {
        let fake = self.0.clone();
        fake.joins.lock().unwrap().push(join);
        Box::pin(async move { fake.admit().await })
    }
}

impl Handler<Remove> for Node {
    type Result = ResponseFuture<Result<(), RequestError>>;

    fn handle(&mut self, remove: Remove, _: &mut Self::Context) -> Self::Result {
        let fake = self.0.clone();
        Box::pin(async move {
            fake.admit().await?;
            match remove.name.as_str() {
                "node2" => Ok(()),
                _ => Err(RequestError::UnknownNode {
                    name: remove.name,
                    members: "node1, node2".to_owned(),
                }),
            }
        })
    }
}

impl Handler<Watch> for Node {
    type Result = Result<Watching, RequestError>;

    fn handle(&mut self, watch: Watch, _: &mut Self::Context) -> Self::Result {
        if let Some(error) = self.0.fault.lock().unwrap().clone() {
            return Err(error);
        }
        let revision = self.0.store().revision;
        let next = watch.from.unwrap_or(revision + 1);
        let (feeder, batches) = mpsc::unbounded_channel();
        self.0.watches.lock().unwrap().push((watch, feeder));
        let feed =
            stream::unfold(batches, async |mut batches| Some((batches.recv().await?, batches)));
        Ok(Watching { revision, next, feed: Box::pin(feed) })
    }
}

impl Handler<Transfer> for Node {
    type Result = ResponseFuture<Result<(), RequestError>>;

    fn handle(&mut self, _: Transfer, _: &mut Self::Context) -> Self::Result {
        let fake = self.0.clone();
        Box::pin(async move { fake.admit().await })
    }
}

impl Handler<TakeBackup> for Node {
    type Result = ResponseFuture<Result<Backup, RequestError>>;

    fn handle(&mut self, message: TakeBackup, _: &mut Self::Context) -> Self::Result {
        let fake = self.0.clone();
        fake.backups.lock().unwrap().push(message);
        Box::pin(async move {
            fake.admit().await?;
            let (cluster_id, revision) = (ClusterId(0xabc), fake.store().revision);
            let applied = LogId { term: 3, index: 11 };
            let chunks = Box::new(fake.backup.lock().unwrap().clone().into_iter());
            Ok(Backup { cluster_id, revision, applied, chunks })
        })
    }
}

impl Handler<Compact> for Node {
    type Result = ResponseFuture<Result<Compacting, RequestError>>;

    /// The first begins it, those after find it under way.
    fn handle(&mut self, _: Compact, _: &mut Self::Context) -> Self::Result {
        let fake = self.0.clone();
        Box::pin(async move {
            fake.admit().await?;
            let mut status = fake.status.lock().unwrap();
            let begun = !std::mem::replace(&mut status.compacting, true);
            Ok(Compacting { begun, file_bytes: 4096, live_bytes: 2048, free_bytes: 1024 })
        })
    }
}
