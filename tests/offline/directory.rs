//! A data directory with something of everything in it, to be damaged.
//!
//! Three levels of tree, a value in pages of its own, free pages, four segments of log. Made once; every test
//! gets a copy.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use bytes::Bytes;
use conuredb::storage::disk::{Disk, FileDisk};
use conuredb::storage::identity::{Identity, Standing};
use conuredb::storage::inspect::page::{Body, CellDump, Content};
use conuredb::storage::inspect::{PageRef, StoreFile};
use conuredb::storage::kv::{Entry, Kv, Payload};
use conuredb::storage::log::{Log, LogEntry, LogOptions};
use conuredb::storage::store::StoreOptions;
use conuredb::types::{ClusterId, Condition, Key, KeyRange, Lifetime, LogId, Operation};
use serde_json::Value;
use tempfile::TempDir;

pub const PAGE: usize = 4_096;
pub const STORE: &str = "conure.db";

/// Keys beside the one of the large value.
pub const KEYS: u64 = 12_000;
/// Keys that were deleted, of which the records keep tombstones.
pub const DELETED: u64 = 500;
/// Entries of the tree of records: those above, a large one, and the tombstones.
pub const RECORDS: u64 = KEYS + 1 + DELETED;
const BIG_KEY: &str = "big";

/// The files of the directory as it was made.
static FILES: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
    let home = tempfile::tempdir().expect("a temporary directory");
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(home.path()).expect("a directory"));
    let identity = Identity {
        name: "node1".into(),
        node_id: 0xabcd,
        cluster_id: ClusterId(7),
        standing: Standing::Founder,
    };
    identity.store(&disk).expect("an identity");
    fill_store(&disk);
    fill_log(&disk);
    drop(disk);
    let entries = fs::read_dir(home.path()).expect("a directory");
    let file = |path: PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        (name, fs::read(path).expect("a file"))
    };
    entries.map(|entry| file(entry.expect("an entry").path())).collect()
});

fn fill_store(disk: &Arc<dyn Disk>) {
    let mut kv = Kv::open(disk.clone(), StoreOptions::default()).expect("a store");
    let mut index = 0;
    let mut apply = |kv: &mut Kv, operations: Vec<Operation>| {
        let entries = operations.into_iter().map(|operation| {
            index += 1;
            let command = conuredb::types::Command { time_ms: 0, request_id: None, operation };
            Entry { id: LogId { term: 1, index }, payload: Payload::Command(command) }
        });
        kv.apply(entries.collect()).expect("entries are applied");
        let checkpoint = kv.begin_checkpoint().expect("a checkpoint").expect("something changed");
        kv.finish_checkpoint(checkpoint.write()).expect("it is durable");
    };
    let put = |key: &str, value: Vec<u8>| Operation::Put {
        key: Key::new(key.to_owned()).expect("a key"),
        value: value.into(),
        condition: Condition::None,
        lifetime: Lifetime::Unbounded,
    };
    let keys = (0..KEYS).map(|number| put(&format!("key-{number:05}"), vec![b'v'; 100]));
    let passing = (0..DELETED).map(|number| put(&format!("zzz-{number:05}"), vec![b'z'; 100]));
    apply(&mut kv, keys.chain(passing).collect());
    apply(&mut kv, vec![put(BIG_KEY, vec![b'b'; 50_000])]);
    apply(&mut kv, vec![Operation::DeleteRange { range: KeyRange::prefix("zzz") }]);
}

fn log_options() -> LogOptions {
    LogOptions { segment_bytes: 64 << 10, max_payload_bytes: 4 << 10, ..LogOptions::default() }
}

fn fill_log(disk: &Arc<dyn Disk>) {
    let (log, mut writer, _) = Log::open(disk.clone(), log_options()).expect("a log");
    log.save_vote(Bytes::from_static(b"vote")).expect("a vote");
    for first in (1..=1_500).step_by(50) {
        let entry = |index| LogEntry { id: LogId { term: 1, index }, payload: vec![7; 100].into() };
        log.append((first..first + 50).map(entry).collect()).expect("entries");
        writer.flush().expect("they are durable");
    }
    writer.maintain().expect("a mark");
    // A flush that nothing after it proves to have ended.
    let entry = |index| LogEntry { id: LogId { term: 1, index }, payload: vec![8; 100].into() };
    log.append(vec![entry(1_501), entry(1_502)]).expect("entries");
    writer.flush().expect("they are durable");
}

