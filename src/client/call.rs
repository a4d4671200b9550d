//! A request before it has a server, and what can come back.
//!
//! Here stands what one exchange means: which answers are good, which refusals are for the moment, and
//! what is known of a request that got no answer. What is done about it is `transport`'s.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ETAG, HeaderMap, HeaderName, LOCATION, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;

use super::error::{Applied, ClientError, Problem};
use super::servers::base_url;
use crate::types::LeaseId;

/// Longest refusal that is read; a problem document has some hundred bytes.
pub const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Also when an earlier attempt may have been applied: reads, writes that carry a name, and what
    /// has the same effect once and twice.
    Always,
    /// Only while nothing can have been applied.
    Unapplied,
    /// The first answer counts, whatever it is.
    Never,
}

/// A request, without the server it goes to.
#[derive(Debug)]
pub struct Call {
    pub method: Method,
    /// Path and query, percent-encoded.
    pub target: String,
    pub headers: Vec<(HeaderName, String)>,
    pub body: Bytes,
    pub retry: Retry,
    /// How long one attempt may take, when that is less than the client's own.
    pub attempt_timeout: Option<Duration>,
}

impl Call {
    pub fn get(target: impl Into<String>) -> Call {
        Call {
            method: Method::GET,
            target: target.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            retry: Retry::Always,
            attempt_timeout: None,
        }
    }

    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Call {
        self.headers.push((name, value.into()));
        self
    }

    /// What is known after an attempt that got no whole answer.
    pub fn after_silence(&self) -> Applied {
        match self.method {
            Method::GET => Applied::No,
            _ => Applied::Unknown,
        }
    }
}

/// A 2xx answer.
#[derive(Debug)]
pub struct Reply {
    pub server: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What to say of the request should this reply turn out to be unreadable.
    pub silence: Applied,
}

impl Reply {
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|why| self.bad(format!("its JSON: {why}")))
    }

    /// A header that holds a number, if there is one.
    pub fn number(&self, name: &str) -> Result<Option<u64>, ClientError> {
        let Some(value) = self.headers.get(name) else { return Ok(None) };
        let number = value.to_str().ok().and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| self.bad(format!("its header {name}: {value:?}")))
    }

    /// The revision that the entity tag names.
    pub fn etag(&self) -> Result<u64, ClientError> {
        let tag = self.headers.get(ETAG).and_then(|tag| tag.to_str().ok());
        let digits = tag.and_then(|tag| tag.strip_prefix('"')?.strip_suffix('"'));
        let revision = digits.and_then(|digits| digits.parse().ok());
        revision.ok_or_else(|| self.bad(format!("its entity tag: {tag:?}")))
    }

    /// How long the value that was read has still to live.
    pub fn ttl(&self) -> Result<Option<Duration>, ClientError> {
        let Some(ttl) = self.headers.get("x-conure-ttl") else { return Ok(None) };
        let parsed = ttl.to_str().ok().and_then(|text| humantime::parse_duration(text).ok());
        parsed.map(Some).ok_or_else(|| self.bad(format!("its time to live: {ttl:?}")))
    }

    /// The lease that the value that was read ends with.
    pub fn lease(&self) -> Result<Option<LeaseId>, ClientError> {
        let Some(lease) = self.headers.get("x-conure-lease") else { return Ok(None) };
        let parsed = lease.to_str().ok().and_then(|text| text.parse().ok());
        parsed.map(Some).ok_or_else(|| self.bad(format!("its lease: {lease:?}")))
    }

    pub fn bad(&self, what: String) -> ClientError {
        ClientError::BadReply { server: self.server.clone(), what, applied: self.silence }
    }
}

/// How an attempt failed.
pub struct Failure {
    pub error: ClientError,
    pub retry_after: Option<Duration>,
    /// The server a redirect names.
    pub redirect: Option<String>,
    /// Whether another server, or a later time, may do better.
    pub passing: bool,
}

impl Failure {
    pub fn settled(error: ClientError) -> Failure {
        Failure { error, retry_after: None, redirect: None, passing: false }
    }

    pub fn passing(error: ClientError) -> Failure {
        Failure { passing: true, ..Failure::settled(error) }
    }

    /// Whether it is the answer of a server that works: "no such key", say.
    pub fn is_answer(&self) -> bool {
        !self.passing && self.error.problem().is_some()
    }
}

/// The body, or `None` when it is longer than `limit_bytes`; then the rest stays unread.
pub async fn read(
    mut response: reqwest::Response,
    limit_bytes: usize,
) -> Result<Option<Bytes>, reqwest::Error> {
    if response.content_length().is_some_and(|len_bytes| len_bytes > limit_bytes as u64) {
        return Ok(None);
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > limit_bytes {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

/// What an answer that is not 2xx means for the request.
pub fn refusal(
    server: &str,
    call: &Call,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Failure {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let mut problem: Problem = serde_json::from_slice(body).unwrap_or_else(|_| Problem {
        title: format!(
            "no problem document: {}",
            String::from_utf8_lossy(&body[..body.len().min(200)])
        ),
        ..Problem::default()
    });
    problem.status = status.as_u16();
    problem.server = server.to_owned();
    // Without a word about it (from a proxy, say), an error of a server leaves the outcome open, but
    // for the two that are answers before anything is proposed.
    let refused_early = matches!(status.as_u16(), 503 | 507) || !status.is_server_error();
    let unsaid = if refused_early { Applied::No } else { call.after_silence() };
    let applied = problem.applied.unwrap_or(unsaid);
    let redirect = text(LOCATION)
        .filter(|_| status == StatusCode::TEMPORARY_REDIRECT)
        .and_then(|location| location.strip_suffix(call.target.as_str()))
        .and_then(|base| base_url(base).ok());
    let passing = redirect.is_some() || matches!(status.as_u16(), 408 | 429 | 502 | 503 | 504);
    let retry_after = text(RETRY_AFTER).and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let error = ClientError::Refused { problem: Box::new(problem), applied };
    Failure { error, retry_after, redirect, passing }
}
