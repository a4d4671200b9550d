//! Calls that fail, disks that fill up, and threads that meet.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use super::model::{Driver, History, Snapshot};
use super::*;
use crate::storage::disk::{Calls, Disk, DiskFile, Fault, PowerCut};
use crate::storage::log::record::HEADER_BYTES;

/// Opens and works with one fault, and returns what was known and the failure, if it was noticed.
fn work_with(disk: &MemDisk, calls: Calls, nth: u64, fault: Fault) -> (History, Option<LogError>) {
    disk.fail(calls, nth, fault);
    let mut driver = match Driver::open(disk, History::new()) {
        Ok(driver) => driver,
        Err((history, error)) => return (history, Some(error)),
    };
    let Err(error) = driver.work() else {
        return (driver.history, None);
    };
    if !error.is_disk_full() {
        let repeated = driver.writer.flush().unwrap_err();
        assert_eq!(repeated.to_string(), error.to_string(), "a failure is final");
        let refused = driver.log.save_vote(vote(0)).unwrap_err();
        assert_eq!(refused.to_string(), error.to_string());
    }
    (driver.history, Some(error))
}

#[test]
fn whichever_call_fails_nothing_durable_is_lost_and_the_failure_is_final() {
    let kinds = [io::ErrorKind::Other, io::ErrorKind::StorageFull];
    let faults = kinds.map(Fault::Error).into_iter().chain([Fault::SyncForgets]);
    for fault in faults {
        let calls = if fault == Fault::SyncForgets { Calls::Sync } else { Calls::All };
        for nth in 0.. {
            let disk = MemDisk::new();
            let (history, error) = work_with(&disk, calls, nth, fault);
            let context = format!("{fault:?} at call {nth}: {error:?}");
            if disk.faults_left() > 0 {
                break;
            }
            // Restarted with the system still running: what is shown then is durable.
            let (log, mut writer) = reopen(&disk);
            history.check_survivor(&log, &context);
            log.append(vec![sized_entry(99, log.state().next_index().unwrap_or(0), 2500)]).unwrap();
            writer.flush().unwrap();
            let shown = Snapshot::of(&log);
            let (log, _) = reopen(&disk.crash(PowerCut::KeepNone));
            assert_eq!(Snapshot::of(&log), shown, "{context}");
            let noticed = error.is_some() || fault == Fault::Error(io::ErrorKind::StorageFull);
            assert!(noticed, "{context}");
        }
    }
}

#[test]
fn a_failed_sync_is_never_asked_again() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(entries(1, 0..5)).unwrap();
    writer.flush().unwrap();
    let durable = log.durable();
    disk.fail(Calls::Sync, 0, Fault::SyncForgets);
    log.append(entries(1, 5..10)).unwrap();
    let error = writer.flush().unwrap_err();
    let calls = disk.calls();
    assert!(writer.flush().is_err() && writer.maintain().is_err());
    assert_eq!(disk.calls(), calls, "a poisoned writer leaves the disk alone");
    assert_eq!(log.durable(), durable);
    for part in ["sync", ".seg", "offset 4", "restart the node"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_failed_read_is_reported_and_may_be_repeated() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(entries(1, 0..50)).unwrap();
    writer.flush().unwrap();
    disk.fail(Calls::Read, 0, Fault::Error(io::ErrorKind::Other));
    let error = log.read(0..5, u64::MAX).unwrap_err();
    assert_eq!(io_kind(&error), Some(io::ErrorKind::Other));
    assert_eq!(log.read(0..5, u64::MAX).unwrap(), entries(1, 0..5));
    writer.flush().unwrap();
}

#[test]
fn a_full_disk_stops_a_flush_which_goes_on_once_there_is_space() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    disk.set_capacity(Some(3 * options().segment_bytes + 100));
    let mut next = 0;
    let error = loop {
        log.append(entries(1, next..next + 10)).unwrap();
        next += 10;
        if let Err(error) = writer.flush() {
            break error;
        }
    };
    assert!(error.is_disk_full(), "{error}");
    let durable = log.durable();
    assert!(writer.flush().unwrap_err().is_disk_full(), "still full");
    assert!(writer.maintain().unwrap_err().is_disk_full());
    assert_eq!(read_all(&log), entries(1, 0..next));
    let crashed = MemDisk::from_contents(disk.contents());
    let survived = read_all(&reopen(&crashed).0);
    assert!(survived.len() as u64 >= next - 10, "only the last flush is not durable");

    disk.set_capacity(None);
    assert!(writer.flush().unwrap() > durable);
    let (log, _) = reopen(&disk.crash(PowerCut::KeepNone));
    assert_eq!(read_all(&log), entries(1, 0..next));
}

