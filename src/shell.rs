//! `conuresh`: the shell over the client, at a prompt, from a pipe, or for one command.
//!
//! ```text
//!   one-shot  conuresh get k      pipe  conuresh < file      prompt  conuresh
//!        │                          │                          │ editor.rs (reedline), complete.rs
//!        └── words as the OS        └────────── words.rs ──────┘
//!            gave them                             │ bytes
//!                       extra.rs                   ▼ what is asked, and in which form (output.rs)
//!                       command.rs (by table.rs)   a Command
//!                       run.rs                     asks the client, prints (print.rs, json.rs, files.rs)
//!                       past.rs                    history and diff, which take more than one question
//!                       bulk.rs                    backup, export, import, compact: long ones (line.rs, progress.rs)
//!                       txn.rs                     transactions
//!                       top.rs                     all members, live
//!                       leases.rs, held.rs         leases; locks and elections
//!                       ahead.rs                   what is typed while a command runs
//! ```
//!
//! What the three share is all but the reading of words: a command does the same everywhere. They differ
//! in what suits a person and what suits a program:
//!
//! * a value goes to a terminal as text, with a newline and with what is no text escaped; one-shot, into
//!   a pipe or file, it goes as the exact bytes; between other commands' output it ends with a newline;
//! * a failing command ends one-shot mode with its exit code; a pipe goes on and ends with the code of
//!   the first failure (or stops there, with `--exit-on-error`); the prompt goes on;
//! * a terminal gets tables, a program lines with tabs, whoever asks for it JSON ([`Output`]);
//! * a reader of the output that leaves (`conuresh scan | head`) is a normal end.
//!
//! The program that opens a shell may add commands of its own ([`Extra`]).

use std::io::{self, BufRead, IsTerminal};
use std::process::ExitCode;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::client::Client;

mod ahead;
mod bulk;
pub mod columns;
mod command;
mod complete;
mod editor;
pub mod exit;
mod extra;
mod files;
mod held;
mod json;
mod leases;
mod line;
mod output;
mod paint;
mod past;
mod print;
mod progress;
mod run;
mod table;
mod top;
mod txn;
mod words;

use ahead::TypedAhead;
use command::Command;
use exit::Failure;
use extra::{Asked, What};
use run::{Mode, Session};
use words::Word;

pub use extra::{Done, Extra, Vocabulary};
pub use output::Output;
pub use table::{COMMANDS, Opt, Spec};

/// Longest line of a pipe: a value of the greatest length, each byte an escape of four.
const MAX_LINE_BYTES: u64 = 4 * files::MAX_VALUE_BYTES + 64 * 1024;

/// All commands, for `--help`.
pub fn overview() -> String {
    Vocabulary::default().overview()
}

/// A shell, before it is told where its commands come from.
pub struct Shell<'a> {
    pub runtime: &'a Runtime,
    pub client: Client,
    /// The form of answers; `None` for what suits who reads them.
    pub output: Option<Output>,
    pub vocabulary: Vocabulary,
}

