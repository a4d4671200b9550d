//! Commands beside the shell's own, from the program that opened it: `conure-db demo` has some for its nodes.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::command::{Command, UsageError, parse};
use super::output::{self, Output};
use super::table::{self, Spec};
use super::words::{Word, escape};

/// What the program around the shell can do.
pub trait Extra: Send + Sync {
    /// Its commands. They take arguments and no options.
    fn commands(&self) -> &'static [Spec];

    /// Does one of them. An error says what to do next.
    fn run(
        &self,
        command: &'static str,
        arguments: Vec<String>,
    ) -> BoxFuture<'_, Result<Done, String>>;
}

/// What was done, for a person and for a script.
pub struct Done {
    pub text: String,
    pub json: Value,
}

/// All commands of a shell. Cheap to clone.
#[derive(Clone, Default)]
pub struct Vocabulary {
    pub extra: Option<Arc<dyn Extra>>,
}

/// What a line asks for.
pub struct Asked {
    pub what: What,
    /// How it is to be answered, where the line says so.
    pub output: Option<Output>,
}

impl Asked {
    /// Whether another program has the terminal meanwhile.
    pub fn runs_a_program(&self) -> bool {
        matches!(self.what, What::Own(Command::Lock { .. }))
    }
}

pub enum What {
    Own(Command),
    Extra {
        command: &'static str,
        arguments: Vec<String>,
    },
    /// Help about one of the others' commands.
    Help(&'static Spec),
}

impl Vocabulary {
    fn others(&self) -> &'static [Spec] {
        self.extra.as_ref().map_or(&[], |extra| extra.commands())
    }

    pub fn all(&self) -> impl Iterator<Item = &'static Spec> {
        table::COMMANDS.iter().chain(self.others())
    }

    fn find_other(&self, name: &str) -> Option<&'static Spec> {
        self.others().iter().find(|spec| spec.is_called(name))
    }

    /// The command with this name or alias.
    pub fn find(&self, name: &str) -> Option<&'static Spec> {
        self.find_other(name).or_else(|| table::find(name))
    }

    /// All commands, a line each.
    pub fn overview(&self) -> String {
        table::overview(self.all())
    }

    /// Reads `words` as a command; `None` when there are none.
    pub fn read(&self, mut words: Vec<Word>) -> Result<Option<Asked>, UsageError> {
        let spec = words.first().and_then(|name| self.find(&escape(&name.bytes)));
        let output = output::take(&mut words, spec.is_some_and(Spec::takes_anything))?;
        let what = match self.read_other(&words)? {
            Some(what) => what,
            None => match parse(words)? {
                Some(command) => What::Own(command),
                None => return Ok(None),
            },
        };
        Ok(Some(Asked { what, output }))
    }

    fn read_other(&self, words: &[Word]) -> Result<Option<What>, UsageError> {
        let Some((name, arguments)) = words.split_first() else { return Ok(None) };
        let arguments: Vec<String> = arguments.iter().map(|word| escape(&word.bytes)).collect();
        let name = escape(&name.bytes);
        if let ("help" | "?", [about]) = (name.as_str(), &arguments[..]) {
            return Ok(self.find_other(about).map(What::Help));
        }
        let Some(spec) = self.find_other(&name) else { return Ok(None) };
        if arguments.iter().any(|word| word == "--help" || word == "-h") {
            return Ok(Some(What::Help(spec)));
        }
        if !spec.arguments.contains(&arguments.len()) {
            let problem = format!("it takes other arguments than these {}", arguments.len());
            return Err(UsageError::Bad { command: spec.name, problem, usage: spec.usage });
        }
        Ok(Some(What::Extra { command: spec.name, arguments }))
    }
}
