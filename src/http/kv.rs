//! One key: PUT, GET, HEAD and DELETE on `/kv?key=K` and `/kv/K`.
//!
//! What was PUT is what GET returns, byte for byte; metadata goes in headers, or in JSON for those
//! who ask for it. Both spellings of a key are one resource, told apart only here: `in_path` is what
//! follows `/kv/`, raw.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use bytes::Bytes;
use serde_json::json;

use super::body::{Cap, RequestBody};
use super::contract::parameters::{DELETE_KEY, ONE_KEY, PUT_KEY, Parameter, READ_KEY};
use super::error::{Answer, Code, Problem};
use super::headers::{self, DELETED};
use super::item::Item;
use super::reply::Reply;
use super::target::{self, Params};
use super::{State, node, past};
use crate::actors::messages::RequestError;
use crate::types::{End, Key, Operation, Outcome, RequestId, Revision};

/// `GET`: the value, or its record as JSON.
pub async fn get(request: &HttpRequest, in_path: Option<&str>, state: &State) -> Answer {
    let (key, params) = parse(request, in_path, READ_KEY)?;
    if params.flag("history")? {
        return past::history(&key, &params, request, state).await;
    }
    if params.has("limit") {
        return Err(Problem::parameter("limit", "goes with history=true, or with a range"));
    }
    let condition = headers::if_match(request.headers())?;
    let (view, _permit) = past::read(&params, request, state).await?;
    let revision = view.view.revision();
    let record = view.view.get(&key).map_err(|error| Problem::from_node(error, request))?;
    let current = record.as_ref().map(|record| record.mod_revision);
    if !condition.holds(current) {
        return Err(Problem::condition_failed(current, revision));
    }
    let Some(record) = record else {
        return Err(Problem::new(Code::KeyNotFound, "no value is stored under this key")
            .header(headers::REVISION, revision.into())
            .with("revision", revision));
    };
    let (mod_revision, end) = (record.mod_revision, record.end);
    let reply = if headers::is_known_to_client(request.headers(), record.mod_revision) {
        Reply::not_modified()
    } else {
        let mut hold = state.admission.hold();
        if headers::wants_json(request) {
            let item = Item::of(&key, &record, false);
            hold.grow(item.max_json_bytes())?;
            Reply::json(&item).holding(hold)
        } else {
            hold.grow(record.value.len())?;
            Reply::new(StatusCode::OK, "application/octet-stream", record.value).holding(hold)
        }
    };
    let reply = match end {
        End::Never => reply,
        End::At { ms } => reply.header(headers::TTL, headers::ttl(ms.saturating_sub(view.now_ms))),
        End::WithLease(id) => reply.header(headers::LEASE, headers::lease(id)),
    };
    Ok(reply
        .header(header::ETAG, headers::etag(mod_revision))
        .header(header::VARY, HeaderValue::from_static("accept"))
        .stale_for(view.stale_for)
        .revision(revision))
}

/// `PUT`: stores the body, or the `value` of the query when there is no body.
pub async fn put(
    request: &HttpRequest,
    in_path: Option<&str>,
    body: &mut RequestBody,
    state: &State,
) -> Answer {
    let (key, params) = parse(request, in_path, PUT_KEY)?;
    let redirect = params.flag("redirect")?;
    let lifetime = params.lifetime()?;
    let condition = headers::write_condition(request.headers())?;
    let request_id = headers::request_id(request.headers())?;
    let mut hold = state.admission.hold();
    let cap = Cap::of_values(&state.options);
    let sent = body.read(cap, state.options.request_timeout, &mut hold).await?;
    let value = value_of(body, sent, params.bytes("value"), cap)?;
    let permit = state.admission.write()?;
    let operation = Operation::Put { key, value, condition, lifetime };
    let idempotent = request_id.is_some();
    let outcome = node::write(state, operation, request_id, redirect, permit, hold).await;
    match outcome.map_err(|error| from_write(error, request, idempotent))? {
        Outcome::Put { revision, create_revision, version } => {
            let reply = match headers::wants_json(request) {
                true => Reply::json(&json!({
                    "revision": revision,
                    "create_revision": create_revision,
                    "version": version,
                })),
                false => Reply::ok(),
            };
            Ok(reply.header(header::ETAG, headers::etag(revision)).revision(revision))
        }
        outcome => Err(not_written(outcome)),
    }
}

