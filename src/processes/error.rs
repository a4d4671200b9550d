//! Why a node does not run, or not as it should.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("{name}: cannot {action}: {source}")]
    Io { name: String, action: &'static str, source: io::Error },
    #[error("{name} ended with {status}; the end of its log:\n{said}")]
    Ended { name: String, status: ExitStatus, said: String },
    #[error("{name}: somebody else keeps its port")]
    PortTaken { name: String },
    #[error("{name} does not run")]
    NotRunning { name: String },
    #[error("waited {limit:?} in vain for {what}")]
    Waited { what: String, limit: Duration },
}
