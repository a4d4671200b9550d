//! Sessions as tree 2 keeps them: what came of a client's last write.
//!
//! ```text
//! session   sequence u64 · used_at u64 (log index) · outcome
//! outcome   kind u8 · what the kind has:
//!   0 none, and nothing else              1 put: revision, create_revision, version (u64 each)
//!   2 deleted: count u64, revision u64    3 condition failed, no such key: revision u64
//!   4 condition failed: the key's revision u64, revision u64
//!   5 superseded: last sequence u64       6 transaction: succeeded u8, revision u64, results u16, results
//!   7 lease: id, ttl_ms, expires_at_ms, keys (u64 each)     8 no such lease: id u64
//!   9 too many leases, and nothing else   10 too many keys of a lease: id u64
//!   11 expired: keys u64, leases u64, revision u64
//! result    kind u8 · what the kind has:
//!   0 put: create_revision u64, version u64         1 deleted: count u64
//!   2 found: has_more u8, items u32, each with key length u16, key, head of a record, value length u32, value
//!   3 forgotten
//! ```
//!
//! There are many sessions, so a transaction of more than [`MAX_KEPT_BYTES`] is kept without what it read.

use bytes::{Buf, BufMut, Bytes};

use super::layout::{self, BadBytes, StoredRecord};
use crate::types::{Key, Lease, LeaseLimit, Outcome, Record, TxnResult};

/// Longest outcome that is kept with its reads.
pub const MAX_KEPT_BYTES: usize = 4 * 1024;

/// What the store remembers of a client's last write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub sequence: u64,
    /// Log index of the write; orders sessions by age.
    pub used_at: u64,
    pub outcome: Outcome,
}

/// Encodes a session.
pub fn encode_session(session: &Session) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(48);
    bytes.put_u64_le(session.sequence);
    bytes.put_u64_le(session.used_at);
    put_outcome(&mut bytes, &session.outcome);
    bytes
}

fn put_outcome(bytes: &mut Vec<u8>, outcome: &Outcome) {
    let mut put = |kind, fields: &[u64]| {
        bytes.put_u8(kind);
        fields.iter().for_each(|field| bytes.put_u64_le(*field));
    };
    match outcome {
        Outcome::None => put(0, &[]),
        Outcome::Put { revision, create_revision, version } => {
            put(1, &[*revision, *create_revision, *version])
        }
        Outcome::Deleted { count, revision } => put(2, &[*count, *revision]),
        Outcome::ConditionFailed { current: None, revision } => put(3, &[*revision]),
        Outcome::ConditionFailed { current: Some(current), revision } => {
            put(4, &[*current, *revision])
        }
        Outcome::Superseded { last_sequence } => put(5, &[*last_sequence]),
        Outcome::Txn { succeeded, revision, results } => {
            bytes.put_u8(6);
            bytes.put_u8((*succeeded).into());
            bytes.put_u64_le(*revision);
            bytes.put_u16_le(results.len() as u16);
            let is_short = results.iter().map(found_bytes).sum::<usize>() <= MAX_KEPT_BYTES;
            results.iter().for_each(|result| put_result(bytes, result, is_short));
        }
        Outcome::Lease(Lease { id, ttl_ms, expires_at_ms, keys }) => {
            put(7, &[id.number(), *ttl_ms, *expires_at_ms, *keys])
        }
        Outcome::NoLease(id) => put(8, &[id.number()]),
        Outcome::LeaseLimit(LeaseLimit::Leases) => put(9, &[]),
        Outcome::LeaseLimit(LeaseLimit::Keys(id)) => put(10, &[id.number()]),
        Outcome::Expired { keys, leases, revision } => put(11, &[*keys, *leases, *revision]),
    }
}

/// About what the reads of a result take.
fn found_bytes(result: &TxnResult) -> usize {
    let TxnResult::Found { items, .. } = result else { return 0 };
    items.iter().map(|(key, record)| 50 + key.as_bytes().len() + record.value.len()).sum()
}

