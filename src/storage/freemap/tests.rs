//! Scenes of one rule each; `model` has what all of them together must keep.

mod damage;
mod draw;

use std::cell::Cell;
use std::collections::BTreeMap;

use super::draw::Drawn;
use super::*;

/// Map pages as they were written, the last write to a number. Counts its reads, and can fail.
#[derive(Default)]
pub struct Pages {
    pub written: BTreeMap<u64, (PageRef, Vec<u8>)>,
    pub reads: Cell<u32>,
    pub fails_at: Cell<Option<u32>>,
}

impl MapPages for Pages {
    fn payload(&self, at: PageRef) -> Result<Vec<u8>, StorageError> {
        self.reads.set(self.reads.get() + 1);
        if self.fails_at.get().is_some_and(|read| self.reads.get() >= read) {
            let source = std::io::ErrorKind::Other.into();
            let (file, action, offset) = ("pages".into(), "read", at.offset());
            return Err(StorageError::Io { file, action, offset, source });
        }
        match self.written.get(&at.number) {
            Some((page, payload)) if *page == at => Ok(payload.clone()),
            other => panic!("{at} is read where there is {other:?}"),
        }
    }

    fn damaged(&self, at: PageRef, found: String) -> StorageError {
        let expected = "a free map".into();
        StorageError::Corrupt { file: "pages".into(), offset: at.offset(), expected, found }
    }
}

impl Pages {
    pub fn write(&mut self, drawn: &Drawn) {
        for (page, payload) in drawn.pages.iter().chain(&drawn.root) {
            self.written.insert(page.number, (*page, payload.clone()));
        }
    }

    /// The map that was drawn.
    pub fn open(&self, root: PageRef, end: u64) -> Freemap {
        Freemap::decode_root(root, &self.payload(root).unwrap(), end).unwrap()
    }
}

fn page(number: u64, birth: TxnId) -> PageRef {
    PageRef { number, birth, span: 1 }
}

fn extent(number: u64, span: u32) -> PageRef {
    PageRef { number, birth: 1, span }
}

/// A map of `pages` live pages behind the meta pages.
fn full(pages: u32) -> Freemap {
    let mut map = Freemap::new();
    let end = META_PAGES + u64::from(pages);
    while map.end() < end {
        let room = GROUP_PAGES - map.end() % GROUP_PAGES;
        let before = map.end();
        assert_eq!(allocate(&mut map, room.min(end - before) as u32), before);
    }
    map
}

fn allocate(map: &mut Freemap, span: u32) -> u64 {
    map.allocate(span, &Pages::default()).unwrap()
}

/// Draws, writes and makes durable.
fn checkpoint(map: &mut Freemap, pages: &mut Pages, sequence: u64) -> Drawn {
    let drawn = map.draw(sequence, pages).unwrap();
    pages.write(&drawn);
    map.drawn_durable();
    drawn
}

#[test]
fn a_page_waits_for_exactly_the_holders_that_see_it() {
    let mut map = full(8);
    map.hold(3);
    map.hold(7);
    assert!(map.retire(page(2, 4), 6), "born and dead between the holders");
    assert!(!map.retire(page(3, 2), 6), "seen by 3");
    assert!(!map.retire(page(4, 2), 9), "seen by both");
    assert!(!map.retire(page(5, 7), 8), "seen by 7");
    assert!(map.retire(page(6, 4), 7), "7 is the first root without it");
    assert_eq!((map.free_pages(), map.waiting_pages()), (2, 3));
    assert!([2, 3, 4, 5, 6].iter().all(|&number| !map.is_live(page(number, 0))));
    map.hold(7);
    assert_eq!(map.release(7), [], "held twice");
    assert_eq!(map.release(7), [page(5, 7)]);
    assert_eq!(map.release(3), [page(3, 2), page(4, 2)]);
    assert_eq!(map.waiting_pages(), 0);
    assert_eq!(map.free_runs(), [(2, 5)], "neighbours are joined");
}

