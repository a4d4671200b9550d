//! Where batches wait for one watcher: a bounded queue between the fan-out and a feed.
//!
//! The fan-out never waits. A queue that would become too long is cut instead: what is in it is let go at once, and
//! the feed ends with the reason.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::actors::messages::{Batch, RequestError};
use crate::types::Revision;

/// Events that wait for one watcher at most: about a second of a busy store.
pub const MAX_EVENTS: usize = 16_384;

/// Bytes that wait for one watcher at most, unless one batch has more. They are shared with others who watch the
/// same; all together have a bound of their own.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;

/// See the module.
#[derive(Default)]
pub struct Mailbox {
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    batches: VecDeque<Arc<Batch>>,
    events: usize,
    len_bytes: usize,
    attached: Option<Revision>,
    end: Option<RequestError>,
    reader: Option<Waker>,
}

/// The queue has no room.
#[derive(Debug)]
pub struct Overflow;

impl Mailbox {
    /// Adds a batch, which must come after those before it.
    pub fn push(&self, batch: &Arc<Batch>) -> Result<(), Overflow> {
        let mut inside = self.lock();
        if inside.end.is_some() {
            return Ok(());
        }
        let (events, len_bytes) = (batch.events.len(), batch.len_bytes());
        let is_full =
            inside.events + events > MAX_EVENTS || inside.len_bytes + len_bytes > MAX_BYTES;
        if is_full && !inside.batches.is_empty() {
            return Err(Overflow);
        }
        inside.events += events;
        inside.len_bytes += len_bytes;
        inside.batches.push_back(batch.clone());
        wake(inside);
        Ok(())
    }

    /// Ends the feed, without what waits.
    pub fn end(&self, reason: RequestError) {
        let mut inside = self.lock();
        inside.batches.clear();
        (inside.events, inside.len_bytes) = (0, 0);
        inside.end.get_or_insert(reason);
        wake(inside);
    }

    /// Says that all behind `position` comes here from now on.
    pub fn attach(&self, position: Revision) {
        let mut inside = self.lock();
        inside.attached = Some(position);
        wake(inside);
    }

    /// Bytes that wait.
    pub fn len_bytes(&self) -> usize {
        self.lock().len_bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lock().batches.is_empty()
    }

    /// Why the feed has to end, if it has.
    pub fn ended(&self) -> Option<RequestError> {
        self.lock().end.clone()
    }

    /// See [`Mailbox::attach`]; the reader is woken when that comes.
    pub fn poll_attached(&self, cx: &mut Context<'_>) -> Poll<Revision> {
        let mut inside = self.lock();
        let attached = inside.attached;
        attached.map_or_else(|| wait(&mut inside, cx), Poll::Ready)
    }

    /// The next batch, or why there are no more.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Result<Arc<Batch>, RequestError>> {
        let mut inside = self.lock();
        if let Some(reason) = &inside.end {
            return Poll::Ready(Err(reason.clone()));
        }
        match inside.batches.pop_front() {
            Some(batch) => {
                inside.events -= batch.events.len();
                inside.len_bytes -= batch.len_bytes();
                Poll::Ready(Ok(batch))
            }
            None => wait(&mut inside, cx),
        }
    }

    /// The mailbox is whole after every statement, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait<T>(inside: &mut Inside, cx: &mut Context<'_>) -> Poll<T> {
    match &mut inside.reader {
        Some(reader) => reader.clone_from(cx.waker()),
        none => *none = Some(cx.waker().clone()),
    }
    Poll::Pending
}

/// Wakes the reader when the lock is free again.
fn wake(mut inside: MutexGuard<'_, Inside>) {
    let reader = inside.reader.take();
    drop(inside);
    if let Some(reader) = reader {
        reader.wake();
    }
}
