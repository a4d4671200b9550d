//! The watch actor: tells watchers of applied changes, on every node from its own applied state.
//!
//! ```text
//!   storage actor ── applied index ──▶ watch actor ── batches ──▶ mailboxes ──▶ feeds (polled by HTTP workers)
//!        │                                  │                                     │
//!        └── commits roots ──▶ pinned state ┴── change index ── walked by both ───┘
//! ```
//!
//! Nothing is copied on the apply path. When a batch was applied and somebody watches, the actor pins the newest
//! state and reads from its change index what is new (`fanout`); while it does so more may be applied, and
//! is read in the next round. When nobody watches, it does not even wait for the index.
//!
//! A feed (`feed`) first reads history from the change index by itself, piece by piece and at the speed of
//! its client, from a state that it pins anew for each piece, so that a slow client keeps no pages. When it
//! has nearly caught up it asks to be attached: from the actor's position on, all batches come to its `mailbox`. It
//! reads up to that position and goes over to the mailbox, leaving out what it has read already. So there is
//! neither a gap nor a repetition at the seam, and it does not matter how far the two were apart.
//!
//! A watcher that does not take its batches is cut, and resumes from where it was; it then reads history until it
//! keeps up. Snapshots that are installed bring the change index along. If that does not reach back to a
//! watcher's position, or the node begins a new life with an empty store, the watch ends and says so.
//!
//! Left out: many watchers that resume at once read the same history each for itself.

mod fanout;
mod feed;
mod index;
mod mailbox;
mod share;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::watch;

use self::fanout::{Fanout, Member};
use self::feed::WatcherFeed;
use self::mailbox::Mailbox;
pub use self::share::Share;
use super::messages::inside::Close;
use super::messages::{RequestError, Watch, Watching};
use super::raft::context::DAMAGED;
use crate::metrics::Metrics;
use crate::plants::{Plant, planted};
use crate::storage::kv::{KvReader, PastError};
use crate::types::{KeyRange, Revision};

/// After a round there is a pause of a millisecond for so many streams that it woke. To wake one and to write to its
/// socket takes about as long, and changes that come meanwhile share the next: a thousand streams cost a bounded
/// part of the machine, at the price of some milliseconds, and a few have each change at once.
const STREAMS_PER_PAUSE_MS: u32 = 100;

/// Tells one watcher from another.
type WatcherId = u64;

/// From a feed that has nearly caught up: send batches to its mailbox from now on.
#[derive(Message)]
#[rtype(result = "()")]
struct Attach(WatcherId);

/// From a feed that is dropped.
#[derive(Message)]
#[rtype(result = "()")]
struct Detach(WatcherId);

/// A watcher, attached or not.
struct Watcher {
    range: KeyRange,
    previous: bool,
    mailbox: Arc<Mailbox>,
}

/// See the module.
pub struct WatchActor {
    reader: KvReader,
    /// Changes with every applied batch.
    applied: watch::Receiver<u64>,
    metrics: Arc<Metrics>,
    watchers: BTreeMap<WatcherId, Watcher>,
    last_id: WatcherId,
    fanout: Fanout,
    /// The life of the store that `position` belongs to.
    life: u64,
    /// All of this revision, and of those before it, is in the mailboxes.
    position: Arc<AtomicU64>,
    /// Whether a round will come with the next applied batch.
    is_following: bool,
}

impl WatchActor {
    pub fn new(
        reader: KvReader,
        applied: watch::Receiver<u64>,
        metrics: Arc<Metrics>,
    ) -> WatchActor {
        let (life, state) = reader.snapshot_in_life();
        let position = Arc::new(AtomicU64::new(state.revision()));
        WatchActor {
            reader,
            applied,
            metrics,
            watchers: BTreeMap::new(),
            last_id: 0,
            fanout: Fanout::default(),
            life,
            position,
            is_following: false,
        }
    }

