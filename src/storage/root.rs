//! Roots: what a commit makes, and a checkpoint makes durable.
//!
//! A store holds a fixed number of trees by [`TreeId`], and a few bytes of its user's own
//! (*facts*): what must change together with the data and is read with every snapshot, like a
//! revision, without a search in a tree. Both stand in the root itself, and all of it fits the one
//! sector of a meta page that a disk writes atomically.

use crate::storage::page::{PageRef, TxnId, u64_at};

/// Trees in a store.
pub const TREES: usize = 10;

/// Bytes of facts.
pub const FACTS_BYTES: usize = 64;

/// Names a tree of a store: a number below `TREES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeId(u8);

impl TreeId {
    /// # Panics
    /// When there is no such tree: the numbers are constants of the store's user.
    pub const fn new(number: u8) -> TreeId {
        assert!((number as usize) < TREES, "there are only so many trees");
        TreeId(number)
    }

    /// All trees.
    pub fn all() -> impl Iterator<Item = TreeId> {
        (0..TREES as u8).map(TreeId)
    }

    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// What the user of a store keeps in its root.
pub type Facts = [u8; FACTS_BYTES];

/// A tree: its root, absent when it holds nothing, and how many entries it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    pub root: Option<PageRef>,
    pub len: u64,
}

impl Tree {
    /// Reference to the root (zeros: none), number of entries u64.
    pub const ENCODED_BYTES: usize = PageRef::ENCODED_BYTES + 8;

    pub fn encode(&self, out: &mut [u8]) {
        if let Some(root) = self.root {
            root.encode(out);
        }
        out[PageRef::ENCODED_BYTES..][..8].copy_from_slice(&self.len.to_le_bytes());
    }

    pub fn decode(bytes: &[u8]) -> Tree {
        let root = Some(PageRef::decode(bytes)).filter(|root| root.number != 0);
        Tree { root, len: u64_at(bytes, PageRef::ENCODED_BYTES) }
    }
}

/// The state of all trees after transaction `txn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    pub txn: TxnId,
    pub trees: [Tree; TREES],
    pub facts: Facts,
}

impl Root {
    /// The root of a store that holds nothing.
    pub const EMPTY: Root =
        Root { txn: 0, trees: [Tree { root: None, len: 0 }; TREES], facts: [0; FACTS_BYTES] };

    pub fn tree(&self, id: TreeId) -> Tree {
        self.trees[id.index()]
    }

    /// Entries in all trees.
    pub fn entries(&self) -> u64 {
        self.trees.iter().map(|tree| tree.len).sum()
    }
}
