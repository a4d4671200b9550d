//! Nodes: the sorted cells inside a leaf or branch page.
//!
//! A node is a slotted page. After the header stands an array of slots, which grows upward; cells
//! are laid down from the end of the page toward it. Slots are in key order, so an insert moves
//! slots of eight bytes and never a cell. A removed cell leaves dead bytes; when an insert needs
//! them the node is compacted.
//!
//! A search should touch few cache lines, for it waits on memory more than on anything else. So the
//! bytes that all keys of the node begin with (its *prefix*) are stored once, beside the header, and the next four
//! bytes of each key, its *head*, stand in the slot as a number: bisecting compares numbers in the
//! slot array and reads cells only to break ties. Prefix and head are not repeated in the cell.
//!
//! ```text
//! 28..30  number of cells           34      level: 0 a leaf, else 1 above its children
//! 30..32  offset of lowest cell     35      zero
//! 32..34  dead bytes among cells    36..38  length of the prefix, 38..40 zeros
//! 40..    the prefix, and behind it the slots: head u32 (its four bytes read as a big-endian
//!         number, stored little-endian), offset of the cell u16, length u16 of the key behind the
//!         prefix (bit 15: out of line)
//! …end    cells
//!
//! leaf cell     value length u16, key from its fifth byte behind the prefix on, value
//! out of line   value length u32, length of its inline part u8, reference to the page with the
//!               rest, key from its fifth byte on, inline part of the value
//! branch cell   reference to the child, key from its fifth byte on
//! ```
//!
//! A key shorter than its head fills it with zeros; the length tells `a` from `a\0`. A branch's
//! cell says: keys from mine on, up to the next cell's, are under this child. The first cell's key
//! is always empty, for it has no lower bound, and does not count for the prefix.
//!
//! A value longer than [`MAX_INLINE_VALUE_BYTES`] lies in an extent of its own, except for as many
//! of its first bytes as the writer asked to keep in the leaf: what is read without the rest.
//!
//! Everything that knows where bytes lie inside a node is in this file and its two children: `edit`
//! changes a node, `validate` checks one that comes from the disk, after which all access is in
//! bounds. The tree algorithms see [`Cell`]s.

mod edit;
mod search;
#[cfg(test)]
mod tests;
mod validate;

pub use self::edit::NodeMut;

use crate::storage::page::{HEADER_BYTES, PAGE_BYTES, PageRef, u16_at, u32_at};
use crate::types::MAX_KEY_BYTES;

/// Longest key of a tree, in bytes: a user's key and room for what an index puts before it.
pub const MAX_TREE_KEY_BYTES: usize = MAX_KEY_BYTES + 64;

/// Longer values lie in a page of their own. A leaf of one page holds two of this length beside keys of up to 64
/// bytes: a page for each would be half empty, and be written beside the leaf's.
pub const MAX_INLINE_VALUE_BYTES: usize =
    (PAGE_BYTES - NODE_HEADER_BYTES) / 2 - (SLOT_BYTES + INLINE_CELL_BYTES + 64);

/// Longest part of an out-of-line value that stays in the leaf.
pub const MAX_VALUE_HEAD_BYTES: usize = u8::MAX as usize;

/// Bytes of a node before its slots.
pub const NODE_HEADER_BYTES: usize = HEADER_BYTES + 8;

/// Longest node: a branch that cannot be split (three children) under keys of the greatest length.
pub const MAX_NODE_PAGES: u32 = (NODE_HEADER_BYTES
    + 3 * (SLOT_BYTES + BRANCH_CELL_BYTES + MAX_TREE_KEY_BYTES))
    .div_ceil(PAGE_BYTES) as u32;

/// More levels than any file can fill: 2^32 pages under branches of two children.
pub const MAX_LEVEL: u8 = 40;

