//! The token that continues a scan: which revision, and what is left of the range.
//!
//! A token carries all it needs, so that it is good on any node that still has its revision:
//!
//! ```text
//! version u8 = 1 | flags u8 | revision u64 | fingerprint u32 | prefix_len u16
//!   | start_len u16, start | end_len u16, end      (flag END)
//!   | delimiter_len u8, delimiter                  (flag DELIMITER)
//!   | crc32 of all before u32
//! ```
//!
//! Numbers are big-endian, the whole is base64url without padding. The checksum tells a token that was
//! cut or mistyped from one that has expired; it is no signature, and need not be: a forged token can
//! name no more than a scan could. The fingerprint is that of the first request's parameters, so that
//! a client may repeat them beside the cursor, and is told when they do not belong together.
//!
//! A gap: a token does not name its cluster. Used against another one that happens to be at the same
//! revision, it continues there.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use crate::types::{KeyRange, MAX_KEY_BYTES, Revision};

const VERSION: u8 = 1;
const REVERSE: u8 = 1;
const KEYS_ONLY: u8 = 2;
const END: u8 = 4;
const DELIMITER: u8 = 8;

/// Longest bound of a range: the successor of the longest key.
const MAX_BOUND_BYTES: usize = MAX_KEY_BYTES + 1;

/// What a scan walks, or what is left of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub range: KeyRange,
    pub reverse: bool,
    pub keys_only: bool,
    /// Keys that hold this after the prefix are rolled up to what they share; never empty.
    pub delimiter: Option<Bytes>,
    /// How much of `range.start` is the prefix; all keys of the range share it.
    pub prefix_len: usize,
}

/// A place in a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub revision: Revision,
    /// Of the parameters of the first request.
    pub fingerprint: u32,
    pub rest: Plan,
}

impl Cursor {
    pub fn encode(&self) -> String {
        let Plan { range, reverse, keys_only, delimiter, prefix_len } = &self.rest;
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let mut token = vec![VERSION];
        token.push(
            flag(*reverse, REVERSE)
                | flag(*keys_only, KEYS_ONLY)
                | flag(range.end.is_some(), END)
                | flag(delimiter.is_some(), DELIMITER),
        );
        token.extend(self.revision.to_be_bytes());
        token.extend(self.fingerprint.to_be_bytes());
        token.extend((*prefix_len as u16).to_be_bytes());
        for bound in [Some(&range.start), range.end.as_ref()].into_iter().flatten() {
            token.extend((bound.len() as u16).to_be_bytes());
            token.extend_from_slice(bound);
        }
        if let Some(delimiter) = delimiter {
            token.push(delimiter.len() as u8);
            token.extend_from_slice(delimiter);
        }
        token.extend(crc32fast::hash(&token).to_be_bytes());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// `None` for anything [`Cursor::encode`] does not make.
    pub fn decode(token: &[u8]) -> Option<Cursor> {
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (payload, checksum) = token.split_last_chunk::<4>()?;
        if crc32fast::hash(payload) != u32::from_be_bytes(*checksum) {
            return None;
        }
        let mut reader = Reader(payload);
        let [version, flags] = reader.array()?;
        let revision = u64::from_be_bytes(reader.array()?);
        let fingerprint = u32::from_be_bytes(reader.array()?);
        let prefix_len = usize::from(u16::from_be_bytes(reader.array()?));
        let start = reader.bound()?;
        let end = if flags & END != 0 { Some(reader.bound()?) } else { None };
        let delimiter = if flags & DELIMITER != 0 {
            let [len] = reader.array()?;
            Some(reader.bytes(len.into()).filter(|delimiter| !delimiter.is_empty())?)
        } else {
            None
        };
        let is_whole = reader.0.is_empty() && version == VERSION && prefix_len <= start.len();
        is_whole.then_some(Cursor {
            revision,
            fingerprint,
            rest: Plan {
                range: KeyRange { start, end },
                reverse: flags & REVERSE != 0,
                keys_only: flags & KEYS_ONLY != 0,
                delimiter,
                prefix_len,
            },
        })
    }
}

/// Takes bytes from the front, never past the end.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    fn bytes(&mut self, len: usize) -> Option<Bytes> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(Bytes::copy_from_slice(bytes))
    }

    fn bound(&mut self) -> Option<Bytes> {
        let len = usize::from(u16::from_be_bytes(self.array()?));
        self.bytes(len).filter(|bound| bound.len() <= MAX_BOUND_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cursors() -> impl Strategy<Value = Cursor> {
        let bound =
            || prop::collection::vec(any::<u8>(), 0..=MAX_BOUND_BYTES).prop_map(Bytes::from);
        let delimiter = prop::collection::vec(any::<u8>(), 1..=255).prop_map(Bytes::from);
        (
            any::<(u64, u32, bool, bool, prop::sample::Index)>(),
            bound(),
            prop::option::of(bound()),
            prop::option::of(delimiter),
        )
            .prop_map(
                |((revision, fingerprint, reverse, keys_only, at), start, end, delimiter)| {
                    let prefix_len = at.index(start.len() + 1);
                    let range = KeyRange { start, end };
                    let rest = Plan { range, reverse, keys_only, delimiter, prefix_len };
                    Cursor { revision, fingerprint, rest }
                },
            )
    }

    proptest! {
        #[test]
        fn a_token_brings_back_its_cursor_and_no_damaged_one_passes(
            cursor in cursors(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let token = cursor.encode().into_bytes();
            prop_assert_eq!(Cursor::decode(&token), Some(cursor));
            let mut damaged = token.clone();
            let at = at.index(token.len());
            damaged[at] = byte;
            prop_assume!(damaged != token);
            prop_assert_eq!(Cursor::decode(&damaged), None);
            prop_assert_eq!(Cursor::decode(&token[..at]), None);
        }

        #[test]
        fn garbage_is_no_cursor(garbage in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Cursor::decode(&garbage), None);
            prop_assert_eq!(Cursor::decode(URL_SAFE_NO_PAD.encode(&garbage).as_bytes()), None);
        }
    }
}
