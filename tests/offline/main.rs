//! `conure-db check` and `conure-db inspect` as operators use them: through the real binary, on a directory
//! that is damaged in one known place. docs/FORMAT.md says where the bytes are that these tests change.
#![allow(clippy::disallowed_methods)] // real files, as a disk damages them

mod directory;

use std::collections::BTreeSet;
use std::fs;

use conuredb::storage::disk::FileDisk;
use conuredb::storage::inspect::page::Body;
use serde_json::Value;

use directory::{Directory, KEYS, PAGE, RECORDS, STORE, text};

/// The only finding.
#[track_caller]
fn only(report: &Value) -> &Value {
    let findings = report["findings"].as_array().expect("an array");
    assert_eq!(findings.len(), 1, "{report:#}");
    &findings[0]
}

#[track_caller]
fn says(finding: &Value, words: &str) {
    let problem = finding["problem"].as_str().expect("text");
    assert!(problem.contains(words), "{problem}");
}

fn entries(report: &Value) -> u64 {
    report["store"]["trees"][0]["entries"].as_u64().expect("a number")
}

/// Writes a page's checksum anew.
fn seal(bytes: &mut [u8], page: u64) {
    let page = &mut bytes[page as usize * PAGE..][..PAGE];
    let sum = crc32fast::hash(&page[4..]);
    page[..4].copy_from_slice(&sum.to_le_bytes());
}

#[test]
fn a_sound_directory_is_described_and_not_touched() {
    let directory = Directory::new();
    let before = directory.state();
    let (status, report) = directory.check();
    assert_eq!(status, 0, "{report:#}");
    assert_eq!(report["status"], "sound");
    assert_eq!(report["findings"], Value::Array(Vec::new()));
    assert_eq!(report["identity"]["name"], "node1");
    assert_eq!(entries(&report), RECORDS);
    assert_eq!(report["store"]["trees"][0]["levels"], 3);
    assert_eq!(report["store"]["trees"][0]["values"], 1);
    assert_eq!(report["store"]["applied"]["index"], KEYS + 502);
    assert_eq!(report["log"]["first_index"], 1);
    assert_eq!(report["log"]["last"]["index"], 1_502);
    let sizes = ["file_bytes", "live_bytes", "free_bytes"].map(|key| &report["store"][key]);
    let [file, live, free] = sizes.map(|bytes| bytes.as_u64().expect("a number"));
    assert!(free > 0 && live + free == file, "{live} + {free} of {file}");

    for arguments in [
        &["check"][..],
        &["inspect"],
        &["inspect", "meta"],
        &["inspect", "page", "0"],
        &["inspect", "page", "2"],
        &["inspect", "tree", "records"],
        &["inspect", "tree", "9"],
        &["inspect", "log"],
        &["inspect", "segment", "1"],
    ] {
        let output = directory.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output));
        assert!(output.stderr.is_empty() && !output.stdout.is_empty(), "{}", text(&output));
    }
    assert!(directory.state() == before, "a file changed");
}

#[test]
fn a_directory_without_a_lock_file_is_looked_at_all_the_same() {
    let directory = Directory::new();
    fs::remove_file(directory.file("LOCK")).expect("a file");
    assert_eq!(directory.check().0, 0);
    assert!(!directory.file("LOCK").exists());
}

