//! The tail of the file: what can be cut off.
//!
//! A group that is not loaded ends the tail: whoever wants to know how long it is really calls
//! `ensure_loaded` with the file's last page before.

use super::{Freemap, GROUP_PAGES, pieces, place};
use crate::storage::page::PageRef;

impl Freemap {
    /// Lowers the end past the free pages before it.
    pub fn cut_tail(&mut self) {
        let start = self.tail(self.recent_pages());
        let cut = |number: &mut u64| *number >= start;
        for number in self.recent.extract_if(.., cut) {
            let (group, at) = place(number);
            self.groups[group].release(at..at + 1);
        }
        for (group, stretch) in pieces(start, self.end - start) {
            self.groups[group].close(stretch);
        }
        self.free_pages -= self.end - start;
        self.end = start;
    }

    /// How many pages [`Freemap::cut_tail`] cuts off, at once or when the next draw has moved the
    /// map's own pages out of the tail (which it does whenever there are such pages).
    pub fn tail_pages(&self) -> u64 {
        let start = self.movable_tail();
        let in_tail = self.newest_map_pages().filter(|page| page.number >= start);
        self.end - start - in_tail.map(|page| u64::from(page.span)).sum::<u64>()
    }

    /// Where the pages begin that are free, or the newest map's own, up to the end.
    pub(super) fn movable_tail(&self) -> u64 {
        self.tail(self.recent_pages().chain(self.newest_map_pages()))
    }

    fn recent_pages(&self) -> impl Iterator<Item = PageRef> {
        self.recent.iter().map(|&number| PageRef { number, birth: 0, span: 1 })
    }

    /// Where the pages begin that are free or among `passable`, up to the end.
    fn tail(&self, passable: impl Iterator<Item = PageRef>) -> u64 {
        let mut at = self.free_before(self.end);
        let mut passable: Vec<PageRef> = passable.collect();
        passable.sort_unstable();
        while let Some(page) = passable.pop_if(|page| page.end() == at) {
            at = self.free_before(page.number);
        }
        at
    }

    /// Where the free run begins that ends right before `end`. Meta pages are never free, so there
    /// is a page before.
    fn free_before(&self, mut end: u64) -> u64 {
        loop {
            let (group, at) = place(end - 1);
            if !self.groups[group].is_loaded() {
                return end;
            }
            let start = self.groups[group].free_below(at + 1);
            end = group as u64 * GROUP_PAGES + u64::from(start);
            if start > 0 {
                return end;
            }
        }
    }
}
