//! The pager: pages by reference, from memory or, verified, from the disk.
//!
//! Readers and the writer share one [`Pager`]. It never writes: dirty pages enter the cache by a
//! commit ([`super::store`]) and reach the disk by a checkpoint ([`super::checkpoint`]).
//!
//! A page that comes from the disk is checked against its reference (number, birth, span), its
//! checksum and, for a node, the structure of its cells, once; everything above may then index into
//! it freely. Whatever does not check out becomes [`StorageError::Corrupt`] with file and offset.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::storage::cache::{Cache, Guard, PageView};
use crate::storage::disk::DiskFile;
use crate::storage::error::{LastDamage, StorageError};
use crate::storage::freemap::MapPages;
use crate::storage::meta::META_PAGES;
use crate::storage::node::{MAX_NODE_PAGES, Node, Payload};
use crate::storage::page::{self, MAX_PAGES, Page, PageKind, PageRef};

/// Where the tree algorithms get their pages: a committed root's, or a transaction's own.
pub trait Pages {
    /// The page that `at` refers to.
    fn page<'g>(&'g self, at: PageRef, guard: &'g Guard) -> Result<PageView<'g>, StorageError>;

    /// Has a page fetched into the processor's cache, if it is in memory: the whole, or what a search
    /// reads first.
    fn prefetch(&self, at: PageRef, is_whole: bool);

    /// An error about the page at `at`.
    fn damaged(&self, at: PageRef, expected: String, found: String) -> StorageError;

    /// The node that `at` refers to, found under a parent at `level + 1`. Levels fall by one on each
    /// step, so a walk down ends even in a tree whose references go in a circle.
    fn child<'g>(
        &'g self,
        at: PageRef,
        level: u8,
        guard: &'g Guard,
    ) -> Result<PageView<'g>, StorageError> {
        let page = self.node(at, guard)?;
        let found = Node::of(&page).level();
        if found != level {
            let expected = format!("a node of level {level}");
            return Err(self.damaged(at, expected, format!("level {found}")));
        }
        Ok(page)
    }

    /// The node that `at` refers to, a tree's root.
    fn node<'g>(&'g self, at: PageRef, guard: &'g Guard) -> Result<PageView<'g>, StorageError> {
        let page = self.page(at, guard)?;
        match page::kind(&page) {
            PageKind::Leaf | PageKind::Branch => Ok(page),
            other => Err(self.damaged(at, "a leaf or a branch".into(), format!("a {other:?}"))),
        }
    }

    /// The value of a leaf's cell.
    fn value(&self, payload: Payload<'_>, guard: &Guard) -> Result<StoredValue, StorageError> {
        match payload {
            Payload::Inline(value) => {
                Ok(StoredValue { head: Bytes::copy_from_slice(value), body: Bytes::new() })
            }
            Payload::Outline { head, len_bytes, page: at } => {
                let body = self.value_page(at, len_bytes as usize - head.len(), guard)?;
                Ok(StoredValue { head: Bytes::copy_from_slice(head), body })
            }
            Payload::Child(_) => unreachable!("leaves have no children"),
        }
    }

    /// The `len_bytes` of a value that lie in a page of their own.
    fn value_page(
        &self,
        at: PageRef,
        len_bytes: usize,
        guard: &Guard,
    ) -> Result<Bytes, StorageError> {
        let page = self.page(at, guard)?;
        let range = page::payload_range(&page);
        if page::kind(&page) != PageKind::Value || range.len() != len_bytes {
            let found = format!("a {:?} of {} pages", page::kind(&page), at.span);
            return Err(self.damaged(at, format!("a value of {len_bytes} bytes"), found));
        }
        Ok(match page {
            PageView::Frame(bytes) => Bytes::copy_from_slice(&bytes[range]),
            PageView::Large(page) => page.view(range),
        })
    }
}

/// A value as it is stored: in the leaf, or a part of it there and the rest elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredValue {
    /// All of a short value; of a long one what its writer asked to keep in the leaf.
    pub head: Bytes,
    /// The rest of a long value; empty for a short one.
    pub body: Bytes,
}

impl StoredValue {
    /// The whole value in one piece.
    pub fn into_bytes(self) -> Bytes {
        match (self.head.is_empty(), self.body.is_empty()) {
            (_, true) => self.head,
            (true, false) => self.body,
            (false, false) => [&self.head[..], &self.body].concat().into(),
        }
    }
}

impl<P: Pages> Pages for &P {
    fn page<'g>(&'g self, at: PageRef, guard: &'g Guard) -> Result<PageView<'g>, StorageError> {
        (**self).page(at, guard)
    }

    fn prefetch(&self, at: PageRef, is_whole: bool) {
        (**self).prefetch(at, is_whole);
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
    cache: Arc<Cache>,
    damage: LastDamage,
}

impl Pager {
    pub fn new(file: Arc<dyn DiskFile>, location: String, cache: Arc<Cache>) -> Pager {
        Pager { file, location, cache, damage: LastDamage::default() }
    }

    pub fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    pub fn location(&self) -> &str {
        &self.location
    }

    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// The last page that was found damaged since the file was opened, as the error said it.
    pub fn damage(&self) -> Option<String> {
        self.damage.get()
    }

