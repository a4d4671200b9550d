//! Commands that make an entry: how many of them fit, and which is too long for any.

use tokio::sync::oneshot;

use super::types::ENVELOPE_BYTES;
use super::write::Attempt;
use crate::actors::messages::RequestError;
use crate::codec;
use crate::types::Command;

/// Most commands of an entry, so that applying one stays a matter of milliseconds.
const ENTRY_COMMANDS: usize = 512;

/// Bytes up to which an entry takes more than one command. It bounds how long others wait for one to be written and sent.
const ENTRY_BYTES: usize = 256 * 1024;

/// Bytes from which an entry goes though more are not committed: what it costs is mostly its bytes by then.
const LARGE_BYTES: usize = 64 * 1024;

/// Where the log takes only short entries, several commands take this part of one at most: how long they become is known
/// about, before they are encoded.
const LOG_PART: usize = 2;

/// What an entry and the request that brings it to a peer have beside the commands, at most.
const REQUEST_BYTES: usize = 1024;

/// A command, and who waits for what becomes of it.
pub struct Proposal {
    pub command: Command,
    pub reply: oneshot::Sender<Attempt>,
}

/// Commands that make an entry, and who waits for them.
pub struct Batch {
    sealed: Vec<u8>,
    waiting: Vec<oneshot::Sender<Attempt>>,
    /// Longest entry that the log takes.
    record_bytes: usize,
}

impl Batch {
    pub fn new(record_bytes: usize) -> Batch {
        Batch { sealed: Vec::new(), waiting: Vec::new(), record_bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn has_room_for(&self, command: &Command) -> bool {
        let len_bytes = command.operation.payload_bytes() + ENVELOPE_BYTES;
        let most_bytes = ENTRY_BYTES.min(self.record_bytes / LOG_PART);
        self.is_empty()
            || self.len() < ENTRY_COMMANDS && self.sealed.len() + len_bytes <= most_bytes
    }

    /// Whether it is not worth a wait, with so many commands not committed.
    pub fn is_large_beside(&self, uncommitted: usize) -> bool {
        self.len() >= uncommitted.min(ENTRY_COMMANDS) || self.sealed.len() >= LARGE_BYTES
    }

    /// Adds a command for which there is room, or tells who waits for it why that cannot be.
    pub fn add(&mut self, Proposal { command, reply }: Proposal) {
        // Whoever gave up was told that nobody knows; what was not proposed is not applied.
        if reply.is_closed() {
            return;
        }
        let before = self.sealed.len();
        self.sealed.reserve(command.operation.payload_bytes() + ENVELOPE_BYTES);
        let encoded = codec::encode_behind(&command, &mut self.sealed);
        match encoded.map_err(|error| error.to_string()).and_then(|()| self.check_len(before)) {
            Ok(()) => self.waiting.push(reply),
            Err(detail) => {
                self.sealed.truncate(before);
                let _ = reply.send(Attempt::Refused(RequestError::Refused { detail }));
            }
        }
    }

    /// An append that the log refuses ends consensus on the node, and an entry that no frame holds reaches no peer.
    fn check_len(&self, before: usize) -> Result<(), String> {
        let most_bytes = self.record_bytes.saturating_sub(REQUEST_BYTES);
        if self.sealed.len() <= most_bytes {
            return Ok(());
        }
        Err(format!(
            "the command has {} bytes, and an entry of the log at most {most_bytes}",
            self.sealed.len() - before
        ))
    }

    /// What the entry holds, and who waits for it.
    pub fn into_parts(self) -> (Vec<u8>, Vec<oneshot::Sender<Attempt>>) {
        (self.sealed, self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use openraft::EntryPayload;
    use openraft::raft::AppendEntriesRequest;

    use super::super::rpc::Request;
    use super::super::types::{Entry, Sealed, Vote, raft_log_id};
    use super::*;
    use crate::types::{Condition, Key, Lifetime, LogId, Operation};

    fn put(len_bytes: usize) -> (Proposal, oneshot::Receiver<Attempt>) {
        let operation = Operation::Put {
            key: Key::new(Bytes::from_static(b"key")).expect("a key"),
            value: Bytes::from(vec![7; len_bytes]),
            condition: Condition::None,
            lifetime: Lifetime::Unbounded,
        };
        let (reply, answer) = oneshot::channel();
        (Proposal { command: Command { time_ms: 0, request_id: None, operation }, reply }, answer)
    }

    #[test]
    fn a_command_that_no_record_holds_is_refused_and_leaves_nothing() {
        let mut batch = Batch::new(4 << 10);
        let (longest, mut answer_longest) = put((4 << 10) - REQUEST_BYTES - ENVELOPE_BYTES);
        assert!(batch.has_room_for(&longest.command));
        batch.add(longest);
        assert!(answer_longest.try_recv().is_err(), "it is told only when it is applied");
        let taken = batch.into_parts().0.len();
        assert!(taken + REQUEST_BYTES <= 4 << 10);

        let mut batch = Batch::new(4 << 10);
        let (too_long, mut answer) = put(4 << 10);
        batch.add(too_long);
        match answer.try_recv() {
            Ok(Attempt::Refused(RequestError::Refused { detail })) => {
                assert!(detail.contains("at most 3072"), "{detail}");
            }
            _ => panic!("it is refused"),
        }
        assert!(batch.is_empty());
        let (short, _answer) = put(10);
        assert!(batch.has_room_for(&short.command));
        batch.add(short);
        let (sealed, waiting) = batch.into_parts();
        assert_eq!(waiting.len(), 1);
        assert!(sealed.len() < 10 + ENVELOPE_BYTES, "{} bytes", sealed.len());
    }

    #[test]
    fn the_longest_entry_fits_into_a_request_to_a_peer() {
        let most = LogId { term: u64::MAX, index: u64::MAX };
        let sealed = Sealed::new(vec![7; codec::MAX_ENCODED_BYTES - REQUEST_BYTES]);
        let request = Request::Append(AppendEntriesRequest {
            vote: Vote::new_committed(u64::MAX, u64::MAX),
            prev_log_id: Some(raft_log_id(most)),
            entries: vec![Entry {
                log_id: raft_log_id(most),
                payload: EntryPayload::Normal(sealed),
            }],
            leader_commit: Some(raft_log_id(most)),
        });
        let encoded = codec::encode(&request).expect("it fits");
        let decoded: Request =
            codec::decode(&encoded).expect("it fits by the decoder's count, too");
        assert!(matches!(decoded, Request::Append(append) if append.entries.len() == 1));
    }
}
