//! What the nodes of a demo say: their log goes to a file, so that it does not run through the shell's lines.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use actix::System;

/// The actix systems of the nodes and their names. Every thread knows its system, and so the log its node. One more
/// for each start.
static NAMES: Mutex<Vec<(usize, String)>> = Mutex::new(Vec::new());

/// Lets the lines of a system's threads begin with `name`.
pub fn name_system(id: usize, name: &str) {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner).push((id, name.to_owned()));
}

/// Sets the log up: lines of all nodes, each with its node, into the file at `path`.
pub fn open(path: &Path, filter: &str) -> io::Result<()> {
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(&crate::serve::log_filters(filter));
    builder.target(env_logger::Target::Pipe(Box::new(File::create(path)?)));
    builder.format(|out, record| {
        let (time, level) = (out.timestamp_millis(), record.level());
        writeln!(out, "{time} {level:5} {} {}: {}", name(), record.target(), record.args())
    });
    builder.try_init().map_err(io::Error::other)
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
