//! Watchers: each follows a range through whatever happens to the nodes that it listens to.
//!
//! A watcher connects to any node, from where it was, and takes what comes until the node dies, the watch ends, or
//! the connection is cut; sometimes it dawdles. Of what it was told of a revision that was not whole yet it forgets
//! all, as a client does that resumes behind the last whole one. So what it keeps has to be the history of its
//! range, without a gap, a repetition or disorder, over all of its connections together; at the end it
//! is held against that ([`Watchers::judge`]). The order within a connection is checked as the events come.
//!
//! Where nodes forget, a watcher may come back for something that is gone. It is told so, and begins anew; what it was told
//! before and after are two histories, each whole.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, sleep, timeout};

use super::chronicle::{Chronicle, Deed};
use super::client;
use super::report::Findings;
use super::workload::Load;
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
    /// Whether nodes keep so little of the past that some is gone when a watcher asks for it.
    forgets: bool,
}

/// One of them.
struct Watcher {
    name: String,
    range: KeyRange,
    wants_previous: bool,
    /// What it was told before it had to begin anew.
    former: Vec<Told>,
    present: Told,
}

/// What was told without a gap.
#[derive(Default)]
struct Told {
    /// The first revision it was to be told of, once it has had a connection.
    first: Option<Revision>,
    /// All of this revision, and of those before it, was told.
    through: Revision,
    deeds: Vec<Deed>,
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
        load: Load,
        nodes: Rc<RefCell<Vec<String>>>,
    ) -> Watchers {
        let watcher = |number| {
            let prefix = match world.chance.below(3) {
                0 => String::new(),
                1 => "once/".to_string(),
                _ => format!("g{}/", world.chance.below(load.groups as u64)),
            };
            Watcher {
                name: format!("w{number} of {prefix:?}"),
                range: KeyRange::prefix(prefix),
                wants_previous: world.chance.below(2) == 0,
                former: Vec::new(),
                present: Told::default(),
            }
        };
        let watchers = Rc::new(RefCell::new((0..load.watchers).map(watcher).collect()));
        let (world, findings, forgets) = (world.clone(), findings.clone(), load.forgets);
        Watchers { world, findings, nodes, watchers, is_stopped: Rc::default(), forgets }
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
            while watcher.present.through < revision && Instant::now() < deadline {
                self.connect(watcher, Until::Told(revision, deadline)).await;
            }
            if watcher.present.through < revision {
                let (name, through) = (&watcher.name, watcher.present.through);
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
            from: watcher.present.first.map(|_| watcher.present.through + 1),
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
        match watcher.present.first {
            Some(_) if watching.next != watcher.present.through + 1 => {
                self.violation(watcher, &node, format!("it begins with {}", watching.next));
            }
            Some(_) => {}
            None => {
                let (first, through) = (Some(watching.next), watching.next - 1);
                watcher.present = Told { first, through, deeds: Vec::new() };
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
            if !self.world.runs(&node) || self.world.gave_up(&node).is_some() {
                break;
            }
            if self.world.chance.below(DAWDLES_ONE_IN) == 0 {
                sleep(Duration::from_millis(self.world.chance.below(DAWDLE_MS))).await;
            }
        }
        let through = watcher.forget_what_is_not_whole();
        self.world.note(format_args!("{} leaves {node} after {through}", watcher.name));
    }

    fn is_over(&self, watcher: &Watcher, until: Until) -> bool {
        match until {
            Until::Cut(at) => Instant::now() >= at || *self.is_stopped.borrow(),
            Until::Told(revision, at) => {
                watcher.present.through >= revision || Instant::now() >= at
            }
        }
    }

    fn note_end(&self, watcher: &mut Watcher, node: &str, start: u64, error: &RequestError) {
        self.world.note(format_args!("{} at {node}: {error}", watcher.name));
        match error {
            RequestError::Storage { .. } => self.findings.complain(node, start),
            RequestError::RevisionTrimmed { oldest, .. }
                if self.forgets && *oldest > watcher.present.through + 1 =>
            {
                watcher.forget_what_is_not_whole();
                let former = std::mem::take(&mut watcher.present);
                watcher.former.push(former);
            }
            RequestError::RevisionTrimmed { .. } | RequestError::SlowWatcher => {
                self.violation(watcher, node, error);
            }
            _ => {}
        }
    }

    /// Takes a batch: it goes on where the one before ended, and its events are in order.
    fn take(&self, watcher: &mut Watcher, node: &str, batch: &Batch) {
        if batch.through < watcher.present.through {
            self.violation(watcher, node, format!("it goes back to {}", batch.through));
        }
        for event in &batch.events {
            let last = watcher.present.deeds.last().map_or(0, |deed| deed.revision);
            if event.revision <= watcher.present.through || event.revision < last {
                let (revision, key) = (event.revision, &event.key);
                let what = format!("revision {revision} of {key} after {last} was told");
                self.violation(watcher, node, what);
            }
            let (record, previous) = (event.record.as_ref(), event.previous.as_ref());
            let previous = previous.filter(|_| watcher.wants_previous);
            match Deed::new(event.revision, &event.key, event.kind, record, previous) {
                Ok(deed) => watcher.present.deeds.push(deed),
                Err(what) => self.violation(watcher, node, what),
            }
        }
        watcher.present.through = watcher.present.through.max(batch.through);
    }

    /// Whether each watcher was told what the history has of its range, and nothing else.
    pub fn judge(&self, chronicle: &Chronicle) {
        for watcher in self.watchers.borrow().iter() {
            for told in watcher.former.iter().chain([&watcher.present]) {
                self.findings.checked(told.deeds.len() as u64);
                if let Err(what) = watcher.judge(told, chronicle) {
                    self.findings.violation(&self.world, what);
                }
            }
        }
    }
}

impl Watcher {
    /// Forgets what it was told of a revision that was not whole; says which is the last one that was.
    fn forget_what_is_not_whole(&mut self) -> Revision {
        let Told { through, deeds, .. } = &mut self.present;
        deeds.truncate(deeds.partition_point(|deed| deed.revision <= *through));
        *through
    }

    fn judge(&self, told: &Told, chronicle: &Chronicle) -> Result<(), String> {
        let Some(first) = told.first else { return Ok(()) };
        let history = chronicle.deeds().iter().filter(|deed| {
            let is_due = (first..=told.through).contains(&deed.revision);
            is_due && self.range.contains(deed.key.as_bytes())
        });
        let expected = history.cloned().map(|deed| match self.wants_previous {
            true => deed,
            false => Deed { previous: None, ..deed },
        });
        let mut deeds = told.deeds.iter();
        let mut pairs = expected.map(|deed| (deeds.next(), deed));
        if let Some((told, deed)) = pairs.find(|(told, deed)| *told != Some(deed)) {
            return Err(format!("{} was told {told:?} for {deed:?}", self.name));
        }
        match deeds.next() {
            Some(deed) => Err(format!("{} was told {deed:?}, which is not so", self.name)),
            None => Ok(()),
        }
    }
}