const COUNT: usize = 28;
const HEAP: usize = 30;
const DEAD: usize = 32;
const LEVEL: usize = 34;
const PREFIX_LEN: usize = 36;
const SLOT_BYTES: usize = 8;
const HEAD_BYTES: usize = 4;
const INLINE_CELL_BYTES: usize = 2;
const OUTLINE_CELL_BYTES: usize = 4 + 1 + PageRef::ENCODED_BYTES;
const BRANCH_CELL_BYTES: usize = PageRef::ENCODED_BYTES;
const OUT_OF_LINE: u16 = 1 << 15;

/// One entry of a node, decoded, with its whole key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell<'a> {
    pub key: &'a [u8],
    pub payload: Payload<'a>,
}

/// What a cell carries beside its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// In a leaf: the value itself.
    Inline(&'a [u8]),
    /// In a leaf: the first bytes of a value, its whole length, and where the rest lies.
    Outline { head: &'a [u8], len_bytes: u32, page: PageRef },
    /// In a branch.
    Child(PageRef),
}

impl<'a> Payload<'a> {
    /// What of a value lies in its leaf: a short one whole, of a long one what its writer kept there.
    pub fn head(&self) -> &'a [u8] {
        match *self {
            Payload::Inline(value) => value,
            Payload::Outline { head, .. } => head,
            Payload::Child(_) => unreachable!("leaves have no children"),
        }
    }

    /// Bytes of the cell but for its key.
    fn len(&self) -> usize {
        match self {
            Payload::Inline(value) => INLINE_CELL_BYTES + value.len(),
            Payload::Outline { head, .. } => OUTLINE_CELL_BYTES + head.len(),
            Payload::Child(_) => BRANCH_CELL_BYTES,
        }
    }
}

impl Cell<'_> {
    /// Bytes that the cell takes in a node whose prefix has this length, its slot included.
    pub fn size(&self, prefix_len: usize) -> usize {
        SLOT_BYTES + self.len(prefix_len)
    }

    /// The same without the slot.
    fn len(&self, prefix_len: usize) -> usize {
        self.key.len().saturating_sub(prefix_len + HEAD_BYTES) + self.payload.len()
    }
}

/// A slot, decoded.
#[derive(Clone, Copy)]
struct Slot {
    head: u32,
    offset: usize,
    /// Length of the key behind the prefix.
    rest_len: usize,
    is_out_of_line: bool,
}

impl Slot {
    /// Bytes of the key that stand in the cell.
    fn tail_len(&self) -> usize {
        self.rest_len.saturating_sub(HEAD_BYTES)
    }
}

/// A node's bytes, read.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    bytes: &'a [u8],
}

impl<'a> Node<'a> {
    /// Reads a page that is a leaf or a branch.
    pub fn of(bytes: &'a [u8]) -> Node<'a> {
        Node { bytes }
    }

    pub fn count(&self) -> usize {
        u16_at(self.bytes, COUNT).into()
    }

    /// Distance from the leaves.
    pub fn level(&self) -> u8 {
        self.bytes[LEVEL]
    }

    pub fn is_leaf(&self) -> bool {
        self.level() == 0
    }

    /// What all keys begin with.
    pub fn prefix(&self) -> &'a [u8] {
        &self.bytes[NODE_HEADER_BYTES..][..self.prefix_len()]
    }

    pub fn prefix_len(&self) -> usize {
        u16_at(self.bytes, PREFIX_LEN).into()
    }

