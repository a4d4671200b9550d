//! The name of each write: `Idempotency-Key: <session>:<sequence>`.
//!
//! The store keeps the outcome of the last sequence of each session, answers a repeated one with it, and
//! refuses lower ones. So a session may have one write in flight only (Raft dissertation, section
//! 6.3). Parallel writers each take a session of their own and give it back; there are as many as
//! there ever were writes at one time, which keeps the store's table small.
//!
//! A write that was given up (timed out, or its future was dropped) may still be under way when its
//! session's next write is sent. It can be applied before that one or not at all, since then its
//! sequence is below the last: giving up is a fence against late surprises.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub struct Writers {
    seed: u128,
    pool: Mutex<Pool>,
}

#[derive(Default)]
struct Pool {
    free: Vec<Session>,
    made: u64,
}

struct Session {
    number: u64,
    last_sequence: u64,
}

/// One write's session; back in the pool when it is dropped.
pub struct Writer<'a> {
    writers: &'a Writers,
    session: Session,
}

impl Writers {
    pub fn new(seed: u128) -> Writers {
        Writers { seed, pool: Mutex::default() }
    }

    /// A session for one write, with the write's sequence drawn.
    pub fn begin(&self) -> Writer<'_> {
        let mut pool = self.lock();
        let mut session = pool.free.pop().unwrap_or_else(|| {
            pool.made += 1;
            Session { number: pool.made, last_sequence: 0 }
        });
        session.last_sequence += 1;
        Writer { writers: self, session }
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer<'_> {
    /// The header's value; the same for every attempt of this write.
    pub fn idempotency_key(&self) -> String {
        let Session { number, last_sequence } = self.session;
        format!("{:032x}-{number}:{last_sequence}", self.writers.seed)
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        let Session { number, last_sequence } = self.session;
        self.writers.lock().free.push(Session { number, last_sequence });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_in_turn_share_a_session_and_parallel_ones_do_not() {
        let writers = Writers::new(0xc0);
        let name = format!("{:032x}", 0xc0);
        let first = writers.begin();
        let second = writers.begin();
        assert_eq!(first.idempotency_key(), format!("{name}-1:1"));
        assert_eq!(second.idempotency_key(), format!("{name}-2:1"));
        drop(first);
        assert_eq!(writers.begin().idempotency_key(), format!("{name}-1:2"));
        assert_eq!(writers.begin().idempotency_key(), format!("{name}-1:3"));
    }
}
