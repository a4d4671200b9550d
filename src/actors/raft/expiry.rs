//! Expiry: while this node leads, it proposes the end of records whose time is up.
//!
//! What a record's end is, and by which clock, stands in `storage::kv`'s `deadlines`. Here is only who says when: the
//! leader, who looks every `LOOK_EVERY` at the first deadline, which is one lookup however many records wait.
//! A leader that is none any more proposes in vain, one whose clock is behind proposes late, and a proposal that
//! nothing came of is made again: none of that can end a record that is not due, since the log's clock decides.
//!
//! A burst is worked off in batches of [`EXPIRE_BATCH_KEYS`], one at a time, so that other writes come between.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::context::Context;
use super::types::Raft;
use super::watch::is_running;
use super::write::{Attempt, propose};
use crate::actors::messages::Write;
use crate::types::{EXPIRE_BATCH_KEYS, Operation, Outcome};

/// How often deadlines are looked at: how late a record may be gone on an idle cluster, beside the time of a write.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long to wait for a proposal before looking again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Expires what is due, until this Raft ends.
pub async fn follow(context: Arc<Context>, raft: Arc<Raft>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !is_running(&context, &raft) {
            return;
        }
        while leads(&context, &raft) && is_due(&context) {
            let expire = Write {
                operation: Operation::Expire,
                request_id: None,
                timeout: PATIENCE,
                forward: false,
            };
            match propose(&context, &raft, &expire, Instant::now() + PATIENCE).await {
                Attempt::Done(Outcome::Deleted { count, .. }) => {
                    context.metrics.expired_keys.inc_by(count);
                    if count < EXPIRE_BATCH_KEYS as u64 {
                        break;
                    }
                }
                _ => break, // it is looked at again
            }
        }
    }
}

fn leads(context: &Context, raft: &Raft) -> bool {
    context.leader(raft).is_some_and(|(leader, _)| leader == context.own_id())
}

fn is_due(context: &Context) -> bool {
    let state = context.reader.snapshot();
    match state.next_deadline_ms() {
        Ok(deadline_ms) => {
            let now_ms = context.clock.unix_ms().max(state.clock_ms());
            deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms)
        }
        Err(error) => {
            (context.on_fatal)(format!("the index of deadlines cannot be read: {error}"));
            false
        }
    }
}
