//! `POST /compact`: has the node that is asked give back what its file does not need.
//!
//! Every node has a file of its own, and its own compaction, which changes nothing that another could tell: so the
//! request is not passed on. It answers when the compaction has begun; `GET /status` of the same node tells when
//! there is none any more, and how long the file is then.

use actix_web::HttpRequest;
use serde_json::json;

use super::error::{Answer, Problem};
use super::node::{self, lost_change};
use super::reply::Reply;
use super::{State, trace};
use crate::actors::messages::{Compact, Compacting};

pub async fn post(request: &HttpRequest, state: &State) -> Answer {
    let permit = state.admission.admin()?;
    let timeout = state.options.write_timeout;
    let asked = node::ask(
        &state.gateway.compact,
        Compact { trace: trace::id() },
        timeout,
        permit,
        lost_change,
    )
    .await;
    let (compacting, _) = asked.map_err(|error| Problem::from_node(error, request))?;
    let Compacting { begun, file_bytes, live_bytes, free_bytes } = compacting;
    Ok(Reply::json(&json!({
        "begun": begun,
        "node_id": state.options.node_name,
        "db_bytes": file_bytes,
        "db_bytes_live": live_bytes,
        "db_bytes_free": free_bytes,
    }))
    .accepted())
}
