//! A disk in memory that can lose power, fail and fill up: for whole simulated nodes and for tests.
//!
//! It keeps the promises of [`super`] and not one more. What was not synced is at the mercy of
//! [`MemDisk::crash`], which draws from the generator it is given, so that a seed replays the damage:
//! `image.rs` says what a power cut may do to the content of a file, `names.rs` what it may do to the
//! directory.
//!
//! A crash returns a new handle and fences the old ones: every call through a disk or a file of before
//! the crash fails, so a simulated node that was killed in the middle of its work cannot write to the
//! disk of its successor.
//!
//! To visit every boundary a workload has: run it once and read [`MemDisk::calls`]; then, for every
//! `n` below that, run it on a fresh disk after [`MemDisk::cut_power_after`]`(n)`, crash, recover and
//! check. Several disks with the same content come from [`MemDisk::contents`] and
//! [`MemDisk::from_contents`], and several with the same unsynced changes, to be crashed each in its own way, from
//! [`MemDisk::fork`].
//!
//! Left out: sparse files (a grown file takes its full length of the capacity), and the lock that
//! keeps two processes apart, since here the simulation decides who runs.

mod faults;
mod image;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::{Rng, RngCore};

pub use self::faults::{Calls, Fault};

use self::faults::Faults;
use self::image::FileImage;
use self::names::{Inode, NameChange, Names};
use super::{Disk, DiskFile, check_name};

/// A handle on a disk in memory; clones share the disk.
#[derive(Clone)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
    /// The power-on this handle belongs to; calls through an earlier one are refused.
    power_on: u64,
}

/// What of the unsynced survives a power cut.
pub enum PowerCut<'a> {
    /// Nothing.
    KeepNone,
    /// All of it, as if the power went just after a sync that nobody was told of.
    KeepAll,
    /// Any mixture, torn sectors included, by this generator.
    ByChance(&'a mut dyn RngCore),
}

struct State {
    power_on: u64,
    names: Names,
    capacity_bytes: Option<u64>,
    /// Calls since the power came on.
    calls: u64,
    /// The number of the call at which the power goes, this one included.
    power_off_at: Option<u64>,
    faults: Faults,
}

struct MemFile {
    disk: MemDisk,
    name: String,
    inode: Inode,
}

impl Default for MemDisk {
    fn default() -> MemDisk {
        MemDisk::new()
    }
}

impl MemDisk {
    /// An empty disk without a limit.
    pub fn new() -> MemDisk {
        MemDisk::from_contents(BTreeMap::new())
    }

    /// A disk that durably holds these files.
    pub fn from_contents(contents: BTreeMap<String, Vec<u8>>) -> MemDisk {
        let names: BTreeMap<String, Inode> = contents
            .into_iter()
            .map(|(name, content)| (name, Arc::new(Mutex::new(FileImage::durable(content)))))
            .collect();
        let state = State {
            power_on: 0,
            names: Names::durable(names),
            capacity_bytes: None,
            calls: 0,
            power_off_at: None,
            faults: Faults::default(),
        };
        MemDisk { state: Arc::new(Mutex::new(state)), power_on: 0 }
    }

    /// Another disk in the same state, what was not synced included. They share nothing but memory that
    /// neither has changed yet, so a fork is cheap; files that are open stay with this one.
    pub fn fork(&self) -> MemDisk {
        let state = self.lock();
        let copy = State { names: state.names.fork(), faults: state.faults.clone(), ..*state };
        MemDisk { state: Arc::new(Mutex::new(copy)), power_on: self.power_on }
    }

    /// All files as reads see them now.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.lock();
        state
            .names
            .live()
            .iter()
            .map(|(name, inode)| (name.clone(), image(inode).live().to_vec()))
            .collect()
    }

    /// Cuts the power and restores it: what was not synced is decided by `cut`, planned faults are
    /// forgotten, and this handle, its clones and their files are of no use any more. The returned
    /// handle is.
    #[must_use = "handles of before the crash are fenced"]
    pub fn crash(&self, mut cut: PowerCut<'_>) -> MemDisk {
        let mut state = self.lock();
        state.names.crash(&mut cut);
        for inode in state.names.live().values() {
            image(inode).crash(&mut cut);
        }
        state.restart();
        MemDisk { state: self.state.clone(), power_on: state.power_on }
    }

    /// Fences the old handles as [`MemDisk::crash`] does and changes nothing else: the process died, the
    /// system and what it holds of the unsynced did not. Planned faults are forgotten.
    #[must_use = "handles of before are fenced"]
    pub fn outlive(&self) -> MemDisk {
        let mut state = self.lock();
        state.restart();
        MemDisk { state: self.state.clone(), power_on: state.power_on }
    }

    /// Forgets the faults that are planned and have not happened, a power cut among them.
    pub fn clear_faults(&self) {
        let mut state = self.lock();
        state.power_off_at = None;
        state.faults = Faults::default();
    }

    /// How many calls this disk and its files answered since the power came on.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// After so many more calls the power goes: every further call fails and has no effect, until
    /// [`MemDisk::crash`]. Replaces what an earlier call of this said.
    pub fn cut_power_after(&self, calls: u64) {
        let mut state = self.lock();
        state.power_off_at = Some(state.calls.saturating_add(calls));
    }

    /// The `nth` of the coming `calls` fails, once; 0 is the next one.
    pub fn fail(&self, calls: Calls, nth: u64, fault: Fault) {
        self.lock().faults.plan(calls, nth, fault);
    }

    /// How many faults are planned and have not happened.
    pub fn faults_left(&self) -> usize {
        self.lock().faults.left()
    }

    /// Limits the sum of all lengths; what would exceed it fails with [`io::ErrorKind::StorageFull`].
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.lock().capacity_bytes = capacity_bytes;
    }

    /// Flips one bit of a file on the medium, and in what reads see of it. Nothing happens beyond its
    /// end or when there is no such file.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) {
        if let Some(inode) = self.lock().names.live().get(name) {
            image(inode).flip_bit(offset, bit);
        }
    }

    /// Counts a call; refuses it when the handle is fenced, the power is off or a fault is due.
    fn begin(&self, calls: Calls, name: &str) -> io::Result<MutexGuard<'_, State>> {
        match self.begin_or_fault(calls, name)? {
            (state, None) => Ok(state),
            (_, Some(fault)) => Err(fault.error(name)),
        }
    }

    /// As [`MemDisk::begin`], for the calls that have a part of their effect when a fault is due.
    fn begin_or_fault(
        &self,
        calls: Calls,
        name: &str,
    ) -> io::Result<(MutexGuard<'_, State>, Option<Fault>)> {
        let mut state = self.lock();
        let fenced = state.power_on != self.power_on;
        if fenced || state.power_off_at.is_some_and(|at| state.calls >= at) {
            let message = format!("{name}: the memory disk lost its power");
            return Err(io::Error::new(io::ErrorKind::NotConnected, message));
        }
        state.calls += 1;
        let fault = state.faults.due(calls);
        Ok((state, fault))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no call panics while it holds the disk")
    }
}

