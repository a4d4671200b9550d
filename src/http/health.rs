//! What supervisors and monitors ask: is the process alive, may it get traffic, what does it measure.
//!
//! `/livez` and `/readyz` differ on purpose. A node without a quorum is alive, and restarting it
//! would make things worse; it is not ready, and clients should ask another one.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use serde_json::json;

use super::State;
use super::contract::openapi;
use super::contract::parameters::READYZ;
use super::error::{Answer, Code, Problem};
use super::node;
use super::reply::Reply;
use super::target::Params;
use crate::metrics::CONTENT_TYPE;

/// `GET /livez`: asks nobody, so it fails only when the workers do.
pub fn livez() -> Reply {
    Reply::ok()
}

/// `GET /readyz`: whether a leader is known and this node has caught up; `?verbose` says more.
pub async fn readyz(request: &HttpRequest, state: &State) -> Answer {
    let verbose = Params::parse(request.uri().query(), &[READYZ])?.flag("verbose")?;
    let status = node::status(state).await.map_err(|error| Problem::from_node(error, request))?;
    if !status.not_ready.is_empty() {
        return Err(Problem::new(Code::NotReady, status.not_ready.join("; "))
            .with("reasons", status.not_ready));
    }
    if !verbose {
        return Ok(Reply::ok());
    }
    Ok(Reply::json(&json!({
        "status": "ready",
        "role": status.role,
        "leader_id": status.leader.map_or(String::new(), |leader| leader.name),
        "term": status.term,
        "commit_index": status.commit_index,
        "applied_index": status.applied_index,
    })))
}

/// `GET /health`: who answers, in which cluster size.
pub async fn health(request: &HttpRequest, state: &State) -> Answer {
    let status = node::status(state).await.map_err(|error| Problem::from_node(error, request))?;
    Ok(Reply::json(&json!({
        "status": "ok",
        "mode": state.options.mode,
        "member_count": status.member_count,
        "node_id": status.node_name,
    })))
}

/// `GET /metrics`
pub fn metrics(state: &State) -> Answer {
    match state.metrics.encode() {
        Ok(text) => Ok(Reply::new(StatusCode::OK, CONTENT_TYPE, text)),
        Err(error) => Err(Problem::new(Code::Internal, error.to_string())),
    }
}

/// `GET /openapi.json`
pub fn openapi() -> Reply {
    Reply::new(StatusCode::OK, "application/json", openapi::DOCUMENT.clone())
}
