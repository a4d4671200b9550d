//! Finds the handler of a request and does what every request shares.
//!
//! Routes are matched here, on the raw path, because the web framework's router decodes a path before it
//! matches: keys with a newline would not be found and `%25` would be kept apart from its byte. The
//! table is small enough to be read in one look.
//!
//! Every request passes [`serve`]: it is measured, its head is held against the limit, and its reply
//! says who served it.

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use tokio::time::Instant;

use super::body::RequestBody;
use super::error::{Answer, Code, Problem};
use super::headers::SERVED_BY;
use super::{State, backup, cluster, compact, health, kv, leases, scan, txn, watch};
use crate::metrics::Metrics;

/// A resource of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'a> {
    /// `/kv`: the query names a key or a range.
    Kv,
    /// `/kv/<key>`: the rest of the raw path is the key.
    KvPath(&'a str),
    Txn,
    Leases,
    /// `/leases/<id>`, its keepalive, or what is neither.
    Lease(&'a str),
    LeaseKeepAlive(&'a str),
    Status,
    RaftConfig,
    RaftStats,
    Join,
    Remove,
    Transfer,
    Watch,
    Backup,
    Compact,
    Livez,
    Readyz,
    Health,
    Metrics,
}

impl Route<'_> {
    fn of(path: &str) -> Option<Route<'_>> {
        Some(match path {
            "/kv" => Route::Kv,
            "/txn" => Route::Txn,
            "/status" => Route::Status,
            "/raft/config" => Route::RaftConfig,
            "/raft/stats" => Route::RaftStats,
            "/join" => Route::Join,
            "/remove" => Route::Remove,
            "/transfer" => Route::Transfer,
            "/watch" => Route::Watch,
            "/backup" => Route::Backup,
            "/compact" => Route::Compact,
            "/livez" => Route::Livez,
            "/readyz" => Route::Readyz,
            "/health" => Route::Health,
            "/metrics" => Route::Metrics,
            "/leases" => Route::Leases,
            _ => match (path.strip_prefix("/kv/"), path.strip_prefix("/leases/")) {
                (Some(key), _) => Route::KvPath(key),
                (None, Some(lease)) => match lease.strip_suffix("/keepalive") {
                    Some(id) => Route::LeaseKeepAlive(id),
                    None => Route::Lease(lease),
                },
                (None, None) => return None,
            },
        })
    }

    /// Its name in the metrics.
    fn label(self) -> &'static str {
        match self {
            Route::Kv | Route::KvPath(_) => "kv",
            Route::Txn => "txn",
            Route::Leases | Route::Lease(_) => "leases",
            Route::LeaseKeepAlive(_) => "lease_keepalive",
            Route::Status => "status",
            Route::RaftConfig => "raft_config",
            Route::RaftStats => "raft_stats",
            Route::Join => "join",
            Route::Remove => "remove",
            Route::Transfer => "transfer",
            Route::Watch => "watch",
            Route::Backup => "backup",
            Route::Compact => "compact",
            Route::Livez => "livez",
            Route::Readyz => "readyz",
            Route::Health => "health",
            Route::Metrics => "metrics",
        }
    }

    /// The value of `Allow`.
    fn allowed(self) -> &'static str {
        match self {
            Route::Kv | Route::KvPath(_) => "GET, HEAD, PUT, DELETE",
            Route::Txn | Route::Join | Route::Remove | Route::Transfer | Route::Compact => "POST",
            Route::Leases => "GET, HEAD, POST",
            Route::Lease(_) => "GET, HEAD, DELETE",
            Route::LeaseKeepAlive(_) => "POST",
            _ => "GET, HEAD",
        }
    }
}

