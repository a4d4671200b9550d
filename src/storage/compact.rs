//! Compaction beside reads and writes: the file of a store that shrank follows it.
//!
//! Deletes leave two kinds of waste: leaves that are half empty, and free pages anywhere in the
//! file, of which only those at its end can be given back. A compaction walks over all trees in
//! key order, joins leaves that are badly filled and moves what lies beyond a *target*, the number of
//! pages that all there is should fit into (`compact/walk.rs`); then checkpoints cut the tail.
//!
//! It is driven in small steps ([`Store::compact_step`]). Each is an ordinary commit of bounded
//! size, under which nothing changes but where things lie, so readers, snapshots and other commits
//! go on as ever, and a crash has nothing to repair. Between two steps the store has its trees and
//! the place where the walk goes on: a key, which means the same whatever was written meanwhile.
//!
//! What a step replaces is the durable root's until the next checkpoint. So a compaction waits for
//! checkpoints, which its driver makes: when no low page is free, when much was rewritten (dirty
//! pages take memory), and at the end of a pass.
//!
//! The first pass mostly joins, the second mostly moves; more follow when writes in between undid
//! too much. It ends when the file is near the target, or when a pass helped little: under a
//! snapshot that keeps the old pages, or with values that fit no hole. It never tries again by
//! itself before something changed ([`Store::wants_compaction`]).
//!
//! Left out: branches are joined only when they are underfull, and leaves of different parents are
//! not; a removal before the last start does not count as one, nor one that other keys of the same tree
//! make up for, though its leaf stays badly filled.

mod walk;

use crate::storage::cache::pin;
use crate::storage::error::StorageError;
use crate::storage::page::TxnId;
use crate::storage::root::{Root, TREES, TreeId};
use crate::storage::store::{Store, TAIL_WORTH_CUTTING_PAGES};
use walk::{Limits, Walk};

/// Pages that a step reads or makes, about: some tenths of a millisecond when they are in memory.
pub const STEP_PAGES: u32 = 64;

/// Smaller files are left alone (8 MiB).
const SMALL_FILE_PAGES: u64 = 2_048;

/// Pages rewritten before a checkpoint must come (16 MiB): they are in memory until then.
const WAIT_AFTER_PAGES: u64 = 4_096;

/// A wait for free pages after which fewer were written was in vain.
const WORTH_WAITING_PAGES: u64 = 16;

/// What the target leaves free: pages for the map and for the paths of the steps themselves, and one in
/// so many of the live ones.
const SPARE_PAGES: u64 = 32;
const SPARE_ONE_IN: u64 = 256;

/// A file that is longer than its live pages by this part, or by so many pages, is near enough to the
/// target.
const NEAR_ONE_IN: u64 = 32;
const NEAR_PAGES: u64 = 64;

/// A pass that makes file and live pages together shorter by less than this part helped little.
const HELPED_ONE_IN: u64 = 32;

/// Checkpoints that a cut takes, the map moving out of the way included.
const CUTS: u32 = 3;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactProgress {
    /// There is more to do, whenever it suits.
    Stepped,
    /// Nothing can be done before the next checkpoint has ended.
    NeedsCheckpoint,
    /// The compaction has ended; the next step would begin another.
    Done,
}

/// A compaction under way.
pub struct Compaction {
    /// Where the walk goes on; none at the end of a pass.
    place: Option<(TreeId, Vec<u8>)>,
    target: u64,
    ceiling: u64,
    waits_for: Option<Wait>,
    /// The wait before was for free pages.
    was_blocked: bool,
    /// Whether to wait again when there are none.
    stops_for_room: bool,
    /// Pages written since the last wait, and in this pass.
    written_pages: u64,
    pass_pages: u64,
    /// Where the store stood when the pass began; none in the first one, after which there is most to
    /// move.
    before: Option<Extent>,
    cuts: u32,
}

