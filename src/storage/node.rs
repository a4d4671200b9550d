//! Nodes: the sorted cells inside a leaf or branch page.
//!
//! A node is a slotted page. After the page header stand its counts and an array of slots, which
//! grows upward; cells are laid down from the end of the page toward it. Slots are in key order and
//! each is the offset of a cell, so a search bisects the raw bytes and an insert moves two-byte
//! slots, never cells. A removed cell leaves dead bytes; when an insert needs them the node is
//! compacted.
//!
//! ```text
//! 28..30  number of cells        32..34  dead bytes among the cells
//! 30..32  offset of lowest cell  34      level: 0 a leaf, else 1 above its children; 35 zero
//! 36..    slots, u16 each
//!
//! leaf cell    key length u16 (bit 15: the value lies in a page of its own), value length u32,
//!              key, then the value or the reference to its page
//! branch cell  key length u16, reference to the child, key
//! ```
//!
//! A branch's cell says: keys from mine on, up to the next cell's, are under this child. The first
//! cell's key is always empty, for it has no lower bound; so n children take n-1 separators.
//!
//! Everything that knows where bytes lie inside a node is in this file; the tree algorithms see
//! [`Cell`]s. [`Node::validate`] runs once on each node read from disk and makes all later access
//! in bounds. Left out so far: cutting off the prefix that all keys of a node share.

use std::cmp::Ordering;

use crate::storage::page::{
    HEADER_BYTES, PAGE_BYTES, Page, PageKind, PageRef, span_of_payload, u16_at, u32_at,
};
use crate::types::MAX_KEY_BYTES;

/// Longest key of a tree, in bytes: a user's key and room for what an index puts before it.
pub const MAX_TREE_KEY_BYTES: usize = MAX_KEY_BYTES + 64;

/// Longer values lie in a page of their own: a quarter of a page, so that a leaf of one page holds
/// at least three values beside keys of usual length.
pub const MAX_INLINE_VALUE_BYTES: usize = PAGE_BYTES / 4;

/// Bytes of a node before its slots.
pub const NODE_HEADER_BYTES: usize = HEADER_BYTES + 4;

/// Longest node: a branch that cannot be split (three children) under keys of the greatest length.
pub const MAX_NODE_PAGES: u32 = (NODE_HEADER_BYTES
    + 3 * (BRANCH_CELL_BYTES + SLOT_BYTES + MAX_TREE_KEY_BYTES))
    .div_ceil(PAGE_BYTES) as u32;

/// More levels than any file can fill: 2^32 pages under branches of two children.
const MAX_LEVEL: u8 = 40;

const COUNT: usize = 28;
const HEAP: usize = 30;
const DEAD: usize = 32;
const LEVEL: usize = 34;
const SLOT_BYTES: usize = 2;
const LEAF_CELL_BYTES: usize = 6;
const BRANCH_CELL_BYTES: usize = 2 + PageRef::ENCODED_BYTES;
const OUT_OF_LINE: u16 = 1 << 15;

/// One entry of a node, decoded.
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
    /// In a leaf: where the value lies, and its length.
    Value { page: PageRef, len_bytes: u32 },
    /// In a branch.
    Child(PageRef),
}

impl Cell<'_> {
    /// Bytes that the cell takes in a node, its slot included.
    pub fn size(&self) -> usize {
        SLOT_BYTES + self.len()
    }

    fn len(&self) -> usize {
        self.key.len()
            + match self.payload {
                Payload::Inline(value) => LEAF_CELL_BYTES + value.len(),
                Payload::Value { .. } => LEAF_CELL_BYTES + PageRef::ENCODED_BYTES,
                Payload::Child(_) => BRANCH_CELL_BYTES,
            }
    }

    fn encode(&self, out: &mut [u8]) {
        let key_len = self.key.len() as u16;
        let leaf = |out: &mut [u8], key_len: u16, value_len: u32| {
            out[0..2].copy_from_slice(&key_len.to_le_bytes());
            out[2..6].copy_from_slice(&value_len.to_le_bytes());
            out[LEAF_CELL_BYTES..][..self.key.len()].copy_from_slice(self.key);
        };
        let value_at = LEAF_CELL_BYTES + self.key.len();
        match self.payload {
            Payload::Inline(value) => {
                leaf(out, key_len, value.len() as u32);
                out[value_at..][..value.len()].copy_from_slice(value);
            }
            Payload::Value { page, len_bytes } => {
                leaf(out, key_len | OUT_OF_LINE, len_bytes);
                page.encode(&mut out[value_at..]);
            }
            Payload::Child(page) => {
                out[0..2].copy_from_slice(&key_len.to_le_bytes());
                page.encode(&mut out[2..]);
                out[BRANCH_CELL_BYTES..][..self.key.len()].copy_from_slice(self.key);
            }
        }
    }
}

/// A node's bytes, read.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    bytes: &'a [u8],
}

