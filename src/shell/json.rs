//! Answers as JSON. The names are those of the HTTP API, and they stay: scripts rely on them (docs/SHELL.md lists them).
//!
//! Bytes that are no UTF-8 stand in base64 under `key_base64`, `value_base64`, as the API has them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::exit::Failure;
use super::table::Spec;
use crate::client::{Event, Item, LogLevel, Members, TxnAnswer, TxnDone, Version};

/// Adds bytes under a name of their own kind.
pub fn put_bytes(object: &mut Value, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object[name] = json!(text),
        Err(_) => object[format!("{name}_base64")] = json!(STANDARD.encode(bytes)),
    }
}

pub fn item(item: &Item) -> Value {
    let mut object = json!({
        "create_revision": item.create_revision,
        "mod_revision": item.mod_revision,
        "version": item.version,
    });
    put_bytes(&mut object, "key", &item.key);
    if let Some(value) = &item.value {
        put_bytes(&mut object, "value", value);
    }
    if let Some(at) = item.expires_at_ms {
        object["expires_at_ms"] = json!(at);
    }
    if let Some(id) = item.lease {
        object["lease"] = json!(id.to_string());
    }
    object
}

pub fn version(version: &Version) -> Value {
    let mut object = json!({ "revision": version.revision, "kind": version.kind.name() });
    if let Some(value) = &version.value {
        put_bytes(&mut object, "value", value);
    }
    object
}

pub fn event(event: &Event) -> Value {
    let mut object = item(&event.item);
    object["kind"] = json!(event.kind.name());
    if let Some(previous) = &event.previous {
        object["previous"] = item(previous);
    }
    object
}

/// A key that differs: what was and what is, null where there was or is nothing.
pub fn change(key: &[u8], before: Option<&Item>, after: Option<&Item>) -> Value {
    let mut object = json!({ "before": before.map(item), "after": after.map(item) });
    put_bytes(&mut object, "key", key);
    object
}

pub fn log_level(now: &LogLevel) -> Value {
    json!({ "node_id": now.node, "filter": now.filter })
}

pub fn members(members: &Members) -> Value {
    let servers: Vec<Value> = members
        .servers
        .iter()
        .map(|member| {
            json!({
                "id": member.id,
                "address": member.address,
                "http_address": member.http_address,
                "suffrage": member.suffrage,
                "is_leader": members.is_led_by(member),
            })
        })
        .collect();
    json!({ "leader": members.leader, "servers": servers })
}

pub fn txn(done: &TxnDone) -> Value {
    let results: Vec<Value> = done
        .results
        .iter()
        .map(|answer| match answer {
            TxnAnswer::Put { create_revision, version } => {
                json!({ "op": "put", "create_revision": create_revision, "version": version })
            }
            TxnAnswer::Delete { deleted } => json!({ "op": "delete", "deleted": deleted }),
            TxnAnswer::Get { item: found, too_large, forgotten } => json!({
                "op": "get", "item": found.as_ref().map(item),
                "too_large": too_large, "forgotten": forgotten,
            }),
            TxnAnswer::Range { items, more, forgotten } => json!({
                "op": "range", "items": items.iter().map(item).collect::<Vec<_>>(),
                "more": more, "forgotten": forgotten,
            }),
        })
        .collect();
    json!({ "succeeded": done.succeeded, "revision": done.revision, "results": results })
}

pub fn command(spec: &Spec) -> Value {
    let options: Vec<Value> = spec
        .options
        .iter()
        .map(|option| json!({ "name": option.name, "value": option.value, "about": option.about }))
        .collect();
    json!({
        "name": spec.name, "aliases": spec.aliases, "usage": spec.usage, "about": spec.about,
        "options": options, "examples": spec.examples,
    })
}

pub fn failure(failure: &Failure, line: Option<u64>) -> Value {
    let mut object = json!({ "error": failure.to_string(), "exit_code": failure.code() });
    if let Some(code) = failure.server_code() {
        object["code"] = json!(code);
    }
    if let Some(next) = failure.next_step() {
        object["hint"] = json!(next);
    }
    if let Some(line) = line {
        object["line"] = json!(line);
    }
    object
}
