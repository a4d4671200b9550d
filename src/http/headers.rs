//! The request headers that carry meaning here: conditions, the idempotency key, the wanted format.
//!
//! An entity tag is a key's `mod_revision` in quotes. On writes a condition names one revision, or `*`
//! for "the key exists" (`If-Match`) or "the key does not" (`If-None-Match`); a list is refused, since
//! the log carries one condition. On GET, `If-None-Match` may list tags, as caches send them.

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::error::Problem;
use crate::types::{Condition, LeaseId, MAX_CLIENT_BYTES, RequestId, Revision};

pub const SERVED_BY: HeaderName = HeaderName::from_static("x-conure-served-by");
pub const REVISION: HeaderName = HeaderName::from_static("x-conure-revision");
pub const DELETED: HeaderName = HeaderName::from_static("x-conure-deleted");
pub const STALE_MS: HeaderName = HeaderName::from_static("x-conure-stale-ms");
pub const CLUSTER_ID: HeaderName = HeaderName::from_static("x-conure-cluster-id");
pub const APPLIED_INDEX: HeaderName = HeaderName::from_static("x-conure-applied-index");
pub const TTL: HeaderName = HeaderName::from_static("x-conure-ttl");
pub const LEASE: HeaderName = HeaderName::from_static("x-conure-lease");
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The media type of a JSON document a line.
pub const NDJSON: &str = "application/x-ndjson";

/// The entity tag of a record.
pub fn etag(mod_revision: Revision) -> HeaderValue {
    let tag = HeaderValue::from_str(&format!("\"{mod_revision}\""));
    tag.expect("digits in quotes are visible ASCII")
}

/// A time to live, as `ttl=` takes it.
pub fn ttl(ttl_ms: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("{ttl_ms}ms")).expect("digits and letters are visible ASCII")
}

/// The lease that a record ends with, as `lease=` takes it.
pub fn lease(id: LeaseId) -> HeaderValue {
    HeaderValue::from_str(&id.to_string()).expect("digits and letters are visible ASCII")
}

/// The only value of a header, as text; `None` when it is absent.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name);
    let first = values.next();
    if values.next().is_some() {
        return Err(Problem::parameter(name.as_str(), "is given twice"));
    }
    let text = first.map(HeaderValue::to_str).transpose();
    Ok(text.map_err(|_| Problem::parameter(name.as_str(), "takes visible ASCII"))?.map(str::trim))
}

/// The revision a strong entity tag names.
fn revision_of_etag(tag: &str) -> Option<Revision> {
    let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
    // `parse` would take a sign.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// `If-Match` alone: what must hold of the record for the request to be carried out.
pub fn if_match(headers: &HeaderMap) -> Result<Condition, Problem> {
    match single(headers, &header::IF_MATCH)? {
        None => Ok(Condition::None),
        Some("*") => Ok(Condition::Present),
        Some(tag) => revision_of_etag(tag).map(Condition::ModRevision).ok_or_else(|| {
            Problem::parameter("if-match", "takes * or one revision in quotes, such as \"42\"")
        }),
    }
}

/// The condition of a write.
pub fn write_condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    let if_match = if_match(headers)?;
    match single(headers, &header::IF_NONE_MATCH)? {
        None => Ok(if_match),
        Some("*") if if_match == Condition::None => Ok(Condition::Absent),
        Some("*") => Err(Problem::parameter("if-none-match", "cannot be combined with if-match")),
        Some(_) => Err(Problem::parameter("if-none-match", "takes * on a write")),
    }
}

/// Whether `If-None-Match` of a GET names this record, so that 304 is the answer.
///
/// Compared weakly (RFC 9110, 13.1.2): `W/"7"` names revision 7 too. Tags of others never match.
pub fn is_known_to_client(headers: &HeaderMap, mod_revision: Revision) -> bool {
    headers.get_all(header::IF_NONE_MATCH).filter_map(|value| value.to_str().ok()).any(|list| {
        list.split(',').map(str::trim).any(|tag| {
            tag == "*"
                || revision_of_etag(tag.strip_prefix("W/").unwrap_or(tag)) == Some(mod_revision)
        })
    })
}

