//! Power cuts at every call to the disk, those of recovery included.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::model::{Driver, History, Snapshot};
use super::*;
use crate::storage::disk::{Calls, Disk, Fault, PowerCut};
use crate::storage::log::Lsn;
use crate::storage::log::record::{Record, seal};

/// Runs the fixed workload until the power goes before call number `calls`, and returns what it knew.
fn work_until(disk: &MemDisk, calls: u64) -> History {
    disk.cut_power_after(calls);
    match Driver::open(disk, History::new()) {
        Ok(mut driver) => {
            assert!(driver.work().is_err() || disk.calls() <= calls);
            driver.history
        }
        Err((history, _)) => history,
    }
}

fn calls_of_the_workload() -> u64 {
    let disk = MemDisk::new();
    let mut driver = Driver::open(&disk, History::new()).unwrap_or_else(|_| unreachable!());
    driver.work().unwrap();
    driver.check("without a crash");
    disk.calls()
}

#[test]
fn a_power_cut_before_any_call_loses_nothing_durable() {
    for calls in 0..=calls_of_the_workload() {
        for mode in 0..6 {
            let disk = MemDisk::new();
            let history = work_until(&disk, calls);
            let disk = match mode {
                0 => disk.crash(PowerCut::KeepNone),
                1 => disk.crash(PowerCut::KeepAll),
                seed => disk.crash(PowerCut::ByChance(&mut StdRng::seed_from_u64(seed + calls))),
            };
            let context = format!("cut before call {calls}, mode {mode}");
            history.check_survivor(&reopen(&disk).0, &context);
        }
    }
}

#[test]
fn a_power_cut_before_any_call_of_a_recovery_loses_nothing_durable() {
    for calls in (0..=calls_of_the_workload()).step_by(3) {
        let disk = MemDisk::new();
        let history = work_until(&disk, calls);
        let mut chance = StdRng::seed_from_u64(calls);
        let image = disk.crash(PowerCut::ByChance(&mut chance)).contents();
        for calls_of_recovery in 0.. {
            let disk = MemDisk::from_contents(image.clone());
            disk.cut_power_after(calls_of_recovery);
            let finished = open(&disk).is_ok();
            let disk = disk.crash(PowerCut::ByChance(&mut chance));
            let context = format!("cut before call {calls}, then {calls_of_recovery}");
            history.check_survivor(&reopen(&disk).0, &context);
            if finished {
                break;
            }
        }
    }
}

#[test]
fn what_a_recovery_showed_is_durable() {
    for calls in 0..=calls_of_the_workload() {
        let disk = MemDisk::new();
        work_until(&disk, calls);
        let disk = disk.crash(PowerCut::ByChance(&mut StdRng::seed_from_u64(calls)));
        let seen = Snapshot::of(&reopen(&disk).0);
        let again = Snapshot::of(&reopen(&disk.crash(PowerCut::KeepNone)).0);
        assert_eq!(seen, again, "cut before call {calls}");
    }
}

#[test]
fn a_process_that_dies_without_a_power_cut_loses_nothing_and_recovery_makes_it_durable() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    disk.fail(Calls::Sync, 0, Fault::SyncForgets);
    log.append(entries(1, 0..10)).unwrap();
    assert!(writer.flush().is_err());
    // The system's cache still shows the entries, and takes them for written.
    let (log, _) = reopen(&disk);
    assert_eq!(read_all(&log), entries(1, 0..10));
    let (log, _) = reopen(&disk.crash(PowerCut::KeepNone));
    assert_eq!(read_all(&log), entries(1, 0..10));
}

#[test]
fn a_mark_that_a_dead_process_left_is_durable_before_a_segment_follows_it() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(entries(1, 0..10)).unwrap();
    writer.flush().unwrap();
    disk.fail(Calls::Sync, 0, Fault::SyncForgets); // that of the mark
    assert!(writer.maintain().is_err());
    let (log, mut writer) = reopen(&disk);
    let before = writer.active.sequence;
    for index in 10..16 {
        log.append(vec![sized_entry(1, index, 2_900)]).unwrap();
        writer.flush().unwrap();
    }
    assert!(writer.active.sequence > before, "no segment followed");
    let (log, _) = reopen(&disk.crash(PowerCut::KeepNone));
    assert_eq!(log.state().last, Some(id(1, 15)));
}

/// Durable entries 0..10, and a flush of 10..40 that was written but may be torn: the file after the
/// flush, with the bytes it has before and behind it.
fn torn_flush() -> (MemDisk, String, usize, usize) {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(entries(1, 0..10)).unwrap();
    writer.flush().unwrap();
    let start = writer.position as usize;
    log.append(entries(1, 10..40)).unwrap();
    writer.flush().unwrap();
    let name = disk.list().unwrap().into_iter().find(|name| name.ends_with(".seg")).unwrap();
    (disk, name, start, writer.position as usize)
}

