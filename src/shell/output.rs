//! The three forms of an answer.
//!
//! | `-o` | |
//! |---|---|
//! | `plain` | lines with tabs between fields, `get` exactly the bytes; what a pipe or file gets unless it asks |
//! | `table` | columns under headings; what a terminal gets unless it asks |
//! | `json` | one document a command, or one a line where there can be many; errors as JSON on standard error |
//!
//! It can be chosen for all commands, by the flag of `conuresh`, and for one, among its words. Where the words of a
//! command may be anything, as those of `txn`, it stands first.

use clap::ValueEnum;

use super::command::UsageError;
use super::words::{Word, escape};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Lines with tabs between fields
    Plain,
    /// Columns under headings
    Table,
    /// JSON: a document for each command, or one a line where there can be many
    Json,
}

/// The names, as completion offers them.
pub const NAMES: [&str; 3] = ["json", "table", "plain"];

/// Takes `-o FORM`, `--output FORM` and `--output=FORM` out of the words of a command, up to a `--`; only at their
/// beginning where they may be `anything`.
pub fn take(words: &mut Vec<Word>, anything: bool) -> Result<Option<Output>, UsageError> {
    let mut found = None;
    let mut at = 1;
    while at < words.len() {
        let word = &words[at];
        if is_bare(word, b"--") || (anything && at > 1) {
            break;
        }
        let attached = word.bytes.strip_prefix(b"--output=").filter(|_| word.bare);
        let (form, taken) = match attached {
            Some(form) => (escape(form), 1),
            None if is_bare(word, b"-o") || is_bare(word, b"--output") => {
                (words.get(at + 1).map(|word| escape(&word.bytes)).unwrap_or_default(), 2)
            }
            None => {
                at += 1;
                continue;
            }
        };
        found = Some(Output::from_str(&form, false).map_err(|_| UsageError::Output(form))?);
        words.drain(at..(at + taken).min(words.len()));
    }
    Ok(found)
}

fn is_bare(word: &Word, text: &[u8]) -> bool {
    word.bare && word.bytes == text
}

#[cfg(test)]
mod tests {
    use super::super::words::split;
    use super::*;

    fn read(line: &str) -> (Result<Option<Output>, UsageError>, String) {
        let mut words = split(line.as_bytes()).unwrap();
        let output = take(&mut words, line.starts_with("txn"));
        (output, words.iter().map(|word| escape(&word.bytes)).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_form_stands_anywhere_among_the_words_of_a_command() {
        for line in ["get k -o json", "get -o json k", "get --output=json k", "get k --output json"]
        {
            assert_eq!(read(line), (Ok(Some(Output::Json)), "get k".to_owned()), "{line}");
        }
        assert_eq!(read("scan -o plain -o table"), (Ok(Some(Output::Table)), "scan".to_owned()));
    }

    #[test]
    fn what_only_looks_like_it_is_left_alone() {
        for line in ["put k '-o'", "put -- -o json", "txn then put -o json commit"] {
            assert_eq!(read(line).0, Ok(None), "{line}");
        }
        assert_eq!(read("txn -o json then get a").0, Ok(Some(Output::Json)));
        assert_eq!(read("get k -o").0, Err(UsageError::Output(String::new())));
        assert_eq!(read("get k -o xml").0, Err(UsageError::Output("xml".to_owned())));
    }
}
