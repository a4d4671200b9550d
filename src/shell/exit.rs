//! How a command can fail, and the exit code that tells a script.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use super::command::UsageError;
use super::words::{SplitError, quote};
use crate::client::{Applied, ClientError, LeaseLost, RecipeError};
use crate::types::LeaseId;

/// The exit codes, as `--help` shows them.
pub const CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  no such command, or wrongly used
  3  no server can be reached
  4  there is no such key or node
  5  the condition (--if-absent, --if-revision, cas) does not hold
  6  the outcome of a write is unknown
  7  the lock or the leadership was lost
`lock` ends with the exit code of its program, or 127 when there is none, 126 when it cannot be run.
";

/// Longest value that an error tells.
const SHOWN_VALUE_BYTES: usize = 200;

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Split(#[from] SplitError),
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error("there is no key {}", quote(.0))]
    NotFound(Vec<u8>),
    #[error("there is no lease {0}: it has ended, or never was")]
    NoLease(LeaseId),
    #[error("{0}")]
    Key(String),
    /// `None` when it is too long to be told.
    #[error("the value of {} is {}", quote(.key), shown(.value.as_deref()))]
    OtherValue { key: Vec<u8>, value: Option<Vec<u8>> },
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot {doing} {}: {source}", .path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot read standard input: {0}")]
    Stdin(io::Error),
    #[error("a value has at most {limit_bytes} bytes, and {what} holds more")]
    TooLong { what: String, limit_bytes: u64 },
    #[error(
        "the line is longer than {limit_bytes} bytes; store such a value with `put KEY --file FILE`"
    )]
    LineTooLong { limit_bytes: u64 },
    #[error("`{by}` reads standard input, which holds the commands here; {instead}")]
    StdinTaken { by: &'static str, instead: &'static str },
    #[error("line {number}: {problem}; a line is JSON such as {{\"key\":\"k\",\"value\":\"v\"}}")]
    BadLine { number: u64, problem: String },
    #[error("{failure}; what stands before line {line} is stored: go on with --from-line {line}")]
    ImportStopped { line: u64, failure: Box<Failure> },
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
    #[error("cannot start threads: {0}")]
    Runtime(#[source] io::Error),
    #[error("the terminal: {0}")]
    Terminal(String),
    #[error("this would remove every key of the store")]
    Unsure,
    #[error("nothing was removed")]
    Refused,
    #[error("top redraws a terminal, and standard output is none")]
    NoTerminal,
    #[error("{0}")]
    Extra(String),
    #[error("{0}")]
    Recipe(RecipeError),
    #[error("given up: asked to end before it was its turn")]
    GivenUp,
    #[error(
        "`lock` and `elect` end by signals: run them from the command line or the prompt, not in a pipe"
    )]
    HeldInPipe,
    #[error("the program was stopped: {0}")]
    LockLost(LeaseLost),
    #[error("the program ended with exit code {code}")]
    Program { code: u8 },
    #[error("cannot run {}: {source}", quote(.program))]
    Start { program: Vec<u8>, source: io::Error },
    #[error("given up by Ctrl-C{}", if *.writes { "; it may have been applied or not" } else { "" })]
    Interrupted { writes: bool },
}

/// What to do after a refusal of a server.
fn after_refusal(code: &str) -> Option<&'static str> {
    Some(match code {
        "condition_failed" => "`get KEY --meta` tells the revision that there is",
        "no_leader" | "not_ready" | "timeout" => {
            "`top --once` shows which members answer; a majority of them has to run"
        }
        "unknown_node" => "`members` lists the nodes",
        "node_conflict" => "choose another ID, or `remove` the node that has it",
        "storage_full" => "`delete` keys, or give the disk room; it clears by itself",
        "overloaded" => "try again in a moment; limits.* of the node say how much it takes at once",
        "value_too_large" => "limits.max_value_bytes of the nodes says how long a value may be",
        "revision_in_future" => "`status` tells the present revision",
        "revision_trimmed" => "ask for a later revision; `status` tells the present one",
        "too_stale" => "leave --stale away, or ask another server",
        _ => return None,
    })
}

