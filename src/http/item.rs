//! A record as JSON: bytes as text where they are text, as base64 where they are not.
//!
//! The rule is per field and can be read off the field's name: `key` or `key_base64`, `value` or
//! `value_base64`. A client that wants one shape for all values reads the bytes themselves.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::actors::messages::Version;
use crate::types::{End, Key, Record};

/// Longest JSON spelling of one byte: `\u001f`. Base64 stays below.
const MAX_JSON_BYTES_PER_BYTE: usize = 6;

/// More than the names, numbers and punctuation of an item can take.
const FRAME_BYTES: usize = 256;

/// A key with its record, to be written as JSON.
pub struct Item<'a> {
    key: &'a Key,
    record: &'a Record,
    /// Leaves the value out.
    key_only: bool,
}

impl<'a> Item<'a> {
    pub fn of(key: &'a Key, record: &'a Record, key_only: bool) -> Item<'a> {
        Item { key, record, key_only }
    }

    /// An upper bound of its length as JSON.
    pub fn max_json_bytes(&self) -> usize {
        let value = if self.key_only { 0 } else { self.record.value.len() };
        max_json_bytes(self.key.as_bytes().len() + value)
    }
}

/// An upper bound of the JSON of an entry with `len_bytes` of key and value.
pub fn max_json_bytes(len_bytes: usize) -> usize {
    len_bytes * MAX_JSON_BYTES_PER_BYTE + FRAME_BYTES
}

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        bytes_entry(&mut map, ["key", "key_base64"], self.key.as_bytes())?;
        if !self.key_only {
            bytes_entry(&mut map, ["value", "value_base64"], &self.record.value)?;
        }
        revision_entries(&mut map, self.record)?;
        map.end()
    }
}

/// What a revision made of a key, to be written as JSON.
pub struct VersionItem<'a>(pub &'a Version);

impl VersionItem<'_> {
    /// An upper bound of its length as JSON.
    pub fn max_json_bytes(&self) -> usize {
        max_json_bytes(self.0.record.as_ref().map_or(0, |record| record.value.len()))
    }
}

impl Serialize for VersionItem<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Version { revision, kind, record } = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", kind.name())?;
        map.serialize_entry("revision", revision)?;
        if let Some(record) = record {
            bytes_entry(&mut map, ["value", "value_base64"], &record.value)?;
            map.serialize_entry("create_revision", &record.create_revision)?;
            map.serialize_entry("version", &record.version)?;
            end_entry(&mut map, record)?;
        }
        map.end()
    }
}

/// A record without its key.
pub fn record_entries<M: SerializeMap>(map: &mut M, record: &Record) -> Result<(), M::Error> {
    bytes_entry(map, ["value", "value_base64"], &record.value)?;
    revision_entries(map, record)
}

fn revision_entries<M: SerializeMap>(map: &mut M, record: &Record) -> Result<(), M::Error> {
    map.serialize_entry("mod_revision", &record.mod_revision)?;
    map.serialize_entry("create_revision", &record.create_revision)?;
    map.serialize_entry("version", &record.version)?;
    end_entry(map, record)
}

/// When the record ends, if it does by itself.
fn end_entry<M: SerializeMap>(map: &mut M, record: &Record) -> Result<(), M::Error> {
    match record.end {
        End::Never => Ok(()),
        End::At { ms } => map.serialize_entry("expires_at_ms", &ms),
        End::WithLease(id) => map.serialize_entry("lease", &id.to_string()),
    }
}

/// A common prefix of keys, to be written as JSON.
pub struct Prefix<'a>(pub &'a [u8]);

impl Serialize for Prefix<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        bytes_entry(&mut map, ["prefix", "prefix_base64"], self.0)?;
        map.end()
    }
}

/// Bytes under the name that says how they are spelt.
pub fn bytes_entry<M: SerializeMap>(
    map: &mut M,
    [as_text, as_base64]: [&'static str; 2],
    bytes: &[u8],
) -> Result<(), M::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => map.serialize_entry(as_text, text),
        Err(_) => map.serialize_entry(as_base64, &STANDARD.encode(bytes)),
    }
}
