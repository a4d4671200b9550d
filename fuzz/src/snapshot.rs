//! A snapshot that is received: the pieces of a real one with changes, under a checksum that is right.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use conuredb::storage::backup::{Export, Import};
use conuredb::storage::disk::MemDisk;
use conuredb::storage::kv::Kv;
use conuredb::storage::store::StoreOptions;

use super::patch::patches;
use super::store::{filled, read_all};

static PIECES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut export = Export::new(filled().0.reader().snapshot());
    std::iter::from_fn(|| export.next_piece().expect("memory does not fail")).collect()
});

/// Takes the pieces, puts the state in place, and reads all of it.
pub fn decode(input: &[u8]) {
    let mut pieces = PIECES.clone();
    let count = pieces.len();
    for patch in patches(input) {
        patch.apply(&mut pieces[patch.which(count)]);
    }
    let mut crc = crc32fast::Hasher::new();
    let (last, before) = pieces.split_last_mut().expect("a snapshot has pieces");
    before.iter().for_each(|piece| crc.update(piece));
    let end = last.len() - 4;
    crc.update(&last[..end]);
    last[end..].copy_from_slice(&crc.finalize().to_le_bytes());

    let options = StoreOptions { cache_bytes: 1 << 20 };
    let mut kv = Kv::open(Arc::new(MemDisk::new()), options).expect("an empty disk");
    let mut import = Import::begin(&kv, 1).expect("memory does not fail");
    for (sequence, piece) in pieces.into_iter().enumerate() {
        if import.take_piece(sequence as u64, Bytes::from(piece)).is_err() {
            return;
        }
    }
    if import.finish().is_ok() && import.install(&mut kv).is_ok() {
        read_all(&kv.reader().snapshot());
    }
}
