//! The contract as data: which resources there are, which requests they take, what is answered.
//!
//! The router finds a handler here ([`find`]), handlers read their parameters by the lists that stand here, and
//! `GET /openapi.json` is this table in another spelling ([`openapi`]). So a route or a parameter cannot be in
//! one and missing in the other. What is answered cannot be derived from a handler; the contract tests hold every
//! reply they get against the document, and provoke every answer that it promises.
//!
//! To add a request: a variant of [`Ask`], an [`Operation`] in [`table`] with its parameters
//! ([`parameters`]), answers and schemas ([`schemas`]), and an arm in `route::answer`, which the compiler asks for.
//!
//! | file | what it tells |
//! |---|---|
//! | `contract` | the shapes, and how a request finds its operation |
//! | `table` | the resources and their operations |
//! | `parameters` | what stands in queries and headers |
//! | `schemas` | the documents of bodies |
//! | `openapi` | all of it as OpenAPI 3.1 |

pub mod openapi;
pub mod parameters;
mod schemas;
mod table;

use actix_web::http::Method;

use self::parameters::{Header, Parameter};
use super::error::Code;

/// What a request asks for: the router's word for a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    Read,
    Put,
    Delete,
    Txn,
    Leases,
    Grant,
    Lease,
    Revoke,
    KeepAlive,
    Watch,
    Backup,
    Compact,
    Status,
    RaftConfig,
    RaftStats,
    Join,
    Remove,
    Transfer,
    Livez,
    Readyz,
    Health,
    Metrics,
    OpenApi,
    LogLevel,
    SetLogLevel,
}

/// Where a resource is: on the raw path of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    Exact(&'static str),
    /// All between the two belongs to the parameter, slashes too.
    Around {
        before: &'static str,
        parameter: &'static Parameter,
        after: &'static str,
    },
}

impl Path {
    /// Whether `path` is here, with what it says for the parameter.
    fn matches(self, path: &str) -> Option<Option<&str>> {
        match self {
            Path::Exact(exact) => (path == exact).then_some(None),
            Path::Around { before, after, .. } => {
                path.strip_prefix(before)?.strip_suffix(after).map(Some)
            }
        }
    }

    /// What a request at this path names: the parameter, or what stands in the query.
    pub fn names(self) -> &'static str {
        match self {
            Path::Exact(_) => "key",
            Path::Around { parameter, .. } => parameter.name,
        }
    }

    /// As OpenAPI spells it.
    fn template(self) -> String {
        match self {
            Path::Exact(exact) => exact.to_owned(),
            Path::Around { before, parameter, after } => {
                format!("{before}{{{}}}{after}", parameter.name)
            }
        }
    }
}

/// A resource and what can be done to it.
pub struct Resource {
    pub path: Path,
    /// Its name in the metrics.
    pub label: &'static str,
    pub operations: &'static [Operation],
}

/// The methods of the contract. HEAD is answered wherever GET is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Get,
    Put,
    Post,
    Delete,
}

impl Verb {
    fn of(method: &Method) -> Option<Verb> {
        Some(match *method {
            // HEAD is answered as GET; the protocol layer leaves the body out.
            Method::GET | Method::HEAD => Verb::Get,
            Method::PUT => Verb::Put,
            Method::POST => Verb::Post,
            Method::DELETE => Verb::Delete,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::Put => "put",
            Verb::Post => "post",
            Verb::Delete => "delete",
        }
    }
}

/// A method of a resource.
pub struct Operation {
    pub ask: Ask,
    pub verb: Verb,
    /// Its name for generated clients.
    pub id: &'static str,
    pub tag: &'static str,
    pub summary: &'static str,
    /// The parameters of the query, in lists that handlers read by.
    pub parameters: &'static [&'static [Parameter]],
    /// The request's headers that mean something.
    pub headers: &'static [Header],
    pub body: Option<Body>,
    pub answers: &'static [Success],
    pub problems: &'static [&'static [Code]],
}

/// The body of a request.
pub struct Body {
    pub about: &'static str,
    pub is_required: bool,
    /// Media types, each with the name of its schema.
    pub content: &'static [(&'static str, &'static str)],
}

/// An answer that is no problem document.
pub struct Success {
    pub status: u16,
    pub about: &'static str,
    pub headers: &'static [Header],
    pub content: &'static [Content],
}

/// A body of an answer.
pub struct Content {
    pub media_type: &'static str,
    pub schema: &'static str,
    /// Of a stream: the schema of a line, or of an event's data.
    pub item: Option<&'static str>,
}

/// The resource at this raw path, and what the path says for its parameter.
pub fn find(path: &str) -> Option<(&'static Resource, Option<&str>)> {
    table::resources().find_map(|it| it.path.matches(path).map(|rest| (it, rest)))
}

impl Resource {
    pub fn operation(&self, method: &Method) -> Option<&'static Operation> {
        let verb = Verb::of(method)?;
        self.operations.iter().find(|operation| operation.verb == verb)
    }

    /// The value of `Allow`.
    pub fn allowed(&self) -> String {
        let names = self.operations.iter().map(|operation| match operation.verb {
            Verb::Get => "GET, HEAD",
            Verb::Put => "PUT",
            Verb::Post => "POST",
            Verb::Delete => "DELETE",
        });
        names.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_raw_path_after_kv_belongs_to_the_key() {
        let found = |path| find(path).map(|(resource, rest)| (resource.label, rest));
        assert_eq!(found("/kv"), Some(("kv", None)));
        assert_eq!(found("/kv/"), Some(("kv", Some(""))));
        assert_eq!(found("/kv/../status"), Some(("kv", Some("../status"))));
        assert_eq!(found("/kv//a%2f%0A"), Some(("kv", Some("/a%2f%0A"))));
        assert_eq!(found("/kv/leases/1"), Some(("kv", Some("leases/1"))));
        assert_eq!(found("/leases"), Some(("leases", None)));
        assert_eq!(found("/leases/1"), Some(("leases", Some("1"))));
        assert_eq!(found("/leases/1/keepalive"), Some(("lease_keepalive", Some("1"))));
        assert_eq!(found("/status"), Some(("status", None)));
        for nowhere in ["/kvx", "/leasesx", "/status/", "/%73tatus", "", "*"] {
            assert_eq!(found(nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn each_request_stands_once_in_the_table() {
        let mut ids = BTreeSet::new();
        for resource in table::resources() {
            let mut verbs = Vec::new();
            for operation in resource.operations {
                assert!(ids.insert(operation.id), "{} twice", operation.id);
                assert!(!verbs.contains(&operation.verb), "{}", operation.id);
                verbs.push(operation.verb);
                let codes: Vec<Code> = operation.problems.concat();
                let distinct: BTreeSet<&str> = codes.iter().map(|code| code.name()).collect();
                assert_eq!(distinct.len(), codes.len(), "{}: a code twice", operation.id);
            }
        }
    }
}
