//! The cache under eviction, and under readers on other threads.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::storage::page::{self, PageKind};

fn at(number: u64, birth: u64) -> PageRef {
    PageRef { number, birth, span: 1 }
}

/// Enters a page as a reader does that missed it.
fn install(cache: &Cache, number: u64) {
    let guard = pin();
    let mut frame = cache.free_frame(&guard);
    frame.fill(number as u8);
    page::init(&mut *frame, PageKind::Leaf, at(number, 1));
    cache.install(at(number, 1), frame, &guard);
    drop(guard);
    cache.settle();
}

fn has(cache: &Cache, number: u64) -> bool {
    let guard = pin();
    let page = cache.get(at(number, 1), &guard);
    page.is_some_and(|page| {
        assert_eq!(page::reference(&page), at(number, 1));
        assert_eq!(page[4_000], number as u8);
        true
    })
}

fn publish(writer: &mut CacheWriter, number: u64) {
    writer.create(PageKind::Leaf, at(number, 1), &pin(), |bytes| bytes[32..].fill(number as u8));
    writer.publish(at(number, 1));
}

#[test]
fn the_pool_stays_within_its_size_and_keeps_what_is_read() {
    let pages = 512;
    let (cache, _writer) = Cache::new(pages * PAGE_BYTES);
    install(&cache, 7);
    for number in 100..20_000 {
        install(&cache, number);
        assert!(has(&cache, 7), "read on every round, dropped at {number}");
    }
    assert!(!has(&cache, 100));
    assert!(cache.used_bytes() <= (pages + EVICTION) * PAGE_BYTES, "{}", cache.used_bytes());
}

#[test]
fn dirty_pages_stay_until_they_are_clean() {
    let (cache, mut writer) = Cache::new(128 * PAGE_BYTES);
    (2..400).for_each(|number| publish(&mut writer, number));
    (1_000..2_000).for_each(|number| install(&cache, number));
    assert!((2..400).all(|number| has(&cache, number)));
    (2..400).for_each(|number| cache.mark_clean(at(number, 1)));
    (2_000..12_000).for_each(|number| install(&cache, number));
    assert!((2..400).all(|number| !has(&cache, number)), "clean and not read any more");
}

/// Else a batch that reads a hundred pages from the disk beside a checkpoint passes by all frames a hundred times, which
/// took 80 ms in a pool of 1 GiB.
#[test]
fn a_pool_that_is_all_dirty_is_not_searched_for_each_frame() {
    let (cache, mut writer) = Cache::new(128 * PAGE_BYTES);
    (2..400).for_each(|number| publish(&mut writer, number));
    cache.memory.pool().free.clear();
    cache.memory.pool().rest = 0;
    let taken: Vec<_> = (0..EVICTION).map(|_| cache.free_frame(&pin())).collect();
    assert_eq!(cache.memory.pool().rest, 0, "one round for so many frames");
    let one_more = cache.free_frame(&pin());
    assert_eq!(cache.memory.pool().rest, EVICTION - 1);
    drop((taken, one_more));
}

#[test]
fn the_hand_looks_at_so_many_pages_and_then_the_pool_grows() {
    let pages = 8 * LOOKS * EVICTION;
    let (cache, _writer) = Cache::new(pages * PAGE_BYTES);
    (2..pages as u64 + 2).for_each(|number| install(&cache, number));
    assert!((2..pages as u64 + 2).all(|number| has(&cache, number)), "and is marked as read");
    let hand = || cache.memory.pool().hand as usize;
    assert_eq!(hand(), 0);
    for takes in 1..4 {
        drop(cache.free_frame(&pin()));
        cache.memory.pool().free.clear();
        cache.memory.pool().rest = 0;
        let looks = LOOKS * (1 + EVICTION);
        assert!(hand() > 0 && hand() <= takes * looks, "{} after {takes}", hand());
    }
}

/// Else the hand that follows a checkpoint, which marks one page after the other clean, goes round for each of them.
#[test]
fn the_hand_goes_on_where_it_stopped_among_dirty_pages() {
    let pages = 40 * STRETCH;
    let (cache, mut writer) = Cache::new(128 * PAGE_BYTES);
    (2..u64::from(pages)).for_each(|number| publish(&mut writer, number));
    cache.mark_clean(at(2, 1));
    let evict = |count| cache.evict(&mut cache.memory.pool(), count, LOOKS * count).frames.len();
    let hand = || cache.memory.pool().hand;
    cache.memory.pool().hand = 0;
    assert_eq!(evict(2), 1);
    let looks = 2 * LOOKS as u32;
    assert_eq!(hand() / STRETCH, looks - 1, "as far as so many looks go");
    cache.mark_clean(at(3, 1));
    assert_eq!(evict(1), 1, "the hand comes round");
    let found = hand();
    assert!(found < STRETCH, "{found}");
    assert_eq!(evict(100), 0);
    assert!(hand() - found <= STRETCH, "{}: a round, and then no more", hand());
}

/// Pages that are read between any two rounds of the hand are never evicted, and the others go through what is left.
#[test]
fn the_pool_stays_within_a_tenth_of_its_size_when_most_of_it_is_read_all_the_time() {
    let pages = 4_096;
    let (cache, _writer) = Cache::new(pages * PAGE_BYTES);
    let hot = 2..pages as u64 + 2;
    hot.clone().for_each(|number| install(&cache, number));
    for number in 10_000..25_000 {
        if number % 8 == 0 {
            let guard = pin();
            hot.clone().for_each(|number| drop(cache.get(at(number, 1), &guard)));
        }
        install(&cache, number);
    }
    let used = cache.used_bytes() / PAGE_BYTES;
    assert!(used <= pages / 10 * 11, "{used} pages of {pages}");
}

