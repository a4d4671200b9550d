//! A walk over whole trees: every page read, checked and accounted for.
//!
//! Beyond what a single page shows, it checks that keys lie between the separators above them, that
//! leaves are at one depth, that values have their lengths and trees their counts; and that every page
//! of the file is exactly one of live, waiting for a holder, or free, so that none is used twice and
//! none is lost. Pages come from the disk past the cache, so that their checksums count.
//!
//! Damage does not end it. What hangs below a damaged page cannot be read; the walk names the keys that
//! are affected and goes on beside it. After that nobody can say which pages are lost, so it does not.
//!
//! It keeps a mark per extent in memory.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::storage::cache::pin;
use crate::storage::error::StorageError;
use crate::storage::freemap::Freemap;
use crate::storage::meta::META_PAGES;
use crate::storage::node::{Node, Payload};
use crate::storage::page::{self, PageKind, PageRef};
use crate::storage::pager::{Pager, Pages};
use crate::storage::root::{Tree, TreeId};

/// Damages that are kept; of more than that only the number is. One needs two keys of up to 4 KiB.
const MAX_DAMAGES: usize = 1_000;

/// What a tree is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeShape {
    pub entries: u64,
    /// Its levels, the leaves first.
    pub levels: Vec<LevelShape>,
    /// Values that lie in pages of their own, and how many pages those take.
    pub values: u64,
    pub value_pages: u64,
}

/// The nodes at one distance from the leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelShape {
    pub nodes: u64,
    /// Bytes that the nodes take, and those of them that are used.
    pub node_bytes: u64,
    pub used_bytes: u64,
    pub cells: u64,
    /// Whole keys of all cells, and of all nodes what their keys begin with.
    pub key_bytes: u64,
    pub prefix_bytes: u64,
}

/// Keys from `low` on, below `high`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpan {
    pub low: Vec<u8>,
    pub high: Option<Vec<u8>>,
}

/// Something that is not as it should be.
#[derive(Debug)]
pub struct Damage {
    /// Where, what was expected there and what found.
    pub error: StorageError,
    /// Number of the page concerned.
    pub page: u64,
    /// The tree that it is a part of, and the keys of it that are affected; none for free space.
    pub tree: Option<(TreeId, KeySpan)>,
}

/// A walk under way.
pub struct Walk<'a> {
    pager: &'a Pager,
    /// Pages that are in memory only.
    dirty: BTreeSet<PageRef>,
    /// Pages accounted for: first number to how many, and as what.
    claims: BTreeMap<u64, (u64, &'static str)>,
    damages: Vec<Damage>,
    damage_count: u64,
}

/// The tree being walked.
struct Visit {
    id: TreeId,
    shape: TreeShape,
}

/// The keys that a node may hold: from `low` on, below `high`.
#[derive(Clone, Copy)]
struct Between<'k> {
    low: &'k [u8],
    high: Option<&'k [u8]>,
}

impl Between<'_> {
    const ALL: Between<'static> = Between { low: &[], high: None };

    fn span(&self) -> KeySpan {
        KeySpan { low: self.low.to_vec(), high: self.high.map(<[u8]>::to_vec) }
    }
}

impl KeySpan {
    fn one(key: &[u8]) -> KeySpan {
        KeySpan { low: key.to_vec(), high: Some([key, &[0]].concat()) }
    }

    /// The key, if there is only one.
    pub fn only(&self) -> Option<&[u8]> {
        let rest = self.high.as_ref()?.strip_prefix(&self.low[..])?;
        (rest == [0]).then_some(&self.low)
    }
}

impl LevelShape {
    /// The part of the nodes' bytes that is used, in percent; 100 without nodes.
    pub fn fill_percent(&self) -> u64 {
        (100 * self.used_bytes).checked_div(self.node_bytes).unwrap_or(100)
    }
}

