//! A reply, and how its body leaves.
//!
//! Handlers make a [`Reply`]; [`Reply::finish`] turns it into what the protocol layer sends. Two
//! things about its body are worth their own type there:
//!
//! - It goes out in slices. In one piece it would be copied whole into the connection's write buffer, and
//!   the byte budget would be given back while a slow reader keeps all of it in memory.
//! - It carries the unread rest of the request. While that lives, the protocol layer knows that the
//!   connection cannot be used again: it closes it after the reply, reading and throwing away
//!   what still comes for [`super::LINGER`], so that the client sees the reply and not a reset. Dropped
//!   earlier, the rest of a chunked body would be read for ever.
//!
//! A client that stops reading in the middle of a reply is cut by the system after `stall_timeout` (see
//! [`super::server`]).

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::web::Payload;
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use serde::Serialize;

use super::admission::Hold;
use super::headers::{REVISION, STALE_MS};
use crate::types::Revision;

/// What goes to the socket at a time; the size of the protocol layer's own write buffer.
const SLICE_BYTES: usize = 32 * 1024;

/// Without it a cache may take an answer for fresh, and no read through it would be linearizable. It
/// still may keep the answer and ask with its entity tag.
const ASK_EVERY_TIME: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));

/// Status, headers and body of a reply.
pub struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Content,
    hold: Option<Hold>,
}

enum Content {
    /// Where the protocol forbids a body.
    None,
    Bytes(Bytes),
    /// What comes as long as the client stays.
    Stream(BoxBody),
}

impl Reply {
    pub fn new(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Reply {
        Reply {
            status,
            headers: vec![(header::CONTENT_TYPE, HeaderValue::from_static(media_type))],
            body: Content::Bytes(body.into()),
            hold: None,
        }
    }

    /// An answer that comes in pieces.
    pub fn stream(media_type: &'static str, body: BoxBody) -> Reply {
        Reply {
            body: Content::Stream(body),
            ..Reply::new(StatusCode::OK, media_type, Bytes::new())
        }
    }

    /// The answer to a request that asked for no more than to be carried out.
    pub fn ok() -> Reply {
        Reply::text("OK\n")
    }

    pub fn text(body: impl Into<Bytes>) -> Reply {
        Reply::new(StatusCode::OK, "text/plain; charset=utf-8", body)
    }

    /// A JSON document of bounded size, such as the state of the node.
    pub fn json(document: &impl Serialize) -> Reply {
        // Serializing into memory fails only for maps whose keys are no strings; there are none.
        let body = serde_json::to_vec(document).unwrap_or_default();
        Reply::new(StatusCode::OK, "application/json", body)
    }

    pub fn not_modified() -> Reply {
        let (status, headers) = (StatusCode::NOT_MODIFIED, Vec::new());
        Reply { status, headers, body: Content::None, hold: None }
    }

    pub fn header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    /// Says that what was asked for was begun, and has not ended.
    pub fn accepted(self) -> Reply {
        Reply { status: StatusCode::ACCEPTED, ..self }
    }

    /// Says at which revision of the store the request was answered.
    pub fn revision(self, revision: Revision) -> Reply {
        self.header(REVISION, revision)
    }

    /// Says how long ago a node that answers a stale read last heard from a leader.
    pub fn stale_for(self, age: Option<Duration>) -> Reply {
        match age {
            Some(age) => self.header(STALE_MS, u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            None => self,
        }
    }

    /// Keeps the body's share of the byte budget until the body has left.
    pub fn holding(mut self, hold: Hold) -> Reply {
        self.hold = Some(hold);
        self
    }

    /// What the protocol layer sends; `own` are the headers of every reply, `unread` is the request's payload, as far as it was read.
    pub fn finish(self, own: [(HeaderName, HeaderValue); 2], unread: Payload) -> HttpResponse {
        let mut response = HttpResponseBuilder::new(self.status);
        for header in self.headers.into_iter().chain(own).chain([ASK_EVERY_TIME]) {
            response.insert_header(header);
        }
        response.body(Body { content: self.body, _hold: self.hold, _unread: unread })
    }
}

type BoxError = Box<dyn Error>;

struct Body {
    content: Content,
    _hold: Option<Hold>,
    _unread: Payload,
}

impl MessageBody for Body {
    type Error = BoxError;

    fn size(&self) -> BodySize {
        match &self.content {
            Content::None => BodySize::None,
            Content::Bytes(bytes) => BodySize::Sized(bytes.len() as u64),
            Content::Stream(stream) => stream.size(),
        }
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BoxError>>> {
        match &mut self.content {
            Content::Bytes(bytes) if !bytes.is_empty() => {
                let slice = SLICE_BYTES.min(bytes.len());
                Poll::Ready(Some(Ok(bytes.split_to(slice))))
            }
            Content::Stream(stream) => Pin::new(stream).poll_next(cx),
            Content::Bytes(_) | Content::None => Poll::Ready(None),
        }
    }
}
