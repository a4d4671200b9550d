//! Watchers: each follows a range through whatever happens to the nodes that it listens to.
//!
//! A watcher connects to any node, from where it was, and takes what comes until the node dies, the watch ends, or
//! the connection is cut; sometimes it dawdles. Of what it was told of a revision that was not whole yet it forgets
//! all, as a client does that resumes behind the last whole one. So what it keeps has to be the history of its
//! range, without a gap, a repetition or disorder, over all of its connections together; at the end it
//! is held against that ([`Watchers::judge`]). The order within a connection is checked as the events come.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, sleep, timeout};

use super::chronicle::{Chronicle, Deed};
use super::client;
use super::report::Findings;
use super::world::World;
use crate::actors::messages::{Batch, RequestError, Watch};
use crate::types::{KeyRange, Revision};

/// How often a watcher looks whether its node still runs.
const LOOK_EVERY: Duration = Duration::from_millis(40);

/// A silent watch says so often how far it has come.
const PROGRESS_EVERY: Duration = Duration::from_millis(300);

/// Longest life of a connection, which its client then cuts.
const CONNECTION_MS: u64 = 4_000;

/// Longest time for which a watcher takes nothing, and how rarely it does so.
const DAWDLE_MS: u64 = 500;
const DAWDLES_ONE_IN: u64 = 40;

/// Pause before a watcher that was refused tries another node.
const RETRY_MS: u64 = 200;

/// All watchers of a run.
#[derive(Clone)]
pub struct Watchers {
    world: World,
    findings: Findings,
    nodes: Rc<RefCell<Vec<String>>>,
    watchers: Rc<RefCell<Vec<Watcher>>>,
    is_stopped: Rc<RefCell<bool>>,
}

/// One of them.
struct Watcher {
    name: String,
    range: KeyRange,
    wants_previous: bool,
    /// The first revision it was to be told of, once it has had a connection.
    first: Option<Revision>,
    /// All of this revision, and of those before it, was told.
    through: Revision,
    told: Vec<Deed>,
}

/// When a connection is given up.
#[derive(Clone, Copy)]
enum Until {
    /// Then, or when the run is stopped.
    Cut(Instant),
    /// When all up to a revision was told, or then.
    Told(Revision, Instant),
}

impl Watchers {
    /// So many watchers, of all keys, of a group's, or of the keys that are written once.
    pub fn new(
        world: &World,
        findings: &Findings,
        count: usize,
        groups: usize,
        nodes: Rc<RefCell<Vec<String>>>,
    ) -> Watchers {
        let watcher = |number| {
            let prefix = match world.chance.below(3) {
                0 => String::new(),
                1 => "once/".to_string(),
                _ => format!("g{}/", world.chance.below(groups as u64)),
            };
            Watcher {
                name: format!("w{number} of {prefix:?}"),
                range: KeyRange::prefix(prefix),
                wants_previous: world.chance.below(2) == 0,
                first: None,
                through: 0,
                told: Vec::new(),
            }
        };
        let watchers = Rc::new(RefCell::new((0..count).map(watcher).collect()));
        let (world, findings) = (world.clone(), findings.clone());
        Watchers { world, findings, nodes, watchers, is_stopped: Rc::default() }
    }

    pub fn stop(&self) {
        *self.is_stopped.borrow_mut() = true;
    }

    /// Runs all watchers until [`Watchers::stop`].
    pub async fn run(&self) {
        self.each(async |watcher| {
            while !*self.is_stopped.borrow() {
                let lasts = Duration::from_millis(1 + self.world.chance.below(CONNECTION_MS));
                self.connect(watcher, Until::Cut(Instant::now() + lasts)).await;
            }
        })
        .await;
    }

    /// Has all watchers come as far as `revision`, on a cluster that is well, within `limit`.
    pub async fn catch_up(&self, revision: Revision, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.each(async |watcher| {
            while watcher.through < revision && Instant::now() < deadline {
                self.connect(watcher, Until::Told(revision, deadline)).await;
            }
            if watcher.through < revision {
                let (name, through) = (&watcher.name, watcher.through);
                let what = format!("{name} came to revision {through} of {revision} in {limit:?}");
                self.findings.violation(&self.world, what);
            }
        })
        .await;
    }

    async fn each(&self, act: impl AsyncFn(&mut Watcher)) {
        let mut watchers = std::mem::take(&mut *self.watchers.borrow_mut());
        futures_util::future::join_all(watchers.iter_mut().map(|watcher| act(watcher))).await;
        *self.watchers.borrow_mut() = watchers;
    }

    fn any_node(&self) -> String {
        let nodes = self.nodes.borrow();
        nodes[self.world.chance.below(nodes.len() as u64) as usize].clone()
    }

    fn violation(&self, watcher: &Watcher, node: &str, what: impl std::fmt::Display) {
        self.findings.violation(&self.world, format!("{} at {node}: {what}", watcher.name));
    }