/// A value in an error: all of a short one.
fn shown(value: Option<&[u8]>) -> String {
    match value {
        Some(value) if value.len() <= SHOWN_VALUE_BYTES => quote(value),
        _ => "another, longer one".to_owned(),
    }
}

impl From<RecipeError> for Failure {
    fn from(error: RecipeError) -> Failure {
        match error {
            RecipeError::Client(error) => Failure::Client(error),
            other => Failure::Recipe(other),
        }
    }
}

impl Failure {
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    /// See [`CODES`].
    pub fn code(&self) -> u8 {
        match self {
            Failure::Split(_)
            | Failure::Usage(_)
            | Failure::Key(_)
            | Failure::StdinTaken { .. }
            | Failure::HeldInPipe
            | Failure::Unsure
            | Failure::NoTerminal => 2,
            Failure::OtherValue { .. } => 5,
            Failure::NotFound(_) | Failure::NoLease(_) => 4,
            Failure::LockLost(_) | Failure::Recipe(RecipeError::Lost(_)) => 7,
            Failure::Recipe(RecipeError::Name(_)) => 2,
            Failure::Program { code } => *code,
            Failure::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Failure::Start { .. } => 126,
            Failure::ImportStopped { failure, .. } => failure.code(),
            Failure::Client(error) | Failure::Recipe(RecipeError::Client(error)) => match error {
                _ if error.applied() == Applied::Unknown => 6,
                ClientError::NoServers | ClientError::BadServer { .. } => 2,
                ClientError::Unreachable { .. }
                | ClientError::Lost { .. }
                | ClientError::Silent { .. } => 3,
                ClientError::Refused { problem, .. } => match problem.status {
                    404 => 4,
                    412 => 5,
                    _ => 1,
                },
                _ => 1,
            },
            // The reader of the output has seen enough.
            _ if self.is_broken_pipe() => 0,
            _ => 1,
        }
    }

    /// The code of the server's refusal, if that is what it was.
    pub fn server_code(&self) -> Option<&str> {
        match self {
            Failure::Client(error) => error.problem().map(|problem| problem.code.as_str()),
            _ => None,
        }
    }

    /// What a person may do next, where the error does not say so itself.
    pub fn next_step(&self) -> Option<&'static str> {
        Some(match self {
            Failure::Split(SplitError::OpenQuote(_)) => {
                "close it, or write \\' or \\\" for a quote that belongs to the word"
            }
            Failure::NotFound(_) => {
                "`scan` lists the keys that there are, `scan PREFIX` some of them"
            }
            Failure::OtherValue { .. } => {
                "repeat `cas` with that value, or overwrite it with `put`"
            }
            Failure::File { doing: "write", .. } => {
                "check the path and its permissions; --out takes a file"
            }
            Failure::File { .. } => {
                "check the path and its permissions; `put KEY VALUE` takes no file"
            }
            Failure::BadLine { .. } => {
                "what stands before that line is stored: mend it, and go on with --from-line"
            }
            Failure::TooLong { .. } => "store it in several keys",
            Failure::Unsure => {
                "add --yes if that is meant, or name a prefix: `delete --prefix PREFIX`"
            }
            Failure::NoTerminal => "`top --once` prints one table",
            Failure::Interrupted { writes: true } => "read before writing again",
            Failure::Client(ClientError::Unreachable { .. }) => {
                "start a node with `conure-db`, or name others: --server URL or CONURE_SERVER"
            }
            Failure::Client(_) => return self.server_code().and_then(after_refusal),
            _ => return None,
        })
    }

    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Failure::Output(why) if why.kind() == io::ErrorKind::BrokenPipe)
    }
}
