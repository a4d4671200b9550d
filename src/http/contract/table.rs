//! The resources of the contract, by what they are about, and what their operations have in common.

mod cluster;
mod keys;
mod leases;
mod node;
mod upkeep;

use super::{Ask, Body, Content, Operation, Resource, Success, Verb};
use crate::http::error::Code;

/// All resources. Those that are asked for most stand first: the router looks through them in order.
pub fn resources() -> impl Iterator<Item = &'static Resource> {
    [keys::RESOURCES, leases::RESOURCES, cluster::RESOURCES, upkeep::RESOURCES, node::RESOURCES]
        .into_iter()
        .flatten()
}

pub const JSON: &str = "application/json";
pub const BYTES: &str = "application/octet-stream";
pub const TEXT: &str = "text/plain; charset=utf-8";

pub const fn content(media_type: &'static str, schema: &'static str) -> Content {
    Content { media_type, schema, item: None }
}

pub const OK: Content = content(TEXT, "Ok");

/// An answer that is one document.
pub const fn document(about: &'static str, content: &'static [Content]) -> Success {
    Success { status: 200, about, headers: &[], content }
}

pub const fn json_body(schema: &'static [(&'static str, &'static str)]) -> Option<Body> {
    Some(Body {
        about: "Read as JSON, whatever its media type.",
        is_required: true,
        content: schema,
    })
}

/// What every request may be told.
pub const ALWAYS: &[Code] = &[Code::BadParameter, Code::HeadTooLarge];

/// What is wrong with a body.
pub const BODIES: &[Code] = &[Code::BadBody, Code::RequestTimeout, Code::ValueTooLarge];

/// Why no state can be had to read from.
pub const READS: &[Code] = &[
    Code::NotLeader,
    Code::Overloaded,
    Code::NoLeader,
    Code::NotReady,
    Code::TooStale,
    Code::Timeout,
    Code::StorageFailed,
];

/// Why a write was not carried out, or is not known to be.
pub const WRITES: &[Code] = &[
    Code::NotLeader,
    Code::Superseded,
    Code::KeyReused,
    Code::Refused,
    Code::Overloaded,
    Code::NoLeader,
    Code::NotReady,
    Code::Timeout,
    Code::StorageFull,
    Code::StorageFailed,
    Code::Internal,
];

/// What a write that may name a lease may be told of it.
pub const OF_LEASES: &[Code] = &[Code::LeaseNotFound, Code::LeaseLimit];

/// The node does not answer; it closes.
pub const FROM_MEMORY: &[Code] = &[Code::NotReady];

/// A document about the node or the cluster.
pub const fn about(
    ask: Ask,
    id: &'static str,
    summary: &'static str,
    answers: &'static [Success],
    problems: &'static [&'static [Code]],
) -> Operation {
    Operation {
        ask,
        verb: Verb::Get,
        id,
        tag: "node",
        summary,
        parameters: &[],
        headers: &[],
        body: None,
        answers,
        problems,
    }
}
