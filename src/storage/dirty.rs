//! The dirty set: the committed root's pages that are not on the disk.
//!
//! A page enters with the commit that made it and leaves with the one that replaces it, mostly
//! before any checkpoint saw it. Both are on the writer's hottest path, where what costs is to wait for memory. So the
//! set is a plain list, where a page stands in it is noted by the number of its frame, and what leaves it leaves a
//! gap: nothing is moved, and the removals of a commit do not wait for each other. A checkpoint takes
//! the whole list at once.

use std::collections::BTreeMap;

use crate::storage::page::PageRef;

/// The list is closed up when it has this many entries more than twice those that are in use.
const MOST_GAPS: usize = 4_096;

/// See the module.
#[derive(Default)]
pub struct DirtySet {
    pages: Listed,
    /// By frame: where its page stood in `pages` when it entered. Only a hint, for it is not
    /// cleared: the entry there says whether it still is.
    positions: Vec<u32>,
    /// How many of `pages` are in use.
    count: usize,
    /// Pages of more than one page's length, which have no frames.
    large: BTreeMap<u64, PageRef>,
    bytes: u64,
}

/// Pages and their frames; gaps where some were.
type Listed = Vec<Option<(PageRef, u32)>>;

/// What was taken out of a [`DirtySet`].
pub struct Dirty {
    pages: Listed,
    large: BTreeMap<u64, PageRef>,
}

impl Dirty {
    pub fn iter(&self) -> impl Iterator<Item = PageRef> {
        both(&self.pages, &self.large)
    }
}

fn both<'a>(
    pages: &'a Listed,
    large: &'a BTreeMap<u64, PageRef>,
) -> impl Iterator<Item = PageRef> + 'a {
    pages.iter().flatten().map(|(page, _)| *page).chain(large.values().copied())
}

impl DirtySet {
    /// Enters a page; `frame` is the one it is in, if it is one page long.
    pub fn insert(&mut self, page: PageRef, frame: Option<u32>) {
        self.bytes += page.len_bytes() as u64;
        let Some(frame) = frame else {
            self.large.insert(page.number, page);
            return;
        };
        if self.pages.len() > 2 * self.count + MOST_GAPS {
            self.close_up();
        }
        self.note(frame, self.pages.len());
        self.pages.push(Some((page, frame)));
        self.count += 1;
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
        if let Some(entry) = self.pages.get_mut(position as usize)
            && *entry == Some((page, frame))
        {
            *entry = None;
            self.count -= 1;
            self.bytes -= page.len_bytes() as u64;
        }
    }

    /// Takes everything out, in the same time however much it is.
    pub fn take(&mut self) -> Dirty {
        (self.bytes, self.count) = (0, 0);
        Dirty { pages: std::mem::take(&mut self.pages), large: std::mem::take(&mut self.large) }
    }

    pub fn iter(&self) -> impl Iterator<Item = PageRef> {
        both(&self.pages, &self.large)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn close_up(&mut self) {
        self.pages.retain(Option::is_some);
        for position in 0..self.pages.len() {
            if let Some((_, frame)) = self.pages[position] {
                self.note(frame, position);
            }
        }
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

    #[test]
    fn gaps_are_closed_up_before_they_are_many() {
        let mut set = DirtySet::default();
        let kept = |number: u64| number % 100 == 7;
        for number in 0..100_000 {
            set.insert(page(number, 1), Some(number as u32 % 5_000));
            assert!(set.pages.len() <= 2 * set.count + MOST_GAPS + 1, "{}", set.pages.len());
            if !kept(number) {
                set.remove(page(number, 1), Some(number as u32 % 5_000));
            }
        }
        assert_eq!(set.bytes(), 1_000 * 4_096);
        assert!(set.take().iter().map(|page| page.number).eq((0..100_000).filter(|&n| kept(n))));
    }
}
