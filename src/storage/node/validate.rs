//! Checking a node that comes from the disk, once, so that all later access is in bounds.

use super::{
    HEAD_BYTES, MAX_INLINE_VALUE_BYTES, MAX_LEVEL, MAX_NODE_PAGES, MAX_TREE_KEY_BYTES, Node,
    OUTLINE_CELL_BYTES, Payload, SLOT_BYTES, Slot,
};
use crate::storage::page::{self, PageKind, PageRef, span_of_payload, u16_at, u32_at};

impl Node<'_> {
    /// Checks everything that the accessors rely on, and what a search relies on: cells inside the
    /// page, keys in strict order, references that can be. Says what is wrong.
    pub fn validate(bytes: &[u8]) -> Result<(), String> {
        let node = Node { bytes };
        let at = page::reference(bytes);
        let is_leaf = page::kind(bytes) == PageKind::Leaf;
        if at.span > MAX_NODE_PAGES {
            return Err(format!("a node of {} pages", at.span));
        }
        if is_leaf != node.is_leaf() || node.level() > MAX_LEVEL {
            return Err(format!("a {:?} of level {}", page::kind(bytes), node.level()));
        }
        if node.count() < if is_leaf { 1 } else { 2 } {
            return Err(format!("a {:?} of {} cells", page::kind(bytes), node.count()));
        }
        let slots_end = node.slots_start() + node.count() * SLOT_BYTES;
        if slots_end > node.heap() || node.heap() > bytes.len() {
            return Err(format!(
                "{} cells from byte {}, a prefix of {} bytes",
                node.count(),
                node.heap(),
                node.prefix_len()
            ));
        }
        let mut live = 0;
        for slot in 0..node.count() {
            live += node
                .validate_cell(slot, at.birth)
                .map_err(|wrong| format!("cell {slot}: {wrong}"))?;
            if slot > usize::from(!is_leaf) && !node.is_above_previous(slot) {
                return Err(format!("cell {slot}: its key is not above the one before"));
            }
        }
        if live + node.dead() != bytes.len() - node.heap() {
            return Err(format!("{live} live and {} dead bytes", node.dead()));
        }
        Ok(())
    }

    /// Returns the length of the cell.
    fn validate_cell(&self, index: usize, birth: u64) -> Result<usize, String> {
        let slot = self.slot(index);
        let end = self.bytes.len();
        let fixed = match (self.is_leaf(), slot.is_out_of_line) {
            (true, false) => 2,
            (true, true) => OUTLINE_CELL_BYTES,
            (false, false) => PageRef::ENCODED_BYTES,
            (false, true) => return Err("a branch with a value".into()),
        };
        if slot.offset < self.heap() || slot.offset + fixed > end {
            return Err(format!("offset {}", slot.offset));
        }
        let cell = &self.bytes[slot.offset..end];
        let len = self.cell_len(&slot);
        let key_len = self.prefix_len() + slot.rest_len;
        if key_len > MAX_TREE_KEY_BYTES || len > cell.len() {
            return Err(format!("a key of {key_len} bytes in a cell of {len}"));
        }
        if !self.is_leaf() && index == 0 && slot.rest_len > 0 {
            return Err("a branch whose first key is not empty".into());
        }
        if !has_zeros_behind(&slot) {
            return Err(format!("a head of {:08x} for {} bytes", slot.head, slot.rest_len));
        }
        if self.is_leaf() && !slot.is_out_of_line {
            let value_len = usize::from(u16_at(cell, 0));
            if value_len > MAX_INLINE_VALUE_BYTES {
                return Err(format!("an inline value of {value_len} bytes"));
            }
            return Ok(len);
        }
        let (page, span_is_right) = match self.payload(index) {
            Payload::Outline { page, head, .. } => {
                let rest = u32_at(cell, 0).checked_sub(head.len() as u32);
                let span = rest.filter(|&rest| rest > 0).map(|rest| span_of_payload(rest as usize));
                (page, span == Some(page.span))
            }
            Payload::Child(page) => (page, (1..=MAX_NODE_PAGES).contains(&page.span)),
            Payload::Inline(_) => unreachable!("returned above"),
        };
        if !span_is_right || page.birth > birth {
            return Err(format!("a reference to {page}"));
        }
        Ok(len)
    }

    /// Whether the key at `slot` is above the one before it, both having the prefix.
    fn is_above_previous(&self, slot: usize) -> bool {
        let (before, this) = (self.slot(slot - 1), self.slot(slot));
        let key = |slot: &Slot| (slot.head, self.tail(slot), slot.rest_len);
        key(&before) < key(&this)
    }
}

/// Whether the bytes of the head that the key does not have are zeros.
fn has_zeros_behind(slot: &Slot) -> bool {
    match HEAD_BYTES.checked_sub(slot.rest_len) {
        Some(missing @ 1..) => slot.head.trailing_zeros() as usize >= 8 * missing,
        _ => true,
    }
}