#[test]
fn an_entry_for_a_segment_of_its_own_waits_for_space() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(entries(1, 0..10)).unwrap();
    writer.flush().unwrap();
    writer.work_ahead().unwrap();
    disk.set_capacity(Some(disk.contents().values().map(|file| file.len() as u64).sum()));
    let long = sized_entry(1, 10, 11_000);
    log.append(vec![long.clone()]).unwrap();
    assert!(writer.flush().unwrap_err().is_disk_full());
    assert!(!writer.is_poisoned());
    disk.set_capacity(None);
    writer.flush().unwrap();
    let (log, _) = reopen(&disk.crash(PowerCut::KeepNone));
    assert_eq!(read_all(&log), [entries(1, 0..10), vec![long]].concat());
}

#[test]
fn an_entry_whose_own_segment_was_torn_fits_there_again() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    // The longest, and one that fills whole blocks with its header.
    for (index, payload_bytes) in [(0, 12 << 10), (1, (12 << 10) - HEADER_BYTES)] {
        let long = sized_entry(1, index, payload_bytes);
        log.append(vec![long]).unwrap();
        writer.flush().unwrap();
        writer.maintain().unwrap();
        assert!(writer.marked, "there is room for the proof that it was durable");
    }
    let before = disk.calls();
    log.append(vec![sized_entry(1, 2, 12 << 10)]).unwrap();
    writer.flush().unwrap();
    let calls = disk.calls() - before;

    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(vec![sized_entry(1, 0, 12 << 10), sized_entry(1, 1, 12 << 10)]).unwrap();
    writer.flush().unwrap();
    disk.cut_power_after(calls - 1);
    log.append(vec![sized_entry(1, 2, 12 << 10)]).unwrap();
    writer.flush().unwrap_err();
    let disk = disk.crash(PowerCut::KeepNone);
    let (log, mut writer) = reopen(&disk);
    assert_eq!(log.state().last, Some(id(1, 1)));
    let files = disk.contents().len();
    log.save_vote(Bytes::from_static(b"a vote of seventeen")).unwrap();
    writer.flush().unwrap();
    log.append(vec![sized_entry(2, 2, 12 << 10)]).unwrap();
    writer.flush().unwrap();
    assert_eq!(disk.contents().len(), files, "no segment was made for it");
}

#[test]
fn a_log_on_a_full_disk_opens_and_a_purge_makes_room() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(entries(1, 0..100)).unwrap();
    writer.flush().unwrap();
    disk.set_capacity(Some(disk.contents().values().map(|file| file.len() as u64).sum()));
    let disk = disk.crash(PowerCut::KeepNone);
    let (log, mut writer) = reopen(&disk);
    assert!(writer.maintain().unwrap_err().is_disk_full(), "a full disk shows before it hurts");
    log.purge(id(1, 99)).unwrap();
    writer.flush().unwrap();
    log.append(entries(1, 100..150)).unwrap();
    writer.flush().unwrap();
    assert_eq!(read_all(&log), entries(1, 100..150));
}

#[test]
fn a_disk_that_fills_up_while_a_spare_is_made_loses_the_spare_and_nothing_else() {
    for nth in 0..2 {
        let disk = MemDisk::new();
        let (log, mut writer) = reopen(&disk);
        log.append(entries(1, 0..10)).unwrap();
        writer.flush().unwrap();
        assert!(disk.contents().contains_key("log.part"), "opening fills a first piece");
        // A file system that cannot reserve blocks finds out at a write, and a thin volume at a sync.
        // The first write, and the first sync, are those of the mark.
        let calls = [Calls::Write, Calls::Sync][nth];
        disk.fail(calls, 1, Fault::Error(io::ErrorKind::StorageFull));
        assert!(writer.maintain().unwrap_err().is_disk_full());
        assert_eq!(disk.faults_left(), 0);
        assert!(!writer.is_poisoned());
        assert!(!disk.contents().contains_key("log.part"), "its space is given back");
        while !writer.maintain().unwrap() {}
        let calls = disk.calls();
        log.append(entries(1, 10..60)).unwrap();
        writer.flush().unwrap();
        // Two runs of a write and a sync, and a segment: opened, its header written and synced, renamed,
        // the directory synced.
        assert_eq!(disk.calls() - calls, 9, "the spare was ready");
        let (log, _) = reopen(&disk.crash(PowerCut::KeepNone));
        assert_eq!(read_all(&log), entries(1, 0..60));
    }
}

