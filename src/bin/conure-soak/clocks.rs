//! A wall clock for each node, by libfaketime: a file says how far it is off, and the node looks every second. The
//! monotonic clock stays as it is, as it does when somebody sets a machine's time.

use std::path::{Path, PathBuf};

use conuredb::processes::NodeProcess;

use crate::Failure;

pub struct Clock {
    offset: PathBuf,
}

impl Clock {
    /// Gives the node a clock that is right, from its next start on.
    pub fn give(node: &mut NodeProcess, library: &Path) -> Result<Clock, Failure> {
        let clock = Clock { offset: node.home().join("clock") };
        clock.set(0)?;
        node.set_environment("LD_PRELOAD", &library.display().to_string());
        node.set_environment("FAKETIME_TIMESTAMP_FILE", &clock.offset.display().to_string());
        node.set_environment("FAKETIME_CACHE_DURATION", "1");
        node.set_environment("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        // Two spellings, by version of the library.
        node.set_environment("DONT_FAKE_MONOTONIC", "1");
        Ok(clock)
    }

    /// Sets the clock to so many seconds before or after the right time.
    pub fn set(&self, seconds: i64) -> Result<(), Failure> {
        Ok(std::fs::write(&self.offset, format!("{seconds:+}\n"))?)
    }
}
