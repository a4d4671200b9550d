//! What a caller learns when an operation did not work.
//!
//! The one question that matters after a failed write is whether it happened: [`ClientError::applied`].
//! A single attempt with an unknown outcome makes that of the whole operation unknown, whatever the
//! attempts after it were told.

use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Whether a request had its effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Applied {
    /// Surely not.
    #[default]
    No,
    /// It may have, or may still; read before writing again.
    Unknown,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no server is named; give one, such as http://127.0.0.1:8081")]
    NoServers,

    #[error("{server:?} is no server: {why}; write it as http://host:port")]
    BadServer { server: String, why: String },

    #[error("cannot set up HTTP: {}", root_cause(.0))]
    Setup(#[source] reqwest::Error),

    /// A server answered, and refused.
    #[error("{}{}", .problem, doubt(*.applied))]
    Refused { problem: Box<Problem>, applied: Applied },

    /// No server took a connection, or the last one tried did not.
    #[error(
        "no server can be reached, tried {}: {}; is a node running there?{}",
        .tried.join(", "), root_cause(.source), doubt(*.applied)
    )]
    Unreachable { tried: Vec<String>, source: reqwest::Error, applied: Applied },

    /// A server took the request and gave no whole answer.
    #[error("{server} gave no answer: {}{}", root_cause(.source), doubt(*.applied))]
    Lost { server: String, source: reqwest::Error, applied: Applied },

    /// A server took a request that changes nothing, and fell silent.
    #[error("{server} said nothing for {}", humantime::format_duration(*.after))]
    Silent { server: String, after: Duration },

    #[error(
        "the reply of {server} is longer than {limit_bytes} bytes; ask for less: fewer keys, or keys only{}",
        doubt(*.applied)
    )]
    ReplyTooLong { server: String, limit_bytes: usize, applied: Applied },

    /// An answer that is not what a node of this version sends.
    #[error("{server} does not answer like a ConureDB node: {what}; is it one?{}", doubt(*.applied))]
    BadReply { server: String, what: String, applied: Applied },
}

impl ClientError {
    pub fn applied(&self) -> Applied {
        match self {
            Self::NoServers | Self::BadServer { .. } | Self::Setup(_) | Self::Silent { .. } => {
                Applied::No
            }
            Self::Refused { applied, .. }
            | Self::Unreachable { applied, .. }
            | Self::Lost { applied, .. }
            | Self::ReplyTooLong { applied, .. }
            | Self::BadReply { applied, .. } => *applied,
        }
    }

    /// The server's refusal, when that is what it was.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused { problem, .. } => Some(problem),
            _ => None,
        }
    }

    /// Whether a server refused with this code.
    pub fn is_code(&self, code: &str) -> bool {
        self.problem().is_some_and(|problem| problem.code == code)
    }
}

/// A refusal: the problem document of RFC 9457 that API.md describes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Problem {
    pub status: u16,
    /// Stable, in snake_case; empty when the reply was no problem document (a proxy's page, say).
    pub code: String,
    pub title: String,
    pub detail: String,
    pub retryable: bool,
    /// The leader's Raft address.
    pub leader: Option<String>,
    pub leader_http: Option<String>,
    #[serde(deserialize_with = "applied_from_text")]
    pub applied: Option<Applied>,
    /// What the logs of the nodes call the request.
    pub request_id: Option<String>,
    /// Who said it.
    #[serde(skip)]
    pub server: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let said = if self.detail.is_empty() { &self.title } else { &self.detail };
        match self.code.is_empty() {
            true => write!(f, "{said} (status {} of {}", self.status, self.server)?,
            false => write!(f, "{said} ({} {} of {}", self.status, self.code, self.server)?,
        }
        // Whoever looks into it needs the logs; what a client did wrong is in none.
        match &self.request_id {
            Some(id) if self.status >= 500 => write!(f, ", request {id})"),
            _ => write!(f, ")"),
        }
    }
}

fn applied_from_text<'de, D: Deserializer<'de>>(text: D) -> Result<Option<Applied>, D::Error> {
    Ok(Some(match String::deserialize(text)?.as_str() {
        "no" => Applied::No,
        _ => Applied::Unknown,
    }))
}

fn doubt(applied: Applied) -> &'static str {
    match applied {
        Applied::No => "",
        Applied::Unknown => "; it may have been applied or not: read before writing again",
    }
}

/// The innermost cause: "Connection refused" and not "error sending request for url …".
fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
