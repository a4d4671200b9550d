//! ConureDB: a distributed key-value store.

pub mod actors;
pub mod env;
pub mod storage;
pub mod types;
