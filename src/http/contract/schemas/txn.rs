//! Transactions: what is asked and what is answered.

use serde_json::{Map, Value, json};

use super::{
    base64, duration, flag, list, number, object, one_of, or_null, reference, spelt, text,
};
use crate::http::contract::parameters::Kind;
use crate::types::{MAX_KEY_BYTES, MAX_TXN_RANGE_ITEMS};

pub fn add_to(schemas: &mut Map<String, Value>) {
    schemas.insert("Txn".to_owned(), request());
    schemas.insert("TxnAnswer".to_owned(), answer());
}

/// A key of a request's document.
fn key() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": MAX_KEY_BYTES })
}

/// What names a range.
fn bounds() -> [(&'static str, Value); 6] {
    [
        ("prefix?", text()),
        ("prefix_base64?", base64()),
        ("start?", text()),
        ("start_base64?", base64()),
        ("end?", text()),
        ("end_base64?", base64()),
    ]
}

fn request() -> Value {
    let compare = object([
        ("key?", key()),
        ("key_base64?", base64()),
        ("is?", one_of(&["=", "!=", "<", "<=", ">", ">="])),
        ("value?", text()),
        ("value_base64?", base64()),
        ("version?", number()),
        ("create_revision?", number()),
        ("mod_revision?", number()),
        ("exists?", flag()),
    ]);
    let operations = list(json!({
        "oneOf": [
            object([
                ("op", one_of(&["put"])),
                ("key?", key()),
                ("key_base64?", base64()),
                ("value?", text()),
                ("value_base64?", base64()),
                ("ttl?", duration()),
                ("lease?", Kind::Lease.schema()),
            ]),
            object([("op", one_of(&["get"])), ("key?", key()), ("key_base64?", base64())]),
            object([("op", one_of(&["range"]))].into_iter().chain(bounds()).chain([
                ("limit?", json!({ "type": "integer", "minimum": 1, "maximum": MAX_TXN_RANGE_ITEMS })),
                ("reverse?", flag()),
                ("keys_only?", flag()),
            ])),
            object([
                ("op", one_of(&["delete"])),
                ("key?", key()),
                ("key_base64?", base64()),
            ].into_iter().chain(bounds())),
        ]
    }));
    object([
        ("compare?", list(spelt(compare, "key"))),
        ("success?", operations.clone()),
        ("failure?", operations),
    ])
}

fn answer() -> Value {
    let results = list(json!({
        "oneOf": [
            object([("op", one_of(&["put"])), ("create_revision", number()), ("version", number())]),
            object([
                ("op", one_of(&["get"])),
                ("item?", or_null(reference("Item"))),
                ("too_large?", flag()),
                ("forgotten?", flag()),
            ]),
            object([
                ("op", one_of(&["range"])),
                ("items?", list(reference("Item"))),
                ("more?", flag()),
                ("forgotten?", flag()),
            ]),
            object([("op", one_of(&["delete"])), ("deleted", number())]),
        ]
    }));
    object([("succeeded", flag()), ("revision", number()), ("results", results)])
}
