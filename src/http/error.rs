//! Errors as clients see them: RFC 9457 problem documents with stable codes.
//!
//! A [`Problem`] is what went wrong ([`Code`], which fixes the status) and the words for a person
//! (`detail`, which says what to do next where that is known). Two members are for programs that retry:
//!
//! - `applied` is `"no"` when the request surely had no effect, `"unknown"` when it may have one.
//!   Reads never change anything and carry `"no"`.
//! - `retryable` is whether the same request, sent again, may succeed and cannot do harm. A write whose
//!   outcome is unknown is retryable only if it carried an `Idempotency-Key`.
//!
//! Every [`RequestError`] of the node below is mapped here and nowhere else. What this module cannot
//! shape are the refusals of the protocol parser, which never reach the floor: it answers a bare 400
//! to a head it cannot read, 431 to one beyond its own limits and 408 to one that comes too slowly.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::uri::PathAndQuery;
use serde_json::{Map, Value};

use super::contract::parameters::{ETAG, Header, STORE_REVISION_IF_ANY};
use super::headers;
use super::reply::Reply;
use crate::actors::messages::{Applied, RequestError};
use crate::types::{KeyError, Revision};

/// Seconds a client is asked to wait after a 429, 503 or 507. An election takes about as long, and a full disk is
/// looked at as often.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// What went wrong, in a form that programs may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    MissingKey,
    KeyTooLong,
    BadParameter,
    BadBody,
    TooManyOps,
    RevisionInFuture,
    KeyNotFound,
    UnknownNode,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    ValueTooLarge,
    HeadTooLarge,
    NodeConflict,
    Refused,
    Superseded,
    KeyReused,
    RevisionTrimmed,
    SlowWatcher,
    LeaseNotFound,
    LeaseLimit,
    ConditionFailed,
    Overloaded,
    NotLeader,
    NoLeader,
    NotReady,
    TooStale,
    Timeout,
    StorageFull,
    StorageFailed,
    Internal,
}

