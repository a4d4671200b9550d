//! The one place that turns values into bytes and back: frames between nodes and log payloads.
//!
//! The encoding is bincode 2 (variable-length integers, little-endian), always decoded with a size
//! limit and always to the last byte. The rest of the program sees only [`encode`] and [`decode`],
//! so that another encoding can take its place (docs/decisions/0002-bincode.md). On-disk layouts of the
//! B-tree and the headers of log records are laid out by hand and do not come through here.

use serde::{Serialize, de::DeserializeOwned};

/// Most bytes one value may take, encoded or decoded: the largest value a node may be configured
/// to accept (64 MiB), its key, and room for the envelope. It bounds frames to peers and entries of the log.
pub const MAX_ENCODED_BYTES: usize = 66 * 1024 * 1024;

/// Why bytes did not become a value, or a value did not become bytes.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("cannot encode: {0}")]
    Encode(#[from] bincode::error::EncodeError),
    #[error("cannot decode {len_bytes} bytes: {source}")]
    Decode { len_bytes: usize, source: bincode::error::DecodeError },
    #[error("{extra_bytes} bytes are left over after the value")]
    Trailing { extra_bytes: usize },
    #[error("{len_bytes} bytes are more than the {MAX_ENCODED_BYTES} a message may have")]
    TooLarge { len_bytes: usize },
}

fn configuration() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_ENCODED_BYTES>()
}

/// Room for what most messages need: an encoder that begins with none grows its buffer at every field.
const EXPECTED_BYTES: usize = 512;

/// Encodes `value`.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    encode_expecting(value, EXPECTED_BYTES)
}

/// Encodes `value`, which takes about `expected_bytes`: a good guess spares copies, a bad one costs no more
/// than room.
pub fn encode_expecting<T: Serialize>(
    value: &T,
    expected_bytes: usize,
) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::with_capacity(expected_bytes.min(MAX_ENCODED_BYTES));
    bincode::serde::encode_into_std_write(value, &mut bytes, configuration())?;
    match bytes.len() {
        len_bytes if len_bytes > MAX_ENCODED_BYTES => Err(CodecError::TooLarge { len_bytes }),
        _ => Ok(bytes),
    }
}

/// Encodes `value` behind what is in `bytes`, which stays as it was when that fails.
pub fn encode_behind<T: Serialize>(value: &T, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
    let before = bytes.len();
    let encoded = bincode::serde::encode_into_std_write(value, bytes, configuration());
    let failed = match encoded {
        Ok(_) if bytes.len() <= MAX_ENCODED_BYTES => return Ok(()),
        Ok(_) => CodecError::TooLarge { len_bytes: bytes.len() },
        Err(error) => error.into(),
    };
    bytes.truncate(before);
    Err(failed)
}

/// Decodes values that stand one behind the other and take all of `bytes`.
pub fn decode_all<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<Vec<T>, CodecError> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let (value, used) = decode_first(bytes)?;
        values.push(value);
        bytes = &bytes[used..];
    }
    Ok(values)
}

/// Decodes a value that takes all of `bytes`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = decode_first(bytes)?;
    match bytes.len() - used {
        0 => Ok(value),
        extra_bytes => Err(CodecError::Trailing { extra_bytes }),
    }
}

/// The value that `bytes` begin with, and how many of them it takes.
fn decode_first<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), CodecError> {
    let len_bytes = bytes.len();
    if len_bytes > MAX_ENCODED_BYTES {
        return Err(CodecError::TooLarge { len_bytes });
    }
    bincode::serde::decode_from_slice(bytes, configuration())
        .map_err(|source| CodecError::Decode { len_bytes, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Command, Condition, Key, Lifetime, Operation, RequestId};
    use bytes::Bytes;
    use proptest::prelude::*;

    fn command(value: Vec<u8>) -> Command {
        Command {
            time_ms: 1,
            request_id: Some(RequestId { client: "c".into(), sequence: 7 }),
            operation: Operation::Put {
                key: Key::new(&b"k"[..]).unwrap(),
                value: Bytes::from(value),
                condition: Condition::ModRevision(3),
                lifetime: Lifetime::Ttl { ms: 9 },
            },
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let command = command(vec![0, 255, 7]);
        assert_eq!(decode::<Command>(&encode(&command).unwrap()).unwrap(), command);
    }

    #[test]
    fn values_one_behind_the_other_come_back_and_none_that_is_cut() {
        let commands = [command(vec![1]), command(Vec::new()), command(vec![2; 300])];
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for command in &commands {
            encode_behind(command, &mut bytes).unwrap();
            ends.push(bytes.len());
        }
        for cut in 0..=bytes.len() {
            let whole = ends.iter().position(|end| *end == cut);
            let decoded = decode_all::<Command>(&bytes[..cut]).ok();
            assert_eq!(decoded, whole.map(|count| commands[..count].to_vec()), "cut at {cut}");
        }
    }

    #[test]
    fn every_cut_and_every_extra_byte_is_an_error() {
        let mut bytes = encode(&command(b"value".to_vec())).unwrap();
        for len in 0..bytes.len() {
            assert!(decode::<Command>(&bytes[..len]).is_err(), "cut at {len}");
        }
        bytes.push(0);
        assert!(matches!(decode::<Command>(&bytes), Err(CodecError::Trailing { extra_bytes: 1 })));
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_it_is_allocated() {
        // A byte string that claims u64::MAX bytes (marker 253, then 8 bytes).
        let claim = [&[253u8][..], &u64::MAX.to_le_bytes()].concat();
        assert!(decode::<Bytes>(&claim).is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = decode::<Command>(&bytes);
        }
    }
}
