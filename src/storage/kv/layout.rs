//! Bytes of the state machine's values: records, sessions and the system tree.
//!
//! All integers are little-endian unless they are part of a key, where big-endian keeps byte order and
//! number order the same. Drawn also in docs/FORMAT.md, "state machine".
//!
//! ```text
//! tree "kv": key → record
//!   create_revision u64 · mod_revision u64 · version u64 · flags u8 (bit 0: expires) ·
//!   [expires_at_ms u64] · value
//! tree "sessions": client name → session
//!   sequence u64 · used_at u64 (log index) · outcome
//!   outcome = kind u8 · a u64 · b u64 · c u64, see `put_outcome`
//! tree "session-age": used_at u64 big-endian · client name → nothing
//! tree "system":
//!   "applied" → term u64 · index u64          "revision" → u64          "sessions" → u64 (count)
//!   "membership" → term u64 · index u64 · the membership entry, opaque
//! ```

use bytes::{Buf, BufMut, Bytes};

use crate::types::{LogId, Outcome, Record, Revision};

/// Bytes of a record before its value.
const RECORD_HEAD_BYTES: usize = 25;
const FLAG_EXPIRES: u8 = 1;

/// Bytes that cannot be what they should be: a defect, or damage that the checksums did not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadBytes(pub &'static str);

/// Encodes a record.
pub fn encode_record(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD_HEAD_BYTES + 8 + record.value.len());
    bytes.put_u64_le(record.create_revision);
    bytes.put_u64_le(record.mod_revision);
    bytes.put_u64_le(record.version);
    bytes.put_u8(if record.expires_at_ms.is_some() { FLAG_EXPIRES } else { 0 });
    if let Some(expires_at_ms) = record.expires_at_ms {
        bytes.put_u64_le(expires_at_ms);
    }
    bytes.extend_from_slice(&record.value);
    bytes
}

/// Decodes a record; the value shares `bytes`.
pub fn decode_record(mut bytes: Bytes) -> Result<Record, BadBytes> {
    if bytes.len() < RECORD_HEAD_BYTES {
        return Err(BadBytes("a record is too short"));
    }
    let (create_revision, mod_revision, version) =
        (bytes.get_u64_le(), bytes.get_u64_le(), bytes.get_u64_le());
    let expires_at_ms = match bytes.get_u8() {
        0 => None,
        FLAG_EXPIRES if bytes.len() >= 8 => Some(bytes.get_u64_le()),
        _ => return Err(BadBytes("a record has unknown flags")),
    };
    Ok(Record { create_revision, mod_revision, version, expires_at_ms, value: bytes })
}

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
    let mut bytes = Vec::with_capacity(41);
    bytes.put_u64_le(session.sequence);
    bytes.put_u64_le(session.used_at);
    put_outcome(&mut bytes, &session.outcome);
    bytes
}

/// Decodes a session.
pub fn decode_session(mut bytes: &[u8]) -> Result<Session, BadBytes> {
    if bytes.len() != 41 {
        return Err(BadBytes("a session has the wrong length"));
    }
    let (sequence, used_at) = (bytes.get_u64_le(), bytes.get_u64_le());
    Ok(Session { sequence, used_at, outcome: take_outcome(bytes)? })
}

fn put_outcome(bytes: &mut Vec<u8>, outcome: &Outcome) {
    let (kind, fields) = match *outcome {
        Outcome::None => (0, [0; 3]),
        Outcome::Put { revision, create_revision, version } => {
            (1, [revision, create_revision, version])
        }
        Outcome::Deleted { count, revision } => (2, [count, revision, 0]),
        Outcome::ConditionFailed { current: None, revision } => (3, [0, revision, 0]),
        Outcome::ConditionFailed { current: Some(current), revision } => {
            (4, [current, revision, 0])
        }
        Outcome::Superseded { last_sequence } => (5, [last_sequence, 0, 0]),
    };
    bytes.put_u8(kind);
    fields.into_iter().for_each(|field| bytes.put_u64_le(field));
}

fn take_outcome(mut bytes: &[u8]) -> Result<Outcome, BadBytes> {
    let kind = bytes.get_u8();
    let [a, b, c] = [bytes.get_u64_le(), bytes.get_u64_le(), bytes.get_u64_le()];
    Ok(match kind {
        0 => Outcome::None,
        1 => Outcome::Put { revision: a, create_revision: b, version: c },
        2 => Outcome::Deleted { count: a, revision: b },
        3 => Outcome::ConditionFailed { current: None, revision: b },
        4 => Outcome::ConditionFailed { current: Some(a), revision: b },
        5 => Outcome::Superseded { last_sequence: a },
        _ => return Err(BadBytes("a session has an unknown outcome")),
    })
}

/// Key of the age index: oldest first.
pub fn age_key(used_at: u64, client: &str) -> Vec<u8> {
    [&used_at.to_be_bytes()[..], client.as_bytes()].concat()
}

/// The client name in a key of the age index.
pub fn age_client(key: &[u8]) -> Result<&[u8], BadBytes> {
    key.get(8..).ok_or(BadBytes("a session age key is too short"))
}

/// Encodes a log id.
pub fn encode_log_id(id: LogId) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.term.to_le_bytes());
    bytes[8..].copy_from_slice(&id.index.to_le_bytes());
    bytes
}

/// Decodes a log id and what follows it.
pub fn decode_log_id(bytes: &Bytes) -> Result<(LogId, Bytes), BadBytes> {
    let mut bytes = bytes.clone();
    if bytes.len() < 16 {
        return Err(BadBytes("a log id is too short"));
    }
    let id = LogId { term: bytes.get_u64_le(), index: bytes.get_u64_le() };
    Ok((id, bytes))
}

/// Decodes a revision or a count.
pub fn decode_u64(bytes: &[u8]) -> Result<Revision, BadBytes> {
    bytes.try_into().map(u64::from_le_bytes).map_err(|_| BadBytes("a number has the wrong length"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        ]
    }

    proptest! {
        #[test]
        fn records_come_back(
            revisions in any::<(u64, u64, u64)>(),
            expires_at_ms in any::<Option<u64>>(),
            value in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let record = Record {
                create_revision: revisions.0,
                mod_revision: revisions.1,
                version: revisions.2,
                expires_at_ms,
                value: value.into(),
            };
            prop_assert_eq!(decode_record(encode_record(&record).into()), Ok(record));
        }

        #[test]
        fn sessions_come_back(sequence in any::<u64>(), used_at in any::<u64>(), outcome in outcomes()) {
            let session = Session { sequence, used_at, outcome };
            prop_assert_eq!(decode_session(&encode_session(&session)), Ok(session));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode_session(&bytes);
            let _ = decode_record(bytes.clone().into());
            let _ = decode_log_id(&bytes.into());
        }
    }
}
