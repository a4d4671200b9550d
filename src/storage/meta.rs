//! The twin meta pages: where a store begins.
//!
//! A checkpoint becomes the durable root by one write of one meta page. The two take turns
//! (checkpoint `n` writes page `n % 2`), so a torn write leaves the other, which names the root
//! before. The content fits one 512-byte sector, the most that any disk writes atomically; the
//! checksum finds a tear even where a sector is not atomic.
//!
//! ```text
//!   0..8    magic, the bytes "CONUREDB"
//!   8..12   format version, 4; 3 is read as well
//!  12..16   CRC-32 (IEEE) of bytes 0..12 and 16..512
//!  16..24   checkpoint sequence; the valid page with the higher one wins
//!  24..32   transaction of the root
//!  32..40   logical end of the file, in pages; what lies behind is not part of the store
//!  40..44   page size, 4096; 44..48 zeros
//!  48..62   reference to the root of the map of free space; number 0: nothing is free
//!  62..64   zeros
//!  64..128  facts: bytes of the store's user
//! 128..348  ten trees: reference to the root (number 0: empty), number of entries u64
//! 348..512  zeros, and zeros to the end of the page
//! ```
//!
//! Magic, version and checksum keep their places in every later version, so that a release can
//! always tell a newer file from a damaged one.
//!
//! Left out: a meta page that was valid and is damaged *later* looks like a torn one, so the store
//! opens at the checkpoint before. The layer above sees that as an applied index below the log's.

use crate::storage::page::{PAGE_BYTES, PageRef, u32_at, u64_at};
use crate::storage::root::{FACTS_BYTES, Root, TREES, Tree};

/// Version of the whole file format.
pub const FORMAT_VERSION: u32 = 4;

/// The oldest one that is read: its values in leaves are shorter, and nothing else differs.
const OLDEST_VERSION: u32 = 3;

/// Pages 0 and 1.
pub const META_PAGES: u64 = 2;

/// Bytes of a meta page that carry content: one sector.
pub const META_BYTES: usize = 512;

const MAGIC: [u8; 8] = *b"CONUREDB";
const FACTS: usize = 64;
const FIRST_TREE: usize = FACTS + FACTS_BYTES;
const _: () = assert!(FIRST_TREE + TREES * Tree::ENCODED_BYTES <= META_BYTES);

/// What a meta page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Of the release that wrote it. Opening writes it as it was, so that a tear harms nothing; a checkpoint is of this one.
    pub version: u32,
    pub sequence: u64,
    /// Pages in the file, the meta pages included.
    pub end: u64,
    /// The root of the map of free space.
    pub map: Option<PageRef>,
    pub root: Root,
}

/// Why a meta page is not one.
#[derive(Debug, PartialEq, Eq)]
pub enum MetaError {
    Foreign { found: String },
    OtherVersion { found: u32 },
    Damaged { found: String },
}

impl Meta {
    /// The meta of a store that holds nothing yet.
    pub fn empty(sequence: u64) -> Meta {
        let version = FORMAT_VERSION;
        Meta { version, sequence, end: META_PAGES, map: None, root: Root::EMPTY }
    }

    /// Where this checkpoint's meta page lies in the file.
    pub fn offset(&self) -> u64 {
        (self.sequence % META_PAGES) * PAGE_BYTES as u64
    }

