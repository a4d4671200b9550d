//! What ends a run on clusters.

use std::io;
use std::time::Duration;

use super::args::System;

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("cannot find {program}: {remedy}")]
    NotInstalled { program: &'static str, remedy: &'static str },
    #[error("the client for etcd is not built in: build with `--features bench-peers`")]
    NotBuilt,
    #[error("{what}")]
    Misuse { what: &'static str },
    #[error("cannot {action}: {source}")]
    Io { action: &'static str, source: io::Error },
    #[error("{system} is not ready after {waited:?}: {what}\n{said}")]
    NotReady { system: System, waited: Duration, what: String, said: String },
    #[error("{node} ended with {status}:\n{said}")]
    Ended { node: String, status: String, said: String },
    #[error("{system}, {doing} the key {key}: {source}")]
    Request { system: System, doing: &'static str, key: String, source: ClientError },
    #[error("{system} gave wrong bytes for the key {key}: {what}")]
    WrongBytes { system: System, key: String, what: String },
    #[error("watching {prefix}: {source}")]
    Watch { prefix: String, source: ClientError },
    #[error("{work} beside the clients: {what}")]
    Beside { work: &'static str, what: String },
    #[error("{system} answered no more: a round took {limit:?} longer than it should")]
    Stuck { system: System, limit: Duration },
    #[error("interrupted; the nodes are stopped and their files removed")]
    Interrupted,
}

impl ClusterError {
    /// For `map_err` on a call of the system.
    pub fn io(action: &'static str) -> impl FnOnce(io::Error) -> ClusterError {
        move |source| ClusterError::Io { action, source }
    }

    /// Whether it is for the caller to mend, and nothing was measured.
    pub fn is_misuse(&self) -> bool {
        matches!(
            self,
            ClusterError::NotInstalled { .. }
                | ClusterError::NotBuilt
                | ClusterError::Misuse { .. }
        )
    }
}

/// Why a node did not do what a client asked of it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot talk to {address}: {source}")]
    Io { address: String, source: io::Error },
    #[error("{address} answered with something else than HTTP: {source}")]
    NotHttp { address: String, source: httparse::Error },
    #[error("{address} closed the connection in the middle of an answer")]
    CutOff { address: String },
    #[error("{address} answered with something else than a page of keys: {what}")]
    NotAPage { address: String, what: String },
    #[error("{address} answered {status}: {said}")]
    Refused { address: String, status: u16, said: String },
    #[cfg(feature = "bench-peers")]
    #[error("HTTP/2 with {address}: {source}")]
    Http2 { address: String, source: h2::Error },
    #[cfg(feature = "bench-peers")]
    #[error("{address} sent a message that cannot be decoded: {what}")]
    NotGrpc { address: String, what: String },
    #[cfg(feature = "bench-peers")]
    #[error("{address} answered with gRPC status {status}: {said}")]
    GrpcStatus { address: String, status: String, said: String },
}
