//! Frames: the memory of pages that are one page long.
//!
//! Frames come from mappings of the size of huge pages and more, for a search in a tree that is
//! larger than the processor's caches waits as long for the translation of an address as for the
//! bytes behind it (measured on 1,000,000 keys: a fifth more lookups a second than with pages of
//! 4 KiB). The mappings double in size and are never moved or given back while the pool lives, so a frame is
//! found by its number without a lock. The system makes a page of them when it is first touched.
//!
//! This file knows where frames are, not who may touch them: that is [`super`]'s business.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::array::{Array, place};
use crate::storage::page::PAGE_BYTES;

/// Number of a frame.
pub type FrameId = u32;

/// Frames in the first mapping: one huge page of 2 MiB.
const FIRST: usize = 512;
const HUGE_PAGE_BYTES: usize = FIRST * PAGE_BYTES;

/// Together 2^29 frames, the most that an entry of the page table can number.
const MAPPINGS: usize = 20;

/// The first mappings are not advised to be huge: a small store, of which there may be many in
/// tests, would have two megabytes cleared to use a few pages.
const FIRST_HUGE: usize = 2;

/// Frames to a number of [`Frames::evictable`].
const WORD: usize = 32;

/// The bit of a frame in its number.
fn bit(id: FrameId) -> u32 {
    1 << (id as usize % WORD)
}

#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;

/// All frames of a pool.
pub struct Frames {
    mappings: [OnceLock<Mapping>; MAPPINGS],
    /// Which page a frame was last used for that may be evicted, where eviction looks whether it still is.
    pages: Array,
    /// A bit for each frame, thirty-two to a number: set while its page may be evicted, so that eviction passes tens of
    /// thousands of frames with dirty pages in a microsecond.
    evictable: Array,
}

struct Mapping {
    /// The first frame: at a multiple of the huge page's size.
    base: NonNull<u8>,
    map: NonNull<u8>,
    map_bytes: usize,
}

// SAFETY: a mapping is plain memory that belongs to the process, not to a thread; who may read and
// write a frame is argued where it is done.
unsafe impl Send for Mapping {}
// SAFETY: as above; the fields never change.
unsafe impl Sync for Mapping {}

impl Frames {
    pub fn new() -> Frames {
        let (pages, evictable) = (Array::new(), Array::new());
        Frames { mappings: [const { OnceLock::new() }; MAPPINGS], pages, evictable }
    }

    /// Notes which page the frame is used for, which may be evicted.
    pub fn set_page(&self, id: FrameId, number: u64) {
        self.pages.at(id as usize).store(number as u32, Ordering::Relaxed);
        self.evictable.at(id as usize / WORD).fetch_or(bit(id), Ordering::Relaxed);
    }

    /// Notes that the frame's page must not be evicted.
    pub fn keep(&self, id: FrameId) {
        // Mostly it never was to be, and a look costs less than a locked write.
        if let Some(word) = self.evictable.get(id as usize / WORD)
            && word.load(Ordering::Relaxed) & bit(id) != 0
        {
            word.fetch_and(!bit(id), Ordering::Relaxed);
        }
    }

    /// The first of these frames that is used for a page that may be evicted, and the page's number.
    pub fn evictable(&self, among: Range<FrameId>) -> Option<(FrameId, u64)> {
        let mut at = among.start;
        while at < among.end {
            let word = self.evictable.get(at as usize / WORD);
            let ahead = word.map_or(0, |word| word.load(Ordering::Relaxed)) & !(bit(at) - 1);
            let first = at & !(WORD as u32 - 1);
            if ahead != 0 {
                let id = first + ahead.trailing_zeros();
                let page = self.pages.at(id as usize).load(Ordering::Relaxed);
                return (id < among.end).then_some((id, page.into()));
            }
            at = first + WORD as u32;
        }
        None
    }

    /// Has the system make memory for these frames now, which whoever writes to one first would wait for.
    pub fn populate(&self, frames: Range<FrameId>) {
        for id in huge_pages(frames) {
            let (bucket, at) = place(id as usize, FIRST);
            if bucket >= FIRST_HUGE {
                self.reserve(id);
                let mapping = self.mappings[bucket].get().expect("reserved above");
                mapping.populate(at / FIRST * HUGE_PAGE_BYTES);
            }
        }
    }

    /// Makes sure that the frame exists.
    ///
    /// # Panics
    /// When the system gives no address space, as any allocation does.
    pub fn reserve(&self, id: FrameId) {
        let (bucket, _) = place(id as usize, FIRST);
        self.mappings[bucket].get_or_init(|| Mapping::new(bucket));
    }

    /// Has the processor fetch the first bytes of a reserved frame, all at once: one after the other
    /// they would cost a wait each.
    #[inline]
    pub fn prefetch(&self, id: FrameId, len: usize) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let start = self.pointer(id).as_ptr().cast::<i8>();
            for at in (0..len.min(PAGE_BYTES)).step_by(LINE_BYTES) {
                // SAFETY: the line lies in the frame; a prefetch changes nothing and cannot fault.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(start.add(at)) };
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (id, len);
    }

    /// Where a reserved frame begins.
    #[inline]
    fn pointer(&self, id: FrameId) -> NonNull<[u8; PAGE_BYTES]> {
        let (bucket, at) = place(id as usize, FIRST);
        let mapping = self.mappings[bucket].get().expect("frames are reserved before use");
        // SAFETY: bucket `bucket` has `FIRST << bucket` frames, `place` returns an `at` below
        // that, and `Mapping::new` maps as many bytes from `base` on.
        unsafe { mapping.base.add(at * PAGE_BYTES).cast() }
    }

