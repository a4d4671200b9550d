//! Processes of this program that do a part of a work: those that are killed, and those whose memory or
//! first moments are measured.

use std::path::Path;
use std::process::{Command, Stdio};

use super::round::Round;
use crate::engines::Kind;
use crate::error::BenchError;

/// A process with the data of this run; `task` is a hidden command.
pub fn process(
    round: &Round<'_>,
    task: &str,
    kind: Kind,
    dir: &Path,
) -> Result<Command, BenchError> {
    let program = std::env::current_exe();
    let mut command =
        Command::new(program.map_err(BenchError::io("find", "this program".as_ref()))?);
    command.arg(task).args(round.args.to_arguments()).arg("--engine").arg(kind.name());
    command.arg("--dir").arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
    Ok(command)
}

/// Runs a process to its end; the number that it prints.
pub fn number(mut command: Command, task: &'static str, dir: &Path) -> Result<f64, BenchError> {
    let output = command.output().map_err(BenchError::io("run a process for", dir))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.trim_end().parse().map_err(|_| BenchError::Child {
        task,
        status: output.status.to_string(),
        said,
    })
}
