//! The actor and its feeds over a real store in memory, against what the store tells of its whole history.

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::{sleep, timeout};

use super::*;
use crate::actors::in_paused_time;
use crate::actors::messages::{Batch, ChangeKind, Feed};
use crate::storage::disk::{Disk, MemDisk};
use crate::storage::kv::{Entry, Kv, Payload};
use crate::storage::store::StoreOptions;
use crate::types::{Command, Condition, Key, Lifetime, LogId, Operation, Outcome};

/// How long anything may take, in the paused time of the tests.
const PATIENCE: Duration = Duration::from_secs(600);

const PROGRESS_EVERY: Duration = Duration::from_secs(15);

/// What happened: revision, key, kind, and the value that was put.
type Told = (Revision, Bytes, ChangeKind, Option<Bytes>);

/// A store, and the actor that tells of it.
struct World {
    kv: Kv,
    next_index: u64,
    applied: watch::Sender<u64>,
    metrics: Arc<Metrics>,
    actor: Addr<WatchActor>,
}

impl World {
    fn new() -> World {
        let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
        let kv = Kv::open(disk, StoreOptions { cache_bytes: 16 << 20 }).expect("an empty disk");
        let (applied, changes) = watch::channel(0);
        let metrics = Arc::new(Metrics::new("test"));
        let actor = WatchActor::new(kv.reader(), changes, metrics.clone()).start();
        World { kv, next_index: 0, applied, metrics, actor }
    }

    fn apply(&mut self, operations: Vec<Operation>) -> Vec<Outcome> {
        let entries = operations.into_iter().zip(self.next_index..).map(|(operation, index)| {
            let command = Command { time_ms: 0, request_id: None, operation };
            Entry { id: LogId { term: 1, index }, payload: Payload::Command(command) }
        });
        let entries: Vec<Entry> = entries.collect();
        self.next_index += entries.len() as u64;
        let outcomes = self.kv.apply(entries).expect("no I/O fails");
        self.applied.send_replace(self.next_index);
        outcomes
    }

    fn revision(&self) -> Revision {
        self.kv.reader().snapshot().revision()
    }

    async fn ask(&self, question: Watch) -> Result<Watching, RequestError> {
        self.actor.send(question).await.expect("the actor lives")
    }

    async fn watch(&self, range: KeyRange, from: Option<Revision>) -> Feed {
        self.ask(question(range, from)).await.expect("a watch").feed
    }

    /// What a watch of `range` from `from` on must have told.
    fn history(&self, range: &KeyRange, from: Revision) -> Vec<Told> {
        let changes = self.kv.reader().snapshot().changes(from, false).expect("a kept revision");
        let changes = changes.map(|change| change.expect("a read"));
        let wanted = changes.filter(|change| range.contains(change.key.as_bytes()));
        wanted
            .map(|it| (it.revision, it.key.into_bytes(), it.kind, it.record.map(|r| r.value)))
            .collect()
    }
}

fn question(range: KeyRange, from: Option<Revision>) -> Watch {
    Watch { range, from, previous: false, progress_every: PROGRESS_EVERY }
}

fn all() -> KeyRange {
    KeyRange::default()
}

fn key(text: &str) -> Key {
    Key::new(Bytes::copy_from_slice(text.as_bytes())).expect("a short key")
}

fn put(text: &str, value: impl Into<Bytes>) -> Operation {
    Operation::Put {
        key: key(text),
        value: value.into(),
        condition: Condition::None,
        lifetime: Lifetime::Unbounded,
    }
}

fn told_by(batch: &Batch) -> impl Iterator<Item = Told> + '_ {
    batch.events.iter().map(|it| {
        let value = it.record.as_ref().map(|record| record.value.clone());
        (it.revision, it.key.clone().into_bytes(), it.kind, value)
    })
}

/// What `feed` has at hand, and what comes until it has told all `through` a revision.
async fn told_through(feed: &mut Feed, through: Revision) -> Vec<Told> {
    let mut told = Vec::new();
    loop {
        let batch = timeout(PATIENCE, feed.next()).await.expect("in time");
        let batch = batch.expect("no end").expect("no error");
        told.extend(told_by(&batch));
        if batch.through >= through {
            return told;
        }
    }
}

