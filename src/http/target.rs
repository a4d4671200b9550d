//! Reads the raw request target: a key of any bytes in the path, parameters in the query.
//!
//! Keys are bytes, so nothing between the socket and [`Key`] may decode them as text or tidy them up:
//! the floor matches routes on the raw path (see [`super::route`]) and decodes the rest here, once,
//! by percent-encoding only. `..`, `//`, `%2f`, `%00` and invalid UTF-8 are bytes like others. `+`
//! is a plus sign and not a space, in the path as in the query: the other reading belongs to HTML forms
//! and would give one key two meanings.
//!
//! Parsing is strict, because a parameter that is silently ignored is a wrong answer (`?stale=ture`
//! would be a linearizable read, `?kye=` a scan): unknown and repeated parameters, broken escapes
//! and values out of range are refused with the name of the parameter and what it takes.
//!
//! A gap: a raw `#` cannot be told here. The protocol parser drops it and all that follows, as
//! a fragment, which no client is allowed to send; a key with `#` is written `%23`.

use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

use super::contract::parameters::{Kind, Parameter};
use super::error::{Code, Problem};
use crate::types::{Key, LeaseId, Lifetime, MAX_KEY_BYTES, MAX_TTL_MS, Revision};

/// Decodes percent-encoding; a `%` without two hex digits is an error, found at the returned offset.
fn decode(raw: &str) -> Result<Bytes, usize> {
    let raw = raw.as_bytes();
    let hex = |at: usize| raw.get(at).and_then(|&digit| char::from(digit).to_digit(16));
    let mut decoded = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        if byte == b'%' {
            let (Some(high), Some(low)) = (hex(at + 1), hex(at + 2)) else { return Err(at) };
            decoded.push((high * 16 + low) as u8);
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    Ok(Bytes::from(decoded))
}

/// Decodes what follows `/kv/` to a key.
pub fn key_of_path(raw: &str) -> Result<Key, Problem> {
    let bytes = decode(raw).map_err(|at| {
        Problem::parameter(
            "path",
            format_args!("byte {at} of the key is a % without two hex digits"),
        )
    })?;
    Ok(Key::new(bytes)?)
}

/// The names in a query, raw.
pub fn names(query: Option<&str>) -> impl Iterator<Item = &str> {
    let pairs = query.unwrap_or("").split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name))
}

/// The decoded parameters of a query.
pub struct Params(Vec<(&'static Parameter, Option<Bytes>)>);

impl Params {
    /// Decodes `query`, which may hold each parameter of the `allowed` lists once.
    pub fn parse(query: Option<&str>, allowed: &[&'static [Parameter]]) -> Result<Params, Problem> {
        let mut params: Vec<(&'static Parameter, Option<Bytes>)> = Vec::new();
        for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, raw) = match pair.split_once('=') {
                Some((name, raw)) => (name, Some(raw)),
                None => (pair, None),
            };
            let mut known = allowed.iter().copied().flatten();
            let Some(parameter) = known.find(|known| known.name == name) else {
                return Err(unknown(name, allowed));
            };
            if params.iter().any(|(seen, _)| seen.name == name) {
                return Err(Problem::parameter(name, "is given twice"));
            }
            let value = raw.map(decode).transpose().map_err(|at| {
                Problem::parameter(name, format_args!("byte {at} is a % without two hex digits"))
            })?;
            params.push((parameter, value));
        }
        Ok(Params(params))
    }

    /// What was written under a name; read as what the contract says it is.
    fn given(&self, name: &str, kinds: &[Kind]) -> Option<&Option<Bytes>> {
        let (parameter, value) = self.0.iter().find(|(seen, _)| seen.name == name)?;
        debug_assert!(kinds.contains(&parameter.kind), "{name} is read as another kind");
        Some(value)
    }

    /// Whether the parameter is there, with a value or without.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(seen, _)| seen.name == name)
    }

    /// The value of a parameter that is there; empty if it was written without one.
    pub fn bytes(&self, name: &str) -> Option<Bytes> {
        let value = self.given(name, &[Kind::Key, Kind::Bytes, Kind::Lease, Kind::Consistency])?;
        Some(value.clone().unwrap_or_default())
    }

    /// A parameter that is there, as it was written.
    pub fn raw(&self, name: &str) -> Option<Bytes> {
        let (_, value) = self.0.iter().find(|(seen, _)| seen.name == name)?;
        Some(value.clone().unwrap_or_default())
    }

    /// A bound of a range. It may be one byte longer than a key, as the successor of the longest key is.
    pub fn bound(&self, name: &str) -> Result<Option<Bytes>, Problem> {
        match self.bytes(name) {
            Some(bound) if bound.len() > MAX_KEY_BYTES + 1 => Err(Problem::new(
                Code::KeyTooLong,
                format!("{name}: has {} bytes, a key has at most {MAX_KEY_BYTES}", bound.len()),
            )),
            bound => Ok(bound),
        }
    }

    /// A switch: off when absent, on when written without a value.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        let Some(value) = self.given(name, &[Kind::Flag]) else { return Ok(false) };
        match value.as_deref() {
            None | Some(b"true" | b"1") => Ok(true),
            Some(b"false" | b"0") => Ok(false),
            Some(_) => Err(Problem::parameter(name, "takes true, 1, false or 0")),
        }
    }

    /// A number from 1 up.
    pub fn count(&self, name: &str) -> Result<Option<usize>, Problem> {
        match self.number(name, Kind::Count) {
            Ok(Some(0)) | Err(_) => Err(Problem::parameter(name, "takes a whole number from 1 up")),
            Ok(count) => Ok(count),
        }
    }

    /// A revision of the store; 0 is that of the empty one.
    pub fn revision(&self, name: &str) -> Result<Option<Revision>, Problem> {
        let number = self.number(name, Kind::Revision);
        number.map_err(|()| Problem::parameter(name, "takes a revision, such as 42"))
    }

    fn number<T: FromStr>(&self, name: &str, kind: Kind) -> Result<Option<T>, ()> {
        let Some(value) = self.given(name, &[kind]) else { return Ok(None) };
        let digits = std::str::from_utf8(value.as_deref().unwrap_or_default()).ok();
        // `parse` would take a sign.
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse().ok()).map(Some).ok_or(())
    }

    /// How long a put is to last: `ttl`, `lease` or neither.
    pub fn lifetime(&self) -> Result<Lifetime, Problem> {
        let lease = self.bytes("lease");
        let lease = lease.as_deref().map(String::from_utf8_lossy);
        lifetime(self.duration("ttl")?, lease.as_deref())
    }

    /// A duration with its unit.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>, Problem> {
        let Some(value) = self.given(name, &[Kind::Duration]) else { return Ok(None) };
        let text = std::str::from_utf8(value.as_deref().unwrap_or_default()).ok();
        let parsed = text.and_then(|text| humantime::parse_duration(text).ok());
        match parsed {
            Some(duration) => Ok(Some(duration)),
            None => {
                Err(Problem::parameter(name, "takes a duration with its unit, such as 500ms or 2s"))
            }
        }
    }
}

