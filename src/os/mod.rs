//! The outermost layer: this machine's clock, randomness and network, for a real node; and the pages that
//! its programs print about themselves.
//!
//! The rest of the program reaches them through traits; only here, in `storage::disk`'s real disk and in the
//! binaries are the operating system's own calls allowed. Nothing but the binaries imports this.
#![allow(clippy::disallowed_methods)] // what everybody else has to take from here, or from a trait

pub mod net;
pub mod pages;
pub mod process;
pub mod seeds;

use std::time::{SystemTime, UNIX_EPOCH};

use crate::env::{Chance, Clock};

/// The machine's wall clock.
pub struct OsClock;

impl Clock for OsClock {
    fn unix_ms(&self) -> u64 {
        // A clock before 1970 is a clock that was never set: zero is as good as any.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}

/// The machine's randomness, fit for ids and nonces.
pub struct OsChance;

impl Chance for OsChance {
    fn next_u64(&self) -> u64 {
        rand::random()
    }
}
