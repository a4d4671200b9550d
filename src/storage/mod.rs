//! Floor 1: bytes on disk. Synchronous; knows no actors, no async runtime and no Raft library.

pub mod disk;
pub mod log;

mod btree;
mod cache;
mod catalog;
mod draft;
pub mod error;
mod freelist;
mod meta;
mod node;
mod page;
mod pager;
mod split;

pub use node::MAX_TREE_KEY_BYTES;
pub use page::TxnId;