    /// What follows the prefix in a key that begins with it.
    fn behind_prefix<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        // Random keys have little in common, and a comparison of nothing is a call all the same.
        if self.prefix_len() == 0 { Some(key) } else { key.strip_prefix(self.prefix()) }
    }

    /// The child at `slot` of a branch.
    pub fn child(&self, slot: usize) -> PageRef {
        debug_assert!(!self.is_leaf());
        PageRef::decode(&self.bytes[self.slot(slot).offset..])
    }

    /// What the cell at `slot` carries.
    pub fn payload(&self, slot: usize) -> Payload<'a> {
        self.payload_of(&self.slot(slot))
    }

    fn payload_of(&self, slot: &Slot) -> Payload<'a> {
        let cell = &self.bytes[slot.offset..];
        if !self.is_leaf() {
            return Payload::Child(PageRef::decode(cell));
        }
        if slot.is_out_of_line {
            let head_at = OUTLINE_CELL_BYTES + slot.tail_len();
            return Payload::Outline {
                head: &cell[head_at..][..cell[4].into()],
                len_bytes: u32_at(cell, 0),
                page: PageRef::decode(&cell[5..]),
            };
        }
        let value_at = INLINE_CELL_BYTES + slot.tail_len();
        Payload::Inline(&cell[value_at..][..u16_at(cell, 0).into()])
    }

    /// Appends the key at `slot` to `out`.
    pub fn key_into(&self, slot: usize, out: &mut Vec<u8>) {
        if slot == 0 && !self.is_leaf() {
            return; // it has no lower bound, and no prefix either
        }
        let slot = self.slot(slot);
        out.extend_from_slice(self.prefix());
        out.extend_from_slice(&slot.head.to_be_bytes()[..slot.rest_len.min(HEAD_BYTES)]);
        out.extend_from_slice(self.tail(&slot));
    }

    /// What the cell at `slot` of a leaf carries; its key goes behind the prefix in `key`, which
    /// begins with it.
    #[inline]
    pub fn entry_into(&self, slot: usize, key: &mut Vec<u8>) -> Payload<'a> {
        let entry = self.slot(slot);
        key.truncate(self.prefix_len());
        if entry.rest_len >= HEAD_BYTES {
            key.extend_from_slice(&entry.head.to_be_bytes());
            key.extend_from_slice(self.tail(&entry));
        } else {
            key.extend_from_slice(&entry.head.to_be_bytes()[..entry.rest_len]);
        }
        self.payload_of(&entry)
    }

    /// The key at `slot`.
    pub fn key(&self, slot: usize) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.prefix_len() + self.slot(slot).rest_len);
        self.key_into(slot, &mut key);
        key
    }

    /// All keys, one after the other in memory.
    pub fn keys(&self) -> Keys {
        let key_bytes: usize =
            self.slots().iter().map(|slot| self.prefix_len() + decode_slot(slot).rest_len).sum();
        let mut keys =
            Keys { bytes: Vec::with_capacity(key_bytes), ends: Vec::with_capacity(self.count()) };
        for slot in 0..self.count() {
            self.key_into(slot, &mut keys.bytes);
            keys.ends.push(keys.bytes.len());
        }
        keys
    }

    /// All cells, whose keys are those of [`Node::keys`].
    pub fn cells<'k>(self, keys: &'k Keys) -> impl Iterator<Item = Cell<'k>>
    where
        'a: 'k,
    {
        (0..self.count()).map(move |slot| Cell { key: keys.get(slot), payload: self.payload(slot) })
    }

    /// Bytes that the node needs once compacted.
    pub fn used_bytes(&self) -> usize {
        self.slots_start() + self.count() * SLOT_BYTES + (self.bytes.len() - self.heap())
            - self.dead()
    }

    /// Bytes that the cell at `slot` takes, its slot included.
    pub fn cell_size(&self, slot: usize) -> usize {
        let slot = self.slot(slot);
        SLOT_BYTES + self.cell_len(&slot)
    }

    /// Where the cell at `slot` lies in the page.
    pub fn cell_offset(&self, slot: usize) -> usize {
        self.slot(slot).offset
    }

    /// Bytes between the cells that belong to none.
    pub fn dead_bytes(&self) -> usize {
        self.dead()
    }

    fn cell_len(&self, slot: &Slot) -> usize {
        let cell = &self.bytes[slot.offset..];
        slot.tail_len()
            + match (self.is_leaf(), slot.is_out_of_line) {
                (false, _) => BRANCH_CELL_BYTES,
                (true, false) => INLINE_CELL_BYTES + usize::from(u16_at(cell, 0)),
                (true, true) => OUTLINE_CELL_BYTES + usize::from(cell[4]),
            }
    }

    /// The part of the key that stands in the cell.
    fn tail(&self, slot: &Slot) -> &'a [u8] {
        let fixed = match (self.is_leaf(), slot.is_out_of_line) {
            (false, _) => BRANCH_CELL_BYTES,
            (true, false) => INLINE_CELL_BYTES,
            (true, true) => OUTLINE_CELL_BYTES,
        };
        &self.bytes[slot.offset + fixed..][..slot.tail_len()]
    }

    fn slot(&self, slot: usize) -> Slot {
        decode_slot(&self.slots()[slot])
    }

    fn slots(&self) -> &'a [[u8; SLOT_BYTES]] {
        self.bytes[self.slots_start()..][..self.count() * SLOT_BYTES].as_chunks().0
    }

    fn slots_start(&self) -> usize {
        NODE_HEADER_BYTES + self.prefix_len()
    }

    fn heap(&self) -> usize {
        u16_at(self.bytes, HEAP).into()
    }

    fn dead(&self) -> usize {
        u16_at(self.bytes, DEAD).into()
    }
}

