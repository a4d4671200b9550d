//! What one node knows of itself.

use super::{ALWAYS, BODIES, FROM_MEMORY, JSON, OK, TEXT, about, content, document};
use crate::http::contract::parameters as p;
use crate::http::contract::{Ask, Body, Operation, Path, Resource, Success, Verb};
use crate::http::error::Code;
use crate::metrics;

const LOG_LEVEL_ANSWERS: &[Success] =
    &[document("The filter in force.", &[content(TEXT, "LogFilter"), content(JSON, "LogLevel")])];

pub static RESOURCES: &[Resource] = &[
    Resource {
        path: Path::Exact("/status"),
        label: "status",
        operations: &[about(
            Ask::Status,
            "status",
            "What this node knows of itself and of the leader",
            &[document("Answered from memory.", &[content(JSON, "Status")])],
            &[ALWAYS, FROM_MEMORY],
        )],
    },
    Resource {
        path: Path::Exact("/raft/stats"),
        label: "raft_stats",
        operations: &[about(
            Ask::RaftStats,
            "raftStats",
            "The state of the log, and on the leader each peer's progress",
            &[document("Answered from memory.", &[content(JSON, "RaftStats")])],
            &[ALWAYS, FROM_MEMORY],
        )],
    },
    Resource {
        path: Path::Exact("/livez"),
        label: "livez",
        operations: &[about(
            Ask::Livez,
            "livez",
            "Whether the process can answer at all",
            &[document("It can.", &[OK])],
            &[ALWAYS],
        )],
    },
    Resource {
        path: Path::Exact("/readyz"),
        label: "readyz",
        operations: &[Operation {
            parameters: &[p::READYZ],
            ..about(
                Ask::Readyz,
                "readyz",
                "Whether this node may get traffic: a leader is known and this node has caught up",
                &[document("It may.", &[OK, content(JSON, "Ready")])],
                &[ALWAYS, FROM_MEMORY],
            )
        }],
    },
    Resource {
        path: Path::Exact("/health"),
        label: "health",
        operations: &[about(
            Ask::Health,
            "health",
            "Who answers, in a cluster of which size",
            &[document("Answered from memory.", &[content(JSON, "Health")])],
            &[ALWAYS, FROM_MEMORY],
        )],
    },
    Resource {
        path: Path::Exact("/metrics"),
        label: "metrics",
        operations: &[about(
            Ask::Metrics,
            "metrics",
            "What this node counts and measures, as Prometheus reads it",
            &[document("OpenMetrics text.", &[content(metrics::CONTENT_TYPE, "Metrics")])],
            &[ALWAYS, &[Code::Internal]],
        )],
    },
    Resource {
        path: Path::Exact("/openapi.json"),
        label: "openapi",
        operations: &[about(
            Ask::OpenApi,
            "openapi",
            "This document",
            &[document("OpenAPI 3.1.", &[content(JSON, "OpenApi")])],
            &[ALWAYS],
        )],
    },
    Resource {
        path: Path::Exact("/log-level"),
        label: "log_level",
        operations: &[
            about(Ask::LogLevel, "logLevel", "What this node logs", LOG_LEVEL_ANSWERS, &[ALWAYS]),
            Operation {
                verb: Verb::Put,
                body: Some(Body {
                    about: "A filter: a level, or target=level, with commas between; as text or as JSON.",
                    is_required: true,
                    content: &[("text/plain", "LogFilter"), (JSON, "LogLevel")],
                }),
                ..about(
                    Ask::SetLogLevel,
                    "setLogLevel",
                    "Have this node log something else, until its process ends",
                    LOG_LEVEL_ANSWERS,
                    &[ALWAYS, BODIES],
                )
            },
        ],
    },
];
