//! What callers see while nothing fails.

use std::collections::BTreeMap;

use super::*;
use crate::storage::disk::{Disk, FileDisk, PowerCut};
use crate::storage::log::{LogState, Lsn, MAX_VOTE_BYTES};

#[test]
fn entries_are_readable_before_they_are_durable_and_durable_after_a_flush() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    let before = log.durable();
    let lsn = log.append(entries(1, 1..4)).unwrap();
    assert_eq!(read_all(&log), entries(1, 1..4));
    assert_eq!(log.durable(), before);
    assert!(before < lsn);
    assert_eq!(writer.flush().unwrap(), lsn);
    assert_eq!(log.durable(), lsn);

    let (log, _) = reopen(&disk.crash(PowerCut::KeepNone));
    assert_eq!(read_all(&log), entries(1, 1..4));
    assert!(log.durable() >= lsn);
}

#[test]
fn one_flush_is_one_write_and_one_sync_for_all_that_was_staged() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    let calls = disk.calls();
    for index in 1..20 {
        log.append(vec![entry(1, index)]).unwrap();
        log.save_vote(vote(index)).unwrap();
    }
    writer.flush().unwrap();
    assert_eq!(disk.calls() - calls, 2);
    writer.flush().unwrap();
    assert_eq!(disk.calls() - calls, 2, "nothing to flush, nothing to call");
}

#[test]
fn what_does_not_continue_the_log_is_refused_and_changes_nothing() {
    let disk = MemDisk::new();
    let (log, _writer) = reopen(&disk);
    log.append(entries(1, 5..8)).unwrap();
    let state = log.state();
    for wrong in [entry(1, 7), entry(1, 9), entry(2, 0)] {
        let refused = log.append(vec![wrong.clone()]).unwrap_err();
        assert!(matches!(refused, LogError::Gap { expected: 8, found } if found == wrong.id));
    }
    assert!(log.append(vec![entry(1, 8), entry(1, 10)]).is_err(), "all or none");
    let too_large = sized_entry(1, 8, options().max_payload_bytes + 1);
    assert!(matches!(log.append(vec![too_large]), Err(LogError::TooLarge { .. })));
    let long_vote = vec![0; MAX_VOTE_BYTES + 1].into();
    assert!(matches!(log.save_vote(long_vote), Err(LogError::TooLarge { .. })));
    log.purge(id(1, 6)).unwrap();
    assert!(matches!(log.truncate_after(Some(5)), Err(LogError::TruncatesPurged { .. })));
    assert!(matches!(log.truncate_after(None), Err(LogError::TruncatesPurged { .. })));
    assert_eq!(log.state(), LogState { purged: Some(id(1, 6)), ..state });
    assert_eq!(read_all(&log), entries(1, 7..8));
}

#[test]
fn a_log_that_was_never_purged_may_begin_anywhere_and_begin_again() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(entries(1, 3..6)).unwrap();
    log.truncate_after(Some(2)).unwrap();
    assert_eq!(log.state().last, None);
    log.append(entries(2, 0..4)).unwrap();
    log.truncate_after(None).unwrap();
    log.append(entries(3, 7..9)).unwrap();
    writer.flush().unwrap();
    let (log, _) = reopen(&disk.crash(PowerCut::KeepNone));
    assert_eq!(read_all(&log), entries(3, 7..9));
    assert_eq!(log.state().purged, None);
}

#[test]
fn truncation_and_purge_move_the_ends_and_survive() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(entries(1, 1..10)).unwrap();
    log.truncate_after(Some(6)).unwrap();
    log.append(entries(2, 7..9)).unwrap();
    log.purge(id(1, 4)).unwrap();
    let staged = log.truncate_after(Some(8)).unwrap();
    assert_eq!(log.purge(id(1, 3)).unwrap(), staged, "nothing to do is nothing to write");
    log.save_vote(vote(9)).unwrap();
    let check = |log: &Log| {
        let expected = [entries(1, 5..7), entries(2, 7..9)].concat();
        assert_eq!(read_all(log), expected);
        let state = LogState { purged: Some(id(1, 4)), last: Some(id(2, 8)), vote: Some(vote(9)) };
        assert_eq!(log.state(), state);
        let terms: Vec<_> = (3..10).map(|index| log.term_at(index)).collect();
        assert_eq!(terms, [None, Some(1), Some(1), Some(1), Some(2), Some(2), None]);
    };
    check(&log);
    writer.flush().unwrap();
    check(&reopen(&disk.crash(PowerCut::KeepNone)).0);
}

#[test]
fn a_purge_beyond_the_end_continues_the_log_there() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(entries(1, 1..4)).unwrap();
    log.purge(id(5, 100)).unwrap();
    assert_eq!(log.state().last, Some(id(5, 100)));
    assert!(log.append(vec![entry(5, 4)]).is_err());
    log.append(entries(5, 101..103)).unwrap();
    writer.flush().unwrap();
    let (log, _) = reopen(&disk.crash(PowerCut::KeepNone));
    assert_eq!(read_all(&log), entries(5, 101..103));
}

