//! The past: `revision=N` in place of the present, and the history of a key.
//!
//! A read of the past gets a state like any other read and goes back from there. So it is told apart from a
//! revision that is still to come by the leader's word, and with `stale` by this node's own.
//!
//! A history is a list in pages, newest version first. The next page is the same request with `revision`
//! set to what `next` says: no cursor is needed, since a history up to a revision never changes, but for
//! its end, which is trimmed.

use std::sync::Arc;

use actix_web::HttpRequest;
use serde_json::json;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::admission::Permit;
use super::error::{Answer, Code, Problem};
use super::item::VersionItem;
use super::page::{LARGE_BYTES, PAGE_BYTES, TURN_ENTRIES, append};
use super::reply::Reply;
use super::target::Params;
use super::{State, node};
use crate::actors::messages::{NotKept, ReadView, View};
use crate::types::{Key, Revision};

/// Versions of a page when the request does not say.
const DEFAULT_LIMIT: usize = 100;

/// Gets a state to read from: the present one, or what `revision` names.
pub async fn read(
    params: &Params,
    request: &HttpRequest,
    state: &State,
) -> Result<(ReadView, Permit), Problem> {
    let revision = params.revision("revision")?;
    let question = node::question(params, state)?;
    let (present, permit) = node::read(question, request, state).await?;
    let view = match revision {
        None => present.view,
        Some(revision) => at(&*present.view, revision)?,
    };
    Ok((ReadView { view, ..present }, permit))
}

/// What `view` was at `revision`.
pub fn at(view: &dyn View, revision: Revision) -> Result<Arc<dyn View>, Problem> {
    view.at(revision).map_err(|error| match error {
        NotKept::Trimmed { oldest } => {
            let detail = format!(
                "revision {revision} is not kept any more; the oldest that is, is {oldest}"
            );
            Problem::new(Code::RevisionTrimmed, detail)
                .with("oldest_revision", oldest)
                .with("revision", view.revision())
        }
        NotKept::Future { revision: now } => {
            let detail = format!("revision {revision} is still to come; the store is at {now}");
            Problem::new(Code::RevisionInFuture, detail).with("revision", now)
        }
    })
}

/// `GET` with `history`: what became of a key, newest first.
pub async fn history(key: &Key, params: &Params, request: &HttpRequest, state: &State) -> Answer {
    let limit = params.count("limit")?.unwrap_or(DEFAULT_LIMIT).min(state.options.max_scan_results);
    let deadline = Instant::now() + state.options.request_timeout;
    let (view, _permit) = read(params, request, state).await?;
    let failed = |error| Problem::from_node(error, request);
    let mut hold = state.admission.hold();
    let mut items = vec![b'['];
    let (mut count, mut last, mut is_full) = (0, None, false);
    let mut walk = view.view.history(key).map_err(failed)?;
    let mut next = None;
    for version in walk.by_ref() {
        let version = version.map_err(failed)?;
        let item = VersionItem(&version);
        let item_bytes = item.max_json_bytes();
        if count == 0 {
            hold.grow(item_bytes)?;
        } else if is_full || !hold.try_grow(items.len() + item_bytes) {
            next = last;
            break;
        }
        append(&mut items, &item);
        (count, last) = (count + 1, version.revision.checked_sub(1));
        is_full = count >= limit || items.len() >= PAGE_BYTES;
        if count.is_multiple_of(TURN_ENTRIES) || item_bytes >= LARGE_BYTES {
            yield_now().await;
            is_full |= Instant::now() >= deadline;
        }
    }
    items.push(b']');
    let trimmed = next.is_none() && walk.is_cut();
    let rest = json!({
        "next": next,
        "trimmed": trimmed,
        "oldest_revision": view.view.oldest_revision(),
        "revision": view.view.revision(),
    });
    let mut body = b"{\"items\":".to_vec();
    body.append(&mut items);
    body.push(b',');
    body.extend_from_slice(&rest.to_string().as_bytes()[1..]);
    let reply = Reply::new(actix_web::http::StatusCode::OK, "application/json", body);
    Ok(reply.holding(hold).stale_for(view.stale_for).revision(view.view.revision()))
}
