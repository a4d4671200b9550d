//! Pages in memory: a table that readers walk without locks, and a clock that bounds it.
//!
//! The table has a slot for every page number, in three levels of which the lower two come to be
//! when first touched. A slot is an `arc_swap` cell: a reader takes the page with two loads and no
//! lock, and keeps its `Arc` for as long as it likes, whatever happens to the slot.
//!
//! Slots hold two sorts of pages. *Dirty* pages were committed and not yet written; the slot is
//! the only place where readers find them, so they are never dropped before a checkpoint wrote
//! them. *Clean* pages are copies of what is on disk. They, and only they, are entered in the clock:
//! a ring that a full pool sweeps, giving each page that was read since the last sweep another
//! round (the second-chance form of LRU: a hit costs one relaxed flag, no lock and no list).
//! The ring's mutex is taken on a miss only, beside which a disk read makes it nothing.
//!
//! The ring holds `Weak`s, so an entry whose page left the table by another way (its number was
//! freed) dies by itself; until a sweep meets it, its bytes still count.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwapOption;

use crate::storage::page::{Page, PageRef};

const ROOT_SLOTS: usize = 1 << 11;
const MIDDLE_SLOTS: usize = 1 << 11;
const LEAF_SLOTS: usize = 1 << 10;

/// As many pages as the table can number: 2^32, a file of 16 TiB.
pub const MAX_PAGES: u64 = (ROOT_SLOTS * MIDDLE_SLOTS * LEAF_SLOTS) as u64;

/// A page larger than this part of the pool is not kept: one such value would drive out many nodes.
const LARGEST_PART: usize = 8;

/// A page in the table.
pub struct Cached {
    page: Arc<Page>,
    /// Read since the clock's hand last passed.
    referenced: AtomicBool,
}

type Slot = ArcSwapOption<Cached>;
type Level<T> = Box<[T]>;

/// All pages in memory, by number.
pub struct PageTable {
    root: Level<OnceLock<Level<OnceLock<Level<Slot>>>>>,
    clock: Mutex<Clock>,
    pool_bytes: usize,
}

#[derive(Default)]
struct Clock {
    ring: VecDeque<Entry>,
    bytes: usize,
}

struct Entry {
    cached: Weak<Cached>,
    number: u64,
    bytes: usize,
}

impl PageTable {
    /// An empty table whose clean pages take about `pool_bytes`.
    pub fn new(pool_bytes: usize) -> PageTable {
        PageTable { root: level(ROOT_SLOTS), clock: Mutex::default(), pool_bytes }
    }

    /// The page that has this number, if it is in memory.
    pub fn get(&self, number: u64) -> Option<Arc<Page>> {
        let cached = self.slot(number).load();
        let cached = cached.as_ref()?;
        // Read before writing: a flag that is set already stays shared between the readers' caches.
        if !cached.referenced.load(Ordering::Relaxed) {
            cached.referenced.store(true, Ordering::Relaxed);
        }
        Some(Arc::clone(&cached.page))
    }

    /// Enters a dirty page.
    pub fn publish(&self, number: u64, page: Arc<Page>) {
        self.slot(number).store(Some(Cached::new(page)));
    }

    /// Enters a page read from disk, and returns the one that is in the table then: another reader
    /// may have been faster. The caller pins a root that has the page, so that its number cannot
    /// be given away meanwhile.
    pub fn install(&self, number: u64, page: Arc<Page>) -> Arc<Page> {
        if self.is_too_large(&page) {
            return page;
        }
        let cached = Cached::new(page);
        let before =
            self.slot(number).compare_and_swap(&None::<Arc<Cached>>, Some(Arc::clone(&cached)));
        if let Some(faster) = before.as_ref() {
            return Arc::clone(&faster.page);
        }
        let mut clock = self.clock();
        clock.admit(number, &cached);
        self.sweep(&mut clock);
        Arc::clone(&cached.page)
    }