#[test]
fn pages_come_by_address_and_what_died_young_comes_first() {
    let mut map = full(8);
    for number in [9, 3, 5] {
        map.free(page(number, 1));
    }
    assert_eq!([allocate(&mut map, 1), allocate(&mut map, 1)], [3, 5]);
    map.free(page(3, 1));
    assert_eq!(allocate(&mut map, 1), 9, "the sweep does not go back");
    assert!(map.retire(page(7, 1), 2) && map.retire(page(8, 1), 2));
    assert_eq!(map.free_pages(), 3);
    assert_eq!(map.free_runs(), [(3, 1), (7, 2)]);
    assert_eq!([allocate(&mut map, 1), allocate(&mut map, 1)], [8, 7]);
    assert_eq!(allocate(&mut map, 1), 3, "before the file grows");
    assert_eq!(allocate(&mut map, 1), 10);
}

#[test]
fn an_extent_takes_the_first_run_it_fits() {
    let mut map = full(40);
    map.free(extent(5, 3));
    map.free(extent(10, 8));
    map.free(extent(38, 4));
    assert_eq!(allocate(&mut map, 4), 10);
    assert_eq!(allocate(&mut map, 4), 14);
    assert_eq!(allocate(&mut map, 6), 38, "the tail's free pages are its beginning");
    assert_eq!((map.end(), map.free_runs()), (44, vec![(5, 3)]));
    map.free(extent(10, 4));
    assert_eq!(
        allocate(&mut map, 4),
        10,
        "a group searched in vain is searched when it can have one"
    );
}

#[test]
fn an_extent_does_not_cross_a_border_unless_it_must() {
    let group = GROUP_PAGES as u32;
    let mut map = full(group - 12);
    assert_eq!(allocate(&mut map, 20), GROUP_PAGES);
    assert_eq!(map.free_runs(), [(GROUP_PAGES - 10, 10)], "room is left at the border");
    let giant = extent(allocate(&mut map, 2 * group + 5), 2 * group + 5);
    assert_eq!(giant.number, 2 * GROUP_PAGES);
    assert_eq!((map.end(), map.groups.len()), (giant.end(), 5));
    assert!(map.is_live(giant));
    assert_eq!(allocate(&mut map, group - 20), GROUP_PAGES + 20);
    assert_eq!(allocate(&mut map, 10), GROUP_PAGES - 10);
    map.hold(1);
    assert!(!map.retire(giant, 2));
    assert_eq!((map.free_pages(), map.waiting_pages()), (0, u64::from(giant.span)));
    assert_eq!(map.release(1), [giant]);
    assert_eq!(map.free_runs(), [(giant.number, u64::from(giant.span))]);
    assert_eq!(allocate(&mut map, group), 2 * GROUP_PAGES);
    map.cut_tail();
    assert_eq!((map.end(), map.free_pages()), (3 * GROUP_PAGES, 0));
}

#[test]
fn the_tail_is_cut_with_what_died_young_and_what_waits_stays() {
    let mut map = full(3 * GROUP_PAGES as u32);
    let end = map.end();
    map.hold(1);
    for number in (100..end).rev().filter(|number| number % 7 > 0) {
        assert!(map.retire(page(number, 2), 3));
    }
    map.hold(5);
    let waits = page(700, 5);
    assert!(!map.retire(waits, 6));
    for number in (707..end).step_by(7) {
        map.free(page(number, 2));
    }
    assert_eq!(map.tail_pages(), end - 701);
    map.cut_tail();
    assert_eq!((map.end(), map.tail_pages()), (701, 0));
    assert_eq!(map.release(5), [waits]);
    map.cut_tail();
    assert_eq!(map.end(), 694);
    assert_eq!(map.free_pages(), map.free_runs().iter().map(|run| run.1).sum::<u64>());
    for _ in 0..map.free_pages() {
        assert!(allocate(&mut map, 1) < 694, "what was cut off is not handed out");
    }
    assert_eq!((map.end(), allocate(&mut map, 1)), (694, 694));
}

#[test]
#[should_panic = "page 7 is freed twice"]
fn a_page_freed_twice_panics() {
    let mut map = full(10);
    map.free(page(7, 1));
    map.free(page(7, 1));
}

#[test]
#[should_panic = "page 6 is freed twice"]
fn an_extent_of_which_a_part_is_free_panics() {
    let mut map = full(10);
    map.free(page(7, 1));
    map.retire(extent(6, 3), 2);
}

#[test]
#[should_panic = "root 4 is released by nobody who held it"]
fn a_root_released_once_too_often_panics() {
    let mut map = full(10);
    map.hold(4);
    map.release(4);
    map.release(4);
}
