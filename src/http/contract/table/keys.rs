//! Keys, ranges, transactions, changes.

use super::{ALWAYS, BODIES, BYTES, JSON, OF_LEASES, OK, READS, WRITES, content, json_body};
use crate::http::contract::parameters::{
    self as p, DELETED, ETAG, Header, IDEMPOTENCY_KEY, IF_MATCH, KNOWN, LAST_EVENT_ID, LEASE,
    ONLY_NEW, Parameter, STALE_MS, STORE_REVISION, STORE_REVISION_IF_ANY, TTL, UNBUFFERED, VARY,
};
use crate::http::contract::{Ask, Body, Content, Operation, Path, Resource, Success, Verb};
use crate::http::error::Code;
use crate::http::headers::NDJSON;

/// What a request that names a key or a range may be told.
const KEYS: &[Code] = &[Code::MissingKey, Code::KeyTooLong];

/// Why there is no earlier state.
const PAST: &[Code] = &[Code::RevisionInFuture, Code::RevisionTrimmed];

const READ_HEADERS: &[Header] = &[ETAG, STORE_REVISION, STALE_MS, TTL, LEASE, VARY];

const KNOWN_ALREADY: Success = Success {
    status: 304,
    about: "The client knows this record already.",
    headers: READ_HEADERS,
    content: &[],
};

const ONE_KEY_ANSWERS: &[Success] = &[
    Success {
        status: 200,
        about: "The value; with `Accept: application/json` its record.",
        headers: READ_HEADERS,
        content: &[content(BYTES, "Bytes"), content(JSON, "ReadKey")],
    },
    KNOWN_ALREADY,
];

const READ_ANSWERS: &[Success] = &[
    Success {
        status: 200,
        about: "The value; with `Accept: application/json` its record. A page of a range, or all of it as lines.",
        headers: READ_HEADERS,
        content: &[
            content(BYTES, "Bytes"),
            content(JSON, "Read"),
            Content { media_type: NDJSON, schema: "Lines", item: Some("Line") },
        ],
    },
    KNOWN_ALREADY,
];

const PUT_ANSWERS: &[Success] = &[Success {
    status: 200,
    about: "Stored, durably on a majority of the nodes.",
    headers: &[ETAG, STORE_REVISION],
    content: &[OK, content(JSON, "Written")],
}];

const DELETE_ANSWERS: &[Success] = &[Success {
    status: 200,
    about: "Removed, or was not there.",
    headers: &[DELETED, STORE_REVISION],
    content: &[OK, content(JSON, "Deleted")],
}];

const PUT_BODY: Option<Body> = Some(Body {
    about: "The value. It wins over `value`; without either, 400.",
    is_required: false,
    content: &[("*/*", "Bytes")],
});

const fn read(
    id: &'static str,
    parameters: &'static [&'static [Parameter]],
    answers: &'static [Success],
) -> Operation {
    Operation {
        ask: Ask::Read,
        verb: Verb::Get,
        id,
        tag: "keys",
        summary: "Read a key, its history, or a range of keys",
        parameters,
        headers: &[IF_MATCH, KNOWN],
        body: None,
        answers,
        problems: &[ALWAYS, KEYS, PAST, &[Code::KeyNotFound, Code::ConditionFailed], READS],
    }
}

const fn put(id: &'static str, parameters: &'static [&'static [Parameter]]) -> Operation {
    Operation {
        ask: Ask::Put,
        verb: Verb::Put,
        id,
        tag: "keys",
        summary: "Store a value under a key",
        parameters,
        headers: &[IF_MATCH, ONLY_NEW, IDEMPOTENCY_KEY],
        body: PUT_BODY,
        answers: PUT_ANSWERS,
        problems: &[ALWAYS, KEYS, BODIES, &[Code::ConditionFailed], OF_LEASES, WRITES],
    }
}

const fn delete(id: &'static str, parameters: &'static [&'static [Parameter]]) -> Operation {
    Operation {
        ask: Ask::Delete,
        verb: Verb::Delete,
        id,
        tag: "keys",
        summary: "Remove a key, or a range of keys",
        parameters,
        headers: &[IF_MATCH, ONLY_NEW, IDEMPOTENCY_KEY],
        body: None,
        answers: DELETE_ANSWERS,
        problems: &[ALWAYS, KEYS, &[Code::ConditionFailed], WRITES],
    }
}

pub static RESOURCES: &[Resource] = &[
    Resource {
        path: Path::Around { before: "/kv/", parameter: &p::KEY_IN_PATH, after: "" },
        label: "kv",
        operations: &[
            read("readKey", &[p::READ_KEY], ONE_KEY_ANSWERS),
            put("putKey", &[p::PUT_KEY]),
            delete("deleteKey", &[p::DELETE_KEY]),
        ],
    },
    Resource {
        path: Path::Exact("/kv"),
        label: "kv",
        operations: &[
            read("read", &[p::ONE_KEY, p::READ_KEY, p::RANGE, p::READ_RANGE], READ_ANSWERS),
            put("put", &[p::ONE_KEY, p::PUT_KEY]),
            delete("delete", &[p::ONE_KEY, p::DELETE_KEY, p::DELETE_RANGE]),
        ],
    },
    Resource {
        path: Path::Exact("/txn"),
        label: "txn",
        operations: &[Operation {
            ask: Ask::Txn,
            verb: Verb::Post,
            id: "txn",
            tag: "keys",
            summary: "Compare, and do the operations of one of two branches, in one atomic write",
            parameters: &[p::TXN],
            headers: &[IDEMPOTENCY_KEY],
            body: json_body(&[(JSON, "Txn")]),
            answers: &[Success {
                status: 200,
                about: "Done: one of the branches, or none of it where both are empty.",
                headers: &[STORE_REVISION],
                content: &[content(JSON, "TxnAnswer")],
            }],
            problems: &[ALWAYS, KEYS, BODIES, &[Code::TooManyOps], OF_LEASES, WRITES],
        }],
    },
    Resource {
        path: Path::Exact("/watch"),
        label: "watch",
        operations: &[Operation {
            ask: Ask::Watch,
            verb: Verb::Get,
            id: "watch",
            tag: "keys",
            summary: "Stream the changes of a key or a range as server-sent events",
            parameters: &[p::WATCH],
            headers: &[LAST_EVENT_ID],
            body: None,
            answers: &[Success {
                status: 200,
                about: "Events, for as long as the client stays.",
                headers: &[STORE_REVISION_IF_ANY, UNBUFFERED],
                content: &[Content {
                    media_type: "text/event-stream",
                    schema: "Events",
                    item: Some("EventData"),
                }],
            }],
            problems: &[
                ALWAYS,
                KEYS,
                &[Code::RevisionTrimmed, Code::Overloaded, Code::NotReady, Code::StorageFailed],
            ],
        }],
    },
];
