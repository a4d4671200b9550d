//! Floor 1: bytes on disk. Synchronous; knows no actors, no async runtime and no Raft library.

pub mod disk;
pub mod log;

pub mod error;
mod node;
mod page;

pub use node::MAX_TREE_KEY_BYTES;
pub use page::TxnId;
