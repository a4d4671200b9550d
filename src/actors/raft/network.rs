//! openraft's network over the peer links.
//!
//! Here is where a leader finds out that a peer has lost what it acknowledged (see [`super::expulsion`]). A log that
//! had an entry under a leader has it for as long as that leader leads: nobody else could make it give the entry up.
//! So a peer that had acknowledged an entry before it was asked whether it has it, and then answers that it has not,
//! has gone back in time. Every heartbeat asks for the newest entry that the peer has acknowledged.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use openraft::alias::SnapshotOf;
use openraft::base::{BoxFuture, BoxStream};
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
use tokio::time::Instant;

use super::peers::{Lane, PeerError, Peers};
use super::pipeline::{self, PATIENCE, Signals};
use super::purge::CatchUps;
use super::rpc::{Request, Response};
use super::state_machine::SnapshotData;
use super::transfer::{self, Pace, SendError};
use super::types::{PeerNode, TypeConfig, Vote};
use crate::actors::peer::link::LinkError;
use crate::types::NodeId;

/// Makes a client for each peer.
pub struct NetworkFactory {
    own_id: NodeId,
    peers: Peers,
    acknowledged: Acknowledged,
    signals: Signals,
    catch_ups: CatchUps,
    /// How fast snapshots are sent to each peer; 0 for as fast as it goes.
    snapshot_bytes_per_second: u64,
}

/// By peer: up to which entry it has acknowledged the log, and to which leadership of this node. Shared by all
/// clients of a factory.
#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<BTreeMap<NodeId, (Vote, u64)>>>);

impl Acknowledged {
    /// What the peer has acknowledged to this leadership so far.
    fn of(&self, peer: NodeId, vote: &Vote) -> Option<u64> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&peer).filter(|(to, _)| to == vote).map(|(_, index)| *index)
    }

    fn note(&self, peer: NodeId, vote: Vote, index: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = all.get(&peer).filter(|(to, _)| *to == vote).map_or(0, |(_, known)| *known);
        all.insert(peer, (vote, index.max(newest)));
    }
}

impl NetworkFactory {
    pub fn new(
        own_id: NodeId,
        peers: Peers,
        signals: Signals,
        catch_ups: CatchUps,
        snapshot_bytes_per_second: u64,
    ) -> NetworkFactory {
        let acknowledged = Acknowledged::default();
        NetworkFactory {
            own_id,
            peers,
            acknowledged,
            signals,
            catch_ups,
            snapshot_bytes_per_second,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for NetworkFactory {
    type Network = PeerClient;

    async fn new_client(&mut self, target: NodeId, node: &PeerNode) -> PeerClient {
        PeerClient {
            own_id: self.own_id,
            target,
            node: node.clone(),
            peers: self.peers.clone(),
            acknowledged: self.acknowledged.clone(),
            signals: self.signals.clone(),
            catch_ups: self.catch_ups.clone(),
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
    acknowledged: Acknowledged,
    signals: Signals,
    catch_ups: CatchUps,
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

    async fn append(
        &self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let limit = match rpc.entries.is_empty() {
            true => option.soft_ttl(),
            false => APPEND_LIMIT.max(option.soft_ttl()),
        };
        let (vote, behind) = (rpc.vote, rpc.prev_log_id.map(|id| id.index));
        let last = rpc.entries.last().map(|entry| entry.log_id.index).or(behind);
        // Before the question is sent: what is acknowledged after it may be younger than the answer.
        let known = self.acknowledged.of(self.target, &vote);
        let response = match self.ask(Request::Append(rpc), limit, RPCTypes::AppendEntries).await? {
            Response::Append(response) => response,
            _ => return mismatch(),
        };
        let now = match &response {
            AppendEntriesResponse::Success => last,
            AppendEntriesResponse::PartialSuccess(upto) => upto.map(|id| id.index),
            AppendEntriesResponse::Conflict if behind.is_some() && behind <= known => {
                return Err(self.tell_way_back(known.unwrap_or_default(), limit).await);
            }
            AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => None,
        };
        if let Some(index) = now {
            self.acknowledged.note(self.target, vote, index);
        }
        Ok(response)
    }

    /// Tells a peer that it has lost entries. openraft takes it for unreachable: what it would send is what the peer
    /// cannot take.
    async fn tell_way_back(&self, acknowledged: u64, limit: Duration) -> RPCError<TypeConfig> {
        let error = WentBack { name: self.node.name.clone(), acknowledged };
        log::error!("{error}");
        let request = Request::WentBack { node_id: self.target, acknowledged };
        let told = self.peers.ask(self.target, &self.node, Lane::Forward, &request, limit).await;
        if let Err(reason) = told {
            log::warn!("{} cannot be told that it went back in time: {reason}", self.node.name);
        }
        RPCError::Unreachable(Unreachable::new(&error))
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

/// The peer lacks entries that it has acknowledged.
#[derive(Debug, thiserror::Error)]
#[error(
    "{name} had acknowledged the log up to entry {acknowledged}, and lacks some of it: its disk is an older copy"
)]
struct WentBack {
    name: String,
    acknowledged: u64,
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
        self.append(rpc, option).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, pipeline::Result>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let client: &'s PeerClient = self;
        let signals = client.signals.clone();
        // A heartbeat is one request, whose answer openraft takes when the stream has ended.
        let patience = match client.lane {
            Lane::Heartbeat => Duration::ZERO,
            _ => PATIENCE,
        };
        let answers =
            pipeline::run(input, signals, patience, move |rpc| client.append(rpc, option.clone()));
        Box::pin(std::future::ready(Ok(answers)))
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
        let metrics = self.peers.dialer().metrics.clone();
        let begun = Instant::now();
        let upto = snapshot.meta.last_log_id.as_ref().map_or(0, |id| id.index);
        let catch_up = self.catch_ups.begin(self.target, upto);
        let sending = transfer::send(link, vote, snapshot, pace, &metrics);
        let sent: Result<_, StreamingError<TypeConfig>> = tokio::select! {
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
        };
        match &sent {
            Ok(_) => metrics.snapshot_send.observe(begun.elapsed()),
            Err(_) => {
                self.catch_ups.give_up(self.target, catch_up);
                metrics.snapshot_send_failures.inc();
            }
        }
        sent
    }
}
