//! Pages: the unit of allocation, of copying and of checksums.
//!
//! The file is an array of 4,096-byte pages. Pages 0 and 1 are the twin meta pages ([`super::meta`]).
//! Every other used page belongs to an *extent*: a run of one or more neighbouring pages (its
//! *span*) that is written, read, verified and freed as one. A tree node is an extent of one page,
//! or of up to four when its keys are giant; a large value is an extent as long as it needs. "Page" below means an extent.
//!
//! Every page begins with 32 bytes of header (integers little-endian):
//!
//! ```text
//!  0..4   CRC-32 (IEEE) of bytes 4 to the end of the extent, padding included
//!  4..6   magic, the bytes "CB"
//!  6      format version of the page, 2
//!  7      kind: 1 leaf, 2 branch, 3 value (overflow), 4 map of the free space
//!  8..16  number of the first page: catches a write or read that went elsewhere
//! 16..24  birth: the transaction that made the page (for a map page: the checkpoint's sequence)
//! 24..28  span in pages
//! 28..32  kinds 3 and 4: payload length in bytes. Kinds 1 and 2: see `node`
//! ```
//!
//! Whoever refers to a page holds a [`PageRef`]: number, birth and span. A page loaded from disk
//! must answer to its reference in all three and must match its checksum; this catches torn writes
//! (checksum), misdirected ones (number) and lost ones (an older page has another birth, since a
//! number is not given twice by one transaction to pages that both reach the disk).
//!
//! Left out: a reference does not hold the checksum of what it refers to. After a crash,
//! transactions number on from the durable root, so a page that an unfinished checkpoint left
//! behind can have the number and birth of a later one; if the disk then also loses an fsynced
//! write of exactly that page, the loss is not seen. A Merkle tree would see it, at the price of
//! hashing every dirty page's ancestors bottom-up.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::plants::{Plant, planted};

/// Bytes in a page. 4,096 is the block of every common file system and the page of its cache.
pub const PAGE_BYTES: usize = 4_096;

/// Bytes of the header that every page begins with.
pub const HEADER_BYTES: usize = 32;

/// Counts the committed write transactions of a file; 0 is the empty store.
pub type TxnId = u64;

/// Transactions end here: at 100,000 commits a second, after 89 years.
pub const MAX_TXN: TxnId = 1 << 48;

/// As many pages as a reference can number: a file of 16 TiB.
pub const MAX_PAGES: u64 = 1 << 32;

const MAGIC: [u8; 2] = *b"CB";
const VERSION: u8 = 2;

/// Offset of a payload's length.
const PAYLOAD_LEN: usize = 28;

/// What a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    Leaf = 1,
    Branch = 2,
    Value = 3,
    Map = 4,
}

impl PageKind {
    fn decode(byte: u8) -> Option<PageKind> {
        match byte {
            1 => Some(PageKind::Leaf),
            2 => Some(PageKind::Branch),
            3 => Some(PageKind::Value),
            4 => Some(PageKind::Map),
            _ => None,
        }
    }
}

/// Refers to a page: where it is, which transaction made it, how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageRef {
    /// Below `MAX_PAGES`.
    pub number: u64,
    /// Below `MAX_TXN`.
    pub birth: TxnId,
    pub span: u32,
}

impl PageRef {
    /// On disk: number u32, birth u48, span u32. Half of a branch is references, so each byte here
    /// is paid for in fan-out.
    pub const ENCODED_BYTES: usize = 14;

    pub fn encode(&self, out: &mut [u8]) {
        debug_assert!(self.number < MAX_PAGES && self.birth < MAX_TXN);
        out[0..4].copy_from_slice(&self.number.to_le_bytes()[..4]);
        out[4..10].copy_from_slice(&self.birth.to_le_bytes()[..6]);
        out[10..14].copy_from_slice(&self.span.to_le_bytes());
    }

