//! Ranges of keys: pages of `GET /kv?prefix=…` and the one write of `DELETE /kv?prefix=…`.
//!
//! This module reads the request and finds the state; [`super::page`] walks it. A scan sees one
//! revision from its first page to its last: the cursor names it. Any node has that revision while the past
//! is kept so far back; beyond that the node that gave the cursor has it pinned for a while
//! ([`super::pins`]). When neither does, the answer is 410, and the client starts anew or goes on from its
//! last key with `start`, at the price of seeing a later state.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use super::admission::Permit;
use super::contract::parameters::{DELETE_RANGE, RANGE, READ_RANGE};
use super::cursor::{Cursor, Plan};
use super::error::{Answer, Code, Problem};
use super::kv::delete_by;
use super::lines::Lines;
use super::page::{self, Page};
use super::reply::Reply;
use super::target::{self, Params};
use super::{State, headers, node, past};
use crate::actors::messages::View;
use crate::types::{Condition, KeyRange, Operation, Revision};

/// Items of a page when the request does not say.
const DEFAULT_LIMIT: usize = 100;

/// Longest delimiter; its length is one byte of a cursor.
const MAX_DELIMITER_BYTES: usize = u8::MAX as usize;

/// Whether a request to `/kv` means a range.
pub fn is_asked(request: &HttpRequest) -> bool {
    let names = || target::names(request.uri().query());
    names().any(|name| RANGE.iter().any(|range| range.name == name))
        && names().all(|name| name != "key")
}

/// `GET`: a page of a range, all of it as lines, or its size.
pub async fn get(request: &HttpRequest, state: &State) -> Answer {
    let params = Params::parse(request.uri().query(), &[RANGE, READ_RANGE])?;
    let deadline = Instant::now() + state.options.request_timeout;
    if params.flag("count_only")? {
        return count(request, &params, state, deadline).await;
    }
    let as_lines = headers::wants(request, headers::NDJSON);
    let limit = params.count("limit")?;
    let ((view, stale_for), plan, fingerprint, permit) = match params.bytes("cursor") {
        None => {
            let plan = plan_of(&params)?;
            let (read, permit) = past::read(&params, request, state).await?;
            ((read.view, read.stale_for), plan, fingerprint_of(&params), permit)
        }
        Some(token) => {
            let cursor = cursor_of(&token, &params)?;
            let (view, stale_for, permit) = state_of(&cursor, &params, request, state).await?;
            ((view, stale_for), cursor.rest, cursor.fingerprint, permit)
        }
    };
    let mut hold = state.admission.hold();
    let vary = (header::VARY, HeaderValue::from_static("accept"));
    if as_lines {
        let revision = view.revision();
        let lines = Lines::new(view.in_passing(), plan, limit, hold, permit);
        let reply = Reply::stream(headers::NDJSON, BoxBody::new(lines)).header(vary.0, vary.1);
        return Ok(reply.stale_for(stale_for).revision(revision));
    }
    let limit = limit.unwrap_or(DEFAULT_LIMIT).min(state.options.max_scan_results);
    let page = page::build(&*view, plan, limit, deadline, &mut hold).await;
    let page = page.map_err(|error| error.into_problem(request))?;
    let revision = view.revision();
    let next = page.next.as_ref().map(|rest| {
        state.pins.keep(view.clone());
        Cursor { revision, fingerprint, rest: rest.clone() }.encode()
    });
    let reply = page_reply(page, next, revision).holding(hold).header(vary.0, vary.1);
    Ok(reply.stale_for(stale_for).revision(revision))
}

/// `DELETE`: removes every key of a range in one write.
pub async fn delete(request: &HttpRequest, state: &State) -> Answer {
    let params = Params::parse(request.uri().query(), &[DELETE_RANGE])?;
    let range = plan_of(&params)?.range;
    if headers::write_condition(request.headers())? != Condition::None {
        return Err(Problem::parameter("if-match, if-none-match", "apply to one key"));
    }
    let request_id = headers::request_id(request.headers())?;
    let operation = Operation::DeleteRange { range };
    let (deleted, revision) = delete_by(operation, request_id, &params, request, state).await?;
    Ok(Reply::json(&json!({ "deleted": deleted, "revision": revision }))
        .header(headers::DELETED, deleted)
        .revision(revision))
}