    /// Reads a page from the disk past the cache, and verifies it.
    pub fn read(&self, at: PageRef) -> Result<Page, StorageError> {
        self.refuse_impossible(at)?;
        // A value's span comes from the disk too: before so much memory is taken, the file must
        // be as long. For a node, whose span is bounded, the read itself tells.
        if at.span > MAX_NODE_PAGES {
            let len = self.file.len().map_err(|source| self.io("read the length", at, source))?;
            if len < at.offset() + at.len_bytes() as u64 {
                return Err(self.damaged(at, at.to_string(), format!("a file of {len} bytes")));
            }
        }
        let mut bytes = vec![0; at.len_bytes()];
        self.read_into(at, &mut bytes)?;
        Ok(Page::from_verified(bytes))
    }

    /// Fills `bytes` with the page at `at` and verifies it.
    fn read_into(&self, at: PageRef, bytes: &mut [u8]) -> Result<(), StorageError> {
        self.file.read_at(at.offset(), bytes).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => {
                self.damaged(at, at.to_string(), "the end of the file".into())
            }
            _ => self.io("read", at, source),
        })?;
        page::verify(bytes, at).map_err(|wrong| self.damaged(at, wrong.expected, wrong.found))?;
        if matches!(page::kind(bytes), PageKind::Leaf | PageKind::Branch) {
            Node::validate(bytes)
                .map_err(|wrong| self.damaged(at, "a well-formed node".into(), wrong))?;
        }
        Ok(())
    }

    /// The page at `at`, if it is in memory.
    #[inline]
    pub fn cached<'g>(
        &'g self,
        at: PageRef,
        guard: &'g Guard,
    ) -> Result<Option<PageView<'g>>, StorageError> {
        self.cache.get(at, guard).map(|page| self.checked(at, page)).transpose()
    }

    /// A page that was asked for by `at` has to be that page.
    #[inline]
    fn checked<'g>(&self, at: PageRef, page: PageView<'g>) -> Result<PageView<'g>, StorageError> {
        if page::reference(&page) != at {
            let found = page::reference(&page).to_string();
            return Err(self.damaged(at, at.to_string(), found));
        }
        Ok(page)
    }

    /// Brings a page that is not in memory there.
    #[cold]
    fn load<'g>(&'g self, at: PageRef, guard: &'g Guard) -> Result<PageView<'g>, StorageError> {
        self.refuse_impossible(at)?;
        if at.span > 1 {
            let page = Arc::new(self.read(at)?);
            self.keep(&page, guard);
            return Ok(PageView::Large(page));
        }
        let mut frame = self.cache.free_frame(guard);
        self.read_into(at, &mut *frame)?;
        match self.cache.install(at, frame, guard) {
            Some(page) => Ok(page),
            // Evicted again already, or the number is being given to another page, which only a
            // damaged reference leads to.
            None => Ok(PageView::Large(Arc::new(self.read(at)?))),
        }
    }

    /// Enters a page that was read past the cache.
    pub fn keep(&self, page: &Arc<Page>, guard: &Guard) {
        let at = page.reference();
        if at.span > 1 {
            return self.cache.install_large(page);
        }
        let mut frame = self.cache.free_frame(guard);
        frame.copy_from_slice(page.bytes());
        // Another reader may have been faster, with the same page.
        self.cache.install(at, frame, guard);
    }

    /// A damaged reference may say anything.
    fn refuse_impossible(&self, at: PageRef) -> Result<(), StorageError> {
        if at.number < META_PAGES || at.span == 0 || at.end() > MAX_PAGES {
            return Err(self.damaged(at, "a reference to a page".into(), at.to_string()));
        }
        Ok(())
    }

    /// An error about the page at `at`.
    pub fn damaged(&self, at: PageRef, expected: String, found: String) -> StorageError {
        let (file, offset) = (self.location.clone(), at.offset());
        let error = StorageError::Corrupt { file, offset, expected, found };
        self.damage.note(&error);
        error
    }

    fn io(&self, action: &'static str, at: PageRef, source: io::Error) -> StorageError {
        StorageError::Io { file: self.location.clone(), action, offset: at.offset(), source }
    }
}

impl Pages for Pager {
    #[inline]
    fn page<'g>(&'g self, at: PageRef, guard: &'g Guard) -> Result<PageView<'g>, StorageError> {
        match self.cached(at, guard)? {
            Some(page) => Ok(page),
            None => self.checked(at, self.load(at, guard)?),
        }
    }

    fn prefetch(&self, at: PageRef, is_whole: bool) {
        self.cache.prefetch(at, is_whole);
    }

    fn damaged(&self, at: PageRef, expected: String, found: String) -> StorageError {
        Pager::damaged(self, at, expected, found)
    }
}

impl MapPages for Pager {
    fn payload(&self, at: PageRef) -> Result<Vec<u8>, StorageError> {
        let page = self.read(at)?;
        match page::kind(page.bytes()) {
            PageKind::Map => Ok(page.bytes()[page::payload_range(page.bytes())].to_vec()),
            other => Err(MapPages::damaged(self, at, format!("a {other:?}"))),
        }
    }

    fn damaged(&self, at: PageRef, found: String) -> StorageError {
        Pager::damaged(self, at, "a map of free space".into(), found)
    }
}
