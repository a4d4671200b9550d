//! The dirty set: the committed root's pages that are not on the disk.
//!
//! A page enters with the commit that made it and leaves with the one that replaces it, mostly
//! before any checkpoint saw it. Both are on the writer's hottest path, so the set is a plain list,
//! and where a page stands in it is noted by the number of its frame: no hashing, no order. A
//! checkpoint takes the whole list at once.

use std::collections::BTreeMap;

use crate::storage::page::PageRef;

/// See the module.
#[derive(Default)]
pub struct DirtySet {
    pages: Vec<(PageRef, u32)>,
    /// By frame: where its page stood in `pages` when it entered. Only a hint, for it is not
    /// cleared: the entry there says whether it still is.
    positions: Vec<u32>,
    /// Pages of more than one page's length, which have no frames.
    large: BTreeMap<u64, PageRef>,
    bytes: u64,
}

/// What was taken out of a [`DirtySet`].
pub struct Dirty {
    pages: Vec<(PageRef, u32)>,
    large: BTreeMap<u64, PageRef>,
}

impl Dirty {
    pub fn iter(&self) -> impl Iterator<Item = PageRef> {
        self.pages.iter().map(|(page, _)| *page).chain(self.large.values().copied())
    }
}

impl DirtySet {
    /// Enters a page; `frame` is the one it is in, if it is one page long.
    pub fn insert(&mut self, page: PageRef, frame: Option<u32>) {
        self.bytes += page.len_bytes() as u64;
        let Some(frame) = frame else {
            self.large.insert(page.number, page);
            return;
        };
        self.note(frame, self.pages.len());
        self.pages.push((page, frame));
    }

    /// Takes a page out, if it is in.
    pub fn remove(&mut self, page: PageRef, frame: Option<u32>) {
        let Some(frame) = frame else {
            if self.large.remove(&page.number).is_some() {
                self.bytes -= page.len_bytes() as u64;
            }
            return;
        };
        let Some(&position) = self.positions.get(frame as usize) else { return };
        let position = position as usize;
        if self.pages.get(position) == Some(&(page, frame)) {
            self.bytes -= page.len_bytes() as u64;
            self.pages.swap_remove(position);
            if let Some(&(_, moved)) = self.pages.get(position) {
                self.note(moved, position);
            }
        }
    }

    /// Takes everything out, in the same time however much it is.
    pub fn take(&mut self) -> Dirty {
        self.bytes = 0;
        Dirty { pages: std::mem::take(&mut self.pages), large: std::mem::take(&mut self.large) }
    }

    pub fn iter(&self) -> impl Iterator<Item = PageRef> {
        self.pages.iter().map(|(page, _)| *page).chain(self.large.values().copied())
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn note(&mut self, frame: u32, position: usize) {
        let frame = frame as usize;
        if frame >= self.positions.len() {
            self.positions.resize(frame + 1, 0);
        }
        self.positions[frame] = position as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(number: u64, span: u32) -> PageRef {
        PageRef { number, birth: 1, span }
    }

    #[test]
    fn what_was_removed_is_not_taken() {
        let mut set = DirtySet::default();
        for number in 0..10 {
            set.insert(page(number, 1), Some(100 - number as u32));
        }
        set.insert(page(20, 3), None);
        set.insert(page(30, 2), None);
        for number in [0, 9, 4, 4] {
            set.remove(page(number, 1), Some(100 - number as u32));
        }
        set.remove(page(30, 2), None);
        set.remove(page(50, 1), Some(99)); // the frame has another page
        set.remove(page(51, 1), Some(7)); // the frame never had one
        assert_eq!(set.bytes(), (7 + 3) * 4_096);
        let mut taken: Vec<u64> = set.take().iter().map(|page| page.number).collect();
        taken.sort_unstable();
        assert_eq!(taken, [1, 2, 3, 5, 6, 7, 8, 20]);
        set.remove(page(1, 1), Some(99)); // taken before: nothing to remove
        assert_eq!((set.bytes(), set.take().iter().count()), (0, 0));
    }
}
