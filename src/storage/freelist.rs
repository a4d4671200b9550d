//! The free list: which pages may be written, and which still wait for a reader.
//!
//! A page of a copy-on-write tree lives from the transaction that made it (its *birth*) up to the
//! one that replaced it (its *death*): it is part of every root from birth on, below death. It may
//! be used again once nobody holds such a root. Holders are the roots that snapshots pin, the
//! durable root, and the root of a checkpoint in flight.
//!
//! So a dying page looks for the *newest* holder below its death. Is that one older than the
//! page's birth, nobody holds the page, and it is free at once: most pages of a busy store are born
//! and die between two holders. Else the page is entered with that holder, and when the holder
//! goes, looks again below it. Nothing is scanned, and one old reader holds back only what it sees
//! itself, not everything that came after (as a single "oldest reader" mark would).
//!
//! New holders only ever appear at the newest committed root, whose pages have not died, so a page
//! that found no holder never gets one.
//!
//! Free space is a map of runs by address, neighbours joined. One page comes from the lowest
//! address: pages of one transaction then are neighbours, written together by the next checkpoint,
//! and the tail of the file empties so that it can be cut. Longer extents take the smallest run
//! that fits, to keep the long runs long.
//!
//! On disk (payload of a page of kind 4, LEB128 varints): the number of runs, then for each the gap
//! since the end of the run before (for the first: since page 0) and its length. Holders do not
//! outlive the process and the durable root is the one that the list was written with, so every
//! page that only waits is written as free.

use std::collections::{BTreeMap, BTreeSet};

use crate::storage::meta::META_PAGES;
use crate::storage::page::{PageRef, TxnId};

/// Longest varint of a u64.
const MAX_VARINT_BYTES: usize = 10;

/// Neighbouring pages: first number and how many.
pub type Run = (u64, u64);

/// Free space, and space on its way to be free.
pub struct Freelist {
    runs: Runs,
    /// Pages in the file; behind them everything is free.
    end: u64,
    holders: BTreeMap<TxnId, Holder>,
    waiting_pages: u64,
}

#[derive(Default)]
struct Holder {
    /// How many reasons there are to hold this root (a snapshot, the durable root, a checkpoint).
    reasons: u32,
    /// Dead pages for which this is the newest root that has them.
    waiting: Vec<PageRef>,
}

impl Freelist {
    /// A free list of these runs in a file of `end` pages.
    pub fn new(runs: &[Run], end: u64) -> Freelist {
        let mut list = Runs::default();
        for &(start, pages) in runs {
            list.insert(start, pages);
        }
        Freelist { runs: list, end, holders: BTreeMap::new(), waiting_pages: 0 }
    }

    /// Takes `span` neighbouring pages, from behind the end when no run is long enough.
    pub fn allocate(&mut self, span: u32) -> u64 {
        self.runs.take(u64::from(span)).unwrap_or_else(|| {
            // A free run at the very end is the beginning of the new extent.
            let start = self.runs.take_tail(self.end).map_or(self.end, |(start, _)| start);
            self.end = start + u64::from(span);
            start
        })
    }

    /// Gives back pages that no root has.
    pub fn free(&mut self, page: PageRef) {
        self.runs.insert(page.number, u64::from(page.span));
    }

    /// Keeps all pages of root `txn` until it is released as often as it is held.
    pub fn hold(&mut self, txn: TxnId) {
        self.holders.entry(txn).or_default().reasons += 1;
    }

    /// Drops one reason to hold root `txn`; returns the pages that became free.
    pub fn release(&mut self, txn: TxnId) -> Vec<PageRef> {
        let holder = self.holders.get_mut(&txn).expect("a root is released by who held it");
        holder.reasons -= 1;
        if holder.reasons > 0 {
            return Vec::new();
        }
        let waiting = self.holders.remove(&txn).expect("it was there above").waiting;
        self.waiting_pages -= waiting.iter().map(|page| u64::from(page.span)).sum::<u64>();
        waiting.into_iter().filter(|&page| self.retire(page, txn)).collect()
    }

