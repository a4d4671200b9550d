//! The body of a watch: takes batches from the feed as fast as the socket takes them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

use super::super::admission::{Hold, Permit};
use super::super::error::Problem;
use super::wire;
use crate::actors::messages::{Batch, Feed, Watching};
use crate::types::Revision;

/// What goes to the socket at a time: a large event is not copied whole into the connection's buffer.
const SLICE_BYTES: usize = 32 * 1024;

/// See the module.
pub struct EventStream {
    feed: Feed,
    /// What is on its way; the batch that it is of stays counted until it is gone.
    parts: VecDeque<Bytes>,
    batch: Option<Arc<Batch>>,
    /// The last revision that all was told of.
    through: Revision,
    is_over: bool,
    /// Covers a batch that is of this watcher alone.
    hold: Hold,
    _permit: Permit,
}

impl EventStream {
    pub fn new(watching: Watching, permit: Permit, hold: Hold) -> EventStream {
        EventStream {
            feed: watching.feed,
            parts: [wire::head(watching.next)].into(),
            batch: None,
            through: watching.next - 1,
            is_over: false,
            hold,
            _permit: permit,
        }
    }

    fn take(&mut self, batch: Arc<Batch>) {
        if batch.is_own
            && let Err(problem) = self.hold.grow(batch.len_bytes())
        {
            return self.end(problem);
        }
        if batch.events.is_empty() {
            self.parts.push_back(wire::heartbeat(batch.through));
        } else {
            self.parts.extend(batch.wire(wire::parts).iter().cloned());
        }
        self.through = batch.through;
        self.batch = Some(batch);
    }

    fn end(&mut self, problem: Problem) {
        self.is_over = true;
        self.parts.push_back(wire::error(problem, self.through));
    }
}

impl MessageBody for EventStream {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let stream = self.get_mut();
        loop {
            while let Some(part) = stream.parts.front_mut() {
                let slice = part.split_to(SLICE_BYTES.min(part.len()));
                if part.is_empty() {
                    stream.parts.pop_front();
                }
                // An empty chunk would end the body.
                if !slice.is_empty() {
                    return Poll::Ready(Some(Ok(slice)));
                }
            }
            stream.batch = None;
            stream.hold.release();
            if stream.is_over {
                return Poll::Ready(None);
            }
            match ready!(stream.feed.as_mut().poll_next(cx)) {
                Some(Ok(batch)) => stream.take(batch),
                Some(Err(error)) => stream.end(Problem::in_stream(error)),
                None => stream.is_over = true,
            }
        }
    }
}
