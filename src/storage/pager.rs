//! The pager: pages by reference, from memory or, verified, from the disk.
//!
//! Readers and the writer share one [`Pager`]. It never writes: dirty pages enter the table by a
//! commit ([`super::store`]) and reach the disk by a checkpoint ([`super::checkpoint`]).
//!
//! A page that comes from the disk is checked against its reference (number, birth, span), its
//! checksum and, for a node, the structure of its cells, once; everything above may then index into
//! it freely. Whatever does not check out becomes [`StorageError::Corrupt`] with file and offset.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::storage::cache::{MAX_PAGES, PageTable};
use crate::storage::disk::DiskFile;
use crate::storage::error::StorageError;
use crate::storage::meta::META_PAGES;
use crate::storage::node::{MAX_NODE_PAGES, Node, Payload};
use crate::storage::page::{Page, PageKind, PageRef};

/// Where the tree algorithms get their pages: a committed root's, or a transaction's own.
pub trait Pages {
    /// The page that `at` refers to.
    fn page(&self, at: PageRef) -> Result<Arc<Page>, StorageError>;

    /// An error about the page at `at`.
    fn damaged(&self, at: PageRef, expected: String, found: String) -> StorageError;

    /// The node that `at` refers to, found under a parent at `level + 1`. Levels fall by one on each
    /// step, so a walk down ends even in a tree whose references go in a circle.
    fn child(&self, at: PageRef, level: u8) -> Result<Arc<Page>, StorageError> {
        let page = self.node(at)?;
        let found = Node::of(&page).level();
        if found != level {
            let expected = format!("a node of level {level}");
            return Err(self.damaged(at, expected, format!("level {found}")));
        }
        Ok(page)
    }

    /// The node that `at` refers to, a tree's root.
    fn node(&self, at: PageRef) -> Result<Arc<Page>, StorageError> {
        let page = self.page(at)?;
        match page.kind() {
            PageKind::Leaf | PageKind::Branch => Ok(page),
            other => Err(self.damaged(at, "a leaf or a branch".into(), format!("a {other:?}"))),
        }
    }

    /// The value of a leaf's cell that lies in a page of its own.
    fn value(&self, at: PageRef, len_bytes: u32) -> Result<Bytes, StorageError> {
        let page = self.page(at)?;
        if page.kind() != PageKind::Value || page.payload().len() != len_bytes as usize {
            let found = format!("a {:?} of {} pages", page.kind(), at.span);
            return Err(self.damaged(at, format!("a value of {len_bytes} bytes"), found));
        }
        Ok(page.view(page.payload_range()))
    }

    /// The value of the leaf's cell at `slot`, without a copy.
    fn value_of(&self, leaf: &Arc<Page>, slot: usize) -> Result<Bytes, StorageError> {
        match Node::of(leaf).cell(slot).payload {
            Payload::Inline(value) => {
                let start = Node::of(leaf).key_range(slot).end;
                Ok(leaf.view(start..start + value.len()))
            }
            Payload::Value { page, len_bytes } => self.value(page, len_bytes),
            Payload::Child(_) => unreachable!("leaves have no children"),
        }
    }
}

impl<P: Pages> Pages for &P {
    fn page(&self, at: PageRef) -> Result<Arc<Page>, StorageError> {
        (**self).page(at)
    }

    fn damaged(&self, at: PageRef, expected: String, found: String) -> StorageError {
        (**self).damaged(at, expected, found)
    }
}

/// One file's pages.
pub struct Pager {
    file: Arc<dyn DiskFile>,
    /// The file's full name, for messages.
    location: String,
    pub(super) table: PageTable,
}

impl Pager {
    /// `cache_bytes` bounds the clean pages kept in memory.
    pub fn new(file: Arc<dyn DiskFile>, location: String, cache_bytes: usize) -> Pager {
        Pager { file, location, table: PageTable::new(cache_bytes) }
    }

    pub fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    pub fn location(&self) -> &str {
        &self.location
    }

    /// Reads a page from the disk past the table, and verifies it.
    pub fn read(&self, at: PageRef) -> Result<Page, StorageError> {
        // A value's span comes from the disk too: before so much memory is taken, the file must
        // be as long. For a node, whose span is bounded, the read itself tells.
        if at.span > MAX_NODE_PAGES {
            let len = self.file.len().map_err(|source| self.io("read the length", at, source))?;
            if len < at.offset() + at.len_bytes() as u64 {
                return Err(self.damaged(at, at.to_string(), format!("a file of {len} bytes")));
            }
        }
        let mut bytes = vec![0; at.len_bytes()];
        self.file.read_at(at.offset(), &mut bytes).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => {
                self.damaged(at, at.to_string(), "the end of the file".into())
            }
            _ => self.io("read", at, source),
        })?;
        let page = Page::verify(bytes, at)
            .map_err(|wrong| self.damaged(at, wrong.expected, wrong.found))?;
        if matches!(page.kind(), PageKind::Leaf | PageKind::Branch) {
            Node::validate(&page)
                .map_err(|wrong| self.damaged(at, "a well-formed node".into(), wrong))?;
        }
        Ok(page)
    }

    fn io(&self, action: &'static str, at: PageRef, source: io::Error) -> StorageError {
        StorageError::Io { file: self.location.clone(), action, offset: at.offset(), source }
    }
}

impl Pages for Pager {
    fn page(&self, at: PageRef) -> Result<Arc<Page>, StorageError> {
        if at.number < META_PAGES || at.span == 0 || at.end() > MAX_PAGES {
            return Err(self.damaged(at, "a reference to a page".into(), at.to_string()));
        }
        let page = match self.table.get(at.number) {
            Some(page) => page,
            None => self.table.install(at.number, Arc::new(self.read(at)?)),
        };
        if page.reference() != at {
            let found = page.reference().to_string();
            return Err(self.damaged(at, at.to_string(), found));
        }
        Ok(page)
    }

    fn damaged(&self, at: PageRef, expected: String, found: String) -> StorageError {
        StorageError::Corrupt { file: self.location.clone(), offset: at.offset(), expected, found }
    }
}
