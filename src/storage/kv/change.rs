//! Changes as tree 4 keeps them: what became of a key, and the record it replaced.
//!
//! The replaced record is there with its head first and its key in between, so that of a long value everything
//! but the value stays in the leaf, where walks along the index find it without reading values.
//! Only a key too long for that lies with the value. The bytes are drawn in `layout`.

use bytes::{Buf, BufMut, Bytes};

use super::layout::{self, BadBytes, MAX_RECORD_HEAD_BYTES, StoredRecord};
use crate::storage::StoredValue;
use crate::types::Revision;

const PUT_NEW: u8 = 0;
const PUT_OVER: u8 = 1;
const DELETE: u8 = 2;
const EXPIRE: u8 = 3;

/// Bytes of a change before the replaced record's.
const FIXED_BYTES: usize = 1 + 2;

/// Longest key that lies before the value: what the head of a stored value has room for.
const MAX_NEAR_KEY_BYTES: usize = MAX_HEAD_BYTES - FIXED_BYTES - MAX_RECORD_HEAD_BYTES;
const MAX_HEAD_BYTES: usize = 255;

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Put,
    Delete,
    Expire,
}

impl ChangeKind {
    /// What clients call it.
    pub fn name(self) -> &'static str {
        match self {
            ChangeKind::Put => "put",
            ChangeKind::Delete => "delete",
            ChangeKind::Expire => "expire",
        }
    }
}

/// Names a change: its revision, and which of that revision's it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeId {
    pub revision: Revision,
    pub ordinal: u32,
}

impl ChangeId {
    pub const ENCODED_BYTES: usize = 12;

    /// The change that made what tree 0, or another change, holds of a key.
    pub fn of(stored: &StoredRecord) -> ChangeId {
        ChangeId { revision: stored.record.mod_revision, ordinal: stored.ordinal }
    }

    /// The next one of the same revision, if there is one.
    pub fn next(self) -> ChangeId {
        ChangeId { ordinal: self.ordinal.saturating_add(1), ..self }
    }

    pub fn encode(self) -> [u8; ChangeId::ENCODED_BYTES] {
        let mut key = [0; ChangeId::ENCODED_BYTES];
        key[..8].copy_from_slice(&self.revision.to_be_bytes());
        key[8..].copy_from_slice(&self.ordinal.to_be_bytes());
        key
    }

    /// The first key behind that of this change.
    pub fn end(self) -> [u8; ChangeId::ENCODED_BYTES + 1] {
        let mut end = [0; ChangeId::ENCODED_BYTES + 1];
        end[..ChangeId::ENCODED_BYTES].copy_from_slice(&self.encode());
        end
    }

    pub fn decode(mut key: &[u8]) -> Result<ChangeId, BadBytes> {
        if key.len() != ChangeId::ENCODED_BYTES {
            return Err(BadBytes("a change has a bad key"));
        }
        Ok(ChangeId { revision: key.get_u64(), ordinal: key.get_u32() })
    }
}

/// A decoded change; of one whose head alone was read, the replaced record has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeEntry<K> {
    pub kind: ChangeKind,
    pub key: K,
    pub replaced: Option<StoredRecord>,
}

/// Length of the change that replaces a record of `stored_len` bytes.
pub fn change_len(key: &[u8], stored_len: usize) -> u64 {
    (FIXED_BYTES + key.len() + stored_len) as u64
}

/// The value of a replaced record.
#[derive(Clone)]
pub enum Value<'a> {
    /// In the leaf.
    Near(&'a [u8]),
    Far(Bytes),
}

/// Where changes are encoded, in the two parts that they are stored in.
pub struct ChangeBuffer {
    head: [u8; MAX_HEAD_BYTES],
    head_len: usize,
    body: Vec<u8>,
    /// A long value, which is not copied; then `body` is empty.
    far: Bytes,
}

impl ChangeBuffer {
    pub fn new() -> ChangeBuffer {
        let (body, far) = (Vec::new(), Bytes::new());
        ChangeBuffer { head: [0; MAX_HEAD_BYTES], head_len: 0, body, far }
    }

