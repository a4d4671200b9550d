//! The writer's side of the cache: pages that nobody else sees until they are published.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Cache, DIRTY, FrameId, Guard, ID_MASK, PRIVATE, PageView};
use crate::storage::page::{self, PAGE_BYTES, Page, PageRef};

/// Frames fetched from the pool at once, and kept at most when they come back unpublished.
const SPARES: usize = 64;

/// Where the transaction being written has its pages. There is one for each cache.
pub struct CacheWriter {
    cache: Arc<Cache>,
    /// Frames taken out of the pool, for the next pages.
    spare: Vec<FrameId>,
    /// Frames whose pages were forgotten, on their way back to the pool.
    doomed: Vec<FrameId>,
    /// Pages of more than one page's length, by number.
    large: HashMap<u64, Page>,
}

impl CacheWriter {
    pub(super) fn new(cache: Arc<Cache>) -> CacheWriter {
        CacheWriter { cache, spare: Vec::new(), doomed: Vec::new(), large: HashMap::new() }
    }

    /// Makes a private page from zeros under a header, and lets `fill` write the rest.
    pub fn create(
        &mut self,
        kind: page::PageKind,
        at: PageRef,
        guard: &Guard,
        fill: impl FnOnce(&mut [u8]),
    ) {
        if at.span > 1 {
            let mut page = Page::new(kind, at);
            fill(page.bytes_mut());
            self.large.insert(at.number, page);
            return;
        }
        let bytes = self.make_private(at, guard);
        bytes.fill(0);
        page::init(bytes, kind, at);
        fill(bytes);
    }

    /// Makes a private page that is a copy of a committed one.
    pub fn create_copy(&mut self, from: &[u8], at: PageRef, guard: &Guard) -> &mut [u8] {
        debug_assert_eq!(from.len(), at.len_bytes());
        let bytes: &mut [u8] = if at.span > 1 {
            let copy = Page::from_verified(from.to_vec());
            self.large.entry(at.number).insert_entry(copy).into_mut().bytes_mut()
        } else {
            let bytes = self.make_private(at, guard);
            bytes.copy_from_slice(from);
            bytes
        };
        page::readdress(bytes, at);
        bytes
    }

