//! The kinds of metrics, and how each is registered.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A value that is set: a size, an index, a number of things there are now.
pub type Level = Gauge<u64, AtomicU64>;

/// Counts one thing in a [`Level`] for as long as it lives, however it ends: a place in a queue, a request under way.
#[derive(Debug)]
pub struct Held(Level);

impl Held {
    pub fn new(level: &Level) -> Held {
        level.inc();
        Held(level.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A number of things that happened since the process started.
pub type Count = Counter;

/// A histogram of durations.
///
/// Buckets double from 50 µs, about an fdatasync on preallocated blocks, up to 26 s, above every
/// default time limit: one set of buckets serves a disk's flush and a request that waited for an
/// election.
#[derive(Clone, Debug)]
pub struct Timing(Histogram);

impl Timing {
    pub fn observe(&self, elapsed: Duration) {
        self.0.observe(elapsed.as_secs_f64());
    }
}

/// A histogram as [`Timing`] has it, for families.
pub fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(50e-6, 2.0, 20))
}

pub fn level(registry: &mut Registry, name: &str, help: &str) -> Level {
    let level = Level::default();
    registry.register(name, help, level.clone());
    level
}

/// The name gets `_bytes` behind it.
pub fn level_bytes(registry: &mut Registry, name: &str, help: &str) -> Level {
    let level = Level::default();
    registry.register_with_unit(name, help, Unit::Bytes, level.clone());
    level
}

/// The name gets `_bytes` behind it.
pub fn gauge_bytes(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
    gauge
}

/// The name gets `_total` behind it.
pub fn count(registry: &mut Registry, name: &str, help: &str) -> Count {
    let count = Count::default();
    registry.register(name, help, count.clone());
    count
}

/// The name gets `_bytes_total` behind it.
pub fn count_bytes(registry: &mut Registry, name: &str, help: &str) -> Count {
    let count = Count::default();
    registry.register_with_unit(name, help, Unit::Bytes, count.clone());
    count
}

/// The name gets `_seconds` behind it.
pub fn timing(registry: &mut Registry, name: &str, help: &str) -> Timing {
    let timing = Timing(histogram());
    registry.register_with_unit(name, help, Unit::Seconds, timing.0.clone());
    timing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_until_it_ends() {
        let level = Level::default();
        let held = [Held::new(&level), Held::new(&level)];
        assert_eq!(level.get(), 2);
        drop(held);
        assert_eq!(level.get(), 0);
    }
}
