//! The consistency check: every page of the newest root, read and accounted for.
//!
//! It walks the catalog and all trees and checks what no single page can show: keys lie between the
//! separators above them, leaves are at one depth, values have their lengths, trees their counts;
//! and every page of the file is exactly one of live, waiting for a holder, or free, so none is
//! used twice and none is lost. Clean pages are read from the disk past the cache, so that their
//! checksums count. Tests run it after every commit; an operator, on a store that came under doubt.
//!
//! It keeps a mark per extent in memory and reads the whole file, on the writer's side.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::storage::catalog::{self, Tree};
use crate::storage::error::StorageError;
use crate::storage::meta::META_PAGES;
use crate::storage::node::{Node, Payload};
use crate::storage::page::{Page, PageKind, PageRef};
use crate::storage::pager::Pages;
use crate::storage::store::Store;

/// What a sound store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    pub trees: u64,
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
    pub fn check(&self) -> Result<CheckReport, StorageError> {
        let mut walk =
            Walk { store: self, claims: BTreeMap::new(), report: CheckReport::default() };
        let catalog = self.root().catalog;
        let mut trees = Vec::new();
        walk.tree(catalog, &mut |entry| trees.push(entry.to_vec()))?;
        for entry in trees {
            let root = catalog.root.expect("a catalog with entries has a root");
            let tree = catalog::read(&*self.pager, root, &entry)?;
            walk.tree(tree, &mut |_| ())?;
            walk.report.trees += 1;
            walk.report.entries += tree.len;
        }
        walk.account()?;
        Ok(walk.report)
    }
}

struct Walk<'a> {
    store: &'a Store,
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
    fn tree(&mut self, tree: Tree, value: &mut dyn FnMut(&[u8])) -> Result<(), StorageError> {
        let Some(root) = tree.root else { return Ok(()) };
        let all = Between { low: &[], high: None };
        let found = self.node(root, None, all, value)?;
        if found != tree.len {
            return Err(self.wrong(root, format!("{} entries", tree.len), format!("{found}")));
        }
        Ok(())
    }

    /// Checks the tree under `at`; returns how many entries it holds.
    fn node(
        &mut self,
        at: PageRef,
        level: Option<u8>,
        between: Between<'_>,
        value: &mut dyn FnMut(&[u8]),
    ) -> Result<u64, StorageError> {
        let page = self.load(at)?;
        if !matches!(page.kind(), PageKind::Leaf | PageKind::Branch) {
            return Err(self.wrong(at, "a node".into(), format!("a {:?}", page.kind())));
        }
        Node::validate(&page).map_err(|found| self.wrong(at, "a sound node".into(), found))?;
        let node = Node::of(&page);
        if level.is_some_and(|level| level != node.level()) {
            let found = format!("level {}", node.level());
            return Err(self.wrong(at, format!("a node of level {level:?}"), found));
        }
        self.report.node_used_bytes += node.used_bytes() as u64;
        self.report.node_bytes += at.len_bytes() as u64;
        if node.is_leaf() {
            self.report.leaves += 1;
            return self.leaf(at, &node, between, value);
        }
        self.report.branches += 1;
        let mut count = 0;
        for slot in 0..node.count() {
            let last = slot + 1 == node.count();
            let below = Between {
                low: if slot == 0 { between.low } else { node.key(slot) },
                high: if last { between.high } else { Some(node.key(slot + 1)) },
            };
            if below.low < between.low || below.high.is_none_or(|high| high <= below.low) && !last {
                let found = format!("separator {slot} outside of it");
                return Err(self.wrong(at, "separators between those above".into(), found));
            }
            count += self.node(node.child(slot), Some(node.level() - 1), below, value)?;
        }
        Ok(count)
    }

    fn leaf(
        &mut self,
        at: PageRef,
        leaf: &Node<'_>,
        between: Between<'_>,
        value: &mut dyn FnMut(&[u8]),
    ) -> Result<u64, StorageError> {
        for cell in leaf.cells() {
            if cell.key < between.low || between.high.is_some_and(|high| cell.key >= high) {
                let found = format!("the key {}", cell.key.escape_ascii());
                return Err(self.wrong(at, "keys between the separators above".into(), found));
            }
            match cell.payload {
                Payload::Inline(bytes) => value(bytes),
                Payload::Value { page, len_bytes } => {
                    let loaded = self.load(page)?;
                    if loaded.kind() != PageKind::Value
                        || loaded.payload().len() != len_bytes as usize
                    {
                        let found = format!("a {:?}", loaded.kind());
                        return Err(self.wrong(
                            page,
                            format!("a value of {len_bytes} bytes"),
                            found,
                        ));
                    }
                    self.report.values += 1;
                }
                Payload::Child(_) => unreachable!("leaves have no children"),
            }
        }
        Ok(leaf.count() as u64)
    }

    /// The page as it is committed: from memory when dirty, else from the disk.
    fn load(&mut self, at: PageRef) -> Result<Arc<Page>, StorageError> {
        self.claim(at, "live")?;
        match self.store.dirty.get(&at.number) {
            Some(page) if page.reference() == at => Ok(Arc::clone(page)),
            Some(page) => Err(self.wrong(at, at.to_string(), page.reference().to_string())),
            None => self.store.pager.read(at).map(Arc::new),
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
        let metas = std::iter::once(&self.store.durable).chain(&self.store.in_flight);
        for freelist in metas.filter_map(|meta| meta.freelist) {
            self.claim(freelist, "free list")?;
        }
        for page in space.waiting() {
            self.claim(page, "waiting")?;
        }
        for (start, pages) in space.runs() {
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
