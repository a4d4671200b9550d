//! Bytes of the state machine's values: the facts, records and the keys of indexes.
//!
//! All integers are little-endian unless they are part of a key, where big-endian keeps byte order and
//! number order the same. Drawn also in docs/FORMAT.md, "state machine".
//!
//! ```text
//! facts (64 bytes in the root)
//!   flags u64 (bit 0: something is applied) · applied term u64 · applied index u64 · revision u64 ·
//!   sessions u64 (count) · trimmed u64 (last revision whose changes are gone) · change bytes u64
//!   (values of tree 4; how many changes there are, the tree itself counts) · clock_ms u64
//! tree 0, records: key → record
//!   flags u8 · create_revision u48 · mod_revision less create_revision u32 · version u16 ·
//!   [expires_at_ms u64, or lease u64] · [ordinal u32] · value; of a value too long for a leaf, what comes before it
//!   stays there. Wide: create_revision u64 · mod_revision u64 · version u64 in place of the three, where
//!   one of them does not fit. No number changes its length when a key is put over, or leaves that are
//!   full would have to be split for a byte
//!   flags: bit 0 expires · bit 1 deleted: a tombstone, whose create_revision and version are 0 ·
//!   bit 2 the change that made it has an ordinal other than 0 · bit 3 ends with a lease (not with bit 0) ·
//!   bit 7 wide
//! tree 1, system: "membership" → term u64 · index u64 · the membership entry, opaque
//!   "incarnations" → which are members and which were, see `incarnations` ·
//!   "retention" → how much of the past is kept · "mark/" revision u64 big-endian → when, see `retention`
//! tree 2, sessions: client name → session
//!   sequence u64 · used_at u64 (log index) · outcome, see `outcome`
//! tree 3, session ages: used_at u64 big-endian · client name → nothing
//! tree 4, changes: revision u64 big-endian · ordinal u32 big-endian → change, see `change`
//!   kind u8 (0 put where there was no record, 1 put over a record, 2 delete, 3 expiry) ·
//!   key length u16 · [the replaced record before its value, unless 0] · key · [its value];
//!   of a value too long for a leaf, what comes before it stays there, but for a key that would make
//!   that longer than 255 bytes
//! tree 5, deadlines: expires_at_ms u64 big-endian · kind u8 · what is due (0 a record: its key; 1 a lease: its id
//!   u64 big-endian) → nothing
//! tree 6, leases: id u64 big-endian → ttl_ms u64 · expires_at_ms u64 · keys u64
//! tree 7, lease-keys: id u64 big-endian · key → nothing
//! ```

use bytes::{Buf, BufMut, Bytes};

use crate::storage::page::MAX_TXN;
use crate::storage::{FACTS_BYTES, Facts, StoredValue};
use crate::types::{End, Lease, LeaseId, LogId, Record, Revision};

/// Bytes of a record before its value, if it does not end by itself and is not wide.
pub const RECORD_HEAD_BYTES: usize = 1 + NARROW_BYTES;
const NARROW_BYTES: usize = 6 + 4 + 2;
const WIDE_BYTES: usize = 3 * 8;
const FLAG_EXPIRES: u8 = 1;
const FLAG_DELETED: u8 = 2;
const FLAG_ORDINAL: u8 = 4;
const FLAG_LEASE: u8 = 8;
const FLAG_WIDE: u8 = 0x80;

/// What is due at a deadline.
const DUE_RECORD: u8 = 0;
const DUE_LEASE: u8 = 1;

/// Bytes that cannot be what they should be: a defect, or damage that the checksums did not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadBytes(pub &'static str);

/// What the state machine keeps in the store's root, beside the data that it is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KvFacts {
    /// The last log entry applied.
    pub applied: Option<LogId>,
    /// Revision of the last write.
    pub revision: Revision,
    /// Clients remembered.
    pub sessions: u64,
    /// The last revision whose changes, or some of them, are gone; the oldest that can be read.
    pub trimmed: Revision,
    /// Bytes of the changes kept.
    pub change_bytes: u64,
    /// The greatest clock of a leader that a command carried.
    pub clock_ms: u64,
}

impl KvFacts {
    pub fn encode(&self) -> Facts {
        let mut facts = [0; FACTS_BYTES];
        let mut out = &mut facts[..];
        out.put_u64_le(self.applied.is_some().into());
        let applied = self.applied.unwrap_or(LogId { term: 0, index: 0 });
        out.put_u64_le(applied.term);
        out.put_u64_le(applied.index);
        out.put_u64_le(self.revision);
        out.put_u64_le(self.sessions);
        out.put_u64_le(self.trimmed);
        out.put_u64_le(self.change_bytes);
        out.put_u64_le(self.clock_ms);
        facts
    }

    pub fn decode(facts: &Facts) -> KvFacts {
        let mut bytes = &facts[..];
        let is_applied = bytes.get_u64_le() & 1 != 0;
        let applied = LogId { term: bytes.get_u64_le(), index: bytes.get_u64_le() };
        KvFacts {
            applied: is_applied.then_some(applied),
            revision: bytes.get_u64_le(),
            sessions: bytes.get_u64_le(),
            trimmed: bytes.get_u64_le(),
            change_bytes: bytes.get_u64_le(),
            clock_ms: bytes.get_u64_le(),
        }
    }

