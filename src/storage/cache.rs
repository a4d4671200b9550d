//! Pages in memory: read without locks, bounded, and never changed under a reader.
//!
//! Pages of one page's length live in [`frames`], longer ones in [`large`]. For the former a table
//! has an entry for every page number, which says in which frame the page is and what may be done
//! with it:
//!
//! ```text
//! bits 0..29   the frame's number plus one; 0: the page is not in memory
//! 29 REFERENCED  read since the hand last passed (second-chance eviction)
//! 30 DIRTY       committed and not in the file yet: never evicted
//! 31 PRIVATE     of a transaction that has not committed: the writer's alone
//! ```
//!
//! # Why no reader ever sees a frame change
//!
//! A reader pins an epoch ([`pin`]), loads an entry that is not private, and reads the frame for as
//! long as it stays pinned. A frame is written in two situations only, both while no entry that a
//! reader accepts leads to it:
//!
//! * by the writer, under a private entry, which readers treat as absent; [`CacheWriter`] exists
//!   once, and hands out the bytes as a borrow of itself;
//! * by a reader that fills a frame it took out of the pool, before it enters it in the table.
//!
//! A frame whose entry was public goes back to the pool through the epochs: whoever takes the entry
//! away (one atomic exchange decides who) defers the frame's return until every reader that was pinned at
//! that moment has unpinned. This does not depend on page numbers, roots or references being sound,
//! so a damaged file cannot make it false.
//!
//! # Bounds
//!
//! The pool takes frames up to its size, then evicts clean ones, a little ahead of need. Dirty and private pages may
//! exceed it, as a commit must not fail for want of memory: whoever commits is told how much is dirty and begins a
//! checkpoint in time. With three quarters of it dirty the pool stays within a tenth of its size. Large pages share the
//! same limit.

mod array;
mod frames;
mod large;
#[cfg(test)]
mod tests;
mod writer;

use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use crossbeam_epoch::{Guard, pin};

use self::array::Array;
use self::frames::{FrameId, Frames};
use self::large::LargePages;
pub use self::writer::CacheWriter;
use crate::storage::page::{PAGE_BYTES, Page, PageRef};

const ID_MASK: u32 = (1 << 29) - 1;
const REFERENCED: u32 = 1 << 29;
const DIRTY: u32 = 1 << 30;
const PRIVATE: u32 = 1 << 31;

/// Frames evicted at once: enough that the lock and the epoch are not taken for each.
const EVICTION: usize = 64;

/// This part of a full pool is kept free or on its way back, up to the number after it: the hand may have to go
/// round once, taking marks away and no page, before it finds what to evict.
const RESERVED_PART: usize = 32;
const RESERVED_MOST: usize = 1_024;

/// What a search reads first: the header, and the slots of a leaf of ordinary entries.
const SEARCHED_BYTES: usize = 256;

/// Entries of pages that the hand looks at for each frame that is asked for, so that no commit waits long for its
/// frames. Where all pages were read since it last came by, the pool grows, by the part below at most.
const LOOKS: usize = 16;

/// From this part above its size on the pool grows no more for want of looks: the hand takes so many at once.
const OVER_PART: usize = 16;
const OVER_LOOKS: usize = 4_096;

/// Frames with dirty pages that the hand passes in the time of a look.
const STRETCH: u32 = 256;

/// A page, for as long as the reader stays pinned.
pub enum PageView<'g> {
    Frame(&'g [u8; PAGE_BYTES]),
    Large(Arc<Page>),
}

impl Deref for PageView<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            PageView::Frame(bytes) => *bytes,
            PageView::Large(page) => page.bytes(),
        }
    }
}

/// The pages of one file in memory.
pub struct Cache {
    memory: Arc<Memory>,
    /// Page number to entry.
    table: Array,
    large: LargePages,
    pool_bytes: usize,
}

/// The frames and which of them are unused; kept by the epochs' garbage beyond the cache's own life.
struct Memory {
    frames: Frames,
    pool: Mutex<Pool>,
}