/// Answers a request: the only service of the server.
pub async fn serve(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> HttpResponse {
    let started = Instant::now();
    let _in_flight = InFlight::enter(&state.metrics);
    let route = Route::of(request.uri().path());
    let mut body = RequestBody::new(&request, payload);
    let reply = match answer(&request, &mut body, &state, route).await {
        Ok(reply) => reply,
        Err(problem) => problem.into_reply(),
    };
    body.discard().await;
    let response = reply.finish((SERVED_BY, state.served_by.clone()), body.into_rest());
    state.metrics.observe_request(
        route.map_or("none", Route::label),
        method_label(request.method()),
        response.status().as_u16(),
        started.elapsed(),
    );
    response
}

async fn answer(
    request: &HttpRequest,
    body: &mut RequestBody,
    state: &State,
    route: Option<Route<'_>>,
) -> Answer {
    check_head(request, state.options.max_header_bytes)?;
    let Some(route) = route else {
        return Err(Problem::new(Code::NotFound, "no resource has this path"));
    };
    // HEAD is answered as GET; the protocol layer leaves the body out.
    let method = match *request.method() {
        Method::HEAD => &Method::GET,
        ref method => method,
    };
    match (route, method) {
        (Route::Kv, &Method::GET) => match scan::is_asked(request) {
            true => scan::get(request, state).await,
            false => kv::get(request, None, state).await,
        },
        (Route::Kv, &Method::DELETE) => match scan::is_asked(request) {
            true => scan::delete(request, state).await,
            false => kv::delete(request, None, state).await,
        },
        (Route::Kv, &Method::PUT) => kv::put(request, None, body, state).await,
        (Route::KvPath(key), &Method::GET) => kv::get(request, Some(key), state).await,
        (Route::KvPath(key), &Method::PUT) => kv::put(request, Some(key), body, state).await,
        (Route::KvPath(key), &Method::DELETE) => kv::delete(request, Some(key), state).await,
        (Route::Txn, &Method::POST) => txn::post(request, body, state).await,
        (Route::Leases, &Method::GET) => leases::list(request, state).await,
        (Route::Leases, &Method::POST) => leases::grant(request, body, state).await,
        (Route::Lease(id), &Method::GET) => leases::show(request, id, state).await,
        (Route::Lease(id), &Method::DELETE) => leases::revoke(request, id, state).await,
        (Route::LeaseKeepAlive(id), &Method::POST) => leases::keep_alive(request, id, state).await,
        (Route::Status, &Method::GET) => cluster::status(request, state).await,
        (Route::RaftConfig, &Method::GET) => cluster::config(request, state).await,
        (Route::RaftStats, &Method::GET) => cluster::stats(request, state).await,
        (Route::Join, &Method::POST) => cluster::join(request, body, state).await,
        (Route::Remove, &Method::POST) => cluster::remove(request, body, state).await,
        (Route::Transfer, &Method::POST) => cluster::transfer(request, body, state).await,
        (Route::Watch, &Method::GET) => watch::get(request, state).await,
        (Route::Backup, &Method::GET) => backup::get(request, state).await,
        (Route::Compact, &Method::POST) => compact::post(request, state).await,
        (Route::Livez, &Method::GET) => Ok(health::livez()),
        (Route::Readyz, &Method::GET) => health::readyz(request, state).await,
        (Route::Health, &Method::GET) => health::health(request, state).await,
        (Route::Metrics, &Method::GET) => health::metrics(state),
        (route, _) => Err(method_not_allowed(route.allowed())),
    }
}

fn method_not_allowed(allowed: &'static str) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("this resource takes {allowed}"))
        .header(header::ALLOW, HeaderValue::from_static(allowed))
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

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::POST => "POST",
        _ => "other",
    }
}

/// Counts a running handler, also when it is dropped in the middle.
struct InFlight<'a>(&'a Metrics);

impl InFlight<'_> {
    fn enter(metrics: &Metrics) -> InFlight<'_> {
        metrics.http_in_flight.inc();
        InFlight(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.http_in_flight.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_raw_path_after_kv_belongs_to_the_key() {
        assert_eq!(Route::of("/kv"), Some(Route::Kv));
        assert_eq!(Route::of("/kv/"), Some(Route::KvPath("")));
        assert_eq!(Route::of("/kv/../status"), Some(Route::KvPath("../status")));
        assert_eq!(Route::of("/kv//a%2f%0A"), Some(Route::KvPath("/a%2f%0A")));
        assert_eq!(Route::of("/kv/leases/1"), Some(Route::KvPath("leases/1")));
        assert_eq!(Route::of("/leases/1"), Some(Route::Lease("1")));
        assert_eq!(Route::of("/leases/1/keepalive"), Some(Route::LeaseKeepAlive("1")));
        assert_eq!(Route::of("/leasesx"), None);
        assert_eq!(Route::of("/kvx"), None);
        assert_eq!(Route::of("/status/"), None);
        assert_eq!(Route::of("/%73tatus"), None);
    }
}
