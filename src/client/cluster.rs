//! What an operator does: look at the cluster, change who belongs to it.
//!
//! Replies are read leniently: a field that is missing is empty, one that is new is skipped, so that an
//! older shell works with a newer node. A join and a removal have the same effect once and twice, yet a
//! repeated removal would be told that there is no such node; so only a join is repeated when its
//! outcome is unknown.

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Client;
use super::call::{Call, Reply, Retry};
use super::error::ClientError;
use crate::types::AskedBy;

/// One node's view of the cluster, with the names of `GET /status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Status {
    pub node_id: String,
    /// `leader`, `follower`, `candidate` or `learner`.
    pub role: String,
    pub is_leader: bool,
    /// The leader's Raft address; empty when none is known.
    pub leader: String,
    pub leader_id: Option<String>,
    pub leader_http: Option<String>,
    pub term: u64,
    pub commit_index: u64,
    pub applied_index: u64,
    pub revision: u64,
    pub cluster_id: Option<String>,
    pub version: String,
    /// Bytes of the database file, and those of them in use.
    pub db_bytes: u64,
    pub db_bytes_live: u64,
    /// Whether that file is being compacted.
    pub compacting: bool,
    /// How often that has ended since the node started.
    pub compactions: u64,
    /// The oldest revision that can be read.
    pub oldest_revision: u64,
}

/// A node's database file when its compaction began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Compacting {
    /// False when it was under way already.
    pub begun: bool,
    /// The node, of whose file this is.
    pub node_id: String,
    pub db_bytes: u64,
    pub db_bytes_live: u64,
    pub db_bytes_free: u64,
}

/// Who belongs to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Members {
    /// The leader's Raft address; empty when none is known.
    pub leader: String,
    pub servers: Vec<Member>,
}

impl Members {
    /// Whether `member` is the leader, as the server that was asked knows it.
    pub fn is_led_by(&self, member: &Member) -> bool {
        !self.leader.is_empty() && member.address == self.leader
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Member {
    pub id: String,
    /// The Raft address.
    pub address: String,
    /// `voter` or `nonvoter`.
    pub suffrage: String,
    pub http_address: String,
}

/// A node to add. Also the body of `POST /join`, whence the names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Join {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "RaftAddr")]
    pub raft_addr: String,
    #[serde(rename = "HttpAddr", skip_serializing_if = "Option::is_none")]
    pub http_addr: Option<String>,
    #[serde(rename = "Suffrage", skip_serializing_if = "is_voter", serialize_with = "as_suffrage")]
    pub nonvoter: bool,
    #[serde(rename = "AskedBy", skip_serializing_if = "is_default")]
    pub asked_by: AskedBy,
}

fn is_default(asked_by: &AskedBy) -> bool {
    *asked_by == AskedBy::default()
}

fn is_voter(nonvoter: &bool) -> bool {
    !nonvoter
}

fn as_suffrage<S: serde::Serializer>(_: &bool, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str("nonvoter")
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Health {
    pub status: String,
    pub mode: String,
    pub member_count: u64,
    pub node_id: String,
}

/// Whether a node can serve, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub ready: bool,
    pub reasons: String,
}

/// What a node logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevel {
    /// The node's name.
    pub node: String,
    pub filter: String,
}

impl Client {
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.call(&Call::get("/status")).await?.json()
    }

    /// The members; their HTTP addresses become fallbacks of this client at once.
    pub async fn members(&self) -> Result<Members, ClientError> {
        let members = self.call(&Call::get("/raft/config")).await?.json()?;
        self.learn(&members);
        Ok(members)
    }

    /// Raft's own numbers, whose set grows with the versions.
    pub async fn stats(&self) -> Result<serde_json::Value, ClientError> {
        self.call(&Call::get("/raft/stats")).await?.json()
    }

    /// Adds a node, or confirms that it belongs already.
    pub async fn join(&self, join: &Join) -> Result<(), ClientError> {
        self.post("/join", json!(join), Retry::Always).await
    }

    /// Removes a node for good.
    pub async fn remove(&self, id: &str) -> Result<(), ClientError> {
        self.post("/remove", json!({ "ID": id }), Retry::Unapplied).await
    }

    /// Makes the node `id` the leader.
    pub async fn transfer(&self, id: &str) -> Result<(), ClientError> {
        self.post("/transfer", json!({ "ID": id }), Retry::Unapplied).await
    }

    pub async fn health(&self) -> Result<Health, ClientError> {
        let call = Call { retry: Retry::Never, ..Call::get("/health") };
        self.call(&call).await?.json()
    }

    /// Whether the current server can serve; asks no other.
    pub async fn ready(&self) -> Result<Ready, ClientError> {
        let call = Call { retry: Retry::Never, ..Call::get("/readyz?verbose") };
        match self.call(&call).await {
            Ok(reply) => {
                let reasons = String::from_utf8_lossy(&reply.body).into_owned();
                Ok(Ready { ready: true, reasons })
            }
            Err(ClientError::Refused { problem, .. }) if problem.status == 503 => {
                Ok(Ready { ready: false, reasons: problem.to_string() })
            }
            Err(error) => Err(error),
        }
    }

    /// Has the current server, or the next one that can be reached, compact its own file, and does not wait for the end: [`Status::compacting`] of that
    /// server tells.
    pub async fn compact(&self) -> Result<Compacting, ClientError> {
        let call = Call { method: Method::POST, retry: Retry::Unapplied, ..Call::get("/compact") };
        self.call(&call).await?.json()
    }

    /// What the current server logs; asks no other.
    pub async fn log_level(&self) -> Result<LogLevel, ClientError> {
        let call = Call { retry: Retry::Never, ..Call::get("/log-level") };
        self.call(&call).await.map(LogLevel::of)
    }

    /// Has the current server, and no other, log something else from now on.
    pub async fn set_log_level(&self, filter: &str) -> Result<LogLevel, ClientError> {
        let body = Bytes::from(filter.to_owned());
        let (method, retry) = (Method::PUT, Retry::Never);
        let call = Call { method, body, retry, ..Call::get("/log-level") };
        self.call(&call.header(CONTENT_TYPE, "text/plain")).await.map(LogLevel::of)
    }

    async fn post(
        &self,
        path: &str,
        body: serde_json::Value,
        retry: Retry,
    ) -> Result<(), ClientError> {
        let body = Bytes::from(body.to_string());
        let call = Call { method: Method::POST, body, retry, ..Call::get(path) };
        self.call(&call.header(CONTENT_TYPE, "application/json")).await.map(drop)
    }
}

impl LogLevel {
    fn of(reply: Reply) -> LogLevel {
        let node = reply.headers.get("x-conure-served-by").and_then(|node| node.to_str().ok());
        LogLevel {
            node: node.unwrap_or(&reply.server).to_owned(),
            filter: String::from_utf8_lossy(&reply.body).trim_end().to_owned(),
        }
    }
}