    /// Hands dirty pages that are on disk now to the clock.
    pub fn mark_clean<'a>(&self, pages: impl Iterator<Item = &'a Arc<Page>>) {
        let mut clock = self.clock();
        for page in pages {
            let number = page.reference().number;
            let slot = self.slot(number);
            let current = slot.load_full();
            let Some(cached) = current.filter(|cached| Arc::ptr_eq(&cached.page, page)) else {
                continue; // freed since
            };
            if self.is_too_large(page) {
                slot.store(None);
            } else {
                clock.admit(number, &cached);
            }
        }
        self.sweep(&mut clock);
    }

    /// Empties the slot of a page that nobody holds any more.
    pub fn forget(&self, page: PageRef) {
        let slot = self.slot(page.number);
        if slot.load().is_some() {
            slot.store(None);
        }
    }

    /// Bytes of the clean pages kept.
    pub fn clean_bytes(&self) -> usize {
        self.clock().bytes
    }

    fn slot(&self, number: u64) -> &Slot {
        debug_assert!(number < MAX_PAGES, "numbers are checked by the pager");
        let number = number as usize;
        let middle = self.root[number / LEAF_SLOTS / MIDDLE_SLOTS % ROOT_SLOTS]
            .get_or_init(|| level(MIDDLE_SLOTS));
        let leaf =
            middle[number / LEAF_SLOTS % MIDDLE_SLOTS].get_or_init(|| level::<Slot>(LEAF_SLOTS));
        &leaf[number % LEAF_SLOTS]
    }

    fn is_too_large(&self, page: &Page) -> bool {
        page.bytes().len() > self.pool_bytes / LARGEST_PART
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        // Nothing panics under the lock half way through a change.
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops clean pages until the pool is within its size. Every entry gets at most one more
    /// round, so that readers who keep touching all pages cannot keep the hand going.
    fn sweep(&self, clock: &mut Clock) {
        for _ in 0..2 * clock.ring.len() {
            if clock.bytes <= self.pool_bytes {
                return;
            }
            let Some(entry) = clock.ring.pop_front() else { return };
            let Some(cached) = entry.cached.upgrade() else {
                clock.bytes -= entry.bytes;
                continue;
            };
            if cached.referenced.swap(false, Ordering::Relaxed) {
                clock.ring.push_back(entry);
                continue;
            }
            clock.bytes -= entry.bytes;
            // Does nothing when the number has another page by now.
            self.slot(entry.number).compare_and_swap(&cached, None);
        }
    }
}

impl Cached {
    fn new(page: Arc<Page>) -> Arc<Cached> {
        Arc::new(Cached { page, referenced: AtomicBool::new(false) })
    }
}

impl Clock {
    fn admit(&mut self, number: u64, cached: &Arc<Cached>) {
        let bytes = cached.page.bytes().len();
        self.ring.push_back(Entry { cached: Arc::downgrade(cached), number, bytes });
        self.bytes += bytes;
    }
}

fn level<T: Default>(slots: usize) -> Level<T> {
    std::iter::repeat_with(T::default).take(slots).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::page::{PAGE_BYTES, PageKind};

    fn page(number: u64) -> Arc<Page> {
        Arc::new(Page::new(PageKind::Leaf, PageRef { number, birth: 1, span: 1 }))
    }

    #[test]
    fn the_pool_stays_within_its_size_and_keeps_what_is_read() {
        let table = PageTable::new(16 * PAGE_BYTES);
        table.install(7, page(7));
        for number in 100..1_000 {
            table.install(number, page(number));
            assert!(table.clean_bytes() <= 16 * PAGE_BYTES);
            assert!(table.get(7).is_some(), "read on every round, dropped at {number}");
        }
        assert!(table.get(100).is_none());
    }

    #[test]
    fn dirty_pages_stay_until_they_are_clean() {
        let table = PageTable::new(16 * PAGE_BYTES);
        let dirty = (0..100).map(page).collect::<Vec<_>>();
        dirty.iter().for_each(|p| table.publish(p.reference().number, Arc::clone(p)));
        (200..300).for_each(|number| drop(table.install(number, page(number))));
        assert!((0..100).all(|number| table.get(number).is_some()));
        table.mark_clean(dirty.iter());
        assert_eq!((0..300).filter(|&n| table.get(n).is_some()).count(), 16);
    }

    #[test]
    fn page_numbers_to_the_last_have_slots() {
        let table = PageTable::new(1 << 20);
        for number in [0, 1 << 10, 1 << 21, MAX_PAGES - 1] {
            table.publish(number, page(number));
            assert_eq!(table.get(number).unwrap().reference().number, number);
        }
    }
}
