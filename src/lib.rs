//! ConureDB: a distributed key-value store.

pub mod storage;
pub mod types;
