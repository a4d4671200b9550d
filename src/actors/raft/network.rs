//! openraft's network over the peer links.

use std::future::Future;
use std::time::Duration;

use openraft::alias::SnapshotOf;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::TypeConfigExt;
use openraft::{OptionalSend, RaftNetworkV2, StorageError};

use super::peers::{Lane, PeerError, Peers};
use super::rpc::{Request, Response};
use super::state_machine::SnapshotData;
use super::transfer::{self, Pace, SendError};
use super::types::{PeerNode, TypeConfig, Vote};
use crate::actors::peer::link::LinkError;
use crate::types::NodeId;

/// Makes a client for each peer.
pub struct NetworkFactory {
    pub own_id: NodeId,
    pub peers: Peers,
    /// How fast snapshots are sent to each peer; 0 for as fast as it goes.
    pub snapshot_bytes_per_second: u64,
}

impl RaftNetworkFactory<TypeConfig> for NetworkFactory {
    type Network = PeerClient;

    async fn new_client(&mut self, target: NodeId, node: &PeerNode) -> PeerClient {
        PeerClient {
            own_id: self.own_id,
            target,
            node: node.clone(),
            peers: self.peers.clone(),
            lane: Lane::Raft,
            snapshot_bytes_per_second: self.snapshot_bytes_per_second,
        }
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &PeerNode) -> PeerClient {
        PeerClient { lane: Lane::Heartbeat, ..self.new_client(target, node).await }
    }
}

/// Raft's RPCs to one peer.
pub struct PeerClient {
    own_id: NodeId,
    target: NodeId,
    node: PeerNode,
    peers: Peers,
    lane: Lane,
    snapshot_bytes_per_second: u64,
}

/// Time for a peer to take entries: well above the worst fsync, and enough for the largest entry on a slow
/// network. openraft's own limit is made for heartbeats; an answer that comes later than that still counts.
const APPEND_LIMIT: Duration = Duration::from_secs(5);

impl PeerClient {
    async fn ask(
        &self,
        request: Request,
        timeout: Duration,
        action: RPCTypes,
    ) -> Result<Response, RPCError<TypeConfig>> {
        self.peers
            .ask(self.target, &self.node, self.lane, &request, timeout)
            .await
            .map_err(|error| self.rpc_error(error, action, timeout))
    }

    /// Unreachable backs off, a timeout or a broken connection is retried at once.
    fn rpc_error(
        &self,
        error: PeerError,
        action: RPCTypes,
        timeout: Duration,
    ) -> RPCError<TypeConfig> {
        match error {
            PeerError::Link(error @ LinkError::Unreachable { .. }) => {
                RPCError::Unreachable(Unreachable::new(&error))
            }
            PeerError::Link(LinkError::Lost { .. }) => {
                RPCError::Timeout(Timeout { action, id: self.own_id, target: self.target, timeout })
            }
            // The peer is there but cannot serve (it starts, or is being reset).
            PeerError::Failed(error) => RPCError::Unreachable(Unreachable::new(&error)),
            error @ (PeerError::Codec(_) | PeerError::Mismatch) => {
                RPCError::Unreachable(Unreachable::new(&error))
            }
        }
    }
}

fn mismatch<T>() -> Result<T, RPCError<TypeConfig>> {
    Err(RPCError::Network(NetworkError::new(&PeerError::Mismatch)))
}

impl RaftNetworkV2<TypeConfig> for PeerClient {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let limit = match rpc.entries.is_empty() {
            true => option.soft_ttl(),
            false => APPEND_LIMIT.max(option.soft_ttl()),
        };
        match self.ask(Request::Append(rpc), limit, RPCTypes::AppendEntries).await? {
            Response::Append(response) => Ok(response),
            _ => mismatch(),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.ask(Request::Vote(rpc), option.soft_ttl(), RPCTypes::Vote).await? {
            Response::Vote(response) => Ok(response),
            _ => mismatch(),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.ask(Request::PreVote(rpc), option.soft_ttl(), RPCTypes::Vote).await? {
            Response::Vote(response) => Ok(response),
            _ => mismatch(),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = Request::TransferLeader(request);
        match self.ask(request, option.soft_ttl(), RPCTypes::TransferLeader).await? {
            Response::TransferLeader(response) => Ok(response),
            _ => mismatch(),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let link = self.peers.link(self.target, &self.node, Lane::Snapshot);
        let pace =
            Pace { timeout: option.soft_ttl(), bytes_per_second: self.snapshot_bytes_per_second };
        let sending = transfer::send(link, vote, snapshot, pace);
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = sending => sent.map_err(|error| match error {
                SendError::Peer(error) => {
                    self.rpc_error(error, RPCTypes::InstallSnapshot, option.soft_ttl()).into()
                }
                // A leader that cannot read its state would keep whoever needs it from ever catching up.
                SendError::Own(error) => {
                    StorageError::read_snapshot(None, TypeConfig::err_from_error(&error)).into()
                }
            }),
        }
    }
}
