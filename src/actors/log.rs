//! The log actor: makes what is staged in the Raft log durable, many requests to one fsync.
//!
//! Staging happens elsewhere, through the shared `Log` handle. A [`Persist`] is noted, and one
//! flush is scheduled behind whatever else is in the mailbox by then; the flush takes all that is staged and
//! answers all that waits. In a real node the actor is alone on its thread, which an fsync may block.
//!
//! A failed write or fsync is final: what is on disk is no longer known, so the node stops.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use super::OnFatal;
use super::messages::inside::{Close, Persist, Persisted, WipeLog};
use crate::metrics::Metrics;
use crate::storage::disk::Disk;
use crate::storage::log::{Log, LogError, LogOptions, LogWriter};

/// Quiet time after a flush before the next segment is prepared ahead of need.
const MAINTAIN_AFTER: Duration = Duration::from_millis(20);

/// See the module.
pub struct LogActor {
    writer: LogWriter,
    disk: Arc<dyn Disk>,
    options: LogOptions,
    waiting: Vec<Persisted>,
    scheduled: bool,
    maintenance: bool,
    metrics: Arc<Metrics>,
    on_fatal: OnFatal,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

impl LogActor {
    pub fn new(
        writer: LogWriter,
        disk: Arc<dyn Disk>,
        options: LogOptions,
        metrics: Arc<Metrics>,
        on_fatal: OnFatal,
    ) -> LogActor {
        LogActor {
            writer,
            disk,
            options,
            waiting: Vec::new(),
            scheduled: false,
            maintenance: false,
            metrics,
            on_fatal,
        }
    }

    fn flush(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let begun = Instant::now();
        match self.writer.flush() {
            Ok(_) => {
                self.metrics.log_fsync.observe(begun.elapsed());
                waiting.into_iter().for_each(|done| done(Ok(())));
            }
            Err(error) => {
                let reason = error.to_string();
                waiting.into_iter().for_each(|done| done(Err(io::Error::other(reason.clone()))));
                (self.on_fatal)(reason);
            }
        }
    }

    fn maintain(&mut self) {
        self.maintenance = false;
        if let Err(error) = self.writer.maintain() {
            match error.is_disk_full() {
                true => log::error!("the log cannot grow: {error}"),
                false => (self.on_fatal)(error.to_string()),
            }
        }
    }

    fn wipe(&mut self) -> Result<Log, LogError> {
        Log::wipe(&self.disk)?;
        let (log, writer, _) = Log::open(self.disk.clone(), self.options.clone())?;
        self.writer = writer;
        Ok(log)
    }
}

impl Actor for LogActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Bounded by what openraft has in flight; a full mailbox would only block its senders.
        ctx.set_mailbox_capacity(1024);
    }
}

impl Handler<Persist> for LogActor {
    type Result = ();

    fn handle(&mut self, message: Persist, ctx: &mut Self::Context) {
        self.waiting.push(message.done);
        if !std::mem::replace(&mut self.scheduled, true) {
            ctx.notify(Flush);
        }
    }
}

impl Handler<Flush> for LogActor {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Self::Context) {
        self.scheduled = false;
        self.flush();
        if !std::mem::replace(&mut self.maintenance, true) {
            ctx.run_later(MAINTAIN_AFTER, |actor, _| actor.maintain());
        }
    }
}

impl Handler<WipeLog> for LogActor {
    type Result = Result<Log, io::Error>;

    fn handle(&mut self, _: WipeLog, _: &mut Self::Context) -> Self::Result {
        self.wipe().map_err(io::Error::other)
    }
}

impl Handler<Close> for LogActor {
    type Result = ();

    fn handle(&mut self, _: Close, ctx: &mut Self::Context) {
        self.flush();
        self.maintain();
        ctx.stop();
    }
}
