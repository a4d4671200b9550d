//! What a power cut, a fault and a full disk do.

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
    assert!(images.iter().any(|image| image[0] == 2 && image[256..1280] == [3; 1024]), "all kept");
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
fn a_rename_that_survives_moves_the_file_that_was_renamed() {
    for seed in 0..50 {
        let disk = MemDisk::new();
        disk.open("a").unwrap();
        disk.remove("a").unwrap();
        let second = disk.open("a").unwrap();
        second.write_at(0, b"second").unwrap();
        second.sync_data().unwrap();
        disk.rename("a", "b").unwrap();
        let disk = disk.crash(PowerCut::ByChance(&mut StdRng::seed_from_u64(seed)));
        let contents = disk.contents();
        let named_b = contents.get("b");
        assert!(named_b.is_none_or(|content| content == b"second"), "seed {seed}");
        let seconds = contents.values().filter(|content| *content == b"second").count();
        assert!(seconds <= 1, "seed {seed}: a file has one name");
    }
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

#[test]
fn a_fork_has_the_unsynced_of_its_disk_and_goes_its_own_way() {
    let (disk, file) = disk_of_ones();
    file.write_at(0, &[2; 512]).unwrap();
    disk.open("b").unwrap().write_at(0, b"new").unwrap();
    disk.rename("a", "c").unwrap();

    let fork = disk.fork();
    let other = fork.open("c").unwrap();
    other.write_at(512, &[3; 512]).unwrap();
    file.write_at(1024, &[4; 512]).unwrap();
    assert_eq!(read(&fork, "c"), [[2; 512], [3; 512], [1; 512], [1; 512]].concat());
    assert_eq!(read(&disk, "c"), [[2; 512], [1; 512], [4; 512], [1; 512]].concat());

    // Of neither anything but the first content was durable, and its name was "a".
    for disk in [&disk.fork(), &fork.fork(), &disk, &fork] {
        let left = disk.crash(PowerCut::KeepNone).contents();
        assert_eq!(left, [("a".to_owned(), vec![1; 2048])].into());
    }
}

#[test]
fn a_file_that_was_renamed_in_a_fork_is_still_one_file() {
    let (disk, _) = disk_of_ones();
    disk.rename("a", "b").unwrap();
    let fork = disk.fork();
    fork.open("b").unwrap().write_at(0, &[2; 2048]).unwrap();
    fork.sync_dir().unwrap();
    let left = fork.crash(PowerCut::KeepAll).contents();
    assert_eq!(left, [("b".to_owned(), vec![2; 2048])].into());
}

#[test]
fn a_killed_process_leaves_the_unsynced_to_the_system_and_its_handles_are_fenced() {
    let (disk, file) = disk_of_ones();
    disk.fail(Calls::Write, 1, Fault::Error(io::ErrorKind::Other));
    file.write_at(0, &[2; 512]).unwrap();
    let after = disk.outlive();
    assert!(file.write_at(0, &[3]).is_err() && disk.open("a").is_err(), "it is of a dead process");
    assert_eq!((read(&after, "a")[0], after.faults_left()), (2, 0));
    // Still unsynced: a power cut may take it.
    assert_eq!(read(&after.crash(PowerCut::KeepNone), "a"), [1; 2048]);
}

#[test]
fn planned_faults_can_be_taken_back() {
    let (disk, file) = disk_of_ones();
    disk.fail(Calls::Sync, 0, Fault::SyncForgets);
    disk.cut_power_after(1);
    disk.clear_faults();
    file.write_at(0, &[2]).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.faults_left(), 0);
}
