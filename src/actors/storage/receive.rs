//! Receiving a snapshot: piece by piece into a store beside the present one, which then takes its place.
//!
//! One comes at a time; another that begins takes its place. What came whole waits, by the number of its transfer, until
//! Raft installs it or gives it up.

use std::io;

use actix::prelude::*;
use tokio::time::Instant;

use super::StorageActor;
use crate::actors::messages::inside::{
    BeginReceive, DropReceived, FinishReceive, Install, Receive,
};
use crate::storage::backup::{Import, ImportError};
use crate::storage::kv::AppliedState;

/// A snapshot that is coming.
pub struct Receiving {
    transfer: u64,
    import: Import,
    begun: Instant,
}

impl StorageActor {
    /// A snapshot that was coming does not come any more.
    pub(super) fn give_up_receiving(&mut self) {
        if self.receiving.take().is_some() {
            self.metrics.snapshot_receive_failures.inc();
        }
    }

    /// Why a snapshot is not received. It may have the room that the reserve held when it comes again.
    fn not_received(&self, error: ImportError) -> io::Error {
        if error.is_disk_full() {
            self.space.note_full(&error);
        }
        io::Error::other(error)
    }
}

impl Handler<BeginReceive> for StorageActor {
    type Result = Result<u64, io::Error>;

    fn handle(&mut self, _: BeginReceive, _: &mut Self::Context) -> Self::Result {
        // The one that was under way is dropped first: it uses disk space.
        self.give_up_receiving();
        self.transfers += 1;
        let begun = Import::begin(&self.kv, self.transfers);
        let import = begun.map_err(|error| self.not_received(error.into()))?;
        let (transfer, begun) = (self.transfers, Instant::now());
        self.receiving = Some(Receiving { transfer, import, begun });
        Ok(self.transfers)
    }
}

fn no_transfer(transfer: u64) -> io::Error {
    io::Error::other(format!("snapshot transfer {transfer} is not under way; begin again"))
}

impl Handler<Receive> for StorageActor {
    type Result = Result<(), io::Error>;

    fn handle(&mut self, message: Receive, _: &mut Self::Context) -> Self::Result {
        let coming = self.receiving.as_mut().filter(|it| it.transfer == message.transfer);
        let coming = coming.ok_or_else(|| no_transfer(message.transfer))?;
        // The answer was lost, and the sender gives the piece again.
        if coming.import.has_just_taken(message.sequence) {
            return Ok(());
        }
        let piece_bytes = message.piece.len() as u64;
        match coming.import.take_piece(message.sequence, message.piece) {
            Ok(()) => {
                self.metrics.snapshot_received_bytes.inc_by(piece_bytes);
                Ok(())
            }
            Err(error) => {
                // What came so far takes room that may be the very reason.
                self.give_up_receiving();
                Err(self.not_received(error))
            }
        }
    }
}

impl Handler<FinishReceive> for StorageActor {
    type Result = Result<AppliedState, io::Error>;

    fn handle(&mut self, message: FinishReceive, _: &mut Self::Context) -> Self::Result {
        let mut came = self
            .receiving
            .take_if(|coming| coming.transfer == message.transfer)
            .ok_or_else(|| no_transfer(message.transfer))?;
        match came.import.finish() {
            Ok(state) => {
                self.metrics.snapshot_receive.observe(came.begun.elapsed());
                self.received.insert(came.transfer, came.import);
                Ok(state)
            }
            Err(error) => {
                self.metrics.snapshot_receive_failures.inc();
                Err(self.not_received(error))
            }
        }
    }
}

impl Handler<Install> for StorageActor {
    type Result = Result<(), io::Error>;

    fn handle(&mut self, message: Install, _: &mut Self::Context) -> Self::Result {
        self.check_life(message.life)?;
        let import =
            self.received.remove(&message.transfer).ok_or_else(|| no_transfer(message.transfer))?;
        self.file += 1;
        self.end_compaction();
        let installed = import.install(&mut self.kv).map(|()| self.publish());
        installed.map_err(|error| self.fatal(error))
    }
}

impl Handler<DropReceived> for StorageActor {
    type Result = ();

    fn handle(&mut self, message: DropReceived, _: &mut Self::Context) {
        self.received.remove(&message.transfer);
    }
}
