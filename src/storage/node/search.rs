//! Finding a key in a node.
//!
//! Heads are bisected without a branch that depends on them: the processor would guess half of
//! those wrong, at the price of a dozen comparisons each. Only where heads tie are cells read.

use std::cmp::Ordering;

use super::{HEAD_BYTES, Node, SLOT_BYTES, decode_slot, head_of};
use crate::storage::page::u32_at;

impl Node<'_> {
    /// The slot of `key` in a leaf, or the slot before which it belongs.
    pub fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let slots = self.slots();
        let Some(rest) = self.behind_prefix(key) else {
            return Err(if key < self.prefix() { 0 } else { slots.len() });
        };
        let head = head_of(rest);
        let mut slot = lower_bound(slots, head);
        let mut high = slots.len();
        while slot < high && u32_at(&slots[slot], 0) == head {
            // Most often the first is the only one; then bisect what ties.
            match self.compare(slot, rest, head) {
                Ordering::Equal => return Ok(slot),
                Ordering::Greater => return Err(slot),
                Ordering::Less => slot += 1,
            }
            let middle = slot + (high - slot) / 2;
            if middle < high {
                match self.compare(middle, rest, head) {
                    Ordering::Equal => return Ok(middle),
                    Ordering::Greater => high = middle,
                    Ordering::Less => slot = middle + 1,
                }
            }
        }
        Err(slot)
    }

    /// Whether all keys of a leaf are below `key`.
    pub fn is_below(&self, key: &[u8]) -> bool {
        let Some(rest) = self.behind_prefix(key) else { return key > self.prefix() };
        self.compare(self.count() - 1, rest, head_of(rest)).is_lt()
    }

    /// The slot of the child of a branch that `key` is under: the last whose key is not above it.
    pub fn child_slot(&self, key: &[u8]) -> usize {
        let slots = self.slots();
        let Some(rest) = self.behind_prefix(key) else {
            return if key < self.prefix() { 0 } else { slots.len() - 1 };
        };
        let head = head_of(rest);
        // The first slot is below every key.
        let mut slot = 1 + lower_bound(&slots[1..], head);
        let mut high = slots.len();
        while slot < high && u32_at(&slots[slot], 0) == head {
            let middle = slot + (high - slot) / 2;
            match self.compare(middle, rest, head) {
                Ordering::Equal => return middle,
                Ordering::Greater => high = middle,
                Ordering::Less => slot = middle + 1,
            }
        }
        slot - 1
    }

    /// How the key at `slot` compares with a key that goes on with `rest` behind the prefix.
    fn compare(&self, slot: usize, rest: &[u8], head: u32) -> Ordering {
        let slot = decode_slot(&self.slots()[slot]);
        slot.head.cmp(&head).then_with(|| {
            let tail = rest.get(HEAD_BYTES..).unwrap_or_default();
            // Equal heads and tails: only zeros that fill a short head can differ.
            self.tail(&slot).cmp(tail).then(slot.rest_len.cmp(&rest.len()))
        })
    }
}

/// The first of the slots whose head is not below `head`.
fn lower_bound(slots: &[[u8; SLOT_BYTES]], head: u32) -> usize {
    let mut base = 0;
    let mut size = slots.len();
    while size > 1 {
        let half = size / 2;
        // Compiles to a conditional move.
        base = if u32_at(&slots[base + half - 1], 0) < head { base + half } else { base };
        size -= half;
    }
    base + usize::from(size == 1 && u32_at(&slots[base], 0) < head)
}