#[test]
fn a_tail_torn_at_any_sector_boundary_is_cut_there() {
    let (disk, name, start, end) = torn_flush();
    for boundary in (4096..end + 512).step_by(512).filter(|&boundary| boundary > start) {
        for filler in [0x00, 0xff] {
            let mut contents = disk.contents();
            let file = contents.get_mut(&name).unwrap();
            file[boundary.min(end)..end].fill(filler);
            let (log, _, recovery) = open(&MemDisk::from_contents(contents)).unwrap();
            let whole = 10 + (boundary.min(end) - start) as u64 / 88;
            assert_eq!(read_all(&log), entries(1, 0..whole), "torn at {boundary}");
            // Less than a header left of a record cannot be told from what was there before.
            assert_eq!(recovery.torn.is_some(), whole < 40 && (boundary - start) % 88 >= 48);
            let cut_at = (start as u64) + (whole - 10) * 88;
            assert!(recovery.torn.is_none_or(|torn| torn.offset == cut_at));
        }
    }
}

#[test]
fn a_tail_that_lost_any_one_sector_is_cut_before_it() {
    let (disk, name, start, end) = torn_flush();
    for sector in (4096..end).step_by(512).filter(|&sector| sector + 512 > start) {
        let mut contents = disk.contents();
        let (from, to) = (sector.max(start), (sector + 512).min(end));
        contents.get_mut(&name).unwrap()[from..to].fill(0);
        let (log, _, recovery) = open(&MemDisk::from_contents(contents)).unwrap();
        let whole = (from - start) as u64 / 88;
        assert_eq!(read_all(&log), entries(1, 0..10 + whole));
        assert_eq!(recovery.torn.unwrap().offset, start as u64 + whole * 88);
    }
}

#[test]
fn records_beyond_a_cut_never_come_back() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(entries(1, 0..10)).unwrap();
    writer.flush().unwrap();
    let start = writer.position as usize;
    log.save_vote(vec![1; 40].into()).unwrap();
    log.append(entries(1, 10..40)).unwrap();
    writer.flush().unwrap();
    let mut contents = disk.contents();
    let file = contents.values_mut().find(|file| file.starts_with(b"CONURLOG")).unwrap();
    file[start..start + 88].fill(0);

    // A mark of 48 bytes takes the number of the vote, and two entries those of 10 and 11. They end
    // where the old entry 12 began, which has the next number and the next index.
    let disk = MemDisk::from_contents(contents);
    let (log, mut writer) = reopen(&disk);
    let new = vec![sized_entry(2, 10, 80), entry(2, 11)];
    log.append(new.clone()).unwrap();
    writer.flush().unwrap();
    assert_eq!(writer.position as usize, start + 3 * 88);
    let (log, _) = reopen(&disk.crash(PowerCut::KeepNone));
    assert_eq!(read_all(&log), [entries(1, 0..10), new].concat());
}

#[test]
fn a_valid_record_with_a_number_to_come_is_not_the_next_one() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(entries(1, 0..10)).unwrap();
    let last = writer.flush().unwrap();
    let mut bytes = Vec::new();
    let far = entry(1, 10);
    Record::Entry(far.id).encode(&far.payload, &mut bytes);
    seal(&mut bytes, &writer.active.seed, writer.position, Lsn(last.0 + 2), last);
    writer.active.file.write_at(writer.position, &bytes).unwrap();
    let (log, _, recovery) = open(&disk).unwrap();
    assert_eq!(recovery.torn.unwrap().offset, writer.position);
    assert_eq!(read_all(&log), entries(1, 0..10));
}

#[test]
fn a_mark_proves_nothing_of_its_own_flush() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    disk.fail(Calls::Sync, 0, Fault::SyncForgets);
    log.append(entries(1, 0..10)).unwrap();
    log.shared.lock().stage(&Record::Mark);
    assert!(writer.flush().is_err());
    let (log, _) = reopen(&disk);
    assert_eq!(read_all(&log), entries(1, 0..10));
    let (log, _) = reopen(&disk.crash(PowerCut::KeepNone));
    assert_eq!(read_all(&log), entries(1, 0..10));
}

#[test]
fn records_of_a_recycled_segment_never_come_back() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    for round in 0..30 {
        log.append(entries(1, round * 10..(round + 1) * 10)).unwrap();
        writer.flush().unwrap();
        log.purge(id(1, round * 10)).unwrap();
        writer.flush().unwrap();
    }
    let stale =
        |content: &Vec<u8>| content[writer.position as usize..].iter().any(|&byte| byte != 0);
    let name = format!("log-{:016x}.seg", writer.active.sequence);
    assert!(stale(&disk.contents()[&name]), "the active segment was recycled");
    let (log, _, recovery) = open(&disk.crash(PowerCut::KeepNone)).unwrap();
    assert_eq!(recovery.torn, None);
    assert_eq!(read_all(&log), entries(1, 291..300));
}
