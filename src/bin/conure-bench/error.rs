//! What ends a run.

use std::io;
use std::path::{Path, PathBuf};

use crate::cluster::error::ClusterError;
use crate::engines::Kind;

/// An error of whichever engine: each has types of its own, and all that is done with one is to print it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{engine} failed in {work}: {source}")]
    Engine { engine: Kind, work: &'static str, source: Failure },
    #[error(
        "{engine} gave wrong bytes in {work} for the key {}: {what}", .key.escape_ascii()
    )]
    WrongBytes { engine: Kind, work: &'static str, key: Vec<u8>, what: &'static str },
    #[error("cannot {action} {}: {source}", .path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the process that {task} ended with {status}: {said}")]
    Child { task: &'static str, status: String, said: String },
    #[error(
        "the engine {engine} is not built in: build with `--features bench-peers`, \
         or leave it out of --peers"
    )]
    NotBuilt { engine: Kind },
    #[error(transparent)]
    Cluster(ClusterError),
}

impl BenchError {
    /// Whether it is for the caller to mend, and nothing was measured.
    pub fn is_misuse(&self) -> bool {
        match self {
            BenchError::NotBuilt { .. } => true,
            BenchError::Cluster(error) => error.is_misuse(),
            _ => false,
        }
    }

    /// For `map_err` on a call of the system.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BenchError {
        let path = path.to_owned();
        move |source| BenchError::Io { action, path, source }
    }
}