impl<'a> Node<'a> {
    /// Reads a page that is a leaf or a branch.
    pub fn of(page: &'a Page) -> Node<'a> {
        debug_assert!(matches!(page.kind(), PageKind::Leaf | PageKind::Branch));
        Node { bytes: page.bytes() }
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

    pub fn key(&self, slot: usize) -> &'a [u8] {
        let at = self.cell_at(slot);
        let key_at = at + if self.is_leaf() { LEAF_CELL_BYTES } else { BRANCH_CELL_BYTES };
        &self.bytes[key_at..][..self.key_len(at)]
    }

    /// Where `key` stands, or where it would be inserted.
    pub fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low.midpoint(high);
            match self.key(middle).cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// The slot of the child that `key` is under.
    pub fn child_slot(&self, key: &[u8]) -> usize {
        // The first separator is empty and no key is below it, so an `Err` is at least 1.
        self.search(key).unwrap_or_else(|insert_at| insert_at.saturating_sub(1))
    }

    /// The child at `slot` of a branch.
    pub fn child(&self, slot: usize) -> PageRef {
        debug_assert!(!self.is_leaf());
        PageRef::decode(&self.bytes[self.cell_at(slot) + 2..])
    }

    pub fn cell(&self, slot: usize) -> Cell<'a> {
        let key = self.key(slot);
        if !self.is_leaf() {
            return Cell { key, payload: Payload::Child(self.child(slot)) };
        }
        let at = self.cell_at(slot);
        let len_bytes = u32_at(self.bytes, at + 2);
        let value_at = at + LEAF_CELL_BYTES + key.len();
        let payload = if self.is_out_of_line(at) {
            Payload::Value { page: PageRef::decode(&self.bytes[value_at..]), len_bytes }
        } else {
            Payload::Inline(&self.bytes[value_at..][..len_bytes as usize])
        };
        Cell { key, payload }
    }

    pub fn cells(&self) -> impl Iterator<Item = Cell<'a>> + use<'a> {
        let node = *self;
        (0..node.count()).map(move |slot| node.cell(slot))
    }

    /// Where the key of a leaf's cell lies in the page.
    pub fn key_range(&self, slot: usize) -> std::ops::Range<usize> {
        let at = self.cell_at(slot);
        let start = at + if self.is_leaf() { LEAF_CELL_BYTES } else { BRANCH_CELL_BYTES };
        start..start + self.key_len(at)
    }

    /// Bytes that the node needs once compacted.
    pub fn used_bytes(&self) -> usize {
        NODE_HEADER_BYTES + self.count() * SLOT_BYTES + (self.bytes.len() - self.heap())
            - self.dead()
    }

    /// Checks everything that the accessors rely on, and what a search relies on: cells inside the
    /// page, keys in strict order, references that can be. Says what is wrong.
    pub fn validate(page: &Page) -> Result<(), String> {
        let node = Node { bytes: page.bytes() };
        let birth = page.reference().birth;
        let is_leaf = page.kind() == PageKind::Leaf;
        if page.reference().span > MAX_NODE_PAGES {
            return Err(format!("a node of {} pages", page.reference().span));
        }
        if is_leaf != (node.level() == 0) || node.level() > MAX_LEVEL {
            return Err(format!("a {:?} of level {}", page.kind(), node.level()));
        }
        if node.count() < if is_leaf { 1 } else { 2 } {
            return Err(format!("a {:?} of {} cells", page.kind(), node.count()));
        }
        let slots_end = NODE_HEADER_BYTES + node.count() * SLOT_BYTES;
        if slots_end > node.heap() || node.heap() > node.bytes.len() {
            return Err(format!("{} cells from byte {}", node.count(), node.heap()));
        }
        let mut live = 0;
        for slot in 0..node.count() {
            node.validate_cell(slot, birth).map_err(|wrong| format!("cell {slot}: {wrong}"))?;
            if slot == 0 && !is_leaf && !node.key(0).is_empty() {
                return Err("a branch whose first key is not empty".into());
            }
            if slot > 0 && node.key(slot - 1) >= node.key(slot) {
                return Err(format!("cell {slot}: its key is not above the one before"));
            }
            live += node.cell(slot).len();
        }
        if live + node.dead() != node.bytes.len() - node.heap() {
            return Err(format!("{live} live and {} dead bytes", node.dead()));
        }
        Ok(())
    }

