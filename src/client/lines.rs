//! Cuts a stream into lines as they come.

use bytes::{Buf, Bytes, BytesMut};

/// A line is longer than the reader takes.
#[derive(Debug, PartialEq, Eq)]
pub struct LineTooLong;

/// Takes bytes as they come and gives whole lines.
pub struct LineReader {
    buffer: BytesMut,
    /// So much of the buffer is known to hold no end of a line.
    searched: usize,
    limit_bytes: usize,
}

impl LineReader {
    pub fn new(limit_bytes: usize) -> LineReader {
        LineReader { buffer: BytesMut::new(), searched: 0, limit_bytes }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line that is there as a whole, without its end.
    pub fn next_line(&mut self) -> Result<Option<Bytes>, LineTooLong> {
        let end = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        if let Some(at) = end {
            let line = self.buffer.split_to(self.searched + at);
            self.buffer.advance(1);
            self.searched = 0;
            return Ok(Some(line.freeze()));
        }
        self.searched = self.buffer.len();
        match self.searched > self.limit_bytes {
            true => Err(LineTooLong),
            false => Ok(None),
        }
    }

    /// Whether there is the beginning of a line.
    pub fn is_in_line(&self) -> bool {
        !self.buffer.is_empty()
    }
}