/// `Idempotency-Key: <client>:<sequence>`. The client may hold colons; the last one separates.
pub fn request_id(headers: &HeaderMap) -> Result<Option<RequestId>, Problem> {
    let Some(value) = single(headers, &IDEMPOTENCY_KEY)? else { return Ok(None) };
    let parsed = value.rsplit_once(':').and_then(|(client, sequence)| {
        let is_client = (1..=MAX_CLIENT_BYTES).contains(&client.len())
            && client.bytes().all(|byte| byte.is_ascii_graphic());
        let is_number = sequence.bytes().all(|byte| byte.is_ascii_digit());
        let sequence = sequence.parse().ok().filter(|_| is_client && is_number)?;
        Some(RequestId { client: client.to_owned(), sequence })
    });
    parsed.map(Some).ok_or_else(|| {
        Problem::parameter(
            "idempotency-key",
            format_args!(
                "takes <client>:<sequence>, a client of 1 to {MAX_CLIENT_BYTES} printable bytes \
                 and a number below 2^64"
            ),
        )
    })
}

/// Whether the client asked for JSON by name.
pub fn wants_json(request: &HttpRequest) -> bool {
    wants(request, "application/json")
}

/// Whether the client asked for a media type by name. `*/*` is no such wish: curl sends it always.
pub fn wants(request: &HttpRequest, media_type: &str) -> bool {
    request.headers().get_all(header::ACCEPT).filter_map(|value| value.to_str().ok()).any(|list| {
        list.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next().is_some_and(|t| t.eq_ignore_ascii_case(media_type));
            let weight = parts.find_map(|parameter| parameter.strip_prefix("q="));
            named && weight.is_none_or(|q| q.parse::<f32>().is_ok_and(|q| q > 0.0))
        })
    })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn with(pairs: &[(&'static str, &str)]) -> HttpRequest {
        let mut request = TestRequest::default();
        for &pair in pairs {
            request = request.append_header(pair);
        }
        request.to_http_request()
    }

    #[test]
    fn a_write_has_one_condition() {
        let condition =
            |pairs: &[(&'static str, &str)]| write_condition(with(pairs).headers()).ok();
        assert_eq!(condition(&[]), Some(Condition::None));
        assert_eq!(condition(&[("if-match", "\"42\"")]), Some(Condition::ModRevision(42)));
        assert_eq!(condition(&[("if-match", "*")]), Some(Condition::Present));
        assert_eq!(condition(&[("if-none-match", "*")]), Some(Condition::Absent));
        for refused in ["42", "W/\"42\"", "\"+42\"", "\"1\", \"2\"", "\"\"", "\"", "\"x\""] {
            assert_eq!(condition(&[("if-match", refused)]), None, "{refused}");
        }
        assert_eq!(condition(&[("if-none-match", "\"42\"")]), None);
        assert_eq!(condition(&[("if-match", "*"), ("if-none-match", "*")]), None);
        assert_eq!(condition(&[("if-match", "\"1\""), ("if-match", "\"2\"")]), None);
    }

    #[test]
    fn a_cache_may_list_tags() {
        let known = |list| is_known_to_client(with(&[("if-none-match", list)]).headers(), 7);
        assert!(known("\"7\"") && known("W/\"7\"") && known("\"1\", \"7\"") && known("*"));
        assert!(!known("\"8\"") && !known("7") && !known("\"other\""));
    }

    #[test]
    fn an_idempotency_key_is_a_client_and_a_number() {
        let id = |value: &str| request_id(with(&[("idempotency-key", value)]).headers()).ok();
        let some =
            |client: &str, sequence| Some(Some(RequestId { client: client.into(), sequence }));
        assert_eq!(id("c:0"), some("c", 0));
        assert_eq!(id("urn:uuid:1:18446744073709551615"), some("urn:uuid:1", u64::MAX));
        let longest = "c".repeat(MAX_CLIENT_BYTES);
        assert_eq!(id(&format!("{longest}:1")), some(&longest, 1));
        for refused in
            ["", "c", ":1", "c:", "c:-1", "c:+1", "c:x", "a b:1", "c:18446744073709551616"]
        {
            assert_eq!(id(refused), None, "{refused}");
        }
        assert_eq!(id(&format!("{longest}c:1")), None);
        assert_eq!(request_id(with(&[]).headers()).ok(), Some(None));
    }

    #[test]
    fn json_is_given_to_those_who_name_it() {
        let wants = |accept| wants_json(&with(&[("accept", accept)]));
        assert!(wants("application/json") && wants("text/html, Application/JSON;q=0.5"));
        assert!(!wants("*/*") && !wants("application/json;q=0") && !wants(NDJSON));
    }
}