    /// The frame's bytes.
    ///
    /// # Safety
    /// The frame is reserved, and nobody writes to it while the reference lives.
    pub unsafe fn bytes(&self, id: FrameId) -> &[u8; PAGE_BYTES] {
        // SAFETY: the memory is mapped while `self` lives, initialised (zeros or what was written),
        // of alignment one; the caller sees to the rest.
        unsafe { self.pointer(id).as_ref() }
    }

    /// The frame's bytes, to be written.
    ///
    /// # Safety
    /// The frame is reserved, and nobody else reads it or writes to it while the reference lives.
    #[allow(clippy::mut_from_ref)] // exclusive by the contract, as a lock's is by the lock
    pub unsafe fn bytes_mut(&self, id: FrameId) -> &mut [u8; PAGE_BYTES] {
        // SAFETY: as for `bytes`.
        unsafe { self.pointer(id).as_mut() }
    }
}

/// The first frames of the huge pages that these lie in.
fn huge_pages(frames: Range<FrameId>) -> impl Iterator<Item = FrameId> {
    let start = frames.start - frames.start % FIRST as FrameId;
    (start..frames.end).step_by(FIRST)
}

impl Mapping {
    fn new(bucket: usize) -> Mapping {
        let len = HUGE_PAGE_BYTES << bucket;
        let map_bytes = len + HUGE_PAGE_BYTES;
        // SAFETY: a new mapping at an address of the system's choice touches no existing memory.
        let map = unsafe {
            let access = ProtFlags::READ | ProtFlags::WRITE;
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            mmap_anonymous(std::ptr::null_mut(), map_bytes, access, flags)
        };
        let map = map.ok().and_then(|map| NonNull::new(map.cast::<u8>()));
        let map = map.expect("the system gives address space for the page pool");
        let skipped = map.align_offset(HUGE_PAGE_BYTES);
        // SAFETY: the mapping is one huge page longer than needed, and `skipped` is less than that.
        let base = unsafe { map.add(skipped) };
        if bucket >= FIRST_HUGE {
            // SAFETY: the range lies in the mapping made above; the advice does not change its bytes.
            // Where it is refused, small pages serve as well, only slower.
            let _ = unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxHugepage) };
        }
        Mapping { base, map, map_bytes }
    }

    /// Has the system make the huge page that begins `offset` bytes from the first frame.
    fn populate(&self, offset: usize) {
        // SAFETY: the huge page lies in the mapping, by whose frames' number `offset` was found. The advice changes no
        // byte. A system that does not know it (Linux before 5.14) makes the memory when it is touched.
        let _ = unsafe {
            let start = self.base.as_ptr().add(offset).cast();
            madvise(start, HUGE_PAGE_BYTES, Advice::LinuxPopulateWrite)
        };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's own, and references into it borrow from the `Frames`
        // that is being dropped.
        let unmapped = unsafe { munmap(self.map.as_ptr().cast(), self.map_bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_do_not_overlap_and_start_as_zeros() {
        let frames = Frames::new();
        let ids = [0, 1, 511, 512, 513, 1_535, 1_536, 4_000];
        for id in ids {
            frames.reserve(id);
            // SAFETY: this test alone knows of the pool, and has one reference at a time.
            let bytes = unsafe { frames.bytes_mut(id) };
            assert!(bytes.iter().all(|&byte| byte == 0));
            bytes.fill(id as u8 | 1);
        }
        for id in ids {
            // SAFETY: nobody writes any more.
            let bytes = unsafe { frames.bytes(id) };
            assert!(bytes.iter().all(|&byte| byte == id as u8 | 1), "frame {id}");
        }
    }

    #[test]
    fn what_may_be_evicted_is_found_among_any_frames() {
        let frames = Frames::new();
        assert_eq!(frames.evictable(0..100_000), None);
        for id in [0, 31, 32, 70, 40_000, 40_001] {
            frames.set_page(id, u64::from(id) + 1);
        }
        frames.keep(70);
        frames.keep(99_999);
        let found = |among| frames.evictable(among).map(|(id, page)| (id, page - 1));
        assert_eq!(found(0..1), Some((0, 0)));
        assert_eq!(found(1..31), None);
        assert_eq!(found(1..32), Some((31, 31)));
        assert_eq!(found(32..33), Some((32, 32)));
        assert_eq!(found(33..40_000), None);
        assert_eq!(found(33..40_001), Some((40_000, 40_000)));
        assert_eq!(found(40_001..50_000), Some((40_001, 40_001)));
        assert_eq!(found(40_002..100_000), None);
    }

    #[test]
    fn memory_made_ahead_is_zeros_and_what_was_written_stays() {
        let frames = Frames::new();
        let used = 2_000;
        frames.reserve(used);
        // SAFETY: this test alone knows of the pool, and has one reference at a time.
        unsafe { frames.bytes_mut(used) }.fill(7);
        assert!(huge_pages(2_000..2_100).eq([1_536, 2_048]));
        assert_eq!(huge_pages(2_100..2_100).count(), 1);
        frames.populate(1..6_000);
        for (id, byte) in [(used, 7), (1_536, 0), (5_999, 0)] {
            // SAFETY: nobody writes any more.
            let bytes = unsafe { frames.bytes(id) };
            assert!(bytes.iter().all(|&found| found == byte), "frame {id}");
        }
    }
}
