//! The free map: which pages may be written, and which still wait for a reader.
//!
//! A bitmap of the file, in *groups* of 32,512 pages ([`group`]), each with a *map page* of its own
//! on disk, and over them one *map root*. Freeing and allocating a page are a few bits set in a
//! word that is most likely in the CPU's cache; a checkpoint writes the groups that changed since
//! the one before and no others; opening reads the root, and a group when it is first needed. So
//! neither grows with the file. When a dead page is free again is for its [`holders`] to say.
//!
//! Single pages come in order of address, by a sweep that starts over at every checkpoint: what is
//! written between two checkpoints lies together, as low in the file as there is room, and the
//! file's tail empties so that it can be cut. Pages that died as young as they were born, between
//! two holders, are handed out again before the sweep goes on: their frames are still in the CPU's
//! cache and their numbers among those of the interval. Longer extents take the first run they fit.
//! ([`allocate`], [`tail`])
//!
//! A map page is itself a page of the file. It is never overwritten: a checkpoint *draws* a group
//! into a new page, and the old one is free when the checkpoint is durable ([`draw`]). The payloads:
//!
//! ```text
//! map page   the group's live pages, one bit each (see `group`)
//! map root   for each group that the file reaches into, 18 bytes, integers little-endian:
//!            0..14   reference to its map page; zeros: none, no page of the group is live
//!            14..18  how many of its pages below the file's end are not live
//! ```
//!
//! What is dead but still held is written as free: holders do not outlive the process, and the
//! durable root is the one that the map was drawn with. A store whose meta page names no map root
//! is one in which nothing was ever allocated.
//!
//! Loaded groups stay in memory, 8 KiB for each 127 MiB of file. Not kept: any index over the groups. What
//! looks for room passes by their counts one after the other, which is 800 for 100 GiB.

mod allocate;
mod draw;
mod group;
mod holders;
#[cfg(test)]
mod model;
mod tail;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::storage::error::StorageError;
use crate::storage::meta::META_PAGES;
use crate::storage::page::{PageRef, TxnId};

pub use group::GROUP_PAGES;
use group::Group;
use holders::Holders;

/// Neighbouring pages: first number and how many.
pub type Run = (u64, u64);

/// Where the map's own pages are read; the I/O is the caller's.
pub trait MapPages {
    /// The payload of a page, verified as far as its header goes.
    fn payload(&self, at: PageRef) -> Result<Vec<u8>, StorageError>;

    /// The error for a page that does not hold what it should.
    fn damaged(&self, at: PageRef, found: String) -> StorageError;
}

/// Free space, and space on its way to be free.
pub struct Freemap {
    /// The groups up to the end of the file; behind it, those that the newest map may still have.
    groups: Vec<Group>,
    /// Pages in the file.
    end: u64,
    /// Free in a loaded group, free in one that is not, and `recent`.
    free_pages: u64,
    /// Where the sweep goes on.
    cursor: u64,
    /// Free pages that are handed out first, the last first. Dead in their groups.
    recent: Vec<u64>,
    holders: Holders,
    /// The root of the newest map, and the file's end in it.
    root: Option<PageRef>,
    drawn_end: u64,
    flight: Option<draw::Flight>,
}

impl Default for Freemap {
    fn default() -> Freemap {
        Freemap::new()
    }
}

impl Freemap {
    /// The map of a file that has its meta pages and nothing else.
    pub fn new() -> Freemap {
        let mut map = Freemap::of_groups(Vec::new(), 0, None);
        map.grow(META_PAGES);
        map.take(0, META_PAGES);
        map.groups[0].changed = false;
        map.drawn_end = META_PAGES;
        map
    }

    fn of_groups(groups: Vec<Group>, end: u64, root: Option<PageRef>) -> Freemap {
        Freemap {
            free_pages: groups.iter().map(|group| u64::from(group.free())).sum(),
            groups,
            end,
            cursor: 0,
            recent: Vec::new(),
            holders: Holders::default(),
            root,
            drawn_end: end,
            flight: None,
        }
    }

    /// Pages in the file; behind them everything is free.
    pub fn end(&self) -> u64 {
        self.end
    }

    pub fn free_pages(&self) -> u64 {
        self.free_pages
    }

    /// Pages that died and wait for a holder to go.
    pub fn waiting_pages(&self) -> u64 {
        self.holders.waiting_pages()
    }

    /// The root of the newest map, for the meta page to name.
    pub fn root(&self) -> Option<PageRef> {
        self.root
    }

    /// Reads what [`Freemap::retire`] and [`Freemap::free`] need to take this page. From then on
    /// neither they nor [`Freemap::release`] can fail with it.
    pub fn ensure_loaded(
        &mut self,
        page: PageRef,
        source: &impl MapPages,
    ) -> Result<(), StorageError> {
        if page.end() > self.end {
            return Err(source.damaged(page, format!("a page behind the end {}", self.end)));
        }
        pieces(page.number, u64::from(page.span))
            .try_for_each(|(group, _)| self.load(group, source))
    }

    /// Reads all groups, for the consistency check.
    pub fn load_all(&mut self, source: &impl MapPages) -> Result<(), StorageError> {
        (0..self.groups.len()).try_for_each(|group| self.load(group, source))
    }

    /// Reads all groups that can be read, and returns the errors about the others.
    pub fn load_readable(&mut self, source: &impl MapPages) -> Vec<StorageError> {
        (0..self.groups.len()).filter_map(|group| self.load(group, source).err()).collect()
    }

