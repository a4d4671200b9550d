//! Expiry: while this node leads, it proposes the end of records and leases whose time is up.
//!
//! What an end is, and by which clock, stands in `storage::kv`'s `deadlines`. Here is only who says when: the
//! leader, who looks every `LOOK_EVERY` at the first deadline, which is one lookup however much waits.
//! A leader that is none any more proposes in vain, one whose clock is behind proposes late, and a proposal that
//! nothing came of is made again: none of that can end what is not due, since the log's clock decides.
//!
//! A new leader waits for `GRACE` first. While there was none, nobody could put a record anew or keep a lease alive;
//! whoever went on trying gets to say so before the time without a leader is held against them.
//!
//! A burst is worked off in entries of bounded work, one at a time, so that other writes come between.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::context::Context;
use super::propose::Running;
use super::watch::is_running;
use super::write::{Attempt, propose};
use crate::actors::messages::Write;
use crate::types::{Operation, Outcome};

/// How often deadlines are looked at: how late a record may be gone on an idle cluster, beside the time of a write.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a new leader ends nothing: a client that goes on trying tries again after a second at the latest, with
/// as much left for the answer.
pub const GRACE: Duration = Duration::from_secs(2);

/// How long to wait for a proposal before looking again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Expires what is due, until this Raft ends.
pub async fn follow(context: Arc<Context>, raft: Arc<Running>) {
    let mut leads_since = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !is_running(&context, &raft) {
            return;
        }
        if !context.leads(&raft) {
            leads_since = None;
            continue;
        }
        let leads_since = *leads_since.get_or_insert_with(Instant::now);
        while leads_since.elapsed() >= GRACE && context.leads(&raft) && is_due(&context) {
            let expire = Write {
                operation: Operation::Expire,
                request_id: None,
                timeout: PATIENCE,
                forward: false,
                trace: None,
            };
            match propose(&context, &raft, &expire, Instant::now() + PATIENCE).await {
                Attempt::Done(Outcome::Expired { keys, leases, .. }) => {
                    context.metrics.expired_keys.inc_by(keys);
                    context.metrics.expired_leases.inc_by(leases);
                }
                _ => break, // it is looked at again
            }
        }
    }
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