/// A disk whose syncs wait at a gate while it is closed.
struct GatedDisk {
    disk: MemDisk,
    gate: Arc<Gate>,
}

/// The sync that finds the gate closed says so and waits until it is opened, or its keeper is gone.
struct Gate {
    closed: AtomicBool,
    reached: mpsc::Sender<()>,
    opened: Mutex<mpsc::Receiver<()>>,
}

struct GatedFile {
    file: Arc<dyn DiskFile>,
    gate: Arc<Gate>,
}

impl Disk for GatedDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(GatedFile { file: self.disk.open(name)?, gate: self.gate.clone() }))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
    fn locate(&self, name: &str) -> String {
        self.disk.locate(name)
    }
}

impl DiskFile for GatedFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, data)
    }
    fn sync_data(&self) -> io::Result<()> {
        if self.gate.closed.swap(false, Ordering::SeqCst) {
            self.gate.reached.send(()).unwrap();
            let _ = self.gate.opened.lock().unwrap().recv();
        }
        self.file.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
}

#[test]
fn nobody_waits_for_a_sync_but_the_writer() {
    let ((reached, at_gate), (open_gate, opened)) = (mpsc::channel(), mpsc::channel());
    let gate =
        Arc::new(Gate { closed: AtomicBool::new(false), reached, opened: Mutex::new(opened) });
    let disk = GatedDisk { disk: MemDisk::new(), gate: gate.clone() };
    let (log, mut writer, _) = Log::open(Arc::new(disk), options()).unwrap();
    log.append(entries(1, 0..50)).unwrap();
    writer.flush().unwrap();
    let staged = log.append(entries(1, 50..60)).unwrap();
    gate.closed.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        let open_gate = open_gate;
        scope.spawn(|| writer.flush().unwrap());
        at_gate.recv_timeout(Duration::from_secs(30)).expect("the flush syncs");
        assert_eq!(read_all(&log), entries(1, 0..60), "from the cache and from the disk");
        assert_eq!(log.term_at(55), Some(1));
        log.truncate_after(Some(52)).unwrap();
        log.append(entries(2, 53..80)).unwrap();
        log.save_vote(vote(3)).unwrap();
        log.purge(id(1, 20)).unwrap();
        assert_eq!(read_all(&log).len(), 59);
        assert!(log.durable() < staged);
        open_gate.send(()).unwrap();
    });
    assert!(log.durable() >= staged);
    let expected = [entries(1, 21..53), entries(2, 53..80)].concat();
    assert_eq!(read_all(&log), expected, "what was cut during the sync does not come back");
    writer.flush().unwrap();
    assert_eq!(read_all(&log), expected);
}

/// Ends the readers of a test also when it fails.
struct DoneOnDrop<'a>(&'a AtomicBool);

impl Drop for DoneOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn reads_that_meet_purges_truncations_and_recycled_segments_see_true_entries() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(entries(1, 0..50)).unwrap();
    let done = AtomicBool::new(false);
    let reads = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let found = read_all(&log);
                    for pair in found.windows(2) {
                        assert_eq!(pair[0].id.index + 1, pair[1].id.index);
                    }
                    for found in &found {
                        assert_eq!(*found, entry(found.id.term, found.id.index));
                    }
                    *reads.lock().unwrap() += usize::from(!found.is_empty());
                }
            });
        }
        let _done = DoneOnDrop(&done);
        for round in 1..300 {
            let end = round * 20 + 30;
            log.append(entries(round, end..end + 20)).unwrap();
            writer.flush().unwrap();
            log.truncate_after(Some(end + 10)).unwrap();
            log.append(entries(round + 1, end + 11..end + 20)).unwrap();
            log.purge(id(log.term_at(end - 30).unwrap(), end - 30)).unwrap();
            writer.flush().unwrap();
        }
    });
    assert!(*reads.lock().unwrap() > 0);
}
