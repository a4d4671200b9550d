//! One page, decoded as far as its bytes allow.

use super::{PageKind, PageRef, StoreFile};
use crate::storage::error::StorageError;
use crate::storage::freemap::{Freemap, GROUP_PAGES};
use crate::storage::meta::{META_PAGES, Meta, MetaError};
use crate::storage::node::{MAX_NODE_PAGES, Node, Payload};
use crate::storage::page::{self, PAGE_BYTES};

/// A page and what it holds.
#[derive(Debug)]
pub struct PageDump {
    pub number: u64,
    /// Offset in the file, and bytes that were read there.
    pub offset: u64,
    pub len_bytes: usize,
    /// Whether the durable root or its map of free space has it; `None` when the map cannot be read.
    pub is_live: Option<bool>,
    pub content: Content,
}

/// What a page holds.
#[derive(Debug)]
pub enum Content {
    Meta {
        meta: Result<Box<Meta>, MetaError>,
        in_force: bool,
    },
    /// A page with a header. `body` tells what is behind it, unless `damage` made it unreadable.
    Extent {
        kind: Option<PageKind>,
        reference: PageRef,
        checksum: Checksum,
        damage: Option<String>,
        body: Option<Body>,
    },
    /// Bytes that begin with no page's header: free, or the middle of a longer page.
    Other {
        first_bytes: Vec<u8>,
    },
}

/// The checksum that a page stores, and that of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    pub stored: u32,
    pub computed: u32,
}

/// What is behind a page's header.
#[derive(Debug)]
pub enum Body {
    Node(NodeDump),
    Value {
        len_bytes: usize,
        first_bytes: Vec<u8>,
    },
    /// The map root: for each group its map page and how many of its pages are free.
    MapRoot(Vec<(Option<PageRef>, u32)>),
    /// A map page, and the numbers of the pages that it is about, if the map root names it.
    MapGroup {
        pages: Option<std::ops::Range<u64>>,
        live: u32,
    },
}

/// A leaf or a branch.
#[derive(Debug)]
pub struct NodeDump {
    pub level: u8,
    pub prefix: Vec<u8>,
    pub used_bytes: usize,
    pub dead_bytes: usize,
    pub cells: Vec<CellDump>,
}

/// A cell, with its whole key.
#[derive(Debug)]
pub struct CellDump {
    pub offset: usize,
    pub key: Vec<u8>,
    pub carries: Carried,
}

/// What a cell carries beside its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    Value {
        len_bytes: usize,
    },
    /// A value of which `head_bytes` are in the leaf and the rest on `page`.
    LongValue {
        len_bytes: usize,
        head_bytes: usize,
        page: PageRef,
    },
    Child(PageRef),
}

/// Bytes of a value, or of what is no page, that are shown.
const FIRST_BYTES: usize = 64;

impl StoreFile {
    /// Reads page `number`; `None` behind the end of the file.
    pub fn page(&self, number: u64) -> Result<Option<PageDump>, StorageError> {
        let offset = number.saturating_mul(PAGE_BYTES as u64);
        let in_file = self.len_bytes().saturating_sub(offset) / PAGE_BYTES as u64;
        if in_file == 0 {
            return Ok(None);
        }
        let mut bytes = self.read(offset, PAGE_BYTES)?;
        if number < META_PAGES {
            let content = self.meta_content(&bytes);
            return Ok(Some(PageDump {
                number,
                offset,
                len_bytes: PAGE_BYTES,
                is_live: Some(true),
                content,
            }));
        }
        let content = if page::has_magic(&bytes) {
            let span = page::reference(&bytes).span;
            let is_node = matches!(page::kind_of(&bytes), Some(PageKind::Leaf | PageKind::Branch));
            let most = if is_node { MAX_NODE_PAGES.into() } else { in_file };
            // A damaged header may tell any span.
            if (1..=most.min(in_file)).contains(&u64::from(span)) {
                bytes = self.read(offset, span as usize * PAGE_BYTES)?;
            }
            self.extent(number, &bytes)
        } else {
            Content::Other { first_bytes: bytes[..FIRST_BYTES].to_vec() }
        };
        let is_live = self.is_live(number);
        Ok(Some(PageDump { number, offset, len_bytes: bytes.len(), is_live, content }))
    }

