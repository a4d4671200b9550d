//! Changing a node's bytes in place.

use super::{
    BRANCH_CELL_BYTES, COUNT, Cell, DEAD, HEAD_BYTES, HEAP, INLINE_CELL_BYTES, LEVEL,
    NODE_HEADER_BYTES, Node, OUTLINE_CELL_BYTES, PREFIX_LEN, Payload, SLOT_BYTES, Slot,
    encode_slot, head_of, prefix_len_of,
};
use crate::storage::page::PageRef;

/// A node's bytes, edited. Callers see to it that what they insert fits and begins with the node's
/// prefix ([`Node::has_room_for`]).
pub struct NodeMut<'a> {
    bytes: &'a mut [u8],
}

impl Node<'_> {
    /// Whether [`NodeMut::insert`] takes this cell, after `gone_bytes` of others were removed.
    pub fn has_room_for(&self, cell: &Cell<'_>, gone_bytes: usize) -> bool {
        self.behind_prefix(cell.key).is_some()
            && self.used_bytes() - gone_bytes + cell.size(self.prefix_len()) <= self.bytes.len()
    }
}

impl<'a> NodeMut<'a> {
    pub fn of(bytes: &'a mut [u8]) -> NodeMut<'a> {
        NodeMut { bytes }
    }

    /// Lays `cells`, which are in order, into a new page.
    pub fn fill(bytes: &'a mut [u8], level: u8, cells: &[Cell<'_>]) {
        let prefix_len = prefix_len_of(level, cells);
        let prefix = cells.last().map_or(&[][..], |last| &last.key[..prefix_len]);
        let mut node = NodeMut::begin(bytes, level, prefix);
        cells.iter().for_each(|cell| node.push(cell));
    }

