//! Calls that are made to fail.

use std::io;

/// The kinds of calls a fault can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Any of the others.
    All,
    /// `DiskFile::read_at` and `DiskFile::len`.
    Read,
    /// `DiskFile::write_at` and `DiskFile::set_len`.
    Write,
    /// `DiskFile::sync_data` and `Disk::sync_dir`.
    Sync,
    /// `DiskFile::allocate`.
    Allocate,
    /// `Disk::open`, `Disk::list`, `Disk::rename`, `Disk::remove` and `Disk::free_bytes`.
    Names,
}

/// What a call that is made to fail does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Fails with this kind. A write has written its first half; anything else had no effect, and a
    /// sync may be retried with success.
    Error(io::ErrorKind),
    /// A failed sync after which the unsynced is dropped from what later syncs write, while reads go
    /// on seeing it, as Linux does: a retry succeeds and proves nothing.
    SyncForgets,
}

/// The faults that are planned for a disk.
#[derive(Clone, Default)]
pub(super) struct Faults(Vec<PlannedFault>);

#[derive(Clone)]
struct PlannedFault {
    calls: Calls,
    /// So many matching calls still succeed.
    countdown: u64,
    fault: Fault,
}

impl Faults {
    pub fn plan(&mut self, calls: Calls, nth: u64, fault: Fault) {
        self.0.push(PlannedFault { calls, countdown: nth, fault });
    }

    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// Counts down the planned faults that wait for such calls, and takes the one that is due.
    pub fn due(&mut self, calls: Calls) -> Option<Fault> {
        let mut due = None;
        self.0.retain_mut(|planned| {
            let waits = planned.calls == Calls::All || planned.calls == calls;
            if waits && planned.countdown == 0 {
                due = Some(planned.fault);
                return false;
            }
            planned.countdown -= u64::from(waits);
            true
        });
        due
    }
}

impl Fault {
    pub(super) fn error(self, name: &str) -> io::Error {
        let kind = match self {
            Fault::Error(kind) => kind,
            Fault::SyncForgets => io::ErrorKind::Other,
        };
        io::Error::new(kind, format!("{name}: injected fault"))
    }
}
