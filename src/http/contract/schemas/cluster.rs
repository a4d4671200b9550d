//! What a node knows of the cluster and of itself, and changes of the cluster.

use serde_json::{Map, Value, json};

use super::{flag, list, number, object, one_of, text};

pub fn add_to(schemas: &mut Map<String, Value>) {
    let role = || one_of(&["leader", "follower", "candidate", "learner"]);
    let mut add = |name: &str, schema| drop(schemas.insert(name.to_owned(), schema));
    add(
        "Status",
        object([
            ("is_leader", flag()),
            ("leader", text()),
            ("node_id", text()),
            ("leader_id", text()),
            ("leader_http", text()),
            ("role", role()),
            ("term", number()),
            ("commit_index", number()),
            ("applied_index", number()),
            ("revision", number()),
            ("cluster_id", text()),
            ("version", text()),
            ("db_bytes", number()),
            ("db_bytes_live", number()),
            ("compacting", flag()),
            ("compactions", number()),
            ("oldest_revision", number()),
        ]),
    );
    let server = object([
        ("id", text()),
        ("address", text()),
        ("suffrage", one_of(&["voter", "nonvoter"])),
        ("http_address", text()),
    ]);
    add("Members", object([("leader", text()), ("servers", list(server))]));
    let peer = object([("match_index", number()), ("lag", number())]);
    add(
        "RaftStats",
        object([
            ("state", role()),
            ("term", number()),
            ("last_log_index", number()),
            ("last_log_term", number()),
            ("commit_index", number()),
            ("applied_index", number()),
            ("last_snapshot_index", number()),
            ("last_snapshot_term", number()),
            ("first_log_index", number()),
            ("last_contact", json!({ "type": "string", "examples": ["4ms", "never"] })),
            ("num_peers", number()),
            ("log_bytes", number()),
            ("peers", json!({ "type": "object", "additionalProperties": peer })),
        ]),
    );
    add(
        "Join",
        object([
            ("ID", text()),
            ("RaftAddr", json!({ "type": "string", "examples": ["node2:7001"] })),
            ("HttpAddr?", json!({ "type": "string", "examples": ["http://node2:8081"] })),
            ("Suffrage?", one_of(&["voter", "nonvoter"])),
            ("AskedBy?", one_of(&["operator", "node", "damaged"])),
        ]),
    );
    add("MemberName", object([("ID", text())]));
    add(
        "Ready",
        object([
            ("status", one_of(&["ready"])),
            ("role", role()),
            ("leader_id", text()),
            ("term", number()),
            ("commit_index", number()),
            ("applied_index", number()),
        ]),
    );
    add(
        "Health",
        object([
            ("status", one_of(&["ok"])),
            ("mode", text()),
            ("member_count", number()),
            ("node_id", text()),
        ]),
    );
    add(
        "Compacting",
        object([
            ("begun", flag()),
            ("node_id", text()),
            ("db_bytes", number()),
            ("db_bytes_live", number()),
            ("db_bytes_free", number()),
        ]),
    );
}
