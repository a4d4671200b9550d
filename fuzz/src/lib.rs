//! What is decoded from outside, each as a function of bytes: `cargo fuzz` calls them, and so does the test
//! `tests/hostile_input.rs`, with the same corpora, on any toolchain.
//!
//! Each takes any bytes and may refuse them in any way but a panic, an endless loop or memory without bound. Where
//! checksums would refuse nearly everything before it is looked at, the bytes are changes to something real, and
//! the checksums are made right again: what is tested then is what stands behind them.
//!
//! ```text
//! store      pages and meta pages of the B-tree's file
//! log        segments and records of the Raft log
//! frame      frames between nodes, handshakes, and the requests in them
//! command    what the log carries, applied
//! snapshot   a snapshot's pieces, installed
//! http       a request: target, header fields, body
//! config     a settings file, environment and flags
//! ```

pub mod command;
pub mod config;
pub mod frame;
pub mod http;
pub mod log;
pub mod patch;
pub mod snapshot;
pub mod store;

/// A decoder by its name, which is that of its corpus, too.
pub type Decoder = (&'static str, fn(&[u8]));

pub const DECODERS: [Decoder; 7] = [
    ("store", store::decode),
    ("log", log::decode),
    ("frame", frame::decode),
    ("command", command::decode),
    ("snapshot", snapshot::decode),
    ("http", http::decode),
    ("config", config::decode),
];
