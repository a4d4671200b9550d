//! Backups: what they hold, what of their damage is found, and what a crash leaves of a restore.

use std::sync::Arc;

use bytes::Bytes;

use super::file::{Backup, BackupError, verify};
use super::restore::{NewNode, RestoreError, restore};
use crate::storage::disk::{Disk, MemDisk, PowerCut};
use crate::storage::identity::{Identity, Standing};
use crate::storage::kv::layout::KvFacts;
use crate::storage::kv::{AppliedState, Entry, Kv, KvSnapshot, Payload, SYSTEM, TREE_NAMES};
use crate::storage::store::StoreOptions;
use crate::types::*;

const CLUSTER: ClusterId = ClusterId(0xc0ffee);
const TAKEN_AT_MS: u64 = 1_700_000_000_000;
/// Of the damaged backups so many are restored: it takes longer than reading them.
const RESTORE_ONE_IN: usize = 61;
const OPTIONS: StoreOptions = StoreOptions { cache_bytes: 1 << 20 };

fn open(disk: &MemDisk) -> Kv {
    Kv::open(Arc::new(disk.clone()), OPTIONS).expect("a healthy disk")
}

/// A state with some of everything: records, one of them large, deletes, deadlines, sessions, a membership.
fn filled() -> KvSnapshot {
    let mut kv = open(&MemDisk::new());
    let entry = Bytes::from_static(b"three nodes");
    let mut entries = vec![Payload::Membership { entry, members: vec![1, 2, 3] }];
    for n in 0..60_u64 {
        let key = Key::new(format!("key/{:02}", n % 40).into_bytes()).expect("a short key");
        let operation = match n % 10 {
            7 => Operation::Delete { key, condition: Condition::None },
            kind => {
                let value = Bytes::from(vec![n as u8; if n == 3 { 5_000 } else { n as usize }]);
                let lifetime = match kind {
                    5 => Lifetime::Ttl { ms: 60_000 + n },
                    _ => Lifetime::Unbounded,
                };
                Operation::Put { key, value, condition: Condition::None, lifetime }
            }
        };
        let request_id = Some(RequestId { client: format!("client-{}", n % 3), sequence: n });
        entries.push(Payload::Command(Command { time_ms: 1_000 + n, request_id, operation }));
    }
    let entries = (1..).zip(entries);
    let entries = entries.map(|(index, payload)| Entry { id: LogId { term: 4, index }, payload });
    kv.apply(entries.collect()).expect("no I/O fails");
    kv.reader().snapshot()
}

fn backup_of(state: KvSnapshot) -> Vec<u8> {
    let mut backup = Backup::new(state, CLUSTER, TAKEN_AT_MS).expect("a state of a log");
    let chunks = std::iter::from_fn(|| backup.next_chunk().expect("no I/O fails"));
    chunks.flatten().collect()
}

fn new_node() -> NewNode {
    let membership = Bytes::from_static(b"one node");
    NewNode { name: "node9".into(), node_id: 99, cluster_id: ClusterId(0xbeef), membership }
}

fn restore_on(disk: &MemDisk, backup: &[u8]) -> Result<(), RestoreError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    restore(&disk, OPTIONS, &new_node(), backup).map(drop)
}

fn standing(disk: &MemDisk) -> Option<Standing> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Identity::load(&disk).expect("a whole identity").map(|identity| identity.standing)
}

/// The entries of every tree but the system's, as they are stored.
fn entries(state: &KvSnapshot) -> Vec<(usize, Bytes, Bytes)> {
    let trees = TREE_NAMES.iter().filter(|(_, name)| *name != "system");
    let all = trees.flat_map(|(tree, _)| {
        let entries = state.entries(*tree).map(|entry| entry.expect("no I/O fails"));
        entries.map(|(key, value)| (tree.index(), key, value)).collect::<Vec<_>>()
    });
    all.collect()
}

#[test]
fn a_restored_state_is_what_was_backed_up_in_a_log_of_its_own() {
    let source = filled();
    let backup = backup_of(source.clone());
    let contents = verify(&backup[..]).expect("a good backup");
    assert_eq!(contents.bytes, backup.len() as u64);
    assert_eq!((contents.about.cluster_id, contents.about.taken_at_ms), (CLUSTER, TAKEN_AT_MS));
    assert_eq!(contents.about.revision, source.revision());
    assert_eq!(Some(contents.about.applied), source.applied());
    // With the membership, and who was in one.
    assert_eq!(contents.records(), entries(&source).len() as u64 + 2);

    let disk = MemDisk::new();
    restore_on(&disk, &backup).expect("an empty disk");
    let disk = disk.crash(PowerCut::KeepNone);
    let state = open(&disk).reader().snapshot();
    assert_eq!(entries(&state), entries(&source));
    let facts = |state: &KvSnapshot| KvFacts { applied: None, ..KvFacts::decode(state.facts()) };
    assert_eq!(facts(&state), facts(&source));
    let begin = LogId { term: 0, index: 62 };
    let membership = Some((begin, Bytes::from_static(b"one node")));
    let applied = AppliedState { last: Some(begin), membership };
    assert_eq!(state.applied_state().expect("no I/O fails"), applied);
    assert_eq!(state.entries(SYSTEM).count(), 1, "nobody was in a membership of this cluster yet");

    let disk: Arc<dyn Disk> = Arc::new(disk);
    let identity = Identity::load(&disk).expect("a whole identity").expect("an identity");
    let NewNode { name, node_id, cluster_id, .. } = new_node();
    assert_eq!(identity, Identity { name, node_id, cluster_id, standing: Standing::Founder });
    assert_eq!(disk.list().expect("no I/O fails"), ["conure.db", "identity"]);
}

