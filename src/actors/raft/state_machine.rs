//! openraft's state machine over the storage actor.
//!
//! What openraft calls a snapshot is here a checkpoint of the store: the state is on disk already, and a snapshot
//! is a pinned root of it. openraft purges the log up to the last snapshot, which is
//! exactly the rule that the log is kept until a checkpoint holds what it did.

use std::io;

use actix::{Addr, MailboxError};
use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, alias::SnapshotOf};

use super::transfer;
use super::types::{
    Entry, Outcomes, RaftLogId, SnapshotMeta, StoredMembership, TypeConfig, expected_bytes, log_id,
    members, raft_log_id,
};
use crate::actors::messages::Member;
use crate::actors::messages::inside::{Apply, GetReader, Install, LastSnapshot, TakeSnapshot};
use crate::actors::storage::StorageActor;
use crate::codec;
use crate::storage::kv::{self, KvSnapshot, Payload};
use crate::types::LogId;

/// Bytes of entries from which on no more are applied in the same commit.
const APPLY_BYTES: usize = 1 << 20;

/// What travels as a snapshot.
pub enum SnapshotData {
    /// A pinned state of this node, to be sent.
    Pinned(Box<KvSnapshot>),
    /// A state that was received and waits to be installed: the number of its transfer.
    Received { transfer: u64 },
}

/// The state machine as openraft sees it.
pub struct StateMachine {
    storage: Addr<StorageActor>,
    /// The life of the store that this belongs to.
    life: u64,
}

fn closed(_: MailboxError) -> io::Error {
    io::Error::other("the storage actor is closed")
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

impl StateMachine {
    pub fn new(storage: Addr<StorageActor>, life: u64) -> StateMachine {
        StateMachine { storage, life }
    }

    /// Applies one batch and answers who waits for it.
    async fn apply_batch(&self, batch: Vec<EntryResponder<TypeConfig>>) -> Result<(), io::Error> {
        let mut entries = Vec::with_capacity(batch.len());
        let mut responders = Vec::with_capacity(batch.len());
        for (entry, responder) in batch {
            let before = entries.len();
            applicable(entry, &mut entries)?;
            responders.push((responder, entries.len() - before));
        }
        let outcomes =
            self.storage.send(Apply { life: self.life, entries }).await.map_err(closed)??;
        let mut outcomes = outcomes.into_iter();
        for (responder, count) in responders {
            let outcomes = outcomes.by_ref().take(count);
            match responder {
                Some(responder) => responder.send(Outcomes(outcomes.collect())),
                None => outcomes.for_each(drop),
            }
        }
        Ok(())
    }
}

/// Puts an openraft entry behind `entries`, as the state machine of floor 1 takes it: a step for each command.
pub(super) fn applicable(entry: Entry, entries: &mut Vec<kv::Entry>) -> Result<(), io::Error> {
    let id = log_id(&entry.log_id);
    let payload = match entry.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Normal(sealed) => {
            let commands = sealed.open().map_err(other)?.into_iter();
            entries.extend(commands.map(|it| kv::Entry { id, payload: Payload::Command(it) }));
            return Ok(());
        }
        EntryPayload::Membership(membership) => {
            let members = membership.nodes().map(|(id, _)| *id).collect();
            let entry = Bytes::from(codec::encode(&membership).map_err(other)?);
            Payload::Membership { entry, members }
        }
    };
    entries.push(kv::Entry { id, payload });
    Ok(())
}

/// A stored membership in openraft's form.
pub(super) fn stored_membership(
    stored: Option<(LogId, Bytes)>,
) -> Result<StoredMembership, io::Error> {
    match stored {
        None => Ok(StoredMembership::default()),
        Some((id, bytes)) => {
            let membership = codec::decode(&bytes).map_err(other)?;
            Ok(StoredMembership::new(Some(raft_log_id(id)), membership))
        }
    }
}

/// The members that a state holds; none if it has no membership yet.
pub fn stored_members(state: &KvSnapshot) -> Result<Vec<Member>, io::Error> {
    Ok(members(&stored_membership(state.membership().map_err(other)?)?))
}

/// What a pinned state holds of the log.
fn state_of(snapshot: &KvSnapshot) -> Result<(Option<RaftLogId>, StoredMembership), io::Error> {
    let state = snapshot.applied_state().map_err(other)?;
    Ok((state.last.map(raft_log_id), stored_membership(state.membership)?))
}

fn snapshot_of(pinned: KvSnapshot) -> Result<SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
    let (last_log_id, last_membership) = state_of(&pinned)?;
    Ok(openraft::Snapshot {
        meta: SnapshotMeta { last_log_id, last_membership },
        snapshot: SnapshotData::Pinned(Box::new(pinned)),
    })
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<RaftLogId>, StoredMembership), io::Error> {
        let reader = self.storage.send(GetReader).await.map_err(closed)?;
        state_of(&reader.snapshot())
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut entries = entries.fuse();
        // The first entry is waited for; what is ready behind it joins the same commit.
        while let Some(first) = entries.next().await {
            let mut batch = vec![first?];
            let mut len_bytes = expected_bytes(batch.iter().map(|(entry, _)| entry));
            while len_bytes < APPLY_BYTES
                && let Some(Some(next)) = entries.next().now_or_never()
            {
                let next = next?;
                len_bytes += expected_bytes([&next.0]);
                batch.push(next);
            }
            self.apply_batch(batch).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { storage: self.storage.clone() }
    }

    async fn install_snapshot(
        &mut self,
        _: &SnapshotMeta,
        data: SnapshotData,
    ) -> Result<(), io::Error> {
        match data {
            // Whoever received it has compared it with its metadata (`super::transfer`).
            SnapshotData::Received { transfer } => {
                self.storage.send(Install { life: self.life, transfer }).await.map_err(closed)?
            }
            SnapshotData::Pinned(pinned) => transfer::copy(&self.storage, self.life, *pinned).await,
        }
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, SnapshotData>>, io::Error> {
        self.storage.send(LastSnapshot).await.map_err(closed)?.map(snapshot_of).transpose()
    }
}

/// Takes checkpoints on openraft's behalf.
pub struct SnapshotBuilder {
    storage: Addr<StorageActor>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        snapshot_of(self.storage.send(TakeSnapshot).await.map_err(closed)??)
    }
}
