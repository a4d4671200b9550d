//! Lines that were typed while a command ran.
//!
//! Outside raw mode the terminal edits them, and ends them with line feeds. Left to the editor these are Ctrl-J, at which it does
//! not stop to read: it does the first line and forgets the others. So they are taken before it reads. What has no end
//! yet stays with the terminal, which gives it to the editor.

use std::collections::VecDeque;
use std::io::stdin;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::read;

#[derive(Default)]
pub struct Ahead {
    lines: VecDeque<String>,
    /// What the last line begins with.
    begun: Vec<u8>,
}

impl Ahead {
    /// Takes the lines that the terminal has, which must not be in raw mode. An error comes again when the editor reads.
    pub fn take(&mut self) {
        let (terminal, mut bytes) = (stdin(), [0; 1024]);
        let is_ready = || {
            let mut polled = [PollFd::new(&terminal, PollFlags::IN)];
            poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
        };
        while is_ready() {
            match read(&terminal, &mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(count) => self.add(&bytes[..count]),
            }
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.begun.extend_from_slice(bytes);
        while let Some(end) = self.begun.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.begun.drain(..=end).collect();
            self.lines.push_back(String::from_utf8_lossy(&line[..end]).into_owned());
        }
    }

    /// The next lines, as many as `is_whole` says that a command takes. If they are too few, they are what one begins with.
    pub fn next(&mut self, is_whole: impl Fn(&str) -> bool) -> Option<Result<String, String>> {
        let Some(mut command) = self.lines.pop_front() else {
            let begun = self.begun();
            return (!begun.is_empty()).then_some(Err(begun));
        };
        while !is_whole(&command) {
            command.push('\n');
            match self.lines.pop_front() {
                Some(line) => command.push_str(&line),
                None => return Some(Err(command + &self.begun())),
            }
        }
        Some(Ok(command))
    }

    fn begun(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.begun)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_order_and_as_many_as_a_command_takes() {
        let is_whole = |command: &str| !command.starts_with("txn") || command.ends_with("commit");
        let mut ahead = Ahead::default();
        ahead.add(b"get a\ntxn\nput b 1\ncom");
        ahead.add(b"mit\ntxn\nge");
        assert_eq!(ahead.next(is_whole), Some(Ok("get a".to_owned())));
        assert_eq!(ahead.next(is_whole), Some(Ok("txn\nput b 1\ncommit".to_owned())));
        assert_eq!(ahead.next(is_whole), Some(Err("txn\nge".to_owned())));
        assert_eq!(ahead.next(is_whole), None);
        ahead.add(b"put c");
        assert_eq!(ahead.next(is_whole), Some(Err("put c".to_owned())));
        assert_eq!(ahead.next(is_whole), None);
    }
}
