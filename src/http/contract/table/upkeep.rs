//! A copy of the store, and the size of its file.

use super::{ALWAYS, BYTES, JSON, READS, about, content};
use crate::http::contract::parameters::{
    self as p, APPLIED_INDEX, CLUSTER_ID, CONTENT_DISPOSITION, STORE_REVISION,
};
use crate::http::contract::{Ask, Operation, Path, Resource, Success, Verb};
use crate::http::error::Code;

pub static RESOURCES: &[Resource] = &[
    Resource {
        path: Path::Exact("/backup"),
        label: "backup",
        operations: &[Operation {
            tag: "upkeep",
            parameters: &[p::BACKUP],
            ..about(
                Ask::Backup,
                "backup",
                "All of the store as one file",
                &[Success {
                    status: 200,
                    about: "The file, as docs/FORMAT.md tells. One that breaks off ends without its last chunk.",
                    headers: &[STORE_REVISION, APPLIED_INDEX, CLUSTER_ID, CONTENT_DISPOSITION],
                    content: &[content(BYTES, "Bytes")],
                }],
                &[ALWAYS, READS],
            )
        }],
    },
    Resource {
        path: Path::Exact("/compact"),
        label: "compact",
        operations: &[Operation {
            tag: "upkeep",
            verb: Verb::Post,
            ..about(
                Ask::Compact,
                "compact",
                "Have this node make its file as short as what it holds",
                &[Success {
                    status: 202,
                    about: "It has begun; `compacting` of `GET /status` tells when it has ended.",
                    headers: &[],
                    content: &[content(JSON, "Compacting")],
                }],
                &[ALWAYS, &[Code::Overloaded, Code::NotReady, Code::Timeout]],
            )
        }],
    },
];
