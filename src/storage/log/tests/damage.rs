//! Damage to what was acknowledged is refused by name and never becomes an answer.

use std::collections::BTreeMap;

use super::model::Snapshot;
use super::*;
use crate::storage::disk::Disk;
use crate::storage::log::record::HEADER_BYTES;
use crate::storage::log::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};

/// A log of three segments, closed properly.
fn closed_log() -> (BTreeMap<String, Vec<u8>>, Snapshot) {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    for round in 0..5 {
        log.save_vote(vote(round)).unwrap();
        log.append(entries(round, round * 20..(round + 1) * 20)).unwrap();
        writer.flush().unwrap();
    }
    log.truncate_after(Some(95)).unwrap();
    writer.maintain().unwrap();
    let snapshot = Snapshot::of(&log);
    (disk.contents(), snapshot)
}

fn segments(contents: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    contents.keys().filter(|name| name.ends_with(".seg")).cloned().collect()
}

/// Behind the last record that was acknowledged for certain: in the last segment that is the one
/// before the mark, which ends with 16 zeros.
fn end_of_acknowledged(content: &[u8], is_last: bool) -> usize {
    let last = content.iter().rposition(|&byte| byte != 0).unwrap();
    let end = (last + 1).next_multiple_of(8);
    if is_last { end + 16 - HEADER_BYTES } else { end }
}

#[test]
fn a_flipped_bit_in_any_acknowledged_byte_refuses_the_log_and_names_the_place() {
    let (contents, snapshot) = closed_log();
    let names = segments(&contents);
    assert_eq!(names.len(), 3);
    for (at, name) in names.iter().enumerate() {
        let acknowledged = end_of_acknowledged(&contents[name], at == 2);
        for offset in (0..contents[name].len()).step_by(3) {
            let disk = MemDisk::from_contents(contents.clone());
            disk.flip_bit(name, offset as u64, (offset % 8) as u8);
            let result = open(&disk);
            if offset >= acknowledged {
                let (log, _, _) = result.unwrap_or_else(|error| panic!("{offset}: {error}"));
                assert_eq!(Snapshot::of(&log), snapshot, "{name} {offset}");
                continue;
            }
            let Err(LogError::Corrupt { segment, offset: found, .. }) = result else {
                panic!("{name} {offset}: {:?}", result.map(|opened| opened.2));
            };
            assert!(segment.contains(name), "{segment} instead of {name}");
            assert!(found as usize <= offset, "{found} instead of {offset}");
        }
    }
}

#[test]
fn every_bit_of_a_record_and_of_a_header_counts() {
    let (contents, _) = closed_log();
    let name = &segments(&contents)[1];
    for bit in (0..104 * 8).chain(4096 * 8..(4096 + 88) * 8) {
        let disk = MemDisk::from_contents(contents.clone());
        disk.flip_bit(name, bit / 8, (bit % 8) as u8);
        assert!(matches!(open(&disk), Err(LogError::Corrupt { .. })), "bit {bit}");
    }
}

/// The limit of what can be told: nothing says that the last flush ended but its own records.
#[test]
fn damage_to_the_last_flush_without_a_mark_looks_torn() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(entries(1, 0..5)).unwrap();
    writer.flush().unwrap();
    let first_flush_end = writer.position;
    log.append(entries(1, 5..10)).unwrap();
    writer.flush().unwrap();
    let name = segments(&disk.contents()).remove(0);

    let last = MemDisk::from_contents(disk.contents());
    last.flip_bit(&name, first_flush_end + 88, 0);
    let (log, _, recovery) = open(&last).unwrap();
    assert_eq!(read_all(&log), entries(1, 0..6));
    assert!(recovery.torn.is_some());

    let earlier = MemDisk::from_contents(disk.contents());
    earlier.flip_bit(&name, first_flush_end - 88, 0);
    assert!(matches!(open(&earlier), Err(LogError::Corrupt { .. })));

    writer.maintain().unwrap();
    disk.flip_bit(&name, first_flush_end + 88, 0);
    assert!(matches!(open(&disk), Err(LogError::Corrupt { .. })), "a mark proves the last flush");
}

