//! What stands in queries and headers: names, what their values may be, what they mean.
//!
//! Handlers read a query by one of the lists here, so that what is refused as unknown and what is documented
//! are the same.

use serde_json::{Value, json};

use crate::types::{MAX_CLIENT_BYTES, MAX_KEY_BYTES};

/// A parameter of a query or a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    pub name: &'static str,
    pub kind: Kind,
    pub about: &'static str,
}

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A key, percent-encoded: any bytes, at least one.
    Key,
    /// A bound of a range, or another text: any bytes.
    Bytes,
    /// On without a value.
    Flag,
    /// A number from 1 up.
    Count,
    Revision,
    /// With its unit.
    Duration,
    /// The id of a lease.
    Lease,
    /// How a read is ordered after writes.
    Consistency,
}

impl Kind {
    pub fn schema(self) -> Value {
        match self {
            Kind::Key => json!({ "type": "string", "minLength": 1, "maxLength": MAX_KEY_BYTES }),
            Kind::Bytes => json!({ "type": "string" }),
            Kind::Flag => json!({ "type": "string", "enum": ["true", "1", "false", "0", ""] }),
            Kind::Count => json!({ "type": "integer", "minimum": 1 }),
            Kind::Revision => json!({ "type": "integer", "minimum": 0 }),
            Kind::Duration => {
                json!({ "type": "string", "examples": ["500ms", "30s", "1h 30m"], "minLength": 2 })
            }
            Kind::Consistency => json!({ "type": "string", "enum": ["linearizable", "lease"] }),
            Kind::Lease => json!({ "type": "string", "pattern": "^[0-9A-Fa-f]{1,16}$" }),
        }
    }
}

const fn parameter(name: &'static str, kind: Kind, about: &'static str) -> Parameter {
    Parameter { name, kind, about }
}

const KEY: Parameter = parameter("key", Kind::Key, "The key, percent-encoded.");
const PREFIX: Parameter =
    parameter("prefix", Kind::Bytes, "Keys that begin with this; empty for all keys.");
const START: Parameter = parameter("start", Kind::Bytes, "Keys from this one on.");
const END: Parameter = parameter("end", Kind::Bytes, "Keys below this one.");
const LIMIT: Parameter =
    parameter("limit", Kind::Count, "At most so many entries; 100 unless told.");
const CURSOR: Parameter =
    parameter("cursor", Kind::Bytes, "The next page: `next` of the page before, unchanged.");
const REVISION: Parameter =
    parameter("revision", Kind::Revision, "The state right after this revision.");
const CONSISTENCY: Parameter = parameter(
    "consistency",
    Kind::Consistency,
    "With lease: without a question to the other nodes while the leader's lease holds, where the node is set to that.",
);
const STALE: Parameter =
    parameter("stale", Kind::Flag, "Answer from this node's own state, without asking the leader.");
const MAX_STALE: Parameter =
    parameter("max_stale", Kind::Duration, "With stale: refuse what may be older than this.");
const REDIRECT: Parameter = parameter(
    "redirect",
    Kind::Flag,
    "A node that does not lead answers 307 and the leader's URL instead of asking the leader itself.",
);

pub const KEY_IN_PATH: Parameter = parameter(
    "key",
    Kind::Key,
    "Any bytes, percent-encoded; all of the rest of the path belongs to it, slashes too.",
);
pub const LEASE_IN_PATH: Parameter =
    parameter("lease", Kind::Lease, "The lease, as it was named when it was granted.");

/// The parameter that names a key where the path does not.
pub const ONE_KEY: &[Parameter] = &[KEY];

pub const READ_KEY: &[Parameter] = &[
    CONSISTENCY,
    STALE,
    MAX_STALE,
    REDIRECT,
    REVISION,
    parameter("history", Kind::Flag, "What became of the key, newest first."),
    LIMIT,
];

pub const PUT_KEY: &[Parameter] = &[
    parameter("value", Kind::Bytes, "The value, where there is no body."),
    parameter("ttl", Kind::Duration, "The key expires after this, from 1ms to 100 years."),
    parameter("lease", Kind::Lease, "The key ends with this lease; not with ttl."),
    REDIRECT,
];

pub const DELETE_KEY: &[Parameter] = &[REDIRECT];

/// What any of these asks for is a range, unless a key is named too.
pub const RANGE: &[Parameter] = &[
    PREFIX,
    START,
    END,
    CURSOR,
    LIMIT,
    parameter("reverse", Kind::Flag, "Last key first."),
    parameter("keys_only", Kind::Flag, "No values."),
    parameter("count_only", Kind::Flag, "No entries: `count` says how many keys there are."),
    parameter(
        "delimiter",
        Kind::Bytes,
        "Keys that share all up to the next delimiter after the prefix become one common prefix.",
    ),
];

/// How a range is read.
pub const READ_RANGE: &[Parameter] = &[REVISION, CONSISTENCY, STALE, MAX_STALE, REDIRECT];

pub const DELETE_RANGE: &[Parameter] = &[PREFIX, START, END, REDIRECT];

pub const TXN: &[Parameter] = &[REDIRECT];

pub const WATCH: &[Parameter] = &[
    KEY,
    PREFIX,
    START,
    END,
    parameter("from_revision", Kind::Count, "Begin with this revision."),
    parameter("prev", Kind::Flag, "Tell the record that was there before, too."),
];