#[derive(Default)]
struct Pool {
    /// Frames that are in no use.
    free: Vec<FrameId>,
    /// Frames that come back when the readers of this moment are gone.
    returning: usize,
    /// Frames below this number exist.
    made: u32,
    /// Where eviction goes on.
    hand: u32,
    /// The last round found too little: so many frames are taken before the next one begins.
    rest: usize,
    /// The system has made memory for frames below this number, or is about to.
    prepared: u32,
}

/// What a round of the hand came to.
struct Evicted {
    frames: Vec<FrameId>,
    /// It went by all frames since it last saw a page that may be evicted.
    is_barren: bool,
}

/// A frame taken out of the pool, to be filled by whoever has this; goes back when dropped.
pub struct FreeFrame<'c> {
    memory: &'c Memory,
    id: FrameId,
}

impl Deref for FreeFrame<'_> {
    type Target = [u8; PAGE_BYTES];

    fn deref(&self) -> &[u8; PAGE_BYTES] {
        // SAFETY: the frame was taken out of the pool and is in no entry of the table, so this is
        // the only way to it; writing needs `&mut self`.
        unsafe { self.memory.frames.bytes(self.id) }
    }
}

impl DerefMut for FreeFrame<'_> {
    fn deref_mut(&mut self) -> &mut [u8; PAGE_BYTES] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { self.memory.frames.bytes_mut(self.id) }
    }
}

impl Drop for FreeFrame<'_> {
    fn drop(&mut self) {
        self.memory.pool().free.push(self.id);
    }
}

impl Cache {
    /// An empty cache of about `pool_bytes`, and its writer's side.
    pub fn new(pool_bytes: usize) -> (Arc<Cache>, CacheWriter) {
        let memory = Memory { frames: Frames::new(), pool: Mutex::default() };
        let cache = Arc::new(Cache {
            memory: Arc::new(memory),
            table: Array::new(),
            large: LargePages::default(),
            pool_bytes,
        });
        (Arc::clone(&cache), CacheWriter::new(cache))
    }

