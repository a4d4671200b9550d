//! Choosing pages.

use super::{Freemap, GROUP_PAGES, MapPages, place};
use crate::storage::error::StorageError;

impl Freemap {
    /// Takes `span` neighbouring pages and returns the first's number. An extent lies in one group,
    /// unless it is longer than a group is: then it begins with one.
    pub fn allocate(&mut self, span: u32, source: &impl MapPages) -> Result<u64, StorageError> {
        match span {
            0 => panic!("an extent of no pages is allocated"),
            1 => self.allocate_page(source),
            _ => self.allocate_extent(span, source),
        }
    }

    /// Starts the sweep over, among whose pages those that are recent now are like any other.
    pub(super) fn begin_interval(&mut self) {
        for number in std::mem::take(&mut self.recent) {
            let (group, at) = place(number);
            self.groups[group].release(at..at + 1);
        }
        self.cursor = 0;
    }

    fn allocate_page(&mut self, source: &impl MapPages) -> Result<u64, StorageError> {
        if let Some(number) = self.recent.pop() {
            let (group, at) = place(number);
            self.groups[group].revive(at..at + 1);
            self.free_pages -= 1;
            return Ok(number);
        }
        if self.free_pages == 0 {
            return self.append(1, source);
        }
        loop {
            let (index, from) = place(self.cursor);
            if index >= self.groups.len() {
                self.cursor = 0; // pages were freed behind the cursor
                continue;
            }
            if self.groups[index].free() > 0 {
                self.load(index, source)?;
                if let Some(at) = self.groups[index].find_page(from) {
                    let number = self.cursor - u64::from(from) + u64::from(at);
                    self.take(number, 1);
                    self.cursor = number + 1;
                    return Ok(number);
                }
            }
            self.cursor = (index as u64 + 1) * GROUP_PAGES;
        }
    }

    fn allocate_extent(&mut self, span: u32, source: &impl MapPages) -> Result<u64, StorageError> {
        for index in 0..self.groups.len() {
            if self.groups[index].may_have_run(span) {
                self.load(index, source)?;
                if let Some(at) = self.groups[index].find_run(span) {
                    let number = index as u64 * GROUP_PAGES + u64::from(at);
                    self.take(number, u64::from(span));
                    return Ok(number);
                }
            }
        }
        self.append(span, source)
    }

    /// Takes pages from the end of the file on. Free pages before it are the beginning of the
    /// extent, where they are in the group that it can be in.
    fn append(&mut self, span: u32, source: &impl MapPages) -> Result<u64, StorageError> {
        let (last, in_last) = place(self.end - 1);
        self.load(last, source)?;
        let tail = last as u64 * GROUP_PAGES + u64::from(self.groups[last].free_below(in_last + 1));
        let pages = u64::from(span);
        let fits = tail % GROUP_PAGES + pages <= GROUP_PAGES;
        let number = if fits { tail } else { tail.next_multiple_of(GROUP_PAGES) };
        self.grow(number + pages);
        self.take(number, pages);
        Ok(number)
    }
}