fn put_result(bytes: &mut Vec<u8>, result: &TxnResult, with_reads: bool) {
    match result {
        TxnResult::Put { create_revision, version } => {
            bytes.put_u8(0);
            bytes.put_u64_le(*create_revision);
            bytes.put_u64_le(*version);
        }
        TxnResult::Deleted { count } => {
            bytes.put_u8(1);
            bytes.put_u64_le(*count);
        }
        TxnResult::Found { items, has_more } if with_reads => {
            bytes.put_u8(2);
            bytes.put_u8((*has_more).into());
            bytes.put_u32_le(items.len() as u32);
            for (key, record) in items {
                bytes.put_u16_le(key.as_bytes().len() as u16);
                bytes.put_slice(key.as_bytes());
                let (head, len) = layout::encode_record_head(&record.clone().into());
                bytes.put_slice(&head[..len]);
                bytes.put_u32_le(record.value.len() as u32);
                bytes.put_slice(&record.value);
            }
        }
        TxnResult::Found { .. } | TxnResult::Forgotten => bytes.put_u8(3),
    }
}

const CUT: BadBytes = BadBytes("a session is too short");

/// Decodes a session.
pub fn decode_session(bytes: &Bytes) -> Result<Session, BadBytes> {
    let mut reader = Reader(bytes.clone());
    let (sequence, used_at) = (reader.number()?, reader.number()?);
    let outcome = take_outcome(&mut reader)?;
    match reader.0.is_empty() {
        true => Ok(Session { sequence, used_at, outcome }),
        false => Err(BadBytes("a session is too long")),
    }
}

fn take_outcome(reader: &mut Reader) -> Result<Outcome, BadBytes> {
    Ok(match reader.byte()? {
        0 => Outcome::None,
        1 => Outcome::Put {
            revision: reader.number()?,
            create_revision: reader.number()?,
            version: reader.number()?,
        },
        2 => Outcome::Deleted { count: reader.number()?, revision: reader.number()? },
        3 => Outcome::ConditionFailed { current: None, revision: reader.number()? },
        4 => {
            Outcome::ConditionFailed { current: Some(reader.number()?), revision: reader.number()? }
        }
        5 => Outcome::Superseded { last_sequence: reader.number()? },
        6 => Outcome::Txn {
            succeeded: reader.byte()? != 0,
            revision: reader.number()?,
            results: take_results(reader)?,
        },
        7 => Outcome::Lease(Lease {
            id: layout::lease_id(reader.number()?)?,
            ttl_ms: reader.number()?,
            expires_at_ms: reader.number()?,
            keys: reader.number()?,
        }),
        8 => Outcome::NoLease(layout::lease_id(reader.number()?)?),
        9 => Outcome::LeaseLimit(LeaseLimit::Leases),
        10 => Outcome::LeaseLimit(LeaseLimit::Keys(layout::lease_id(reader.number()?)?)),
        11 => Outcome::Expired {
            keys: reader.number()?,
            leases: reader.number()?,
            revision: reader.number()?,
        },
        _ => return Err(BadBytes("a session has an unknown outcome")),
    })
}

fn take_results(reader: &mut Reader) -> Result<Vec<TxnResult>, BadBytes> {
    let count = reader.take(2)?.get_u16_le();
    (0..count)
        .map(|_| {
            Ok(match reader.byte()? {
                0 => {
                    TxnResult::Put { create_revision: reader.number()?, version: reader.number()? }
                }
                1 => TxnResult::Deleted { count: reader.number()? },
                2 => {
                    let has_more = reader.byte()? != 0;
                    let count = reader.take(4)?.get_u32_le();
                    let items = (0..count).map(|_| take_item(reader)).collect::<Result<_, _>>()?;
                    TxnResult::Found { items, has_more }
                }
                3 => TxnResult::Forgotten,
                _ => return Err(BadBytes("a session has an unknown result")),
            })
        })
        .collect()
}

fn take_item(reader: &mut Reader) -> Result<(Key, Record), BadBytes> {
    let key_len = reader.take(2)?.get_u16_le();
    let key = Key::new(reader.take(key_len.into())?);
    let key = key.map_err(|_| BadBytes("a session has a key of a bad length"))?;
    let StoredRecord { mut record, .. } = layout::decode_record_head(&mut reader.0)?;
    let value_len = reader.take(4)?.get_u32_le();
    record.value = reader.take(value_len as usize)?;
    Ok((key, record))
}

/// Takes bytes from the front, never past the end.
struct Reader(Bytes);

impl Reader {
    fn take(&mut self, len: usize) -> Result<Bytes, BadBytes> {
        if len > self.0.len() {
            return Err(CUT);
        }
        Ok(self.0.split_to(len))
    }

