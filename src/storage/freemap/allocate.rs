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

    /// Where [`Freemap::allocate`] would take `span` pages; none when it would lengthen the file.
    pub fn room(&mut self, span: u32, source: &impl MapPages) -> Result<Option<u64>, StorageError> {
        match (span, self.recent.last()) {
            (1, Some(&number)) => Ok(Some(number)),
            (1, None) => self.sweep(source),
            _ => self.find_extent(span, source),
        }
    }

    /// Starts the sweep over, among whose pages those that are recent now are like any other.
    pub fn begin_interval(&mut self) {
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
        let Some(number) = self.sweep(source)? else { return self.append(1, source) };
        self.take(number, 1);
        self.cursor = number + 1;
        Ok(number)
    }

    /// Goes on with the sweep to the next free page, when none is recent.
    fn sweep(&mut self, source: &impl MapPages) -> Result<Option<u64>, StorageError> {
        if self.free_pages == 0 {
            return Ok(None);
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
                    self.cursor = self.cursor - u64::from(from) + u64::from(at);
                    return Ok(Some(self.cursor));
                }
            }
            self.cursor = (index as u64 + 1) * GROUP_PAGES;
        }
    }

    fn allocate_extent(&mut self, span: u32, source: &impl MapPages) -> Result<u64, StorageError> {
        let Some(number) = self.find_extent(span, source)? else {
            return self.append(span, source);
        };
        self.take(number, u64::from(span));
        Ok(number)
    }

    /// The first free run of so many pages.
    fn find_extent(
        &mut self,
        span: u32,
        source: &impl MapPages,
    ) -> Result<Option<u64>, StorageError> {
        for index in 0..self.groups.len() {
            if self.groups[index].may_have_run(span) {
                self.load(index, source)?;
                if let Some(at) = self.groups[index].find_run(span) {
                    return Ok(Some(index as u64 * GROUP_PAGES + u64::from(at)));
                }
            }
        }
        Ok(None)
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
