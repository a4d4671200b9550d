//! A disk in memory that can lose power, fail and fill up: for whole simulated nodes and for tests.
//!
//! It keeps the promises of [`super`] and not one more. What was not synced is at the mercy of
//! [`MemDisk::crash`], which draws from the generator it is given, so that a seed replays the damage:
//! `image.rs` says what a power cut may do to the content of a file. Names go the same way: of the
//! creations, renames and removals since [`Disk::sync_dir`] any may be lost, each as a whole.
//!
//! A crash returns a new handle and fences the old ones: every call through a disk or a file of before
//! the crash fails, so a simulated node that was killed in the middle of its work cannot write to the
//! disk of its successor.
//!
//! To visit every boundary a workload has: run it once and read [`MemDisk::calls`]; then, for every
//! `n` below that, run it on a fresh disk after [`MemDisk::cut_power_after`]`(n)`, crash, recover and
//! check. Several disks with the same content come from [`MemDisk::contents`] and
//! [`MemDisk::from_contents`].
//!
//! Left out: sparse files (a grown file takes its full length of the capacity), and the lock that
//! keeps two processes apart, since here the simulation decides who runs.

mod image;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::{Rng, RngCore};

use self::image::FileImage;
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

/// The kinds of calls a fault can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Any of the others.
    All,
    /// [`DiskFile::read_at`] and [`DiskFile::len`].
    Read,
    /// [`DiskFile::write_at`] and [`DiskFile::set_len`].
    Write,
    /// [`DiskFile::sync_data`] and [`Disk::sync_dir`].
    Sync,
    /// [`DiskFile::allocate`].
    Allocate,
    /// [`Disk::open`], [`Disk::list`], [`Disk::rename`] and [`Disk::remove`].
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

struct State {
    power_on: u64,
    names: BTreeMap<String, Inode>,
    durable_names: BTreeMap<String, Inode>,
    unsynced_names: Vec<NameChange>,
    capacity_bytes: Option<u64>,
    /// Calls since the power came on.
    calls: u64,
    /// The number of the call at which the power goes, this one included.
    power_off_at: Option<u64>,
    faults: Vec<PlannedFault>,
}

type Inode = Arc<Mutex<FileImage>>;

enum NameChange {
    Create { name: String, inode: Inode },
    Rename { from: String, to: String },
    Remove { name: String },
}