    pub fn decode(bytes: &[u8]) -> PageRef {
        PageRef {
            number: u32_at(bytes, 0).into(),
            // Eight bytes from the two before: the upper six are the birth.
            birth: u64_at(bytes, 2) >> 16,
            span: u32_at(bytes, 10),
        }
    }

    /// Where the page begins in the file. Saturates for a number that no file can have, so that a
    /// damaged reference still names an offset.
    pub fn offset(&self) -> u64 {
        self.number.saturating_mul(PAGE_BYTES as u64)
    }

    pub fn len_bytes(&self) -> usize {
        self.span as usize * PAGE_BYTES
    }

    /// The number after the page's last.
    pub fn end(&self) -> u64 {
        self.number.saturating_add(u64::from(self.span))
    }
}

impl std::fmt::Display for PageRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "page {} of transaction {} and span {}", self.number, self.birth, self.span)
    }
}

/// How a page differs from what its reference promised.
#[derive(Debug)]
pub struct Mismatch {
    pub expected: String,
    pub found: String,
}

/// Writes the header of a new page over `bytes`, which are zeros.
pub fn init(bytes: &mut [u8], kind: PageKind, at: PageRef) {
    bytes[4..6].copy_from_slice(&MAGIC);
    bytes[6] = VERSION;
    bytes[7] = kind as u8;
    readdress(bytes, at);
}

/// Gives a copied page its own reference. The span stays what it was.
pub fn readdress(bytes: &mut [u8], at: PageRef) {
    debug_assert_eq!(bytes.len(), at.len_bytes());
    bytes[8..16].copy_from_slice(&at.number.to_le_bytes());
    bytes[16..24].copy_from_slice(&at.birth.to_le_bytes());
    bytes[24..28].copy_from_slice(&at.span.to_le_bytes());
}

/// Who the page says it is.
pub fn reference(bytes: &[u8]) -> PageRef {
    PageRef { number: u64_at(bytes, 8), birth: u64_at(bytes, 16), span: u32_at(bytes, 24) }
}

/// The kind of a page that was verified, or made here.
pub fn kind(bytes: &[u8]) -> PageKind {
    kind_of(bytes).expect("kinds are checked when a page is loaded")
}

/// The kind of a page, if it has one.
pub fn kind_of(bytes: &[u8]) -> Option<PageKind> {
    PageKind::decode(bytes[7])
}

/// Whether bytes begin as a page does.
pub fn has_magic(bytes: &[u8]) -> bool {
    bytes[4..6] == MAGIC
}

/// Where the payload of a value or map page lies in it.
pub fn payload_range(bytes: &[u8]) -> Range<usize> {
    HEADER_BYTES..HEADER_BYTES + u32_at(bytes, PAYLOAD_LEN) as usize
}

/// Writes the payload of a value or map page.
pub fn set_payload(bytes: &mut [u8], payload: &[u8]) {
    let len = u32::try_from(payload.len()).expect("callers bound payloads to u32");
    bytes[PAYLOAD_LEN..PAYLOAD_LEN + 4].copy_from_slice(&len.to_le_bytes());
    bytes[HEADER_BYTES..][..payload.len()].copy_from_slice(payload);
}

/// Checks bytes read from the disk for the page that `at` refers to.
pub fn verify(bytes: &[u8], at: PageRef) -> Result<(), Mismatch> {
    debug_assert_eq!(bytes.len(), at.len_bytes());
    let mismatch = |expected: String, found: String| Err(Mismatch { expected, found });
    if !has_magic(bytes) {
        return mismatch("a page's magic".into(), format!("bytes {:02x?}", &bytes[4..6]));
    }
    if bytes[6] != VERSION {
        return mismatch(format!("page version {VERSION}"), format!("version {}", bytes[6]));
    }
    let (stored, computed) = (stored_checksum(bytes), checksum(bytes));
    if stored != computed && !planted(Plant::ChecksumIgnored) {
        return mismatch(format!("checksum {stored:08x}"), format!("{computed:08x}"));
    }
    if reference(bytes) != at {
        return mismatch(at.to_string(), reference(bytes).to_string());
    }
    match kind_of(bytes) {
        Some(PageKind::Value | PageKind::Map) if payload_range(bytes).end > bytes.len() => {
            let found = format!("{} bytes", payload_range(bytes).len());
            mismatch("a payload inside its page".into(), found)
        }
        Some(_) => Ok(()),
        None => mismatch("a page kind".into(), format!("kind {}", bytes[7])),
    }
}

