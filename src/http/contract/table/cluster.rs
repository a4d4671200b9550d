//! Who belongs to the cluster, and who leads.

use super::{ALWAYS, BODIES, FROM_MEMORY, JSON, OK, about, content, document, json_body};
use crate::http::contract::{Ask, Operation, Path, Resource, Success, Verb};
use crate::http::error::Code;

/// Why a change of the cluster was not carried out, or is not known to be.
const CHANGES: &[Code] = &[
    Code::NodeConflict,
    Code::UnknownNode,
    Code::Refused,
    Code::Overloaded,
    Code::NoLeader,
    Code::NotReady,
    Code::Timeout,
    Code::StorageFailed,
];

const DONE: &[Success] = &[document("Done.", &[OK])];

/// A change of the cluster.
const fn change(
    ask: Ask,
    id: &'static str,
    summary: &'static str,
    body: &'static [(&'static str, &'static str)],
) -> Operation {
    Operation {
        ask,
        verb: Verb::Post,
        id,
        tag: "cluster",
        summary,
        parameters: &[],
        headers: &[],
        body: json_body(body),
        answers: DONE,
        problems: &[ALWAYS, BODIES, CHANGES],
    }
}

pub static RESOURCES: &[Resource] = &[
    Resource {
        path: Path::Exact("/raft/config"),
        label: "raft_config",
        operations: &[Operation {
            tag: "cluster",
            ..about(
                Ask::RaftConfig,
                "members",
                "The members of the cluster",
                &[document("Answered from memory.", &[content(JSON, "Members")])],
                &[ALWAYS, FROM_MEMORY],
            )
        }],
    },
    Resource {
        path: Path::Exact("/join"),
        label: "join",
        operations: &[change(Ask::Join, "join", "Add a node to the cluster", &[(JSON, "Join")])],
    },
    Resource {
        path: Path::Exact("/remove"),
        label: "remove",
        operations: &[change(
            Ask::Remove,
            "remove",
            "Take a member out of the cluster",
            &[(JSON, "MemberName")],
        )],
    },
    Resource {
        path: Path::Exact("/transfer"),
        label: "transfer",
        operations: &[change(
            Ask::Transfer,
            "transfer",
            "Move the lead to a member",
            &[(JSON, "MemberName")],
        )],
    },
];
