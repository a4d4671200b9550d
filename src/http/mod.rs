//! Floor 3: HTTP. Turns requests into messages, and answers and errors into replies.
//!
//! It knows floor 0 and [`crate::actors::messages`], never storage or the Raft library: all it can do
//! to a node it does through a [`Gateway`]. Sockets are bound by its owner, the node's HTTP actor, which
//! also decides when to stop; that owner calls [`server`], and nothing else calls in.
//!
//! In the order to read:
//!
//! | file | what it tells |
//! |---|---|
//! | `contract` | what may be asked and what is answered, as data; `/openapi.json` |
//! | `route`, `target`, `headers` | what a request asks for: its handler, keys and parameters from the raw target, conditions |
//! | `kv`, `item` | one key; a record as JSON |
//! | `past` | an earlier revision in place of the present one; the history of a key |
//! | `txn` | transactions |
//! | `leases` | leases: granted, kept alive, revoked, listed |
//! | `scan`, `page`, `cursor`, `pins` | ranges: what is asked, the walk, the token between pages, the states kept for it |
//! | `watch` | changes as they come: what is asked, the stream, how events are spelt |
//! | `lines` | ranges of any length, a document a line |
//! | `backup`, `compact` | all of the store as one file; the store's own file made smaller |
//! | `cluster`, `health` | membership, leadership, status; probes and metrics |
//! | `node` | questions to the node, and what it means when there is no answer |
//! | `trace`, `access`, `log_level` | the ids of requests; what is logged of them; what is logged at all |
//! | `admission`, `body`, `reply` | bounds: requests and bytes in flight, bodies in, bodies out |
//! | `error`, `options` | problem documents; limits and times |
//!
//! The life of a PUT: `route::serve` measures it and finds `kv::put`, which decodes the key, reads
//! the body against cap and budget, takes a permit and asks the node; the outcome, or the error,
//! becomes a reply. Nothing is kept between requests but the pins of scans.
//!
//! Limits that are not this floor's own. The protocol layer (actix-http 3) answers a head it cannot parse
//! with 400, one with more than 96 fields or 128 KiB with 431, a target beyond 64 KiB with 400 and a
//! first head that takes longer than `request_timeout` with 408; these replies have no body and do not
//! say who served them. It queues up to 16 pipelined requests of a connection. Two gaps of it stay: a
//! slow head on a connection that has served a request already is not timed (`max_connections` bounds
//! it), and HTTP/2 is not offered.

mod access;
mod admission;
mod backup;
mod body;
mod cluster;
mod compact;
mod contract;
mod cursor;
mod error;
mod headers;
mod health;
mod item;
mod kv;
mod leases;
mod lines;
mod log_level;
mod node;
mod options;
mod page;
mod past;
mod pins;
mod reply;
mod route;
mod scan;
mod target;
mod trace;
mod txn;
mod watch;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header::HeaderValue;
use actix_web::{App, HttpServer, web};
use bytes::Bytes;

use crate::actors::messages::Gateway;
use crate::metrics::{Held, Metrics};
use crate::threads;
use access::SlowLines;
use admission::Admission;
use pins::Pins;
use socket2::SockRef;
use trace::Ids;

pub use options::{FollowerMode, HttpOptions};

/// How long a connection with an unread request body is read on after its reply, so that the client gets
/// to read the reply. A client that still sends after this sees a reset.
const LINGER: Duration = Duration::from_secs(5);

/// What all requests to a server share, on all its workers.
pub struct State {
    gateway: Gateway,
    metrics: Arc<Metrics>,
    options: HttpOptions,
    admission: Admission,
    pins: Pins,
    ids: Ids,
    slow_lines: SlowLines,
    served_by: HeaderValue,
}

impl State {
    pub fn new(gateway: Gateway, metrics: Arc<Metrics>, options: HttpOptions) -> State {
        State {
            admission: Admission::new(&options, metrics.clone()),
            pins: Pins::new(options.max_pinned_scans, metrics.clone()),
            ids: Ids::new(options.request_id_base),
            slow_lines: SlowLines::default(),
            served_by: header_of_name(&options.node_name),
            gateway,
            metrics,
            options,
        }
    }

    /// Whether the node passes on what only the leader can answer; `redirect` is the request's wish.
    fn forwards(&self, redirect: bool) -> bool {
        self.options.follower_mode == FollowerMode::Forward && !redirect
    }
}

/// A node's name as a header; bytes a header cannot hold are written as `?`.
fn header_of_name(name: &str) -> HeaderValue {
    let visible: String =
        name.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
    HeaderValue::from_str(&visible).unwrap_or(HeaderValue::from_static("?"))
}

/// The contract as OpenAPI 3.1: what `GET /openapi.json` answers.
pub fn openapi() -> Bytes {
    contract::openapi::DOCUMENT.clone()
}

/// Sets an application up to serve the whole contract. [`server`] does this on every worker; tests
/// may use it without sockets.
pub fn configure(state: web::Data<State>) -> impl Fn(&mut web::ServiceConfig) {
    move |config| {
        config.app_data(state.clone()).default_service(web::to(route::serve));
    }
}

/// A server on sockets that are bound already.
///
/// It runs while the returned future is polled, in an actix system; it listens to no signals. Stop it by
/// its handle (`Server::handle`, then `stop(true)`): it stops accepting, closes idle connections, lets
/// running requests finish for `shutdown_timeout`, then ends. Requests need the node to answer them, so
/// stop the server first.
pub fn server(state: State, listeners: Vec<TcpListener>, workers: usize) -> io::Result<Server> {
    let workers = workers.max(1);
    let options = state.options.clone();
    let state = web::Data::new(state);
    let metrics = state.metrics.clone();
    // Each worker makes its own.
    let app = move || {
        threads::name(c"http");
        App::new().configure(configure(state.clone()))
    };
    let mut server = HttpServer::new(app)
        // Dropped with the connection.
        .on_connect(move |_, kept| drop(kept.insert(Held::new(&metrics.http_connections))))
        .workers(workers)
        .max_connections((options.max_connections / workers).max(1))
        .client_request_timeout(options.request_timeout)
        .client_disconnect_timeout(LINGER)
        // A client that closes its side has left. Told from one that listens on only by writing to it, it would keep
        // its place among the watches until the second heartbeat.
        .h1_allow_half_closed(false)
        .keep_alive(options.keep_alive)
        .shutdown_timeout(options.shutdown_timeout.as_secs().max(1))
        .tcp_nodelay(true)
        .disable_signals();
    for listener in listeners {
        // Accepted connections have it from the listener. It also cuts who reads nothing: bytes that wait for
        // room at the receiver count as those that were not acknowledged.
        SockRef::from(&listener).set_tcp_user_timeout(Some(options.stall_timeout))?;
        server = server.listen(listener)?;
    }
    Ok(server.run())
}
