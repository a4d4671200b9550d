//! The files and streams of the shell: values in, values out, lines, the history's place.
//!
//! The shell is the outermost layer: this module alone opens files. All reading is bounded.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
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
    line_of(from, limit_bytes, Failure::Stdin)
}

fn line_of(
    from: &mut impl BufRead,
    limit_bytes: u64,
    failed: impl FnOnce(io::Error) -> Failure,
) -> Result<Option<Vec<u8>>, Failure> {
    let mut line = Vec::new();
    from.take(limit_bytes + 1).read_until(b'\n', &mut line).map_err(failed)?;
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

/// Longest line of an import: a value of the greatest length, each byte an escape of six, and its key.
const MAX_IMPORT_LINE_BYTES: u64 = 6 * MAX_VALUE_BYTES + 64 * 1024;

/// How much is read and written at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// A file, or standard input or output in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Standard,
    File(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Standard => f.write_str("-"),
            Place::File(path) => path.display().fmt(f),
        }
    }
}

/// What takes a long output: standard output, or a file that has its name when it is whole. Until then, and if it is
/// given up, the name leads to what was there before.
pub struct OutFile {
    to: Box<dyn Write + Send>,
    file: Option<NewFile>,
}

/// A file that is being written, under another name beside it.
struct NewFile {
    file: File,
    path: PathBuf,
    part: PathBuf,
}

impl OutFile {
    pub fn create(place: &Place) -> Result<OutFile, Failure> {
        let Place::File(path) = place else {
            let to = Box::new(BufWriter::with_capacity(BUFFER_BYTES, io::stdout()));
            return Ok(OutFile { to, file: None });
        };
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let (path, part) = (path.clone(), PathBuf::from(part));
        let failed = |source| Failure::File { doing: "write", path: part.clone(), source };
        #[allow(clippy::disallowed_methods, reason = "the shell's user names a file to write")]
        let file = File::create(&part).map_err(failed)?;
        let to = file.try_clone().map_err(failed)?;
        let to = Box::new(BufWriter::with_capacity(BUFFER_BYTES, to));
        Ok(OutFile { to, file: Some(NewFile { file, path, part }) })
    }

    /// What an error of a write means.
    pub fn failed(&self, source: io::Error) -> Failure {
        match &self.file {
            None => Failure::Output(source),
            Some(NewFile { part, .. }) => {
                Failure::File { doing: "write", path: part.clone(), source }
            }
        }
    }

    /// All was written: makes a file durable and gives it its name.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.to.flush().map_err(|why| self.failed(why))?;
        let Some(NewFile { file, path, part }) = &self.file else { return Ok(()) };
        #[allow(clippy::disallowed_methods, reason = "the shell's user names a file to write")]
        let named = file.sync_all().and_then(|()| std::fs::rename(part, path));
        named.map_err(|why| self.failed(why))?;
        self.file = None;
        Ok(())
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Drop for OutFile {
    fn drop(&mut self) {
        if let Some(NewFile { part, .. }) = &self.file {
            #[allow(clippy::disallowed_methods, reason = "what is left is a file of ours")]
            let _ = std::fs::remove_file(part);
        }
    }
}

/// Lines of a file or of standard input.
pub struct InFile {
    from: Box<dyn BufRead + Send>,
    /// `None` of standard input.
    path: Option<PathBuf>,
    len_bytes: Option<u64>,
    read_bytes: u64,
}

impl InFile {
    pub fn open(place: &Place) -> Result<InFile, Failure> {
        let Place::File(path) = place else {
            let from = Box::new(BufReader::with_capacity(BUFFER_BYTES, io::stdin()));
            return Ok(InFile { from, path: None, len_bytes: None, read_bytes: 0 });
        };
        let failed = |source| Failure::File { doing: "read", path: path.clone(), source };
        #[allow(clippy::disallowed_methods, reason = "the shell's user names a file to import")]
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        // A pipe that has a name has no length.
        let len_bytes = metadata.is_file().then_some(metadata.len());
        let from = Box::new(BufReader::with_capacity(BUFFER_BYTES, file));
        Ok(InFile { from, path: Some(path.clone()), len_bytes, read_bytes: 0 })
    }

    pub fn len_bytes(&self) -> Option<u64> {
        self.len_bytes
    }

    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// The next line without its end, `None` after the last.
    pub fn read_line(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let line = line_of(&mut self.from, MAX_IMPORT_LINE_BYTES, |source| match &self.path {
            None => Failure::Stdin(source),
            Some(path) => Failure::File { doing: "read", path: path.clone(), source },
        })?;
        self.read_bytes += line.as_ref().map_or(0, |line| line.len() as u64 + 1);
        Ok(line)
    }
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