#[test]
fn every_flipped_byte_is_found_and_the_place_is_told() {
    let good = backup_of(filled());
    for at in 0..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 0x20;
        let error = verify(&damaged[..]).expect_err("a damaged backup");
        match error {
            BackupError::Foreign { .. } => assert!(at < 8, "byte {at}"),
            BackupError::Version { .. } => assert_eq!(at, 8),
            // A length that became too great leaves nothing behind it.
            BackupError::Truncated { offset } => assert_eq!(offset, good.len() as u64),
            BackupError::Damaged { offset, .. } => {
                assert!(offset <= at as u64, "byte {at}: told as {offset}");
                if at % RESTORE_ONE_IN != 0 {
                    continue;
                }
                let disk = MemDisk::new();
                let refused = restore_on(&disk, &damaged).expect_err("a damaged backup");
                assert!(matches!(refused, RestoreError::Backup(_)), "byte {at}: {refused}");
                assert!(disk.contents().is_empty(), "byte {at}: {:?}", disk.contents().keys());
            }
            other => panic!("byte {at}: {other}"),
        }
    }
}

#[test]
fn a_backup_that_broke_off_or_goes_on_is_no_backup() {
    let good = backup_of(filled());
    for len in 0..good.len() {
        match verify(&good[..len]).expect_err("a part of a backup") {
            BackupError::Truncated { offset } => assert_eq!(offset, len as u64),
            BackupError::Foreign { .. } => assert_eq!(len, 0, "nothing is no backup"),
            other => panic!("{len} bytes: {other}"),
        }
    }
    let longer = [&good[..], b"x"].concat();
    let error = verify(&longer[..]).expect_err("more than a backup");
    let end = good.len() as u64;
    assert!(matches!(error, BackupError::Trailing { offset } if offset == end), "{error}");
    let twice = [&good[..], &good[..]].concat();
    assert!(verify(&twice[..]).is_err());
}

#[test]
fn frames_that_are_missing_or_in_another_order_are_found_where_they_are() {
    let mut kv = open(&MemDisk::new());
    let large = (1..6).map(|index| {
        let (value, key) = (Bytes::from(vec![index as u8; 300_000]), vec![index as u8]);
        let key = Key::new(key).expect("a short key");
        let operation = Operation::Put {
            key,
            value,
            condition: Condition::None,
            lifetime: Lifetime::Unbounded,
        };
        let command = Command { time_ms: 1, request_id: None, operation };
        Entry { id: LogId { term: 1, index }, payload: Payload::Command(command) }
    });
    kv.apply(large.collect()).expect("no I/O fails");
    let good = backup_of(kv.reader().snapshot());
    let (header, mut rest) = good.split_at(64);
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let len = u32::from_le_bytes(rest[..4].try_into().expect("four bytes")) as usize;
        let (frame, behind) = rest.split_at(8 + len);
        frames.push(frame);
        rest = behind;
    }
    assert!(frames.len() >= 7, "{} frames", frames.len());
    let place = |at: usize| 64 + frames[..at].iter().map(|frame| frame.len() as u64).sum::<u64>();
    for at in 0..frames.len() - 1 {
        let mut missing = frames.clone();
        missing.remove(at);
        let mut swapped = frames.clone();
        swapped.swap(at, at + 1);
        for frames in [missing, swapped] {
            let bytes = [header, &frames.concat()].concat();
            match verify(&bytes[..]).expect_err("not as it was made") {
                BackupError::Damaged { offset, .. } => assert_eq!(offset, place(at), "frame {at}"),
                other => panic!("frame {at}: {other}"),
            }
        }
    }
}

#[test]
fn a_backup_is_restored_into_an_empty_directory_only() {
    let good = backup_of(filled());
    let disk = MemDisk::new();
    restore_on(&disk, &good).expect("an empty disk");
    let before = disk.contents();
    let refused = restore_on(&disk, &good).expect_err("a node lives there");
    assert!(matches!(refused, RestoreError::NotEmpty { .. }), "{refused}");
    assert!(disk.contents() == before, "what was there is there");

    let disk = MemDisk::from_contents([("notes.txt".to_owned(), b"mine".to_vec())].into());
    let refused = restore_on(&disk, &good).expect_err("something lies there");
    assert!(refused.to_string().contains("it holds notes.txt"), "{refused}");
}

#[test]
fn a_crash_at_any_call_leaves_no_node_or_a_whole_one_and_the_next_restore_works() {
    let source = filled();
    let (good, all) = (backup_of(source.clone()), entries(&source));
    let calls = {
        let disk = MemDisk::new();
        restore_on(&disk, &good).expect("an empty disk");
        disk.calls()
    };
    assert!(calls > 15, "{calls} calls");
    let mut whole = 0;
    for call in 0..calls {
        for keep_all in [false, true] {
            let disk = MemDisk::new();
            disk.cut_power_after(call);
            restore_on(&disk, &good).expect_err("the power went");
            let disk = disk.crash(if keep_all { PowerCut::KeepAll } else { PowerCut::KeepNone });
            match standing(&disk) {
                Some(Standing::Founder) => whole += 1,
                Some(Standing::Restoring) => restore_on(&disk, &good).expect("begins again"),
                None => restore_on(&disk, &good).expect("an empty disk"),
                other => panic!("call {call}: {other:?}"),
            }
            assert_eq!(standing(&disk), Some(Standing::Founder), "call {call}");
            assert!(entries(&open(&disk).reader().snapshot()) == all, "call {call}");
        }
    }
    assert!(whole > 0, "a crash behind the last write was among them");
}
