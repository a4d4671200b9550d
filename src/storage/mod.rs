//! Floor 1: bytes on disk. Synchronous; knows no actors, no async runtime and no Raft library.

pub mod disk;
pub mod log;