    fn validate_cell(&self, slot: usize, birth: u64) -> Result<(), String> {
        let at = self.cell_at(slot);
        let fixed = if self.is_leaf() { LEAF_CELL_BYTES } else { BRANCH_CELL_BYTES };
        if at < self.heap() || at + fixed > self.bytes.len() {
            return Err(format!("offset {at}"));
        }
        let key_len = self.key_len(at);
        let payload_len = match (self.is_leaf(), self.is_out_of_line(at)) {
            (true, false) => u32_at(self.bytes, at + 2) as usize,
            (true, true) => PageRef::ENCODED_BYTES,
            (false, _) => 0,
        };
        if key_len > MAX_TREE_KEY_BYTES || at + fixed + key_len + payload_len > self.bytes.len() {
            return Err(format!("a key of {key_len} and a value of {payload_len} bytes"));
        }
        let (page, span_is_right) = match self.cell(slot).payload {
            Payload::Inline(_) => return Ok(()),
            Payload::Value { page, len_bytes } => {
                (page, page.span == span_of_payload(len_bytes as usize))
            }
            Payload::Child(page) => (page, (1..=MAX_NODE_PAGES).contains(&page.span)),
        };
        if !span_is_right || page.birth > birth {
            return Err(format!("a reference to {page}"));
        }
        Ok(())
    }

    fn cell_at(&self, slot: usize) -> usize {
        u16_at(self.bytes, NODE_HEADER_BYTES + slot * SLOT_BYTES).into()
    }

    fn key_len(&self, cell_at: usize) -> usize {
        usize::from(u16_at(self.bytes, cell_at) & !OUT_OF_LINE)
    }

    fn is_out_of_line(&self, cell_at: usize) -> bool {
        u16_at(self.bytes, cell_at) & OUT_OF_LINE != 0
    }

    fn heap(&self) -> usize {
        u16_at(self.bytes, HEAP).into()
    }

    fn dead(&self) -> usize {
        u16_at(self.bytes, DEAD).into()
    }
}

/// A node's bytes, edited. Callers see to it that what they insert fits ([`Node::used_bytes`]).
pub struct NodeMut<'a> {
    bytes: &'a mut [u8],
}

impl<'a> NodeMut<'a> {
    pub fn of(page: &'a mut Page) -> NodeMut<'a> {
        NodeMut { bytes: page.bytes_mut() }
    }

    /// Lays `cells` into a new page.
    pub fn fill<'c>(page: &'a mut Page, level: u8, cells: impl Iterator<Item = Cell<'c>>) {
        let end = page.bytes().len() as u16;
        let mut node = NodeMut::of(page);
        node.bytes[LEVEL] = level;
        node.put_u16(HEAP, end);
        for (slot, cell) in cells.enumerate() {
            node.insert(slot, cell);
        }
    }

    /// Inserts `cell` before `slot`. The node has room for it, perhaps among its dead bytes.
    pub fn insert(&mut self, slot: usize, cell: Cell<'_>) {
        let count = self.read().count();
        let slots_end = NODE_HEADER_BYTES + (count + 1) * SLOT_BYTES;
        if slots_end + cell.len() > self.read().heap() {
            self.compact();
        }
        let at = self.read().heap() - cell.len();
        assert!(slots_end <= at, "callers insert only what fits");
        cell.encode(&mut self.bytes[at..]);
        let slot_at = NODE_HEADER_BYTES + slot * SLOT_BYTES;
        self.bytes.copy_within(slot_at..slots_end - SLOT_BYTES, slot_at + SLOT_BYTES);
        self.put_u16(slot_at, at as u16);
        self.put_u16(HEAP, at as u16);
        self.put_u16(COUNT, count as u16 + 1);
    }

    pub fn remove(&mut self, slot: usize) {
        let (count, dead) = (self.read().count(), self.read().dead());
        let len = self.read().cell(slot).len();
        let slot_at = NODE_HEADER_BYTES + slot * SLOT_BYTES;
        let slots_end = NODE_HEADER_BYTES + count * SLOT_BYTES;
        self.bytes.copy_within(slot_at + SLOT_BYTES..slots_end, slot_at);
        self.put_u16(COUNT, count as u16 - 1);
        self.put_u16(DEAD, (dead + len) as u16);
    }

    /// Points the branch's cell at `slot` to another child.
    pub fn set_child(&mut self, slot: usize, child: PageRef) {
        let at = self.read().cell_at(slot) + 2;
        child.encode(&mut self.bytes[at..]);
    }

    /// Moves all cells to the end of the page, so that no bytes between them are dead.
    fn compact(&mut self) {
        let old = self.bytes.to_vec();
        let old = Node { bytes: &old };
        let mut heap = self.bytes.len();
        for slot in 0..old.count() {
            let (from, len) = (old.cell_at(slot), old.cell(slot).len());
            heap -= len;
            self.bytes[heap..heap + len].copy_from_slice(&old.bytes[from..from + len]);
            self.put_u16(NODE_HEADER_BYTES + slot * SLOT_BYTES, heap as u16);
        }
        self.put_u16(HEAP, heap as u16);
        self.put_u16(DEAD, 0);
    }

    fn read(&self) -> Node<'_> {
        Node { bytes: self.bytes }
    }

    fn put_u16(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
}

/// The shortest string above `left` that is not above `right`: what a branch needs to tell two
/// neighbouring leaves apart.
pub fn shortest_separator<'a>(left: &[u8], right: &'a [u8]) -> &'a [u8] {
    debug_assert!(left < right);
    let shared = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    &right[..shared + 1]
}
