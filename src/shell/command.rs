//! From words to a command, checked as far as it can be without a server.

mod given;
mod leases;
#[cfg(test)]
mod tests;
mod txn;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use self::given::{Given, path_of};
pub use self::leases::Lease;
use super::files::Place;
use super::table;
use super::words::{Word, escape};
use crate::client::{Join, Keys, ReadOptions, Scan, Watch};
use crate::types::{AskedBy, Condition, Lifetime, Revision, Txn};

/// What a scan or a history lists unless told otherwise: a screen or two.
const DEFAULT_LIMIT: usize = 100;

/// How often `top` looks unless told otherwise, and how often it looks at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const SHORTEST_LOOK: Duration = Duration::from_millis(100);

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Put {
        key: Vec<u8>,
        value: Source,
        lifetime: Lifetime,
        condition: Condition,
    },
    Get {
        key: Vec<u8>,
        read: ReadOptions,
        show: Show,
    },
    Delete {
        key: Vec<u8>,
        condition: Condition,
    },
    DeletePrefix {
        prefix: Vec<u8>,
        /// Do not ask, whatever it removes.
        sure: bool,
    },
    /// `scan.limit` is set, and is the limit of all pages together.
    Scan {
        scan: Scan,
        limit: usize,
    },
    /// What became of a key, `limit` versions at most.
    History {
        key: Vec<u8>,
        read: ReadOptions,
        limit: usize,
    },
    /// What differs between two revisions.
    Diff {
        prefix: Vec<u8>,
        from: Revision,
        to: Revision,
    },
    /// How long a key has still to live.
    TimeToLive {
        key: Vec<u8>,
    },
    Txn(Txn),
    /// Stores a value in place of another, if that is what is there.
    Swap {
        key: Vec<u8>,
        old: Vec<u8>,
        new: Vec<u8>,
    },
    Watch(Watch),
    Lease(Lease),
    /// Runs a program under a lock.
    Lock {
        name: Vec<u8>,
        ttl: Duration,
        program: Vec<Vec<u8>>,
    },
    Campaign {
        name: Vec<u8>,
        value: Vec<u8>,
        ttl: Duration,
    },
    Observe {
        name: Vec<u8>,
    },
    Status,
    Members,
    Join(Join),
    Remove {
        id: String,
    },
    Transfer {
        id: String,
    },
    /// Saves all of the store.
    Backup {
        place: Place,
        read: ReadOptions,
    },
    /// Writes keys as lines of JSON.
    Export {
        prefix: Vec<u8>,
        place: Place,
    },
    /// Stores keys from such lines.
    Import {
        place: Place,
        from_line: u64,
    },
    /// Has the server make its file smaller, and waits for that.
    Compact {
        wait: bool,
    },
    /// What a node logs; another filter for it, if one is given.
    LogLevel(Option<String>),
    Help(Option<&'static str>),
    Exit,
    /// The members, again and again.
    Top {
        once: bool,
        every: Duration,
    },
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Word(Vec<u8>),
    File(PathBuf),
    Stdin,
}

/// What to do with a value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Show {
    Value,
    Meta,
    Out(PathBuf),
}

/// Whether the words of a line are the beginning of a command that goes on in the next.
pub fn goes_on(words: &[Word]) -> bool {
    txn::goes_on(words)
}

/// Words that are no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    #[error("there is no command {0:?}; `help` lists them")]
    UnknownCommand(String),
    #[error("there is no option {0:?} before a command; `conuresh --help` lists them")]
    UnknownLeadingOption(String),
    #[error("{command} has no option {option}; `help {command}` lists them")]
    UnknownOption { command: &'static str, option: String },
    #[error("{command}: {option} is given twice")]
    Twice { command: &'static str, option: &'static str },
    #[error("-o takes json, table or plain, not {0:?}")]
    Output(String),
    #[error("{command}: {problem}; usage: {usage}")]
    Bad { command: &'static str, problem: String, usage: &'static str },
}

impl UsageError {
    fn unknown(name: String) -> UsageError {
        match name.starts_with('-') {
            true => UsageError::UnknownLeadingOption(name),
            false => UsageError::UnknownCommand(name),
        }
    }
}

/// Reads `words` as a command; `None` when there are none.
pub fn parse(words: Vec<Word>) -> Result<Option<Command>, UsageError> {
    let mut words = words.into_iter();
    let Some(name) = words.next() else { return Ok(None) };
    let name = escape(&name.bytes);
    let spec = table::find(&name).ok_or_else(|| UsageError::unknown(name))?;
    match spec.name {
        "txn" => return txn::parse(spec, words).map(Some),
        "lock" => return leases::parse_lock(spec, words).map(Some),
        _ => {}
    }
    let mut given = Given { spec, arguments: Vec::new(), options: Vec::new() };
    let help = given.take(words)?;
    if help {
        return Ok(Some(Command::Help(Some(spec.name))));
    }
    given.command().map(Some)
}