#[test]
fn reads_are_clipped_to_what_is_there_and_to_their_budget() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(entries(1, 1..50)).unwrap();
    writer.flush().unwrap();
    log.append(entries(1, 50..60)).unwrap();
    log.purge(id(1, 10)).unwrap();
    let indexes = |start, end, bytes| -> Vec<u64> {
        log.read(start..end, bytes).unwrap().iter().map(|entry| entry.id.index).collect()
    };
    assert_eq!(indexes(0, 13, u64::MAX), [11, 12]);
    assert_eq!(indexes(58, 99, u64::MAX), [58, 59]);
    assert_eq!(indexes(20, 30, 0), [20], "at least one");
    assert_eq!(indexes(20, 30, 119), [20, 21], "payloads of 40 bytes");
    assert_eq!(indexes(20, 30, 120), [20, 21, 22]);
    assert!(indexes(60, 70, u64::MAX).is_empty());
    assert!(indexes(30, 20, u64::MAX).is_empty());
    assert_eq!(indexes(0, u64::MAX, u64::MAX), (11..60).collect::<Vec<_>>());
}

#[test]
fn segments_roll_are_recycled_and_keep_their_number_bounded() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.save_vote(vote(1)).unwrap();
    for round in 0..60 {
        log.append(entries(1, round * 30..(round + 1) * 30)).unwrap();
        writer.flush().unwrap();
        log.purge(id(1, round * 30)).unwrap();
        writer.flush().unwrap();
        assert!(disk.list().unwrap().len() <= 5, "{:?}", disk.list());
    }
    let (log, _) = reopen(&disk.crash(PowerCut::KeepNone));
    assert_eq!(read_all(&log), entries(1, 1771..1800));
    assert_eq!(log.state().vote, Some(vote(1)), "the vote outlives its segment");
    assert!(disk.contents().keys().all(|name| !name.contains("0000000000000001.seg")));
}

#[test]
fn a_flush_larger_than_a_segment_spans_several() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    let large: Vec<_> = (0..40).map(|index| sized_entry(1, index, 3000)).collect();
    let lsn = log.append(large.clone()).unwrap();
    assert_eq!(writer.flush().unwrap(), lsn);
    assert_eq!(read_all(&log), large);
    let (log, _) = reopen(&disk.crash(PowerCut::KeepNone));
    assert_eq!(read_all(&log), large);
}

#[test]
fn more_than_the_writer_may_fall_behind_is_refused_until_a_flush() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    let large = |index| sized_entry(1, index, 3000);
    let mut next = 0;
    let refused = loop {
        match log.append(vec![large(next)]) {
            Ok(_) => next += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, LogError::Backlog { .. }), "{refused}");
    assert_eq!(next as usize, options().max_staged_bytes / 3048);
    writer.flush().unwrap();
    log.append(vec![large(next)]).unwrap();
}

#[test]
fn the_cache_keeps_to_its_budget_once_entries_are_durable() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    let cached =
        |log: &Log| (0..100).filter(|&i| log.shared.lock().view.cached(i).is_some()).count();
    log.append(entries(1, 0..100)).unwrap();
    assert_eq!(cached(&log), 100, "nothing is durable");
    writer.flush().unwrap();
    assert_eq!(cached(&log), 12, "512 bytes of 40 each");
    log.truncate_after(Some(95)).unwrap();
    log.purge(id(1, 90)).unwrap();
    assert_eq!(cached(&log), 5);
    assert_eq!(read_all(&log), entries(1, 91..96));
}

#[test]
fn a_clean_log_opens_without_a_tear_and_counts_on() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(entries(1, 0..100)).unwrap();
    let last = writer.flush().unwrap();
    writer.maintain().unwrap();
    let (log, _, recovery) = open(&disk.crash(PowerCut::KeepNone)).unwrap();
    assert_eq!((recovery.entries, recovery.segments, recovery.torn), (100, 3, None));
    assert_eq!(log.durable(), Lsn(last.0 + 1), "the mark");
}

#[test]
fn under_constant_load_no_flush_makes_a_segment() {
    let disk = MemDisk::new();
    let options = LogOptions { segment_bytes: 64 << 10, ..options() };
    let (log, mut writer, _) = Log::open(Arc::new(disk.clone()), options).unwrap();
    let mut pieces = 0;
    for index in 0..400 {
        let calls = disk.calls();
        log.append(vec![sized_entry(1, index, 1000)]).unwrap();
        writer.flush().unwrap();
        assert!(disk.calls() - calls <= 7, "a write, a sync, and at most a spare taken");
        let calls = disk.calls();
        writer.work_ahead().unwrap();
        assert!(disk.calls() - calls <= 5, "one piece between two flushes");
        pieces += u64::from(disk.calls() > calls);
    }
    // Seven segments, of sixteen pieces each, and the first ones of the eighth; but the very first was
    // made at once.
    assert!((6 * 16..7 * 16).contains(&pieces), "{pieces}");
}