impl Code {
    /// Its status, its name on the wire and its title, in one table.
    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Code::MissingKey => (400, "missing_key", "The request names no key"),
            Code::KeyTooLong => (400, "key_too_long", "The key is too long"),
            Code::BadParameter => (400, "bad_parameter", "A parameter or header is not valid"),
            Code::BadBody => (400, "bad_body", "The body is not valid"),
            Code::TooManyOps => (400, "too_many_ops", "The transaction has too many operations"),
            Code::RevisionInFuture => {
                (400, "revision_in_future", "The store has not come to this revision")
            }
            Code::KeyNotFound => (404, "key_not_found", "The key does not exist"),
            Code::UnknownNode => (404, "unknown_node", "The cluster has no such member"),
            Code::NotFound => (404, "not_found", "There is no such resource"),
            Code::MethodNotAllowed => (405, "method_not_allowed", "The method is not allowed here"),
            Code::RequestTimeout => (408, "request_timeout", "The request came too slowly"),
            Code::ValueTooLarge => (413, "value_too_large", "The value is too large"),
            Code::HeadTooLarge => (431, "head_too_large", "The request's head is too large"),
            Code::NodeConflict => (409, "node_conflict", "Another node is in the way"),
            Code::Refused => (409, "refused", "The cluster does not allow this"),
            Code::Superseded => (409, "superseded", "A later write of this client was applied"),
            Code::KeyReused => (409, "key_reused", "The idempotency key belongs to another write"),
            Code::RevisionTrimmed => (410, "revision_trimmed", "The revision is no longer kept"),
            Code::SlowWatcher => (429, "slow_watcher", "The watcher took its events too slowly"),
            Code::LeaseNotFound => (404, "lease_not_found", "There is no such lease"),
            Code::LeaseLimit => (409, "lease_limit", "A limit of leases is reached"),
            Code::ConditionFailed => (412, "condition_failed", "The condition does not hold"),
            Code::Overloaded => (429, "overloaded", "The node has as much work as it takes"),
            Code::NotLeader => (307, "not_leader", "Another node leads"),
            Code::NoLeader => (503, "no_leader", "No leader can be reached"),
            Code::NotReady => (503, "not_ready", "The node cannot serve this now"),
            Code::TooStale => (503, "too_stale", "The node's state is older than allowed"),
            Code::Timeout => (504, "timeout", "No answer in time"),
            Code::StorageFull => (507, "storage_full", "The disk is full"),
            Code::StorageFailed => (500, "storage_failed", "The node cannot read its storage"),
            Code::Internal => (500, "internal", "The node broke its own rules"),
        }
    }

    pub fn status_number(self) -> u16 {
        self.row().0
    }

    pub fn name(self) -> &'static str {
        self.row().1
    }

    pub fn title(self) -> &'static str {
        self.row().2
    }

    /// The headers that such a reply may have, beside those of every reply and of its status.
    pub fn headers(self) -> &'static [Header] {
        match self {
            Code::KeyNotFound => &[STORE_REVISION_IF_ANY],
            Code::ConditionFailed => &[ETAG, STORE_REVISION_IF_ANY],
            _ => &[],
        }
    }

    fn status(self) -> StatusCode {
        StatusCode::from_u16(self.status_number()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn is_retryable(self) -> bool {
        matches!(
            self,
            Code::RequestTimeout
                | Code::Overloaded
                | Code::SlowWatcher
                | Code::NotLeader
                | Code::NoLeader
                | Code::NotReady
                | Code::TooStale
                | Code::Timeout
                | Code::StorageFull
        )
    }
}

/// An error reply in the making.
#[derive(Debug)]
pub struct Problem {
    code: Code,
    detail: String,
    applied: Applied,
    retryable: bool,
    /// Further members of the document.
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What handlers return.
pub type Answer = Result<Reply, Problem>;

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem {
            code,
            detail: detail.into(),
            applied: Applied::No,
            retryable: code.is_retryable(),
            members: Map::new(),
            headers: Vec::new(),
        }
    }

    /// A parameter or header that is not valid: its name, and what is allowed.
    pub fn parameter(name: &str, allowed: impl std::fmt::Display) -> Problem {
        Problem::new(Code::BadParameter, format!("{name}: {allowed}"))
    }

    #[cfg(test)]
    pub fn code(&self) -> Code {
        self.code
    }

    /// Adds a member to the document.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Problem {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Says where it was found.
    pub fn at(mut self, place: &str) -> Problem {
        self.detail = format!("{place}: {}", self.detail);
        self
    }

    /// Says what can be done about it.
    pub fn hint(mut self, what: &str) -> Problem {
        self.detail = format!("{}; {what}", self.detail);
        self
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.push((name, value));
        self
    }

    /// Says that the request may have had an effect.
    pub fn outcome_unknown(mut self) -> Problem {
        self.applied = Applied::Unknown;
        self.retryable = false;
        self
    }

    /// Says that the request carried an `Idempotency-Key`: sent again it is applied at most once.
    pub fn idempotent(mut self) -> Problem {
        self.retryable |= self.code == Code::Timeout;
        self
    }

    /// The document.
    pub fn document(&self) -> Value {
        let (status, name, title) = self.code.row();
        let mut document = Map::new();
        document.insert("type".to_owned(), format!("urn:conuredb:problem:{name}").into());
        document.insert("title".to_owned(), title.into());
        document.insert("status".to_owned(), status.into());
        document.insert("detail".to_owned(), self.detail.as_str().into());
        document.insert("code".to_owned(), name.into());
        document.insert("retryable".to_owned(), self.retryable.into());
        let applied = match self.applied {
            Applied::No => "no",
            Applied::Unknown => "unknown",
        };
        document.insert("applied".to_owned(), applied.into());
        document.extend(self.members.clone());
        Value::Object(document)
    }

    /// The reply: status, headers and document.
    pub fn into_reply(mut self) -> Reply {
        let status = self.code.status();
        let headers = std::mem::take(&mut self.headers);
        let document = self.document().to_string();
        let mut reply = Reply::new(status, "application/problem+json", document);
        for (name, value) in headers {
            reply = reply.header(name, value);
        }
        match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::INSUFFICIENT_STORAGE => {
                reply.header(header::RETRY_AFTER, RETRY_AFTER_SECONDS)
            }
            _ => reply,
        }
    }

    /// The reply to a request that only `leader_http` can answer: the same target over there.
    fn redirect(leader_name: &str, leader_raft: &str, leader_http: &str, target: &str) -> Problem {
        let location = format!("{}{target}", leader_http.trim_end_matches('/'));
        let problem = match HeaderValue::from_bytes(location.as_bytes()) {
            Ok(location) if !leader_http.is_empty() => Problem::new(
                Code::NotLeader,
                format!("node {leader_name} leads; send the request to {leader_http}"),
            )
            .header(header::LOCATION, location),
            _ => Problem::new(
                Code::NoLeader,
                format!("node {leader_name} leads, and its HTTP address is not known here"),
            ),
        };
        problem.with("leader", leader_raft).with("leader_http", leader_http)
    }

    /// Maps an error of the node; a redirect leads to the request's own target.
    pub fn from_node(error: RequestError, request: &HttpRequest) -> Problem {
        Problem::of(error, request.uri().path_and_query().map_or("/", PathAndQuery::as_str))
    }

    /// Maps an error that ends a stream, whose request is over.
    pub fn in_stream(error: RequestError) -> Problem {
        Problem::of(error, "/")
    }

    fn of(error: RequestError, target: &str) -> Problem {
        let applied = error.applied();
        let detail = error.to_string();
        let problem = match error {
            RequestError::NoLeader { .. } => Problem::new(Code::NoLeader, detail),
            RequestError::NotReady { .. } => Problem::new(Code::NotReady, detail),
            RequestError::NotLeader { leader_name, leader_raft, leader_http } => {
                Problem::redirect(&leader_name, &leader_raft, &leader_http, target)
            }
            RequestError::TimedOut { .. } | RequestError::OutcomeUnknown { .. } => {
                Problem::new(Code::Timeout, detail)
            }
            RequestError::TooStale { age_ms, max_ms } => {
                Problem::new(Code::TooStale, detail).with("age_ms", age_ms).with("max_ms", max_ms)
            }
            RequestError::StorageFull { .. } => Problem::new(Code::StorageFull, detail),
            RequestError::NodeConflict { .. } => Problem::new(Code::NodeConflict, detail),
            RequestError::UnknownNode { .. } => Problem::new(Code::UnknownNode, detail),
            RequestError::Refused { .. } => Problem::new(Code::Refused, detail),
            RequestError::RevisionTrimmed { oldest, revision } => {
                Problem::new(Code::RevisionTrimmed, detail)
                    .with("oldest_revision", oldest)
                    .with("revision", revision)
            }
            RequestError::SlowWatcher => Problem::new(Code::SlowWatcher, detail),
            RequestError::Storage { .. } => Problem::new(Code::StorageFailed, detail),
        };
        match applied {
            Applied::No => problem,
            Applied::Unknown => problem.outcome_unknown(),
        }
    }

    /// What needs a key or a range names neither.
    pub fn missing_key() -> Problem {
        let detail =
            "name a key with key=, or a range with prefix= (empty for all keys), start= or end=";
        Problem::new(Code::MissingKey, detail)
    }

    /// The reply to a condition that did not hold; `current` is the key's `mod_revision`.
    pub fn condition_failed(current: Option<Revision>, revision: Revision) -> Problem {
        let detail = match current {
            Some(current) => format!("the key is at revision {current}"),
            None => "the key does not exist".to_owned(),
        };
        let problem = Problem::new(Code::ConditionFailed, detail)
            .header(headers::REVISION, revision.into())
            .with("current_revision", current)
            .with("revision", revision);
        match current {
            Some(current) => problem.header(header::ETAG, headers::etag(current)),
            None => problem,
        }
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Problem {
        let code = match error {
            KeyError::Empty => Code::MissingKey,
            KeyError::TooLong { .. } => Code::KeyTooLong,
        };
        Problem::new(code, error.to_string())
    }
}