pub const GRANT: &[Parameter] = &[
    parameter(
        "ttl",
        Kind::Duration,
        "How long it lasts without a keepalive, from 1s to 100 years.",
    ),
    REDIRECT,
];

pub const CHANGE_LEASE: &[Parameter] = &[REDIRECT];

pub const READ_LEASES: &[Parameter] = &[LIMIT, CURSOR, CONSISTENCY, STALE, MAX_STALE, REDIRECT];

pub const BACKUP: &[Parameter] = &[CONSISTENCY, STALE, MAX_STALE, REDIRECT];

pub const READYZ: &[Parameter] = &[parameter("verbose", Kind::Flag, "Say more.")];

/// A header of a request or an answer.
#[derive(Debug)]
pub struct Header {
    pub name: &'static str,
    pub about: &'static str,
    /// Whether every such answer has it.
    pub is_required: bool,
    pub shape: Shape,
}

/// What a header's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Text,
    /// Matches this expression.
    Pattern(&'static str),
    Number,
}

impl Shape {
    pub fn schema(self) -> Value {
        match self {
            Shape::Text => json!({ "type": "string" }),
            Shape::Pattern(pattern) => json!({ "type": "string", "pattern": pattern }),
            Shape::Number => json!({ "type": "integer", "minimum": 0 }),
        }
    }
}

const fn header(name: &'static str, shape: Shape, about: &'static str) -> Header {
    Header { name, about, is_required: false, shape }
}

const fn always(name: &'static str, shape: Shape, about: &'static str) -> Header {
    Header { name, about, is_required: true, shape }
}

pub const IF_MATCH: Header = header(
    "If-Match",
    Shape::Pattern(r#"^(\*|"[0-9]+")$"#),
    "Only if this revision wrote the key last; `*`: only if the key exists.",
);
pub const ONLY_NEW: Header =
    header("If-None-Match", Shape::Pattern(r"^\*$"), "`*`: only if the key does not exist.");
pub const KNOWN: Header =
    header("If-None-Match", Shape::Text, "304 when one of these revisions wrote the key last.");
pub const IDEMPOTENCY_KEY: Header = header(
    "Idempotency-Key",
    // As many bytes as MAX_CLIENT_BYTES says; a test compares.
    Shape::Pattern("^[!-~]{1,128}:[0-9]{1,20}$"),
    "`<client>:<sequence>`: a write that is sent again takes effect once.",
);
const _: () =
    assert!(MAX_CLIENT_BYTES == 128, "the pattern of Idempotency-Key says another number");
pub const LAST_EVENT_ID: Header = header(
    "Last-Event-ID",
    Shape::Pattern("^[0-9]*$"),
    "Go on behind this event; goes before from_revision.",
);

pub const ETAG: Header =
    header("ETag", Shape::Pattern(r#"^"[0-9]+"$"#), "The revision that wrote the key last.");
pub const STORE_REVISION: Header = always(
    "X-Conure-Revision",
    Shape::Number,
    "The revision of the store at which this was answered.",
);
/// As [`STORE_REVISION`], where only some of the answers have it.
pub const STORE_REVISION_IF_ANY: Header = Header { is_required: false, ..STORE_REVISION };
pub const STALE_MS: Header = header(
    "X-Conure-Stale-Ms",
    Shape::Number,
    "Of a stale read: milliseconds since this node heard from a leader.",
);
pub const TTL: Header =
    header("X-Conure-Ttl", Shape::Pattern("^[0-9]+ms$"), "How long the key has still to live.");
pub const LEASE: Header =
    header("X-Conure-Lease", Shape::Pattern("^[0-9a-f]{16}$"), "The lease that the key ends with.");
pub const APPLIED_INDEX: Header =
    always("X-Conure-Applied-Index", Shape::Number, "How much of the log is in it.");
pub const CLUSTER_ID: Header =
    always("X-Conure-Cluster-Id", Shape::Pattern("^[0-9a-f]{32}$"), "The cluster that it is of.");
pub const CONTENT_DISPOSITION: Header =
    always("Content-Disposition", Shape::Text, "A name for the file.");
pub const DELETED: Header =
    always("X-Conure-Deleted", Shape::Number, "How many keys were removed.");
pub const VARY: Header = header("Vary", Shape::Text, "What the form of the answer depends on.");
pub const UNBUFFERED: Header =
    header("X-Accel-Buffering", Shape::Text, "Has a proxy pass events on as they come.");

/// Of every answer.
pub const EVERY: &[Header] = &[
    always("X-Conure-Served-By", Shape::Text, "The node that answered."),
    always("Cache-Control", Shape::Text, "`no-cache`: ask every time."),
    always(
        "X-Request-Id",
        Shape::Text,
        "The id of the request: the one it brought, or one made for it.",
    ),
];

/// Of every request.
pub const REQUEST_ID: Header = header(
    "X-Request-Id",
    Shape::Text,
    "An id for the logs: 1 to 128 letters, digits and `-_.:/+=@~`. Another one is replaced.",
);

pub const LOCATION: Header = always("Location", Shape::Text, "The same target at the leader.");
pub const RETRY_AFTER: Header = always("Retry-After", Shape::Number, "Seconds to wait.");