    /// Whether some of these pages are in a group that was not read.
    pub fn is_unread(&self, pages: Range<u64>) -> bool {
        pieces(pages.start, pages.end - pages.start)
            .any(|(group, _)| self.groups.get(group).is_some_and(|group| !group.is_loaded()))
    }

    /// The groups in order: the map page of each and how many of its pages are free.
    pub fn groups(&self) -> impl Iterator<Item = (Option<PageRef>, u32)> {
        self.groups.iter().map(|group| (group.page, group.free()))
    }

    /// Keeps all pages of root `txn` until it is released as often as it is held.
    pub fn hold(&mut self, txn: TxnId) {
        self.holders.hold(txn);
    }

    /// Drops one reason to hold root `txn`; returns the pages that became free.
    pub fn release(&mut self, txn: TxnId) -> Vec<PageRef> {
        let freed = self.holders.release(txn);
        freed.iter().for_each(|&page| self.settle(page));
        freed
    }

    /// Takes a page that no root from `death` on has; says whether it is free at once.
    pub fn retire(&mut self, page: PageRef, death: TxnId) -> bool {
        self.kill(page);
        if self.holders.keeps(page, death) {
            return false;
        }
        if page.span == 1 {
            // Younger than the durable root, which is always held.
            self.recent.push(page.number);
            self.free_pages += 1;
        } else {
            self.settle(page);
        }
        true
    }

    /// Gives back a page that no root has.
    pub fn free(&mut self, page: PageRef) {
        self.kill(page);
        self.settle(page);
    }

    /// Whether all pages of this extent are live. Its groups are loaded.
    pub fn is_live(&self, page: PageRef) -> bool {
        page.end() <= self.end
            && pieces(page.number, u64::from(page.span))
                .all(|(group, stretch)| self.groups[group].is_live(stretch))
    }

    /// All free runs of the loaded groups, by address, as long as they are.
    pub fn free_runs(&self) -> Vec<Run> {
        let loaded = (0_u64..).zip(&self.groups).filter(|(_, group)| group.is_loaded());
        let in_groups = loaded.flat_map(|(index, group)| {
            let first = index * GROUP_PAGES;
            group.runs().map(move |run| (first + u64::from(run.start), run.len() as u64))
        });
        let mut runs: Vec<Run> =
            in_groups.chain(self.recent.iter().map(|&number| (number, 1))).collect();
        runs.sort_unstable();
        runs.dedup_by(|next, run| {
            let touches = run.0 + run.1 == next.0;
            run.1 += if touches { next.1 } else { 0 };
            touches
        });
        runs
    }

    /// All dead pages that wait for a holder.
    pub fn waiting(&self) -> impl Iterator<Item = PageRef> {
        self.holders.waiting()
    }

    /// The pages that the newest map lies in and, while a draw is in flight, those of the map before
    /// that it replaces.
    pub fn map_pages(&self) -> impl Iterator<Item = PageRef> {
        self.newest_map_pages().chain(self.flight.iter().flat_map(draw::Flight::superseded))
    }

    fn newest_map_pages(&self) -> impl Iterator<Item = PageRef> {
        self.groups.iter().filter_map(|group| group.page).chain(self.root)
    }

    fn load(&mut self, index: usize, source: &impl MapPages) -> Result<(), StorageError> {
        let group = &mut self.groups[index];
        if group.is_loaded() {
            return Ok(());
        }
        let at = group.page.expect("a group that is not loaded is on disk");
        let payload = source.payload(at)?;
        group.load(&payload, self.end).map_err(|found| source.damaged(at, found))
    }

    /// Lengthens the file by free pages. Its last group is loaded.
    fn grow(&mut self, end: u64) {
        let groups = end.div_ceil(GROUP_PAGES);
        for index in self.groups.len() as u64..groups {
            self.groups.push(Group::beyond_end(index * GROUP_PAGES));
        }
        for (group, stretch) in pieces(self.end, end - self.end) {
            self.groups[group].release(stretch);
        }
        self.free_pages += end - self.end;
        self.end = end;
    }

    /// Free to live.
    fn take(&mut self, number: u64, pages: u64) {
        for (group, stretch) in pieces(number, pages) {
            self.groups[group].take(stretch);
        }
        self.free_pages -= pages;
    }

    /// Live to dead.
    fn kill(&mut self, page: PageRef) {
        for (group, stretch) in pieces(page.number, u64::from(page.span)) {
            self.groups[group].kill(stretch);
        }
    }

    /// Dead to live.
    fn revive(&mut self, page: PageRef) {
        for (group, stretch) in pieces(page.number, u64::from(page.span)) {
            self.groups[group].revive(stretch);
        }
    }

    /// Dead to free.
    fn settle(&mut self, page: PageRef) {
        for (group, stretch) in pieces(page.number, u64::from(page.span)) {
            self.groups[group].release(stretch);
        }
        self.free_pages += u64::from(page.span);
    }
}

/// The group of a page, and its place there.
fn place(number: u64) -> (usize, u32) {
    ((number / GROUP_PAGES) as usize, (number % GROUP_PAGES) as u32)
}

/// An extent, cut at the borders of groups.
fn pieces(number: u64, pages: u64) -> impl Iterator<Item = (usize, Range<u32>)> {
    let (mut at, end) = (number, number + pages);
    std::iter::from_fn(move || {
        let (group, first) = place(at);
        let pages = (end - at).min(GROUP_PAGES - u64::from(first));
        at += pages;
        (pages > 0).then(|| (group, first..first + pages as u32))
    })
}
