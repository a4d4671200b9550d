//! Leases: `/leases`, `/leases/{id}` and `/leases/{id}/keepalive`.
//!
//! Granting, keeping alive and revoking are writes like others; what is listed is read like keys are. A lease that is
//! not there is 404 `lease_not_found` everywhere, on a revoke too: its keys were not deleted by that but had ended
//! before, which its holder wants to know.
//!
//! Lists come in pages. `cursor` takes the `next` of the page before: the last lease of it, or the last key in base64.
//! There is no state behind it; what came and went between two pages may be missed, as with any list of what is
//! alive.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value, json};
use tokio::task::yield_now;

use super::admission::Hold;
use super::body::{Cap, RequestBody};
use super::contract::parameters;
use super::error::{Answer, Code, Problem};
use super::item::{self, bytes_entry};
use super::kv::{delete_by, from_write, not_written};
use super::page::{PAGE_BYTES, PageError, TURN_ENTRIES, append};
use super::reply::Reply;
use super::target::{self, Params};
use super::{State, headers, node};
use crate::actors::messages::RequestError;
use crate::types::{Key, Lease, LeaseId, MIN_LEASE_TTL_MS, Operation, Outcome};

/// Leases or keys of a page when the request does not say.
const DEFAULT_LIMIT: usize = 100;

/// Longest body of a grant.
const MAX_BODY_BYTES: usize = 4 * 1024;

/// `POST /leases`: grants a lease.
pub async fn grant(request: &HttpRequest, body: &mut RequestBody, state: &State) -> Answer {
    let params = Params::parse(request.uri().query(), &[parameters::GRANT])?;
    let mut hold = state.admission.hold();
    let sent =
        body.read(Cap::fixed(MAX_BODY_BYTES), state.options.request_timeout, &mut hold).await?;
    let ttl = match params.duration("ttl")? {
        Some(ttl) => ttl,
        None => ttl_of(&sent)?,
    };
    let ttl_ms = target::ttl_ms(ttl).ok().filter(|ttl_ms| *ttl_ms >= MIN_LEASE_TTL_MS);
    let ttl_ms = ttl_ms.ok_or_else(|| {
        Problem::parameter("ttl", "takes a duration from 1s to 100 years for a lease")
    })?;
    change(Operation::LeaseGrant { ttl_ms }, &params, request, state).await
}

fn ttl_of(body: &[u8]) -> Result<std::time::Duration, Problem> {
    let bad = |what: &str| {
        let detail = format!(r#"{what}; name the time to live as ?ttl=30s or {{"ttl":"30s"}}"#);
        Problem::new(Code::BadBody, detail)
    };
    if body.is_empty() {
        return Err(bad("a lease needs a time to live"));
    }
    let fields: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| bad(&error.to_string()))?;
    if let Some(other) = fields.keys().find(|name| *name != "ttl") {
        return Err(bad(&format!("{other:?} is no field of a lease")));
    }
    let ttl = fields.get("ttl").and_then(Value::as_str);
    let ttl = ttl.and_then(|text| humantime::parse_duration(text).ok());
    ttl.ok_or_else(|| bad("ttl is missing, or no duration with its unit"))
}

/// `POST /leases/{id}/keepalive`: gives a lease its whole time again.
pub async fn keep_alive(request: &HttpRequest, id: &str, state: &State) -> Answer {
    let params = Params::parse(request.uri().query(), &[parameters::CHANGE_LEASE])?;
    let id = target::lease_id(id)?;
    change(Operation::LeaseKeepAlive { id }, &params, request, state).await
}

/// Carries out what a lease comes of.
async fn change(
    operation: Operation,
    params: &Params,
    request: &HttpRequest,
    state: &State,
) -> Answer {
    let redirect = params.flag("redirect")?;
    let request_id = headers::request_id(request.headers())?;
    let (permit, hold) = (state.admission.write()?, state.admission.hold());
    let idempotent = request_id.is_some();
    let outcome = node::write(state, operation, request_id, redirect, permit, hold).await;
    match outcome.map_err(|error| from_write(error, request, idempotent))? {
        Outcome::Lease(lease) => {
            let Lease { id, ttl_ms, expires_at_ms, .. } = lease;
            let id = id.to_string();
            Ok(Reply::json(&json!({ "id": id, "ttl_ms": ttl_ms, "expires_at_ms": expires_at_ms })))
        }
        outcome => Err(not_written(outcome)),
    }
}

/// `DELETE /leases/{id}`: ends a lease and deletes its keys.
pub async fn revoke(request: &HttpRequest, id: &str, state: &State) -> Answer {
    let params = Params::parse(request.uri().query(), &[parameters::CHANGE_LEASE])?;
    let operation = Operation::LeaseRevoke { id: target::lease_id(id)? };
    let request_id = headers::request_id(request.headers())?;
    let (deleted, revision) = delete_by(operation, request_id, &params, request, state).await?;
    Ok(Reply::json(&json!({ "deleted": deleted, "revision": revision }))
        .header(headers::DELETED, deleted)
        .revision(revision))
}

/// `GET /leases`: the leases, in pages.
pub async fn list(request: &HttpRequest, state: &State) -> Answer {
    let params = read_params(request)?;
    let after = params.bytes("cursor").map(|cursor| cursor_of(&cursor, lease_of)).transpose()?;
    let (view, _permit) = node::read(node::question(&params, state)?, request, state).await?;
    let mut hold = state.admission.hold();
    let spelt = |lease: Lease| LeaseItem { lease, now_ms: view.now_ms };
    let walk = view.view.leases(after).map(|lease| lease.map(spelt));
    let list = List::of(walk, limit(&params, state)?, &mut hold).await;
    let List { items, last } = list.map_err(|error| error.into_problem(request))?;
    let next = last.map(|last| last.lease.id.to_string());
    let revision = view.view.revision();
    let rest = Map::from_iter([
        ("next".to_owned(), json!(next)),
        ("revision".to_owned(), json!(revision)),
    ]);
    Ok(reply(items, rest, hold).stale_for(view.stale_for).revision(revision))
}

