//! The data directory of a node that does not run, opened so that nothing in it can change.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use conuredb::actors::raft::types::Vote;
use conuredb::codec;
use conuredb::storage::TreeId;
use conuredb::storage::disk::{Disk, FileDisk};
use conuredb::storage::inspect::KeySpan;
use conuredb::storage::kv;

/// What the two subcommands have in common.
#[derive(Args)]
pub struct DataDir {
    /// Data directory of a node that is stopped
    #[arg(long, value_name = "DIR", env = "CONURE_DATA_DIR", default_value = "./data")]
    pub data_dir: PathBuf,
}

impl DataDir {
    /// Fails when there is no such directory, or a node runs on it.
    pub fn open(&self) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(FileDisk::open_read_only(&self.data_dir)?))
    }
}

/// How a subcommand ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Sound,
    Damaged,
}

/// Why it did not get to a verdict.
#[derive(Debug)]
pub enum Failure {
    /// The directory cannot be opened, or does not hold what was asked for.
    Unopened(String),
    /// Nobody reads what is said.
    Output(io::Error),
}

impl Failure {
    pub fn unopened(error: impl fmt::Display) -> Failure {
        Failure::Unopened(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

/// Lets a subcommand write to standard output, and makes its end an exit status.
pub fn say(work: impl FnOnce(&mut dyn Write) -> Result<Verdict, Failure>) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let ended = work(&mut out).and_then(|verdict| {
        out.flush()?;
        Ok(verdict)
    });
    match ended {
        Ok(Verdict::Sound) => ExitCode::SUCCESS,
        Ok(Verdict::Damaged) => ExitCode::from(1),
        Err(Failure::Unopened(reason)) => {
            eprintln!("conure-db: {reason}");
            ExitCode::from(2)
        }
        // Whoever reads has seen enough, as `head` has.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(Failure::Output(error)) => {
            eprintln!("conure-db: cannot write: {error}");
            ExitCode::from(2)
        }
    }
}

/// How many there are of something.
pub fn count(number: impl fmt::Display, what: &str) -> String {
    let number = number.to_string();
    let ending = if number == "1" { "" } else { "s" };
    format!("{number} {what}{ending}")
}

/// Bytes as a person reads them.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// Bytes of any kind between quotation marks.
pub fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a tree is called.
pub fn tree_name(id: TreeId) -> &'static str {
    kv::tree_name(id).unwrap_or("unused")
}

pub fn span(keys: &KeySpan) -> String {
    match (keys.only(), &keys.high) {
        (Some(key), _) => format!("key {}", quoted(key)),
        (None, Some(high)) => format!("keys from {} to below {}", quoted(&keys.low), quoted(high)),
        (None, None) => format!("keys from {} on", quoted(&keys.low)),
    }
}

/// The vote, which is Raft's own.
pub fn vote(bytes: &[u8]) -> String {
    match codec::decode::<Vote>(bytes) {
        Ok(vote) => vote.to_string(),
        Err(_) => hex(bytes),
    }
}

/// Something, or what stands for nothing.
pub fn or<T: fmt::Display>(value: Option<T>, nothing: &str) -> String {
    value.map_or_else(|| nothing.to_owned(), |value| value.to_string())
}