fn file_lengths(disk: &MemDisk) -> BTreeMap<String, usize> {
    disk.contents().into_iter().map(|(name, content)| (name, content.len())).collect()
}

#[test]
fn segments_of_another_length_are_read_and_continued() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    log.append(entries(1, 0..100)).unwrap();
    writer.flush().unwrap();
    let options = LogOptions { segment_bytes: 32 << 10, ..options() };
    let (log, mut writer, _) = Log::open(Arc::new(disk.clone()), options).unwrap();
    log.append(entries(1, 100..900)).unwrap();
    writer.flush().unwrap();
    let (log, mut writer) = reopen(&disk.crash(PowerCut::KeepNone));
    assert_eq!(read_all(&log), entries(1, 0..900));

    log.purge(id(1, 899)).unwrap();
    writer.flush().unwrap();
    log.append(entries(1, 900..1_000)).unwrap();
    writer.flush().unwrap();
    assert_eq!(read_all(&log), entries(1, 900..1_000));
    let other = file_lengths(&disk).into_iter().filter(|(_, len)| *len != 8 << 10);
    // The one that was active.
    assert_eq!(other.count(), 1, "{:?}", file_lengths(&disk));
}

#[test]
fn an_entry_that_no_segment_holds_has_one_of_its_own() {
    let disk = MemDisk::new();
    let (log, mut writer) = reopen(&disk);
    let all = [entry(1, 0), sized_entry(1, 1, 9_000), entry(1, 2), sized_entry(1, 3, 12 << 10)];
    for some in all.chunks(2) {
        log.append(some.to_vec()).unwrap();
        writer.flush().unwrap();
        writer.work_ahead().unwrap();
    }
    writer.maintain().unwrap();
    let disk = disk.crash(PowerCut::KeepNone);
    let (log, mut writer) = reopen(&disk);
    assert_eq!(read_all(&log), all);
    let lengths = file_lengths(&disk);
    let long = |name: &String| name.ends_with(".seg") && lengths[name] > 8 << 10;
    assert_eq!(lengths.keys().filter(|name| long(name)).count(), 2, "{lengths:?}");

    // They do not become spares, which have the length of a segment.
    log.append(entries(1, 4..200)).unwrap();
    log.purge(id(1, 190)).unwrap();
    writer.flush().unwrap();
    writer.maintain().unwrap();
    log.append(entries(1, 200..300)).unwrap();
    writer.flush().unwrap();
    let lengths = file_lengths(&disk);
    assert!(lengths.values().all(|len| *len == 8 << 10), "{lengths:?}");
    let (log, _) = reopen(&disk.crash(PowerCut::KeepNone));
    assert_eq!(read_all(&log), entries(1, 191..300));
}

#[test]
fn bad_options_are_refused() {
    let open = |options| Log::open(Arc::new(MemDisk::new()), options).map(|_| ());
    let refused = |options| assert!(matches!(open(options), Err(LogError::Options(_))));
    refused(LogOptions { segment_bytes: 4 << 10, ..options() });
    refused(LogOptions { segment_bytes: 8 << 30, ..options() });
    refused(LogOptions { segment_bytes: 10_000, ..options() });
    refused(LogOptions { max_payload_bytes: usize::MAX, ..options() });
    open(LogOptions::default()).unwrap();
}

#[test]
fn a_real_directory_holds_the_same_bytes_as_a_simulated_one() {
    let directory = tempfile::tempdir().unwrap();
    let write = |disk: Arc<dyn Disk>| {
        let (log, mut writer, _) = Log::open(disk.clone(), options()).unwrap();
        for round in 0..20 {
            log.append(entries(1, round * 20..(round + 1) * 20)).unwrap();
            log.save_vote(vote(round)).unwrap();
            writer.flush().unwrap();
        }
        log.purge(id(1, 250)).unwrap();
        writer.maintain().unwrap();
        assert_eq!(read_all(&log), entries(1, 251..400));
        disk.list().unwrap()
    };
    let memory = MemDisk::new();
    let names = write(Arc::new(memory.clone()));
    let on_disk = write(Arc::new(FileDisk::open(directory.path()).unwrap()));
    assert_eq!(names, on_disk);

    let disk = FileDisk::open(directory.path()).unwrap();
    let real: BTreeMap<String, Vec<u8>> = names
        .into_iter()
        .map(|name| {
            let file = disk.open(&name).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_at(0, &mut bytes).unwrap();
            (name, bytes)
        })
        .collect();
    assert!(real == memory.contents());
    let (log, _, _) = Log::open(Arc::new(disk), options()).unwrap();
    assert_eq!(read_all(&log), entries(1, 251..400));
}