#[test]
fn memory_is_made_ahead_as_far_as_the_pool_may_grow() {
    let pages = 4_000;
    let (cache, _writer) = Cache::new(pages * PAGE_BYTES);
    install(&cache, 7);
    let made = cache.used_bytes();
    cache.prepare(1_700);
    cache.prepare(1_000); // is there
    assert_eq!(cache.prepared_frames(), 1_700);
    cache.prepare(100_000);
    assert_eq!(cache.prepared_frames() as usize, pages - 1);
    assert_eq!(cache.used_bytes(), made, "it is not in use");
    (100..3_000).for_each(|number| install(&cache, number));
    assert!((100..3_000).all(|number| has(&cache, number)));
}

#[test]
fn private_pages_are_the_writers_alone() {
    let (cache, mut writer) = Cache::new(128 * PAGE_BYTES);
    let (own, guard) = (at(9, 4), pin());
    writer.create(PageKind::Leaf, own, &guard, |bytes| bytes[100] = 1);
    assert!(cache.get(own, &guard).is_none());
    writer.private_mut(own)[100] += 1;
    assert_eq!(writer.private(own)[100], 2);
    writer.publish(own);
    assert_eq!(cache.get(own, &guard).unwrap()[100], 2);
    writer.forget(own);
    assert!(cache.get(own, &guard).is_none());
    let again = at(9, 5);
    writer.create(PageKind::Leaf, again, &guard, |_| ());
    writer.drop_private(again);
    assert!(cache.get(again, &guard).is_none());
}

#[test]
fn a_page_read_under_a_damaged_reference_gives_way_to_the_writer() {
    let (cache, mut writer) = Cache::new(128 * PAGE_BYTES);
    install(&cache, 9);
    let guard = pin();
    let seen = cache.get(at(9, 1), &guard).unwrap();
    writer.create(PageKind::Leaf, at(9, 2), &guard, |bytes| bytes[4_000] = 77);
    assert_eq!(seen[4_000], 9, "what a pinned reader holds does not change");
    writer.publish(at(9, 2));
    assert_eq!(page::reference(&cache.get(at(9, 2), &guard).unwrap()), at(9, 2));
}

/// Pages are published, marked clean by another thread and let go by the writer, while readers and a small pool take their
/// frames: what is found under a number is that page, of one generation.
#[test]
#[allow(clippy::disallowed_methods)] // real threads are what is tested
fn readers_never_see_another_page_where_clean_ones_are_let_go() {
    const LIVE: u64 = 64;
    let (cache, mut writer) = Cache::new(128 * PAGE_BYTES);
    let newest = std::sync::atomic::AtomicU64::new(0);
    let (published, marked) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let (cache, newest) = (&cache, &newest);
        scope.spawn(move || marked.into_iter().for_each(|number| cache.mark_clean(at(number, 1))));
        scope.spawn(move || {
            let mut seen = 0;
            while newest.load(Ordering::Relaxed) < u64::MAX || seen == 0 {
                let last = newest.load(Ordering::Relaxed).min(20_000);
                for number in last.saturating_sub(2 * LIVE).max(2)..last {
                    let guard = pin();
                    let Some(page) = cache.get(at(number, 1), &guard) else { continue };
                    assert_eq!(page::reference(&page), at(number, 1));
                    assert!(page[100..].iter().all(|&byte| byte == number as u8));
                    seen += 1;
                }
            }
        });
        for number in 2..20_000 {
            publish(&mut writer, number);
            newest.store(number, Ordering::Relaxed);
            published.send(number).expect("a thread that marks");
            if number > 2 + LIVE {
                writer.let_go(at(number - LIVE, 1));
                writer.collect(&pin());
            }
        }
        newest.store(u64::MAX, Ordering::Relaxed);
        drop(published);
    });
}

/// Every byte of a page that readers see is of one generation, while the writer reuses numbers and
/// frames as fast as it can and a small pool evicts.
#[test]
#[allow(clippy::disallowed_methods)] // real threads are what is tested
fn readers_never_see_a_page_change() {
    let (cache, mut writer) = Cache::new(128 * PAGE_BYTES);
    let done = AtomicBool::new(false);
    let numbers = 2..66_u64;
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (cache, done, numbers) = (&cache, &done, numbers.clone());
            scope.spawn(move || {
                let mut seen = 0_u64;
                while !done.load(Ordering::Relaxed) || seen == 0 {
                    for number in numbers.clone() {
                        let guard = pin();
                        let Some(page) = cache.get(at(number, 0), &guard) else { continue };
                        let generation = page[100];
                        for _ in 0..3 {
                            assert!(page[100..].iter().all(|&byte| byte == generation));
                        }
                        seen += 1;
                    }
                    let (number, guard) = (1_000 + reader * 1_000 + seen % 500, pin());
                    let mut frame = cache.free_frame(&guard);
                    page::init(&mut *frame, PageKind::Leaf, at(number, 1));
                    cache.install(at(number, 1), frame, &guard);
                }
            });
        }
        for generation in 1..3_000_u64 {
            for number in numbers.clone().step_by(1 + generation as usize % 3) {
                let page = at(number, generation);
                writer.forget(page);
                writer.create(PageKind::Leaf, page, &pin(), |bytes| {
                    bytes[32..].fill(generation as u8);
                });
                writer.publish(page);
            }
            writer.collect(&pin());
        }
        done.store(true, Ordering::Relaxed);
    });
}