/// The keys of a node, made whole.
pub struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    pub fn get(&self, slot: usize) -> &[u8] {
        let start = slot.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[slot]]
    }
}

fn decode_slot(bytes: &[u8; SLOT_BYTES]) -> Slot {
    let len = u16_at(bytes, 6);
    Slot {
        head: u32_at(bytes, 0),
        offset: u16_at(bytes, 4).into(),
        rest_len: (len & !OUT_OF_LINE).into(),
        is_out_of_line: len & OUT_OF_LINE != 0,
    }
}

fn encode_slot(slot: &Slot) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    let flag = if slot.is_out_of_line { OUT_OF_LINE } else { 0 };
    bytes[0..4].copy_from_slice(&slot.head.to_le_bytes());
    bytes[4..6].copy_from_slice(&(slot.offset as u16).to_le_bytes());
    bytes[6..8].copy_from_slice(&(slot.rest_len as u16 | flag).to_le_bytes());
    bytes
}

/// The first four bytes as a number that orders as they do; zeros where there are fewer.
fn head_of(rest: &[u8]) -> u32 {
    match rest.first_chunk() {
        Some(head) => u32::from_be_bytes(*head),
        None => {
            let mut head = [0; HEAD_BYTES];
            head[..rest.len()].copy_from_slice(rest);
            u32::from_be_bytes(head)
        }
    }
}

/// How many bytes both begin with.
pub fn shared_len(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(a, b)| a == b).count()
}

/// How long the prefix of a node of these cells is, which are in order.
pub fn prefix_len_of(level: u8, cells: &[Cell<'_>]) -> usize {
    // The first key of a branch is empty whatever it was built from.
    match &cells[usize::from(level > 0).min(cells.len())..] {
        [] => 0,
        [first, .., last] => shared_len(first.key, last.key),
        [only] => only.key.len(),
    }
}

/// Bytes of a node of these cells, which are in order.
pub fn node_bytes(level: u8, cells: &[Cell<'_>]) -> usize {
    let prefix_len = prefix_len_of(level, cells);
    let mut bytes = NODE_HEADER_BYTES + prefix_len;
    for (slot, cell) in cells.iter().enumerate() {
        let is_unbounded = level > 0 && slot == 0;
        let prefix_len = if is_unbounded { cell.key.len() } else { prefix_len };
        bytes += cell.size(prefix_len);
    }
    bytes
}

/// The shortest string above `left` that is not above `right`: what a branch needs to tell two
/// neighbouring leaves apart.
pub fn shortest_separator<'a>(left: &[u8], right: &'a [u8]) -> &'a [u8] {
    debug_assert!(left < right);
    &right[..shared_len(left, right) + 1]
}
