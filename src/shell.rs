//! `conuresh`: the shell over the client, at a prompt, from a pipe, or for one command.
//!
//! ```text
//!   one-shot  conuresh get k      pipe  conuresh < file      prompt  conuresh
//!        │                          │                          │ editor.rs (reedline)
//!        └── words as the OS        └────────── words.rs ──────┘
//!            gave them                             │ bytes
//!                       command.rs (by table.rs)   ▼ a Command
//!                       run.rs                     asks the client, prints (print.rs, files.rs)
//!                       past.rs                    history and diff, which take more than one question
//!                       txn.rs                     transactions
//! ```
//!
//! What the three share is all but the reading of words: a command does the same everywhere. They differ
//! in what suits a person and what suits a program:
//!
//! * a value goes to a terminal as text, with a newline and with what is no text escaped; one-shot, into
//!   a pipe or file, it goes as the exact bytes; between other commands' output it ends with a newline;
//! * a failing command ends one-shot mode with its exit code; a pipe goes on and ends with the code of
//!   the first failure (or stops there, with `--exit-on-error`); the prompt goes on;
//! * a reader of the output that leaves (`conuresh scan | head`) is a normal end.

use std::io::{self, BufRead, IsTerminal};
use std::process::ExitCode;

use tokio::runtime::Runtime;

use crate::client::Client;

mod command;
mod editor;
pub mod exit;
mod files;
mod past;
mod print;
mod run;
mod table;
mod txn;
mod words;

use command::{Command, parse};
use exit::Failure;
use run::{Mode, Session};
use words::Word;

/// Longest line of a pipe: a value of the greatest length, each byte an escape of four.
const MAX_LINE_BYTES: u64 = 4 * files::MAX_VALUE_BYTES + 64 * 1024;

/// All commands, for `--help`.
pub fn overview() -> String {
    table::overview()
}

/// Does the one command that `arguments` are.
pub fn one_shot(runtime: &Runtime, client: Client, arguments: Vec<Vec<u8>>) -> ExitCode {
    let words = arguments.into_iter().map(|bytes| Word { bytes, bare: true }).collect();
    let mut session = Session::new(client, Mode::OneShot);
    let done = parse(words).map_err(Failure::from).and_then(|command| match command {
        Some(command) => runtime.block_on(session.run(command)),
        None => Ok(()),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(failure),
    }
}

/// Does the commands on standard input, one a line; empty lines and those that begin with `#` are
/// skipped.
pub fn lines(runtime: &Runtime, client: Client, exit_on_error: bool) -> ExitCode {
    let mut session = Session::new(client, Mode::Lines);
    let mut input = io::stdin().lock();
    let mut first_failure = None;
    let mut number = 0;
    loop {
        number += 1;
        let line = match read_command(&mut input, &mut number) {
            Ok(None) => break,
            Ok(Some(line)) => line,
            Err(failure) => {
                print::failure(&failure, Some(number));
                return failure.exit_code();
            }
        };
        match read(&line).and_then(|command| match command {
            Some(Command::Exit) => Ok(true),
            Some(command) => runtime.block_on(session.run(command)).map(|()| false),
            None => Ok(false),
        }) {
            Ok(false) => {}
            Ok(true) => break,
            // Nobody reads any longer: what follows has no purpose.
            Err(failure) if failure.is_broken_pipe() => break,
            Err(failure) => {
                print::failure(&failure, Some(number));
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

/// Talks with a person.
pub fn prompt(runtime: &Runtime, client: Client) -> ExitCode {
    let mut editor = match editor::Editor::new() {
        Ok(editor) => editor,
        Err(failure) => return fail(failure),
    };
    let mut session = Session::new(client, Mode::Prompt);
    print::welcome();
    loop {
        let status = runtime.block_on(session.glance());
        let line = match editor.read_line(status) {
            Ok(Some(line)) => line,
            Ok(None) => return ExitCode::SUCCESS,
            Err(failure) => return fail(failure),
        };
        match read(line.as_bytes()).and_then(|command| match command {
            Some(Command::Exit) => Ok(true),
            Some(command) => runtime.block_on(session.run_until_ctrl_c(command)).map(|()| false),
            None => Ok(false),
        }) {
            Ok(false) => {}
            Ok(true) => return ExitCode::SUCCESS,
            Err(failure) => print::failure(&failure, None),
        }
    }
}

/// Tells of a failure and gives its exit code.
pub fn fail(failure: Failure) -> ExitCode {
    print::failure(&failure, None);
    failure.exit_code()
}

fn read(line: &[u8]) -> Result<Option<Command>, Failure> {
    if line.trim_ascii_start().starts_with(b"#") {
        return Ok(None);
    }
    Ok(parse(words::split(line)?)?)
}

/// Whether standard input is a person.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal()
}
