//! Finds the handler of a request and does what every request shares.
//!
//! Routes are matched on the raw path, by the table of [`super::contract`], because the web framework's router
//! decodes a path before it matches: keys with a newline would not be found and `%25` would be kept apart from its
//! byte.
//!
//! Every request passes [`serve`]: it gets an id, is measured, its head is held against the limit, and its reply
//! says who served it.

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use tokio::time::Instant;

use super::access::Finished;
use super::body::RequestBody;
use super::contract::{self, Ask, Resource};
use super::error::{Answer, Code, Problem};
use super::headers::{REQUEST_ID, SERVED_BY};
use super::target::Params;
use super::trace::Current;
use super::{State, backup, cluster, compact, health, kv, leases, log_level, scan, txn, watch};
use crate::metrics::Held;

/// Answers a request: the only service of the server.
pub async fn serve(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> HttpResponse {
    let started = Instant::now();
    let _in_flight = Held::new(&state.metrics.http_in_flight);
    let current = Current::of(&request, &state.ids);
    let found = contract::find(request.uri().path());
    let mut body = RequestBody::new(&request, payload);
    let answer = current.clone().scope(answer(&request, &mut body, &state, found)).await;
    let reply = match answer {
        Ok(reply) => reply,
        Err(problem) => problem.with("request_id", &*current.id).into_reply(),
    };
    body.discard().await;
    let own = [(SERVED_BY, state.served_by.clone()), (REQUEST_ID, current.header())];
    let response = reply.finish(own, body.into_rest());
    let (status, elapsed) = (response.status().as_u16(), started.elapsed());
    let (route, named) =
        found.map_or(("none", "key"), |(resource, _)| (resource.label, resource.path.names()));
    let rest = found.and_then(|(_, rest)| rest);
    state.metrics.observe_request(route, method_label(request.method()), status, elapsed);
    let finished =
        Finished { request: &request, current: &current, route, rest, named, status, elapsed };
    finished.tell(&state);
    response
}

async fn answer(
    request: &HttpRequest,
    body: &mut RequestBody,
    state: &State,
    found: Option<(&'static Resource, Option<&str>)>,
) -> Answer {
    check_head(request, state.options.max_header_bytes)?;
    let Some((resource, rest)) = found else {
        return Err(Problem::new(
            Code::NotFound,
            "no resource has this path; GET /openapi.json names those that there are",
        ));
    };
    let Some(operation) = resource.operation(request.method()) else {
        return Err(method_not_allowed(resource));
    };
    if operation.parameters.is_empty() {
        Params::parse(request.uri().query(), &[])?;
    }
    // What the path says of a lease; only paths that do are asked for one.
    let id = rest.unwrap_or_default();
    let is_range = rest.is_none() && scan::is_asked(request);
    match operation.ask {
        Ask::Read if is_range => scan::get(request, state).await,
        Ask::Read => kv::get(request, rest, state).await,
        Ask::Put => kv::put(request, rest, body, state).await,
        Ask::Delete if is_range => scan::delete(request, state).await,
        Ask::Delete => kv::delete(request, rest, state).await,
        Ask::Txn => txn::post(request, body, state).await,
        Ask::Leases => leases::list(request, state).await,
        Ask::Grant => leases::grant(request, body, state).await,
        Ask::Lease => leases::show(request, id, state).await,
        Ask::Revoke => leases::revoke(request, id, state).await,
        Ask::KeepAlive => leases::keep_alive(request, id, state).await,
        Ask::Watch => watch::get(request, state).await,
        Ask::Backup => backup::get(request, state).await,
        Ask::Compact => compact::post(request, state).await,
        Ask::Status => cluster::status(request, state).await,
        Ask::RaftConfig => cluster::config(request, state).await,
        Ask::RaftStats => cluster::stats(request, state).await,
        Ask::Join => cluster::join(request, body, state).await,
        Ask::Remove => cluster::remove(request, body, state).await,
        Ask::Transfer => cluster::transfer(request, body, state).await,
        Ask::Livez => Ok(health::livez()),
        Ask::Readyz => health::readyz(request, state).await,
        Ask::Health => health::health(request, state).await,
        Ask::Metrics => health::metrics(state),
        Ask::OpenApi => Ok(health::openapi()),
        Ask::LogLevel => Ok(log_level::get(request, state)),
        Ask::SetLogLevel => log_level::put(request, body, state).await,
    }
}

fn method_not_allowed(resource: &Resource) -> Problem {
    let allowed = resource.allowed();
    let header = HeaderValue::from_str(&allowed).expect("names of methods are visible ASCII");
    Problem::new(Code::MethodNotAllowed, format!("this resource takes {allowed}"))
        .header(header::ALLOW, header)
}

/// Holds the head against the configured limit. The parser's own, larger limits bound the memory.
fn check_head(request: &HttpRequest, max_bytes: usize) -> Result<(), Problem> {
    let line = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    let len_bytes = line + fields.sum::<usize>();
    if len_bytes <= max_bytes {
        return Ok(());
    }
    Err(Problem::new(
        Code::HeadTooLarge,
        format!("the head has {len_bytes} bytes, at most {max_bytes} are served"),
    ))
}

/// A method's name in metrics and logs.
pub fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::POST => "POST",
        _ => "other",
    }
}
