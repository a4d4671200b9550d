//! The scrub: pages that nobody reads are read and verified, a piece at a time.
//!
//! A medium may lose bits of a page that is never read, until the page is needed and the last good copy elsewhere is
//! gone. So somebody walks all trees of the durable root in key order and reads each page from the disk past the
//! cache, whose copies are good for as long as they live and prove nothing. [`super::log::scrub`] does the same for
//! the log.
//!
//! Between two steps a [`Scrub`] has only a tree and a key, as a compaction has: it pins nothing, and means the
//! same whatever was written meanwhile. Each step walks down again from the root that is durable by then, at the
//! price of reading the few branches above its place once more.
//!
//! What is damaged is told, never mended: peers know what belongs there. The walk goes on behind it. Nothing is served of a
//! damaged page in any case, since whoever loads one verifies it, too.
//!
//! Left out: the map of free space, which checkpoints read, and the meta pages, which they write.

use crate::storage::error::StorageError;
use crate::storage::node::{Cell, Node, Payload};
use crate::storage::page::{self, PageKind, PageRef};
use crate::storage::pager::Pager;
use crate::storage::root::TreeId;
use crate::storage::snapshot::Snapshot;
use crate::storage::walk::{Damage, KeySpan};

/// Where a pass is: a tree, and the key from which on it is not verified yet.
#[derive(Debug, Default)]
pub struct Scrub {
    tree: usize,
    from: Vec<u8>,
}

/// What a step did.
#[derive(Debug, Default)]
pub struct Scrubbed {
    pub read_bytes: u64,
    pub damages: Vec<Damage>,
    /// Whether all trees were walked; the next step begins a pass.
    pub is_pass_done: bool,
}

impl Scrub {
    /// Verifies pages of `state`, all of which must be on the disk, until about `most_bytes` were read.
    pub fn step(&mut self, state: &Snapshot, most_bytes: u64) -> Scrubbed {
        let mut done = Scrubbed::default();
        while let Some(id) = TreeId::all().nth(self.tree) {
            if done.read_bytes >= most_bytes {
                return done;
            }
            let from = std::mem::take(&mut self.from);
            let mut visit =
                Visit { pager: state.pager(), id, from: &from, most_bytes, done: &mut done };
            let root = state.tree_root(id);
            match root.and_then(|root| visit.node(root, None, &Between::default())) {
                Some(key) => {
                    self.from = key;
                    return done;
                }
                None => self.tree += 1,
            }
        }
        *self = Scrub::default();
        Scrubbed { is_pass_done: true, ..done }
    }
}

/// A step in one tree.
struct Visit<'a> {
    pager: &'a Pager,
    id: TreeId,
    from: &'a [u8],
    most_bytes: u64,
    done: &'a mut Scrubbed,
}

/// The keys that a page concerns: from `low` on, below `high`.
#[derive(Clone, Default)]
struct Between {
    low: Vec<u8>,
    high: Option<Vec<u8>>,
}

impl Visit<'_> {
    /// Verifies what is at `at` and below; the key at which to go on, if the bytes ran out.
    fn node(&mut self, at: PageRef, level: Option<u8>, between: &Between) -> Option<Vec<u8>> {
        let bytes = self.read(at, between)?;
        if !matches!(page::kind(&bytes), PageKind::Leaf | PageKind::Branch) {
            let found = format!("a {:?}", page::kind(&bytes));
            return self.note(at, "a node", found, between);
        }
        let node = Node::of(&bytes);
        if let Some(level) = level.filter(|&level| level != node.level()) {
            let found = format!("level {}", node.level());
            return self.note(at, &format!("a node of level {level}"), found, between);
        }
        match node.is_leaf() {
            true => self.values(&node),
            false => self.children(&node, between),
        }
    }

    fn children(&mut self, node: &Node<'_>, between: &Between) -> Option<Vec<u8>> {
        let keys = node.keys();
        for slot in 0..node.count() {
            let is_last = slot + 1 == node.count();
            let below = Between {
                low: if slot == 0 { between.low.clone() } else { keys.get(slot).to_vec() },
                high: if is_last {
                    between.high.clone()
                } else {
                    Some(keys.get(slot + 1).to_vec())
                },
            };
            if below.high.as_ref().is_some_and(|high| high[..] <= *self.from) {
                continue;
            }
            if self.is_spent_at(&below.low) {
                return Some(below.low);
            }
            let rest = self.node(node.child(slot), Some(node.level() - 1), &below);
            if rest.is_some() {
                return rest;
            }
        }
        None
    }

    fn values(&mut self, leaf: &Node<'_>) -> Option<Vec<u8>> {
        let keys = leaf.keys();
        let cells = leaf.cells(&keys).filter(|cell| cell.key >= self.from);
        for Cell { key, payload } in cells.collect::<Vec<_>>() {
            let Payload::Outline { head, len_bytes, page: value } = payload else { continue };
            if self.is_spent_at(key) {
                return Some(key.to_vec());
            }
            let one = Between { low: key.to_vec(), high: Some([key, &[0]].concat()) };
            let Some(bytes) = self.read(value, &one) else { continue };
            let (kind, len) = (page::kind(&bytes), len_bytes as usize - head.len());
            if kind != PageKind::Value || page::payload_range(&bytes).len() != len {
                self.note(value, &format!("a value of {len} bytes"), format!("a {kind:?}"), &one);
            }
        }
        None
    }

    /// Whether to go on another time at `key`. Never where this step began, so that each gets somewhere.
    fn is_spent_at(&self, key: &[u8]) -> bool {
        self.done.read_bytes >= self.most_bytes && key > self.from
    }

    /// The page from the disk; none, and a damage, if it is not what it should be.
    fn read(&mut self, at: PageRef, between: &Between) -> Option<Vec<u8>> {
        self.done.read_bytes += at.len_bytes() as u64;
        match self.pager.read(at) {
            Ok(page) => Some(page.bytes().to_vec()),
            Err(error) => self.keep(at, error, between),
        }
    }

    fn note(
        &mut self,
        at: PageRef,
        expected: &str,
        found: String,
        between: &Between,
    ) -> Option<Vec<u8>> {
        self.keep(at, self.pager.damaged(at, expected.to_owned(), found), between)
    }

    fn keep(&mut self, at: PageRef, error: StorageError, between: &Between) -> Option<Vec<u8>> {
        let Between { low, high } = between.clone();
        let tree = Some((self.id, KeySpan { low, high }));
        self.done.damages.push(Damage { error, page: at.number, tree });
        None
    }
}
