//! The twin meta pages: where a store begins.
//!
//! A checkpoint becomes the durable root by one write of one meta page. The two take turns
//! (checkpoint `n` writes page `n % 2`), so a torn write leaves the other, which names the root
//! before. The content fits one 512-byte sector, the most that any disk writes atomically; the
//! checksum finds a tear even where a sector is not atomic.
//!
//! ```text
//!  0..8   magic, the bytes "CONUREDB"
//!  8..12  format version, 1
//! 12..16  CRC-32 (IEEE) of bytes 0..12 and 16..512
//! 16..24  checkpoint sequence; the valid page with the higher one wins
//! 24..32  transaction of the root
//! 32..40  logical end of the file, in pages; what lies behind is not part of the store
//! 40..68  the catalog tree, encoded as it encodes the others (see `catalog`)
//! 68..88  reference to the free list; number 0: nothing is free
//! 88..92  page size, 4096
//! 92..512 zeros, and zeros to the end of the page
//! ```
//!
//! Magic, version and checksum keep their places in every later version, so that a release can
//! always tell a newer file from a damaged one.
//!
//! Left out: a meta page that was valid and is damaged *later* looks like a torn one, so the store
//! opens at the checkpoint before. The layer above sees that as an applied index below the log's.

use crate::storage::catalog::Tree;
use crate::storage::page::{PAGE_BYTES, PageRef, TxnId, u32_at, u64_at};

/// Version of the whole file format.
pub const FORMAT_VERSION: u32 = 1;

/// Pages 0 and 1.
pub const META_PAGES: u64 = 2;

/// Bytes of a meta page that carry content: one sector.
pub const META_BYTES: usize = 512;

const MAGIC: [u8; 8] = *b"CONUREDB";

/// What a meta page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub sequence: u64,
    pub txn: TxnId,
    /// Pages in the file, the meta pages included.
    pub end: u64,
    pub catalog: Tree,
    pub freelist: Option<PageRef>,
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
        Meta { sequence, txn: 0, end: META_PAGES, catalog: Tree::default(), freelist: None }
    }

    /// Where this checkpoint's meta page lies in the file.
    pub fn offset(&self) -> u64 {
        (self.sequence % META_PAGES) * PAGE_BYTES as u64
    }

    /// The whole page.
    pub fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; PAGE_BYTES];
        page[0..8].copy_from_slice(&MAGIC);
        page[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        page[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        page[24..32].copy_from_slice(&self.txn.to_le_bytes());
        page[32..40].copy_from_slice(&self.end.to_le_bytes());
        page[40..68].copy_from_slice(&self.catalog.encode());
        if let Some(freelist) = self.freelist {
            freelist.encode(&mut page[68..]);
        }
        page[88..92].copy_from_slice(&(PAGE_BYTES as u32).to_le_bytes());
        let sum = checksum(&page);
        page[12..16].copy_from_slice(&sum.to_le_bytes());
        page
    }

    /// Reads the first [`META_BYTES`] of a meta page.
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
        if u32_at(bytes, 8) != FORMAT_VERSION {
            return Err(MetaError::OtherVersion { found: u32_at(bytes, 8) });
        }
        if u32_at(bytes, 88) != PAGE_BYTES as u32 {
            let found = format!("a page size of {}", u32_at(bytes, 88));
            return Err(MetaError::Damaged { found });
        }
        Ok(Meta {
            sequence: u64_at(bytes, 16),
            txn: u64_at(bytes, 24),
            end: u64_at(bytes, 32),
            catalog: Tree::decode(&bytes[40..68]),
            freelist: Some(PageRef::decode(&bytes[68..])).filter(|at| at.number != 0),
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

    const META: Meta = Meta {
        sequence: 9,
        txn: 1_000,
        end: 77,
        catalog: Tree { root: Some(PageRef { number: 5, birth: 999, span: 1 }), len: 3 },
        freelist: None,
    };

    #[test]
    fn a_meta_page_reads_back_and_takes_turns() {
        assert_eq!(Meta::decode(&META.encode()), Ok(META));
        assert_eq!(META.offset(), PAGE_BYTES as u64);
        assert_eq!(Meta { sequence: 10, ..META }.offset(), 0);
    }

    #[test]
    fn every_bit_flip_in_a_meta_page_is_seen() {
        for bit in 0..META_BYTES * 8 {
            let mut bad = META.encode();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Meta::decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_version_is_told_from_damage() {
        let mut newer = META.encode();
        newer[8] = 2;
        let sum = checksum(&newer);
        newer[12..16].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(Meta::decode(&newer), Err(MetaError::OtherVersion { found: 2 }));
    }
}
