//! Messages between the actors of one node: the log, the storage, the membership.
//!
//! The HTTP floor does not see these. Whoever handles one waits for a disk at most, the storage actor
//! for its checkpoint writer besides; none waits for an actor above it, so there is no cycle of sends.

use std::io;

use actix::prelude::*;
use bytes::Bytes;

use crate::storage::kv::{AppliedState, Entry, KvReader, KvSnapshot};
use crate::storage::log::Log;
use crate::types::Outcome;

/// Called once when what was staged in the log before is durable, or surely failed.
pub type Persisted = Box<dyn FnOnce(Result<(), io::Error>) + Send>;

/// To the log actor: make all that is staged durable, then call `done`. Many of these share one
/// fsync.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Persist {
    pub done: Persisted,
}

/// To the log actor: throw the log away and begin an empty one (the node starts a new life).
#[derive(Message)]
#[rtype(result = "Result<Log, io::Error>")]
pub struct WipeLog;

/// To the storage actor: apply committed entries, in order, in one commit. Refused when `life` is not the
/// store's: a Raft that was given up may still have work under way.
#[derive(Message)]
#[rtype(result = "Result<Vec<Outcome>, io::Error>")]
pub struct Apply {
    pub life: u64,
    pub entries: Vec<Entry>,
}

/// To the storage actor: make the present state durable (a checkpoint) and return it, pinned.
#[derive(Message)]
#[rtype(result = "Result<KvSnapshot, io::Error>")]
pub struct TakeSnapshot;

/// To the storage actor: the state as of the last checkpoint, pinned; `None` before the first.
#[derive(Message)]
#[rtype(result = "Option<KvSnapshot>")]
pub struct LastSnapshot;

/// To the storage actor: begin to receive a snapshot; one that was begun before is dropped.
/// Answers with the number of the transfer.
#[derive(Message)]
#[rtype(result = "Result<u64, io::Error>")]
pub struct BeginReceive;

/// To the storage actor: the next piece of the snapshot that is being received.
#[derive(Message)]
#[rtype(result = "Result<(), io::Error>")]
pub struct Receive {
    pub transfer: u64,
    /// Counts the pieces from 0; a gap or a repetition is refused.
    pub sequence: u64,
    pub piece: Bytes,
}

/// To the storage actor: all pieces came. The answer says what the received state holds.
#[derive(Message)]
#[rtype(result = "Result<AppliedState, io::Error>")]
pub struct FinishReceive {
    pub transfer: u64,
}

/// To the storage actor: put a received state in place of the present one, atomically.
#[derive(Message)]
#[rtype(result = "Result<(), io::Error>")]
pub struct Install {
    pub life: u64,
    pub transfer: u64,
}

/// To the storage actor: a received state is not wanted any more, if it is still there.
#[derive(Message)]
#[rtype(result = "()")]
pub struct DropReceived {
    pub transfer: u64,
}

/// To the storage actor: throw the state away and begin an empty one, in a new life whose number is the
/// answer. The first life is 0.
#[derive(Message)]
#[rtype(result = "Result<u64, io::Error>")]
pub struct WipeStore;

/// To the storage actor: where to read.
#[derive(Message)]
#[rtype(result = "KvReader")]
pub struct GetReader;

/// To any actor that owns files: finish, make durable what can be, and stop.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Close;