    /// Whether a store can have come to them. What is computed from them then never overflows.
    pub fn check(&self) -> Result<(), BadBytes> {
        let indexes = self.applied.map_or(0, |applied| applied.index);
        let is_possible = self.trimmed <= self.revision && self.revision.max(indexes) < MAX_TXN;
        is_possible.then_some(()).ok_or(BadBytes("a root has revisions that no store comes to"))
    }
}

/// What tree 0 holds of a key: its record, or a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Of a tombstone only `mod_revision` says something: the revision of the delete.
    pub record: Record,
    /// Which of its revision's changes made it.
    pub ordinal: u32,
    pub is_deleted: bool,
}

impl StoredRecord {
    /// What is left of a key that was deleted.
    pub fn tombstone(revision: Revision, ordinal: u32) -> StoredRecord {
        let record = Record {
            create_revision: 0,
            mod_revision: revision,
            version: 0,
            end: End::Never,
            value: Bytes::new(),
        };
        StoredRecord { record, ordinal, is_deleted: true }
    }

    /// The record, unless this is a tombstone.
    pub fn live(self) -> Option<Record> {
        (!self.is_deleted).then_some(self.record)
    }
}

impl From<Record> for StoredRecord {
    fn from(record: Record) -> StoredRecord {
        StoredRecord { record, ordinal: 0, is_deleted: false }
    }
}

/// Longest part of a record before its value.
pub const MAX_RECORD_HEAD_BYTES: usize = 1 + WIDE_BYTES + 8 + 4;

/// Encodes what comes before a record's value; returns it with its length.
pub fn encode_record_head(stored: &StoredRecord) -> ([u8; MAX_RECORD_HEAD_BYTES], usize) {
    let StoredRecord { record, ordinal, is_deleted } = stored;
    let flag = |flag, is_set| if is_set { flag } else { 0 };
    let narrow = narrow(record);
    let mut head = [0; MAX_RECORD_HEAD_BYTES];
    let mut out = &mut head[..];
    out.put_u8(
        flag(FLAG_EXPIRES, matches!(record.end, End::At { .. }))
            | flag(FLAG_LEASE, matches!(record.end, End::WithLease(_)))
            | flag(FLAG_DELETED, *is_deleted)
            | flag(FLAG_ORDINAL, *ordinal != 0)
            | flag(FLAG_WIDE, narrow.is_none()),
    );
    match narrow {
        Some((since_created, version)) => {
            out.put_uint_le(record.create_revision, 6);
            out.put_u32_le(since_created);
            out.put_u16_le(version);
        }
        None => {
            out.put_u64_le(record.create_revision);
            out.put_u64_le(record.mod_revision);
            out.put_u64_le(record.version);
        }
    }
    match record.end {
        End::Never => {}
        End::At { ms } => out.put_u64_le(ms),
        End::WithLease(id) => out.put_u64_le(id.number()),
    }
    if *ordinal != 0 {
        out.put_u32_le(*ordinal);
    }
    let len = MAX_RECORD_HEAD_BYTES - out.len();
    (head, len)
}

/// The modification since the creation, and the version, of a record whose numbers are short.
fn narrow(record: &Record) -> Option<(u32, u16)> {
    let since_created = record.mod_revision.checked_sub(record.create_revision)?;
    let is_early = record.create_revision >> 48 == 0;
    let narrow = (u32::try_from(since_created).ok()?, u16::try_from(record.version).ok()?);
    is_early.then_some(narrow)
}

/// Decodes a record; the value shares what was read.
pub fn decode_record(stored: StoredValue) -> Result<StoredRecord, BadBytes> {
    let StoredValue { head: mut bytes, body } = stored;
    let mut stored = decode_record_head(&mut bytes)?;
    stored.record.value = rest_of(bytes, body)?;
    Ok(stored)
}

/// What is left of a value whose `head` was taken off: all of it lies on one side.
pub(super) fn rest_of(head: Bytes, body: Bytes) -> Result<Bytes, BadBytes> {
    match (head.is_empty(), body.is_empty()) {
        (_, true) => Ok(head),
        (true, false) => Ok(body),
        (false, false) => Err(BadBytes("a record is cut in its value")),
    }
}

