//! `GET /backup`: all of the store as one file, read while writes go on.
//!
//! The state is pinned when the reply begins, and read piece by piece as the client takes them, on a thread that may
//! wait for the disk: a worker's other connections do not notice. It is one thread from beginning to end, since memory
//! that each of a dozen took for its pieces would stay with each. In memory are three pieces at most, each some 256 KiB
//! or one large value: one that is sent, one that waits, one that is read.
//!
//! While it lasts, pages of the pinned state are not used again, so the file of the store grows by what is written
//! meanwhile. That is why backups have places of their own, and few. A client that stands still is cut by the system
//! as others are ([`super::server`]). A stream that cannot go on ends without the mark by which HTTP tells a whole
//! body from one that broke off; the backup's own end is missing then as well.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, rt};
use bytes::Bytes;
use tokio::sync::mpsc;

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

/// The body of the reply.
struct Stream {
    /// What the thread reads: pieces, then `None`. If it stops without that, something is wrong.
    pieces: mpsc::Receiver<Option<Result<Bytes, RequestError>>>,
    /// What was read and has not left.
    chunk: Bytes,
    standing: Standing,
}

#[derive(Clone, Copy)]
enum Standing {
    Open,
    Ended,
    /// It cannot go on, and what was read before may still be in the protocol layer's buffer.
    Breaking,
    Broken,
}

impl Stream {
    /// Begins to read. The place among the backups is kept until all is read, or nobody takes it any more: it is
    /// free when the client sees the end, who may ask for the next one at once.
    fn new(mut chunks: Chunks, permit: Permit) -> Stream {
        let (sender, pieces) = mpsc::channel(1);
        rt::task::spawn_blocking(move || {
            // It fails when the client is gone.
            let gone = chunks.any(|chunk| sender.blocking_send(Some(chunk)).is_err());
            drop((chunks, permit));
            if !gone {
                let _ = sender.blocking_send(None);
            }
        });
        Stream::of(pieces)
    }

    fn of(pieces: mpsc::Receiver<Option<Result<Bytes, RequestError>>>) -> Stream {
        Stream { pieces, chunk: Bytes::new(), standing: Standing::Open }
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
            stream.standing = match stream.standing {
                Standing::Open => match ready!(stream.pieces.poll_recv(context)) {
                    Some(Some(Ok(chunk))) => {
                        stream.chunk = chunk;
                        Standing::Open
                    }
                    Some(None) => Standing::Ended,
                    Some(Some(Err(error))) => {
                        log::error!("a backup cannot go on: {error}");
                        Standing::Breaking
                    }
                    // The pool of threads is closing.
                    None => Standing::Breaking,
                },
                Standing::Ended => return Poll::Ready(None),
                // An error takes the connection down with what is buffered for it, be it the head of the reply. A
                // body that waits lets the buffer leave first.
                Standing::Breaking => {
                    stream.standing = Standing::Broken;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Standing::Broken => {
                    let error = io::Error::other("the state could not be read on");
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::Waker;

    use super::super::admission::Admission;
    use super::super::options::HttpOptions;
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn what_was_read_may_leave_before_the_body_breaks() {
        let failure = RequestError::Storage { detail: "page 7 is damaged".into() };
        // The thread was done before anyone asked.
        let (sender, pieces) = mpsc::channel(1);
        sender.try_send(Some(Err(failure))).unwrap();
        let mut stream = Stream::of(pieces);
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = || Pin::new(&mut stream).poll_next(&mut context);
        assert!(poll().is_pending());
        assert!(matches!(poll(), Poll::Ready(Some(Err(_)))));
    }

    /// A backup whose pieces say which thread read them.
    fn stream(pieces: usize, admission: &Admission) -> Stream {
        let name = || Bytes::from(format!("{:?}", std::thread::current().id()));
        let chunks = (0..pieces).map(move |_| Ok(name()));
        Stream::new(Box::new(chunks), admission.backup().unwrap())
    }

    #[actix_web::test]
    async fn its_place_is_free_when_its_end_is_seen() {
        let admission = Admission::new(&HttpOptions::default(), Arc::new(Metrics::new("test")));
        for _ in 0..300 {
            let mut whole = stream(1, &admission);
            while poll_fn(|context| Pin::new(&mut whole).poll_next(context)).await.is_some() {}
            let _both = [admission.backup().unwrap(), admission.backup().unwrap()];
        }
    }

    #[actix_web::test]
    async fn one_thread_reads_all_and_stops_when_nobody_takes_it() {
        let admission = Admission::new(&HttpOptions::default(), Arc::new(Metrics::new("test")));
        let mut whole = stream(100, &admission);
        let mut threads = BTreeSet::new();
        let mut count = 0;
        while let Some(piece) = poll_fn(|context| Pin::new(&mut whole).poll_next(context)).await {
            threads.insert(piece.unwrap());
            count += 1;
        }
        assert_eq!((count, threads.len()), (100, 1));

        // Two at a time: a third gets its place when one that nobody reads has let go.
        drop([stream(usize::MAX, &admission), stream(usize::MAX, &admission)]);
        while admission.backup().is_err() {
            rt::task::yield_now().await;
        }
    }
}
