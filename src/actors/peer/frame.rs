//! Frames: the unit that travels between nodes.
//!
//! ```text
//! offset  bytes  field
//!      0      4  length of the payload, little-endian
//!      4      4  CRC-32 (IEEE) over bytes 8..16 and the payload
//!      8      1  kind: 1 handshake, 2 request, 3 response
//!      9      7  request number, 56 bits, little-endian; a response repeats its request's
//!     16      …  payload
//! ```
//!
//! The length is checked against the reader's bound before anything is allocated, and the buffer then grows
//! with the bytes that really arrive. The checksum guards against damage, not against malice.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 16;

/// Most payload bytes of a frame between nodes that know each other.
pub const MAX_PAYLOAD_BYTES: usize = crate::codec::MAX_ENCODED_BYTES;

/// Most payload bytes of a frame from a stranger: a handshake needs a few hundred.
pub const MAX_HANDSHAKE_BYTES: usize = 4 * 1024;

/// Frames that are queued up are written together, in one call of the system, up to about so many bytes.
pub const BATCH_BYTES: usize = 64 * 1024;

/// A buffer for writing up to this size is used again.
const KEPT_BUFFER_BYTES: usize = 256 * 1024;

/// Both ends read through a buffer of this size, so that a small frame costs one call of the system, not three.
pub const READ_BUFFER_BYTES: usize = 32 * 1024;

/// How much of a payload is read at a time.
const READ_STEP_BYTES: usize = 256 * 1024;

/// Request numbers wrap at 56 bits: at a million requests a second, after 2,000 years.
const NUMBER_BITS: u32 = 56;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Handshake = 1,
    Request = 2,
    Response = 3,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub number: u64,
    pub payload: Bytes,
}

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the connection was closed")]
    Closed,
    #[error("a frame of {len_bytes} bytes where at most {max_bytes} are allowed")]
    TooLarge { len_bytes: usize, max_bytes: usize },
    #[error("kind {0} is not known: not a ConureDB peer, or damaged")]
    UnknownKind(u8),
    #[error("the checksum of a frame does not match: damaged, or not a ConureDB peer")]
    Checksum,
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn checksum(meta: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(meta);
    hasher.update(payload);
    hasher.finalize()
}

/// Puts `frame` behind what is in `buffer`. The caller bounds the payload by [`MAX_PAYLOAD_BYTES`].
pub fn put(buffer: &mut BytesMut, frame: &Frame) -> io::Result<()> {
    let length = u32::try_from(frame.payload.len())
        .ok()
        .filter(|&length| length as usize <= MAX_PAYLOAD_BYTES)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "frame payload too large"))?;
    let meta = (frame.kind as u64 | (frame.number << 8)).to_le_bytes();
    buffer.reserve(HEADER_BYTES + frame.payload.len());
    buffer.put_u32_le(length);
    buffer.put_u32_le(checksum(&meta, &frame.payload));
    buffer.put_slice(&meta);
    buffer.put_slice(&frame.payload);
    Ok(())
}

/// Writes all that is in `buffer` and empties it; what it grew to for a large frame is given back.
pub async fn write_all(
    writer: &mut (impl AsyncWrite + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<()> {
    writer.write_all(buffer).await?;
    writer.flush().await?;
    match buffer.capacity() > KEPT_BUFFER_BYTES {
        true => *buffer = BytesMut::new(),
        false => buffer.clear(),
    }
    Ok(())
}

/// Writes one frame by itself.
pub async fn write(writer: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    put(&mut buffer, frame)?;
    write_all(writer, &mut buffer).await
}

/// A frame whose header was read: its length is known, its payload still to come.
pub struct Announced {
    pub len_bytes: usize,
    crc: u32,
    meta: [u8; 8],
    kind: Kind,
}

/// Reads a header. `Closed` when the stream ends before its first byte.
pub async fn read_header(
    reader: &mut (impl AsyncRead + Unpin),
    max_bytes: usize,
) -> Result<Announced, FrameError> {
    let mut header = [0; HEADER_BYTES];
    if reader.read(&mut header[..1]).await? == 0 {
        return Err(FrameError::Closed);
    }
    reader.read_exact(&mut header[1..]).await?;
    let field = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let len_bytes = field(0) as usize;
    let kind = match header[8] {
        1 => Kind::Handshake,
        2 => Kind::Request,
        3 => Kind::Response,
        other => return Err(FrameError::UnknownKind(other)),
    };
    if len_bytes > max_bytes {
        return Err(FrameError::TooLarge { len_bytes, max_bytes });
    }
    let mut meta = [0; 8];
    meta.copy_from_slice(&header[8..]);
    Ok(Announced { len_bytes, crc: field(4), meta, kind })
}

/// Reads the payload that [`read_header`] announced, and checks it.
pub async fn read_payload(
    reader: &mut (impl AsyncRead + Unpin),
    announced: Announced,
) -> Result<Frame, FrameError> {
    let mut payload = BytesMut::new();
    while payload.len() < announced.len_bytes {
        let step = READ_STEP_BYTES.min(announced.len_bytes - payload.len());
        let start = payload.len();
        payload.resize(start + step, 0);
        reader.read_exact(&mut payload[start..]).await?;
    }
    if checksum(&announced.meta, &payload) != announced.crc {
        return Err(FrameError::Checksum);
    }
    let number = u64::from_le_bytes(announced.meta) >> 8;
    Ok(Frame { kind: announced.kind, number, payload: payload.freeze() })
}

/// Reads one frame of at most `max_bytes` of payload.
pub async fn read(
    reader: &mut (impl AsyncRead + Unpin),
    max_bytes: usize,
) -> Result<Frame, FrameError> {
    let announced = read_header(reader, max_bytes).await?;
    read_payload(reader, announced).await
}

/// The request number after `number`.
pub fn next_number(number: u64) -> u64 {
    (number + 1) & ((1 << NUMBER_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &'static [u8]) -> Frame {
        Frame { kind: Kind::Request, number: 77, payload: Bytes::from_static(payload) }
    }

    async fn encoded(frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, frame).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn frames_travel_back_to_back() {
        let mut bytes = encoded(&frame(b"one")).await;
        bytes.extend(encoded(&frame(b"")).await);
        let mut reader = &bytes[..];
        assert_eq!(read(&mut reader, 3).await.unwrap(), frame(b"one"));
        assert_eq!(read(&mut reader, 3).await.unwrap(), frame(b""));
        assert!(matches!(read(&mut reader, 3).await, Err(FrameError::Closed)));
    }

    #[tokio::test]
    async fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = encoded(&frame(b"payload")).await;
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&mut &damaged[..], 64).await.is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(read(&mut &bytes[..len], 64).await.is_err(), "cut at {len}");
        }
    }

    #[tokio::test]
    async fn a_length_beyond_the_bound_is_refused_from_the_header_alone() {
        let mut header = [0xff; HEADER_BYTES];
        header[8] = 2;
        let refused = read(&mut &header[..], MAX_PAYLOAD_BYTES).await;
        assert!(matches!(refused, Err(FrameError::TooLarge { .. })));
        let http = read(&mut &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], MAX_HANDSHAKE_BYTES).await;
        assert!(http.is_err());
    }
}
