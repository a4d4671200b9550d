//! What the nodes of a demo say: their log goes to a file, so that it does not run through the shell's lines.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use actix::System;
use conuredb::logs::LogSwitch;

/// The actix systems of the nodes and their names. Every thread knows its system, and so the log its node. One more
/// for each start.
static NAMES: Mutex<Vec<(usize, String)>> = Mutex::new(Vec::new());

/// Lets the lines of a system's threads begin with `name`.
pub fn name_system(id: usize, name: &str) {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner).push((id, name.to_owned()));
}

/// Sets the log up: lines of all nodes, each with its node, into the file at `path`. The nodes share what of them is
/// told: who changes it at one changes it for all.
pub fn open(path: &Path, filter: &str) -> io::Result<LogSwitch> {
    let file = Arc::new(File::create(path)?);
    let log = LogSwitch::to(filter, move |builder| {
        builder.target(env_logger::Target::Pipe(Box::new(file.clone())));
        builder.format(|out, record| {
            let (time, level) = (out.timestamp_millis(), record.level());
            writeln!(out, "{time} {level:5} {} {}: {}", name(), record.target(), record.args())
        });
    });
    let log = log.map_err(io::Error::other)?;
    log.install().map_err(io::Error::other)?;
    Ok(log)
}

/// The node on whose thread this is called, `-` for none.
fn name() -> String {
    let names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let own = System::try_current().map(|system| system.id());
    let found = names.iter().find(|(id, _)| Some(*id) == own);
    found.map_or_else(|| "-".to_owned(), |(_, name)| name.clone())
}

/// Tells the person at the terminal, and the log.
pub fn tell(text: &str) {
    log::error!("{text}");
    // At a prompt the line may be in the midst of being edited, in raw mode.
    let _ = write!(io::stderr(), "\r\n{text}\r\n");
}