    /// The page that has this reference's number, if it is in memory and committed. Whether it is
    /// the page referred to, the caller checks.
    #[inline]
    pub fn get<'g>(&'g self, at: PageRef, _: &'g Guard) -> Option<PageView<'g>> {
        if at.span > 1 {
            return self.large.get(at.number).map(PageView::Large);
        }
        let slot = self.table.get(at.number as usize)?;
        let entry = slot.load(Ordering::Acquire);
        if entry & ID_MASK == 0 || entry & PRIVATE != 0 {
            return None;
        }
        self.memory.frames.prefetch((entry & ID_MASK) - 1, SEARCHED_BYTES);
        if entry & REFERENCED == 0 {
            // Set once for each round of the hand, so that readers' processors share the line.
            let _ = slot.compare_exchange(
                entry,
                entry | REFERENCED,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
        // SAFETY: the entry was public when it was loaded under the guard, so the frame does not
        // return to the pool before the guard is gone, and it was never written since it was made
        // public (see the module).
        Some(PageView::Frame(unsafe { self.memory.frames.bytes((entry & ID_MASK) - 1) }))
    }

    /// Has a page fetched into the processor's cache, if it is in memory: the whole, or what a search
    /// reads first.
    pub fn prefetch(&self, at: PageRef, is_whole: bool) {
        let entry =
            self.table.get(at.number as usize).map_or(0, |slot| slot.load(Ordering::Relaxed));
        if at.span == 1 && entry & ID_MASK != 0 {
            let len_bytes = if is_whole { PAGE_BYTES } else { SEARCHED_BYTES };
            self.memory.frames.prefetch((entry & ID_MASK) - 1, len_bytes);
        }
    }

    /// An unused frame, to read a page into.
    pub fn free_frame(&self, guard: &Guard) -> FreeFrame<'_> {
        let mut one = Vec::with_capacity(1);
        self.take_frames(1, &mut one, guard);
        FreeFrame { memory: &self.memory, id: one[0] }
    }

    /// Enters a page that was read from the disk and verified, and returns the page that is in the table
    /// then: another reader may have been faster.
    pub fn install<'g>(
        &'g self,
        at: PageRef,
        frame: FreeFrame<'g>,
        guard: &'g Guard,
    ) -> Option<PageView<'g>> {
        let slot = self.table.at(at.number as usize);
        self.memory.frames.set_page(frame.id, at.number);
        let entry = frame.id + 1;
        let absent = slot.load(Ordering::Relaxed);
        let swap =
            || slot.compare_exchange(absent, entry, Ordering::Release, Ordering::Relaxed).is_ok();
        if absent & ID_MASK != 0 || !swap() {
            return self.get(at, guard);
        }
        // It belongs to the table now. A page read for the first time is not marked as read again.
        let id = std::mem::ManuallyDrop::new(frame).id;
        // SAFETY: the frame was entered under the guard, and is not written while it is public.
        Some(PageView::Frame(unsafe { self.memory.frames.bytes(id) }))
    }

    /// Enters a large page that was read from the disk and verified.
    pub fn install_large(&self, page: &Arc<Page>) {
        self.large.install(page.reference().number, Arc::clone(page), self.large_limit());
    }

    /// Notes that a committed page is in the file now and may be evicted.
    pub fn mark_clean(&self, at: PageRef) {
        if at.span > 1 {
            self.large.mark_clean(at.number, at.birth, self.large_limit());
        } else if let Some(slot) = self.table.get(at.number as usize) {
            if let Some(id) = (slot.load(Ordering::Relaxed) & ID_MASK).checked_sub(1) {
                self.memory.frames.set_page(id, at.number);
            }
            slot.fetch_and(!DIRTY, Ordering::AcqRel);
        }
    }

    /// Whether a committed page is in memory only. One of several pages' length counts as such as long as it lives.
    pub fn is_dirty(&self, at: PageRef) -> bool {
        let slot = self.table.get(at.number as usize);
        at.span > 1 || slot.is_some_and(|slot| slot.load(Ordering::Relaxed) & DIRTY != 0)
    }

    /// Has the system make memory for `frames` more than there are, as far as the pool may grow. What takes them would wait
    /// for it otherwise: milliseconds for each 2 MiB of a virtual machine whose host has to make them too.
    pub fn prepare(&self, frames: usize) {
        let capacity = self.capacity();
        let mut pool = self.memory.pool();
        let from = pool.made.max(pool.prepared);
        let to = (pool.made as usize + frames).min(capacity).min(ID_MASK as usize) as u32;
        pool.prepared = to.max(from);
        drop(pool); // which nobody should wait for
        self.memory.frames.populate(from..to);
    }

    /// Bytes that pages take, and the pool's unused frames.
    pub fn used_bytes(&self) -> usize {
        self.memory.pool().made as usize * PAGE_BYTES + self.large.clean_bytes()
    }

    /// Frames that there is memory for, or is about to be, which were in no use yet.
    #[cfg(test)]
    pub fn prepared_frames(&self) -> u32 {
        let pool = self.memory.pool();
        pool.prepared.saturating_sub(pool.made)
    }

    /// Waits until the frames on their way back are back. All caches of a process are in the same epochs, so a test
    /// has to wait for readers of other tests, which may have no processor.
    #[cfg(test)]
    pub fn settle(&self) {
        for _ in 0..10_000_000 {
            if self.memory.pool().returning == 0 {
                return;
            }
            pin().flush();
            std::thread::yield_now();
        }
        panic!("some reader stays pinned for good");
    }

    /// Large pages may take what frames have not, and an eighth of the pool in any case.
    fn large_limit(&self) -> usize {
        let frames_bytes = self.memory.pool().made as usize * PAGE_BYTES;
        self.pool_bytes.saturating_sub(frames_bytes).max(self.pool_bytes / 8)
    }

    /// Appends `count` unused frames to `out`, evicting when the pool has its size.
    fn take_frames(&self, count: usize, out: &mut Vec<FrameId>, guard: &Guard) {
        let capacity = self.capacity();
        let reserved = (capacity / RESERVED_PART).clamp(EVICTION, RESERVED_MOST);
        let mut pool = self.memory.pool();
        // Ahead of need, since evicted frames come back late; those on their way count, or more would be driven
        // out than is needed.
        if pool.free.len() + pool.returning < count + reserved
            && pool.made as usize + count > capacity
        {
            self.make_room(&mut pool, count, capacity, guard);
        }
        for _ in 0..count {
            out.push(pool.free.pop().unwrap_or_else(|| {
                let id = pool.made;
                assert!(id < ID_MASK, "2^29 frames are 2 TiB of memory");
                self.memory.frames.reserve(id);
                pool.made += 1;
                id
            }));
        }
        let is_short = pool.returning > 0 && pool.free.len() < reserved;
        drop(pool); // which frames that come back need
        if is_short {
            guard.flush();
        }
    }

    /// Sends frames of a full pool on their way back, unless the round before found too little a moment ago.
    fn make_room(&self, pool: &mut Pool, count: usize, capacity: usize, guard: &Guard) {
        if pool.rest == 0 {
            let is_over = pool.made as usize > capacity + capacity / OVER_PART;
            let least = if is_over { OVER_LOOKS } else { 0 };
            let looks = (LOOKS * (count + EVICTION)).max(least);
            let Evicted { frames, is_barren } = self.evict(pool, count + EVICTION, looks);
            let is_short = frames.len() < count;
            pool.rest = if is_short && (is_barren || !is_over) { EVICTION } else { 0 };
            self.memory.release_later(pool, frames, guard);
        }
        pool.rest = pool.rest.saturating_sub(count);
    }

    /// Frames that the pool may have.
    fn capacity(&self) -> usize {
        self.pool_bytes.saturating_sub(self.large.clean_bytes()) / PAGE_BYTES
    }

    /// Takes up to `count` clean pages that were not read lately out of the table, with so many looks.
    fn evict(&self, pool: &mut Pool, count: usize, looks: usize) -> Evicted {
        let frames = &self.memory.frames;
        let mut evicted = Vec::with_capacity(count);
        // Frames passed since one was found that may be evicted.
        let mut passed = 0;
        for _ in 0..looks {
            if evicted.len() == count || passed >= pool.made {
                break;
            }
            let stretch = pool.hand..pool.made.min(pool.hand + STRETCH);
            let Some((id, number)) = frames.evictable(stretch.clone()) else {
                passed += stretch.end - stretch.start;
                pool.hand = stretch.end % pool.made;
                continue;
            };
            passed = 0;
            pool.hand = (id + 1) % pool.made;
            // The frame may have another page by now, or none: the entry decides.
            let Some(slot) = self.table.get(number as usize) else { continue };
            let entry = slot.load(Ordering::Relaxed);
            if entry & ID_MASK != id + 1 || entry & (PRIVATE | DIRTY) != 0 {
                continue;
            }
            let now = if entry & REFERENCED != 0 { entry & !REFERENCED } else { 0 };
            let swapped = slot.compare_exchange(entry, now, Ordering::AcqRel, Ordering::Relaxed);
            if swapped.is_ok() && now == 0 {
                frames.keep(id);
                evicted.push(id);
            }
        }
        Evicted { frames: evicted, is_barren: passed >= pool.made }
    }
}

impl Memory {
    /// Gives frames back to the pool when no reader can be at them any more.
    fn release_later(self: &Arc<Memory>, pool: &mut Pool, frames: Vec<FrameId>, guard: &Guard) {
        if frames.is_empty() {
            return;
        }
        pool.returning += frames.len();
        let memory = Arc::clone(self);
        guard.defer(move || {
            let mut pool = memory.pool();
            pool.returning -= frames.len();
            pool.free.extend(frames);
        });
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        // Nothing panics under the lock half way through a change.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