    /// Has a round come with the next applied batch.
    fn follow(&mut self, pause: Duration, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.is_following, true) {
            return;
        }
        // A clone has seen what this one has seen last, so nothing that is applied meanwhile is missed.
        let mut applied = self.applied.clone();
        let next = async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            applied.changed().await
        };
        ctx.spawn(next.into_actor(self).map(|changed, actor, ctx| {
            actor.is_following = false;
            if changed.is_err() {
                actor.end_all(closing());
            } else if !actor.fanout.is_empty() {
                let woken = actor.round();
                let pause_ms = woken / STREAMS_PER_PAUSE_MS;
                actor.follow(Duration::from_millis(pause_ms.into()), ctx);
            }
        }));
    }

    /// Tells what was applied since the last round; returns how many streams it woke.
    fn round(&mut self) -> u32 {
        self.applied.borrow_and_update();
        let (life, state) = self.reader.snapshot_in_life();
        let position = self.position.load(Ordering::Relaxed);
        if life != self.life {
            self.life = life;
            self.fanout.end_all(&new_life());
        } else if state.revision() > position {
            let missed = u64::from(planted(Plant::WatchMissesBatchBoundary));
            match self.fanout.spread(&state, position + 1 + missed) {
                Ok(spread) => {
                    self.metrics.watchers_cut.inc_by(spread.cut);
                    self.position.store(state.revision(), Ordering::Release);
                    return spread.woken;
                }
                // What is trimmed is what this node had come to: a snapshot brought it far beyond. Which of it
                // a watcher needs, its next question tells.
                Err(PastError::Trimmed { .. }) => self.fanout.end_all(&overtaken()),
                Err(error) => self.fanout.end_all(&past_error(error, state.revision())),
            }
        }
        self.position.store(state.revision(), Ordering::Release);
        0
    }

    fn end_all(&mut self, reason: RequestError) {
        self.watchers.values().for_each(|watcher| watcher.mailbox.end(reason.clone()));
        self.fanout.end_all(&reason);
    }
}

impl Actor for WatchActor {
    type Context = Context<Self>;
}

impl Handler<Watch> for WatchActor {
    type Result = Result<Watching, RequestError>;

    fn handle(&mut self, question: Watch, ctx: &mut Self::Context) -> Self::Result {
        if self.reader.is_stand_in() {
            return Err(RequestError::NotReady { reason: DAMAGED.into() });
        }
        let (life, state) = self.reader.snapshot_in_life();
        let revision = state.revision();
        let next = question.from.unwrap_or(revision + 1).max(1);
        if next <= revision {
            state.changes(next, false).map_err(|error| past_error(error, revision))?;
        }
        self.last_id += 1;
        let mailbox = Arc::new(Mailbox::default());
        let watcher = Watcher {
            range: question.range.clone(),
            previous: question.previous,
            mailbox: mailbox.clone(),
        };
        self.watchers.insert(self.last_id, watcher);
        self.metrics.watchers.set(self.watchers.len() as u64);
        let feed = WatcherFeed::new(feed::Parts {
            id: self.last_id,
            hub: ctx.address(),
            mailbox,
            reader: self.reader.clone(),
            life,
            position: self.position.clone(),
            metrics: self.metrics.clone(),
            question,
            next,
        });
        Ok(Watching { revision, next, feed: Box::pin(feed) })
    }
}

impl Handler<Attach> for WatchActor {
    type Result = ();

    fn handle(&mut self, Attach(id): Attach, ctx: &mut Self::Context) {
        let Some(Watcher { range, previous, mailbox }) = self.watchers.get(&id) else { return };
        if self.fanout.is_empty() {
            // Nobody was told of anything for a while: the position is that of the newest state.
            self.applied.borrow_and_update();
            let (life, state) = self.reader.snapshot_in_life();
            self.life = life;
            self.position.store(state.revision(), Ordering::Release);
        }
        mailbox.attach(self.position.load(Ordering::Relaxed));
        let member = Member { id, previous: *previous, mailbox: mailbox.clone() };
        self.fanout.join(range, member);
        self.follow(Duration::ZERO, ctx);
    }
}

impl Handler<Detach> for WatchActor {
    type Result = ();

    fn handle(&mut self, Detach(id): Detach, _: &mut Self::Context) {
        if let Some(watcher) = self.watchers.remove(&id) {
            self.fanout.leave(&watcher.range, id);
        }
        self.metrics.watchers.set(self.watchers.len() as u64);
    }
}

impl Handler<Close> for WatchActor {
    type Result = ();

    /// Ends every watch; further ones find nobody.
    fn handle(&mut self, _: Close, ctx: &mut Self::Context) {
        self.end_all(closing());
        ctx.stop();
    }
}

fn closing() -> RequestError {
    RequestError::NotReady { reason: "this node is closing; resume at another".into() }
}

fn new_life() -> RequestError {
    let reason = "this node begins anew with an empty store; resume at another".into();
    RequestError::NotReady { reason }
}

fn overtaken() -> RequestError {
    let reason = "this node took over a newer state as a whole; resume, here or at another".into();
    RequestError::NotReady { reason }
}

/// Why changes cannot be read, on a node whose state is at `revision`.
fn past_error(error: PastError, revision: Revision) -> RequestError {
    match error {
        PastError::Trimmed { oldest } => RequestError::RevisionTrimmed { oldest, revision },
        // Nobody asks a state for what it has not come to.
        PastError::Future { .. } => new_life(),
        PastError::Storage(error) => RequestError::Storage { detail: error.to_string() },
    }
}