async fn end_of(feed: &mut Feed) -> RequestError {
    loop {
        match timeout(PATIENCE, feed.next()).await.expect("in time") {
            Some(Ok(_)) => {}
            Some(Err(reason)) => return reason,
            None => panic!("it ended without a reason"),
        }
    }
}

/// A watcher that resumes like a client that knows nothing but ids.
struct Client {
    range: KeyRange,
    from: Revision,
    feed: Feed,
    told: Vec<Told>,
    through: Revision,
}

impl Client {
    fn take(&mut self, batch: &Batch) {
        assert!(batch.through >= self.through, "the position went back");
        let is_new = |(revision, ..): &Told| *revision > self.through;
        assert!(told_by(batch).all(|told| is_new(&told)), "a whole revision came again");
        self.told.extend(told_by(batch));
        self.through = batch.through;
    }

    async fn resume(&mut self, world: &World) {
        self.told.retain(|(revision, ..)| *revision <= self.through);
        self.feed = world.watch(self.range.clone(), Some(self.through + 1)).await;
    }
}

fn random_key(rng: &mut StdRng) -> String {
    let len = rng.random_range(1..4);
    (0..len).map(|_| rng.random_range('a'..'d')).collect()
}

fn random_range(rng: &mut StdRng) -> KeyRange {
    let (a, b) = (Bytes::from(random_key(rng)), Bytes::from(random_key(rng)));
    match rng.random_range(0..4) {
        0 => all(),
        1 => KeyRange::prefix(a),
        2 => KeyRange { start: a.clone(), end: Some([&a[..], b"\0"].concat().into()) },
        _ => KeyRange { start: a.clone().min(b.clone()), end: Some(a.max(b)) },
    }
}

fn random_operation(rng: &mut StdRng) -> Operation {
    match rng.random_range(0..20) {
        0 => Operation::DeleteRange { range: random_range(rng) },
        1..4 => Operation::Delete { key: key(&random_key(rng)), condition: Condition::None },
        n => put(&random_key(rng), vec![n; rng.random_range(0..40)]),
    }
}

/// Watchers of overlapping ranges that begin anywhere, are slow or quick, and break off at random points.
async fn watch_at_random(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new();
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..100 {
        let count = rng.random_range(1..60);
        world.apply((0..count).map(|_| random_operation(&mut rng)).collect());
        if clients.len() < 20 {
            let range = random_range(&mut rng);
            let from = rng.random_range(1..world.revision() + 20);
            let feed = world.watch(range.clone(), Some(from)).await;
            clients.push(Client { range, from, feed, told: Vec::new(), through: from - 1 });
        }
        for client in &mut clients {
            for _ in 0..rng.random_range(0..6) {
                match client.feed.next().now_or_never() {
                    Some(batch) => client.take(&batch.expect("no end").expect("no error")),
                    None => tokio::task::yield_now().await,
                }
            }
            if rng.random_bool(0.05) {
                client.resume(&world).await;
            }
        }
    }
    let last = world.revision();
    for client in &mut clients {
        while client.through < last {
            let batch = timeout(PATIENCE, client.feed.next()).await.expect("in time");
            client.take(&batch.expect("no end").expect("no error"));
        }
        assert_eq!(client.told, world.history(&client.range, client.from));
    }
}

#[test]
fn a_watch_tells_each_change_once_and_in_order_wherever_it_breaks_off() {
    for seed in 0..10 {
        println!("seed {seed}");
        in_paused_time(watch_at_random(seed));
    }
}

/// A revision of more keys than a piece of history, or a batch, has.
#[test]
fn a_large_revision_has_one_end() {
    in_paused_time(async {
        let mut world = World::new();
        world.apply((0..3_000).map(|n| put(&format!("k{n:04}"), "v")).collect());
        let mut live = world.watch(all(), None).await;
        assert!(live.next().now_or_never().is_none());
        sleep(Duration::from_millis(1)).await;
        world.apply(vec![Operation::DeleteRange { range: all() }]);
        let deleted = world.revision();
        let mut history = world.watch(all(), Some(deleted)).await;
        for feed in [&mut live, &mut history] {
            let mut told = Vec::new();
            while told.len() < 3_000 {
                let batch = timeout(PATIENCE, feed.next()).await.expect("in time");
                let batch = batch.expect("no end").expect("no error");
                told.extend(told_by(&batch));
                let is_last = told.len() == 3_000;
                assert_eq!(batch.through >= deleted, is_last, "{} were told", told.len());
            }
            assert_eq!(told, world.history(&all(), deleted));
        }
    });
}