impl Disk for MemDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        check_name(name)?;
        let mut state = self.begin(Calls::Names, name)?;
        let inode = match state.names.live().get(name) {
            Some(inode) => inode.clone(),
            None => {
                let inode = Inode::default();
                let change = NameChange::Name { name: name.to_owned(), inode: inode.clone() };
                state.names.change(change);
                inode
            }
        };
        Ok(Arc::new(MemFile { disk: self.clone(), name: name.to_owned(), inode }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.begin(Calls::Names, "list")?;
        Ok(state.names.live().keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        let mut state = self.begin(Calls::Names, from)?;
        let inode = state.named(from)?;
        state.names.change(NameChange::Name { name: to.to_owned(), inode });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        let mut state = self.begin(Calls::Names, name)?;
        let inode = state.named(name)?;
        state.names.change(NameChange::Remove { inode });
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.begin(Calls::Sync, "directory")?;
        state.names.sync();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.begin(Calls::Names, "free bytes")?.free_bytes())
    }

    fn locate(&self, name: &str) -> String {
        format!("memory:{name}")
    }
}

impl MemFile {
    /// Grows the file to `len` when it is shorter and the disk has room.
    fn grow(&self, state: &State, len: u64) -> io::Result<()> {
        let free_bytes = state.free_bytes();
        let mut file = image(&self.inode);
        if len.saturating_sub(file.len()) > free_bytes {
            return Err(storage_full(&self.name));
        }
        if len > file.len() {
            file.set_len(len);
        }
        Ok(())
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let _state = self.disk.begin(Calls::Read, &self.name)?;
        let file = image(&self.inode);
        let start = offset.min(file.len()) as usize;
        let Some(content) = file.live()[start..].get(..buf.len()) else {
            let message = format!("{}: read beyond the end", self.name);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        };
        buf.copy_from_slice(content);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (state, fault) = self.disk.begin_or_fault(Calls::Write, &self.name)?;
        let free_bytes = state.free_bytes();
        let mut file = image(&self.inode);
        if let Some(fault) = fault {
            file.write(offset, &data[..data.len() / 2]);
            return Err(fault.error(&self.name));
        }
        let room = file.len().saturating_add(free_bytes).saturating_sub(offset);
        let fits = room.min(data.len() as u64) as usize;
        file.write(offset, &data[..fits]);
        if fits < data.len() {
            return Err(storage_full(&self.name));
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let (_state, fault) = self.disk.begin_or_fault(Calls::Sync, &self.name)?;
        let mut file = image(&self.inode);
        match fault {
            None => {
                file.sync();
                Ok(())
            }
            Some(fault) => {
                if fault == Fault::SyncForgets {
                    file.forget_unsynced();
                }
                Err(fault.error(&self.name))
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        let _state = self.disk.begin(Calls::Read, &self.name)?;
        Ok(image(&self.inode).len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let state = self.disk.begin(Calls::Write, &self.name)?;
        self.grow(&state, len)?;
        let mut file = image(&self.inode);
        if len < file.len() {
            file.set_len(len);
        }
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let state = self.disk.begin(Calls::Allocate, &self.name)?;
        self.grow(&state, len)
    }
}

impl State {
    /// A new power-on: handles of before are fenced, nothing is planned.
    fn restart(&mut self) {
        self.calls = 0;
        self.power_off_at = None;
        self.faults = Faults::default();
        self.power_on += 1;
    }

    fn named(&self, name: &str) -> io::Result<Inode> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{name}: no such file"));
        self.names.live().get(name).cloned().ok_or_else(missing)
    }

    /// What files may still grow by. No file may be locked.
    fn free_bytes(&self) -> u64 {
        let used_bytes = || self.names.live().values().map(|inode| image(inode).len()).sum();
        self.capacity_bytes.map_or(u64::MAX, |capacity| capacity.saturating_sub(used_bytes()))
    }
}

impl PowerCut<'_> {
    fn keeps_name_change(&mut self) -> bool {
        match self {
            PowerCut::KeepNone => false,
            PowerCut::KeepAll => true,
            PowerCut::ByChance(chance) => chance.random(),
        }
    }
}

fn image(inode: &Inode) -> MutexGuard<'_, FileImage> {
    inode.lock().expect("no call panics while it holds a file")
}

fn storage_full(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, format!("{name}: no space left on the memory disk"))
}