/// The checkpoint that a compaction waits for.
#[derive(Clone, Copy)]
enum Wait {
    /// One that holds this transaction.
    Txn(TxnId),
    /// One after that of this sequence.
    After(u64),
}

/// How long the file is, or will be when its free tail is cut, and how much of it lives.
#[derive(Clone, Copy)]
struct Extent {
    file_pages: u64,
    live_pages: u64,
}

/// What became of the store since its last compaction.
#[derive(Debug, Default)]
pub struct Settled {
    /// Pages that stayed free.
    free_pages: u64,
    /// The most entries that each tree held since.
    most_entries: [u64; TREES],
}

impl Settled {
    /// Notes how large the trees were that a commit changes.
    pub fn note_commit(&mut self, before: &Root) {
        for (most, tree) in self.most_entries.iter_mut().zip(&before.trees) {
            *most = tree.len.max(*most);
        }
    }

    /// By how many entries the trees shrank, all together. A tree that loses at one end what it gains at the
    /// other, as a history does, or whose holes are filled again, did not shrink.
    fn shrunk_entries(&self, now: &Root) -> u64 {
        let each = self.most_entries.iter().zip(&now.trees);
        each.map(|(most, tree)| most.saturating_sub(tree.len)).sum()
    }

    /// What was used since is worth the same again when it is freed.
    pub fn note_free(&mut self, free_pages: u64) {
        self.free_pages = self.free_pages.min(free_pages);
    }
}

impl Store {
    /// Whether a compaction is likely to be worth it: a quarter of the file is free, or the trees shrank by a
    /// quarter of the entries that are left since the last one.
    pub fn wants_compaction(&self) -> bool {
        let (file, free) = (self.space().end(), self.space().free_pages());
        let settled = &self.settled;
        let is_airy = free > file / 4 && free > settled.free_pages + file / 8;
        let shrank = settled.shrunk_entries(&self.root()) > self.root().entries() / 4;
        file > SMALL_FILE_PAGES && (is_airy || shrank)
    }

    /// Whether a compaction was begun and has not ended.
    pub fn is_compacting(&self) -> bool {
        self.compaction.is_some()
    }

    /// Does the next part of a compaction, beginning one when there is none: at most one commit, of
    /// about so many pages. An error undoes the step and ends the compaction.
    pub fn compact_step(&mut self, budget_pages: u32) -> Result<CompactProgress, StorageError> {
        let result = match self.compaction.take() {
            Some(run) => self.advance(run, budget_pages),
            None => {
                self.settled.most_entries = [0; TREES];
                self.begin_pass(None).and_then(|run| self.advance(run, budget_pages))
            }
        };
        if !matches!(result, Ok(CompactProgress::Stepped | CompactProgress::NeedsCheckpoint)) {
            self.settled.free_pages = self.space().free_pages();
        }
        result
    }

    fn advance(
        &mut self,
        mut run: Compaction,
        budget_pages: u32,
    ) -> Result<CompactProgress, StorageError> {
        let progress = if !self.has_ended(run.waits_for) {
            CompactProgress::NeedsCheckpoint
        } else {
            if run.waits_for.take().is_some() {
                // What the checkpoint freed may lie behind the sweep.
                self.draft.space.begin_interval();
            }
            match run.place.take() {
                Some((tree, from)) => self.walk(&mut run, tree, from, budget_pages)?,
                None => self.end_pass(&mut run)?,
            }
        };
        if progress != CompactProgress::Done {
            self.compaction = Some(run);
        }
        Ok(progress)
    }

    fn has_ended(&self, wait: Option<Wait>) -> bool {
        match wait {
            None => true,
            Some(Wait::Txn(txn)) => self.durable.root.txn >= txn,
            Some(Wait::After(sequence)) => self.durable.sequence > sequence,
        }
    }

