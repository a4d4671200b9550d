//! What a watcher reads: history from the change index, then its mailbox, as one stream.
//!
//! ```text
//!   History ──▶ Attaching ──▶ Joining ──▶ Live
//!   nearly caught up │  position p of the fan-out │  read up to p
//! ```
//!
//! From `p` on all comes to the mailbox; what of it was read before, from a state newer than `p`, is left out. A watch
//! that begins with a revision to come leaves out all below it by the same rule.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use actix::Addr;
use futures_util::Stream;
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep};

use super::mailbox::Mailbox;
use super::{Attach, Detach, WatchActor, WatcherId, new_life, past_error};
use crate::actors::messages::{Batch, Event, RequestError, Watch};
use crate::metrics::Metrics;
use crate::storage::error::StorageError;
use crate::storage::kv::{Change, ChangeId, ChangeStep, KvReader};
use crate::types::Revision;

/// Events, and bytes of them, that are read from history at a time. They are of one watcher alone.
const PIECE_EVENTS: usize = 256;
const PIECE_BYTES: usize = 64 * 1024;

/// A feed that lacks so few revisions asks to be attached: what comes while it reads them waits in its mailbox.
const NEAR_REVISIONS: u64 = 1_024;

/// What a feed is made of.
pub struct Parts {
    pub id: WatcherId,
    pub hub: Addr<WatchActor>,
    pub mailbox: Arc<Mailbox>,
    pub reader: KvReader,
    /// The life of the store that the watch began in.
    pub life: u64,
    /// How far the mailboxes are filled.
    pub position: Arc<AtomicU64>,
    pub metrics: Arc<Metrics>,
    pub question: Watch,
    /// The first revision to tell of.
    pub next: Revision,
}

/// See the module.
pub struct WatcherFeed {
    parts: Parts,
    stage: Stage,
    /// The next change of the history.
    at: ChangeId,
    /// The last revision that all was told of.
    through: Revision,
    /// The revision of the last event: beyond `through` while more may come of it.
    last_told: Revision,
    silence: Option<Pin<Box<Sleep>>>,
    is_over: bool,
}

#[derive(Clone, Copy)]
enum Stage {
    History,
    Attaching,
    Joining(Revision),
    Live,
}

