//! The dirty set: the committed root's pages that are not on the disk.
//!
//! A page enters with the commit that made it and leaves with the one that replaces it, mostly
//! before any checkpoint saw it. Both are on the writer's hottest path, where what costs is to wait for memory. So the
//! set is an array by the number of the page's frame: what enters is stored and nothing is read, what leaves is looked
//! up in four bytes, and of a million frames these fit the processor's cache. A checkpoint takes
//! the whole array at once.

use std::collections::BTreeMap;

use crate::storage::page::PageRef;

/// See the module.
#[derive(Default)]
pub struct DirtySet {
    pages: Dirty,
    bytes: u64,
}

/// What was taken out of a [`DirtySet`].
#[derive(Default)]
pub struct Dirty {
    /// By frame: the number of the page in it, if that is dirty, and 0 if not, which is a meta page's.
    numbers: Vec<u32>,
    /// By frame: the birth of that page. Apart, since only a checkpoint reads it.
    births: Vec<u64>,
    /// Pages of more than one page's length, which have no frames.
    large: BTreeMap<u64, PageRef>,
}

impl Dirty {
    pub fn iter(&self) -> impl Iterator<Item = PageRef> {
        let pages = self.numbers.iter().zip(&self.births).filter(|(number, _)| **number != 0);
        pages
            .map(|(&number, &birth)| PageRef { number: number.into(), birth, span: 1 })
            .chain(self.large.values().copied())
    }
}

impl DirtySet {
    /// Enters a page; `frame` is the one it is in, if it is one page long.
    pub fn insert(&mut self, page: PageRef, frame: Option<u32>) {
        self.bytes += page.len_bytes() as u64;
        let Dirty { numbers, births, large } = &mut self.pages;
        let Some(frame) = frame else {
            large.insert(page.number, page);
            return;
        };
        let frame = frame as usize;
        if frame >= numbers.len() {
            let len = (frame + 1).next_power_of_two();
            numbers.resize(len, 0);
            births.resize(len, 0);
        }
        numbers[frame] = page.number as u32; // pages are numbered in 32 bits
        births[frame] = page.birth;
    }

    /// Takes a page out, if it is in.
    pub fn remove(&mut self, page: PageRef, frame: Option<u32>) {
        let Dirty { numbers, large, .. } = &mut self.pages;
        let was_in = match frame {
            None => large.remove(&page.number).is_some(),
            Some(frame) => match numbers.get_mut(frame as usize) {
                Some(number) if u64::from(*number) == page.number => {
                    *number = 0;
                    true
                }
                _ => false,
            },
        };
        self.bytes -= if was_in { page.len_bytes() as u64 } else { 0 };
    }

    /// Takes everything out, in the same time however much it is.
    pub fn take(&mut self) -> Dirty {
        self.bytes = 0;
        let frames = self.pages.numbers.len();
        // Zeros that the system makes when they are first touched.
        let empty =
            Dirty { numbers: vec![0; frames], births: vec![0; frames], large: BTreeMap::new() };
        std::mem::replace(&mut self.pages, empty)
    }

    pub fn iter(&self) -> impl Iterator<Item = PageRef> {
        self.pages.iter()
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
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
        for number in 1..11 {
            set.insert(page(number, 1), Some(100 - number as u32));
        }
        set.insert(page(20, 3), None);
        set.insert(page(30, 2), None);
        for number in [10, 9, 4, 4] {
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

    #[test]
    fn a_frame_has_the_page_that_came_last() {
        let mut set = DirtySet::default();
        let young = PageRef { birth: 2, ..page(7, 1) };
        set.insert(page(7, 1), Some(3));
        set.remove(page(7, 1), Some(3));
        set.insert(young, Some(3));
        assert!(set.iter().eq([young]));
        let taken = set.take();
        set.remove(young, Some(3)); // taken before
        set.insert(page(8, 1), Some(3));
        assert!(taken.iter().eq([young]) && set.iter().eq([page(8, 1)]));
        assert_eq!(set.bytes(), 4_096);
    }
}
