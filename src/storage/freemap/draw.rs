//! Drawing the map for a checkpoint, and reading its root back.
//!
//! A draw gives every group that changed a new page. Allocating that page changes a group, and
//! giving up the old one changes another, so the draw goes on until no group is left that changed
//! and was not drawn. It ends, as a group gets one new page at most; and soon, as pages drawn
//! together lie together: their groups are mostly those that changed anyway.
//!
//! Pages of the map before are dead from the draw on and free when the new map is durable. The
//! transactions in between change what the draw has copied already.

use std::collections::BTreeSet;

use super::group::{Group, pages_below};
use super::{Freemap, GROUP_PAGES, MapPages};
use crate::storage::error::StorageError;
use crate::storage::meta::META_PAGES;
use crate::storage::page::{PageRef, span_of_payload, u32_at};

/// A group in the root: its page's reference and its free pages.
const ENTRY_BYTES: usize = PageRef::ENCODED_BYTES + 4;

/// What a checkpoint has to write.
pub struct Drawn {
    /// The new map root and its payload; none when nothing changed and the one before stays.
    pub root: Option<(PageRef, Vec<u8>)>,
    /// New map pages with their payloads.
    pub pages: Vec<(PageRef, Vec<u8>)>,
    /// The file's end, without which the root cannot be read.
    pub end: u64,
}

/// What it takes to undo a draw.
pub struct Flight {
    /// The map's places that got something new, with what was there.
    before: Vec<(Place, Option<PageRef>)>,
    drawn_end: u64,
}

impl Flight {
    pub fn superseded(&self) -> impl Iterator<Item = PageRef> {
        self.before.iter().filter_map(|&(_, page)| page)
    }
}

/// What of the map a page holds.
#[derive(Clone, Copy)]
enum Place {
    Root,
    Group(usize),
}

impl Freemap {
    /// Reads the root `at` of the map of a file of `end` pages.
    pub fn decode_root(at: PageRef, payload: &[u8], end: u64) -> Result<Freemap, String> {
        let count = end.div_ceil(GROUP_PAGES);
        if payload.len() as u64 != count * ENTRY_BYTES as u64 {
            return Err(format!("{} bytes for the {count} groups of {end} pages", payload.len()));
        }
        let mut pages = vec![at];
        let mut groups = Vec::new();
        for (index, entry) in (0_u64..).zip(payload.as_chunks::<ENTRY_BYTES>().0) {
            let first = index * GROUP_PAGES;
            let page = PageRef::decode(entry);
            let free = u32_at(entry, PageRef::ENCODED_BYTES);
            let most = pages_below(first, end);
            let is_absent = page == PageRef { number: 0, birth: 0, span: 0 };
            if free > most || is_absent && (free < most || index == 0) {
                return Err(format!("{free} free pages in group {index}, on {page}"));
            }
            if is_absent {
                let mut group = Group::beyond_end(first);
                group.release(0..most);
                groups.push(group);
            } else if page.span == 1 {
                groups.push(Group::on_disk(first, end, page, free));
                pages.push(page);
            } else {
                return Err(format!("group {index} on {page}"));
            }
        }
        pages.sort_unstable();
        let outside = pages.iter().find(|page| page.number < META_PAGES || page.end() > end);
        let overlapping = pages.windows(2).find(|pair| pair[0].end() > pair[1].number);
        match outside.or(overlapping.map(|pair| &pair[1])) {
            Some(page) => Err(format!("a map on {page}, which is taken or behind the end {end}")),
            None => Ok(Freemap::of_groups(groups, end, Some(at))),
        }
    }

    /// Draws the map as it is now for checkpoint `sequence`; whoever cuts the tail does it before.
    /// What becomes of it is told to [`Freemap::drawn_durable`] or [`Freemap::drawn_failed`]; until
    /// then there is no other.
    pub fn draw(&mut self, sequence: u64, source: &impl MapPages) -> Result<Drawn, StorageError> {
        assert!(self.flight.is_none(), "a draw is in flight");
        self.flight = Some(Flight { before: Vec::new(), drawn_end: self.drawn_end });
        let drawn = self.draw_all(sequence, source);
        if drawn.is_err() {
            self.drawn_failed();
        }
        drawn
    }

    /// The map drawn last is the durable one: the pages that it replaced are free.
    pub fn drawn_durable(&mut self) {
        for page in self.end_flight().superseded() {
            self.settle(page);
        }
        let end = self.end;
        let is_gone = |first: u64, group: &Group| first >= end && group.page.is_none();
        while let Some(group) = self.groups.last()
            && is_gone((self.groups.len() as u64 - 1) * GROUP_PAGES, group)
        {
            self.groups.pop();
        }
    }

