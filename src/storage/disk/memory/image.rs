//! One file of a memory disk, and what a power cut leaves of it.
//!
//! A file is kept twice: as reads see it, and as the medium holds it. Between the two stand the
//! changes since the last sync, in order. The medium is written sector by sector, in any order, and
//! possibly several times before a sync; so after a power cut each sector holds one of the versions it
//! had since the last sync, whatever its neighbours hold. (A sector never holds the second of two
//! changes without the first: the system writes back whole pages of the present content.) The length
//! is one of those the file had.
//!
//! A power cut by chance draws two moments, `reached` before `begun`: changes before `reached` are all
//! on the medium, changes after `begun` not at all, and those between by a coin per sector. That
//! covers "all of it", "nothing", "up to the third write" and every mixture. A sector may also be torn:
//! a prefix of the next version over the version it holds.
//!
//! Left out: sectors that cannot be read at all, and damage to sectors that were not being written.
//! The first is a failed read and the second a flipped bit, and the disk injects both by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::{Rng, RngCore};

use super::PowerCut;

/// What a device writes as one piece.
const SECTOR_BYTES: u64 = 512;

/// One sector in this many, of those that could be, is torn by a power cut by chance.
const TORN_ONE_IN: u32 = 8;

/// The content of one file. Copies, and the two contents where they are alike, share their bytes until one
/// of them is changed.
#[derive(Clone, Default)]
pub(super) struct FileImage {
    /// What reads return.
    live: Arc<Vec<u8>>,
    /// What the medium is known to hold.
    durable: Arc<Vec<u8>>,
    /// What happened since the last sync, oldest first.
    unsynced: Vec<Change>,
}

/// A write, or a change of length: cutting a file writes zeros over its end, then sets the length.
#[derive(Clone)]
struct Change {
    offset: u64,
    data: Arc<[u8]>,
    len_after: u64,
}

impl FileImage {
    /// A file whose content is durable.
    pub fn durable(content: Vec<u8>) -> FileImage {
        let content = Arc::new(content);
        FileImage { live: content.clone(), durable: content, unsynced: Vec::new() }
    }

    pub fn live(&self) -> &[u8] {
        &self.live
    }

    pub fn len(&self) -> u64 {
        self.live.len() as u64
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let len_after = self.len().max(offset + data.len() as u64);
        self.change(Change { offset, data: data.into(), len_after });
    }

    pub fn set_len(&mut self, len: u64) {
        let cut = self.len().saturating_sub(len) as usize;
        self.change(Change { offset: len, data: vec![0; cut].into(), len_after: len });
    }

    fn change(&mut self, change: Change) {
        change.apply(Arc::make_mut(&mut self.live));
        self.unsynced.push(change);
    }

    /// Everything written so far is on the medium.
    pub fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(Arc::make_mut(&mut self.durable));
        }
    }

    /// A failed sync after which the system takes the pages for clean: reads still see what was
    /// written, no later sync will write it.
    pub fn forget_unsynced(&mut self) {
        self.unsynced.clear();
    }

    /// Flips a bit on the medium and in what reads see.
    pub fn flip_bit(&mut self, offset: u64, bit: u8) {
        for content in [&mut self.live, &mut self.durable] {
            if let Some(byte) = Arc::make_mut(content).get_mut(offset as usize) {
                *byte ^= 1 << bit;
            }
        }
    }

    /// What the medium holds after the power is back.
    pub fn crash(&mut self, cut: &mut PowerCut<'_>) {
        match cut {
            PowerCut::KeepNone => self.unsynced.clear(),
            PowerCut::KeepAll => self.sync(),
            PowerCut::ByChance(chance) => self.crash_by_chance(*chance),
        }
        self.live = self.durable.clone();
    }

    fn crash_by_chance(&mut self, chance: &mut dyn RngCore) {
        let changes = std::mem::take(&mut self.unsynced);
        let begun = chance.random_range(0..=changes.len());
        let reached = chance.random_range(0..=begun);
        let len_at = |moment: usize| match moment {
            0 => self.durable.len() as u64,
            _ => changes[moment - 1].len_after,
        };
        let len = len_at(chance.random_range(reached..=begun));

        let mut versions: BTreeMap<u64, SectorVersions<'_>> = BTreeMap::new();
        for (moment, change) in changes[..begun].iter().enumerate() {
            for (offset, piece) in change.sectors() {
                let sector = versions.entry(offset / SECTOR_BYTES).or_default();
                sector.pieces.push((offset, piece));
                if moment < reached {
                    sector.reached = sector.pieces.len();
                }
            }
        }
        let durable = Arc::make_mut(&mut self.durable);
        for sector in versions.values() {
            let kept = chance.random_range(sector.reached..=sector.pieces.len());
            for (offset, piece) in &sector.pieces[..kept] {
                overwrite(durable, *offset, piece);
            }
            if let Some((offset, piece)) = sector.pieces.get(kept)
                && chance.random_ratio(1, TORN_ONE_IN)
            {
                let torn = chance.random_range(0..piece.len());
                overwrite(durable, *offset, &piece[..torn]);
            }
        }
        durable.resize(len as usize, 0);
    }
}

/// The pieces written to one sector since the last sync, oldest first.
#[derive(Default)]
struct SectorVersions<'a> {
    pieces: Vec<(u64, &'a [u8])>,
    /// So many of them are certainly on the medium.
    reached: usize,
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        overwrite(content, self.offset, &self.data);
        content.resize(self.len_after as usize, 0);
    }

    /// The change cut at sector boundaries, with the offset of each piece.
    fn sectors(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut offset = self.offset;
        let mut rest = &self.data[..];
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let room = (SECTOR_BYTES - offset % SECTOR_BYTES) as usize;
            let (piece, after) = rest.split_at(room.min(rest.len()));
            let at = offset;
            offset += piece.len() as u64;
            rest = after;
            Some((at, piece))
        })
    }
}

/// Writes `data` at `offset`, growing `content` with zeros when it ends before.
fn overwrite(content: &mut Vec<u8>, offset: u64, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let start = offset as usize;
    let end = start + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[start..end].copy_from_slice(data);
}
