//! The files and streams of the shell: values in, values out, lines, the history's place.
//!
//! The shell is the outermost layer: this module alone opens files. All reading is bounded.

use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::exit::Failure;

/// Longest value that is read from a file: the most a server can be set to take.
pub const MAX_VALUE_BYTES: u64 = 64 * 1024 * 1024;

/// The value that a file holds.
pub fn read_value(path: &Path) -> Result<Bytes, Failure> {
    let failed = |source| Failure::File { doing: "read", path: path.to_owned(), source };
    #[allow(clippy::disallowed_methods, reason = "the shell's user names a file to store")]
    let file = std::fs::File::open(path).map_err(failed)?;
    bounded(file, &path.display().to_string())?.map_err(failed)
}

/// The value on standard input, to its end.
pub fn read_stdin() -> Result<Bytes, Failure> {
    bounded(io::stdin().lock(), "standard input")?.map_err(Failure::Stdin)
}

fn bounded(from: impl Read, what: &str) -> Result<io::Result<Bytes>, Failure> {
    let mut value = Vec::new();
    match from.take(MAX_VALUE_BYTES + 1).read_to_end(&mut value) {
        Ok(len_bytes) if len_bytes as u64 > MAX_VALUE_BYTES => {
            Err(Failure::TooLong { what: what.to_owned(), limit_bytes: MAX_VALUE_BYTES })
        }
        Ok(_) => Ok(Ok(Bytes::from(value))),
        Err(why) => Ok(Err(why)),
    }
}

/// Puts a value into a file, instead of what that held.
#[allow(clippy::disallowed_methods, reason = "the shell's user names a file for the value")]
pub fn write_value(path: &Path, value: &[u8]) -> Result<(), Failure> {
    let failed = |source| Failure::File { doing: "write", path: path.to_owned(), source };
    std::fs::write(path, value).map_err(failed)
}

/// The next line without its end, `None` after the last.
pub fn read_line(from: &mut impl BufRead, limit_bytes: u64) -> Result<Option<Vec<u8>>, Failure> {
    let mut line = Vec::new();
    from.take(limit_bytes + 1).read_until(b'\n', &mut line).map_err(Failure::Stdin)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.ends_with(b"\n") {
        line.pop();
    } else if line.len() as u64 > limit_bytes {
        return Err(Failure::LineTooLong { limit_bytes });
    }
    Ok(Some(line))
}

/// Where the history stands: a file of the user's state directory. `None` without a home.
pub fn history_path() -> Option<PathBuf> {
    let absolute =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state =
        absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("conuresh").join("history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_or_without_a_newline_and_have_a_bound() {
        let mut input = &b"one\n\nthree"[..];
        let mut next = || read_line(&mut input, 5).unwrap();
        assert_eq!(next(), Some(b"one".to_vec()));
        assert_eq!(next(), Some(Vec::new()));
        assert_eq!(next(), Some(b"three".to_vec()));
        assert_eq!(next(), None);
        let long = read_line(&mut &b"123456\n"[..], 5);
        assert!(matches!(long, Err(Failure::LineTooLong { limit_bytes: 5 })));
    }
}