impl Given {
    fn command(&mut self) -> Result<Command, UsageError> {
        Ok(match self.spec.name {
            "put" => Command::Put {
                condition: self.condition()?,
                lifetime: self.lifetime()?,
                value: self.source()?,
                key: self.key()?,
            },
            "get" => Command::Get {
                read: self.read()?,
                show: match (self.flag("--meta"), self.value("--out")) {
                    (true, Some(_)) => {
                        return Err(self.bad("--meta and --out exclude each other".to_owned()));
                    }
                    (true, None) => Show::Meta,
                    (false, Some(path)) => Show::Out(path_of(path)),
                    (false, None) => Show::Value,
                },
                key: self.key()?,
            },
            "delete" => match (self.value("--prefix"), self.arguments.is_empty()) {
                (Some(prefix), true) if !self.flag("--if-revision") => {
                    Command::DeletePrefix { prefix, sure: self.flag("--yes") }
                }
                (Some(_), _) => {
                    return Err(
                        self.bad("--prefix stands alone, without a key or condition".to_owned())
                    );
                }
                (None, true) => return Err(self.bad("a key is missing".to_owned())),
                (None, false) => Command::Delete { condition: self.condition()?, key: self.key()? },
            },
            "scan" => self.scan()?,
            "ttl" => Command::TimeToLive { key: self.key()? },
            "cas" => {
                let new = self.arguments.pop().map(|word| word.bytes).unwrap_or_default();
                let old = self.arguments.pop().map(|word| word.bytes).unwrap_or_default();
                Command::Swap { key: self.key()?, old, new }
            }
            "history" => {
                Command::History { read: self.read()?, limit: self.limit()?, key: self.key()? }
            }
            "diff" => {
                let prefix = if self.arguments.len() == 3 { self.arguments.pop() } else { None };
                Command::Diff {
                    prefix: prefix.map(|word| word.bytes).unwrap_or_default(),
                    to: self.revision()?,
                    from: self.revision()?,
                }
            }
            "watch" => self.watch()?,
            "lease" => Command::Lease(self.lease()?),
            "elect" => self.elect()?,
            "status" => Command::Status,
            "members" => Command::Members,
            "join" => {
                let raft_addr = self.text()?;
                let http_addr = self.value("--http-addr");
                Command::Join(Join {
                    raft_addr,
                    id: self.text()?,
                    http_addr: http_addr.map(|url| escape(&url)),
                    nonvoter: self.flag("--nonvoter"),
                    asked_by: AskedBy::Operator,
                })
            }
            "remove" => Command::Remove { id: self.text()? },
            "transfer" => Command::Transfer { id: self.text()? },
            "backup" => Command::Backup { read: self.read()?, place: self.place() },
            "export" => Command::Export {
                prefix: self.value("--prefix").unwrap_or_default(),
                place: self.place(),
            },
            "import" => {
                let from_line = self.number("--from-line")?.unwrap_or(1);
                Command::Import { from_line, place: self.place() }
            }
            "compact" => Command::Compact { wait: !self.flag("--no-wait") },
            "log-level" if self.arguments.is_empty() => Command::LogLevel(None),
            "log-level" => Command::LogLevel(Some(self.text()?)),
            "help" if self.arguments.is_empty() => Command::Help(None),
            "help" => {
                let name = self.text()?;
                let spec = table::find(&name).ok_or_else(|| UsageError::unknown(name))?;
                Command::Help(Some(spec.name))
            }
            "exit" => Command::Exit,
            "top" => {
                let every = self.duration("--every")?.unwrap_or(LOOK_EVERY);
                if every < SHORTEST_LOOK {
                    return Err(self.bad(format!("--every begins at {SHORTEST_LOOK:?}")));
                }
                Command::Top { once: self.flag("--once"), every }
            }
            other => unreachable!("the command {other} of the table is read nowhere"),
        })
    }

    fn scan(&mut self) -> Result<Command, UsageError> {
        let limit = self.limit()?;
        let scan = Scan {
            prefix: self.arguments.pop().map(|word| word.bytes).unwrap_or_default().into(),
            start: self.value("--start").map(Bytes::from),
            end: self.value("--end").map(Bytes::from),
            limit: None,
            reverse: self.flag("--reverse"),
            keys_only: self.flag("--keys-only"),
            cursor: None,
            read: self.read()?,
        };
        Ok(Command::Scan { scan, limit })
    }

    fn limit(&self) -> Result<usize, UsageError> {
        match self.number("--limit")?.unwrap_or(DEFAULT_LIMIT) {
            0 => Err(self.bad("--limit begins at 1".to_owned())),
            limit => Ok(limit),
        }
    }

    /// The last argument that is left, as a revision.
    fn revision(&mut self) -> Result<Revision, UsageError> {
        let text = self.text()?;
        text.parse().map_err(|_| self.bad(format!("{text:?} is no revision")))
    }

    fn watch(&mut self) -> Result<Command, UsageError> {
        let keys = match (self.value("--prefix"), self.arguments.is_empty()) {
            (Some(prefix), true) => Keys::Prefix(prefix.into()),
            (Some(_), false) => {
                return Err(self.bad("a key and --prefix exclude each other".to_owned()));
            }
            (None, true) => return Err(self.bad("a key or --prefix is missing".to_owned())),
            (None, false) => Keys::One(self.key()?.into()),
        };
        let from = self.number("--from")?;
        if from == Some(0) {
            return Err(self.bad("--from begins at 1".to_owned()));
        }
        Ok(Command::Watch(Watch { keys, from, previous: self.flag("--prev") }))
    }
}
