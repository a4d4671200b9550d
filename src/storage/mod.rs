//! Floor 1: bytes on disk. Synchronous; knows no actors, no async runtime and no Raft library.
//!
//! # The B-tree file, `conure.db`
//!
//! A copy-on-write B-tree with one writer, lock-free snapshots, and durability by checkpoints; the
//! Raft log is what makes a single commit durable. Files in the order to read them:
//!
//! ```text
//! page       an extent of pages, its header, checksum and reference
//! meta       the twin pages that name the durable root      root      what a commit makes: trees and facts
//! node       sorted cells in a page                         freemap   reuse after the last holder
//! cache      pages in memory, read without locks            pager     load and verify
//! draft      copy-on-write of one transaction               dirty     what the next checkpoint writes
//! btree      get, put, remove                               reshape   splits and joins, with split
//! append     puts in key order                              trim      removals from the left end
//! cursor     ranges from both ends                          snapshot  a pinned root
//! passing    walks over everything, past the cache
//! txn        all or nothing                                 store     commit, checkpoint, space
//! compact    packs leaves and empties the tail, a step at a time
//! checkpoint the order of writes and fsyncs                 open      finding the durable root
//! walk       every page read, checked and accounted for   check      the same of an open store
//! scrub      every page read again, a piece at a time, while the store is in use
//! inspect    a data directory that no node runs on
//! error      what a caller can do about it
//! ```
//!
//! Callers use [`store`] and what it hands out; no type of the private modules but those re-exported
//! here is theirs to name.

pub mod backup;
pub mod disk;
pub mod identity;
pub mod kv;
pub mod log;
pub mod reserve;

mod append;
mod btree;
mod cache;
pub mod check;
pub mod checkpoint;
pub mod compact;
pub mod cursor;
mod dirty;
mod draft;
pub mod error;
mod freemap;
pub mod inspect;
mod meta;
mod node;
mod open;
mod page;
mod pager;
mod passing;
mod reshape;
mod root;
pub mod scrub;
pub mod snapshot;
mod split;
pub mod store;
mod trim;
pub mod txn;
mod walk;

pub use node::MAX_TREE_KEY_BYTES;
pub use page::TxnId;
pub use pager::StoredValue;
pub use root::{FACTS_BYTES, Facts, TreeId};

#[cfg(test)]
mod tests;
