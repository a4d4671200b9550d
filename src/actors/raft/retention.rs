//! How long the past is kept: while this node leads, its settings count, and what is too old goes.
//!
//! The retention is a part of the replicated state (`storage::kv`'s `retention`). When the leader's settings differ
//! from what is in force, it proposes its own, once: so nodes that are configured differently do not trim differently,
//! the last leader's settings count, and each of the others says that it is of another mind.
//!
//! A store that nobody writes to trims nothing by itself. When something of it is too old, the leader proposes the
//! same again, which trims a bounded part, until nothing is left to trim.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::context::Context;
use super::propose::Running;
use super::watch::is_running;
use super::write::{Attempt, propose};
use crate::actors::messages::Write;
use crate::storage::error::StorageError;
use crate::types::{Operation, Retention};

/// How often the state is looked at: how late changes may go on an idle cluster.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long to wait for a proposal before looking again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sees to the retention, until this Raft ends.
pub async fn follow(context: Arc<Context>, raft: Arc<Running>) {
    let mut told = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !is_running(&context, &raft) {
            return;
        }
        if let Err(error) = see_to_it(&context, &raft, &mut told).await {
            (context.on_fatal)(format!("the retention of changes cannot be read: {error}"));
            return;
        }
    }
}

/// `told` is the retention of which this node has said that it is not its own.
async fn see_to_it(
    context: &Context,
    raft: &Running,
    told: &mut Option<Retention>,
) -> Result<(), StorageError> {
    let own = context.retention;
    loop {
        let state = context.reader.snapshot();
        let in_force = state.retention()?;
        if in_force != own && *told != Some(in_force) {
            log::info!("history is kept by {in_force:?}, and this node is set to {own:?}");
            *told = Some(in_force);
        }
        let leads = context.leads(raft);
        let now_ms = context.clock.unix_ms().max(state.clock_ms());
        if !leads || in_force == own && !state.keeps_too_much(now_ms)? {
            return Ok(());
        }
        if in_force != own {
            log::info!("this node leads: from now on history is kept by {own:?}");
        }
        let retain = Write {
            operation: Operation::Retain(own),
            request_id: None,
            timeout: PATIENCE,
            forward: false,
            trace: None,
        };
        let proposed = propose(context, raft, &retain, Instant::now() + PATIENCE).await;
        if !matches!(proposed, Attempt::Done(_)) {
            return Ok(()); // it is looked at again
        }
    }
}
