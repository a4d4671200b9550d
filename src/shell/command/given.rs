//! The words of a command, taken apart: its arguments and its options.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{Source, UsageError};
use crate::client::ReadOptions;
use crate::shell::files::Place;
use crate::shell::table::Spec;
use crate::shell::words::{Word, escape};
use crate::types::Condition;

/// The words after a command's name, sorted.
pub struct Given {
    pub spec: &'static Spec,
    pub arguments: Vec<Word>,
    pub options: Vec<(&'static str, Vec<u8>)>,
}

impl Given {
    /// Sorts `words`; true when help is asked for. After `--` no word is an option.
    pub fn take(&mut self, mut words: impl Iterator<Item = Word>) -> Result<bool, UsageError> {
        let mut options_end = false;
        while let Some(mut word) = words.next() {
            let dashed = word.bare && word.bytes.len() > 1 && word.bytes.starts_with(b"-");
            if options_end || !dashed {
                word.bare &= !options_end;
                self.arguments.push(word);
            } else if word.bytes == b"--" {
                options_end = true;
            } else if word.bytes == b"--help" || word.bytes == b"-h" {
                return Ok(true);
            } else {
                self.option(&word.bytes, &mut words)?;
            }
        }
        let expected = &self.spec.arguments;
        match self.arguments.len() {
            given if given < *expected.start() => {
                Err(self.bad("an argument is missing".to_owned()))
            }
            given if given > *expected.end() => {
                let first = escape(&self.arguments[*expected.end()].bytes);
                Err(self.bad(format!("{first:?} is one argument too many (quote blanks)")))
            }
            _ => Ok(false),
        }
    }

    /// `--name value`, `--name=value` or `--name`.
    pub fn option(
        &mut self,
        word: &[u8],
        words: &mut impl Iterator<Item = Word>,
    ) -> Result<(), UsageError> {
        let equals = word.iter().position(|&byte| byte == b'=');
        let (name, attached) = word.split_at(equals.unwrap_or(word.len()));
        let known = self.spec.options.iter().find(|option| option.name.as_bytes() == name);
        let Some(option) = known else {
            return Err(UsageError::UnknownOption {
                command: self.spec.name,
                option: escape(name),
            });
        };
        if self.options.iter().any(|(given, _)| *given == option.name) {
            return Err(UsageError::Twice { command: self.spec.name, option: option.name });
        }
        let value = match (option.value, attached) {
            (None, []) => Vec::new(),
            (None, _) => return Err(self.bad(format!("{} takes no value", option.name))),
            (Some(_), [_, value @ ..]) => value.to_vec(),
            (Some(what), []) => match words.next() {
                Some(value) => value.bytes,
                None => return Err(self.bad(format!("{} needs {what}", option.name))),
            },
        };
        self.options.push((option.name, value));
        Ok(())
    }

    /// The value of a put: the second argument or what `--file` names.
    pub fn source(&mut self) -> Result<Source, UsageError> {
        let word = if self.arguments.len() == 2 { self.arguments.pop() } else { None };
        match (word, self.value("--file")) {
            (None, None) => Err(self.bad("a value is missing".to_owned())),
            (Some(_), Some(_)) => Err(self.bad("a value and --file exclude each other".to_owned())),
            (Some(word), None) if word.bare && word.bytes == b"-" => Ok(Source::Stdin),
            (Some(word), None) => Ok(Source::Word(word.bytes)),
            (None, Some(path)) => Ok(Source::File(path_of(path))),
        }
    }

    /// The last argument that is left, as a file; `take` has counted them.
    pub fn place(&mut self) -> Place {
        match self.arguments.pop() {
            Some(word) if !(word.bare && word.bytes == b"-") => Place::File(path_of(word.bytes)),
            _ => Place::Standard,
        }
    }

    pub fn condition(&self) -> Result<Condition, UsageError> {
        match (self.flag("--if-absent"), self.number("--if-revision")?) {
            (true, Some(_)) => {
                Err(self.bad("--if-absent and --if-revision exclude each other".to_owned()))
            }
            (true, None) => Ok(Condition::Absent),
            (false, Some(revision)) => Ok(Condition::ModRevision(revision)),
            (false, None) => Ok(Condition::None),
        }
    }

    pub fn read(&self) -> Result<ReadOptions, UsageError> {
        let revision = self.number("--revision")?;
        Ok(ReadOptions { stale: self.flag("--stale"), max_stale: None, revision })
    }

    /// The last argument that is left; `take` has counted them.
    pub fn key(&mut self) -> Result<Vec<u8>, UsageError> {
        match self.arguments.pop() {
            Some(word) if !word.bytes.is_empty() => Ok(word.bytes),
            _ => Err(self.bad("a key has at least one byte".to_owned())),
        }
    }

    /// The last argument that is left, as text: names and addresses are ASCII anyway.
    pub fn text(&mut self) -> Result<String, UsageError> {
        self.key().map(|bytes| escape(&bytes))
    }

    pub fn flag(&self, name: &str) -> bool {
        self.options.iter().any(|(given, _)| *given == name)
    }

    pub fn value(&self, name: &str) -> Option<Vec<u8>> {
        self.options.iter().find(|(given, _)| *given == name).map(|(_, value)| value.clone())
    }

    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, UsageError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let text = escape(&value);
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(self.bad(format!("{name} is {text:?}, no whole number"))),
        }
    }

    pub fn duration(&self, name: &str) -> Result<Option<Duration>, UsageError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let text = escape(&value);
        match humantime::parse_duration(&text) {
            Ok(duration) => Ok(Some(duration)),
            Err(_) => Err(self.bad(format!("{name} is {text:?}, no duration such as 30s"))),
        }
    }

    pub fn bad(&self, problem: String) -> UsageError {
        UsageError::Bad { command: self.spec.name, problem, usage: self.spec.usage }
    }
}

pub fn path_of(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}
