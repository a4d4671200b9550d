//! Reads a stream of server-sent events, in the part of the format that the server writes: `event`, `data` of one
//! line, `id`, and comments.

use super::lines::{LineReader, LineTooLong};

/// A block of the stream, up to its empty line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Block {
    pub event: String,
    pub data: String,
    pub id: String,
}

/// Takes bytes as they come and gives whole blocks.
pub struct EventReader {
    lines: LineReader,
    block: Block,
}

impl EventReader {
    pub fn new(limit_bytes: usize) -> EventReader {
        EventReader { lines: LineReader::new(limit_bytes), block: Block::default() }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.lines.push(bytes);
    }

    /// The next block that is there as a whole.
    pub fn next_block(&mut self) -> Result<Option<Block>, LineTooLong> {
        while let Some(line) = self.lines.next_line()? {
            if line.is_empty() {
                return Ok(Some(std::mem::take(&mut self.block)));
            }
            self.take_line(&String::from_utf8_lossy(&line));
        }
        Ok(None)
    }

    /// A line without a colon is a field without a value; one that begins with a colon is a comment.
    fn take_line(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        let field = match name {
            "event" => &mut self.block.event,
            "data" => &mut self.block.data,
            "id" => &mut self.block.id,
            _ => return,
        };
        value.clone_into(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str =
        "retry: 9\nid: 4\n\nevent: put\ndata: {\"a\": 1}\nid: 5\n\n: heartbeat\n\n";

    #[test]
    fn blocks_are_the_same_wherever_the_stream_is_cut() {
        let block = |event: &str, data: &str, id: &str| Block {
            event: event.to_owned(),
            data: data.to_owned(),
            id: id.to_owned(),
        };
        let expected = [block("", "", "4"), block("put", "{\"a\": 1}", "5"), block("", "", "")];
        for cut in 1..STREAM.len() {
            let mut reader = EventReader::new(64);
            let mut found = Vec::new();
            for piece in STREAM.as_bytes().chunks(cut) {
                reader.push(piece);
                while let Some(block) = reader.next_block().expect("short lines") {
                    found.push(block);
                }
            }
            assert_eq!(found, expected, "in pieces of {cut}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_given_up() {
        let mut reader = EventReader::new(8);
        reader.push(b"data: 34");
        assert_eq!(reader.next_block(), Ok(None));
        reader.push(b"5");
        assert_eq!(reader.next_block(), Err(LineTooLong));
    }
}
