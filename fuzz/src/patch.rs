//! Changes to something real, read from the input of a fuzzer.
//!
//! ```text
//! patch   which u16 · offset u16 · length u8 · so many bytes        (little-endian; the last may be cut)
//! ```

/// Bytes to put in place of others.
pub struct Patch<'a> {
    which: u16,
    offset: u16,
    bytes: &'a [u8],
}

/// The patches that an input is.
pub fn patches(input: &[u8]) -> impl Iterator<Item = Patch<'_>> {
    let mut rest = input;
    std::iter::from_fn(move || {
        let (head, behind) = rest.split_first_chunk::<5>()?;
        let (bytes, behind) = behind.split_at(behind.len().min(head[4].into()));
        rest = behind;
        let number = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        Some(Patch { which: number(0), offset: number(2), bytes })
    })
}

impl Patch<'_> {
    /// Which of so many things it changes.
    pub fn which(&self, count: usize) -> usize {
        usize::from(self.which) % count.max(1)
    }

    /// Overwrites what of it fits.
    pub fn apply(&self, target: &mut [u8]) {
        let start = usize::from(self.offset) % target.len().max(1);
        let len = self.bytes.len().min(target.len() - start);
        target[start..start + len].copy_from_slice(&self.bytes[..len]);
    }
}
