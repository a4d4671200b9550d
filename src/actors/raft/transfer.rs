//! Snapshots between nodes: pieces out, pieces in.
//!
//! The sender walks a pinned state and sends it piece by piece, each acknowledged before the next, so that a
//! slow receiver slows the sender down and neither holds more than a piece. It sends no faster than it is told
//! ([`Pace`]), so that the writes of clients go on beside it. The receiver builds a
//! store beside the present one and puts it in place in one rename (`crate::storage::backup`).
//!
//! A transfer whose connection breaks goes on over the next one: the sender gives the same piece again, for
//! ten seconds at most, and the receiver takes a piece that it has already for well. When one of the two
//! starts again, the transfer does, too; nothing of it is kept.

use std::io;
use std::time::Duration;

use actix::Addr;
use bytes::Bytes;
use openraft::alias::SnapshotOf;
use openraft::raft::SnapshotResponse;
use tokio::time::{Instant, sleep, sleep_until};

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
use crate::metrics::Metrics;
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

/// How long a piece is given again over new connections.
const RESUME_LIMIT: Duration = Duration::from_secs(10);

/// Pause before it is given again.
const RESUME_PAUSE: Duration = Duration::from_millis(100);

/// How fast a snapshot is sent.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Time for the receiver to answer a piece.
    pub timeout: Duration,
    /// Over the whole, with pauses between the pieces; 0 for as fast as it goes.
    pub bytes_per_second: u64,
}

impl Pace {
    /// How long a piece of this length fills the time for.
    fn share(&self, piece_bytes: usize) -> Duration {
        match self.bytes_per_second {
            0 => Duration::ZERO,
            rate => Duration::from_secs_f64(piece_bytes as f64 / rate as f64),
        }
    }
}

/// Sends a snapshot.
pub async fn send(
    link: Link,
    vote: Vote,
    snapshot: SnapshotOf<TypeConfig, SnapshotData>,
    pace: Pace,
    metrics: &Metrics,
) -> Result<SnapshotResponse<TypeConfig>, SendError> {
    let SnapshotData::Pinned(pinned) = snapshot.snapshot else {
        let detail = "a received snapshot is not sent on before it is installed".into();
        return Err(PeerError::Failed(RequestError::Storage { detail }).into());
    };
    let begun = ask(&link, &Request::SnapshotBegin, pace.timeout).await?;
    let Response::SnapshotBegun { transfer } = begun else {
        return Err(PeerError::Mismatch.into());
    };
    let mut export = Export::new(*pinned);
    let mut sequence = 0;
    while let Some(piece) = export.next_piece()? {
        let next_at = Instant::now() + pace.share(piece.len());
        let piece_bytes = piece.len() as u64;
        let request = Request::SnapshotPiece { transfer, sequence, piece: Bytes::from(piece) };
        deliver(&link, &request, pace.timeout).await?;
        metrics.snapshot_sent_bytes.inc_by(piece_bytes);
        sequence += 1;
        sleep_until(next_at).await;
    }
    log::info!("sent a snapshot of {sequence} pieces to {}", link.address());
    let end = Request::SnapshotEnd { transfer, vote, meta: snapshot.meta };
    match ask(&link, &end, pace.timeout).await? {
        Response::SnapshotEnd(response) => Ok(response),
        _ => Err(PeerError::Mismatch.into()),
    }
}

/// Gives the receiver a piece, over as many connections as it takes.
async fn deliver(link: &Link, piece: &Request, timeout: Duration) -> Result<(), PeerError> {
    let give_up = Instant::now() + RESUME_LIMIT;
    loop {
        match ask(link, piece, timeout).await {
            Ok(_) => return Ok(()),
            Err(PeerError::Link(error)) if Instant::now() < give_up => {
                log::info!("a snapshot is interrupted: {error}");
                sleep(RESUME_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
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