#[test]
fn a_damaged_entry_fails_its_read_and_no_other() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(entries(1, 0..40)).unwrap();
    writer.flush().unwrap();
    let name = segments(&disk.contents()).remove(0);
    let position = disk.contents()[&name].windows(5).position(|bytes| bytes == b"1/17:").unwrap();
    disk.flip_bit(&name, position as u64, 3);

    let error = log.read(10..20, u64::MAX).unwrap_err();
    assert!(matches!(error, LogError::Corrupt { index: Some(17), .. }), "{error}");
    assert_eq!(log.read(10..17, u64::MAX).unwrap(), entries(1, 10..17));
    assert_eq!(log.read(18..40, u64::MAX).unwrap(), entries(1, 18..40));
    log.append(vec![entry(1, 40)]).unwrap();
    writer.flush().unwrap();
}

#[test]
fn a_missing_segment_is_missed() {
    let (contents, _) = closed_log();
    let names = segments(&contents);
    for missing in &names[..2] {
        let mut contents = contents.clone();
        contents.remove(missing);
        let error = open(&MemDisk::from_contents(contents)).map(|_| ()).unwrap_err();
        assert!(matches!(error, LogError::Corrupt { .. }), "{error}");
    }
}

#[test]
fn a_purged_segment_that_shows_up_again_is_cleared_away() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(entries(1, 0..400)).unwrap();
    writer.flush().unwrap();
    let before = disk.contents();
    log.purge(id(1, 350)).unwrap();
    writer.maintain().unwrap();
    let snapshot = Snapshot::of(&log);
    let expected_files = disk.list().unwrap().len();
    for name in segments(&before) {
        let mut contents = disk.contents();
        contents.entry(name.clone()).or_insert_with(|| before[&name].clone());
        let disk = MemDisk::from_contents(contents);
        let (log, mut writer) = reopen(&disk);
        assert_eq!(Snapshot::of(&log), snapshot, "{name}");
        log.save_vote(vote(1)).unwrap();
        writer.flush().unwrap();
        assert!(disk.list().unwrap().len() <= expected_files, "{:?}", disk.list());
    }
}

#[test]
fn segments_that_changed_places_or_logs_are_refused() {
    let (contents, _) = closed_log();
    let names = segments(&contents);
    let refused = |contents, problem: &str| {
        let error = open(&MemDisk::from_contents(contents)).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    };
    let mut swapped = contents.clone();
    swapped.insert(names[1].clone(), contents[&names[2]].clone());
    refused(swapped, "another segment");

    let disk = MemDisk::new();
    let options = LogOptions { nonce: 1, ..options() };
    let (log, mut writer, _) = Log::open(Arc::new(disk.clone()), options).unwrap();
    log.append(entries(1, 0..100)).unwrap();
    writer.flush().unwrap();
    let mut foreign = contents.clone();
    foreign.insert(names[1].clone(), disk.contents()[&names[1]].clone());
    refused(foreign, "another log");

    let mut contradicting = contents.clone();
    let file = contradicting.get_mut(&names[1]).unwrap();
    let mut header = SegmentHeader::decode(file).unwrap();
    header.state.vote = Some(vote(77));
    file[..SEGMENT_HEADER_BYTES].copy_from_slice(&header.encode());
    refused(contradicting, "contradicts");

    let mut short = contents.clone();
    short.insert(names[0].clone(), Vec::new());
    refused(short, "shorter");

    let mut newer = contents.clone();
    newer.get_mut(&names[0]).unwrap()[8] = 2;
    refused(newer.clone(), "checksum");
    let header = &mut newer.get_mut(&names[0]).unwrap()[..SEGMENT_HEADER_BYTES];
    header[12..16].fill(0);
    let crc = crc32fast::hash(header);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    refused(newer, "format version 2, this release reads version 1");
}

#[test]
fn a_refusal_names_file_offset_and_remedy() {
    let (contents, _) = closed_log();
    let name = &segments(&contents)[0];
    let disk = MemDisk::from_contents(contents.clone());
    disk.flip_bit(name, 4100, 0);
    let message = open(&disk).map(|_| ()).unwrap_err().to_string();
    for part in [name.as_str(), "offset 4096", "wipe its data directory"] {
        assert!(message.contains(part), "{message}");
    }
}