#[test]
fn a_damaged_leaf_is_named_with_its_keys() {
    let directory = Directory::new();
    let (page, keys) = directory.node(0);
    directory.flip_page(page);
    let before = directory.state();
    let (status, report) = directory.check();
    assert!(directory.state() == before, "a file changed");
    assert_eq!((status, &report["status"]), (1, &"damaged".into()));
    let finding = only(&report);
    says(finding, "checksum");
    assert_eq!(finding["file"], directory.file(STORE).to_str().expect("text"));
    assert_eq!(finding["page"], page);
    assert_eq!(finding["offset"], page * PAGE as u64);
    assert_eq!(finding["tree"], 0);
    let from = finding["keys"]["from"].as_str().expect("text");
    let below = finding["keys"]["below"].as_str().expect("text");
    let (first, last) = (&keys[0][..], &keys[keys.len() - 1][..]);
    assert!(from <= first && below > last, "{from} {below} {keys:?}");
    assert_eq!(entries(&report), RECORDS - keys.len() as u64, "the others are still counted");

    let said = text(&directory.run(&["check"]));
    assert!(said.contains(&format!("page {page}, tree 0 records, keys from \"{from}\"")), "{said}");
    let output = directory.run(&["inspect", "page", &page.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("does NOT match"), "{}", text(&output));
    assert_eq!(directory.run(&["inspect", "tree", "records"]).status.code(), Some(1));
}

#[test]
fn a_damaged_branch_is_named_with_all_keys_under_it() {
    let directory = Directory::new();
    let (page, separators) = directory.node(1);
    directory.flip_page(page);
    let (status, report) = directory.check();
    assert_eq!(status, 1);
    let finding = only(&report);
    assert_eq!((&finding["page"], &finding["tree"]), (&page.into(), &0.into()));
    let below = finding["keys"]["below"].as_str().map_or("~", |below| below);
    assert!(below > &separators[separators.len() - 1][..], "{below}");
    assert!(entries(&report) > 0 && entries(&report) < KEYS, "{report:#}");
}

#[test]
fn a_damaged_root_leaves_all_keys_unread() {
    let directory = Directory::new();
    let store = directory.store();
    let root = store.meta().expect("a meta page").root.trees[0].root.expect("a root");
    drop(store);
    directory.flip_page(root.number);
    let (status, report) = directory.check();
    assert_eq!((status, entries(&report)), (1, 0));
    let finding = only(&report);
    assert_eq!(finding["page"], root.number);
    assert_eq!((&finding["keys"]["from"], &finding["keys"]["below"]), (&"".into(), &Value::Null));
}

#[test]
fn a_damaged_value_is_named_with_its_key() {
    let directory = Directory::new();
    let (page, ()) = directory.find(|_, body| matches!(body, Body::Value { .. }).then_some(()));
    directory.flip(STORE, page as usize * PAGE + 9 * PAGE);
    let (status, report) = directory.check();
    assert_eq!((status, entries(&report)), (1, RECORDS));
    let finding = only(&report);
    assert_eq!((&finding["page"], &finding["tree"]), (&page.into(), &0.into()));
    assert_eq!(finding["keys"]["from"], "big");
    assert!(text(&directory.run(&["check"])).contains("key \"big\""));
}

#[test]
fn damage_in_several_places_is_named_in_all() {
    let directory = Directory::new();
    let (leaf, _) = directory.node(0);
    let (value, ()) = directory.find(|_, body| matches!(body, Body::Value { .. }).then_some(()));
    let (map, ()) = directory.find(|_, body| matches!(body, Body::MapGroup { .. }).then_some(()));
    for page in [leaf, value, map] {
        directory.flip_page(page);
    }
    directory.flip("log-0000000000000001.seg", 20_000);
    directory.flip("identity", 40);
    let (status, report) = directory.check();
    assert_eq!(status, 1);
    let findings = report["findings"].as_array().expect("an array");
    let pages = findings.iter().filter_map(|finding| finding["page"].as_u64());
    assert_eq!(pages.collect::<BTreeSet<_>>(), BTreeSet::from([leaf, value, map]));
    for file in ["log-0000000000000001.seg", "identity"] {
        let file = directory.file(file);
        let named = findings.iter().any(|it| it["file"] == file.to_str().expect("text"));
        assert!(named, "{report:#}");
    }
    assert_eq!(findings.len(), 5, "{report:#}");
}

#[test]
fn damage_in_the_map_of_free_space_is_named() {
    let directory = Directory::new();
    let (page, ()) = directory.find(|_, body| matches!(body, Body::MapGroup { .. }).then_some(()));
    directory.flip_page(page);
    let (status, report) = directory.check();
    assert_eq!((status, entries(&report)), (1, RECORDS));
    let finding = only(&report);
    says(finding, "the map of free space: expected checksum");
    assert_eq!((&finding["page"], &finding["tree"]), (&page.into(), &Value::Null));

    let directory = Directory::new();
    let (root, ()) = directory.find(|_, body| matches!(body, Body::MapRoot(_)).then_some(()));
    directory.flip_page(root);
    let (status, report) = directory.check();
    assert_eq!((status, &only(&report)["page"]), (1, &root.into()));
    assert_eq!(report["store"]["free_bytes"], Value::Null);
}

/// Changes the map's bit of a page, and the counts with it, as a defect would and not a disk.
fn mark(directory: &Directory, page: u64, live: bool) {
    let (map, ()) = directory.find(|_, body| matches!(body, Body::MapGroup { .. }).then_some(()));
    let (root, ()) = directory.find(|_, body| matches!(body, Body::MapRoot(_)).then_some(()));
    directory.change(STORE, |bytes| {
        let byte = &mut bytes[map as usize * PAGE + 32 + page as usize / 8];
        assert_eq!(*byte >> (page % 8) & 1 == 1, !live, "page {page} is what it is not yet");
        *byte ^= 1 << (page % 8);
        let count = &mut bytes[root as usize * PAGE + 32 + 14..][..4];
        let free = u32::from_le_bytes((&*count).try_into().expect("four bytes"));
        let free = if live { free - 1 } else { free + 1 };
        count.copy_from_slice(&free.to_le_bytes());
        seal(bytes, map);
        seal(bytes, root);
    });
}

#[test]
fn a_page_that_is_used_and_counted_as_free_is_named() {
    let directory = Directory::new();
    let (page, _) = directory.node(0);
    mark(&directory, page, false);
    let (status, report) = directory.check();
    assert_eq!((status, &only(&report)["page"]), (1, &page.into()), "{report:#}");
}

#[test]
fn a_page_that_is_lost_is_named() {
    let directory = Directory::new();
    let store = directory.store();
    let end = store.len_bytes() / PAGE as u64;
    let is_free = |&number: &u64| store.page(number).unwrap().unwrap().is_live == Some(false);
    let page = (2..end).find(is_free).expect("a free page");
    drop(store);
    mark(&directory, page, true);
    let (status, report) = directory.check();
    assert_eq!((status, &only(&report)["page"]), (1, &page.into()), "{report:#}");
    says(only(&report), "neither");
}

#[test]
fn a_damaged_meta_page_is_named_while_the_store_opens_with_the_other() {
    for page in 0..2 {
        let directory = Directory::new();
        directory.flip(STORE, page * PAGE + 20);
        let (status, report) = directory.check();
        assert_eq!(status, 1);
        let finding = only(&report);
        assert_eq!(finding["page"], page);
        says(finding, "opens with the other");
        assert!(entries(&report) > 0);
        assert_eq!(directory.run(&["inspect", "meta"]).status.code(), Some(1));
    }
    let directory = Directory::new();
    directory.flip(STORE, 20);
    directory.flip(STORE, PAGE + 20);
    let (status, report) = directory.check();
    assert_eq!((status, &report["store"]), (1, &Value::Null));
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_file_cut_short_is_named() {
    let directory = Directory::new();
    let len = directory.read(STORE).len();
    directory.change(STORE, |bytes| bytes.truncate(len - PAGE));
    let (status, report) = directory.check();
    assert_eq!(status, 1);
    let findings = report["findings"].as_array().expect("an array");
    assert_eq!(findings[0]["offset"], len - PAGE);
    says(&findings[0], "the file ends here");
}

#[test]
fn damage_in_the_log_is_named_and_the_segments_behind_it_are_read() {
    let segments = Directory::new().check().1["log"]["segments"].as_array().expect("some").len();
    assert!(segments >= 4, "{segments} segments");
    let last = format!("log-{segments:016x}.seg");
    let first = "log-0000000000000001.seg";
    for (file, offset, problem) in [
        (first, 20_000, "a record that was acknowledged is not there"),
        (&last, 6_000, "a record that was acknowledged is damaged"),
        (first, 100, "the checksum of the segment header"),
    ] {
        let directory = Directory::new();
        directory.flip(file, offset);
        let before = directory.state();
        let (status, report) = directory.check();
        assert!(directory.state() == before, "a file changed");
        assert_eq!(status, 1, "{report:#}");
        let finding = only(&report);
        says(finding, problem);
        assert_eq!(finding["file"], directory.file(file).to_str().expect("text"));
        let found = finding["offset"].as_u64().expect("a number") as usize;
        assert!(found <= offset && offset < found + 4_096, "{found} for {offset}");
        let read = report["log"]["segments"].as_array().expect("an array");
        assert_eq!(read.last().expect("one")["sequence"], segments);
        assert_eq!(directory.run(&["inspect", "log"]).status.code(), Some(1));
    }
}

#[test]
fn a_torn_end_of_the_log_is_told_from_damage() {
    let directory = Directory::new();
    let report = directory.check().1;
    let segments = report["log"]["segments"].as_array().expect("an array");
    let end = segments.last().expect("one")["end"].as_u64().expect("a number") as usize;
    let last = format!("log-{:016x}.seg", segments.len());
    // Two records of 48 + 100 bytes, rounded up to 152, were flushed last: the first of them.
    directory.flip(&last, end - 2 * 152 + 60);
    let before = directory.state();
    let (status, report) = directory.check();
    assert!(directory.state() == before, "a file changed");
    assert_eq!(status, 0, "{report:#}");
    assert_eq!(report["log"]["torn"]["offset"], end - 2 * 152);
    assert_eq!(report["log"]["last"]["index"], 1_500);
}

#[test]
fn a_log_that_begins_behind_the_end_of_the_store_is_named() {
    let directory = Directory::new();
    directory.purge_log(1_000);
    assert_eq!(directory.check().0, 0);
    fs::remove_file(directory.file(STORE)).expect("a file");
    let (status, report) = directory.check();
    assert_eq!((status, &report["log"]["purged"]["index"]), (1, &1_000.into()));
    says(only(&report), "the store holds nothing, but the log begins after T1-1000");
}

#[test]
fn what_cannot_be_judged_is_refused_by_name() {
    #[track_caller]
    fn refused(directory: &Directory, words: &str) {
        let (status, report) = directory.check();
        assert_eq!((status, &report["status"]), (2, &"unopened".into()));
        assert!(report["error"].as_str().expect("text").contains(words), "{report}");
        let output = directory.run(&["check"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output).contains(words), "{}", text(&output));
    }
    let directory = Directory::new();
    let node = FileDisk::open(directory.path()).expect("a lock");
    refused(&directory, "in use");
    assert_eq!(directory.run(&["inspect"]).status.code(), Some(2));
    drop(node);
    assert_eq!(directory.check().0, 0);

    let newer = Directory::new();
    newer.change(STORE, |bytes| {
        let page = &mut bytes[..PAGE];
        page[8] = 9;
        let sum = crc32fast::hash(&[&page[..12], &page[16..512]].concat());
        page[12..16].copy_from_slice(&sum.to_le_bytes());
    });
    refused(&newer, "format version 9");

    let newer = Directory::new();
    newer.change("log-0000000000000002.seg", |bytes| {
        bytes[8] = 9;
        bytes[12..16].fill(0);
        let sum = crc32fast::hash(&bytes[..4_096]);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    });
    refused(&newer, "format version 9");

    let foreign = Directory::new();
    foreign.change(STORE, |bytes| bytes[..2 * PAGE].fill(b'x'));
    refused(&foreign, "not a ConureDB store");

    let empty = Directory::new();
    for name in empty.state().keys() {
        fs::remove_file(empty.file(name)).expect("a file");
    }
    refused(&empty, "no data of a node");
    assert!(empty.state().is_empty(), "something was made");
    fs::remove_dir(empty.path()).expect("an empty directory");
    refused(&empty, "No such file or directory");
    assert!(!empty.path().exists());
    fs::create_dir(empty.path()).expect("to be removed by its owner");
}

#[test]
fn what_is_not_there_is_not_shown() {
    let directory = Directory::new();
    for (arguments, words) in [
        (["page", "99999999"], "behind its"),
        (["tree", "branches"], "there is no tree"),
        (["tree", "10"], "there is no tree"),
        (["segment", "77"], "there is no segment"),
    ] {
        let output = directory.run(&["inspect", arguments[0], arguments[1]]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output).contains(words), "{}", text(&output));
    }
}
