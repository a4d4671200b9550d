//! The scrub actor: reads again, at a limited rate, what nobody reads.
//!
//! One step verifies some pages of the store's last checkpoint, or some records of the log; then the actor sleeps for as
//! long as the rate asks. A pass goes over all of both, and begins once a day at most. In a real node the actor is
//! alone on its thread, since a step waits for the disk.
//!
//! Damage that is found does not stop the node. Nothing of a damaged page is ever served, because whoever loads it verifies it;
//! all else is as good as before, and if every node stopped at its first bad sector, one bad batch of disks
//! would stop a cluster that has every byte. So it is told, in the log and in `conuredb_scrub_damaged`, each time a pass
//! meets it, until this node's copy is replaced: by its peers, which it asks (`super::membership`), or by the operator. A
//! read or an apply that needs the page fails or stops the node, as ever.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use super::messages::inside::{Close, LastSnapshot};
use super::storage::StorageActor;
use crate::metrics::Metrics;
use crate::storage::inspect::{Damage, KeySpan};
use crate::storage::kv::{KvSnapshot, tree_name};
use crate::storage::log::Log;
use crate::storage::log::scrub::LogScrub;
use crate::storage::scrub::Scrub;

/// About how much a step reads: some milliseconds of a slow disk.
const STEP_BYTES: u64 = 256 << 10;

/// The least time between two steps, whatever the rate.
const LEAST_PAUSE: Duration = Duration::from_millis(20);

/// The time from the beginning of a pass to that of the next, if it does not take longer.
const PASS_EVERY: Duration = Duration::from_secs(24 * 3_600);

/// Bytes of a key that a message shows.
const SHOWN_KEY_BYTES: usize = 64;

/// The log in use, which a wipe replaces; none before the node has one.
pub type CurrentLog = Arc<dyn Fn() -> Option<Arc<Log>> + Send + Sync>;

/// See the module.
pub struct ScrubActor {
    bytes_per_second: u64,
    storage: Addr<StorageActor>,
    log: CurrentLog,
    metrics: Arc<Metrics>,
    stage: Stage,
    /// In this pass.
    damages: u64,
    begun: Instant,
}

enum Stage {
    Store(Scrub),
    Log(LogScrub),
}

impl ScrubActor {
    /// `bytes_per_second` is not zero.
    pub fn new(
        bytes_per_second: u64,
        storage: Addr<StorageActor>,
        log: CurrentLog,
        metrics: Arc<Metrics>,
    ) -> ScrubActor {
        let (stage, begun) = (Stage::Store(Scrub::default()), Instant::now());
        ScrubActor { bytes_per_second, storage, log, metrics, stage, damages: 0, begun }
    }

    fn step(&mut self, ctx: &mut Context<Self>) {
        match &mut self.stage {
            Stage::Store(_) => {
                let asked = self.storage.send(LastSnapshot).into_actor(self);
                ctx.spawn(asked.map(|state, actor, ctx| {
                    if let Ok(state) = state {
                        actor.step_store(state, ctx);
                    } // else the node closes
                }));
            }
            Stage::Log(scrub) => {
                let done = (self.log)().map(|log| scrub.step(&log, STEP_BYTES)).unwrap_or_default();
                for damage in &done.damages {
                    log::error!("scrub: {damage}");
                }
                let is_whole = done.read_bytes > 0 && !done.is_pass_done;
                self.note(done.read_bytes, done.damages.len());
                match is_whole {
                    true => self.sleep(self.pause(done.read_bytes), ctx),
                    false => self.end_pass(ctx),
                }
            }
        }
    }

    /// A step over the last checkpoint, if there was one.
    fn step_store(&mut self, state: Option<KvSnapshot>, ctx: &mut Context<Self>) {
        let Stage::Store(scrub) = &mut self.stage else { return };
        let Some(state) = state else {
            self.stage = Stage::Log(LogScrub::default());
            return self.sleep(LEAST_PAUSE, ctx);
        };
        let done = state.scrub(scrub, STEP_BYTES);
        if done.is_pass_done {
            self.stage = Stage::Log(LogScrub::default());
        }
        done.damages.iter().for_each(tell);
        self.note(done.read_bytes, done.damages.len());
        self.sleep(self.pause(done.read_bytes), ctx);
    }

    fn note(&mut self, read_bytes: u64, damages: usize) {
        let known = self.metrics.scrub_damaged.get();
        if known == 0 {
            // What this pass found is gone with a former life of the node.
            self.damages = 0;
        }
        self.damages += damages as u64;
        self.metrics.scrub_bytes.inc_by(read_bytes);
        // Until a pass has ended, what the one before found still stands.
        self.metrics.scrub_damaged.set(known.max(self.damages));
    }

    fn end_pass(&mut self, ctx: &mut Context<Self>) {
        self.metrics.scrub_passes.inc();
        self.metrics.scrub_damaged.set(self.damages);
        log::info!("scrub: a pass ends, with {} damages", self.damages);
        let pause = PASS_EVERY.saturating_sub(self.begun.elapsed()).max(LEAST_PAUSE);
        self.stage = Stage::Store(Scrub::default());
        self.damages = 0;
        self.begun = Instant::now() + pause;
        self.sleep(pause, ctx);
    }

    /// So long that what was read, and this, are not more than the rate.
    fn pause(&self, read_bytes: u64) -> Duration {
        let pause = Duration::from_secs_f64(read_bytes as f64 / self.bytes_per_second as f64);
        pause.max(LEAST_PAUSE)
    }

    fn sleep(&self, pause: Duration, ctx: &mut Context<Self>) {
        ctx.run_later(pause, ScrubActor::step);
    }
}

/// Says what is damaged, whom it affects, and what helps.
fn tell(damage: &Damage) {
    let Damage { error, page, tree } = damage;
    let affected = tree.as_ref().map_or(String::new(), |(id, span)| {
        let name = tree_name(*id).unwrap_or("unknown");
        format!(", which holds {} of the tree {name}", keys(span))
    });
    log::error!("scrub: {error}; it is page {page}{affected}. The node goes on without it");
}

fn keys(span: &KeySpan) -> String {
    let show = |key: &[u8]| {
        let shown = key[..key.len().min(SHOWN_KEY_BYTES)].escape_ascii().to_string();
        if key.len() > SHOWN_KEY_BYTES { shown + "…" } else { shown }
    };
    match (span.only(), &span.high) {
        (Some(key), _) => format!("the value of the key {}", show(key)),
        (None, Some(high)) => format!("the keys from {:?} up to {:?}", show(&span.low), show(high)),
        (None, None) => format!("the keys from {:?} on", show(&span.low)),
    }
}

impl Actor for ScrubActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.sleep(self.pause(STEP_BYTES), ctx);
    }
}

impl Handler<Close> for ScrubActor {
    type Result = ();

    fn handle(&mut self, _: Close, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
