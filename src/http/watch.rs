//! `GET /watch`: the changes of a key or a range as server-sent events, for as long as the client stays.
//!
//! ```text
//! retry: 1000               how long a browser waits before it connects again
//! id: 41                    where this watch begins: behind revision 41
//!
//! event: put
//! data: {"key":"a","value":"1","mod_revision":42,"create_revision":42,"version":1}
//! id: 42
//!
//! : heartbeat               after 15 s of silence; its id says how far the watch has come
//! id: 57
//! ```
//!
//! `id` is what `Last-Event-ID` brings back, and stands only where a watch can be resumed: with the last event of a
//! revision. Who is cut in the middle of a revision of many keys gets all of it again, and knows it by its
//! `mod_revision`. A stream that cannot go on ends with an `error` event, whose data is a problem document.
//!
//! A watch holds a permit of its own kind and none of the reads'. This module reads the request; [`stream`] is the
//! body, [`wire`] how events are spelt.

mod stream;
mod wire;

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::body::BoxBody;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use bytes::Bytes;

use self::stream::EventStream;
use super::contract::parameters;
use super::error::{Answer, Code, Problem};
use super::reply::Reply;
use super::target::Params;
use super::{State, node, scan};
use crate::actors::messages::Watch;
use crate::types::{Key, KeyRange, Revision};

/// Silence after which a heartbeat is sent. Proxies cut connections that are silent for a minute.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);

const MEDIA_TYPE: &str = "text/event-stream";

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Has nginx pass events on as they come.
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

pub async fn get(request: &HttpRequest, state: &State) -> Answer {
    let params = Params::parse(request.uri().query(), &[parameters::WATCH])?;
    let question = Watch {
        range: range_of(&params)?,
        from: from_of(request, &params)?,
        previous: params.flag("prev")?,
        progress_every: HEARTBEAT_EVERY,
    };
    if request.method() == Method::HEAD {
        return Ok(Reply::new(StatusCode::OK, MEDIA_TYPE, Bytes::new()));
    }
    let permit = state.admission.watcher()?;
    let watching = node::watch(question, state).await;
    let watching = watching.map_err(|error| Problem::from_node(error, request))?;
    let revision = watching.revision;
    let events = EventStream::new(watching, permit, state.admission.hold());
    let (name, value) = UNBUFFERED;
    Ok(Reply::stream(MEDIA_TYPE, BoxBody::new(events)).header(name, value).revision(revision))
}

/// A key, or what names a range in a scan.
fn range_of(params: &Params) -> Result<KeyRange, Problem> {
    let names_range = ["prefix", "start", "end"].iter().any(|name| params.has(name));
    let range = match params.bytes("key") {
        Some(_) if names_range => {
            return Err(Problem::parameter("key", "does not go with prefix, start or end"));
        }
        Some(key) => {
            let key = Key::new(key)?.into_bytes();
            let end = key.iter().copied().chain([0]).collect::<Vec<u8>>();
            KeyRange { start: key, end: Some(end.into()) }
        }
        None if names_range => scan::range_of(params)?,
        None => return Err(Problem::missing_key()),
    };
    match range.is_empty() {
        true => Err(Problem::parameter("end", "leaves no key between it and the start")),
        false => Ok(range),
    }
}

/// The first revision to tell of. What a client saw last goes before what its URL says, which stays the same when a
/// browser connects again.
fn from_of(request: &HttpRequest, params: &Params) -> Result<Option<Revision>, Problem> {
    let from = params.count("from_revision")?.map(|from| from as Revision);
    let Some(last) = request.headers().get(LAST_EVENT_ID).filter(|last| !last.is_empty()) else {
        return Ok(from);
    };
    let last = last.to_str().ok().filter(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    match last.and_then(|last| last.parse::<Revision>().ok()?.checked_add(1)) {
        Some(next) => Ok(Some(next)),
        None => Err(Problem::new(
            Code::BadParameter,
            "Last-Event-ID: takes the id of an event of this stream, which is a revision",
        )),
    }
}
