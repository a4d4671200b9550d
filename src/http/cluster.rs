//! The cluster as clients see and change it: status, membership, leadership.
//!
//! What a node knows of itself is answered from memory and never waits for a quorum. Changes go to the
//! leader through the node, whoever was asked, and are answered when they are done.
//!
//! Names and shapes of the documents are those of the original program (`ID`, `RaftAddr`, "suffrage"), whose
//! clients and charts go on working. Fields it does not know are refused and not ignored: `HTTPAddr`
//! for `HttpAddr` would add a member that no client finds.

use actix::prelude::{Message, Recipient};
use actix_web::HttpRequest;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::body::{Cap, RequestBody};
use super::error::{Answer, Code, Problem};
use super::node::{self, lost_change};
use super::reply::Reply;
use super::{State, trace};
use crate::actors::messages::{Join, Member, Remove, RequestError, Role, Transfer};
use crate::types::AskedBy;

/// Longest body of a request to the cluster; a name and two addresses fit many times.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Longest name or address, in bytes. A DNS name has at most 253.
const MAX_NAME_BYTES: usize = 256;

/// `GET /status`
pub async fn status(request: &HttpRequest, state: &State) -> Answer {
    let status = node::status(state).await.map_err(|error| Problem::from_node(error, request))?;
    let of_leader = |field: fn(&Member) -> &str| status.leader.as_ref().map_or("", field);
    let cluster_id = match status.cluster_id.is_some() {
        true => status.cluster_id.to_string(),
        false => String::new(),
    };
    Ok(Reply::json(&json!({
        "is_leader": status.role == Role::Leader,
        "leader": of_leader(|leader| &leader.raft_addr),
        "node_id": status.node_name,
        "leader_id": of_leader(|leader| &leader.name),
        "leader_http": of_leader(|leader| &leader.http_addr),
        "role": status.role,
        "term": status.term,
        "commit_index": status.commit_index,
        "applied_index": status.applied_index,
        "revision": status.revision,
        "cluster_id": cluster_id,
        "version": env!("CARGO_PKG_VERSION"),
        "db_bytes": status.db_file_bytes,
        "db_bytes_live": status.db_live_bytes,
        "compacting": status.compacting,
        "compactions": status.compactions,
        "oldest_revision": status.oldest_revision,
    })))
}

/// `GET /raft/config`
pub async fn config(request: &HttpRequest, state: &State) -> Answer {
    let members = node::members(state).await.map_err(|error| Problem::from_node(error, request))?;
    let servers: Vec<Value> = members.members.iter().map(server).collect();
    let leader = members.leader.map_or(String::new(), |leader| leader.raft_addr);
    Ok(Reply::json(&json!({ "leader": leader, "servers": servers })))
}

fn server(member: &Member) -> Value {
    json!({
        "id": member.name,
        "address": member.raft_addr,
        "suffrage": if member.voter { "voter" } else { "nonvoter" },
        "http_address": member.http_addr,
    })
}

