//! The HTTP contract, line by line, on a real socket: what clients send is written by hand, byte for
//! byte, and the node behind the gateway is a fake that can be told to fail or to wait.
//!
//! `kv` and `scan` tell what keys and ranges do, `past` what they were, `txn` several at once, `leases` what
//! ends together, `watch` how changes are streamed, `cluster` the documents and changes of the cluster,
//! `backup` how all of the store leaves, `observe` the ids of requests and what is logged, `errors` what every refusal
//! looks like, `limits` what happens at each bound. Every reply is held against `/openapi.json` (`document`), and
//! whatever that promises is provoked (`promises`).

#![allow(
    clippy::disallowed_methods,
    reason = "a test is its own outermost layer: it opens sockets"
)]

mod backup;
mod client;
mod cluster;
mod document;
mod errors;
mod fake;
mod kv;
mod leases;
mod limits;
mod observe;
mod past;
mod promises;
mod scan;
mod txn;
mod watch;
mod wire;
