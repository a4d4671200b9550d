//! Pages of several pages' length in memory: values, and nodes of giant keys.
//!
//! They are few and long, so a map under a lock serves; each is reference-counted, and a reader
//! keeps its value for as long as it likes, whatever happens here. Dirty ones stay until they are
//! clean; of the clean ones a ring keeps as many as the limit allows, giving each that was read since the
//! hand last passed another round.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use crate::storage::page::Page;

/// Maps by the lowest bits of the page number, so that readers seldom meet at one lock.
const SHARDS: usize = 16;

/// A page larger than this part of the limit is not kept: one such value would drive out all others.
const LARGEST_PART: usize = 4;

/// The large pages in memory, by number.
#[derive(Default)]
pub struct LargePages {
    shards: [RwLock<HashMap<u64, Arc<Cached>>>; SHARDS],
    clock: Mutex<Clock>,
}

struct Cached {
    page: Arc<Page>,
    /// Read since the clock's hand last passed.
    referenced: AtomicBool,
}

#[derive(Default)]
struct Clock {
    /// `Weak`, so that a page that left the map by another way dies by itself; its bytes count until
    /// the hand meets it.
    ring: VecDeque<(Weak<Cached>, u64, usize)>,
    bytes: usize,
}

impl LargePages {
    pub fn get(&self, number: u64) -> Option<Arc<Page>> {
        let shard = self.shard(number).read().unwrap_or_else(PoisonError::into_inner);
        let cached = shard.get(&number)?;
        cached.referenced.store(true, Ordering::Relaxed);
        Some(Arc::clone(&cached.page))
    }

    /// Enters a dirty page.
    pub fn publish(&self, number: u64, page: Arc<Page>) {
        self.insert(number, Cached::new(page));
    }

    /// Enters a page read from the disk, unless it is too large to be kept.
    pub fn install(&self, number: u64, page: Arc<Page>, limit_bytes: usize) {
        if page.bytes().len() <= limit_bytes / LARGEST_PART {
            let cached = Cached::new(page);
            self.insert(number, Arc::clone(&cached));
            self.admit(number, &cached, limit_bytes);
        }
    }

    /// Hands a dirty page that is on the disk now to the clock.
    pub fn mark_clean(&self, number: u64, birth: u64, limit_bytes: usize) {
        let mut shard = self.shard(number).write().unwrap_or_else(PoisonError::into_inner);
        let Some(cached) = shard.get(&number).filter(|c| c.page.reference().birth == birth) else {
            return; // freed since
        };
        if cached.page.bytes().len() > limit_bytes / LARGEST_PART {
            shard.remove(&number);
            return;
        }
        let cached = Arc::clone(cached);
        drop(shard);
        self.admit(number, &cached, limit_bytes);
    }

    /// Drops a page that nobody holds any more.
    pub fn forget(&self, number: u64) {
        self.shard(number).write().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }

    /// Bytes of the clean pages kept.
    pub fn clean_bytes(&self) -> usize {
        self.clock().bytes
    }

    fn insert(&self, number: u64, cached: Arc<Cached>) {
        let mut shard = self.shard(number).write().unwrap_or_else(PoisonError::into_inner);
        shard.insert(number, cached);
    }

    /// Enters a clean page in the ring and drops others until the limit is kept. Every entry gets
    /// at most one more round, so that readers cannot keep the hand going.
    fn admit(&self, number: u64, cached: &Arc<Cached>, limit_bytes: usize) {
        let mut clock = self.clock();
        let bytes = cached.page.bytes().len();
        clock.ring.push_back((Arc::downgrade(cached), number, bytes));
        clock.bytes += bytes;
        for _ in 0..2 * clock.ring.len() {
            if clock.bytes <= limit_bytes {
                return;
            }
            let Some((weak, number, bytes)) = clock.ring.pop_front() else { return };
            if let Some(cached) = weak.upgrade() {
                if cached.referenced.swap(false, Ordering::Relaxed) {
                    clock.ring.push_back((weak, number, bytes));
                    continue;
                }
                let mut shard = self.shard(number).write().unwrap_or_else(PoisonError::into_inner);
                if shard.get(&number).is_some_and(|present| Arc::ptr_eq(present, &cached)) {
                    shard.remove(&number);
                }
            }
            clock.bytes -= bytes;
        }
    }

    fn shard(&self, number: u64) -> &RwLock<HashMap<u64, Arc<Cached>>> {
        &self.shards[number as usize % SHARDS]
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        // Nothing panics under the lock half way through a change.
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cached {
    fn new(page: Arc<Page>) -> Arc<Cached> {
        Arc::new(Cached { page, referenced: AtomicBool::new(false) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::page::{PAGE_BYTES, PageKind, PageRef};

    const LIMIT: usize = 16 * PAGE_BYTES;

    fn page(number: u64) -> Arc<Page> {
        Arc::new(Page::new(PageKind::Value, PageRef { number, birth: 1, span: 2 }))
    }

    #[test]
    fn clean_pages_stay_within_the_limit_and_those_read_stay() {
        let pages = LargePages::default();
        pages.install(7, page(7), LIMIT);
        for number in 100..300 {
            pages.install(number, page(number), LIMIT);
            assert!(pages.clean_bytes() <= LIMIT);
            assert!(pages.get(7).is_some(), "read on every round, dropped at {number}");
        }
        assert!(pages.get(100).is_none());
    }

    #[test]
    fn dirty_pages_stay_until_they_are_clean() {
        let pages = LargePages::default();
        (0..50).for_each(|number| pages.publish(number, page(number)));
        (100..150).for_each(|number| pages.install(number, page(number), LIMIT));
        assert!((0..50).all(|number| pages.get(number).is_some()));
        (0..50).for_each(|number| pages.mark_clean(number, 1, LIMIT));
        assert_eq!((0..150).filter(|&number| pages.get(number).is_some()).count(), 8);
        let giant = PageRef { number: 500, birth: 1, span: 8 };
        pages.install(500, Arc::new(Page::new(PageKind::Value, giant)), LIMIT);
        assert!(pages.get(500).is_none(), "half of the limit is too much for one");
    }
}