    /// Begins a node whose cells all start with `prefix`, but for the first of a branch.
    pub fn begin(bytes: &'a mut [u8], level: u8, prefix: &[u8]) -> NodeMut<'a> {
        let heap = bytes.len();
        bytes[NODE_HEADER_BYTES..][..prefix.len()].copy_from_slice(prefix);
        bytes[LEVEL] = level;
        let mut node = NodeMut { bytes };
        node.put_u16(PREFIX_LEN, prefix.len());
        node.put_u16(HEAP, heap);
        node
    }

    /// Appends a cell whose key is above all others'.
    pub fn push(&mut self, cell: &Cell<'_>) {
        self.insert(self.read().count(), cell);
    }

    /// Inserts `cell` before `slot`. The node has room for it, perhaps among its dead bytes.
    pub fn insert(&mut self, slot: usize, cell: &Cell<'_>) {
        let node = self.read();
        let (count, is_unbounded) = (node.count(), slot == 0 && !node.is_leaf());
        // The first of a branch stands for all keys below the next one, whatever its own was.
        let rest = if is_unbounded { &[] } else { &cell.key[node.prefix_len()..] };
        let tail = rest.get(HEAD_BYTES..).unwrap_or_default();
        let len = tail.len() + cell.payload.len();
        let slots_start = node.slots_start();
        let slots_end = slots_start + (count + 1) * SLOT_BYTES;
        if slots_end + len > self.read().heap() {
            self.compact();
        }
        let offset = self.read().heap().checked_sub(len).expect("callers insert what fits");
        assert!(slots_end <= offset, "callers insert only what fits");
        encode_cell(&mut self.bytes[offset..offset + len], tail, &cell.payload);
        let slot_at = slots_start + slot * SLOT_BYTES;
        self.bytes.copy_within(slot_at..slots_end - SLOT_BYTES, slot_at + SLOT_BYTES);
        let is_out_of_line = matches!(cell.payload, Payload::Outline { .. });
        let entry = Slot { head: head_of(rest), offset, rest_len: rest.len(), is_out_of_line };
        self.bytes[slot_at..slot_at + SLOT_BYTES].copy_from_slice(&encode_slot(&entry));
        self.put_u16(HEAP, offset);
        self.put_u16(COUNT, count + 1);
    }

    pub fn remove(&mut self, slot: usize) {
        let (count, dead) = (self.read().count(), self.read().dead());
        let len = self.read().cell_size(slot) - SLOT_BYTES;
        let slots_start = self.read().slots_start();
        let slot_at = slots_start + slot * SLOT_BYTES;
        let slots_end = slots_start + count * SLOT_BYTES;
        self.bytes.copy_within(slot_at + SLOT_BYTES..slots_end, slot_at);
        self.put_u16(COUNT, count - 1);
        self.put_u16(DEAD, dead + len);
    }

    /// Gives the leaf's cell at `slot` another value, in its place where both are inline and as
    /// long. The node has room for it.
    pub fn set_value(&mut self, slot: usize, cell: &Cell<'_>) {
        let node = self.read();
        if let (Payload::Inline(old), Payload::Inline(new)) = (node.payload(slot), &cell.payload)
            && old.len() == new.len()
        {
            let place = node.slot(slot);
            let value_at = place.offset + INLINE_CELL_BYTES + place.tail_len();
            self.bytes[value_at..][..new.len()].copy_from_slice(new);
            return;
        }
        self.remove(slot);
        self.insert(slot, cell);
    }

    /// Points the branch's cell at `slot` to another child.
    pub fn set_child(&mut self, slot: usize, child: PageRef) {
        let at = self.read().slot(slot).offset;
        child.encode(&mut self.bytes[at..]);
    }

    /// Points the leaf's out-of-line cell at `slot` to the page where its value lies now.
    pub fn set_value_page(&mut self, slot: usize, value: PageRef) {
        let at = self.read().slot(slot).offset + OUTLINE_CELL_BYTES - PageRef::ENCODED_BYTES;
        value.encode(&mut self.bytes[at..]);
    }

    /// Moves all cells to the end of the page, so that no bytes between them are dead.
    fn compact(&mut self) {
        let old = self.bytes.to_vec();
        let old = Node { bytes: &old };
        let mut heap = self.bytes.len();
        for slot in 0..old.count() {
            let entry = old.slot(slot);
            let len = old.cell_len(&entry);
            heap -= len;
            self.bytes[heap..heap + len].copy_from_slice(&old.bytes[entry.offset..][..len]);
            let slot_at = old.slots_start() + slot * SLOT_BYTES;
            let moved = encode_slot(&Slot { offset: heap, ..entry });
            self.bytes[slot_at..slot_at + SLOT_BYTES].copy_from_slice(&moved);
        }
        self.put_u16(HEAP, heap);
        self.put_u16(DEAD, 0);
    }

    fn read(&self) -> Node<'_> {
        Node { bytes: self.bytes }
    }

    fn put_u16(&mut self, at: usize, value: usize) {
        let value = u16::try_from(value).expect("a node is shorter than 64 KiB");
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
}

fn encode_cell(out: &mut [u8], tail: &[u8], payload: &Payload<'_>) {
    match payload {
        Payload::Inline(value) => {
            out[0..2].copy_from_slice(&(value.len() as u16).to_le_bytes());
            out[INLINE_CELL_BYTES..][..tail.len()].copy_from_slice(tail);
            out[INLINE_CELL_BYTES + tail.len()..].copy_from_slice(value);
        }
        Payload::Outline { head, len_bytes, page } => {
            out[0..4].copy_from_slice(&len_bytes.to_le_bytes());
            out[4] = head.len() as u8;
            page.encode(&mut out[5..]);
            out[OUTLINE_CELL_BYTES..][..tail.len()].copy_from_slice(tail);
            out[OUTLINE_CELL_BYTES + tail.len()..].copy_from_slice(head);
        }
        Payload::Child(page) => {
            page.encode(out);
            out[BRANCH_CELL_BYTES..].copy_from_slice(tail);
        }
    }
}