impl WatcherFeed {
    pub fn new(parts: Parts) -> WatcherFeed {
        WatcherFeed {
            stage: Stage::History,
            at: ChangeId { revision: parts.next, ordinal: 0 },
            through: parts.next - 1,
            last_told: 0,
            silence: None,
            is_over: false,
            parts,
        }
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<Batch>, RequestError>> {
        loop {
            if let Some(reason) = self.parts.mailbox.ended() {
                return Poll::Ready(Err(reason));
            }
            match self.stage {
                Stage::Live => return self.poll_live(cx),
                Stage::Attaching => match self.parts.mailbox.poll_attached(cx) {
                    Poll::Ready(position) => self.stage = Stage::Joining(position),
                    Poll::Pending => return Poll::Pending,
                },
                Stage::Joining(position)
                    if self.through >= position && self.is_whole(self.through) =>
                {
                    self.stage = Stage::Live;
                }
                Stage::History | Stage::Joining(_) => {
                    let (piece, lack) = self.read_piece()?;
                    if matches!(self.stage, Stage::History) && lack <= NEAR_REVISIONS {
                        self.parts.hub.do_send(Attach(self.parts.id));
                        self.stage = Stage::Attaching;
                    }
                    let ends_revision =
                        !self.is_whole(self.through) && self.is_whole(piece.through);
                    if !piece.events.is_empty() || ends_revision {
                        return Poll::Ready(Ok(Arc::new(piece)));
                    }
                    self.through = piece.through;
                    if lack > NEAR_REVISIONS {
                        // Nothing that is wanted so far. Others have their turn, and the runtime, which does not
                        // look for what came from outside while a task wakes itself.
                        let _ = pin!(yield_now()).poll(cx);
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// The next events of the history, and how many revisions are left.
    fn read_piece(&mut self) -> Result<(Batch, u64), RequestError> {
        let Parts { reader, life, question, .. } = &self.parts;
        let (present_life, state) = reader.snapshot_in_life();
        if present_life != *life {
            return Err(new_life());
        }
        let unreadable = |error: StorageError| RequestError::Storage { detail: error.to_string() };
        let revision = state.revision();
        let (mut events, mut len_bytes) = (Vec::new(), 0);
        let mut through = self.through;
        if self.at.revision <= revision {
            let walk = state.changes_from(self.at, question.previous);
            let mut walk = walk.map_err(|error| past_error(error, revision))?;
            let wanted = |key: &[u8]| question.range.contains(key);
            while events.len() < PIECE_EVENTS
                && len_bytes < PIECE_BYTES
                && let ChangeStep::Change(change) = walk.next_wanted(wanted).map_err(unreadable)?
            {
                let Change { revision, key, kind, record, previous } = change;
                let event = Event::new(revision, kind, key, record, previous);
                len_bytes += event.len_bytes();
                events.push(Arc::new(event));
            }
            through = walk.through(wanted).map_err(unreadable)?;
            self.at = walk.at();
        }
        let piece = Batch::new(events, through, question.previous, true);
        Ok((piece, revision.saturating_sub(through)))
    }

    fn poll_live(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<Batch>, RequestError>> {
        while let Poll::Ready(batch) = self.parts.mailbox.poll_next(cx) {
            if let Some(batch) = self.without_told(batch?) {
                return Poll::Ready(Ok(batch));
            }
        }
        let every = self.parts.question.progress_every;
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(every)));
        match silence.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                // Read first: what the mailbox then does not hold is of revisions after it.
                let position = self.parts.position.load(Ordering::Acquire);
                let is_all = self.parts.mailbox.is_empty();
                let through = if is_all { self.through.max(position) } else { self.through };
                let previous = self.parts.question.previous;
                Poll::Ready(Ok(Arc::new(Batch::new(Vec::new(), through, previous, false))))
            }
        }
    }

    /// A batch of the mailbox without what this feed has told, if something is left.
    fn without_told(&mut self, batch: Arc<Batch>) -> Option<Arc<Batch>> {
        let is_new = |event: &Arc<Event>| event.revision > self.through;
        if batch.events.first().is_some_and(is_new) {
            return Some(batch);
        }
        let events: Vec<_> = batch.events.iter().filter(|event| is_new(event)).cloned().collect();
        let through = batch.through.max(self.through);
        if events.is_empty() && self.is_whole(self.through) == self.is_whole(through) {
            self.through = through;
            return None;
        }
        Some(Arc::new(Batch::new(events, through, batch.with_previous, false)))
    }

    /// Whether nothing comes any more of a revision that was told of, if all is told `through` there.
    fn is_whole(&self, through: Revision) -> bool {
        self.last_told <= through
    }

    /// Notes what is told with `batch`.
    fn note(&mut self, batch: &Batch) {
        self.through = batch.through;
        self.last_told = batch.events.last().map_or(self.last_told, |last| last.revision);
        self.parts.metrics.watch_events.inc_by(batch.events.len() as u64);
        if let Some(silence) = &mut self.silence {
            silence.as_mut().reset(Instant::now() + self.parts.question.progress_every);
        }
    }
}

impl Stream for WatcherFeed {
    type Item = Result<Arc<Batch>, RequestError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let feed = self.get_mut();
        if feed.is_over {
            return Poll::Ready(None);
        }
        let polled = feed.poll_batch(cx);
        match &polled {
            Poll::Ready(Ok(batch)) => feed.note(batch),
            Poll::Ready(Err(_)) => feed.is_over = true,
            Poll::Pending => {}
        }
        polled.map(Some)
    }
}

impl Drop for WatcherFeed {
    fn drop(&mut self) {
        self.parts.hub.do_send(Detach(self.parts.id));
    }
}
