//! The map against sets of extents, through everything that can happen to it.
//!
//! The model knows no bitmaps, births or intervals: a root is a set of extents, and free is what no
//! root that is held and no map has.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};

use super::tests::Pages;
use super::*;

type Extents = BTreeSet<PageRef>;

/// Beyond this, transactions only take single pages.
const MOST_PAGES: u64 = 12 * GROUP_PAGES;

/// A root with its map, as a meta page names them.
#[derive(Clone, Default)]
struct Checkpoint {
    txn: TxnId,
    sequence: u64,
    root: Option<PageRef>,
    end: u64,
    live: Extents,
}

struct World {
    chance: StdRng,
    disk: Pages,
    map: Freemap,
    txn: TxnId,
    live: Extents,
    /// The roots that are held, once for each reason.
    held: Vec<(TxnId, Extents)>,
    snapshots: Vec<TxnId>,
    durable: Checkpoint,
    in_flight: Option<Checkpoint>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            chance: StdRng::seed_from_u64(seed),
            disk: Pages::default(),
            map: Freemap::new(),
            txn: 0,
            live: Extents::new(),
            held: Vec::new(),
            snapshots: Vec::new(),
            durable: Checkpoint { end: META_PAGES, ..Checkpoint::default() },
            in_flight: None,
        };
        world.hold();
        world
    }

    fn step(&mut self) {
        let fails = self.chance.random_ratio(1, 10);
        self.disk
            .fails_at
            .set(fails.then(|| self.disk.reads.get() + self.chance.random_range(1..3)));
        match self.chance.random_range(0..100) {
            0..50 => self.transaction(),
            50..60 => {
                self.hold();
                self.snapshots.push(self.txn);
            }
            60..70 if !self.snapshots.is_empty() => {
                let nth = self.chance.random_range(0..self.snapshots.len());
                let txn = self.snapshots.swap_remove(nth);
                self.release(txn);
            }
            70..82 if self.in_flight.is_none() => self.begin_checkpoint(),
            82..91 if self.in_flight.is_some() => self.end_checkpoint(true),
            91..94 if self.in_flight.is_some() => self.end_checkpoint(false),
            94..96 => self.crash(),
            96..100 => self.cut_tail(),
            _ => {}
        }
        self.disk.fails_at.set(None);
        self.assert_counts();
    }

    /// Replaces some pages by others; a read that fails, or chance, rolls it back.
    fn transaction(&mut self) {
        let txn = self.txn + 1;
        let (most, claimed) = (self.chance.random_range(0..60), self.claimed());
        let retired = self.live.iter().copied().choose_multiple(&mut self.chance, most);
        let mut fresh = Extents::new();
        let mut is_whole = self.chance.random_ratio(9, 10);
        for _ in 0..self.chance.random_range(0..60) {
            let span = self.span();
            let Ok(number) = self.map.allocate(span, &self.disk) else {
                is_whole = false;
                break;
            };
            let page = PageRef { number, birth: txn, span };
            assert!(page.end() <= self.map.end() && number >= META_PAGES, "{page}");
            assert!(!overlaps(&claimed, page) && !overlaps(&fresh, page), "{page} is taken");
            fresh.insert(page);
        }
        is_whole &= retired.iter().all(|&page| self.map.ensure_loaded(page, &self.disk).is_ok());
        if !is_whole {
            fresh.into_iter().for_each(|page| self.map.free(page));
            return;
        }
        self.txn = txn;
        for page in retired {
            self.live.remove(&page);
            let is_held = self.held.iter().any(|(_, root)| root.contains(&page));
            assert_eq!(self.map.retire(page, txn), !is_held, "{page}");
        }
        self.live.extend(fresh);
    }

    fn span(&mut self) -> u32 {
        match self.chance.random_range(0..200) {
            _ if self.map.end() > MOST_PAGES => 1,
            0 => self.chance.random_range(33_000..70_000),
            1..10 => self.chance.random_range(500..12_000),
            10..50 => self.chance.random_range(2..40),
            _ => 1,
        }
    }

    fn hold(&mut self) {
        self.map.hold(self.txn);
        self.held.push((self.txn, self.live.clone()));
    }

    fn release(&mut self, txn: TxnId) {
        let before = self.claimed();
        let nth = self.held.iter().position(|(held, _)| *held == txn).unwrap();
        self.held.swap_remove(nth);
        let freed: Extents = self.map.release(txn).into_iter().collect();
        assert_eq!(freed, &before - &self.claimed());
    }

    fn begin_checkpoint(&mut self) {
        if self.chance.random() {
            self.cut_tail();
        }
        let sequence = self.durable.sequence + 1;
        let Ok(drawn) = self.map.draw(sequence, &self.disk) else { return };
        assert_eq!(
            drawn.root.as_ref().map_or(self.map.root(), |root| Some(root.0)),
            self.map.root()
        );
        self.disk.write(&drawn);
        self.hold();
        let (txn, root, end) = (self.txn, self.map.root(), drawn.end);
        self.in_flight = Some(Checkpoint { txn, sequence, root, end, live: self.live.clone() });
    }

    fn end_checkpoint(&mut self, is_durable: bool) {
        let flight = self.in_flight.take().unwrap();
        if is_durable {
            self.map.drawn_durable();
            let before = std::mem::replace(&mut self.durable, flight);
            self.release(before.txn);
        } else {
            self.map.drawn_failed();
            self.release(flight.txn);
        }
    }

    /// The meta page of a checkpoint in flight may have reached the disk, or not.
    fn crash(&mut self) {
        if let Some(flight) = self.in_flight.take().filter(|_| self.chance.random()) {
            self.durable = flight;
        }
        self.disk.fails_at.set(None);
        let Checkpoint { txn, root, end, live, .. } = self.durable.clone();
        self.map = root.map_or_else(Freemap::new, |root| self.disk.open(root, end));
        assert_eq!(self.map.end(), end);
        (self.txn, self.live) = (txn, live);
        self.held.clear();
        self.snapshots.clear();
        self.hold();
        if self.chance.random() {
            self.assert_sound();
        }
    }

    fn cut_tail(&mut self) {
        let reads = self.map.load_all(&self.disk);
        let (end, tail_pages) = (self.map.end(), self.map.tail_pages());
        self.map.cut_tail();
        assert!(end - self.map.end() <= tail_pages);
        if reads.is_ok() {
            let end = self.map.end();
            assert!(self.map.free_runs().last().is_none_or(|run| run.0 + run.1 < end));
        }
    }

    /// What the roots have that are held, and the newest.
    fn claimed(&self) -> Extents {
        let held = self.held.iter().flat_map(|(_, root)| root);
        held.chain(&self.live).copied().chain(self.map.map_pages()).collect()
    }

    fn assert_counts(&self) {
        let pages =
            |extents: &Extents| extents.iter().map(|page| u64::from(page.span)).sum::<u64>();
        let claimed = self.claimed();
        assert_eq!(META_PAGES + pages(&claimed) + self.map.free_pages(), self.map.end());
        let map_pages: Extents = self.map.map_pages().collect();
        let waiting = &(&claimed - &self.live) - &map_pages;
        assert_eq!(self.map.waiting().collect::<Extents>(), waiting);
        assert_eq!(self.map.waiting_pages(), pages(&waiting));
    }

    /// Every page of the file is claimed once or free once.
    fn assert_sound(&mut self) {
        self.map.load_all(&self.disk).unwrap();
        let claimed = self.claimed();
        let extents = claimed.iter().map(|page| (page.number, u64::from(page.span)));
        let mut all: Vec<Run> = extents.chain(self.map.free_runs()).collect();
        all.sort_unstable();
        let end = all.iter().fold(META_PAGES, |at, &(start, pages)| {
            assert_eq!(at, start, "in {all:?}");
            start + pages
        });
        assert_eq!(end, self.map.end());
        let newest = self.map.newest_map_pages().chain(self.live.iter().copied());
        assert!(newest.into_iter().all(|page| self.map.is_live(page)));
        assert!(self.map.waiting().all(|page| !self.map.is_live(page)));
    }
}

/// Whether an extent shares pages with any of these, which do not overlap.
fn overlaps(extents: &Extents, page: PageRef) -> bool {
    let behind = PageRef { number: page.end(), birth: 0, span: 0 };
    extents.range(..behind).next_back().is_some_and(|last| last.end() > page.number)
}

#[test]
fn no_page_is_handed_out_twice_and_none_is_lost() {
    for seed in 0..24 {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for step in 0..250 {
            world.step();
            if step % 10 == 9 {
                world.assert_sound();
            }
        }
    }
}
