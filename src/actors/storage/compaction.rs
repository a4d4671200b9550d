//! Driving a compaction: steps between the batches, and the checkpoints that they wait for.

use std::time::Duration;

use actix::prelude::*;

use super::StorageActor;
use crate::actors::messages::{Compact, Compacting, RequestError, name_of};
use crate::storage::compact::CompactProgress;

/// How long the steps of a compaction are apart: time for more batches than one, and for readers.
const COMPACT_STEP_EVERY: Duration = Duration::from_millis(2);

impl StorageActor {
    /// Begins a compaction if one is worth it, or goes on with the one that waited for a checkpoint.
    pub(super) fn compact(&mut self, ctx: &mut Context<Self>) {
        if self.compacting.is_none() && self.kv.wants_compaction() {
            self.begin_compaction();
        }
        if self.compacting.is_some() && !self.step_due {
            self.step_due = true;
            ctx.run_later(COMPACT_STEP_EVERY, |actor, ctx| {
                actor.step_due = false;
                actor.compact_step(ctx);
            });
        }
    }

    fn begin_compaction(&mut self) {
        let stats = self.kv.stats();
        log::info!(
            "compaction begins: {} of {} bytes of the file are free",
            stats.free_bytes,
            stats.file_bytes
        );
        self.compacting = Some(stats.file_bytes);
        self.metrics.compacting.set(1);
    }

    /// There is no compaction any more, or it is of a file that is not this one's any more.
    pub(super) fn end_compaction(&mut self) {
        if self.compacting.take().is_some() {
            self.metrics.compactions.inc();
        }
        self.metrics.compacting.set(0);
    }

    fn compact_step(&mut self, ctx: &mut Context<Self>) {
        let Some(begun_bytes) = self.compacting.filter(|_| !self.closing) else { return };
        match self.kv.compact_step() {
            Ok(CompactProgress::Stepped) => self.compact(ctx),
            Ok(CompactProgress::NeedsCheckpoint) => self.checkpoint(ctx),
            Ok(CompactProgress::Done) => {
                self.publish_sizes();
                self.end_compaction();
                let now = self.kv.stats().file_bytes;
                log::info!("compaction ends: the file has {now} bytes, it had {begun_bytes}");
            }
            Err(error) => {
                self.end_compaction();
                log::warn!("compaction ends, the store is as it was: {error}");
            }
        }
    }
}

impl Handler<Compact> for StorageActor {
    type Result = Result<Compacting, RequestError>;

    fn handle(&mut self, message: Compact, ctx: &mut Self::Context) -> Self::Result {
        if self.closing {
            return Err(RequestError::NotReady { reason: "this node is closing".into() });
        }
        let stats = self.kv.stats();
        let begun = self.compacting.is_none();
        if begun {
            log::info!("a client asks for a compaction request_id={}", name_of(&message.trace));
            self.begin_compaction();
            self.compact(ctx);
        }
        Ok(Compacting {
            begun,
            file_bytes: stats.file_bytes,
            live_bytes: stats.live_bytes,
            free_bytes: stats.free_bytes,
        })
    }
}