#[test]
fn a_slow_watcher_is_cut_while_others_go_on() {
    in_paused_time(async {
        let mut world = World::new();
        let (mut slow, mut quick) =
            (world.watch(all(), None).await, world.watch(all(), None).await);
        assert!(slow.next().now_or_never().is_none() && quick.next().now_or_never().is_none());
        // Their places are taken when the actor has had its turn.
        sleep(Duration::from_millis(1)).await;
        assert!(slow.next().now_or_never().is_none() && quick.next().now_or_never().is_none());
        let mut told = Vec::new();
        for round in 0..=mailbox::MAX_EVENTS / 100 {
            world.apply((0..100).map(|n| put("k", format!("{round}.{n}"))).collect());
            told.extend(told_through(&mut quick, world.revision()).await);
        }
        assert_eq!(end_of(&mut slow).await, RequestError::SlowWatcher);
        assert_eq!(told, world.history(&all(), 1));
        assert_eq!((world.metrics.watchers_cut.get(), world.metrics.watchers.get()), (1, 2));
        drop(slow);
        let last = world.revision();
        world.apply(vec![put("k", "after")]);
        assert_eq!(told_through(&mut quick, last + 1).await.len(), 1);
        assert_eq!(world.metrics.watchers.get(), 1);
    });
}

/// Each of them is within its own bound.
#[test]
fn what_waits_for_all_watchers_together_is_bounded() {
    in_paused_time(async {
        let mut world = World::new();
        let value = Bytes::from(vec![b'v'; 1 << 20]);
        let count = fanout::MAX_HELD_BYTES / value.len() + 10;
        let mut feeds = Vec::new();
        for n in 0..count {
            let mut feed = world.watch(KeyRange::prefix(format!("{n:04}")), None).await;
            assert!(feed.next().now_or_never().is_none());
            feeds.push(feed);
        }
        sleep(Duration::from_millis(10)).await;
        for feed in &mut feeds {
            assert!(feed.next().now_or_never().is_none());
        }
        for n in 0..count {
            world.apply(vec![put(&format!("{n:04}"), value.clone())]);
            sleep(Duration::from_millis(5)).await;
        }
        let cut = world.metrics.watchers_cut.get();
        assert!((10..20).contains(&cut), "{cut} were cut");
        let told = feeds.iter_mut().map(|feed| feed.next().now_or_never());
        let told = told.filter(|batch| matches!(batch, Some(Some(Ok(_))))).count();
        assert_eq!(told as u64, count as u64 - cut);
    });
}

#[test]
fn a_silent_watch_says_how_far_it_has_come() {
    in_paused_time(async {
        let mut world = World::new();
        let mut feed = world.watch(KeyRange::prefix("quiet"), None).await;
        assert!(feed.next().now_or_never().is_none());
        sleep(Duration::from_millis(1)).await;
        assert!(feed.next().now_or_never().is_none());
        world.apply(vec![put("loud", "1"), put("loud", "2")]);
        let began = tokio::time::Instant::now();
        let batch = feed.next().await.expect("no end").expect("no error");
        assert!(began.elapsed() >= PROGRESS_EVERY && batch.events.is_empty());
        assert_eq!(batch.through, 2);
    });
}

