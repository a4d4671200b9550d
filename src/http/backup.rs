//! `GET /backup`: all of the store as one file, read while writes go on.
//!
//! The state is pinned when the reply begins, and read piece by piece as the client takes them, on threads that may
//! wait for the disk: a worker's other connections do not notice. In memory is one piece at a time, some 256 KiB or
//! one large value.
//!
//! While it lasts, pages of the pinned state are not used again, so the file of the store grows by what is written
//! meanwhile. That is why backups have places of their own, and few. A client that stands still is cut by the system
//! as others are ([`super::server`]). A stream that cannot go on ends without the mark by which HTTP tells a whole
//! body from one that broke off; the backup's own end is missing then as well.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::HttpRequest;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::error::BlockingError;
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

use super::admission::Permit;
use super::contract::parameters;
use super::error::{Answer, Problem};
use super::headers::{APPLIED_INDEX, CLUSTER_ID};
use super::reply::Reply;
use super::target::Params;
use super::{State, node};
use crate::actors::messages::{Backup, Chunks, RequestError};

const MEDIA_TYPE: &str = "application/octet-stream";

/// What goes to the socket at a time.
const SLICE_BYTES: usize = 32 * 1024;

pub async fn get(request: &HttpRequest, state: &State) -> Answer {
    let params = Params::parse(request.uri().query(), &[parameters::BACKUP])?;
    let of = node::question(&params, state)?;
    let permit = state.admission.backup()?;
    let (backup, permit) = node::take_backup(of, permit, state)
        .await
        .map_err(|error| Problem::from_node(error, request))?;
    let Backup { cluster_id, revision, applied, chunks } = backup;
    let reply = match *request.method() {
        Method::HEAD => Reply::new(StatusCode::OK, MEDIA_TYPE, Bytes::new()),
        _ => Reply::stream(MEDIA_TYPE, BoxBody::new(Stream::new(chunks, permit))),
    };
    let text = |text: String| HeaderValue::from_str(&text).expect("letters and digits");
    let file = format!("attachment; filename=\"conuredb-{revision}.backup\"");
    Ok(reply
        .header(header::CONTENT_DISPOSITION, text(file))
        .header(CLUSTER_ID, text(cluster_id.to_string()))
        .header(APPLIED_INDEX, applied.index)
        .revision(revision))
}

/// The body of the reply. Keeps its place among the backups until it ends.
struct Stream {
    source: Source,
    /// What was read and has not left.
    chunk: Bytes,
    _permit: Permit,
}

enum Source {
    Waiting(Chunks),
    Reading(LocalBoxFuture<'static, Result<Read, BlockingError>>),
    Ended,
    /// It cannot go on, and what was read before may still be in the protocol layer's buffer.
    Breaking,
    Broken,
}

/// What comes back from the thread that reads.
type Read = (Chunks, Option<Result<Bytes, RequestError>>);

impl Stream {
    fn new(chunks: Chunks, permit: Permit) -> Stream {
        Stream { source: Source::Waiting(chunks), chunk: Bytes::new(), _permit: permit }
    }

    /// Takes what the thread brought.
    fn take(&mut self, read: Result<Read, BlockingError>) {
        self.source = match read {
            Ok((chunks, Some(Ok(chunk)))) => {
                self.chunk = chunk;
                Source::Waiting(chunks)
            }
            Ok((_, None)) => Source::Ended,
            Ok((_, Some(Err(error)))) => {
                log::error!("a backup cannot go on: {error}");
                Source::Breaking
            }
            // The pool of threads is closing.
            Err(_) => Source::Breaking,
        };
    }
}

impl MessageBody for Stream {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, io::Error>>> {
        let stream = self.get_mut();
        loop {
            // An empty chunk would end the body.
            if !stream.chunk.is_empty() {
                let slice = stream.chunk.split_to(SLICE_BYTES.min(stream.chunk.len()));
                return Poll::Ready(Some(Ok(slice)));
            }
            match std::mem::replace(&mut stream.source, Source::Broken) {
                Source::Waiting(mut chunks) => {
                    let reading = web::block(move || {
                        let chunk = chunks.next();
                        (chunks, chunk)
                    });
                    stream.source = Source::Reading(Box::pin(reading));
                }
                Source::Reading(mut reading) => match reading.as_mut().poll(context) {
                    Poll::Ready(read) => stream.take(read),
                    Poll::Pending => {
                        stream.source = Source::Reading(reading);
                        return Poll::Pending;
                    }
                },
                Source::Ended => {
                    stream.source = Source::Ended;
                    return Poll::Ready(None);
                }
                // An error takes the connection down with what is buffered for it, be it the head of the reply. A
                // body that waits lets the buffer leave first.
                Source::Breaking => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Source::Broken => {
                    let error = io::Error::other("the state could not be read on");
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use futures_util::FutureExt;
    use futures_util::future::ready;

    use super::super::admission::Admission;
    use super::super::options::HttpOptions;
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn what_was_read_may_leave_before_the_body_breaks() {
        let admission = Admission::new(&HttpOptions::default(), Arc::new(Metrics::new("test")));
        let rest: Chunks = Box::new(std::iter::empty());
        let failure = RequestError::Storage { detail: "page 7 is damaged".into() };
        let mut stream = Stream::new(Box::new(std::iter::empty()), admission.backup().unwrap());
        // The thread was done before anyone asked.
        stream.source = Source::Reading(ready(Ok((rest, Some(Err(failure))))).boxed_local());
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = || Pin::new(&mut stream).poll_next(&mut context);
        assert!(poll().is_pending());
        assert!(matches!(poll(), Poll::Ready(Some(Err(_)))));
    }
}
