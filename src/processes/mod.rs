//! Real nodes: `conure-db` processes that are started, asked whether they live, signalled and started again.
//!
//! What `conure-soak` and `tests/cluster` share. In the order to read:
//!
//! ```text
//! node    one process: its directory, its ports, its log, the signals it gets
//! ports   ports that were free a moment ago      wait   waiting for a condition, with a deadline
//! error   why a node does not run
//! ```
//!
//! It stands outermost, as the simulation does, of which it is the counterpart: there the surroundings are
//! made up, here they are this machine's. Nothing but its program (`src/bin/conure-soak`) and the tests imports it.
//! It knows no requests but the one that asks whether a node lives; what clients ask is its users' business.
#![allow(clippy::disallowed_methods)] // this machine's files, processes, clock and sockets are the point

pub mod error;
pub mod node;
pub mod ports;
pub mod wait;

pub use error::ProcessError;
pub use node::NodeProcess;
pub use wait::{LOOK_EVERY, PATIENCE, until};