/// A time to live: from a millisecond to a hundred years.
pub fn ttl_ms(ttl: Duration) -> Result<u64, Problem> {
    match u64::try_from(ttl.as_millis()) {
        Ok(ttl_ms @ 1..=MAX_TTL_MS) => Ok(ttl_ms),
        _ => Err(Problem::parameter("ttl", "takes a duration from 1ms to 100 years")),
    }
}

/// How long a put is to last, of a time to live and a lease that it may name.
pub fn lifetime(ttl: Option<Duration>, lease: Option<&str>) -> Result<Lifetime, Problem> {
    match (ttl, lease) {
        (None, None) => Ok(Lifetime::Unbounded),
        (Some(ttl), None) => Ok(Lifetime::Ttl { ms: ttl_ms(ttl)? }),
        (None, Some(lease)) => Ok(Lifetime::Lease(lease_id(lease)?)),
        (Some(_), Some(_)) => Err(Problem::parameter(
            "ttl, lease",
            "exclude each other: a key has a time of its own, or that of its lease",
        )),
    }
}

/// The lease that a text names.
pub fn lease_id(text: &str) -> Result<LeaseId, Problem> {
    text.parse().map_err(|error| Problem::parameter("lease", error))
}

fn unknown(name: &str, allowed: &[&[Parameter]]) -> Problem {
    let name: String = name.chars().take(64).collect();
    let mut names: Vec<&str> = allowed.iter().copied().flatten().map(|it| it.name).collect();
    if names.is_empty() {
        return Problem::parameter(&name, "is not a parameter; this request takes none");
    }
    names.sort_unstable();
    names.dedup();
    let allowed = names.join(", ");
    Problem::parameter(
        &name,
        format_args!("is not a parameter of this request, which takes {allowed}"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::contract::parameters::{ONE_KEY, READ_KEY};
    use super::*;

    fn code<T>(result: Result<T, Problem>) -> Option<Code> {
        result.err().map(|problem| problem.code())
    }

    #[test]
    fn keys_are_decoded_once_and_left_as_they_are() {
        for (raw, key) in [
            ("a/b", &b"a/b"[..]),
            ("a%2fb", b"a/b"),
            ("a%252fb", b"a%2fb"),
            ("../..//x/.", b"../..//x/."),
            ("%00%ff%fe", b"\x00\xff\xfe"),
            ("a+b%20c", b"a+b c"),
            ("%C3%a4", "ä".as_bytes()),
        ] {
            assert_eq!(key_of_path(raw).expect(raw).as_bytes(), key, "{raw}");
        }
        for broken in ["%", "a%2", "%zz", "%+1", "%%41"] {
            assert_eq!(code(key_of_path(broken)), Some(Code::BadParameter), "{broken}");
        }
        assert_eq!(code(key_of_path("")), Some(Code::MissingKey));
        assert!(key_of_path(&"%ff".repeat(MAX_KEY_BYTES)).is_ok());
        assert_eq!(code(key_of_path(&"k".repeat(MAX_KEY_BYTES + 1))), Some(Code::KeyTooLong));
    }

    #[test]
    fn parameters_are_known_given_once_and_in_range() {
        let parse = |query| Params::parse(Some(query), &[ONE_KEY, READ_KEY]);
        let params = parse("key=a%26b=c&stale&&limit=7&max_stale=1s%20500ms").expect("valid");
        assert_eq!(params.bytes("key"), Some(Bytes::from_static(b"a&b=c")));
        assert_eq!(params.flag("stale").ok(), Some(true));
        assert_eq!(params.count("limit").ok(), Some(Some(7)));
        assert_eq!(params.duration("max_stale").ok(), Some(Some(Duration::from_millis(1500))));
        for refused in ["kye=a", "key=a&key=b", "from_revision=1", "=a", "key=%g0"] {
            assert_eq!(code(parse(refused)), Some(Code::BadParameter), "{refused}");
        }
        for limit in ["limit=0", "limit=-1", "limit=+1", "limit=", "limit=99999999999999999999"] {
            assert_eq!(code(parse(limit).and_then(|p| p.count("limit"))), Some(Code::BadParameter));
        }
        assert_eq!(
            code(parse("stale=ture").and_then(|p| p.flag("stale"))),
            Some(Code::BadParameter)
        );
    }
}
