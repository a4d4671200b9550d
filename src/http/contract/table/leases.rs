//! Leases: granted, kept alive, revoked, listed.

use super::{ALWAYS, BODIES, JSON, READS, WRITES, content};
use crate::http::contract::parameters::{
    self as p, DELETED, Header, IDEMPOTENCY_KEY, Parameter, STALE_MS, STORE_REVISION,
};
use crate::http::contract::{Ask, Body, Operation, Path, Resource, Success, Verb};
use crate::http::error::Code;

const GONE: &[Code] = &[Code::LeaseNotFound];

const READ_HEADERS: &[Header] = &[STORE_REVISION, STALE_MS];

const GRANTED: &[Success] = &[Success {
    status: 200,
    about: "It lasts for so long from now.",
    headers: &[],
    content: &[content(JSON, "Granted")],
}];

/// What is done to leases.
const fn operation(ask: Ask, verb: Verb, id: &'static str, summary: &'static str) -> Operation {
    Operation {
        ask,
        verb,
        id,
        tag: "leases",
        summary,
        parameters: &[p::CHANGE_LEASE],
        headers: &[IDEMPOTENCY_KEY],
        body: None,
        answers: GRANTED,
        problems: &[ALWAYS, GONE, WRITES],
    }
}

const READ: &[&[Parameter]] = &[p::READ_LEASES];

pub static RESOURCES: &[Resource] = &[
    Resource {
        path: Path::Exact("/leases"),
        label: "leases",
        operations: &[
            Operation {
                parameters: READ,
                headers: &[],
                answers: &[Success {
                    status: 200,
                    about: "A page of the leases, in the order of their ids.",
                    headers: READ_HEADERS,
                    content: &[content(JSON, "Leases")],
                }],
                problems: &[ALWAYS, READS],
                ..operation(Ask::Leases, Verb::Get, "leases", "List the leases")
            },
            Operation {
                parameters: &[p::GRANT],
                body: Some(Body {
                    about: "The time to live, where the query does not say it. Read as JSON, whatever its media type.",
                    is_required: false,
                    content: &[(JSON, "Grant")],
                }),
                problems: &[ALWAYS, BODIES, &[Code::LeaseLimit], WRITES],
                ..operation(Ask::Grant, Verb::Post, "grantLease", "Grant a lease")
            },
        ],
    },
    Resource {
        path: Path::Around {
            before: "/leases/",
            parameter: &p::LEASE_IN_PATH,
            after: "/keepalive",
        },
        label: "lease_keepalive",
        operations: &[operation(
            Ask::KeepAlive,
            Verb::Post,
            "keepLeaseAlive",
            "Give a lease its whole time again",
        )],
    },
    Resource {
        path: Path::Around { before: "/leases/", parameter: &p::LEASE_IN_PATH, after: "" },
        label: "leases",
        operations: &[
            Operation {
                parameters: READ,
                headers: &[],
                answers: &[Success {
                    status: 200,
                    about: "The lease, and a page of its keys.",
                    headers: READ_HEADERS,
                    content: &[content(JSON, "LeaseKeys")],
                }],
                problems: &[ALWAYS, GONE, READS],
                ..operation(Ask::Lease, Verb::Get, "lease", "Read a lease and its keys")
            },
            Operation {
                answers: &[Success {
                    status: 200,
                    about: "The lease is gone, and its keys are deleted.",
                    headers: &[DELETED, STORE_REVISION],
                    content: &[content(JSON, "Deleted")],
                }],
                ..operation(Ask::Revoke, Verb::Delete, "revokeLease", "End a lease and its keys")
            },
        ],
    },
];
