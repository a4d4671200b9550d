//! Tests of the B-tree file as a whole, against a model and on a disk that fails.
//!
//! Every random test runs a fixed list of seeds and names the one that failed.

mod append;
mod compact;
mod crash;
mod model;
mod scrub;
mod space;
mod trees;
mod trim;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::storage::TreeId;
use crate::storage::cursor::Bounds;
use crate::storage::disk::Disk;
use crate::storage::disk::MemDisk;
use crate::storage::error::StorageError;
use crate::storage::snapshot::Snapshot;
use crate::storage::store::{Store, StoreOptions};

const FILE: &str = "conure.db";

/// The tree that most tests use, and others.
const T: TreeId = TreeId::new(0);
const U: TreeId = TreeId::new(1);

/// A tree as it should be.
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn open(disk: &MemDisk) -> Result<Store, StorageError> {
    // A pool of 64 pages: small enough that tests run against it.
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Store::open(&disk, FILE, StoreOptions { cache_bytes: 256 << 10 })
}

fn put_all<'a>(store: &mut Store, entries: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) {
    let mut txn = store.begin();
    for (key, value) in entries {
        txn.put(T, key, value).unwrap();
    }
    txn.commit().unwrap();
}

fn checkpoint(store: &mut Store) -> Result<(), StorageError> {
    if let Some(checkpoint) = store.begin_checkpoint()? {
        store.finish_checkpoint(checkpoint.write())?;
    }
    Ok(())
}

/// Everything in tree [`T`] of the snapshot.
fn contents(snapshot: &Snapshot) -> Result<Model, StorageError> {
    snapshot
        .range(T, Bounds::ALL)
        .map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())))
        .collect()
}

#[track_caller]
fn assert_holds(snapshot: &Snapshot, model: &Model) {
    assert_eq!(snapshot.len(T), model.len() as u64);
    let mut entries = snapshot.range(T, Bounds::ALL);
    for (key, value) in model {
        let (found_key, found_value) = entries.next().expect("an entry is missing").unwrap();
        assert!(found_key == key && found_value == value, "{}", key.escape_ascii());
    }
    assert!(entries.next().is_none(), "an entry too many");
}

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

fn random_bytes(rng: &mut StdRng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes[..]);
    bytes
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
