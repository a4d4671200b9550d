//! Wall clock and chance, as traits.
//!
//! A node takes both from here, so that a simulated node replays from a seed. Monotonic time is
//! tokio's clock (`tokio::time::Instant`), which a simulation pauses and steps; only the outermost layer
//! implements these traits over the operating system.

/// The wall clock of a node. It may jump; nothing that must be correct depends on it.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn unix_ms(&self) -> u64;
}

/// A source of random numbers, unpredictable in a real node and seeded in a simulated one.
pub trait Chance: Send + Sync + 'static {
    fn next_u64(&self) -> u64;

    fn next_u128(&self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }

    /// A number in `0..bound`; 0 when `bound` is 0. The bias is below `bound / 2^64`.
    fn below(&self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}