/// `GET /raft/stats`
pub async fn stats(request: &HttpRequest, state: &State) -> Answer {
    let status = node::status(state).await.map_err(|error| Problem::from_node(error, request))?;
    let peers: Map<String, Value> = status
        .peers
        .iter()
        .map(|(name, peer)| {
            (name.clone(), json!({ "match_index": peer.match_index, "lag": peer.lag }))
        })
        .collect();
    let last_contact = match status.last_contact {
        Some(age) => format!("{}ms", age.as_millis()),
        None => "never".to_owned(),
    };
    Ok(Reply::json(&json!({
        "state": status.role,
        "term": status.term,
        "last_log_index": status.last_log_index,
        "last_log_term": status.last_log_term,
        "commit_index": status.commit_index,
        "applied_index": status.applied_index,
        "last_snapshot_index": status.snapshot_index,
        "last_snapshot_term": status.snapshot_term,
        "first_log_index": status.first_log_index,
        "last_contact": last_contact,
        "num_peers": status.member_count.saturating_sub(1),
        "log_bytes": status.log_bytes,
        "peers": peers,
    })))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct JoinBody {
    #[serde(rename = "ID")]
    id: String,
    raft_addr: String,
    #[serde(default)]
    http_addr: String,
    #[serde(default)]
    suffrage: Suffrage,
    #[serde(default)]
    asked_by: AskedBy,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Suffrage {
    #[default]
    Voter,
    Nonvoter,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberBody {
    #[serde(rename = "ID")]
    id: String,
}

/// `POST /join`
pub async fn join(request: &HttpRequest, body: &mut RequestBody, state: &State) -> Answer {
    let body: JoinBody = parse(body, state, r#"{"ID":"node2","RaftAddr":"host:7001"}"#).await?;
    check_name("ID", &body.id)?;
    check_address("RaftAddr", &body.raft_addr)?;
    if !body.http_addr.is_empty() {
        let address = ["http://", "https://"].iter().find_map(|s| body.http_addr.strip_prefix(s));
        check_address("HttpAddr", address.unwrap_or(&body.http_addr))?;
    }
    let message = Join {
        name: body.id,
        raft_addr: body.raft_addr,
        http_addr: with_scheme(body.http_addr),
        voter: body.suffrage == Suffrage::Voter,
        asked_by: body.asked_by,
        timeout: state.options.join_timeout,
        trace: trace::id(),
    };
    change(&state.gateway.join, message, request, state).await
}

/// `POST /remove`
pub async fn remove(request: &HttpRequest, body: &mut RequestBody, state: &State) -> Answer {
    let name = member_name(body, state).await?;
    let message = Remove { name, timeout: state.options.join_timeout, trace: trace::id() };
    change(&state.gateway.remove, message, request, state).await
}

/// `POST /transfer`
pub async fn transfer(request: &HttpRequest, body: &mut RequestBody, state: &State) -> Answer {
    let name = member_name(body, state).await?;
    let message = Transfer { name, timeout: state.options.join_timeout, trace: trace::id() };
    change(&state.gateway.transfer, message, request, state).await
}

/// Has the node carry a change out.
async fn change<M>(
    recipient: &Recipient<M>,
    message: M,
    request: &HttpRequest,
    state: &State,
) -> Answer
where
    M: Message<Result = Result<(), RequestError>> + Send + 'static,
{
    let permit = state.admission.admin()?;
    let changed = node::ask(recipient, message, state.options.join_timeout, permit, lost_change);
    match changed.await {
        Ok(_) => Ok(Reply::ok()),
        Err(error) => Err(Problem::from_node(error, request)),
    }
}

async fn member_name(body: &mut RequestBody, state: &State) -> Result<String, Problem> {
    let body: MemberBody = parse(body, state, r#"{"ID":"node2"}"#).await?;
    check_name("ID", &body.id)?;
    Ok(body.id)
}

/// Reads a body as JSON, whatever its media type: `curl -d` calls everything a form.
async fn parse<T: DeserializeOwned>(
    body: &mut RequestBody,
    state: &State,
    example: &str,
) -> Result<T, Problem> {
    let mut hold = state.admission.hold();
    let timeout = state.options.request_timeout;
    let bytes = body.read(Cap::fixed(MAX_BODY_BYTES), timeout, &mut hold).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| bad_body(format!("{error}; the body is JSON such as {example}")))
}

fn bad_body(detail: String) -> Problem {
    Problem::new(Code::BadBody, detail)
}

fn check_name(field: &str, name: &str) -> Result<(), Problem> {
    let is_name = (1..=MAX_NAME_BYTES).contains(&name.len())
        && !name.chars().any(|c| c.is_control() || c.is_whitespace());
    if is_name {
        return Ok(());
    }
    Err(bad_body(format!("{field} takes 1 to {MAX_NAME_BYTES} bytes without spaces")))
}

/// Checks for `host:port`, where the host may be a name, an IPv4 or a bracketed IPv6 address.
fn check_address(field: &str, address: &str) -> Result<(), Problem> {
    let parts = address.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
    match parts {
        Some((host, Ok(1..))) if !host.contains('/') && check_name(field, host).is_ok() => Ok(()),
        _ => Err(bad_body(format!("{field} takes host:port, not {address:?}"))),
    }
}

/// The address with a scheme, as members are stored.
fn with_scheme(address: String) -> String {
    match address.is_empty() || address.contains("://") {
        true => address,
        false => format!("http://{address}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["127.0.0.1:7001", "node-1.cluster.local:7001", "[::1]:65535"] {
            assert!(check_address("RaftAddr", good).is_ok(), "{good}");
        }
        for bad in ["", "host", ":7001", "host:", "host:0", "host:65536", "http://host:1", "a b:1"]
        {
            assert!(check_address("RaftAddr", bad).is_err(), "{bad}");
        }
    }
}
