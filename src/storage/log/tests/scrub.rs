//! The scrub finds damage in full segments, and takes nothing that moves on for damage.

use super::*;
use crate::storage::log::scrub::LogScrub;

/// A log of several segments, with records longer than a step.
fn written() -> (MemDisk, Log, LogWriter) {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    for index in 0..60 {
        log.save_vote(vote(index)).unwrap();
        log.append(vec![sized_entry(1, index, if index % 9 == 0 { 2_800 } else { 300 })]).unwrap();
        writer.flush().unwrap();
    }
    (disk, log, writer)
}

/// A whole pass in steps of so many bytes: what was read, and what is damaged.
fn pass(log: &Log, step_bytes: u64) -> (u64, Vec<String>) {
    let (mut scrub, mut read_bytes, mut damages) = (LogScrub::default(), 0, Vec::new());
    for _ in 0..10_000 {
        let done = scrub.step(log, step_bytes);
        read_bytes += done.read_bytes;
        damages.extend(done.damages.iter().map(ToString::to_string));
        if done.is_pass_done {
            return (read_bytes, damages);
        }
    }
    panic!("the pass does not end");
}

#[test]
fn a_flipped_bit_in_any_record_of_a_full_segment_is_found_and_named() {
    let (disk, log, writer) = written();
    let (read_bytes, damages) = pass(&log, 1);
    assert!(damages.is_empty(), "{damages:?}");
    assert!(read_bytes >= u64::from(writer.active.sequence - 1) * (8 << 10));
    let mut found = 0;
    for sequence in 1..writer.active.sequence {
        let name = format!("log-{sequence:016x}.seg");
        let content = disk.contents().remove(&name).unwrap();
        let end = content.iter().rposition(|&byte| byte != 0).unwrap();
        for offset in (0..1_200).chain(4_096..=end).step_by(97) {
            disk.flip_bit(&name, offset as u64, 5);
            let (_, damages) = pass(&log, 1 << 20);
            assert!(
                damages.iter().any(|damage| damage.contains(&name)),
                "{name} {offset}: {damages:?}"
            );
            disk.flip_bit(&name, offset as u64, 5);
            found += 1;
        }
    }
    assert!(found > 100, "{found} flips");
    assert!(pass(&log, 1 << 20).1.is_empty());
}

#[test]
fn segments_that_are_recycled_meanwhile_are_no_damage() {
    let (_, log, mut writer) = written();
    let mut scrub = LogScrub::default();
    let mut passes = 0;
    for round in 60..400 {
        let done = scrub.step(&log, 3_000);
        assert!(done.damages.is_empty(), "{:?}", done.damages);
        passes += u32::from(done.is_pass_done);
        log.append(vec![sized_entry(1, round, 1_500)]).unwrap();
        writer.flush().unwrap();
        if round % 5 == 0 {
            log.purge(id(1, round - 4)).unwrap();
            writer.flush().unwrap();
        }
    }
    assert!(passes > 5, "{passes} passes");
}

#[test]
fn a_log_of_one_segment_has_nothing_to_scrub() {
    let disk = MemDisk::new();
    let (log, _writer) = reopen(&disk);
    assert_eq!(pass(&log, 1), (0, Vec::new()));
}