#[test]
fn a_watch_waits_for_a_revision_to_come() {
    in_paused_time(async {
        let mut world = World::new();
        world.apply(vec![put("a", "1")]);
        let mut feed = world.watch(all(), Some(4)).await;
        for n in 2..5 {
            assert!(feed.next().now_or_never().is_none(), "revision {n} is not there");
            world.apply(vec![put("a", n.to_string())]);
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(told_through(&mut feed, 4).await, world.history(&all(), 4));
    });
}

#[test]
fn what_is_trimmed_is_refused_and_ends_a_watch() {
    in_paused_time(async {
        let mut world = World::new();
        world.apply(vec![put("a", "1"); 10]);
        let mut behind = world.watch(all(), Some(1)).await;
        for _ in 0..8 {
            world.apply(vec![put("a", "1"); 10_000]);
        }
        let state = world.kv.reader().snapshot();
        let reason = RequestError::RevisionTrimmed {
            oldest: state.oldest_revision() + 1,
            revision: state.revision(),
        };
        assert_eq!(end_of(&mut behind).await, reason);
        let refused = world.ask(question(all(), Some(state.oldest_revision()))).await;
        assert_eq!(refused.err(), Some(reason));
        assert!(world.ask(question(all(), Some(state.oldest_revision() + 1))).await.is_ok());
    });
}

#[test]
fn who_waits_for_what_is_kept_resumes_at_a_node_that_was_far_behind() {
    in_paused_time(async {
        let mut world = World::new();
        world.apply(vec![put("a", "1")]);
        let mut ahead = world.watch(all(), Some(80_000)).await;
        assert!(ahead.next().now_or_never().is_none());
        sleep(Duration::from_millis(5)).await;
        // All at once, as a snapshot does it: the hub sees the last state only.
        for _ in 0..8 {
            world.apply(vec![put("a", "1"); 10_000]);
        }
        assert!(world.kv.reader().snapshot().oldest_revision() > 1);
        assert!(matches!(end_of(&mut ahead).await, RequestError::NotReady { .. }));
        let mut resumed = world.watch(all(), Some(80_000)).await;
        assert_eq!(told_through(&mut resumed, 80_001).await, world.history(&all(), 80_000));
    });
}

#[test]
fn a_watch_ends_with_the_life_of_the_store_and_with_the_node() {
    in_paused_time(async {
        let mut world = World::new();
        world.apply(vec![put("a", "1")]);
        let mut live = world.watch(all(), None).await;
        assert!(live.next().now_or_never().is_none());
        sleep(Duration::from_millis(1)).await;
        let mut history = world.watch(all(), Some(1)).await;
        world.kv.wipe().expect("no I/O fails");
        world.applied.send_replace(0);
        for feed in [&mut live, &mut history] {
            assert_eq!(end_of(feed).await, new_life());
            assert!(feed.next().await.is_none());
        }
        let mut live = world.watch(all(), None).await;
        let mut history = world.watch(all(), Some(1)).await;
        assert!(live.next().now_or_never().is_none());
        world.actor.send(Close).await.expect("the actor lives");
        for feed in [&mut live, &mut history] {
            assert_eq!(end_of(feed).await, closing());
        }
    });
}

/// Prefixes within prefixes: every change is of ten watches, nine of which are of that key's branch alone.
#[test]
fn a_thousand_watchers_of_overlapping_prefixes_are_told_what_is_theirs() {
    in_paused_time(async {
        let mut world = World::new();
        let prefix = |n: usize| format!("{n:03}").chars().rev().collect::<String>();
        let mut feeds = Vec::new();
        for n in 0..1_000 {
            let prefix = prefix(n);
            let range = KeyRange::prefix(prefix[..n % 4].to_owned());
            let mut feed = world.watch(range.clone(), None).await;
            assert!(feed.next().now_or_never().is_none());
            feeds.push((range, feed));
        }
        sleep(Duration::from_millis(50)).await;
        for round in 0..10 {
            let puts = (0..100).map(|n| put(&prefix((n * 37 + round) % 1_000), "v"));
            world.apply(puts.collect());
        }
        let last = world.revision();
        for (range, feed) in &mut feeds {
            let history = world.history(range, 1);
            let mut told = Vec::new();
            while told.len() < history.len() {
                let batch = timeout(PATIENCE, feed.next()).await.expect("in time");
                let batch = batch.expect("no end").expect("no error");
                assert!(batch.through <= last);
                told.extend(told_by(&batch));
            }
            assert_eq!(told, history);
        }
    });
}
