//! The documents of bodies, as JSON Schema 2020-12.
//!
//! They are strict: a field that stands in no schema is against the contract, so that the tests notice when a
//! document grows and this file does not.

mod cluster;
mod leases;
mod txn;

use serde_json::{Map, Value, json};

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// An object with these fields and no others; names that end in `?` may be missing.
fn object<'n>(fields: impl IntoIterator<Item = (&'n str, Value)>) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for (name, schema) in fields {
        match name.strip_suffix('?') {
            Some(name) => drop(properties.insert(name.to_owned(), schema)),
            None => {
                required.push(name);
                properties.insert(name.to_owned(), schema);
            }
        }
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn number() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn base64() -> Value {
    json!({ "type": "string", "contentEncoding": "base64" })
}

/// As leases are named in answers.
fn lease_id() -> Value {
    json!({ "type": "string", "pattern": "^[0-9a-f]{16}$" })
}

fn duration() -> Value {
    json!({ "type": "string", "examples": ["30s"] })
}

fn one_of(values: &[&str]) -> Value {
    json!({ "type": "string", "enum": values })
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn or_null(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

/// Bytes stand under one of two names, which says how they are spelt.
fn spelt(mut schema: Value, name: &str) -> Value {
    let spelling = |name: String| json!({ "required": [name] });
    let either =
        json!({ "oneOf": [spelling(name.to_owned()), spelling(format!("{name}_base64"))] });
    let all = schema
        .as_object_mut()
        .and_then(|schema| schema.entry("allOf").or_insert_with(|| json!([])).as_array_mut());
    if let Some(all) = all {
        all.push(either);
    }
    schema
}

/// What is told of a record.
fn record() -> [(&'static str, Value); 7] {
    [
        ("value?", text()),
        ("value_base64?", base64()),
        ("mod_revision", number()),
        ("create_revision", number()),
        ("version", number()),
        ("expires_at_ms?", number()),
        ("lease?", lease_id()),
    ]
}

fn item() -> Value {
    let key = [("key?", text()), ("key_base64?", base64())];
    spelt(object(key.into_iter().chain(record())), "key")
}

fn version() -> Value {
    object([
        ("kind", one_of(&["put", "delete", "expire"])),
        ("revision", number()),
        ("value?", text()),
        ("value_base64?", base64()),
        ("create_revision?", number()),
        ("version?", number()),
        ("expires_at_ms?", number()),
        ("lease?", lease_id()),
    ])
}

fn event_data() -> Value {
    let previous = spelt(object(record()), "value");
    let change = object([
        ("key?", text()),
        ("key_base64?", base64()),
        ("value?", text()),
        ("value_base64?", base64()),
        ("mod_revision", number()),
        ("create_revision?", number()),
        ("version?", number()),
        ("expires_at_ms?", number()),
        ("lease?", lease_id()),
        ("previous?", or_null(previous)),
    ]);
    json!({ "anyOf": [spelt(change, "key"), reference("Problem")] })
}

/// An error (RFC 9457). What is beside the first eight depends on `code`.
fn problem() -> Value {
    object([
        ("type", text()),
        ("title", text()),
        ("status", number()),
        ("detail", text()),
        ("code", text()),
        ("retryable", flag()),
        ("applied", one_of(&["no", "unknown"])),
        ("request_id?", text()),
        ("leader?", text()),
        ("leader_http?", text()),
        ("revision?", number()),
        ("current_revision?", or_null(number())),
        ("oldest_revision?", number()),
        ("last_sequence?", number()),
        ("resume_from?", number()),
        ("age_ms?", number()),
        ("max_ms?", number()),
        ("max_bytes?", number()),
        ("max_ops?", number()),
        ("reasons?", list(text())),
    ])
}

/// All of them, by name.
pub fn all() -> Map<String, Value> {
    let mut schemas = Map::new();
    let mut add = |name: &str, schema| drop(schemas.insert(name.to_owned(), schema));
    add("Ok", json!({ "type": "string", "const": "OK\n" }));
    add("Bytes", json!({ "type": "string", "description": "Any bytes." }));
    add("Item", item());
    add("Version", version());
    let prefix = object([("prefix?", text()), ("prefix_base64?", base64())]);
    add("CommonPrefix", spelt(prefix, "prefix"));
    add(
        "Page",
        object([
            ("items", list(reference("Item"))),
            ("common_prefixes?", list(reference("CommonPrefix"))),
            ("next", or_null(text())),
            ("revision", number()),
        ]),
    );
    add(
        "Count",
        object([
            ("items", json!({ "type": "array", "maxItems": 0 })),
            ("next", json!({ "type": "null" })),
            ("revision", number()),
            ("count", number()),
        ]),
    );
    add(
        "History",
        object([
            ("items", list(reference("Version"))),
            ("next", or_null(number())),
            ("trimmed", flag()),
            ("oldest_revision", number()),
            ("revision", number()),
        ]),
    );
    let readings = ["Item", "History"].map(reference);
    add("ReadKey", json!({ "oneOf": readings }));
    let readings = ["Item", "Page", "Count", "History"].map(reference);
    add("Read", json!({ "oneOf": readings }));
    add("Lines", json!({ "type": "string", "description": "A JSON document a line." }));
    let failed = object([("error", reference("Problem"))]);
    add("Line", json!({ "oneOf": [reference("Item"), reference("CommonPrefix"), failed] }));
    add(
        "Written",
        object([("revision", number()), ("create_revision", number()), ("version", number())]),
    );
    add("Deleted", object([("deleted", number()), ("revision", number())]));
    add("Events", json!({ "type": "string", "description": "Server-sent events." }));
    add("EventData", event_data());
    add("Metrics", json!({ "type": "string", "description": "OpenMetrics 1.0." }));
    add("LogFilter", json!({ "type": "string", "examples": ["info,conuredb::storage=debug"] }));
    add("LogLevel", object([("filter", text())]));
    add("OpenApi", json!({ "type": "object", "required": ["openapi", "info", "paths"] }));
    add("Problem", problem());
    txn::add_to(&mut schemas);
    leases::add_to(&mut schemas);
    cluster::add_to(&mut schemas);
    schemas
}
