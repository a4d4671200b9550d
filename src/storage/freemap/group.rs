//! A group: neighbouring pages whose state fits one page on disk.
//!
//! A page of a group is in one of three states, told by two bits:
//!
//! ```text
//!        live taken
//! free     0    0    may be allocated
//! live     1    1    part of the newest root, or a page of the newest map
//! dead     0    1    not live, but somebody may still have it; or not handed out for another reason
//! ```
//!
//! Pages behind the end of the file are kept as dead, so that a search need not know the end.
//!
//! On disk a group is the payload of its map page: the 508 words of `live`, little-endian, lowest
//! page in the lowest bit. What is dead in memory is free there, for nobody who has it outlives the
//! process.

use std::ops::Range;

use crate::storage::meta::META_PAGES;
use crate::storage::page::{HEADER_BYTES, PAGE_BYTES, PageRef};

/// A map page carries one bit for each page of its group and nothing else.
pub const PAYLOAD_BYTES: usize = PAGE_BYTES - HEADER_BYTES;

const WORDS: usize = PAYLOAD_BYTES / 8;

/// Pages in a group: 32,512, or 127 MiB of the file.
pub const GROUP_PAGES: u64 = WORDS as u64 * 64;

type Words = [u64; WORDS];

/// A group of pages. Pages are named by their place in the group.
pub struct Group {
    /// Number of its first page.
    first: u64,
    /// None: not read from the disk yet.
    bits: Option<Box<Bits>>,
    free: u32,
    live: u32,
    /// No free run is longer.
    longest: u32,
    /// Its page of the newest map; none when the group had no live page when it was drawn.
    pub page: Option<PageRef>,
    /// Whether `live` changed since the newest map.
    pub changed: bool,
}

struct Bits {
    live: Words,
    taken: Words,
}

impl Group {
    /// The group behind the end of the file: nothing in it is free, nothing live.
    pub fn beyond_end(first: u64) -> Group {
        let bits = Some(Box::new(Bits { live: [0; WORDS], taken: [!0; WORDS] }));
        Group { first, bits, free: 0, live: 0, longest: 0, page: None, changed: false }
    }

    /// A group that `page` on disk describes, in a file of `end` pages.
    pub fn on_disk(first: u64, end: u64, page: PageRef, free: u32) -> Group {
        let live = pages_below(first, end) - free;
        let page = Some(page);
        Group { first, bits: None, free, live, longest: free, page, changed: false }
    }

    pub fn is_loaded(&self) -> bool {
        self.bits.is_some()
    }

    /// Takes the payload of the group's page.
    pub fn load(&mut self, payload: &[u8], end: u64) -> Result<(), String> {
        if payload.len() != PAYLOAD_BYTES {
            return Err(format!("{} bytes where a group has {PAYLOAD_BYTES}", payload.len()));
        }
        let mut bits = Box::new(Bits { live: [0; WORDS], taken: [0; WORDS] });
        for (word, bytes) in bits.live.iter_mut().zip(payload.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let pages = pages_below(self.first, end);
        if let Some(bit) = next(&bits.live, pages, true) {
            return Err(format!("page {} behind the end {end}", self.first + u64::from(bit)));
        }
        let live: u32 = bits.live.iter().map(|word| word.count_ones()).sum();
        if live != self.live {
            let free = pages - live;
            return Err(format!("{free} free pages where the root counts {}", self.free));
        }
        if self.first == 0 && next(&bits.live, 0, false).is_some_and(|bit| bit < META_PAGES as u32)
        {
            return Err("the meta pages as free".into());
        }
        bits.taken = bits.live;
        if pages < GROUP_PAGES as u32 {
            set(&mut bits.taken, &(pages..GROUP_PAGES as u32));
        }
        self.bits = Some(bits);
        Ok(())
    }

    /// The payload of the group's page.
    pub fn payload(&self) -> Vec<u8> {
        self.bits().live.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Pages that may be allocated.
    pub fn free(&self) -> u32 {
        self.free
    }

    pub fn has_live(&self) -> bool {
        self.live > 0
    }

    /// Pages of the file that are not live.
    pub fn free_on_disk(&self, end: u64) -> u32 {
        pages_below(self.first, end) - self.live
    }

    /// Whether a free run of `pages` is possible.
    pub fn may_have_run(&self, pages: u32) -> bool {
        self.longest >= pages
    }

    /// Free to live.
    pub fn take(&mut self, stretch: Range<u32>) {
        let bits = self.bits_mut();
        let was_free = set(&mut bits.taken, &stretch) & set(&mut bits.live, &stretch);
        assert!(was_free, "page {} is allocated twice", self.number(stretch.start));
        self.free -= stretch.len() as u32;
        self.live += stretch.len() as u32;
        self.changed = true;
    }

    /// Dead to live.
    pub fn revive(&mut self, stretch: Range<u32>) {
        let was_dead = set(&mut self.bits_mut().live, &stretch);
        assert!(was_dead, "page {} lives twice", self.number(stretch.start));
        self.live += stretch.len() as u32;
        self.changed = true;
    }

    /// Live to dead.
    pub fn kill(&mut self, stretch: Range<u32>) {
        let was_live = clear(&mut self.bits_mut().live, &stretch);
        assert!(was_live, "page {} is freed twice", self.number(stretch.start));
        self.live -= stretch.len() as u32;
        self.changed = true;
    }

    /// Dead to free.
    pub fn release(&mut self, stretch: Range<u32>) {
        let was_dead = clear(&mut self.bits_mut().taken, &stretch);
        assert!(was_dead, "page {} is freed twice", self.number(stretch.start));
        self.free += stretch.len() as u32;
        self.longest = self.free;
    }

    /// Free to behind the end of the file.
    pub fn close(&mut self, stretch: Range<u32>) {
        let was_free = set(&mut self.bits_mut().taken, &stretch);
        assert!(was_free, "page {} is in use and cut off", self.number(stretch.start));
        self.free -= stretch.len() as u32;
        // A page of the map that describes nothing is given up.
        self.changed |= self.live == 0 && self.page.is_some();
    }

    pub fn is_live(&self, stretch: Range<u32>) -> bool {
        masks(&stretch).all(|(word, mask)| self.bits().live[word] & mask == mask)
    }

    /// The first free page from `from` on.
    pub fn find_page(&self, from: u32) -> Option<u32> {
        next(&self.bits().taken, from, false)
    }

    /// The first free run that has `pages`. When there is none, the longest is known.
    pub fn find_run(&mut self, pages: u32) -> Option<u32> {
        let mut longest = 0;
        for run in self.runs() {
            if run.len() >= pages as usize {
                return Some(run.start);
            }
            longest = longest.max(run.len() as u32);
        }
        self.longest = longest;
        None
    }

    /// All free runs.
    pub fn runs(&self) -> impl Iterator<Item = Range<u32>> {
        let taken = &self.bits().taken;
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = next(taken, at, false)?;
            at = next(taken, start, true).unwrap_or(GROUP_PAGES as u32);
            Some(start..at)
        })
    }