    /// The map drawn last was not written: the one before is the newest again.
    pub fn drawn_failed(&mut self) {
        let flight = self.end_flight();
        self.drawn_end = flight.drawn_end;
        for (place, before) in flight.before {
            let drawn = std::mem::replace(self.page_of(place), before);
            if let Place::Group(index) = place {
                self.groups[index].changed = true;
            }
            drawn.into_iter().for_each(|page| self.free(page));
            before.into_iter().for_each(|page| self.revive(page));
        }
    }

    fn draw_all(&mut self, sequence: u64, source: &impl MapPages) -> Result<Drawn, StorageError> {
        self.begin_interval();
        let moves = self.leave_tail();
        let mut drawn = Drawn { root: None, pages: Vec::new(), end: self.end };
        if !moves && self.end == self.drawn_end && !self.groups.iter().any(|group| group.changed) {
            return Ok(drawn);
        }
        self.supersede(Place::Root, source)?;
        let mut groups = BTreeSet::new();
        loop {
            // The root first, for it too changes a group. The file may grow by what follows.
            let root = self.allocate_map_page(self.root_span(), sequence, source)?;
            self.root = Some(root);
            while self.draw_groups(&mut groups, sequence, source)? {}
            if self.root_span() == root.span {
                break;
            }
            self.root = None;
            self.free(root);
        }
        for index in groups {
            let group = &mut self.groups[index];
            group.changed = false;
            drawn.pages.extend(group.page.map(|page| (page, group.payload())));
        }
        drawn.root = self.root.map(|root| (root, self.root_payload()));
        (drawn.end, self.drawn_end) = (self.end, self.end);
        Ok(drawn)
    }

    /// One round over the groups that changed; says whether there is cause for another. `drawn` are
    /// those that have given up their old page.
    fn draw_groups(
        &mut self,
        drawn: &mut BTreeSet<usize>,
        sequence: u64,
        source: &impl MapPages,
    ) -> Result<bool, StorageError> {
        let mut goes_on = false;
        // Not a range: allocating can add groups.
        let mut index = 0;
        while index < self.groups.len() {
            if self.groups[index].changed && !drawn.contains(&index) {
                self.load(index, source)?;
                self.supersede(Place::Group(index), source)?;
                drawn.insert(index);
                goes_on = true;
            }
            let group = &self.groups[index];
            if drawn.contains(&index) && group.page.is_none() && group.has_live() {
                let page = self.allocate_map_page(1, sequence, source)?;
                self.groups[index].page = Some(page);
                goes_on = true;
            }
            index += 1;
        }
        Ok(goes_on)
    }

    /// Has groups whose pages keep the tail from being cut drawn anew; new pages come from the lowest
    /// address. Says whether there are any, the root included.
    fn leave_tail(&mut self) -> bool {
        let moves = self.tail_pages() > 0;
        let tail = self.movable_tail();
        for group in self.groups.iter_mut().filter(|_| moves) {
            group.changed |= group.page.is_some_and(|page| page.number >= tail);
        }
        moves && self.newest_map_pages().any(|page| page.number >= tail)
    }

    fn allocate_map_page(
        &mut self,
        span: u32,
        sequence: u64,
        source: &impl MapPages,
    ) -> Result<PageRef, StorageError> {
        Ok(PageRef { number: self.allocate(span, source)?, birth: sequence, span })
    }

    /// Gives up a page of the map before: dead, but held until the flight ends.
    fn supersede(&mut self, place: Place, source: &impl MapPages) -> Result<(), StorageError> {
        let page = *self.page_of(place);
        if let Some(page) = page {
            self.ensure_loaded(page, source)?;
            if !self.is_live(page) {
                return Err(source.damaged(page, "a page of the map that it counts as free".into()));
            }
            self.kill(page);
        }
        *self.page_of(place) = None;
        let flight = self.flight.as_mut().expect("a draw is in flight");
        flight.before.push((place, page));
        Ok(())
    }

    fn page_of(&mut self, place: Place) -> &mut Option<PageRef> {
        match place {
            Place::Root => &mut self.root,
            Place::Group(index) => &mut self.groups[index].page,
        }
    }

    fn end_flight(&mut self) -> Flight {
        self.flight.take().expect("a draw that ends was begun")
    }

    fn root_span(&self) -> u32 {
        span_of_payload(self.end.div_ceil(GROUP_PAGES) as usize * ENTRY_BYTES)
    }

    fn root_payload(&self) -> Vec<u8> {
        let count = self.end.div_ceil(GROUP_PAGES) as usize;
        let mut payload = vec![0; count * ENTRY_BYTES];
        for (entry, group) in payload.as_chunks_mut::<ENTRY_BYTES>().0.iter_mut().zip(&self.groups)
        {
            if let Some(page) = group.page {
                page.encode(entry);
            }
            entry[PageRef::ENCODED_BYTES..]
                .copy_from_slice(&group.free_on_disk(self.end).to_le_bytes());
        }
        payload
    }
}