    /// The whole page.
    pub fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; PAGE_BYTES];
        page[0..8].copy_from_slice(&MAGIC);
        page[8..12].copy_from_slice(&self.version.to_le_bytes());
        page[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        page[24..32].copy_from_slice(&self.root.txn.to_le_bytes());
        page[32..40].copy_from_slice(&self.end.to_le_bytes());
        page[40..44].copy_from_slice(&(PAGE_BYTES as u32).to_le_bytes());
        if let Some(map) = self.map {
            map.encode(&mut page[48..]);
        }
        page[FACTS..FIRST_TREE].copy_from_slice(&self.root.facts);
        for (tree, out) in
            self.root.trees.iter().zip(page[FIRST_TREE..].chunks_mut(Tree::ENCODED_BYTES))
        {
            tree.encode(out);
        }
        let sum = checksum(&page);
        page[12..16].copy_from_slice(&sum.to_le_bytes());
        page
    }

    /// Reads the first `META_BYTES` of a meta page.
    pub fn decode(bytes: &[u8]) -> Result<Meta, MetaError> {
        debug_assert!(bytes.len() >= META_BYTES);
        if bytes[0..8] != MAGIC {
            return Err(MetaError::Foreign {
                found: format!("\"{}\"", bytes[0..8].escape_ascii()),
            });
        }
        let (stored, computed) = (u32_at(bytes, 12), checksum(bytes));
        if stored != computed {
            let found = format!("checksum {computed:08x} where {stored:08x} is stored");
            return Err(MetaError::Damaged { found });
        }
        if !(OLDEST_VERSION..=FORMAT_VERSION).contains(&u32_at(bytes, 8)) {
            return Err(MetaError::OtherVersion { found: u32_at(bytes, 8) });
        }
        if u32_at(bytes, 40) != PAGE_BYTES as u32 {
            let found = format!("a page size of {}", u32_at(bytes, 40));
            return Err(MetaError::Damaged { found });
        }
        let trees = &bytes[FIRST_TREE..][..TREES * Tree::ENCODED_BYTES];
        let mut trees = trees.chunks(Tree::ENCODED_BYTES).map(Tree::decode);
        Ok(Meta {
            version: u32_at(bytes, 8),
            sequence: u64_at(bytes, 16),
            end: u64_at(bytes, 32),
            map: Some(PageRef::decode(&bytes[48..])).filter(|at| at.number != 0),
            root: Root {
                txn: u64_at(bytes, 24),
                trees: std::array::from_fn(|_| trees.next().expect("as many as were cut")),
                facts: bytes[FACTS..FIRST_TREE].try_into().expect("so many bytes"),
            },
        })
    }
}

impl std::fmt::Display for MetaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MetaError::Foreign { found } => write!(f, "begins with {found}"),
            MetaError::OtherVersion { found } => write!(f, "has format version {found}"),
            MetaError::Damaged { found } => write!(f, "has {found}"),
        }
    }
}

fn checksum(page: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&page[0..12]);
    hasher.update(&page[16..META_BYTES]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        let mut root = Root { txn: 1_000, ..Root::EMPTY };
        root.trees[3] = Tree { root: Some(PageRef { number: 5, birth: 999, span: 1 }), len: 3 };
        root.facts[63] = 7;
        let map = Some(PageRef { number: 9, birth: 8, span: 2 });
        Meta { version: FORMAT_VERSION, sequence: 9, end: 77, map, root }
    }

    #[test]
    fn a_meta_page_reads_back_and_takes_turns() {
        assert_eq!(Meta::decode(&meta().encode()), Ok(meta()));
        assert_eq!(meta().offset(), PAGE_BYTES as u64);
        assert_eq!(Meta { sequence: 10, ..meta() }.offset(), 0);
    }

    #[test]
    fn every_bit_flip_in_a_meta_page_is_seen() {
        for bit in 0..META_BYTES * 8 {
            let mut bad = meta().encode();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Meta::decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_version_is_told_from_damage() {
        let read = |version: u32| {
            let mut page = meta().encode();
            page[8..12].copy_from_slice(&version.to_le_bytes());
            let sum = checksum(&page);
            page[12..16].copy_from_slice(&sum.to_le_bytes());
            Meta::decode(&page)
        };
        for found in [OLDEST_VERSION - 1, FORMAT_VERSION + 1] {
            assert_eq!(read(found), Err(MetaError::OtherVersion { found }));
        }
        let older = Meta { version: OLDEST_VERSION, ..meta() };
        assert_eq!(read(OLDEST_VERSION), Ok(older));
        assert_eq!(Meta::decode(&older.encode()), Ok(older), "as it was");
    }
}
