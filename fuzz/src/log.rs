//! The Raft log: real segments, in which headers and records say something else under checksums that are right.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use conuredb::storage::disk::{Disk, MemDisk};
use conuredb::storage::log::{Log, LogEntry, LogOptions, inspect};
use conuredb::types::LogId;

use super::patch::patches;

/// Bytes of a segment before its first record, and of a record before its payload.
const SEGMENT_HEADER_BYTES: usize = 4_096;
const RECORD_HEADER_BYTES: usize = 48;

/// A part of a file that has a checksum: the header of a segment, or a record.
struct Part {
    file: String,
    start: usize,
    end: usize,
    /// Of a record: the checksum of its segment so far.
    seed: Option<crc32fast::Hasher>,
}

struct Base {
    files: BTreeMap<String, Vec<u8>>,
    parts: Vec<Part>,
}

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 16 << 10,
        cache_bytes: 4 << 10,
        max_payload_bytes: 8 << 10,
        max_staged_bytes: 1 << 20,
        nonce: 7,
    }
}

static BASE: LazyLock<Base> = LazyLock::new(|| {
    let disk = MemDisk::new();
    let (log, mut writer, _) = Log::open(Arc::new(disk.clone()), options()).expect("an empty disk");
    let entry = |term, index: u64| LogEntry {
        id: LogId { term, index },
        payload: Bytes::from(vec![index as u8; 40 * (index % 50) as usize]),
    };
    let append = |term, from: u64, to: u64| {
        log.append((from..to).map(|index| entry(term, index)).collect()).expect("it continues");
    };
    log.save_vote(Bytes::from_static(b"a vote")).expect("a short vote");
    append(1, 1, 20);
    writer.flush().expect("memory does not fail");
    log.truncate_after(Some(15)).expect("it has them");
    append(2, 16, 40);
    writer.flush().expect("memory does not fail");
    log.purge(LogId { term: 1, index: 9 }).expect("it has it");
    log.save_vote(Bytes::from_static(b"another vote")).expect("a short vote");
    append(2, 40, 60);
    writer.flush().expect("memory does not fail");
    let files = disk.contents();
    let mut parts = Vec::new();
    for segment in inspect::survey(&disk).expect("a log").segments {
        let dump = inspect::dump(&disk, segment.sequence).expect("a segment").expect("it is there");
        let file = dump.file.rsplit(':').next().expect("a name").to_string();
        let mut seed = crc32fast::Hasher::new();
        seed.update(&dump.nonce.to_le_bytes());
        seed.update(&u64::from(dump.sequence).to_le_bytes());
        let header = Part { file: file.clone(), start: 0, end: SEGMENT_HEADER_BYTES, seed: None };
        parts.push(header);
        let ends = dump.records.iter().skip(1).map(|record| record.offset).chain([dump.end]);
        for (record, end) in dump.records.iter().zip(ends) {
            let (start, end) = (record.offset as usize, end as usize);
            parts.push(Part { file: file.clone(), start, end, seed: Some(seed.clone()) });
        }
    }
    Base { files, parts }
});

/// Looks into the log with changed records, opens it and reads all of it.
pub fn decode(input: &[u8]) {
    let Base { files, parts } = &*BASE;
    let mut files = files.clone();
    for patch in patches(input) {
        let part = &parts[patch.which(parts.len())];
        let file = files.get_mut(&part.file).expect("it was there");
        let bytes = &mut file[part.start..part.end];
        patch.apply(bytes);
        seal(bytes, part);
    }
    let disk = MemDisk::from_contents(files);
    if let Ok(survey) = inspect::survey(&disk) {
        for segment in survey.segments {
            let _ = inspect::dump(&disk, segment.sequence);
        }
    }
    let shared: Arc<dyn Disk> = Arc::new(disk);
    let Ok((log, ..)) = Log::open(shared, options()) else { return };
    let state = log.state();
    let first = state.purged.map_or(0, |id| id.index.saturating_add(1));
    let end = state.last.map_or(first, |id| id.index.saturating_add(1));
    if let Ok(entries) = log.read(first..end, u64::MAX) {
        assert!(entries.iter().all(|entry| log.term_at(entry.id.index) == Some(entry.id.term)));
    }
}

/// Makes the checksums of a part right.
fn seal(bytes: &mut [u8], part: &Part) {
    let Some(seed) = &part.seed else {
        bytes[12..16].fill(0);
        let sum = crc32fast::hash(bytes);
        return bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    };
    let (header, payload) = bytes.split_at_mut(RECORD_HEADER_BYTES);
    header[4..8].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    let mut hasher = seed.clone();
    hasher.update(&(part.start as u64).to_le_bytes());
    hasher.update(&header[4..]);
    header[..4].copy_from_slice(&hasher.finalize().to_le_bytes());
}