    fn byte(&mut self) -> Result<u8, BadBytes> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u64, BadBytes> {
        Ok(self.take(8)?.get_u64_le())
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::tests::ends;
    use super::*;
    use crate::types::{End, LeaseId};
    use proptest::prelude::*;

    fn results() -> impl Strategy<Value = TxnResult> {
        let n = any::<u64>;
        let bytes = |len| proptest::collection::vec(any::<u8>(), len).prop_map(Bytes::from);
        let item = (bytes(1..9), n(), n(), ends(), bytes(0..9)).prop_map(
            |(key, create_revision, mod_revision, end, value)| {
                let version = create_revision ^ 1;
                let key = Key::new(key).expect("a short key");
                (key, Record { create_revision, mod_revision, version, end, value })
            },
        );
        prop_oneof![
            (n(), n())
                .prop_map(|(create_revision, version)| TxnResult::Put { create_revision, version }),
            n().prop_map(|count| TxnResult::Deleted { count }),
            (proptest::collection::vec(item, 0..4), any::<bool>())
                .prop_map(|(items, has_more)| TxnResult::Found { items, has_more }),
            Just(TxnResult::Forgotten),
        ]
    }

    fn lease_ids() -> impl Strategy<Value = LeaseId> {
        (1..=u64::MAX).prop_map(|number| LeaseId::new(number).expect("not 0"))
    }

    fn outcomes() -> impl Strategy<Value = Outcome> {
        let n = any::<u64>;
        prop_oneof![
            Just(Outcome::None),
            (n(), n(), n()).prop_map(|(revision, create_revision, version)| Outcome::Put {
                revision,
                create_revision,
                version
            }),
            (n(), n()).prop_map(|(count, revision)| Outcome::Deleted { count, revision }),
            (any::<Option<u64>>(), n())
                .prop_map(|(current, revision)| Outcome::ConditionFailed { current, revision }),
            n().prop_map(|last_sequence| Outcome::Superseded { last_sequence }),
            (any::<bool>(), n(), proptest::collection::vec(results(), 0..6)).prop_map(
                |(succeeded, revision, results)| Outcome::Txn { succeeded, revision, results }
            ),
            (lease_ids(), n(), n(), n()).prop_map(|(id, ttl_ms, expires_at_ms, keys)| {
                Outcome::Lease(Lease { id, ttl_ms, expires_at_ms, keys })
            }),
            lease_ids().prop_map(Outcome::NoLease),
            Just(Outcome::LeaseLimit(LeaseLimit::Leases)),
            lease_ids().prop_map(|id| Outcome::LeaseLimit(LeaseLimit::Keys(id))),
            (n(), n(), n()).prop_map(|(keys, leases, revision)| Outcome::Expired {
                keys,
                leases,
                revision
            }),
        ]
    }

    proptest! {
        #[test]
        fn sessions_come_back(sequence in any::<u64>(), used_at in any::<u64>(), outcome in outcomes()) {
            let session = Session { sequence, used_at, outcome };
            let bytes = Bytes::from(encode_session(&session));
            prop_assert_eq!(decode_session(&bytes), Ok(session));
            for len in 0..bytes.len() {
                prop_assert!(decode_session(&bytes.slice(..len)).is_err());
            }
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode_session(&bytes.into());
        }
    }

    #[test]
    fn a_long_outcome_is_kept_without_its_reads() {
        let record = Record {
            create_revision: 1,
            mod_revision: 1,
            version: 1,
            end: End::Never,
            value: vec![0; MAX_KEPT_BYTES].into(),
        };
        let found =
            TxnResult::Found { items: vec![(Key::new("k").unwrap(), record)], has_more: false };
        let results = vec![TxnResult::Deleted { count: 7 }, found];
        let outcome = Outcome::Txn { succeeded: true, revision: 9, results };
        let session = Session { sequence: 1, used_at: 1, outcome };
        let bytes = Bytes::from(encode_session(&session));
        let kept = vec![TxnResult::Deleted { count: 7 }, TxnResult::Forgotten];
        let outcome = Outcome::Txn { succeeded: true, revision: 9, results: kept };
        assert_eq!(decode_session(&bytes), Ok(Session { outcome, ..session }));
        assert!(bytes.len() < 64);
    }
}