/// `GET /leases/{id}`: a lease, and its keys in pages.
pub async fn show(request: &HttpRequest, id: &str, state: &State) -> Answer {
    let params = read_params(request)?;
    let id = target::lease_id(id)?;
    let after = params.bytes("cursor").map(|cursor| cursor_of(&cursor, key_of)).transpose()?;
    let (view, _permit) = node::read(node::question(&params, state)?, request, state).await?;
    let lease = view.view.lease(id).map_err(|error| Problem::from_node(error, request))?;
    let lease = lease.ok_or_else(|| not_written(Outcome::NoLease(id)))?;
    let mut hold = state.admission.hold();
    let walk = view.view.lease_keys(id, after.as_ref()).map(|key| key.map(KeyItem));
    let list = List::of(walk, limit(&params, state)?, &mut hold).await;
    let List { items, last } = list.map_err(|error| error.into_problem(request))?;
    let next = last.map(|KeyItem(key)| URL_SAFE_NO_PAD.encode(key.as_bytes()));
    let revision = view.view.revision();
    let mut rest = fields(&LeaseItem { lease, now_ms: view.now_ms });
    rest.extend([("next".to_owned(), json!(next)), ("revision".to_owned(), json!(revision))]);
    Ok(reply(items, rest, hold).stale_for(view.stale_for).revision(revision))
}

fn read_params(request: &HttpRequest) -> Result<Params, Problem> {
    Params::parse(request.uri().query(), &[parameters::READ_LEASES])
}

fn limit(params: &Params, state: &State) -> Result<usize, Problem> {
    Ok(params.count("limit")?.unwrap_or(DEFAULT_LIMIT).min(state.options.max_scan_results))
}

fn cursor_of<T>(cursor: &Bytes, read: fn(&str) -> Option<T>) -> Result<T, Problem> {
    let read = std::str::from_utf8(cursor).ok().and_then(read);
    read.ok_or_else(|| Problem::parameter("cursor", "takes the next of the page before"))
}

fn lease_of(cursor: &str) -> Option<LeaseId> {
    cursor.parse().ok()
}

fn key_of(cursor: &str) -> Option<Key> {
    Key::new(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()
}

/// An entry of a list.
trait Listed: Serialize {
    /// An upper bound of its length as JSON.
    fn max_json_bytes(&self) -> usize;
}

/// A lease, as it is told.
struct LeaseItem {
    lease: Lease,
    /// The clock of the node that tells.
    now_ms: u64,
}

impl Listed for LeaseItem {
    fn max_json_bytes(&self) -> usize {
        item::max_json_bytes(0)
    }
}

fn fields(item: &LeaseItem) -> Map<String, Value> {
    let Lease { id, ttl_ms, expires_at_ms, keys } = item.lease;
    let left_ms = expires_at_ms.saturating_sub(item.now_ms);
    Map::from_iter([
        ("id".to_owned(), id.to_string().into()),
        ("ttl_ms".to_owned(), ttl_ms.into()),
        ("left_ms".to_owned(), left_ms.into()),
        ("expires_at_ms".to_owned(), expires_at_ms.into()),
        ("keys".to_owned(), keys.into()),
    ])
}

impl Serialize for LeaseItem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fields(self).serialize(serializer)
    }
}

/// A key of a lease.
struct KeyItem(Key);

impl Listed for KeyItem {
    fn max_json_bytes(&self) -> usize {
        item::max_json_bytes(self.0.as_bytes().len())
    }
}

impl Serialize for KeyItem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        bytes_entry(&mut map, ["key", "key_base64"], self.0.as_bytes())?;
        map.end()
    }
}

/// A page of a list: `[…`, and its last entry when more follow.
struct List<T> {
    items: Vec<u8>,
    last: Option<T>,
}

impl<T: Listed> List<T> {
    /// Takes at most `limit` entries, and no more than a page and the byte budget have room for.
    async fn of(
        walk: impl Iterator<Item = Result<T, RequestError>>,
        limit: usize,
        hold: &mut Hold,
    ) -> Result<List<T>, PageError> {
        let mut list = List { items: vec![b'['], last: None };
        let mut count = 0;
        for entry in walk {
            let entry = entry.map_err(PageError::Node)?;
            let len_bytes = list.items.len() + entry.max_json_bytes();
            if count == 0 {
                hold.grow(len_bytes).map_err(PageError::Refused)?;
            } else if count >= limit || len_bytes > PAGE_BYTES || !hold.try_grow(len_bytes) {
                return Ok(list);
            }
            append(&mut list.items, &entry);
            (count, list.last) = (count + 1, Some(entry));
            if count.is_multiple_of(TURN_ENTRIES) {
                yield_now().await;
            }
        }
        list.last = None;
        Ok(list)
    }
}

/// The reply: the items of a list, and the other fields.
fn reply(mut items: Vec<u8>, rest: Map<String, Value>, hold: Hold) -> Reply {
    let mut body = b"{\"items\":".to_vec();
    body.append(&mut items);
    body.extend_from_slice(b"],");
    body.extend_from_slice(&Value::Object(rest).to_string().as_bytes()[1..]);
    Reply::new(StatusCode::OK, "application/json", body).holding(hold)
}
