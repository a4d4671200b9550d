//! Snapshots between nodes: pieces out, pieces in.
//!
//! The sender walks a pinned state and sends it piece by piece, each acknowledged before the next, so that a
//! slow receiver slows the sender down and neither holds more than a piece. The receiver builds a
//! store beside the present one and puts it in place in one rename (`crate::storage::backup`). A broken transfer
//! starts over; nothing of it is kept.

use std::io;
use std::time::Duration;

use actix::Addr;
use bytes::Bytes;
use openraft::alias::SnapshotOf;
use openraft::raft::SnapshotResponse;

use super::peers::{PeerError, ask};
use super::rpc::{Request, Response};
use super::state_machine::SnapshotData;
use super::types::{Raft, SnapshotMeta, TypeConfig, Vote, raft_log_id};
use crate::actors::messages::RequestError;
use crate::actors::messages::inside::{
    BeginReceive, DropReceived, FinishReceive, Install, Receive,
};
use crate::actors::peer::link::Link;
use crate::actors::storage::StorageActor;
use crate::storage::backup::Export;
use crate::storage::error::StorageError;
use crate::storage::kv::KvSnapshot;

/// Why a snapshot was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The receiver, or the way to it.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// This node cannot read its own state.
    #[error(transparent)]
    Own(#[from] StorageError),
}

/// Sends a snapshot; `timeout` bounds each piece.
pub async fn send(
    link: Link,
    vote: Vote,
    snapshot: SnapshotOf<TypeConfig, SnapshotData>,
    timeout: Duration,
) -> Result<SnapshotResponse<TypeConfig>, SendError> {
    let SnapshotData::Pinned(pinned) = snapshot.snapshot else {
        let detail = "a received snapshot is not sent on before it is installed".into();
        return Err(PeerError::Failed(RequestError::Storage { detail }).into());
    };
    let Response::SnapshotBegun { transfer } = ask(&link, &Request::SnapshotBegin, timeout).await?
    else {
        return Err(PeerError::Mismatch.into());
    };
    let mut export = Export::new(*pinned);
    let mut sequence = 0;
    while let Some(piece) = export.next_piece()? {
        let request = Request::SnapshotPiece { transfer, sequence, piece: Bytes::from(piece) };
        ask(&link, &request, timeout).await?;
        sequence += 1;
    }
    log::info!("sent a snapshot of {sequence} pieces to {}", link.address());
    let end = Request::SnapshotEnd { transfer, vote, meta: snapshot.meta };
    match ask(&link, &end, timeout).await? {
        Response::SnapshotEnd(response) => Ok(response),
        _ => Err(PeerError::Mismatch.into()),
    }
}

/// Puts a pinned state of another store in place of the present one, without a network between.
pub async fn copy(
    storage: &Addr<StorageActor>,
    life: u64,
    pinned: KvSnapshot,
) -> Result<(), io::Error> {
    let closed = |_| io::Error::other("the storage actor is closed");
    let transfer = storage.send(BeginReceive).await.map_err(closed)??;
    let mut export = Export::new(pinned);
    let mut sequence = 0;
    while let Some(piece) = export.next_piece().map_err(io::Error::other)? {
        let piece = Bytes::from(piece);
        storage.send(Receive { transfer, sequence, piece }).await.map_err(closed)??;
        sequence += 1;
    }
    storage.send(FinishReceive { transfer }).await.map_err(closed)??;
    storage.send(Install { life, transfer }).await.map_err(closed)?
}

fn unavailable(error: impl std::fmt::Display) -> RequestError {
    RequestError::NotReady { reason: error.to_string() }
}

fn stored<T>(result: Result<T, io::Error>) -> Result<T, RequestError> {
    result.map_err(|error| RequestError::Storage { detail: error.to_string() })
}

/// Receiver: begins a transfer.
pub async fn begin(storage: &Addr<StorageActor>) -> Result<Response, RequestError> {
    let transfer = stored(storage.send(BeginReceive).await.map_err(unavailable)?)?;
    Ok(Response::SnapshotBegun { transfer })
}

/// Receiver: takes a piece.
pub async fn piece(
    storage: &Addr<StorageActor>,
    transfer: u64,
    sequence: u64,
    piece: Bytes,
) -> Result<Response, RequestError> {
    stored(storage.send(Receive { transfer, sequence, piece }).await.map_err(unavailable)?)?;
    Ok(Response::SnapshotPieceTaken)
}

/// Receiver: the last piece came; checks the state against its metadata and lets Raft install it.
pub async fn end(
    storage: &Addr<StorageActor>,
    raft: &Raft,
    transfer: u64,
    vote: Vote,
    meta: SnapshotMeta,
) -> Result<Response, RequestError> {
    let received = stored(storage.send(FinishReceive { transfer }).await.map_err(unavailable)?)?;
    let response = if received.last.map(raft_log_id) == meta.last_log_id {
        let snapshot = openraft::Snapshot { meta, snapshot: SnapshotData::Received { transfer } };
        raft.install_full_snapshot(vote, snapshot).await.map_err(unavailable)
    } else {
        let detail = format!(
            "the snapshot was announced up to {:?} but holds {:?}",
            meta.last_log_id, received.last
        );
        Err(RequestError::Storage { detail })
    };
    storage.do_send(DropReceived { transfer });
    Ok(Response::SnapshotEnd(response?))
}