    /// Encodes a change over the one before. A far value is not copied unless its key is long.
    pub fn encode(
        &mut self,
        kind: ChangeKind,
        key: &[u8],
        replaced: Option<(&StoredRecord, Value<'_>)>,
    ) {
        self.body.clear();
        self.far = Bytes::new();
        let mut out = &mut self.head[..];
        out.put_u8(match (kind, &replaced) {
            (ChangeKind::Put, None) => PUT_NEW,
            (ChangeKind::Put, Some(_)) => PUT_OVER,
            (ChangeKind::Delete, _) => DELETE,
            (ChangeKind::Expire, _) => EXPIRE,
        });
        out.put_u16_le(key.len() as u16);
        if let Some((record, _)) = &replaced {
            let (head, len) = layout::encode_record_head(record);
            out.put_slice(&head[..len]);
        }
        if key.len() <= MAX_NEAR_KEY_BYTES {
            out.put_slice(key);
        } else {
            self.body.extend_from_slice(key);
        }
        self.head_len = MAX_HEAD_BYTES - out.len();
        match replaced {
            None => {}
            Some((_, Value::Near(value))) => self.body.extend_from_slice(value),
            Some((_, Value::Far(value))) if self.body.is_empty() => self.far = value,
            Some((_, Value::Far(value))) => self.body.extend_from_slice(&value),
        }
    }

    pub fn head(&self) -> &[u8] {
        &self.head[..self.head_len]
    }

    pub fn body(&self) -> &[u8] {
        if self.far.is_empty() { &self.body } else { &self.far }
    }
}

/// Decodes a whole change; key and value share what was read.
pub fn decode_change(stored: StoredValue) -> Result<ChangeEntry<Bytes>, BadBytes> {
    let StoredValue { mut head, mut body } = stored;
    let (kind, key_len, mut replaced) = decode_fixed(&mut head)?;
    let key_side = if head.is_empty() { &mut body } else { &mut head };
    if key_side.len() < key_len {
        return Err(BadBytes("a change is cut in its key"));
    }
    let key = key_side.split_to(key_len);
    let value = layout::rest_of(head, body)?;
    match &mut replaced {
        Some(replaced) => replaced.record.value = value,
        None if value.is_empty() => {}
        None => return Err(BadBytes("a change has a value of nothing")),
    }
    Ok(ChangeEntry { kind, key, replaced })
}

/// Decodes what lies in the leaf: no value, and no key when it is not there.
pub fn decode_change_head(mut head: &[u8]) -> Result<ChangeEntry<Option<&[u8]>>, BadBytes> {
    let (kind, key_len, replaced) = decode_fixed(&mut head)?;
    Ok(ChangeEntry { kind, key: head.get(..key_len), replaced })
}

fn decode_fixed(
    bytes: &mut impl Buf,
) -> Result<(ChangeKind, usize, Option<StoredRecord>), BadBytes> {
    if bytes.remaining() < FIXED_BYTES {
        return Err(BadBytes("a change is too short"));
    }
    let (kind, key_len) = (bytes.get_u8(), bytes.get_u16_le().into());
    let kind = match kind {
        PUT_NEW => return Ok((ChangeKind::Put, key_len, None)),
        PUT_OVER => ChangeKind::Put,
        DELETE => ChangeKind::Delete,
        EXPIRE => ChangeKind::Expire,
        _ => return Err(BadBytes("a change has an unknown kind")),
    };
    Ok((kind, key_len, Some(layout::decode_record_head(bytes)?)))
}

#[cfg(test)]
mod tests {
    use super::super::layout::tests::ends;
    use super::*;
    use crate::types::Record;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn changes_come_back_whole_or_cut_where_a_leaf_cuts_them(
            key in proptest::collection::vec(any::<u8>(), 1..400),
            value in proptest::collection::vec(any::<u8>(), 0..64),
            (kind, ordinal, is_far) in any::<(u8, u32, bool)>(),
            end in ends(),
        ) {
            let record = Record {
                create_revision: 7, mod_revision: 8, version: 9, end, value: value.into()
            };
            let replaced = StoredRecord { record, ordinal, is_deleted: kind == 3 };
            let (kind, replaced) = match kind % 4 {
                0 => (ChangeKind::Put, None),
                1 => (ChangeKind::Put, Some(replaced)),
                2 => (ChangeKind::Delete, Some(replaced)),
                _ => (ChangeKind::Expire, Some(replaced)),
            };
            let mut encoded = ChangeBuffer::new();
            encoded.encode(ChangeKind::Delete, b"another", None);
            let lent = replaced.as_ref().map(|stored| {
                let value = &stored.record.value;
                (stored, if is_far { Value::Far(value.clone()) } else { Value::Near(value) })
            });
            encoded.encode(kind, &key, lent);
            let change = ChangeEntry { kind, key: Bytes::from(key.clone()), replaced: replaced.clone() };
            let whole = [encoded.head(), encoded.body()].concat();
            let stored_len = whole.len() - FIXED_BYTES - key.len();
            prop_assert_eq!(change_len(&key, stored_len), whole.len() as u64);
            let inline = StoredValue { head: whole.into(), body: Bytes::new() };
            prop_assert_eq!(decode_change(inline), Ok(change.clone()));
            let outline = StoredValue {
                head: Bytes::copy_from_slice(encoded.head()),
                body: Bytes::copy_from_slice(encoded.body()),
            };
            prop_assert_eq!(decode_change(outline), Ok(change));
            let near = decode_change_head(encoded.head()).unwrap().key;
            prop_assert_eq!(near, (key.len() <= MAX_NEAR_KEY_BYTES).then_some(&key[..]));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = ChangeId::decode(&bytes);
            let _ = decode_change_head(&bytes);
            let (head, body) = bytes.split_at(bytes.len() / 2);
            let (head, body) = (Bytes::copy_from_slice(head), Bytes::copy_from_slice(body));
            let _ = decode_change(StoredValue { head, body });
        }
    }
}