impl Shell<'_> {
    /// Does the one command that `arguments` are.
    pub fn one_shot(self, arguments: Vec<Vec<u8>>) -> ExitCode {
        let words = arguments.into_iter().map(|bytes| Word { bytes, bare: true }).collect();
        let mut session = self.session(Mode::OneShot);
        let mut form = self.output;
        let done =
            self.vocabulary.read(words).map_err(Failure::from).and_then(|asked| match asked {
                Some(asked) => {
                    form = asked.output.or(form);
                    self.runtime.block_on(session.answer_to(asked))
                }
                None => Ok(()),
            });
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => fail_in(failure, form),
        }
    }

    /// Does the commands on standard input, one a line; empty lines and those that begin with `#` are
    /// skipped.
    pub fn lines(self, exit_on_error: bool) -> ExitCode {
        let mut session = self.session(Mode::Lines);
        let mut input = io::stdin().lock();
        let mut first_failure = None;
        let mut number = 0;
        loop {
            number += 1;
            let line = match read_command(&mut input, &mut number) {
                Ok(None) => break,
                Ok(Some(line)) => line,
                Err(failure) => {
                    print::failure(&failure, Some(number), self.output);
                    return failure.exit_code();
                }
            };
            let mut form = self.output;
            match self.read(&line).and_then(|asked| match asked {
                Some(Asked { what: What::Own(Command::Exit), .. }) => Ok(true),
                Some(asked) => {
                    form = asked.output.or(form);
                    self.runtime.block_on(session.answer_to(asked)).map(|()| false)
                }
                None => Ok(false),
            }) {
                Ok(false) => {}
                Ok(true) => break,
                // Nobody reads any longer: what follows has no purpose.
                Err(failure) if failure.is_broken_pipe() => break,
                Err(failure) => {
                    print::failure(&failure, Some(number), form);
                    let code = failure.exit_code();
                    if exit_on_error {
                        return code;
                    }
                    first_failure.get_or_insert(code);
                }
            }
        }
        first_failure.unwrap_or(ExitCode::SUCCESS)
    }

    /// Talks with a person.
    pub fn prompt(self) -> ExitCode {
        let keys = complete::FromServer::new(self.client.clone(), self.runtime.handle().clone());
        let mut editor = match editor::Editor::new(self.vocabulary.clone(), keys) {
            Ok(editor) => editor,
            Err(failure) => return fail(failure),
        };
        let mut session = self.session(Mode::Prompt);
        // Heard from here on, Ctrl-C ends a command. Before, it would end this program, and leave the terminal as it is.
        let _heard = {
            let _entered = self.runtime.enter();
            signal(SignalKind::interrupt())
        };
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore_terminal();
            usual(panic);
        }));
        let mut ahead = TypedAhead::keep();
        print::welcome();
        loop {
            let status = self.runtime.block_on(session.glance());
            let line = match editor.read_line(status) {
                Ok(Some(line)) => line,
                Ok(None) => return ExitCode::SUCCESS,
                Err(failure) => return fail(failure),
            };
            match self.read(line.as_bytes()).and_then(|asked| match asked {
                Some(Asked { what: What::Own(Command::Exit), .. }) => Ok(true),
                Some(asked) => {
                    let _lent = asked.runs_a_program().then(|| ahead.lend());
                    self.runtime.block_on(session.run_until_ctrl_c(asked)).map(|()| false)
                }
                None => Ok(false),
            }) {
                Ok(false) => {}
                Ok(true) => return ExitCode::SUCCESS,
                Err(failure) => print::failure(&failure, None, self.output),
            }
        }
    }

    fn session(&self, mode: Mode) -> Session {
        Session::new(self.client.clone(), mode, self.output, self.vocabulary.clone())
    }

    fn read(&self, line: &[u8]) -> Result<Option<Asked>, Failure> {
        if line.trim_ascii_start().starts_with(b"#") {
            return Ok(None);
        }
        Ok(self.vocabulary.read(words::split(line)?)?)
    }
}

/// The next line, with those that follow while it is the beginning of a transaction. `number` counts them.
fn read_command(input: &mut impl BufRead, number: &mut u64) -> Result<Option<Vec<u8>>, Failure> {
    let Some(mut command) = files::read_line(input, MAX_LINE_BYTES)? else { return Ok(None) };
    while words::split(&command).is_ok_and(|words| command::goes_on(&words)) {
        let left = MAX_LINE_BYTES.saturating_sub(command.len() as u64);
        let Some(line) = files::read_line(input, left)? else { break };
        *number += 1;
        command.push(b'\n');
        command.extend(line);
    }
    Ok(Some(command))
}

/// Tells of a failure and gives its exit code.
pub fn fail(failure: Failure) -> ExitCode {
    fail_in(failure, None)
}

/// The same in the form of answers. What a program had to say of its own, it has said.
fn fail_in(failure: Failure, form: Option<Output>) -> ExitCode {
    if !matches!(failure, Failure::Program { .. }) {
        print::failure(&failure, None, form);
    }
    failure.exit_code()
}

/// Whether standard input is a person.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal()
}

/// Gives the terminal back as it was before the prompt, for a program that ends in the midst of a line.
pub fn restore_terminal() {
    top::leave_screen();
    ahead::put_back();
}