    /// One connection, from its question to its end.
    async fn connect(&self, watcher: &mut Watcher, until: Until) {
        let node = self.any_node();
        let start = self.world.starts(&node);
        let question = Watch {
            range: watcher.range.clone(),
            from: watcher.first.map(|_| watcher.through + 1),
            previous: watcher.wants_previous,
            progress_every: PROGRESS_EVERY,
        };
        let watching = match client::watch(&self.world, &node, question).await {
            Ok(watching) => watching,
            Err(error) => {
                self.note_end(watcher, &node, start, &error);
                sleep(Duration::from_millis(1 + self.world.chance.below(RETRY_MS))).await;
                return;
            }
        };
        match watcher.first {
            Some(_) if watching.next != watcher.through + 1 => {
                self.violation(watcher, &node, format!("it begins with {}", watching.next));
            }
            Some(_) => {}
            None => {
                (watcher.first, watcher.through) = (Some(watching.next), watching.next - 1);
            }
        }
        let (name, next) = (&watcher.name, watching.next);
        self.world.note(format_args!("{name} listens to {node} from {next}"));
        let mut feed = watching.feed;
        while !self.is_over(watcher, until) && self.world.starts(&node) == start {
            match timeout(LOOK_EVERY, feed.next()).await {
                Err(_) => {}
                Ok(Some(Ok(batch))) => self.take(watcher, &node, &batch),
                Ok(Some(Err(error))) => {
                    self.note_end(watcher, &node, start, &error);
                    break;
                }
                Ok(None) => {
                    self.violation(watcher, &node, "the watch ended without a reason");
                    break;
                }
            }
            if !self.world.runs(&node) {
                break;
            }
            if self.world.chance.below(DAWDLES_ONE_IN) == 0 {
                sleep(Duration::from_millis(self.world.chance.below(DAWDLE_MS))).await;
            }
        }
        let through = watcher.through;
        watcher.told.truncate(watcher.told.partition_point(|deed| deed.revision <= through));
        self.world.note(format_args!("{} leaves {node} after {through}", watcher.name));
    }

    fn is_over(&self, watcher: &Watcher, until: Until) -> bool {
        match until {
            Until::Cut(at) => Instant::now() >= at || *self.is_stopped.borrow(),
            Until::Told(revision, at) => watcher.through >= revision || Instant::now() >= at,
        }
    }

    fn note_end(&self, watcher: &Watcher, node: &str, start: u64, error: &RequestError) {
        self.world.note(format_args!("{} at {node}: {error}", watcher.name));
        match error {
            RequestError::Storage { .. } => self.findings.complain(node, start),
            RequestError::RevisionTrimmed { .. } | RequestError::SlowWatcher => {
                self.violation(watcher, node, error);
            }
            _ => {}
        }
    }

    /// Takes a batch: it goes on where the one before ended, and its events are in order.
    fn take(&self, watcher: &mut Watcher, node: &str, batch: &Batch) {
        if batch.through < watcher.through {
            self.violation(watcher, node, format!("it goes back to {}", batch.through));
        }
        for event in &batch.events {
            let last = watcher.told.last().map_or(0, |deed| deed.revision);
            if event.revision <= watcher.through || event.revision < last {
                let (revision, key) = (event.revision, &event.key);
                let what = format!("revision {revision} of {key} after {last} was told");
                self.violation(watcher, node, what);
            }
            let (record, previous) = (event.record.as_ref(), event.previous.as_ref());
            let previous = previous.filter(|_| watcher.wants_previous);
            match Deed::new(event.revision, &event.key, event.kind, record, previous) {
                Ok(deed) => watcher.told.push(deed),
                Err(what) => self.violation(watcher, node, what),
            }
        }
        watcher.through = watcher.through.max(batch.through);
    }

    /// Whether each watcher was told what the history has of its range, and nothing else.
    pub fn judge(&self, chronicle: &Chronicle) {
        for watcher in self.watchers.borrow().iter() {
            self.findings.checked(watcher.told.len() as u64);
            let Some(first) = watcher.first else { continue };
            let history = chronicle.deeds().iter().filter(|deed| {
                let is_due = (first..=watcher.through).contains(&deed.revision);
                is_due && watcher.range.contains(deed.key.as_bytes())
            });
            let expected = history.cloned().map(|deed| match watcher.wants_previous {
                true => deed,
                false => Deed { previous: None, ..deed },
            });
            let mut told = watcher.told.iter();
            let wrong = expected.map(|deed| (told.next(), deed));
            let wrong = wrong.into_iter().find(|(told, deed)| *told != Some(deed));
            if let Some((told, deed)) = wrong {
                let what = format!("{} was told {told:?} for {deed:?}", watcher.name);
                self.findings.violation(&self.world, what);
            } else if let Some(deed) = told.next() {
                let what = format!("{} was told {deed:?}, which is not so", watcher.name);
                self.findings.violation(&self.world, what);
            }
        }
    }
}
