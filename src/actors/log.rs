//! The log actor: makes what is staged in the Raft log durable, many requests to one fsync.
//!
//! Staging happens elsewhere, through the shared `Log` handle. A [`Persist`] is noted, and one
//! flush is scheduled behind whatever else is in the mailbox by then; the flush takes all that is staged and
//! answers all that waits. In a real node the actor is alone on its thread, which an fsync may block.
//!
//! A failed write or fsync is final: what is on disk is no longer known, so the node stops. A full disk
//! is not: what was staged waits, and so do those who asked, until there is room ([`super::space`]).
//! openraft bears that: an append's callback comes later, as from a slow disk.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use super::OnFatal;
use super::messages::inside::{Close, Persist, Persisted, WipeLog};
use super::space::{Room, Space};
use crate::metrics::Metrics;
use crate::storage::disk::Disk;
use crate::storage::log::{Log, LogError, LogOptions, LogWriter};

/// Quiet time after a flush before the next segment is prepared ahead of need.
const MAINTAIN_AFTER: Duration = Duration::from_millis(20);

/// Time for others between two pieces of that.
const MAINTAIN_AGAIN_AFTER: Duration = Duration::from_millis(2);

/// How often a full disk is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// See the module.
pub struct LogActor {
    writer: LogWriter,
    disk: Arc<dyn Disk>,
    options: LogOptions,
    waiting: Vec<Persisted>,
    scheduled: bool,
    maintenance: bool,
    space: Arc<Space>,
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
        space: Arc<Space>,
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
            space,
            metrics,
            on_fatal,
        }
    }

    fn flush(&mut self) {
        let begun = Instant::now();
        let mut flushed = self.writer.flush();
        if let Err(error) = &flushed
            && self.waits_for_room(error)
            && self.space.note_full(error)
        {
            flushed = self.writer.flush();
        }
        match flushed {
            Ok(_) => {
                self.metrics.log_fsync.observe(begun.elapsed());
                self.space.note_written();
                self.waiting.drain(..).for_each(|done| done(Ok(())));
            }
            Err(error) if self.waits_for_room(&error) => self.space.note_exhausted(&error),
            Err(error) => {
                self.refuse_waiting(&error.to_string());
                (self.on_fatal)(error.to_string());
            }
        }
    }

    /// Whether nothing was lost by this failure, and all that is staged still waits.
    fn waits_for_room(&self, error: &LogError) -> bool {
        error.is_disk_full() && !self.writer.is_poisoned()
    }

    fn refuse_waiting(&mut self, reason: &str) {
        self.waiting.drain(..).for_each(|done| done(Err(io::Error::other(reason.to_owned()))));
    }

    /// Takes the result of work that is done ahead, and passes it on.
    fn ahead<T>(&self, result: Result<T, LogError>) -> Option<T> {
        match result {
            Ok(done) => Some(done),
            Err(error) => {
                match self.waits_for_room(&error) {
                    true => drop(self.space.note_full(&error)),
                    false => (self.on_fatal)(error.to_string()),
                }
                None
            }
        }
    }

    fn schedule_maintenance(&mut self, after: Duration, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.maintenance, true) {
            return;
        }
        ctx.run_later(after, |actor, ctx| {
            actor.maintenance = false;
            // What room there is on a full disk is not for later.
            if actor.space.room() != Room::Enough {
                return;
            }
            let maintained = actor.writer.maintain();
            if actor.ahead(maintained) == Some(false) {
                actor.schedule_maintenance(MAINTAIN_AGAIN_AFTER, ctx);
            }
        });
    }

    /// Looks whether a full disk has room, and goes on with what waits for it.
    fn look(&mut self) {
        if self.space.room() == Room::Enough {
            return;
        }
        if let Err(error) = self.writer.give_back_spares() {
            (self.on_fatal)(error.to_string());
        }
        // What waits goes first: an entry that is longer than the reserve would take it again at once.
        if !self.waiting.is_empty() {
            self.flush();
        }
        if self.waiting.is_empty() {
            self.space.look();
        }
    }

    fn wipe(&mut self) -> Result<Log, LogError> {
        self.refuse_waiting("the log was wiped");
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
        ctx.run_interval(LOOK_EVERY, |actor, _| actor.look());
    }
}

impl Handler<Persist> for LogActor {
    type Result = ();

    fn handle(&mut self, message: Persist, ctx: &mut Self::Context) {
        self.waiting.push(message.done);
        self.metrics.log_waiting.set(self.waiting.len() as u64);
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
        self.metrics.log_waiting.set(self.waiting.len() as u64);
        if self.space.room() == Room::Enough {
            let done = self.writer.work_ahead();
            self.ahead(done);
            self.schedule_maintenance(MAINTAIN_AFTER, ctx);
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
        self.refuse_waiting("the disk is full, and this node closes");
        if self.space.room() == Room::Enough {
            let maintained = self.writer.maintain();
            self.ahead(maintained);
        }
        ctx.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::storage::disk::MemDisk;
    use crate::storage::log::LogEntry;
    use crate::types::LogId;

    /// Two segments.
    const RESERVE_BYTES: u64 = 16 << 10;

    #[test]
    fn a_disk_with_room_for_the_reserve_and_not_for_what_waits_stays_full() {
        let memory = MemDisk::new();
        let disk: Arc<dyn Disk> = Arc::new(memory.clone());
        let options = LogOptions {
            segment_bytes: RESERVE_BYTES / 2,
            max_payload_bytes: 64 << 10,
            ..LogOptions::default()
        };
        let (log, writer, _) = Log::open(disk.clone(), options.clone()).expect("a log");
        let metrics = Arc::new(Metrics::new("test"));
        let space = Space::open(disk.clone(), RESERVE_BYTES, metrics.clone()).expect("room");
        let space = Arc::new(space);
        let on_fatal: OnFatal = Arc::new(|reason| panic!("{reason}"));
        let mut actor = LogActor::new(writer, disk, options, space.clone(), metrics, on_fatal);

        let used_bytes: usize = memory.contents().values().map(Vec::len).sum();
        memory.set_capacity(Some(used_bytes as u64 + 2 * RESERVE_BYTES));
        let payload = vec![7; 60 << 10].into();
        log.append(vec![LogEntry { id: LogId { term: 1, index: 1 }, payload }]).expect("staged");
        let done = Arc::new(AtomicBool::new(false));
        let tell = done.clone();
        actor.waiting.push(Box::new(move |result| tell.store(result.is_ok(), Ordering::Relaxed)));
        actor.flush();
        assert_eq!(space.room(), Room::Exhausted);

        let calls = |work: &mut dyn FnMut()| {
            let before = memory.calls();
            work();
            memory.calls() - before
        };
        let of_a_flush = calls(&mut || actor.flush());
        let of_a_look = calls(&mut || actor.look());
        assert_eq!(of_a_look, of_a_flush, "the reserve is not taken while something waits");
        assert_eq!(space.room(), Room::Exhausted);
        assert!(!done.load(Ordering::Relaxed));

        memory.set_capacity(None);
        actor.look();
        assert!(done.load(Ordering::Relaxed));
        assert_eq!(space.room(), Room::Enough);
    }
}
