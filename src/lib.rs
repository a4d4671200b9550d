//! ConureDB: a distributed key-value store.

pub mod actors;
pub mod env;
pub mod http;
pub mod metrics;
pub mod client;
pub mod config;
pub mod shell;
pub mod storage;
pub mod types;
