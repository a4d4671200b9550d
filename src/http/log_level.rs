//! `/log-level`: what this node logs, told and changed while it runs.
//!
//! A change is of this node alone and lasts until its process ends; what it starts with stands in the setting
//! `log_level`.

use actix_web::HttpRequest;
use serde::Deserialize;
use serde_json::json;

use super::State;
use super::body::{Cap, RequestBody};
use super::error::{Answer, Code, Problem};
use super::headers;
use super::reply::Reply;
use crate::logs::MAX_FILTER_BYTES;

/// Longest body: a filter as JSON, whose characters may be escaped.
const MAX_BODY_BYTES: usize = 6 * MAX_FILTER_BYTES + 64;

/// The body as JSON; plain text is the filter itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogLevel {
    filter: String,
}

/// `GET`: the filter in force.
pub fn get(request: &HttpRequest, state: &State) -> Reply {
    let filter = state.options.log.filter();
    match headers::wants_json(request) {
        true => Reply::json(&json!({ "filter": filter })),
        false => Reply::text(format!("{filter}\n")),
    }
}

/// `PUT`: another one, from now on.
pub async fn put(request: &HttpRequest, body: &mut RequestBody, state: &State) -> Answer {
    let mut hold = state.admission.hold();
    let bytes =
        body.read(Cap::fixed(MAX_BODY_BYTES), state.options.request_timeout, &mut hold).await?;
    let filter = filter_of(&bytes).map_err(|why| Problem::new(Code::BadBody, why))?;
    let before = state.options.log.filter();
    state.options.log.set_filter(&filter).map_err(|error| {
        let detail = format!(
            "the filter {filter:?} is not taken: {error}; it is a level (off, error, warn, info, debug, trace), or \
             target=level, with commas between, such as info,conuredb::storage=debug"
        );
        Problem::new(Code::BadBody, detail)
    })?;
    log::info!("the log's filter was {before}, and is {filter}");
    Ok(get(request, state))
}

fn filter_of(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("a filter is text: {error}"))?;
    let text = text.trim();
    if !text.starts_with('{') {
        return Ok(text.to_owned());
    }
    let body: LogLevel = serde_json::from_str(text).map_err(|error| {
        format!("{error}; the body is a filter, or JSON such as {{\"filter\":\"info\"}}")
    })?;
    Ok(body.filter)
}
