//! A leader whose disk stands still gives leadership away.
//!
//! Its followers' disks are a quorum, so that entries go on being committed without it. But they wait in its memory, which has a
//! bound, and it applies nothing when its checkpoint waits for the disk too, or a vote. So when a flush of the log does not end in twice the
//! longest election timeout, the most up-to-date other voter takes over, and does it again as long as this node leads. A full disk
//! is another thing: reads and deletes go on then ([`crate::actors::space`]), and the others' may be as full.
//!
//! Left out: a disk that is slow and not still. How slow is too slow only an operator knows: the metrics tell, and `POST /transfer`
//! moves leadership.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, sleep};

use super::admin::step_aside;
use super::context::Context;
use super::propose::Running;
use super::types::has_one_voter;
use super::watch::is_running;
use crate::actors::space::Room;
use crate::storage::log::Lsn;

/// How often the log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Since when no flush has ended, though there is something to flush.
#[derive(Default)]
struct Stall {
    since: Option<(Lsn, Instant)>,
}

impl Stall {
    /// How long the log has stood still at `durable`.
    fn look(&mut self, has_staged: bool, durable: Lsn, now: Instant) -> Duration {
        if !has_staged {
            self.since = None;
            return Duration::ZERO;
        }
        match self.since {
            Some((at, since)) if at == durable => now - since,
            _ => {
                self.since = Some((durable, now));
                Duration::ZERO
            }
        }
    }
}

/// Watches the flushes of the log, until this Raft ends.
pub async fn follow(context: Arc<Context>, raft: Arc<Running>) {
    let limit = context.timing.leader_silence();
    let mut stall = Stall::default();
    loop {
        sleep(LOOK_EVERY).await;
        let Some(log) = context.log.load_full() else { return };
        if !is_running(&context, &raft) {
            return;
        }
        let stalled = stall.look(log.staged_bytes() > 0, log.durable(), Instant::now());
        if stalled < limit || context.space.room() != Room::Enough || !context.leads(&raft) {
            continue;
        }
        if has_one_voter(&raft.metrics().borrow_watched().membership_config) {
            continue; // nobody could take over
        }
        log::warn!(
            "no flush of the log has ended for {stalled:?}: the disk of this leader stands still"
        );
        step_aside(&context, &raft, Instant::now() + limit).await;
        stall = Stall::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_while_nothing_becomes_durable_is_a_stall() {
        let (mut stall, begun) = (Stall::default(), Instant::now());
        let mut look = |has_staged, durable, after_ms| {
            let now = begun + Duration::from_millis(after_ms);
            stall.look(has_staged, Lsn(durable), now).as_millis()
        };
        assert_eq!(look(true, 5, 0), 0);
        assert_eq!(look(true, 5, 100), 100);
        assert_eq!(look(true, 6, 200), 0, "a flush has ended");
        assert_eq!(look(true, 6, 300), 100);
        assert_eq!(look(false, 6, 400), 0, "nothing waits");
        assert_eq!(look(true, 6, 900), 0, "it did not wait all the time");
    }
}