/// `DELETE`: removes the key, if it is there.
pub async fn delete(request: &HttpRequest, in_path: Option<&str>, state: &State) -> Answer {
    let (key, params) = parse(request, in_path, DELETE_KEY)?;
    let condition = headers::write_condition(request.headers())?;
    let request_id = headers::request_id(request.headers())?;
    let operation = Operation::Delete { key, condition };
    let (count, revision) = delete_by(operation, request_id, &params, request, state).await?;
    let reply = match headers::wants_json(request) {
        true => Reply::json(&json!({ "deleted": count, "revision": revision })),
        false => Reply::ok(),
    };
    Ok(reply.header(DELETED, count).revision(revision))
}

/// Carries a delete out; says how many keys are gone and at which revision.
pub async fn delete_by(
    operation: Operation,
    request_id: Option<RequestId>,
    params: &Params,
    request: &HttpRequest,
    state: &State,
) -> Result<(u64, Revision), Problem> {
    let redirect = params.flag("redirect")?;
    let (permit, hold) = (state.admission.write()?, state.admission.hold());
    let idempotent = request_id.is_some();
    let outcome = node::write(state, operation, request_id, redirect, permit, hold).await;
    match outcome.map_err(|error| from_write(error, request, idempotent))? {
        Outcome::Deleted { count, revision } => Ok((count, revision)),
        outcome => Err(not_written(outcome)),
    }
}

/// The problem of a write that was not carried out.
pub fn from_write(error: RequestError, request: &HttpRequest, idempotent: bool) -> Problem {
    let problem = Problem::from_node(error, request);
    if idempotent { problem.idempotent() } else { problem }
}

/// The key, which either spelling names, and the other parameters.
fn parse(
    request: &HttpRequest,
    in_path: Option<&str>,
    others: &'static [Parameter],
) -> Result<(Key, Params), Problem> {
    let query = request.uri().query();
    if let Some(raw) = in_path {
        let key = target::key_of_path(raw)?;
        return Ok((key, Params::parse(query, &[others])?));
    }
    let params = Params::parse(query, &[ONE_KEY, others])?;
    match params.bytes("key") {
        Some(key) => Ok((Key::new(key)?, params)),
        None => Err(Problem::missing_key()),
    }
}

/// The value of a PUT. A body wins when there is one; an empty one is a value when it was announced
/// (`Content-Length: 0`). Neither of the two is taken for a slip and not for an empty value.
fn value_of(
    body: &RequestBody,
    sent: Bytes,
    in_query: Option<Bytes>,
    cap: Cap,
) -> Result<Bytes, Problem> {
    match in_query {
        Some(value) if sent.is_empty() => match value.len() <= cap.bytes {
            true => Ok(value),
            false => Err(cap.exceeded()),
        },
        None if !body.is_announced() => Err(Problem::new(
            Code::BadBody,
            "a PUT needs a value: a body (Content-Length: 0 for an empty one) or value=",
        )),
        _ => Ok(sent),
    }
}

/// Why a write that went through the log wrote nothing.
pub fn not_written(outcome: Outcome) -> Problem {
    match outcome {
        Outcome::ConditionFailed { current, revision } => {
            Problem::condition_failed(current, revision)
        }
        // An earlier attempt with this sequence may have been applied; its outcome is forgotten.
        Outcome::Superseded { last_sequence } => Problem::new(
            Code::Superseded,
            format!(
                "this client's sequence {last_sequence} was applied already; number writes upward \
                 and have one in flight at a time"
            ),
        )
        .with("last_sequence", last_sequence)
        .outcome_unknown(),
        Outcome::NoLease(id) => Problem::new(
            Code::LeaseNotFound,
            format!("there is no lease {id}: it ended, or was never granted; grant another"),
        ),
        Outcome::LeaseLimit(limit) => Problem::new(Code::LeaseLimit, limit.to_string()),
        // Each kind of write has its kind of outcome: this is the first one's.
        Outcome::Put { .. } | Outcome::Deleted { .. } | Outcome::Txn { .. } | Outcome::Lease(_) => {
            Problem::new(
                Code::KeyReused,
                "another kind of write was applied under this idempotency key, and this one was not; give each write a \
             number of its own",
            )
        }
        outcome => Problem::new(Code::Internal, format!("the write was answered with {outcome:?}"))
            .outcome_unknown(),
    }
}
