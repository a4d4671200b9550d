//! Maps drawn, failed, made durable and opened again.

use super::*;

#[test]
fn an_untouched_map_draws_nothing() {
    let mut map = Freemap::new();
    let drawn = map.draw(1, &Pages::default()).unwrap();
    assert!(drawn.root.is_none() && drawn.pages.is_empty());
    map.drawn_durable();
    assert_eq!((map.root(), map.end(), map.free_pages()), (None, META_PAGES, 0));
}

#[test]
fn a_checkpoint_draws_what_changed_and_opening_reads_what_it_needs() {
    let mut pages = Pages::default();
    let mut map = full(5 * GROUP_PAGES as u32);
    map.free(extent(100, 50));
    let first = checkpoint(&mut map, &mut pages, 1);
    assert_eq!(first.pages.len(), 6);
    let root = first.root.unwrap().0;
    assert_eq!((map.root(), root.number), (Some(root), 100), "the lowest free page");
    assert_eq!(map.free_runs()[0], (107, 43));

    let mut map = pages.open(root, first.end);
    pages.reads.set(0);
    assert_eq!((map.free_pages(), map.end()), (43, first.end));
    let far = page(3 * GROUP_PAGES + 7, 1);
    map.ensure_loaded(far, &pages).unwrap();
    map.hold(1);
    assert!(!map.retire(far, 2));
    assert_eq!(pages.reads.get(), 1);
    let second = checkpoint(&mut map, &mut pages, 2);
    let numbers: Vec<u64> = second.pages.iter().map(|(page, _)| page.number).collect();
    assert_eq!(numbers, [108, 109], "the group, and the one that its page lies in");
    assert_eq!(pages.reads.get(), 2);
    assert_eq!(map.map_pages().count(), 7);

    let third = checkpoint(&mut map, &mut pages, 3);
    assert!(third.root.is_none(), "nothing changed");
    let mut map = pages.open(second.root.unwrap().0, second.end);
    map.load_all(&pages).unwrap();
    assert_eq!(map.free_runs(), [(100, 2), (104, 1), (110, 40), (far.number, 1)]);
}

#[test]
fn a_failed_draw_leaves_the_map_before() {
    let mut pages = Pages::default();
    let mut map = full(100);
    let first = checkpoint(&mut map, &mut pages, 1);
    let before: Vec<PageRef> = map.map_pages().collect();
    map.free(page(50, 1));
    let failed = map.draw(2, &pages).unwrap();
    assert_eq!(map.map_pages().count(), 4, "both maps");
    map.drawn_failed();
    assert_eq!(map.map_pages().collect::<Vec<_>>(), before);
    assert!(before.iter().all(|&page| map.is_live(page)));
    assert_eq!(map.root(), first.root.map(|(root, _)| root));
    let again = map.draw(2, &pages).unwrap();
    assert_eq!(again.root, failed.root, "what changed is drawn the next time");
    assert_eq!(again.pages, failed.pages);
}

#[test]
fn a_draw_that_cannot_read_changes_nothing() {
    let mut pages = Pages::default();
    let mut map = full(4 * GROUP_PAGES as u32);
    let first = checkpoint(&mut map, &mut pages, 1);
    let mut map = pages.open(first.root.unwrap().0, first.end);
    map.ensure_loaded(page(9, 1), &pages).unwrap();
    map.free(page(9, 1));
    let before: Vec<PageRef> = map.map_pages().collect();
    pages.fails_at.set(Some(0));
    assert!(map.draw(2, &pages).is_err());
    assert_eq!(map.map_pages().collect::<Vec<_>>(), before);
    assert_eq!((map.end(), map.free_pages()), (first.end, 1));
    pages.fails_at.set(None);
    checkpoint(&mut map, &mut pages, 2);
    map.load_all(&pages).unwrap();
    assert_eq!(map.free_pages(), map.free_runs().iter().map(|run| run.1).sum::<u64>());
}

#[test]
fn the_maps_own_pages_do_not_keep_the_tail() {
    let mut pages = Pages::default();
    let mut map = full(3 * GROUP_PAGES as u32);
    map.hold(1);
    checkpoint(&mut map, &mut pages, 1);
    assert_eq!(map.map_pages().map(|page| page.end()).max(), Some(map.end()));
    map.free(extent(102, 3 * GROUP_PAGES as u32 - 100));
    assert!(map.tail_pages() > 2 * GROUP_PAGES);
    for sequence in 2..4 {
        map.cut_tail();
        checkpoint(&mut map, &mut pages, sequence);
    }
    assert_eq!((map.end(), map.groups.len()), (106, 1), "room for the map twice");
    assert_eq!(map.tail_pages(), 2);
}

/// Opening the map finds free what is free in memory, where nothing waits.
fn assert_reopens(map: &Freemap, pages: &Pages, drawn: &Drawn) {
    let mut opened = pages.open(map.root().unwrap(), drawn.end);
    opened.load_all(pages).unwrap();
    assert_eq!(opened.free_runs(), map.free_runs());
    assert_eq!(opened.free_pages(), map.free_pages());
}

#[test]
fn a_group_that_changes_by_the_draw_is_drawn_too() {
    let mut pages = Pages::default();
    let mut map = full(6 * GROUP_PAGES as u32 - 2);
    map.free(extent(100, 4));
    map.free(extent(2 * GROUP_PAGES, 3));
    checkpoint(&mut map, &mut pages, 1);
    assert_eq!(map.groups[3].page, Some(page(2 * GROUP_PAGES, 1)));
    map.free(extent(3 * GROUP_PAGES, 10));
    let drawn = checkpoint(&mut map, &mut pages, 2);
    assert_eq!(drawn.pages.len(), 3, "the root's old group, the changed one, its old page's");
    assert_reopens(&map, &pages, &drawn);
}

#[test]
fn a_group_that_the_draw_empties_gives_up_its_page_when_it_is_cut_off() {
    let mut pages = Pages::default();
    let mut map = full(3 * GROUP_PAGES as u32 - 2);
    map.free(extent(100, 3));
    map.free(page(GROUP_PAGES, 1));
    checkpoint(&mut map, &mut pages, 1);
    assert_eq!(map.groups[2].page, Some(page(GROUP_PAGES, 1)));
    map.free(extent(10, 20));
    map.free(extent(GROUP_PAGES + 1, 2 * GROUP_PAGES as u32 - 1));
    let drawn = checkpoint(&mut map, &mut pages, 2);
    assert!(map.groups[1].page.is_some() && !map.groups[1].has_live());
    assert_reopens(&map, &pages, &drawn);
    map.cut_tail();
    let drawn = checkpoint(&mut map, &mut pages, 3);
    assert_eq!((map.end(), map.groups.len()), (GROUP_PAGES, 1));
    assert_reopens(&map, &pages, &drawn);
}
