//! What an entry of the log carries.

use std::sync::Arc;

use conuredb::codec;
use conuredb::storage::disk::MemDisk;
use conuredb::storage::kv::{Entry, Kv, Payload};
use conuredb::storage::store::StoreOptions;
use conuredb::types::{Command, LogId};

use super::store::read_all;

/// Decodes commands; valid ones are encoded as they were understood, and applied twice over, as one entry each time.
pub fn decode(input: &[u8]) {
    let Ok(commands) = codec::decode_all::<Command>(input) else { return };
    let mut bytes = Vec::new();
    for command in &commands {
        codec::encode_behind(command, &mut bytes).expect("what was decoded fits");
        let _ = command.to_string();
    }
    let again: Vec<Command> = codec::decode_all(&bytes).expect("what was encoded is decoded");
    assert_eq!(again, commands, "other commands came back");

    let options = StoreOptions { cache_bytes: 1 << 20 };
    let mut kv = Kv::open(Arc::new(MemDisk::new()), options).expect("an empty disk");
    for index in 1..=2 {
        let id = LogId { term: 1, index };
        let steps = commands.iter().cloned().map(Payload::Command);
        let entries = steps.map(|payload| Entry { id, payload });
        kv.apply(entries.collect()).expect("valid commands are applied");
    }
    read_all(&kv.reader().snapshot());
}