/// A copy of the directory, removed when dropped.
pub struct Directory {
    home: TempDir,
}

impl Directory {
    pub fn new() -> Directory {
        let home = tempfile::tempdir().expect("a temporary directory");
        for (name, content) in FILES.iter() {
            fs::write(home.path().join(name), content).expect("a copy");
        }
        Directory { home }
    }

    pub fn path(&self) -> &Path {
        self.home.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).expect("a file")
    }

    /// Changes a file's bytes.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.read(name);
        change(&mut bytes);
        fs::write(self.file(name), bytes).expect("a file");
    }

    pub fn flip(&self, name: &str, offset: usize) {
        self.change(name, |bytes| bytes[offset] ^= 0x10);
    }

    pub fn flip_page(&self, number: u64) {
        self.flip(STORE, number as usize * PAGE + 2_000);
    }

    /// Purges the log up to this entry, as a node does.
    pub fn purge_log(&self, index: u64) {
        let disk = Arc::new(FileDisk::open(self.path()).expect("a directory"));
        let (log, mut writer, _) = Log::open(disk, log_options()).expect("a log");
        log.purge(LogId { term: 1, index }).expect("entries");
        writer.flush().expect("it is durable");
    }

    /// Names, contents and times of change of all files.
    pub fn state(&self) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
        let entries = fs::read_dir(self.path()).expect("a directory");
        let file = |path: PathBuf| {
            let changed = fs::metadata(&path).and_then(|it| it.modified()).expect("a time");
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            (name, (fs::read(path).expect("a file"), changed))
        };
        entries.map(|entry| file(entry.expect("an entry").path())).collect()
    }

    /// `conure-db` with these arguments on this directory.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let (command, rest) = arguments.split_first().expect("a subcommand");
        let mut program = Command::new(env!("CARGO_BIN_EXE_conure-db"));
        program.args([command, "--data-dir"]).arg(self.path()).args(rest);
        program.output().expect("the program was built")
    }

    /// What `check --json` says, and its exit status.
    pub fn check(&self) -> (i32, Value) {
        let output = self.run(&["check", "--json"]);
        let said = text(&output);
        let object = serde_json::from_str(said.lines().next().unwrap_or_default());
        (output.status.code().expect("an end"), object.unwrap_or_else(|_| panic!("{said}")))
    }

    /// The store as the library decodes it.
    pub fn store(&self) -> StoreFile {
        let disk = FileDisk::open_read_only(self.path()).expect("a directory");
        StoreFile::open(&disk).expect("a store").expect("a file")
    }

    /// The first live page whose content is one that `wanted` picks, and what it made of it.
    pub fn find<T>(&self, wanted: impl Fn(PageRef, &Body) -> Option<T>) -> (u64, T) {
        let store = self.store();
        let numbers = 2..store.len_bytes() / PAGE as u64;
        let mut pages = numbers.filter_map(|number| {
            let page = store.page(number).expect("it can be read").expect("it is there");
            let Content::Extent { reference, body: Some(body), .. } = page.content else {
                return None;
            };
            (page.is_live == Some(true))
                .then(|| wanted(reference, &body))
                .flatten()
                .map(|found| (number, found))
        });
        pages.next().expect("there is such a page")
    }

    /// A node of this level, with its cells. Not the first, whose keys have no lower bound.
    pub fn node(&self, level: u8) -> (u64, Vec<String>) {
        self.find(|_, body| match body {
            Body::Node(node) if node.level == level && holds(&node.cells, "key-0") => {
                Some(node.cells.iter().map(|cell| name(&cell.key)).collect())
            }
            _ => None,
        })
    }
}

fn holds(cells: &[CellDump], prefix: &str) -> bool {
    cells.iter().skip(1).all(|cell| cell.key.starts_with(prefix.as_bytes()))
}

pub fn name(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

/// All that a program said.
pub fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}
