//! What asks for a state and gets one, pinned: reads, and backups.

use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::actor::RaftActor;
use super::context::Context;
use super::read::{self, Pinned, Round};
use super::serve::AskReadIndex;
use crate::actors::messages::{Backup, Read, ReadView, RequestError, TakeBackup, View, name_of};
use crate::actors::storage::{HidingView, PinnedView};
use crate::metrics::Held;
use crate::plants::{Plant, planted};
use crate::storage::backup::file;

fn closing<E>(_: E) -> RequestError {
    RequestError::NotReady { reason: "this node is closing".into() }
}

/// The state that a read asks for.
fn pinned(
    context: Arc<Context>,
    own: Addr<RaftActor>,
    read: Read,
) -> impl Future<Output = Result<Pinned, RequestError>> {
    let ask = move || {
        let asked = own.send(AskReadIndex);
        async move { asked.await.unwrap_or_else(|error| Err(closing(error))) }
    };
    read::read(context, read, ask)
}

impl Handler<Read> for RaftActor {
    type Result = ResponseFuture<Result<ReadView, RequestError>>;

    fn handle(&mut self, message: Read, ctx: &mut Self::Context) -> Self::Result {
        let context = self.context.clone();
        let reading = pinned(context.clone(), ctx.address(), message);
        let held = Held::new(&context.metrics.raft_requests);
        Box::pin(async move {
            let _held = held;
            let Pinned { state, stale_for } = reading.await?;
            let now_ms = context.clock.unix_ms();
            let mut view: Arc<dyn View> = Arc::new(PinnedView(state));
            if planted(Plant::ExpiryByLocalClock) {
                view = Arc::new(HidingView { view, now_ms });
            }
            Ok(ReadView { view, stale_for, now_ms })
        })
    }
}

impl Handler<TakeBackup> for RaftActor {
    type Result = ResponseFuture<Result<Backup, RequestError>>;

    fn handle(&mut self, message: TakeBackup, ctx: &mut Self::Context) -> Self::Result {
        let context = self.context.clone();
        let reading = pinned(context.clone(), ctx.address(), message.of);
        Box::pin(async move {
            let state = reading.await?.state;
            let (cluster_id, now_ms) =
                (context.identity.borrow().cluster_id, context.clock.unix_ms());
            let backup = file::Backup::new(state, cluster_id, now_ms).ok_or_else(|| {
                let reason = "this node holds nothing yet that could be backed up".into();
                RequestError::NotReady { reason }
            })?;
            let file::About { cluster_id, revision, applied, .. } = *backup.about();
            log::info!(
                "a backup of revision {revision} begins request_id={}",
                name_of(&message.trace)
            );
            Ok(Backup { cluster_id, revision, applied, chunks: Box::new(chunks(backup)) })
        })
    }
}

fn chunks(mut backup: file::Backup) -> impl Iterator<Item = Result<Bytes, RequestError>> + Send {
    let mut has_failed = false;
    std::iter::from_fn(move || {
        if has_failed {
            return None;
        }
        let chunk = backup.next_chunk().transpose()?;
        has_failed = chunk.is_err();
        Some(chunk.map_err(|error| RequestError::Storage { detail: error.to_string() }))
    })
}

impl Handler<AskReadIndex> for RaftActor {
    type Result = ResponseFuture<Round>;

    fn handle(&mut self, _: AskReadIndex, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        if self.rounds.join(reply) {
            self.begin_round(ctx);
        }
        Box::pin(async move { answer.await.unwrap_or_else(|error| Err(closing(error))) })
    }
}
