//! Leases.

use serde_json::{Map, Value};

use super::{base64, duration, lease_id, list, number, object, or_null, reference, spelt, text};

pub fn add_to(schemas: &mut Map<String, Value>) {
    let mut add = |name: &str, schema| drop(schemas.insert(name.to_owned(), schema));
    add("Grant", object([("ttl", duration())]));
    add("Granted", object([("id", lease_id()), ("ttl_ms", number()), ("expires_at_ms", number())]));
    let lease = [
        ("id", lease_id()),
        ("ttl_ms", number()),
        ("left_ms", number()),
        ("expires_at_ms", number()),
        ("keys", number()),
    ];
    add("Lease", object(lease.clone()));
    add(
        "Leases",
        object([
            ("items", list(reference("Lease"))),
            ("next", or_null(text())),
            ("revision", number()),
        ]),
    );
    let key = spelt(object([("key?", text()), ("key_base64?", base64())]), "key");
    let [id, ttl_ms, left_ms, expires_at_ms, keys] = lease;
    let page = [("items", list(key)), ("next", or_null(text())), ("revision", number())];
    let [items, next, revision] = page;
    add("LeaseKeys", object([id, ttl_ms, left_ms, expires_at_ms, keys, items, next, revision]));
}