    /// The bytes of a private page.
    ///
    /// # Panics
    /// When there is no such page: the caller tells its own pages by their birth.
    pub fn private(&self, at: PageRef) -> PageView<'_> {
        if at.span > 1 {
            // A copy: what the writer reads of its own giant pages is rare and short.
            return PageView::Large(Arc::new(self.large[&at.number].clone()));
        }
        let id = self.private_frame(at).expect("own pages are in memory");
        // SAFETY: the entry is private, so no reader gets to the frame, and the writer changes it
        // through `&mut self` only, which the result's borrow of `self` excludes.
        PageView::Frame(unsafe { self.cache.memory.frames.bytes(id) })
    }

    /// The bytes of a private page, to be changed. Panics as [`CacheWriter::private`] does.
    pub fn private_mut(&mut self, at: PageRef) -> &mut [u8] {
        if at.span > 1 {
            let page = self.large.get_mut(&at.number).expect("own pages are in memory");
            return page.bytes_mut();
        }
        let id = self.private_frame(at).expect("own pages are in memory");
        // SAFETY: the entry is private, and `self`, the only way to private frames, is borrowed.
        unsafe { self.cache.memory.frames.bytes_mut(id) }
    }

    /// Drops a private page; says whether there was one.
    pub fn drop_private(&mut self, at: PageRef) -> bool {
        if at.span > 1 {
            return self.take_large(at).is_some();
        }
        let Some(id) = self.private_frame(at) else { return false };
        self.slot(at).store(0, Ordering::Release);
        if self.spare.len() < SPARES {
            self.spare.push(id); // no reader ever saw it
        } else {
            self.cache.memory.pool().free.push(id);
        }
        true
    }

    /// Makes a private page public and dirty; says whether there was one.
    pub fn publish(&mut self, at: PageRef) -> bool {
        if at.span > 1 {
            let Some(page) = self.take_large(at) else { return false };
            self.cache.large.publish(at.number, Arc::new(page));
            return true;
        }
        let Some(id) = self.private_frame(at) else { return false };
        // Releases what was written to the frame to whoever loads the entry.
        self.slot(at).store((id + 1) | DIRTY, Ordering::Release);
        true
    }

    /// Forgets a public page, whose number is about to be given to another.
    pub fn forget(&mut self, at: PageRef) {
        if at.span > 1 {
            self.cache.large.forget(at.number);
        } else if let Some(slot) = self.cache.table.get(at.number as usize) {
            let mut entry = slot.load(Ordering::Relaxed);
            if entry & DIRTY != 0 {
                // Nobody else takes a dirty page's frame, and to swap would wait for all that was
                // written before.
                slot.store(0, Ordering::Release);
            } else {
                entry = slot.swap(0, Ordering::AcqRel);
            }
            self.doom(at, entry);
        }
    }

    /// Gives up the frame of a public page that only older roots have, unless it is dirty: whoever still reads those finds it
    /// on the disk.
    pub fn let_go(&mut self, at: PageRef) {
        if at.span == 1
            && let Some(slot) = self.cache.table.get(at.number as usize)
            && slot.load(Ordering::Relaxed) & DIRTY == 0
        {
            let entry = slot.swap(0, Ordering::AcqRel);
            self.doom(at, entry);
        }
    }

    /// Notes the frame, if there is one, of a public page's entry that was just taken away.
    fn doom(&mut self, at: PageRef, entry: u32) {
        assert_eq!(entry & PRIVATE, 0, "page {} is not public", at.number);
        self.doomed.extend((entry & ID_MASK).checked_sub(1));
    }

    /// Sends the frames of forgotten pages on their way back to the pool. Called after each commit.
    pub fn collect(&mut self, guard: &Guard) {
        if !self.doomed.is_empty() {
            let doomed = std::mem::take(&mut self.doomed);
            self.doomed.reserve(doomed.len());
            let memory = &self.cache.memory;
            memory.release_later(&mut memory.pool(), doomed, guard);
            guard.flush();
        }
    }

    /// The frame of a page that is in memory as `at`, private or public: a number for the writer's
    /// own bookkeeping.
    pub fn frame(&self, at: PageRef) -> Option<FrameId> {
        if at.span > 1 {
            return None;
        }
        let entry = self.cache.table.get(at.number as usize)?.load(Ordering::Relaxed);
        (entry & ID_MASK).checked_sub(1)
    }

    fn make_private(&mut self, at: PageRef, guard: &Guard) -> &mut [u8; PAGE_BYTES] {
        if self.spare.is_empty() {
            self.cache.take_frames(SPARES, &mut self.spare, guard);
        }
        let id = self.spare.pop().expect("fetched above");
        self.cache.memory.frames.keep(id);
        let entry = self.slot(at).swap((id + 1) | PRIVATE, Ordering::AcqRel);
        assert_eq!(entry & (PRIVATE | DIRTY), 0, "page {} is in use", at.number);
        // A reader that followed a damaged reference may have read the free page from the disk.
        self.doomed.extend((entry & ID_MASK).checked_sub(1));
        // SAFETY: the frame was taken out of the pool, its entry is private, and `self` is borrowed.
        unsafe { self.cache.memory.frames.bytes_mut(id) }
    }

    fn private_frame(&self, at: PageRef) -> Option<FrameId> {
        let entry = self.slot(at).load(Ordering::Relaxed);
        (entry & PRIVATE != 0).then(|| (entry & ID_MASK) - 1)
    }

    fn take_large(&mut self, at: PageRef) -> Option<Page> {
        self.large.get(&at.number).filter(|page| page.reference() == at)?;
        self.large.remove(&at.number)
    }

    fn slot(&self, at: PageRef) -> &std::sync::atomic::AtomicU32 {
        self.cache.table.at(at.number as usize)
    }
}
