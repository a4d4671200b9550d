//! What every disk answers: the same tests for the real and for the memory disk.

use std::io::ErrorKind;

use super::{Disk, FileDisk, MemDisk};

/// Runs `test` on an empty disk of each kind.
fn on_every_disk(test: impl Fn(&dyn Disk)) {
    let directory = tempfile::tempdir().unwrap();
    test(&FileDisk::open(directory.path()).unwrap());
    test(&MemDisk::new());
}

#[test]
fn a_write_is_read_at_once_and_beyond_the_end_fills_with_zeros() {
    on_every_disk(|disk| {
        let file = disk.open("a").unwrap();
        file.write_at(3, b"xyz").unwrap();
        let mut bytes = [1; 6];
        file.read_at(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"\0\0\0xyz");
        assert_eq!(file.len().unwrap(), 6);
        file.sync_data().unwrap();
    });
}

#[test]
fn a_read_beyond_the_end_is_an_unexpected_eof() {
    on_every_disk(|disk| {
        let file = disk.open("a").unwrap();
        file.write_at(0, b"abc").unwrap();
        assert_eq!(file.read_at(1, &mut [0; 3]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(file.read_at(9, &mut [0; 1]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        file.read_at(3, &mut []).unwrap();
    });
}

#[test]
fn a_cut_file_grows_again_with_zeros() {
    on_every_disk(|disk| {
        let file = disk.open("a").unwrap();
        file.write_at(0, b"abcdef").unwrap();
        file.set_len(2).unwrap();
        file.set_len(4).unwrap();
        let mut bytes = [1; 4];
        file.read_at(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"ab\0\0");
        assert_eq!(file.len().unwrap(), 4);
    });
}

#[test]
fn allocation_grows_a_file_and_keeps_its_content() {
    on_every_disk(|disk| {
        let file = disk.open("a").unwrap();
        file.write_at(0, b"abc").unwrap();
        file.allocate(10_000).unwrap();
        assert_eq!(file.len().unwrap(), 10_000);
        file.allocate(100).unwrap();
        file.allocate(0).unwrap();
        assert_eq!(file.len().unwrap(), 10_000);
        let mut bytes = [1; 5];
        file.read_at(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"abc\0\0");
    });
}

#[test]
fn names_are_listed_sorted_renamed_over_others_and_removed() {
    on_every_disk(|disk| {
        for name in ["b", "a", "c"] {
            disk.open(name).unwrap().write_at(0, name.as_bytes()).unwrap();
        }
        assert_eq!(disk.list().unwrap(), ["a", "b", "c"]);
        disk.rename("a", "c").unwrap();
        disk.remove("b").unwrap();
        disk.sync_dir().unwrap();
        assert_eq!(disk.list().unwrap(), ["c"]);
        let mut byte = [0];
        disk.open("c").unwrap().read_at(0, &mut byte).unwrap();
        assert_eq!(&byte, b"a");
        assert_eq!(disk.rename("b", "d").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(disk.remove("b").unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_handle_follows_its_file_through_rename_and_removal() {
    on_every_disk(|disk| {
        let file = disk.open("a").unwrap();
        file.write_at(0, b"1").unwrap();
        disk.rename("a", "b").unwrap();
        file.write_at(1, b"2").unwrap();
        let mut bytes = [0; 2];
        disk.open("b").unwrap().read_at(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"12");
        disk.remove("b").unwrap();
        file.read_at(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"12");
        assert_eq!(disk.open("b").unwrap().len().unwrap(), 0);
    });
}

#[test]
fn only_plain_names_are_accepted() {
    on_every_disk(|disk| {
        for name in ["", ".", "..", "a/b", "/a", "LOCK"] {
            let error = disk.open(name).err().expect(name);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}");
        }
    });
}

#[test]
fn there_is_room_on_an_empty_disk() {
    on_every_disk(|disk| assert!(disk.free_bytes().unwrap() > 0));
}