    /// Takes a page that no root from `death` on has, or that no holder from `death` on has;
    /// says whether it is free at once.
    pub fn retire(&mut self, page: PageRef, death: TxnId) -> bool {
        match self.holders.range_mut(..death).next_back() {
            Some((&txn, holder)) if txn >= page.birth => {
                holder.waiting.push(page);
                self.waiting_pages += u64::from(page.span);
                false
            }
            _ => {
                self.free(page);
                true
            }
        }
    }

    /// Forgets the free run at the end of the file, if there is one.
    pub fn cut_tail(&mut self) {
        if let Some((start, _)) = self.runs.take_tail(self.end) {
            self.end = start;
        }
    }

    /// How many pages at the very end of the file would be free if `also` were.
    pub fn tail_pages(&self, also: Option<PageRef>) -> u64 {
        let mut start = self.end;
        loop {
            match (self.runs.tail(start), also) {
                (Some((run, _)), _) => start = run,
                (None, Some(page)) if page.end() == start => start = page.number,
                _ => return self.end - start,
            }
        }
    }

    pub fn end(&self) -> u64 {
        self.end
    }

    pub fn free_pages(&self) -> u64 {
        self.runs.pages
    }

    /// Pages that died and wait for a holder to go.
    pub fn waiting_pages(&self) -> u64 {
        self.waiting_pages
    }

    /// All free runs, by address.
    pub fn runs(&self) -> impl Iterator<Item = Run> {
        self.runs.by_start.iter().map(|(&start, &pages)| (start, pages))
    }

    /// All dead pages that wait for a holder.
    pub fn waiting(&self) -> impl Iterator<Item = PageRef> {
        self.holders.values().flat_map(|holder| holder.waiting.iter().copied())
    }

    /// The payload that says what is free in the newest root: the free runs, the waiting pages and
    /// `also`.
    pub fn image(&self, also: Option<PageRef>) -> Vec<u8> {
        let mut all = Runs::default();
        self.runs().for_each(|(start, pages)| all.insert(start, pages));
        for page in self.waiting().chain(also) {
            all.insert(page.number, u64::from(page.span));
        }
        let mut payload = Vec::new();
        put_varint(&mut payload, all.by_start.len() as u64);
        let mut at = 0;
        for (start, pages) in all.by_start {
            put_varint(&mut payload, start - at);
            put_varint(&mut payload, pages);
            at = start + pages;
        }
        payload
    }

    /// How much longer [`Freelist::image`] can get when one extent is allocated: that can cut one
    /// run into two, or drop one and lengthen the gap before the next; and the count can grow.
    pub const IMAGE_SLACK_BYTES: usize = 4 * MAX_VARINT_BYTES;
}

/// Reads an image back. Its runs are in order, do not touch and lie in a file of `end` pages.
pub fn decode_image(payload: &[u8], end: u64) -> Result<Vec<Run>, String> {
    let mut rest = payload;
    let mut next = || take_varint(&mut rest).ok_or_else(|| "a list that breaks off".to_string());
    let count = next()?;
    let mut runs = Vec::new();
    let mut at = 0_u64;
    for _ in 0..count {
        let (gap, pages) = (next()?, next()?);
        let start = at.saturating_add(gap);
        at = start.saturating_add(pages);
        let touches = gap == 0 && !runs.is_empty();
        if start < META_PAGES || pages == 0 || touches || at > end {
            return Err(format!("a run of {pages} pages at {start} in a file of {end}"));
        }
        runs.push((start, pages));
    }
    if rest.is_empty() { Ok(runs) } else { Err(format!("{} bytes too many", rest.len())) }
}

/// Free runs, joined where they touch, found by address and by length.
#[derive(Default)]
struct Runs {
    by_start: BTreeMap<u64, u64>,
    by_length: BTreeSet<(u64, u64)>,
    pages: u64,
}

