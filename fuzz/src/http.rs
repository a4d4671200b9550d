//! A request of a client, behind the protocol's own parser: target, header fields, body.
//!
//! ```text
//! METHOD TARGET⏎ (Name: value⏎)* ⏎ body
//! ```

use actix_web::body::to_bytes_limited;
use actix_web::dev::Service;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{Method, Uri, header};
use actix_web::{App, test, web};
use bytes::Bytes;
use conuredb::http::{self, HttpOptions, State};
use conuredb::metrics::Metrics;

#[path = "../../tests/http_contract/fake/mod.rs"]
#[allow(dead_code, reason = "the contract's tests use more of it")]
mod fake;

/// Longest reply that is read.
const MOST_BYTES: usize = 4 << 20;

/// So much a fake node holds.
const KEYS: usize = 30;

thread_local! {
    static SYSTEM: actix_rt::SystemRunner = actix_rt::System::new();
}

/// Asks a server on a fake node; it may refuse, but neither fail nor fall silent.
pub fn decode(input: &[u8]) {
    let Some(request) = parse(input) else { return };
    SYSTEM.with(|system| system.block_on(serve(request)));
}

struct Request {
    method: Method,
    target: Uri,
    fields: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

/// What the protocol's parser lets through; nothing of the rest.
fn parse(input: &[u8]) -> Option<Request> {
    let mut rest = input;
    let mut line = || {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let (line, behind) = (&rest[..end], &rest[end + 1..]);
        rest = behind;
        Some(line)
    };
    let first = line()?;
    let space = first.iter().position(|byte| *byte == b' ')?;
    let method = Method::from_bytes(&first[..space]).ok()?;
    let target = Uri::try_from(&first[space + 1..]).ok()?;
    let mut fields = Vec::new();
    while let Some(field) = line().filter(|field| !field.is_empty()) {
        let colon = field.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&field[..colon]).ok()?;
        fields.push((name, HeaderValue::from_bytes(field[colon + 1..].trim_ascii()).ok()?));
    }
    Some(Request { method, target, fields, body: Bytes::copy_from_slice(rest) })
}

async fn serve(request: Request) {
    let node = fake::Fake::new();
    node.fill(KEYS, 40);
    let options = HttpOptions { max_value_bytes: 1 << 16, ..HttpOptions::default() };
    let state = State::new(node.gateway(), std::sync::Arc::new(Metrics::new("0")), options);
    let app = App::new().configure(http::configure(web::Data::new(state)));
    let app = test::init_service(app).await;
    let Request { method, target, fields, body } = request;
    let mut built = test::TestRequest::with_uri("/").method(method).set_payload(body);
    for field in fields {
        built = built.append_header(field);
    }
    let mut built = built.to_request();
    built.head_mut().uri = target;
    let reply = match app.call(built).await {
        Ok(reply) => reply,
        Err(error) => panic!("no reply but an error: {error}"),
    };
    assert_ne!(reply.status().as_u16(), 500, "the server failed");
    // A watch lasts as long as its client listens.
    let kind = reply.headers().get(header::CONTENT_TYPE);
    if kind.is_none_or(|kind| kind != "text/event-stream") {
        let body = to_bytes_limited(reply.into_body(), MOST_BYTES).await;
        assert!(body.is_ok_and(|body| body.is_ok()), "a reply without an end");
    }
}
