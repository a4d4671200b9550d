//! A line of an export: a key and what it holds, as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::client::Item;
use crate::types::{Key, MAX_TTL_MS};

/// See the module. Bytes that are no text stand in base64; what the API says besides is read over.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    /// How long from now on it is to live.
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at_ms: Option<u64>,
    /// It ends with a lease, which belongs to the store that it came from.
    #[serde(skip_serializing)]
    lease: Option<IgnoredAny>,
    #[serde(rename = "mod_revision", skip_serializing)]
    _mod_revision: Option<IgnoredAny>,
    #[serde(rename = "create_revision", skip_serializing)]
    _create_revision: Option<IgnoredAny>,
    #[serde(rename = "version", skip_serializing)]
    _version: Option<IgnoredAny>,
}

/// What a line has stored: key, value, and for how long.
pub type Put = (Key, Bytes, Option<u64>);

fn spelt(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

impl Line {
    pub fn of(item: &Item) -> Line {
        let (key, key_base64) = spelt(&item.key);
        let (value, value_base64) = spelt(item.value.as_deref().unwrap_or_default());
        let expires_at_ms = item.expires_at_ms;
        Line { key, key_base64, value, value_base64, expires_at_ms, ..Line::default() }
    }

    /// With its end.
    pub fn encode(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("memory takes every write");
        line.push(b'\n');
        line
    }

    pub fn decode(line: &[u8]) -> Result<Line, String> {
        serde_json::from_slice(line).map_err(|error| error.to_string())
    }

    /// What is to be stored at this time; `None` when it has expired, or ends with a lease of another store: a lock that
    /// nobody holds.
    pub fn into_put(self, now_ms: u64) -> Result<Option<Put>, String> {
        let key = bytes_of("key", self.key, self.key_base64)?;
        let value = bytes_of("value", self.value, self.value_base64)?;
        let key = Key::new(key).map_err(|error| error.to_string())?;
        if self.lease.is_some() {
            return Ok(None);
        }
        let ttl_ms = match (self.ttl, self.expires_at_ms) {
            (None, None) => None,
            (Some(_), Some(_)) => return Err("ttl and expires_at_ms exclude each other".to_owned()),
            (None, Some(at_ms)) if at_ms <= now_ms => return Ok(None),
            (None, Some(at_ms)) => Some(at_ms - now_ms),
            (Some(ttl), None) => Some(ttl_ms(&ttl)?),
        };
        Ok(Some((key, value, ttl_ms)))
    }
}

fn ttl_ms(text: &str) -> Result<u64, String> {
    let ttl =
        humantime::parse_duration(text).ok().and_then(|ttl| u64::try_from(ttl.as_millis()).ok());
    let ttl = ttl.filter(|ttl| (1..=MAX_TTL_MS).contains(ttl));
    ttl.ok_or_else(|| format!("ttl is {text:?}, no duration such as 30s"))
}

fn bytes_of(name: &str, text: Option<String>, base64: Option<String>) -> Result<Bytes, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into()),
        (None, Some(base64)) => {
            let bytes = STANDARD.decode(base64);
            bytes.map(Bytes::from).map_err(|error| format!("{name}_base64: {error}"))
        }
        (None, None) => Err(format!("{name} is missing, or {name}_base64")),
        (Some(_), Some(_)) => Err(format!("{name} and {name}_base64 exclude each other")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put(line: &str) -> Result<Option<Put>, String> {
        Line::decode(line.as_bytes()).and_then(|line| line.into_put(1_000))
    }

    proptest! {
        #[test]
        fn what_is_exported_is_imported(
            key in proptest::collection::vec(any::<u8>(), 1..40),
            value in proptest::collection::vec(any::<u8>(), 0..40),
            expires_at_ms in proptest::option::of(1_001..u64::MAX),
        ) {
            let (key, value) = (Bytes::from(key), Some(Bytes::from(value)));
            let (create_revision, mod_revision, version) = (1, 2, 3);
            let item = Item { key, value, create_revision, mod_revision, version, expires_at_ms, lease: None };
            let line = Line::of(&item).encode();
            prop_assert!(line.ends_with(b"\n") && !line[..line.len() - 1].contains(&b'\n'));
            let (key, value, ttl_ms) = put(std::str::from_utf8(&line).unwrap()).unwrap().unwrap();
            prop_assert_eq!((key.into_bytes(), Some(value)), (item.key, item.value));
            prop_assert_eq!(ttl_ms.map(|ttl_ms| ttl_ms + 1_000), expires_at_ms);
        }
    }

    #[test]
    fn a_line_of_the_api_is_a_line() {
        let line =
            r#"{"key":"a","value_base64":"/w==","mod_revision":7,"create_revision":5,"version":2}"#;
        let (key, value, ttl_ms) = put(line).unwrap().unwrap();
        assert_eq!((key.as_bytes(), &value[..], ttl_ms), (&b"a"[..], &b"\xff"[..], None));
        assert_eq!(put(r#"{"key":"a","value":"","expires_at_ms":1000}"#), Ok(None));
        assert_eq!(put(r#"{"key":"a","value":"","ttl":"2s"}"#).unwrap().unwrap().2, Some(2_000));
    }

    #[test]
    fn a_line_that_is_none_says_why() {
        for (line, says) in [
            (r#"{"value":"v"}"#, "key is missing"),
            (r#"{"key":"","value":"v"}"#, "at least one byte"),
            (r#"{"key":"k"}"#, "value is missing"),
            (r#"{"key":"k","key_base64":"aw==","value":"v"}"#, "exclude each other"),
            (r#"{"key":"k","value_base64":"%"}"#, "value_base64: Invalid"),
            (r#"{"key":"k","value":"v","ttl":"soon"}"#, "no duration"),
            (r#"{"key":"k","value":"v","ttl":"0s"}"#, "no duration"),
            (r#"{"key":"k","value":"v","ttl":"1s","expires_at_ms":5}"#, "exclude each other"),
            (r#"{"error":{"code":"timeout"}}"#, "unknown field `error`"),
            ("k\tv", "expected value"),
        ] {
            let problem = put(line).expect_err(line);
            assert!(problem.contains(says), "{line}: {problem}");
        }
    }
}