    /// Where the free run begins that ends right below `below`.
    pub fn free_below(&self, below: u32) -> u32 {
        let taken = &self.bits().taken;
        masks(&(0..below))
            .rev()
            .find_map(|(word, mask)| (taken[word] & mask).checked_ilog2().map(|bit| (word, bit)))
            .map_or(0, |(word, bit)| word as u32 * 64 + bit + 1)
    }

    fn number(&self, at: u32) -> u64 {
        self.first + u64::from(at)
    }

    fn bits(&self) -> &Bits {
        self.bits.as_deref().expect("a group is loaded before it is looked into")
    }

    fn bits_mut(&mut self) -> &mut Bits {
        self.bits.as_deref_mut().expect("a group is loaded before it changes")
    }
}

/// How many pages of the group from `first` on lie in a file of `end` pages.
pub fn pages_below(first: u64, end: u64) -> u32 {
    end.saturating_sub(first).min(GROUP_PAGES) as u32
}

/// The words that a stretch touches, each with the stretch's bits. The stretch is not empty.
fn masks(stretch: &Range<u32>) -> impl DoubleEndedIterator<Item = (usize, u64)> + use<> {
    let (first, last) = (stretch.start / 64, (stretch.end - 1) / 64);
    let (low, high) = (!0 << (stretch.start % 64), !0 >> (63 - (stretch.end - 1) % 64));
    (first..=last).map(move |word| {
        let above = if word == first { low } else { !0 };
        let below = if word == last { high } else { !0 };
        (word as usize, above & below)
    })
}

/// Sets the bits of a stretch; says whether all were clear.
fn set(words: &mut Words, stretch: &Range<u32>) -> bool {
    let mut were_clear = true;
    for (word, mask) in masks(stretch) {
        were_clear &= words[word] & mask == 0;
        words[word] |= mask;
    }
    were_clear
}

/// Clears the bits of a stretch; says whether all were set.
fn clear(words: &mut Words, stretch: &Range<u32>) -> bool {
    let mut were_set = true;
    for (word, mask) in masks(stretch) {
        were_set &= words[word] & mask == mask;
        words[word] &= !mask;
    }
    were_set
}

/// The first bit from `from` on that is set, or clear.
fn next(words: &Words, from: u32, is_set: bool) -> Option<u32> {
    let flip = if is_set { 0 } else { !0 };
    let first = from as usize / 64;
    let mut mask = !0 << (from % 64);
    for (word, bits) in words.iter().enumerate().skip(first) {
        let found = (bits ^ flip) & mask;
        if found != 0 {
            return Some(word as u32 * 64 + found.trailing_zeros());
        }
        mask = !0;
    }
    None
}
