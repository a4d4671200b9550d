//! The consistency check: every page of the newest root, read and accounted for.
//!
//! It walks all trees and checks what no single page can show: keys lie between the
//! separators above them, leaves are at one depth, values have their lengths, trees their counts;
//! and every page of the file is exactly one of live, waiting for a holder, or free, so none is
//! used twice and none is lost. Clean pages are read from the disk past the cache, so that their
//! checksums count. Tests run it after every commit; an operator, on a store that came under doubt.
//!
//! It keeps a mark per extent in memory and reads the whole file, on the writer's side.

use std::collections::{BTreeMap, BTreeSet};

use crate::storage::cache::pin;
use crate::storage::error::StorageError;
use crate::storage::meta::META_PAGES;
use crate::storage::node::{Node, Payload};
use crate::storage::page::{self, PageKind, PageRef};
use crate::storage::pager::Pages;
use crate::storage::root::{Tree, TreeId};
use crate::storage::store::Store;

/// What a sound store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    pub entries: u64,
    pub leaves: u64,
    pub branches: u64,
    /// Values that lie in pages of their own.
    pub values: u64,
    /// Bytes used in leaves and branches, and bytes those take.
    pub node_used_bytes: u64,
    pub node_bytes: u64,
}

impl Store {
    /// Checks the newest root. The first thing wrong is the error.
    pub fn check(&mut self) -> Result<CheckReport, StorageError> {
        self.draft.space.load_all(&*self.pager)?;
        let in_flight = self.in_flight.iter().flat_map(|flight| flight.pages.iter());
        let mut walk = Walk {
            store: self,
            dirty: self.dirty.iter().chain(in_flight).collect(),
            claims: BTreeMap::new(),
            report: CheckReport::default(),
        };
        for id in TreeId::all() {
            walk.tree(self.root().tree(id))?;
        }
        walk.account()?;
        Ok(walk.report)
    }
}

struct Walk<'a> {
    store: &'a Store,
    /// Pages that are in memory only.
    dirty: BTreeSet<PageRef>,
    /// Pages accounted for: first number to how many, and as what.
    claims: BTreeMap<u64, (u64, &'static str)>,
    report: CheckReport,
}

/// The keys that a node may hold: from `low` on, below `high`.
#[derive(Clone, Copy)]
struct Between<'k> {
    low: &'k [u8],
    high: Option<&'k [u8]>,
}

impl Walk<'_> {
    fn tree(&mut self, tree: Tree) -> Result<(), StorageError> {
        let Some(root) = tree.root else { return Ok(()) };
        let found = self.node(root, None, Between { low: &[], high: None })?;
        if found != tree.len {
            return Err(self.wrong(root, format!("{} entries", tree.len), format!("{found}")));
        }
        self.report.entries += found;
        Ok(())
    }

    /// Checks the tree under `at`; returns how many entries it holds.
    fn node(
        &mut self,
        at: PageRef,
        level: Option<u8>,
        between: Between<'_>,
    ) -> Result<u64, StorageError> {
        let bytes = self.load(at)?;
        if !matches!(page::kind(&bytes), PageKind::Leaf | PageKind::Branch) {
            return Err(self.wrong(at, "a node".into(), format!("a {:?}", page::kind(&bytes))));
        }
        Node::validate(&bytes).map_err(|found| self.wrong(at, "a sound node".into(), found))?;
        let node = Node::of(&bytes);
        if level.is_some_and(|level| level != node.level()) {
            let found = format!("level {}", node.level());
            return Err(self.wrong(at, format!("a node of level {level:?}"), found));
        }
        self.report.node_used_bytes += node.used_bytes() as u64;
        self.report.node_bytes += at.len_bytes() as u64;
        if node.is_leaf() {
            self.report.leaves += 1;
            return self.leaf(at, &node, between);
        }
        self.report.branches += 1;
        let mut count = 0;
        let keys = node.keys();
        for slot in 0..node.count() {
            let last = slot + 1 == node.count();
            let below = Between {
                low: if slot == 0 { between.low } else { keys.get(slot) },
                high: if last { between.high } else { Some(keys.get(slot + 1)) },
            };
            if below.low < between.low || below.high.is_none_or(|high| high <= below.low) && !last {
                let found = format!("separator {slot} outside of it");
                return Err(self.wrong(at, "separators between those above".into(), found));
            }
            count += self.node(node.child(slot), Some(node.level() - 1), below)?;
        }
        Ok(count)
    }

    fn leaf(
        &mut self,
        at: PageRef,
        leaf: &Node<'_>,
        between: Between<'_>,
    ) -> Result<u64, StorageError> {
        let keys = leaf.keys();
        for cell in leaf.cells(&keys) {
            if cell.key < between.low || between.high.is_some_and(|high| cell.key >= high) {
                let found = format!("the key {}", cell.key.escape_ascii());
                return Err(self.wrong(at, "keys between the separators above".into(), found));
            }
            if let Payload::Outline { head, len_bytes, page: value } = cell.payload {
                let bytes = self.load(value)?;
                let len = len_bytes as usize - head.len();
                if page::kind(&bytes) != PageKind::Value || page::payload_range(&bytes).len() != len
                {
                    let found = format!("a {:?}", page::kind(&bytes));
                    return Err(self.wrong(value, format!("a value of {len} bytes"), found));
                }
                self.report.values += 1;
            }
        }
        Ok(leaf.count() as u64)
    }

    /// The page as it is committed: from memory when dirty, else from the disk.
    fn load(&mut self, at: PageRef) -> Result<Vec<u8>, StorageError> {
        self.claim(at, "live")?;
        match self.dirty.contains(&at) {
            true => Ok(self.store.pager.page(at, &pin())?.to_vec()),
            false => Ok(self.store.pager.read(at)?.bytes().to_vec()),
        }
    }

    fn claim(&mut self, page: PageRef, what: &'static str) -> Result<(), StorageError> {
        match self.claims.insert(page.number, (u64::from(page.span), what)) {
            None => Ok(()),
            Some((_, other)) => {
                Err(self.wrong(page, format!("a {what} page"), format!("a {other} one")))
            }
        }
    }

    /// Checks that the pages of the file are each accounted for once.
    fn account(&mut self) -> Result<(), StorageError> {
        let space = self.store.space();
        for page in space.map_pages() {
            self.claim(page, "map")?;
        }
        for page in space.waiting() {
            self.claim(page, "waiting")?;
        }
        for (start, pages) in space.free_runs() {
            self.claim(PageRef { number: start, birth: 0, span: 0 }, "free")?;
            self.claims.insert(start, (pages, "free"));
        }
        let mut at = META_PAGES;
        for (&start, &(pages, what)) in &self.claims {
            if start != at {
                let place = PageRef { number: at.min(start), birth: 0, span: 0 };
                let found = format!("a {what} one at page {start}");
                return Err(self.wrong(place, format!("an extent at page {at}"), found));
            }
            at = start + pages;
        }
        if at != space.end() {
            let place = PageRef { number: at, birth: 0, span: 0 };
            let found = format!("the end at page {}", space.end());
            return Err(self.wrong(place, "an extent".into(), found));
        }
        Ok(())
    }

    fn wrong(&self, at: PageRef, expected: String, found: String) -> StorageError {
        self.store.pager.damaged(at, expected, found)
    }
}
