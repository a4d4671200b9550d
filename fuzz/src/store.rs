//! The B-tree's file: a real one, in which pages say something else under checksums that are right.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use conuredb::storage::backup::Export;
use conuredb::storage::disk::{Disk, MemDisk};
use conuredb::storage::inspect::survey::survey;
use conuredb::storage::kv::{self, Entry, Kv, KvSnapshot, Payload};
use conuredb::storage::store::StoreOptions;
use conuredb::types::{Command, Condition, Key, KeyRange, Lifetime, LogId, Operation, RequestId};

use super::patch::patches;

const PAGE_BYTES: usize = 4_096;

/// Bytes of a meta page that its checksum covers.
const META_BYTES: usize = 512;

/// A file of every kind of page, and where its extents begin and end.
struct Base {
    file: Vec<u8>,
    extents: Vec<(usize, usize)>,
}

static BASE: LazyLock<Base> = LazyLock::new(|| {
    let disk = filled().1;
    let file = disk.contents().remove(kv::FILE).expect("a store");
    let mut extents = vec![(0, PAGE_BYTES), (PAGE_BYTES, 2 * PAGE_BYTES)];
    let mut at = 2 * PAGE_BYTES;
    while at + PAGE_BYTES <= file.len() {
        let is_page = file[at + 4..at + 6] == *b"CB";
        let span = file[at + 24..at + 28].try_into().map(u32::from_le_bytes);
        let span = if is_page { span.expect("four bytes") as usize } else { 1 };
        let end = (at + span.max(1) * PAGE_BYTES).min(file.len());
        extents.push((at, end));
        at = end;
    }
    Base { file, extents }
});

fn options() -> StoreOptions {
    StoreOptions { cache_bytes: 1 << 20 }
}

fn key(text: String) -> Key {
    Key::new(text.into_bytes()).expect("a short key")
}

fn entry(index: u64, operation: Operation) -> Entry {
    let request_id = Some(RequestId { client: format!("c{}", index % 7), sequence: index });
    let command = Command { time_ms: 1_000 + index, request_id, operation };
    Entry { id: LogId { term: 1, index }, payload: Payload::Command(command) }
}

/// A store with every tree, long keys, long values, tombstones and deadlines, all of it durable.
pub fn filled() -> (Kv, MemDisk) {
    let disk = MemDisk::new();
    let mut kv = Kv::open(Arc::new(disk.clone()), options()).expect("an empty disk");
    let put = |number: u64| {
        let long = if number.is_multiple_of(40) { "k".repeat(1_500) } else { String::new() };
        let len = if number.is_multiple_of(30) { 9_000 } else { 30 };
        Operation::Put {
            key: key(format!("key/{:03}{long}", number % 90)),
            value: Bytes::from(vec![number as u8; len]),
            condition: Condition::None,
            lifetime: match number % 5 {
                0 => Lifetime::Ttl { ms: 60_000 },
                _ => Lifetime::Unbounded,
            },
        }
    };
    let mut entries: Vec<Entry> = (1..=160).map(|index| entry(index, put(index))).collect();
    let range = KeyRange::prefix("key/01");
    entries.push(entry(161, Operation::DeleteRange { range }));
    let names = Bytes::from_static(b"n1 n2 n3");
    let membership = Payload::Membership { entry: names, members: vec![1, 2, 3] };
    entries.push(Entry { id: LogId { term: 1, index: 162 }, payload: membership });
    for batch in entries.chunks(40) {
        kv.apply(batch.to_vec()).expect("memory does not fail");
        let checkpoint = kv.begin_checkpoint().expect("memory does not fail");
        let checkpoint = checkpoint.expect("something was written");
        kv.finish_checkpoint(checkpoint.write()).expect("memory does not fail");
    }
    (kv, disk)
}

/// Opens the file with changed pages, and reads all of it in every way there is.
pub fn decode(input: &[u8]) {
    let Base { file, extents } = &*BASE;
    let mut file = file.clone();
    for patch in patches(input) {
        let (start, end) = extents[patch.which(extents.len())];
        patch.apply(&mut file[start..end]);
        seal(&mut file[start..end], start);
    }
    let disk = MemDisk::from_contents(BTreeMap::from([(kv::FILE.to_string(), file)]));
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let _ = survey(&shared);
    if let Ok(kv) = Kv::open(shared, options()) {
        read_all(&kv.reader().snapshot());
    }
}

/// Makes the checksum of an extent right.
fn seal(bytes: &mut [u8], start: usize) {
    if start < 2 * PAGE_BYTES {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[..12]);
        hasher.update(&bytes[16..META_BYTES]);
        bytes[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
    } else {
        let sum = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Reads a state in every way there is.
pub fn read_all(state: &KvSnapshot) {
    let mut export = Export::new(state.clone());
    while let Ok(Some(_)) = export.next_piece() {}
    for reverse in [false, true] {
        let records = state.records(&KeyRange::default(), reverse, reverse);
        let _ = records.take_while(Result::is_ok).count();
    }
    let _ = state.applied_state();
    let _ = state.next_deadline_ms();
    if let Ok(changes) = state.changes(1, true) {
        let _ = changes.take_while(Result::is_ok).count();
    }
    for number in 0..5 {
        let key = key(format!("key/{:03}", number * 17));
        let _ = state.get(&key);
        let _ = state.get_at(&key, state.revision() / 2);
        if let Ok(versions) = state.versions(&key, state.revision()) {
            let _ = versions.take_while(Result::is_ok).count();
        }
    }
}