/// A page in memory of its own: one of several pages' length, which no frame holds
/// ([`super::frames`]), or one on its way to or from the disk. Immutable once it is shared.
#[derive(Clone)]
pub struct Page {
    bytes: Vec<u8>,
}

impl Page {
    /// A page of zeros under a header.
    pub fn new(kind: PageKind, at: PageRef) -> Page {
        let mut bytes = vec![0; at.len_bytes()];
        init(&mut bytes, kind, at);
        Page { bytes }
    }

    /// A page that carries `payload` after its header.
    pub fn with_payload(kind: PageKind, at: PageRef, payload: &[u8]) -> Page {
        let mut page = Page::new(kind, at);
        set_payload(&mut page.bytes, payload);
        page
    }

    /// Takes bytes that [`verify`] accepted.
    pub fn from_verified(bytes: Vec<u8>) -> Page {
        Page { bytes }
    }

    pub fn reference(&self) -> PageRef {
        reference(&self.bytes)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Part of a page as bytes that keep the page alive: a large value is read without a copy.
    pub fn view(self: &Arc<Page>, range: Range<usize>) -> Bytes {
        struct View(Arc<Page>, Range<usize>);
        impl AsRef<[u8]> for View {
            fn as_ref(&self) -> &[u8] {
                &self.0.bytes[self.1.clone()]
            }
        }
        Bytes::from_owner(View(Arc::clone(self), range))
    }
}

/// Pages that a payload of `len` bytes takes, its header included.
pub fn span_of_payload(len: usize) -> u32 {
    u32::try_from((HEADER_BYTES + len).div_ceil(PAGE_BYTES)).expect("callers bound payloads to u32")
}

/// Fills in the checksum of a page about to be written.
pub fn seal(bytes: &mut [u8]) {
    let sum = checksum(bytes);
    bytes[0..4].copy_from_slice(&sum.to_le_bytes());
}

/// The checksum that a page says it has.
pub fn stored_checksum(bytes: &[u8]) -> u32 {
    u32_at(bytes, 0)
}

/// The checksum that the bytes of a page have.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(&bytes[4..])
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: PageRef = PageRef { number: 7, birth: 3, span: 2 };

    fn sealed() -> Vec<u8> {
        let page = Page::with_payload(PageKind::Value, AT, &[0xab; 5_000]);
        let mut bytes = page.bytes().to_vec();
        seal(&mut bytes);
        bytes
    }

    #[test]
    fn a_page_answers_only_to_its_own_reference() {
        assert!(verify(&sealed(), AT).is_ok());
        for other in [
            PageRef { number: 8, ..AT }, // misdirected
            PageRef { birth: 4, ..AT },  // lost: the older page is still there
        ] {
            assert!(verify(&sealed(), other).is_err());
        }
    }

    #[test]
    fn every_single_bit_flip_is_seen() {
        let good = sealed();
        for bit in (0..good.len() * 8).step_by(41).chain(0..HEADER_BYTES * 8) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&bad, AT).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn references_come_back() {
        let at = PageRef { number: MAX_PAGES - 1, birth: MAX_TXN - 1, span: u32::MAX };
        for at in [at, AT, PageRef { number: 2, birth: 0, span: 1 }] {
            let mut bytes = [0; PageRef::ENCODED_BYTES];
            at.encode(&mut bytes);
            assert_eq!(PageRef::decode(&bytes), at);
        }
    }
}