impl Runs {
    fn insert(&mut self, mut start: u64, mut pages: u64) {
        self.pages += pages;
        if let Some((&before, &length)) = self.by_start.range(..start).next_back() {
            assert!(before + length <= start, "page {start} is freed twice");
            if before + length == start {
                self.remove(before, length);
                (start, pages) = (before, length + pages);
            }
        }
        if let Some((&after, &length)) = self.by_start.range(start..).next() {
            assert!(start + pages <= after, "page {after} is freed twice");
            if start + pages == after {
                self.remove(after, length);
                pages += length;
            }
        }
        self.by_start.insert(start, pages);
        self.by_length.insert((pages, start));
    }

    /// The first `span` pages of a run that has them.
    fn take(&mut self, span: u64) -> Option<u64> {
        let (start, pages) = if span == 1 {
            self.by_start.first_key_value().map(|(&start, &pages)| (start, pages))?
        } else {
            self.by_length.range((span, 0)..).next().map(|&(pages, start)| (start, pages))?
        };
        self.remove(start, pages);
        self.pages -= span;
        if pages > span {
            self.by_start.insert(start + span, pages - span);
            self.by_length.insert((pages - span, start + span));
        }
        Some(start)
    }

    fn tail(&self, end: u64) -> Option<Run> {
        let (&start, &pages) = self.by_start.last_key_value()?;
        (start + pages == end).then_some((start, pages))
    }

    fn take_tail(&mut self, end: u64) -> Option<Run> {
        let (start, pages) = self.tail(end)?;
        self.remove(start, pages);
        self.pages -= pages;
        Some((start, pages))
    }

    fn remove(&mut self, start: u64, pages: u64) {
        self.by_start.remove(&start);
        self.by_length.remove(&(pages, start));
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(number: u64, birth: TxnId) -> PageRef {
        PageRef { number, birth, span: 1 }
    }

    #[test]
    fn a_page_waits_for_exactly_the_holders_that_see_it() {
        let mut list = Freelist::new(&[], 10);
        list.hold(3);
        list.hold(7);
        assert!(list.retire(page(2, 4), 6), "born and dead between the holders");
        assert!(!list.retire(page(3, 2), 6), "seen by 3");
        assert!(!list.retire(page(4, 2), 9), "seen by both");
        assert!(!list.retire(page(5, 7), 8), "seen by 7");
        assert_eq!(list.release(7), [page(5, 7)]);
        assert_eq!(list.release(3), [page(3, 2), page(4, 2)]);
        assert_eq!(list.waiting_pages(), 0);
        assert_eq!(list.runs().collect::<Vec<_>>(), [(2, 4)], "neighbours are joined");
    }

    #[test]
    fn single_pages_come_from_the_front_and_extents_from_the_tightest_run() {
        let mut list = Freelist::new(&[(2, 8), (20, 3), (30, 10)], 40);
        assert_eq!(list.allocate(1), 2);
        assert_eq!(list.allocate(3), 20);
        assert_eq!(list.allocate(8), 30);
        assert_eq!(list.allocate(20), 38, "the tail's free pages begin the new extent");
        assert_eq!((list.end(), list.free_pages()), (58, 7));
    }

    #[test]
    fn the_image_reads_back_and_a_damaged_one_is_refused() {
        let mut list = Freelist::new(&[(2, 8), (200, 3), (3_000, 1_000)], 5_000);
        list.hold(5);
        list.retire(page(203, 5), 6);
        let payload = list.image(Some(page(100, 1)));
        let runs = decode_image(&payload, 5_000).unwrap();
        assert_eq!(runs, [(2, 8), (100, 1), (200, 4), (3_000, 1_000)]);
        assert!(decode_image(&payload, 3_999).is_err(), "beyond the end");
        for cut in 0..payload.len() {
            assert!(decode_image(&payload[..cut], 5_000).is_err());
        }
    }
}