    fn read(&self, offset: u64, len_bytes: usize) -> Result<Vec<u8>, StorageError> {
        let mut bytes = vec![0; len_bytes];
        self.pager.file().read_at(offset, &mut bytes).map_err(|source| StorageError::Io {
            file: self.location().to_owned(),
            action: "read",
            offset,
            source,
        })?;
        Ok(bytes)
    }

    fn meta_content(&self, bytes: &[u8]) -> Content {
        let meta = Meta::decode(bytes).map(Box::new);
        let in_force = meta.as_ref().is_ok_and(|meta| self.meta().is_ok_and(|it| it == **meta));
        Content::Meta { meta, in_force }
    }

    fn extent(&self, number: u64, bytes: &[u8]) -> Content {
        let reference = page::reference(bytes);
        let kind = page::kind_of(bytes);
        let at = PageRef { number, span: (bytes.len() / PAGE_BYTES) as u32, ..reference };
        let mut damage = page::verify(bytes, at)
            .err()
            .map(|wrong| format!("expected {}, found {}", wrong.expected, wrong.found));
        let body = match self.body(kind, reference, bytes) {
            Ok(body) => body,
            Err(found) => {
                damage.get_or_insert(found);
                None
            }
        };
        let checksum =
            Checksum { stored: page::stored_checksum(bytes), computed: page::checksum(bytes) };
        Content::Extent { kind, reference, checksum, damage, body }
    }

    fn body(
        &self,
        kind: Option<PageKind>,
        at: PageRef,
        bytes: &[u8],
    ) -> Result<Option<Body>, String> {
        let payload = || {
            bytes
                .get(page::payload_range(bytes))
                .ok_or("a payload that is longer than its page".to_owned())
        };
        Ok(Some(match kind {
            None => return Ok(None),
            Some(PageKind::Leaf | PageKind::Branch) => {
                Node::validate(bytes)?;
                Body::Node(dump_node(bytes))
            }
            Some(PageKind::Value) => {
                let payload = payload()?;
                let first_bytes = payload[..payload.len().min(FIRST_BYTES)].to_vec();
                Body::Value { len_bytes: payload.len(), first_bytes }
            }
            Some(PageKind::Map) => {
                let meta = self.meta().map_err(|error| error.to_string())?;
                let map = match meta.map.filter(|&root| root == at) {
                    Some(root) => Some(Freemap::decode_root(root, payload()?, meta.end)?),
                    None => None,
                };
                match map {
                    Some(map) => Body::MapRoot(map.groups().collect()),
                    None => self.map_group(&meta, at, payload()?),
                }
            }
        }))
    }

    fn map_group(&self, meta: &Meta, at: PageRef, payload: &[u8]) -> Body {
        let map = self.map(meta).ok();
        let group = map.and_then(|map| map.groups().position(|(page, _)| page == Some(at)));
        let first = group.map(|group| group as u64 * GROUP_PAGES);
        Body::MapGroup {
            pages: first.map(|first| first..meta.end.min(first + GROUP_PAGES)),
            live: payload.iter().map(|byte| byte.count_ones()).sum(),
        }
    }
}

fn dump_node(bytes: &[u8]) -> NodeDump {
    let node = Node::of(bytes);
    let cells = (0..node.count()).map(|slot| CellDump {
        offset: node.cell_offset(slot),
        key: node.key(slot),
        carries: match node.payload(slot) {
            Payload::Inline(value) => Carried::Value { len_bytes: value.len() },
            Payload::Outline { head, len_bytes, page } => {
                Carried::LongValue { len_bytes: len_bytes as usize, head_bytes: head.len(), page }
            }
            Payload::Child(page) => Carried::Child(page),
        },
    });
    NodeDump {
        level: node.level(),
        prefix: node.prefix().to_vec(),
        used_bytes: node.used_bytes(),
        dead_bytes: node.dead_bytes(),
        cells: cells.collect(),
    }
}
