//! What an entry of the log carries.

use std::sync::Arc;

use conuredb::codec;
use conuredb::storage::disk::MemDisk;
use conuredb::storage::kv::{Entry, Kv, Payload};
use conuredb::storage::store::StoreOptions;
use conuredb::types::{Command, LogId};

use super::store::read_all;

/// Decodes a command; one that is valid is encoded as it was understood, and applied twice over.
pub fn decode(input: &[u8]) {
    let Ok(command) = codec::decode::<Command>(input) else { return };
    let bytes = codec::encode(&command).expect("what was decoded fits");
    let again: Command = codec::decode(&bytes).expect("what was encoded is decoded");
    assert_eq!(again, command, "another command came back");
    let _ = command.to_string();

    let options = StoreOptions { cache_bytes: 1 << 20 };
    let mut kv = Kv::open(Arc::new(MemDisk::new()), options).expect("an empty disk");
    for index in 1..=2 {
        let payload = Payload::Command(command.clone());
        let entry = Entry { id: LogId { term: 1, index }, payload };
        kv.apply(vec![entry]).expect("a valid command is applied");
    }
    read_all(&kv.reader().snapshot());
}