/// Answers `count_only`: counts all of the range, without a page.
async fn count(request: &HttpRequest, params: &Params, state: &State, deadline: Instant) -> Answer {
    for name in ["limit", "cursor", "delimiter", "reverse", "keys_only"] {
        if params.has(name) {
            return Err(Problem::parameter(name, "does not go with count_only"));
        }
    }
    let plan = plan_of(params)?;
    let (view, _permit) = past::read(params, request, state).await?;
    let count = page::count(&*view.view.in_passing(), &plan.range, deadline).await;
    let count = count.map_err(|error| error.into_problem(request))?;
    let revision = view.view.revision();
    let document = json!({ "items": [], "next": null, "revision": revision, "count": count });
    Ok(Reply::json(&document).stale_for(view.stale_for).revision(revision))
}

fn page_reply(page: Page, next: Option<String>, revision: Revision) -> Reply {
    let mut body = page.json;
    // A token is base64url and needs no escapes.
    let next = next.map_or_else(|| "null".to_owned(), |token| format!("\"{token}\""));
    body.extend_from_slice(format!(",\"next\":{next},\"revision\":{revision}}}").as_bytes());
    Reply::new(StatusCode::OK, "application/json", body)
}

/// The range that `prefix`, `start` and `end` name together.
pub fn range_of(params: &Params) -> Result<KeyRange, Problem> {
    let (start, end) = (params.bound("start")?, params.bound("end")?);
    let prefix = params.bound("prefix")?;
    if prefix.is_none() && start.is_none() && end.is_none() {
        return Err(Problem::new(
            Code::MissingKey,
            "name a range with prefix= (empty for all keys), start= or end=",
        ));
    }
    if end.as_ref().is_some_and(Bytes::is_empty) {
        return Err(Problem::parameter("end", "is empty; leave it out to reach the last key"));
    }
    let between = KeyRange { start: start.unwrap_or_default(), end };
    Ok(KeyRange::prefix(prefix.unwrap_or_default()).intersect(&between))
}

/// The range, and how to walk it.
fn plan_of(params: &Params) -> Result<Plan, Problem> {
    let range = range_of(params)?;
    let delimiter = params.bytes("delimiter");
    if let Some(delimiter) = &delimiter
        && !(1..=MAX_DELIMITER_BYTES).contains(&delimiter.len())
    {
        let allowed = format!("takes 1 to {MAX_DELIMITER_BYTES} bytes");
        return Err(Problem::parameter("delimiter", allowed));
    }
    Ok(Plan {
        range,
        reverse: params.flag("reverse")?,
        keys_only: params.flag("keys_only")?,
        delimiter,
        prefix_len: params.bytes("prefix").unwrap_or_default().len(),
    })
}

/// The parameters that make a scan what it is.
const SCAN_NAMES: [&str; 6] = ["prefix", "start", "end", "delimiter", "reverse", "keys_only"];

/// Tells scans apart by the parameters they began with.
fn fingerprint_of(params: &Params) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for name in SCAN_NAMES {
        let value = params.raw(name);
        hasher.update(&[u8::from(value.is_some())]);
        let value = value.unwrap_or_default();
        hasher.update(&(value.len() as u64).to_be_bytes());
        hasher.update(&value);
    }
    hasher.finalize()
}

/// Decodes a cursor and holds it against the parameters beside it: none, or those it began with.
fn cursor_of(token: &[u8], params: &Params) -> Result<Cursor, Problem> {
    let cursor = Cursor::decode(token).ok_or_else(|| {
        Problem::parameter("cursor", "is not a cursor this server gave; pass `next` on unchanged")
    })?;
    if params.revision("revision")?.is_some_and(|revision| revision != cursor.revision) {
        return Err(Problem::parameter("revision", "is not that of the cursor; leave it out"));
    }
    let is_alone = !SCAN_NAMES.iter().any(|name| params.has(name));
    if is_alone || fingerprint_of(params) == cursor.fingerprint {
        return Ok(cursor);
    }
    let names = SCAN_NAMES.join(", ");
    Err(Problem::parameter("cursor", format!("belongs to a scan with other values of {names}")))
}

/// The state a cursor goes on in: the one that was pinned for it, or the past of a newer one.
async fn state_of(
    cursor: &Cursor,
    params: &Params,
    request: &HttpRequest,
    state: &State,
) -> Result<(Arc<dyn View>, Option<Duration>, Permit), Problem> {
    let question = node::question(params, state)?;
    if let Some(view) = state.pins.find(cursor.revision) {
        return Ok((view, None, state.admission.read()?));
    }
    let (fresh, permit) = node::read(question, request, state).await?;
    let view = past::at(&*fresh.view, cursor.revision).map_err(|problem| {
        problem.hint(
            "start the scan anew, or go on from the last key with start=, at a later revision",
        )
    })?;
    Ok((view, fresh.stale_for, permit))
}
