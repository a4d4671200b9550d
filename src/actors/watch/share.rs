//! How much memory events take that wait for watchers, all together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes of all events that somebody still holds.
#[derive(Clone, Default)]
pub struct Held(Arc<AtomicUsize>);

/// An event's part of `Held`, as long as the event lives.
pub struct Share {
    held: Held,
    len_bytes: usize,
}

impl Held {
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub fn share(&self, len_bytes: usize) -> Share {
        self.0.fetch_add(len_bytes, Ordering::Relaxed);
        Share { held: self.clone(), len_bytes }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.len_bytes, Ordering::Relaxed);
    }
}
