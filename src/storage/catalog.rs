//! The catalog: the tree of trees.
//!
//! A store holds any number of trees by name. The catalog maps a name to where its tree is:
//! reference to the root (20 bytes), then the number of entries (u64); a tree that holds nothing is
//! not in it. The catalog's own place is in the meta page, encoded the same way.

use crate::storage::btree;
use crate::storage::error::StorageError;
use crate::storage::node::MAX_NODE_PAGES;
use crate::storage::page::{PageRef, u64_at};
use crate::storage::pager::Pages;

/// A tree: its root, absent when it holds nothing, and how many entries it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    pub root: Option<PageRef>,
    pub len: u64,
}

impl Tree {
    /// Reference to the root, number of entries.
    pub const ENCODED_BYTES: usize = PageRef::ENCODED_BYTES + 8;

    pub fn encode(&self) -> [u8; Tree::ENCODED_BYTES] {
        let mut bytes = [0; Tree::ENCODED_BYTES];
        if let Some(root) = self.root {
            root.encode(&mut bytes);
        }
        bytes[PageRef::ENCODED_BYTES..].copy_from_slice(&self.len.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Tree {
        let root = Some(PageRef::decode(bytes)).filter(|root| root.number != 0);
        Tree { root, len: u64_at(bytes, PageRef::ENCODED_BYTES) }
    }
}

/// The tree called `name`; an empty one when the catalog does not have it.
pub fn find(pages: &impl Pages, catalog: Tree, name: &str) -> Result<Tree, StorageError> {
    match (catalog.root, btree::get(pages, catalog, name.as_bytes())?) {
        (Some(root), Some(entry)) => read(pages, root, &entry),
        _ => Ok(Tree::default()),
    }
}

/// Reads an entry of the catalog whose root is `root`.
pub fn read(pages: &impl Pages, root: PageRef, entry: &[u8]) -> Result<Tree, StorageError> {
    let tree = (entry.len() == Tree::ENCODED_BYTES).then(|| Tree::decode(entry));
    // The catalog changes with every tree, so its root is the youngest page of all.
    tree.filter(|tree| {
        tree.root.is_some_and(|at| at.birth <= root.birth && at.span <= MAX_NODE_PAGES)
    })
    .ok_or_else(|| {
        let found = format!("the entry {entry:02x?}");
        pages.damaged(root, "a catalog of trees".into(), found)
    })
}
