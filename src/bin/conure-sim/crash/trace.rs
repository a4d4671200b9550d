//! What a workload did to its disk, written down, so that the power can be cut between any two calls
//! without running the workload again.
//!
//! [`Recorder`] is a disk that passes everything on and keeps what changes anything. With each call it keeps the
//! [`Promise`] in force before it: which states a power cut at that moment may leave. [`Replay`] does the calls
//! again, one by one, on a memory disk whose forks are then crashed.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use conuredb::storage::disk::{Disk, DiskFile, MemDisk};

/// States by their numbers in the history of the workload: one from `durable`, which was acknowledged last, up to
/// `newest`, which the workload was bringing to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    pub durable: usize,
    pub newest: usize,
}

impl Promise {
    /// What holds where both do: nothing reached the disk between them.
    fn both(self, other: Promise) -> Promise {
        Promise { durable: self.durable.max(other.durable), newest: self.newest.min(other.newest) }
    }
}

/// A call that changes the disk. Files are numbered in the order in which they were opened.
#[derive(Clone, Debug)]
pub enum Call {
    Open { name: String },
    Write { file: usize, offset: u64, data: Bytes },
    SetLen { file: usize, len: u64 },
    Allocate { file: usize, len: u64 },
    Sync { file: usize },
    Rename { from: String, to: String },
    Remove { name: String },
    SyncDir,
}

/// All calls of a workload, each with the promise before it, and the promise at the end.
pub struct Trace {
    pub calls: Vec<(Promise, Call)>,
    pub end: Promise,
}

/// A disk that keeps what is done to it; clones share it.
#[derive(Clone)]
pub struct Recorder {
    disk: MemDisk,
    tape: Arc<Mutex<Tape>>,
}

#[derive(Default)]
struct Tape {
    calls: Vec<(Promise, Call)>,
    files: usize,
    /// In force now, and at every moment since the last call.
    promise: Promise,
    since_call: Promise,
}

impl Recorder {
    /// Of an empty disk, which is state 0 of every history.
    pub fn new() -> Recorder {
        Recorder { disk: MemDisk::new(), tape: Arc::default() }
    }

    /// From now on this holds.
    pub fn promise(&self, promise: Promise) {
        let mut tape = self.tape();
        tape.promise = promise;
        tape.since_call = tape.since_call.both(promise);
    }

    /// What was recorded; the workload has ended.
    pub fn finish(self) -> Trace {
        let mut tape = self.tape();
        Trace { calls: std::mem::take(&mut tape.calls), end: tape.since_call }
    }

    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.tape.lock().expect("no call panics while it holds the tape")
    }

    fn keep(&self, call: Call) {
        let mut tape = self.tape();
        let before = tape.since_call;
        tape.calls.push((before, call));
        tape.since_call = tape.promise;
    }
}

impl Disk for Recorder {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.disk.open(name)?;
        self.keep(Call::Open { name: name.to_owned() });
        let number = self.tape().files;
        self.tape().files += 1;
        Ok(Arc::new(RecordedFile { disk: self.clone(), inner, number }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)?;
        self.keep(Call::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)?;
        self.keep(Call::Remove { name: name.to_owned() });
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()?;
        self.keep(Call::SyncDir);
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    fn locate(&self, name: &str) -> String {
        self.disk.locate(name)
    }
}

struct RecordedFile {
    disk: Recorder,
    inner: Arc<dyn DiskFile>,
    number: usize,
}

impl DiskFile for RecordedFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, data)?;
        let data = Bytes::copy_from_slice(data);
        self.disk.keep(Call::Write { file: self.number, offset, data });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()?;
        self.disk.keep(Call::Sync { file: self.number });
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)?;
        self.disk.keep(Call::SetLen { file: self.number, len });
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)?;
        self.disk.keep(Call::Allocate { file: self.number, len });
        Ok(())
    }
}

/// A trace being done again.
pub struct Replay {
    disk: MemDisk,
    files: Vec<Arc<dyn DiskFile>>,
    /// What a power cut could lose: files, and whether names.
    unsynced: BTreeSet<usize>,
    has_unsynced_names: bool,
}

impl Replay {
    pub fn new() -> Replay {
        Replay {
            disk: MemDisk::new(),
            files: Vec::new(),
            unsynced: BTreeSet::new(),
            has_unsynced_names: false,
        }
    }

    /// The disk as it is now, to be crashed.
    pub fn fork(&self) -> MemDisk {
        self.disk.fork()
    }

    /// Whether a power cut now leaves one image only.
    pub fn is_synced(&self) -> bool {
        self.unsynced.is_empty() && !self.has_unsynced_names
    }

    /// Does a call, which succeeded when it was recorded.
    pub fn call(&mut self, call: &Call) -> io::Result<()> {
        match call {
            Call::Open { name } => {
                let is_new = !self.disk.list()?.contains(name);
                self.has_unsynced_names |= is_new;
                self.files.push(self.disk.open(name)?);
            }
            Call::Write { file, offset, data } => {
                self.change(*file)?.write_at(*offset, data)?;
            }
            Call::SetLen { file, len } => self.change(*file)?.set_len(*len)?,
            Call::Allocate { file, len } => self.change(*file)?.allocate(*len)?,
            Call::Sync { file } => {
                self.files[*file].sync_data()?;
                self.unsynced.remove(file);
            }
            Call::Rename { from, to } => {
                self.disk.rename(from, to)?;
                self.has_unsynced_names = true;
            }
            Call::Remove { name } => {
                self.disk.remove(name)?;
                self.has_unsynced_names = true;
            }
            Call::SyncDir => {
                self.disk.sync_dir()?;
                self.has_unsynced_names = false;
            }
        }
        Ok(())
    }

    fn change(&mut self, file: usize) -> io::Result<&dyn DiskFile> {
        self.unsynced.insert(file);
        Ok(&*self.files[file])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_ends_with_the_same_disk_and_every_call_has_the_promise_before_it() {
        let recorder = Recorder::new();
        let file = recorder.open("a").unwrap();
        recorder.promise(Promise { durable: 0, newest: 1 });
        file.write_at(3, b"abc").unwrap();
        file.sync_data().unwrap();
        recorder.promise(Promise { durable: 1, newest: 1 });
        recorder.promise(Promise { durable: 1, newest: 2 });
        recorder.rename("a", "b").unwrap();
        recorder.sync_dir().unwrap();
        let expected = recorder.disk.contents();
        let trace = recorder.finish();

        let promises: Vec<_> = trace.calls.iter().map(|(it, _)| (it.durable, it.newest)).collect();
        // Before the write nothing had reached the disk; after the acknowledgement the first state had to
        // be there until the rename could bring the second.
        assert_eq!(promises, [(0, 0), (0, 0), (0, 1), (1, 1), (1, 2)]);
        assert_eq!(trace.end, Promise { durable: 1, newest: 2 });
        let mut replay = Replay::new();
        for (number, (_, call)) in trace.calls.iter().enumerate() {
            assert_eq!(replay.is_synced(), number == 0, "before {call:?}");
            replay.call(call).unwrap();
        }
        assert!(replay.is_synced());
        assert_eq!(replay.disk.contents(), expected);
    }
}
