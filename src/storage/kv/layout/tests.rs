//! What is encoded comes back, and garbage is told.

use super::*;
use proptest::prelude::*;

/// All that the end of a record can be.
pub fn ends() -> impl Strategy<Value = End> {
    prop_oneof![
        Just(End::Never),
        any::<u64>().prop_map(|ms| End::At { ms }),
        (1..=u64::MAX).prop_map(|id| End::WithLease(lease_id(id).expect("not 0"))),
    ]
}

proptest! {
    #[test]
    fn records_come_back(
        revisions in prop_oneof![
            any::<(u64, u64, u64)>(),
            any::<(u32, u32, u16)>().prop_map(|(create, since, version)| {
                (create.into(), u64::from(create) + u64::from(since), version.into())
            }),
        ],
        end in ends(),
        (ordinal, is_deleted) in any::<(u32, bool)>(),
        value in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let record = Record {
            create_revision: revisions.0,
            mod_revision: revisions.1,
            version: revisions.2,
            end,
            value: value.into(),
        };
        let value = record.value.clone();
        let stored = StoredRecord { record, ordinal, is_deleted };
        let (head, len) = encode_record_head(&stored);
        let head = Bytes::copy_from_slice(&head[..len]);
        let inline = StoredValue { head: [&head, &value].map(|b| &b[..]).concat().into(), body: Bytes::new() };
        prop_assert_eq!(decode_record(inline), Ok(stored.clone()));
        let outline = StoredValue { head, body: value };
        prop_assert_eq!(decode_record(outline), Ok(stored));
    }

    #[test]
    fn only_what_fits_is_narrow(
        create in prop_oneof![(1u64 << 48) - 2..(1 << 48) + 2, 0..4u64],
        since in prop_oneof![(1u64 << 32) - 2..(1 << 32) + 2, 0..4u64],
        version in prop_oneof![(1u64 << 16) - 2..(1 << 16) + 2, 0..4u64],
    ) {
        let record = Record {
            create_revision: create,
            mod_revision: create + since,
            version,
            end: End::Never,
            value: Bytes::new(),
        };
        let fits = create >> 48 == 0 && since >> 32 == 0 && version >> 16 == 0;
        let (head, len) = encode_record_head(&record.clone().into());
        prop_assert_eq!(len, if fits { RECORD_HEAD_BYTES } else { 1 + WIDE_BYTES });
        prop_assert_eq!(decode_record_head(&mut &head[..len]), Ok(record.into()));
    }

    #[test]
    fn facts_come_back(
        applied in any::<Option<(u64, u64)>>(),
        (revision, sessions, trimmed) in any::<(u64, u64, u64)>(),
        (change_bytes, clock_ms) in any::<(u64, u64)>(),
    ) {
        let applied = applied.map(|(term, index)| LogId { term, index });
        let facts = KvFacts { applied, revision, sessions, trimmed, change_bytes, clock_ms };
        prop_assert_eq!(KvFacts::decode(&facts.encode()), facts);
    }

    #[test]
    fn leases_and_deadlines_come_back(
        (number, ttl_ms, expires_at_ms, keys) in (1..=u64::MAX, any::<u64>(), any::<u64>(), any::<u64>()),
        key in proptest::collection::vec(any::<u8>(), 1..20),
    ) {
        let id = lease_id(number).expect("not 0");
        let lease = Lease { id, ttl_ms, expires_at_ms, keys };
        prop_assert_eq!(decode_lease(&encode_lease_id(id), &encode_lease(&lease)), Ok(lease));
        for due in [Due::Record(&key), Due::Lease(id)] {
            let bytes = deadline_key(expires_at_ms, due);
            prop_assert_eq!(split_deadline(&bytes), Ok((expires_at_ms, due)));
        }
        let bytes = lease_key(id, &key);
        prop_assert_eq!(key_of_lease(&bytes), Ok(&key[..]));
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let (head, body) = bytes.split_at(bytes.len() / 2);
        let _ = decode_record(StoredValue {
            head: Bytes::copy_from_slice(head),
            body: Bytes::copy_from_slice(body),
        });
        let _ = (split_deadline(&bytes), decode_lease(head, body), key_of_lease(head));
        let _ = decode_log_id(&bytes.into());
    }
}
