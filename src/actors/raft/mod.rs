//! openraft behind messages. Nothing outside this folder names openraft.
//!
//! Read in this order:
//! * [`types`]: how openraft's type parameters are filled;
//! * [`log_store`], [`state_machine`]: its storage, over the log and the storage actor;
//! * [`rpc`], [`peers`], [`network`], `pipeline`, [`transfer`]: what nodes ask each other, over which links, and how
//!   entries and snapshots travel;
//! * [`context`]: what the handlers share;
//! * [`mod@write`], [`propose`] (with `batch` and `pace`), [`mod@read`]: the life of a PUT and of a GET; `pinned`: who asks
//!   for states;
//! * [`serve`]: answering peers;
//! * [`watch`]: metrics, and when to take a checkpoint; `purge`: how much of the log may go; `stall`: a disk that stands
//!   still; [`expiry`]: when records end; [`retention`]: and the past;
//! * [`admin`]: membership changes and leadership, for the membership actor;
//! * [`anew`]: the membership with which a restored store begins; [`recover`]: what a survivor of a lost quorum holds;
//! * [`expulsion`]: nodes that may take part no more;
//! * [`actor`]: the actor that owns it all, and this node's life cycle.
//!
//! openraft runs on the runtime that the outermost layer gives: in a real node the thread of consensus.

pub mod actor;
mod addresses;
pub mod admin;
pub mod anew;
mod batch;
#[cfg(test)]
mod conformance;
pub mod context;
pub mod expiry;
pub mod expulsion;
pub mod log_store;
pub mod network;
mod pace;
pub mod peers;
mod pinned;
mod pipeline;
pub mod propose;
mod purge;
pub mod read;
pub mod recover;
pub mod retention;
pub mod rpc;
pub mod serve;
mod stall;
pub mod state_machine;
pub mod transfer;
pub mod types;
pub mod watch;
pub mod write;
