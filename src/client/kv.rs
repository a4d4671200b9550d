//! What the store does for a client: put, get, delete, scan.
//!
//! Keys and values are bytes throughout. A key goes into the query percent-encoded, every byte of it
//! that is not a letter, a digit or one of `-._~`; a value is the body as it is. Where the server
//! answers in JSON, bytes that are no UTF-8 come in base64 under `key_base64` and `value_base64`.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderName, IF_MATCH, IF_NONE_MATCH};
use serde::Deserialize;

use super::Client;
use super::call::{Call, Reply, Retry};
use super::error::ClientError;
use crate::types::{BadLeaseId, Condition, LeaseId, Revision};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// All but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How a read may be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// From the server's own state, which may be behind.
    pub stale: bool,
    /// Refuse a server that has not heard from a leader for longer; implies `stale`.
    pub max_stale: Option<Duration>,
    /// As it was right after this revision, if the servers keep it.
    pub revision: Option<Revision>,
}

/// A value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub bytes: Bytes,
    /// The revision that wrote it.
    pub mod_revision: Revision,
    /// For a stale read: how long ago the server had heard from a leader.
    pub stale_ms: Option<u64>,
    /// How long it has still to live, if it expires by itself.
    pub ttl: Option<Duration>,
    /// The lease that it ends with.
    pub lease: Option<LeaseId>,
}

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Written {
    pub revision: Revision,
    pub create_revision: Revision,
    /// Writes since the key came to be.
    pub version: u64,
}

/// What a delete of one key did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Whether there was something to delete.
    pub existed: bool,
    pub revision: Option<Revision>,
}

/// What a delete of many keys did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct DeletedRange {
    pub deleted: u64,
    pub revision: Revision,
}

/// Which keys a scan lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    pub prefix: Bytes,
    /// The first key; inside the prefix.
    pub start: Option<Bytes>,
    /// The first key not listed.
    pub end: Option<Bytes>,
    /// Most items in the page; the server may send fewer.
    pub limit: Option<usize>,
    pub reverse: bool,
    pub keys_only: bool,
    /// [`Page::next`] of the page before this.
    pub cursor: Option<String>,
    pub read: ReadOptions,
}

/// A page of a scan.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Page {
    pub items: Vec<Item>,
    /// Where to go on; `None` at the end.
    #[serde(default)]
    pub next: Option<String>,
    /// The revision at which all pages of this scan are read.
    pub revision: Revision,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WireItem")]
pub struct Item {
    pub key: Bytes,
    /// `None` when only keys were asked for.
    pub value: Option<Bytes>,
    pub create_revision: Revision,
    pub mod_revision: Revision,
    pub version: u64,
    /// When it ends, milliseconds since the Unix epoch, if it expires.
    pub expires_at_ms: Option<u64>,
    /// The lease that it ends with.
    pub lease: Option<LeaseId>,
}

