//! Watches a running Raft: metrics and log lines, and when a checkpoint is due by bytes.
//!
//! openraft takes a checkpoint after so many entries. Entries may be large, so bytes are bounded here: past
//! `checkpoint_bytes` of new log a checkpoint is taken, too. The log is purged behind it (`purge.rs`).

use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use tokio::time::timeout;

use super::context::{Context, peer_progress};
use super::propose::Running;
use super::purge::{self, LogSize};
use super::types::{Metrics, members};
use crate::actors::space::Room;
use crate::types::NodeId;

/// How often the size of the log is looked at, and whether the leader was heard.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Keeps the metrics up to date until this Raft ends.
pub async fn follow(context: Arc<Context>, raft: Arc<Running>) {
    let mut changes = raft.metrics();
    let mut leader: Option<NodeId> = None;
    let mut elected_in = None;
    let mut membership = None;
    loop {
        {
            let now = changes.borrow_watched();
            let metrics = &context.metrics;
            metrics.term.set(now.current_term);
            if now.state == ServerState::Leader && elected_in != Some(now.current_term) {
                elected_in = Some(now.current_term);
                context.note_elected();
            }
            note_leader(&context, &now);
            metrics.is_learner.set(u64::from(now.state == ServerState::Learner));
            metrics.commit_index.set(now.local_committed.map_or(0, |id| id.index));
            metrics.last_log_index.set(now.last_log_index.unwrap_or(0));
            metrics.snapshot_index.set(now.snapshot.map_or(0, |id| id.index));
            if *now.membership_config.log_id() != membership {
                membership = *now.membership_config.log_id();
                metrics.members.set(now.membership_config.nodes().count() as u64);
                metrics.voters.set(now.membership_config.voter_ids().count() as u64);
                metrics.peers.forget();
                let nodes = now.membership_config.nodes();
                context
                    .peers
                    .remember(nodes.map(|(id, node)| (*id, node.raft_addr.clone())).collect());
            }
            let leads = context.leader_by(&now);
            if leads != leader {
                leader = leads;
                metrics.leader_changes.inc();
                let known = leader.and_then(|id| now.membership_config.get_node(&id));
                match known {
                    Some(node) => log::info!("{} leads in term {}", node.name, now.current_term),
                    None => log::info!("no leader is known in term {}", now.current_term),
                }
            }
        }
        // A leader that falls silent changes nothing here.
        if let Ok(Err(_)) = timeout(LOOK_EVERY, changes.changed()).await {
            break;
        }
    }
    context.metrics.has_leader.set(0);
    context.metrics.is_leader.set(0);
    // Raft ended. Whoever ends it on purpose takes it out of the context first.
    if is_running(&context, &raft) {
        let reason = match &changes.borrow_watched().running_state {
            Err(fatal) => fatal.to_string(),
            Ok(()) => "it ended without a reason".into(),
        };
        (context.on_fatal)(format!("consensus stopped: {reason}"));
    }
}

/// Who leads, for the metrics.
fn note_leader(context: &Context, now: &Metrics) {
    let leader = context.leader_by(now);
    context.metrics.has_leader.set(u64::from(leader.is_some()));
    context.metrics.is_leader.set(u64::from(leader == Some(now.id)));
}

/// Whether this is the Raft that the node runs now, and not one that it has given up.
pub(super) fn is_running(context: &Context, raft: &Arc<Running>) -> bool {
    context.raft.load_full().is_some_and(|running| Arc::ptr_eq(&running, raft))
}

/// How far the others are, which only a leader knows.
fn note_lag(context: &Context, now: &Metrics) {
    let peers = &context.metrics.peers;
    if now.replication.is_none() {
        return peers.forget_lag();
    }
    for (name, progress) in peer_progress(now, &members(&now.membership_config)) {
        peers.set_lag(&name, progress.lag);
    }
}

/// Takes checkpoints when the log grew by `checkpoint_bytes`, until this Raft ends.
pub async fn checkpoints(context: Arc<Context>, raft: Arc<Running>) {
    let (mut taken_at, mut counted) = (0, 0);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(log) = context.log.load_full() else { return };
        if !is_running(&context, &raft) {
            return;
        }
        let (appended, on_disk) = (log.appended_bytes(), log.file_bytes());
        context.metrics.log_bytes.set(on_disk);
        context.metrics.log_staged_bytes.set(log.staged_bytes() as u64);
        context.metrics.log_appended_bytes.inc_by(appended.saturating_sub(counted));
        counted = appended;
        {
            // A leader that is cut off hears nothing, and nothing changes: that it leads no more is seen here.
            let now = raft.metrics();
            let now = now.borrow_watched();
            note_leader(&context, &now);
            note_lag(&context, &now);
        }
        let limit = context.timing.checkpoint_bytes;
        if appended - taken_at >= limit {
            taken_at = appended;
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
        let keep_entries = context.timing.keep_entries;
        let size = LogSize {
            on_disk_bytes: on_disk,
            checkpoint_bytes: limit,
            keep_entries,
            is_disk_full: context.space.room() != Room::Enough,
        };
        let upto = purge::upto(&raft.metrics().borrow_watched(), &size, raft.catch_ups());
        if let Some(upto) = upto
            && raft.trigger().purge_log(upto).await.is_err()
        {
            return;
        }
    }
}