/// Decodes what comes before a record's value, and takes it off `bytes`.
pub fn decode_record_head(bytes: &mut impl Buf) -> Result<StoredRecord, BadBytes> {
    const SHORT: BadBytes = BadBytes("a record is too short");
    if !bytes.has_remaining() {
        return Err(SHORT);
    }
    let flags = bytes.get_u8();
    let has = |flag| flags & flag != 0;
    if flags & !(FLAG_EXPIRES | FLAG_DELETED | FLAG_ORDINAL | FLAG_LEASE | FLAG_WIDE) != 0 {
        return Err(BadBytes("a record has unknown flags"));
    }
    let numbers = if has(FLAG_WIDE) { WIDE_BYTES } else { NARROW_BYTES };
    let ends = has(FLAG_EXPIRES) || has(FLAG_LEASE);
    let more = if ends { 8 } else { 0 } + if has(FLAG_ORDINAL) { 4 } else { 0 };
    if bytes.remaining() < numbers + more {
        return Err(SHORT);
    }
    let (create_revision, mod_revision, version) = if has(FLAG_WIDE) {
        (bytes.get_u64_le(), bytes.get_u64_le(), bytes.get_u64_le())
    } else {
        let create_revision = bytes.get_uint_le(6);
        let mod_revision = create_revision + u64::from(bytes.get_u32_le());
        (create_revision, mod_revision, bytes.get_u16_le().into())
    };
    let end = match (has(FLAG_EXPIRES), has(FLAG_LEASE)) {
        (false, false) => End::Never,
        (true, false) => End::At { ms: bytes.get_u64_le() },
        (false, true) => End::WithLease(lease_id(bytes.get_u64_le())?),
        (true, true) => return Err(BadBytes("a record has two ends")),
    };
    let ordinal = if has(FLAG_ORDINAL) { bytes.get_u32_le() } else { 0 };
    let value = Bytes::new();
    let record = Record { create_revision, mod_revision, version, end, value };
    Ok(StoredRecord { record, ordinal, is_deleted: has(FLAG_DELETED) })
}

/// The lease of this number.
pub(super) fn lease_id(number: u64) -> Result<LeaseId, BadBytes> {
    LeaseId::new(number).ok_or(BadBytes("a lease has no number"))
}

/// Key of the age index: oldest first.
pub fn age_key(used_at: u64, client: &str) -> Vec<u8> {
    [&used_at.to_be_bytes()[..], client.as_bytes()].concat()
}

/// The client name in a key of the age index.
pub fn age_client(key: &[u8]) -> Result<&[u8], BadBytes> {
    key.get(8..).ok_or(BadBytes("a session age key is too short"))
}

/// What ends at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due<'a> {
    /// The record of this key.
    Record(&'a [u8]),
    Lease(LeaseId),
}

/// Key of the index by deadline: the next first.
pub fn deadline_key(deadline_ms: u64, due: Due<'_>) -> Vec<u8> {
    let deadline = deadline_ms.to_be_bytes();
    match due {
        Due::Record(key) => [&deadline[..], &[DUE_RECORD], key].concat(),
        Due::Lease(id) => [&deadline[..], &[DUE_LEASE], &id.number().to_be_bytes()].concat(),
    }
}

/// The deadline in a key of that index, and what is due then.
pub fn split_deadline(bytes: &[u8]) -> Result<(u64, Due<'_>), BadBytes> {
    let (deadline, due) = bytes.split_first_chunk().ok_or(BadBytes("a deadline is too short"))?;
    let due = match due.split_first() {
        Some((&DUE_RECORD, key)) => Due::Record(key),
        Some((&DUE_LEASE, id)) => Due::Lease(decode_lease_id(id)?),
        _ => return Err(BadBytes("a deadline is of an unknown kind")),
    };
    Ok((u64::from_be_bytes(*deadline), due))
}

/// Key of the index of leases, and what a lease's keys begin with in theirs.
pub fn encode_lease_id(id: LeaseId) -> [u8; 8] {
    id.number().to_be_bytes()
}

fn decode_lease_id(bytes: &[u8]) -> Result<LeaseId, BadBytes> {
    let number = bytes.try_into().map_err(|_| BadBytes("a lease's id has another length"))?;
    lease_id(u64::from_be_bytes(number))
}

/// Key of the index of keys by lease.
pub fn lease_key(id: LeaseId, key: &[u8]) -> Vec<u8> {
    [&encode_lease_id(id)[..], key].concat()
}

/// The client's key in a key of that index.
pub fn key_of_lease(bytes: &[u8]) -> Result<&[u8], BadBytes> {
    bytes.get(8..).ok_or(BadBytes("a lease's key is too short"))
}

/// Encodes what a lease is beside its id.
pub fn encode_lease(lease: &Lease) -> [u8; 24] {
    let mut bytes = [0; 24];
    let mut out = &mut bytes[..];
    out.put_u64_le(lease.ttl_ms);
    out.put_u64_le(lease.expires_at_ms);
    out.put_u64_le(lease.keys);
    bytes
}

/// Decodes a lease.
pub fn decode_lease(id: &[u8], mut bytes: &[u8]) -> Result<Lease, BadBytes> {
    if bytes.len() != 24 {
        return Err(BadBytes("a lease has another length"));
    }
    let id = decode_lease_id(id)?;
    let (ttl_ms, expires_at_ms) = (bytes.get_u64_le(), bytes.get_u64_le());
    Ok(Lease { id, ttl_ms, expires_at_ms, keys: bytes.get_u64_le() })
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

#[cfg(test)]
pub(super) mod tests;