impl TreeShape {
    /// All levels together.
    pub fn total(&self) -> LevelShape {
        self.levels.iter().fold(LevelShape::default(), |sum, level| LevelShape {
            nodes: sum.nodes + level.nodes,
            node_bytes: sum.node_bytes + level.node_bytes,
            used_bytes: sum.used_bytes + level.used_bytes,
            cells: sum.cells + level.cells,
            key_bytes: sum.key_bytes + level.key_bytes,
            prefix_bytes: sum.prefix_bytes + level.prefix_bytes,
        })
    }

    pub fn leaves(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.nodes)
    }

    pub fn branches(&self) -> u64 {
        self.total().nodes - self.leaves()
    }

    fn count(&mut self, node: &Node<'_>, at: PageRef, key_bytes: usize) {
        let level = usize::from(node.level());
        if self.levels.len() <= level {
            self.levels.resize(level + 1, LevelShape::default());
        }
        let level = &mut self.levels[level];
        level.nodes += 1;
        level.node_bytes += at.len_bytes() as u64;
        level.used_bytes += node.used_bytes() as u64;
        level.cells += node.count() as u64;
        level.key_bytes += key_bytes as u64;
        level.prefix_bytes += node.prefix_len() as u64;
    }
}

impl<'a> Walk<'a> {
    /// Begins a walk over trees of which the pages `dirty` are in memory only.
    pub fn new(pager: &'a Pager, dirty: BTreeSet<PageRef>) -> Walk<'a> {
        Walk { pager, dirty, claims: BTreeMap::new(), damages: Vec::new(), damage_count: 0 }
    }

    /// Walks a tree, and says what it is made of as far as it can be read.
    pub fn tree(&mut self, id: TreeId, tree: Tree) -> TreeShape {
        let mut visit = Visit { id, shape: TreeShape::default() };
        let before = self.damage_count;
        if let Some(root) = tree.root {
            self.node(&mut visit, root, None, Between::ALL);
            let found = visit.shape.entries;
            if found != tree.len && self.damage_count == before {
                let (expected, found) = (format!("{} entries", tree.len), found.to_string());
                self.note(Some((id, Between::ALL.span())), root, expected, found);
            }
        }
        visit.shape
    }

    /// The damages kept, in the order in which they were found, and how many there were.
    pub fn into_damages(self) -> (Vec<Damage>, u64) {
        (self.damages, self.damage_count)
    }

    /// Checks the tree under `at`.
    fn node(&mut self, visit: &mut Visit, at: PageRef, level: Option<u8>, between: Between<'_>) {
        let affected = || Some((visit.id, between.span()));
        let Some(bytes) = self.load(at, affected) else { return };
        let kind = page::kind(&bytes);
        if !matches!(kind, PageKind::Leaf | PageKind::Branch) {
            return self.note(affected(), at, "a node".into(), format!("a {kind:?}"));
        }
        if let Err(found) = Node::validate(&bytes) {
            return self.note(affected(), at, "a sound node".into(), found);
        }
        let node = Node::of(&bytes);
        if let Some(level) = level.filter(|&level| level != node.level()) {
            let found = format!("level {}", node.level());
            return self.note(affected(), at, format!("a node of level {level}"), found);
        }
        let keys = node.keys();
        let key_bytes = (0..node.count()).map(|slot| keys.get(slot).len()).sum();
        visit.shape.count(&node, at, key_bytes);
        if node.is_leaf() {
            return self.leaf(visit, at, &node, between);
        }
        for slot in 0..node.count() {
            let last = slot + 1 == node.count();
            let below = Between {
                low: if slot == 0 { between.low } else { keys.get(slot) },
                high: if last { between.high } else { Some(keys.get(slot + 1)) },
            };
            if below.low < between.low || below.high.is_some_and(|high| high <= below.low) {
                let found = format!("separator {slot} outside of it");
                let expected = "separators between those above".into();
                self.note(Some((visit.id, between.span())), at, expected, found);
            } else {
                self.node(visit, node.child(slot), Some(node.level() - 1), below);
            }
        }
    }

    fn leaf(&mut self, visit: &mut Visit, at: PageRef, leaf: &Node<'_>, between: Between<'_>) {
        let keys = leaf.keys();
        for cell in leaf.cells(&keys) {
            visit.shape.entries += 1;
            let affected = || Some((visit.id, KeySpan::one(cell.key)));
            if cell.key < between.low || between.high.is_some_and(|high| cell.key >= high) {
                let found = format!("the key {}", cell.key.escape_ascii());
                self.note(affected(), at, "keys between the separators above".into(), found);
            }
            let Payload::Outline { head, len_bytes, page: value } = cell.payload else { continue };
            let Some(bytes) = self.load(value, affected) else { continue };
            let (kind, len) = (page::kind(&bytes), len_bytes as usize - head.len());
            if kind != PageKind::Value || page::payload_range(&bytes).len() != len {
                let found = format!("a {kind:?}");
                self.note(affected(), value, format!("a value of {len} bytes"), found);
            }
            visit.shape.values += 1;
            visit.shape.value_pages += u64::from(value.span);
        }
    }

    /// The page as it is committed: from memory when dirty, else from the disk.
    fn load(
        &mut self,
        at: PageRef,
        affected: impl Fn() -> Option<(TreeId, KeySpan)>,
    ) -> Option<Vec<u8>> {
        if !self.claim(at, "live", affected()) {
            return None;
        }
        let loaded = match self.dirty.contains(&at) {
            true => self.pager.page(at, &pin()).map(|page| page.to_vec()),
            false => self.pager.read(at).map(|page| page.bytes().to_vec()),
        };
        loaded.map_err(|error| self.keep(Damage { error, page: at.number, tree: affected() })).ok()
    }

    /// Accounts for a page; says whether it was not yet.
    fn claim(
        &mut self,
        page: PageRef,
        what: &'static str,
        affected: Option<(TreeId, KeySpan)>,
    ) -> bool {
        let other = match self.claims.entry(page.number) {
            Entry::Vacant(place) => {
                place.insert((u64::from(page.span), what));
                return true;
            }
            Entry::Occupied(place) => place.into_mut(),
        };
        other.0 = other.0.max(page.span.into());
        let found = format!("a {} one", other.1);
        self.note(affected, page, format!("a {what} page"), found);
        false
    }

    /// Checks that the pages of the file are each accounted for once, after all trees were walked.
    pub fn account(&mut self, space: &Freemap) {
        let is_whole = self.damage_count == 0;
        for page in space.map_pages() {
            self.claim(page, "map", None);
        }
        for page in space.waiting() {
            self.claim(page, "waiting", None);
        }
        for (number, pages) in space.free_runs() {
            let span = u32::try_from(pages).expect("files have fewer pages");
            self.claim(PageRef { number, birth: 0, span }, "free", None);
        }
        let end = (space.end(), (0, "end"));
        let claims = std::mem::take(&mut self.claims);
        let mut at = META_PAGES;
        for (start, (pages, what)) in claims.into_iter().chain([end]) {
            let place = PageRef { number: at.min(start), birth: 0, span: 1 };
            if start < at {
                let found = format!("page {start} used as {what} as well");
                self.note(None, place, format!("an extent up to page {at}"), found);
            } else if at < start && is_whole && !space.is_unread(at..start) {
                let found = format!("neither up to page {start}");
                self.note(None, place, "live or free pages".into(), found);
            }
            at = at.max(start + pages);
        }
    }

    fn note(
        &mut self,
        tree: Option<(TreeId, KeySpan)>,
        at: PageRef,
        expected: String,
        found: String,
    ) {
        let error = self.pager.damaged(at, expected, found);
        self.keep(Damage { error, page: at.number, tree });
    }

    fn keep(&mut self, damage: Damage) {
        self.damage_count += 1;
        if self.damages.len() < MAX_DAMAGES {
            self.damages.push(damage);
        }
    }
}