struct PlannedFault {
    calls: Calls,
    /// So many matching calls still succeed.
    countdown: u64,
    fault: Fault,
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
            durable_names: names.clone(),
            names,
            unsynced_names: Vec::new(),
            capacity_bytes: None,
            calls: 0,
            power_off_at: None,
            faults: Vec::new(),
        };
        MemDisk { state: Arc::new(Mutex::new(state)), power_on: 0 }
    }

    /// All files as reads see them now.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.lock();
        state
            .names
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
        let changes = std::mem::take(&mut state.unsynced_names);
        for change in changes {
            if cut.keeps_name_change() {
                change.apply(&mut state.durable_names);
            }
        }
        for inode in state.durable_names.values() {
            image(inode).crash(&mut cut);
        }
        state.names = state.durable_names.clone();
        state.calls = 0;
        state.power_off_at = None;
        state.faults.clear();
        state.power_on += 1;
        MemDisk { state: self.state.clone(), power_on: state.power_on }
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
        self.lock().faults.push(PlannedFault { calls, countdown: nth, fault });
    }

    /// How many faults are planned and have not happened.
    pub fn faults_left(&self) -> usize {
        self.lock().faults.len()
    }

    /// Limits the sum of all lengths; what would exceed it fails with [`io::ErrorKind::StorageFull`].
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.lock().capacity_bytes = capacity_bytes;
    }

    /// Flips one bit of a file on the medium, and in what reads see of it. Nothing happens beyond its
    /// end or when there is no such file.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) {
        if let Some(inode) = self.lock().names.get(name) {
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
        let fault = state.due_fault(calls);
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
        let inode = match state.names.get(name) {
            Some(inode) => inode.clone(),
            None => {
                let inode = Inode::default();
                let change = NameChange::Create { name: name.to_owned(), inode: inode.clone() };
                state.change_names(change);
                inode
            }
        };
        Ok(Arc::new(MemFile { disk: self.clone(), name: name.to_owned(), inode }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.begin(Calls::Names, "list")?;
        Ok(state.names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check_name(from)?;
        check_name(to)?;
        let mut state = self.begin(Calls::Names, from)?;
        state.expect_name(from)?;
        state.change_names(NameChange::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        let mut state = self.begin(Calls::Names, name)?;
        state.expect_name(name)?;
        state.change_names(NameChange::Remove { name: name.to_owned() });
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.begin(Calls::Sync, "directory")?;
        state.durable_names = state.names.clone();
        state.unsynced_names.clear();
        Ok(())
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
    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    fn expect_name(&self, name: &str) -> io::Result<()> {
        if self.names.contains_key(name) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("{name}: no such file")))
    }

    /// What files may still grow by. No file may be locked.
    fn free_bytes(&self) -> u64 {
        let used_bytes = || self.names.values().map(|inode| image(inode).len()).sum();
        self.capacity_bytes.map_or(u64::MAX, |capacity| capacity.saturating_sub(used_bytes()))
    }

    /// Counts down the planned faults that wait for such calls, and takes the one that is due.
    fn due_fault(&mut self, calls: Calls) -> Option<Fault> {
        let mut due = None;
        self.faults.retain_mut(|planned| {
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
    fn error(self, name: &str) -> io::Error {
        let kind = match self {
            Fault::Error(kind) => kind,
            Fault::SyncForgets => io::ErrorKind::Other,
        };
        io::Error::new(kind, format!("{name}: injected fault"))
    }
}

impl NameChange {
    /// Has no effect when the name it is about is not there, because its creation was lost.
    fn apply(&self, names: &mut BTreeMap<String, Inode>) {
        match self {
            NameChange::Create { name, inode } => {
                names.insert(name.clone(), inode.clone());
            }
            NameChange::Rename { from, to } => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            NameChange::Remove { name } => {
                names.remove(name);
            }
        }
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

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn read(disk: &MemDisk, name: &str) -> Vec<u8> {
        disk.contents().remove(name).unwrap_or_default()
    }

    /// A disk with one durable file "a" of four sectors of 1s.
    fn disk_of_ones() -> (MemDisk, Arc<dyn DiskFile>) {
        let disk = MemDisk::from_contents([("a".to_owned(), vec![1; 2048])].into());
        let file = disk.open("a").unwrap();
        (disk, file)
    }

    #[test]
    fn a_power_cut_keeps_none_or_all_of_the_unsynced_when_told_so() {
        for (cut, left) in [(PowerCut::KeepNone, 1), (PowerCut::KeepAll, 2)] {
            let (disk, file) = disk_of_ones();
            file.write_at(0, &[2; 2048]).unwrap();
            let disk = disk.crash(cut);
            assert_eq!(read(&disk, "a"), [left; 2048]);
        }
    }

    #[test]
    fn a_power_cut_by_chance_mixes_versions_by_sector_and_repeats_by_seed() {
        let image_of = |seed| {
            let (disk, file) = disk_of_ones();
            file.write_at(0, &[2; 2048]).unwrap();
            file.write_at(256, &[3; 1024]).unwrap();
            read(&disk.crash(PowerCut::ByChance(&mut StdRng::seed_from_u64(seed))), "a")
        };
        let images: Vec<Vec<u8>> = (0..200).map(image_of).collect();
        assert!(images.iter().any(|image| *image == [1; 2048]), "nothing kept");
        assert!(
            images.iter().any(|image| image[0] == 2 && image[256..1280] == [3; 1024]),
            "all kept"
        );
        assert!(images.iter().any(|image| image[0] == 1 && image[600] == 3), "a later sector only");
        let torn = |image: &Vec<u8>| image[1536..].windows(2).any(|pair| pair[0] != pair[1]);
        assert!(images.iter().any(torn), "a torn sector");
        assert_eq!(images[7], image_of(7));
    }

    #[test]
    fn what_was_synced_survives_every_power_cut() {
        for seed in 0..50 {
            let (disk, file) = disk_of_ones();
            file.write_at(100, &[4; 900]).unwrap();
            file.sync_data().unwrap();
            file.write_at(3000, &[5; 10]).unwrap();
            let disk = disk.crash(PowerCut::ByChance(&mut StdRng::seed_from_u64(seed)));
            assert_eq!(read(&disk, "a")[100..1000], [4; 900], "seed {seed}");
        }
    }

    #[test]
    fn names_are_durable_after_sync_dir_only() {
        let disk = MemDisk::new();
        disk.open("kept").unwrap();
        disk.open("removed").unwrap();
        disk.sync_dir().unwrap();
        disk.open("lost").unwrap();
        disk.rename("kept", "renamed").unwrap();
        disk.remove("removed").unwrap();
        let disk = disk.crash(PowerCut::KeepNone);
        assert_eq!(disk.list().unwrap(), ["kept", "removed"]);
    }

    #[test]
    fn handles_of_before_a_crash_are_fenced() {
        let (old, file) = disk_of_ones();
        let new = old.crash(PowerCut::KeepAll);
        assert!(file.write_at(0, &[9]).is_err());
        assert!(file.sync_data().is_err());
        assert!(old.open("a").is_err());
        assert!(old.remove("a").is_err());
        assert_eq!(read(&new, "a"), [1; 2048]);
    }

    #[test]
    fn the_nth_call_of_a_kind_fails_once_and_a_failed_write_is_half_done() {
        let (disk, file) = disk_of_ones();
        disk.fail(Calls::Write, 1, Fault::Error(io::ErrorKind::Other));
        file.write_at(0, &[2; 4]).unwrap();
        file.sync_data().unwrap();
        assert!(file.write_at(8, &[2; 4]).is_err());
        file.write_at(16, &[2; 4]).unwrap();
        assert_eq!(
            read(&disk, "a")[..20],
            [2, 2, 2, 2, 1, 1, 1, 1, 2, 2, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2]
        );
    }

    #[test]
    fn a_sync_that_forgets_makes_the_next_one_a_lie() {
        let (disk, file) = disk_of_ones();
        disk.fail(Calls::Sync, 0, Fault::SyncForgets);
        file.write_at(0, &[2; 2048]).unwrap();
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(read(&disk, "a"), [2; 2048]);
        assert_eq!(read(&disk.crash(PowerCut::KeepAll), "a"), [1; 2048]);
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let (disk, file) = disk_of_ones();
        disk.set_capacity(Some(2050));
        let error = file.write_at(2048, &[2; 4]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.len().unwrap(), 2050);
        assert_eq!(file.allocate(4096).unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.write_at(0, &[2; 2048]).unwrap();
    }

    #[test]
    fn without_power_every_call_fails_until_the_crash() {
        let (disk, file) = disk_of_ones();
        disk.cut_power_after(1);
        file.write_at(0, &[2]).unwrap();
        assert!(file.sync_data().is_err());
        assert!(disk.list().is_err());
        let disk = disk.crash(PowerCut::KeepNone);
        assert_eq!(disk.list().unwrap(), ["a"]);
        assert_eq!(disk.calls(), 1);
    }

    #[test]
    fn a_flipped_bit_is_read_and_survives() {
        let (disk, _) = disk_of_ones();
        disk.flip_bit("a", 5, 7);
        assert_eq!(read(&disk.crash(PowerCut::KeepNone), "a")[5], 0x81);
    }
}