#[derive(Deserialize)]
struct WireItem {
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    #[serde(default)]
    create_revision: Revision,
    #[serde(default)]
    mod_revision: Revision,
    #[serde(default)]
    version: u64,
    expires_at_ms: Option<u64>,
    lease: Option<String>,
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadItem {
    #[error(transparent)]
    Bytes(#[from] base64::DecodeError),
    #[error(transparent)]
    Lease(#[from] BadLeaseId),
}

impl TryFrom<WireItem> for Item {
    type Error = BadItem;

    fn try_from(wire: WireItem) -> Result<Item, BadItem> {
        Ok(Item {
            key: either(wire.key, wire.key_base64)?.unwrap_or_default(),
            value: either(wire.value, wire.value_base64)?,
            create_revision: wire.create_revision,
            mod_revision: wire.mod_revision,
            version: wire.version,
            expires_at_ms: wire.expires_at_ms,
            lease: wire.lease.map(|id| id.parse()).transpose()?,
        })
    }
}

/// Bytes that came as text or in base64.
pub(super) fn either(
    text: Option<String>,
    base64: Option<String>,
) -> Result<Option<Bytes>, base64::DecodeError> {
    match (text, base64) {
        (Some(text), _) => Ok(Some(Bytes::from(text))),
        (None, Some(base64)) => STANDARD.decode(base64).map(|bytes| Some(Bytes::from(bytes))),
        (None, None) => Ok(None),
    }
}

impl Client {
    /// Stores `value` under `key`, if `condition` holds.
    pub async fn put(
        &self,
        key: &[u8],
        value: impl Into<Bytes>,
        condition: Condition,
    ) -> Result<Written, ClientError> {
        self.put_to(of_key(key), value.into(), condition).await
    }

    /// Stores `value` under `key` for a time, if `condition` holds; then the key expires.
    pub async fn put_for(
        &self,
        key: &[u8],
        value: impl Into<Bytes>,
        ttl: Duration,
        condition: Condition,
    ) -> Result<Written, ClientError> {
        let ttl = format!("{}ms", ttl.as_millis());
        self.put_to(of_key(key).and("ttl", ttl.as_bytes()), value.into(), condition).await
    }

    /// Stores `value` under `key` for as long as `lease` lasts, if `condition` holds.
    pub async fn put_with_lease(
        &self,
        key: &[u8],
        value: impl Into<Bytes>,
        lease: LeaseId,
        condition: Condition,
    ) -> Result<Written, ClientError> {
        let target = of_key(key).and("lease", lease.to_string().as_bytes());
        self.put_to(target, value.into(), condition).await
    }

    async fn put_to(
        &self,
        target: Target,
        body: Bytes,
        condition: Condition,
    ) -> Result<Written, ClientError> {
        let call = conditional(Call { body, ..write(Method::PUT, target) }, condition);
        self.write(call.header(ACCEPT, "application/json")).await?.json()
    }

    /// The value of `key`, `None` when there is none.
    pub async fn get(&self, key: &[u8], read: ReadOptions) -> Result<Option<Value>, ClientError> {
        let Some(reply) = present(self.call(&Call::get(of_key(key).and_read(read))).await)? else {
            return Ok(None);
        };
        Ok(Some(Value {
            mod_revision: reply.etag()?,
            ttl: reply.ttl()?,
            lease: reply.lease()?,
            stale_ms: reply.number("x-conure-stale-ms")?,
            bytes: reply.body,
        }))
    }

    /// The whole record of `key`, `None` when there is none.
    pub async fn get_item(
        &self,
        key: &[u8],
        read: ReadOptions,
    ) -> Result<Option<Item>, ClientError> {
        let call = Call::get(of_key(key).and_read(read)).header(ACCEPT, "application/json");
        let Some(reply) = present(self.call(&call).await)? else { return Ok(None) };
        reply.json().map(Some)
    }

    /// Removes `key`, if `condition` holds.
    pub async fn delete(&self, key: &[u8], condition: Condition) -> Result<Deleted, ClientError> {
        let reply = self.write(conditional(write(Method::DELETE, of_key(key)), condition)).await?;
        Ok(Deleted {
            existed: reply.number("x-conure-deleted")? == Some(1),
            revision: reply.number("x-conure-revision")?,
        })
    }

    /// Removes every key that begins with `prefix`, all at once.
    pub async fn delete_prefix(&self, prefix: &[u8]) -> Result<DeletedRange, ClientError> {
        let target = Target::new().and("prefix", prefix);
        self.write(write(Method::DELETE, target)).await?.json()
    }

    /// One page of the keys that `scan` names.
    pub async fn scan(&self, scan: &Scan) -> Result<Page, ClientError> {
        self.call(&Call::get(range_target(scan))).await?.json()
    }

    /// Sends a write under a name of its own.
    pub(super) async fn write(&self, call: Call) -> Result<Reply, ClientError> {
        let writer = self.shared.writers.begin();
        self.call(&call.header(IDEMPOTENCY_KEY, writer.idempotency_key())).await
    }
}

pub(super) fn write(method: Method, target: impl Into<String>) -> Call {
    Call { method, retry: Retry::Always, ..Call::get(target) }
}

fn conditional(call: Call, condition: Condition) -> Call {
    match condition {
        Condition::None => call,
        Condition::Absent => call.header(IF_NONE_MATCH, "*"),
        Condition::Present => call.header(IF_MATCH, "*"),
        Condition::ModRevision(revision) => call.header(IF_MATCH, format!("\"{revision}\"")),
    }
}

/// A missing key is an answer, not an error.
fn present(answer: Result<Reply, ClientError>) -> Result<Option<Reply>, ClientError> {
    match answer {
        Ok(reply) => Ok(Some(reply)),
        Err(error) if error.is_code("key_not_found") => Ok(None),
        Err(error) => Err(error),
    }
}

/// `/kv?…` in the making.
pub(super) struct Target(String);

impl Target {
    fn new() -> Target {
        Target::at("/kv")
    }

    /// A resource, without parameters.
    pub(super) fn at(path: &str) -> Target {
        Target(path.to_owned())
    }

    pub(super) fn and(mut self, name: &str, value: &[u8]) -> Target {
        let separator = if self.0.contains('?') { '&' } else { '?' };
        self.0.extend([separator.to_string().as_str(), name, "="]);
        self.0.extend(percent_encode(value, ENCODED));
        self
    }

    pub(super) fn and_read(self, read: ReadOptions) -> Target {
        let target = match (read.max_stale, read.stale) {
            (Some(most), _) => {
                let most = format!("{}ms", most.as_millis());
                self.and("stale", b"true").and("max_stale", most.as_bytes())
            }
            (None, true) => self.and("stale", b"true"),
            (None, false) => self,
        };
        match read.revision {
            Some(revision) => target.and("revision", revision.to_string().as_bytes()),
            None => target,
        }
    }
}

impl From<Target> for String {
    fn from(target: Target) -> String {
        target.0
    }
}

/// What names a range.
pub(super) fn range_target(scan: &Scan) -> Target {
    let mut target = Target::new().and("prefix", &scan.prefix);
    for (name, bytes) in [("start", &scan.start), ("end", &scan.end)] {
        if let Some(bytes) = bytes {
            target = target.and(name, bytes);
        }
    }
    if let Some(limit) = scan.limit {
        target = target.and("limit", limit.to_string().as_bytes());
    }
    for (name, on) in [("reverse", scan.reverse), ("keys_only", scan.keys_only)] {
        if on {
            target = target.and(name, b"true");
        }
    }
    if let Some(cursor) = &scan.cursor {
        target = target.and("cursor", cursor.as_bytes());
    }
    target.and_read(scan.read)
}

pub(super) fn of_key(key: &[u8]) -> Target {
    Target::new().and("key", key)
}