    fn begin_pass(&mut self, before: Option<Extent>) -> Result<Compaction, StorageError> {
        self.release_unpinned();
        self.draft.space.begin_interval();
        let live = self.extent()?.live_pages;
        let end = self.space().end();
        Ok(Compaction {
            place: Some((TreeId::new(0), Vec::new())),
            target: live + live / SPARE_ONE_IN + SPARE_PAGES,
            // Room for leaves that are joined while the old ones are still held.
            ceiling: end + end / 8 + SPARE_PAGES,
            waits_for: None,
            was_blocked: false,
            stops_for_room: true,
            written_pages: 0,
            pass_pages: 0,
            before,
            cuts: 0,
        })
    }

    fn extent(&mut self) -> Result<Extent, StorageError> {
        self.load_tail()?;
        let space = self.space();
        let live_pages = space.end() - space.waiting_pages() - space.free_pages();
        Ok(Extent { file_pages: space.end() - space.tail_pages(), live_pages })
    }

    /// One commit of the walk.
    fn walk(
        &mut self,
        run: &mut Compaction,
        mut tree: TreeId,
        mut from: Vec<u8>,
        budget_pages: u32,
    ) -> Result<CompactProgress, StorageError> {
        let mut walk = Walk::new(Limits {
            target: run.target,
            ceiling: run.ceiling,
            budget_pages: budget_pages.into(),
            stops_for_room: run.stops_for_room,
        });
        let guard = &pin();
        let mut txn = self.begin();
        run.place = loop {
            let goes_on = txn.change(tree, |draft, tree| walk.step(draft, tree, &from, guard))?;
            match (walk.next.take(), tree.index() + 1) {
                (Some(key), _) => from = key,
                (None, TREES) => break None,
                (None, next) => (tree, from) = (TreeId::new(next as u8), Vec::new()),
            }
            if !goes_on {
                break Some((tree, from));
            }
        };
        let written = txn.made_pages();
        txn.commit()?;
        run.written_pages += written;
        run.pass_pages += written;
        if walk.is_blocked {
            // The wait before this one was in vain, so another would be: the rest of the pass does
            // what it can.
            run.stops_for_room = !run.was_blocked || run.written_pages >= WORTH_WAITING_PAGES;
        }
        if walk.is_blocked && run.stops_for_room || run.written_pages >= WAIT_AFTER_PAGES {
            run.was_blocked = walk.is_blocked;
            return Ok(self.wait(run));
        }
        Ok(CompactProgress::Stepped)
    }

    /// Waits for a checkpoint of everything committed so far.
    fn wait(&self, run: &mut Compaction) -> CompactProgress {
        run.written_pages = 0;
        run.waits_for = Some(Wait::Txn(self.root().txn));
        if self.has_ended(run.waits_for) {
            CompactProgress::Stepped
        } else {
            CompactProgress::NeedsCheckpoint
        }
    }

    /// Decides what follows a pass, when what it replaced is free: another, or the cut.
    fn end_pass(&mut self, run: &mut Compaction) -> Result<CompactProgress, StorageError> {
        let wrote = run.pass_pages > 0;
        if wrote && !self.has_ended(Some(Wait::Txn(self.root().txn))) && run.written_pages > 0 {
            return Ok(self.wait(run));
        }
        let now = self.extent()?;
        let near = now.live_pages + (now.live_pages / NEAR_ONE_IN).max(NEAR_PAGES);
        let sum = |extent: Extent| extent.file_pages + extent.live_pages;
        let helped = run.before.is_none_or(|before| {
            let before = sum(before);
            sum(now) + before / HELPED_ONE_IN <= before
        });
        if wrote && helped && now.file_pages > near {
            *run = self.begin_pass(Some(now))?;
            return Ok(CompactProgress::Stepped);
        }
        if self.space().tail_pages() > TAIL_WORTH_CUTTING_PAGES && run.cuts < CUTS {
            run.cuts += 1;
            run.waits_for = Some(Wait::After(self.durable.sequence));
            return Ok(CompactProgress::NeedsCheckpoint);
        }
        Ok(CompactProgress::Done)
    }
}
