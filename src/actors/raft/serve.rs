//! Answers what peers ask: Raft's RPCs straight to openraft, the rest to the actor that owns it.

use std::sync::Arc;
use std::time::Duration;

use actix::{MailboxError, Message, Recipient};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::async_runtime::WatchReceiver;
use tokio::time::timeout;

use super::context::Context;
use super::expulsion::{NoteRemoval, NoteWayBack};
use super::peers::Lane;
use super::read::{Round, confirm};
use super::rpc::{MemberStanding, Request, Response};
use super::{transfer, write};
use crate::actors::messages::{Join, Remove, RequestError, Transfer, Write};
use crate::actors::peer::handshake::{Card, Purpose};
use crate::actors::peer::listener::Serve;
use crate::codec;
use crate::types::{ClusterId, NodeId};

/// No peer may keep a request alive for longer than this.
const LONGEST_REQUEST: Duration = Duration::from_secs(60);

/// Asks for a linearizable read index, by a round shared with others.
#[derive(Message)]
#[rtype(result = "Round")]
pub struct AskReadIndex;

/// Invites this node into a cluster. The answer is its incarnation there.
#[derive(Message)]
#[rtype(result = "Result<NodeId, RequestError>")]
pub struct AcceptInvitation {
    pub cluster_id: ClusterId,
    /// See [`Request::Invite`].
    pub replaces: Option<NodeId>,
}

/// Where the answering side passes requests on.
#[derive(Clone)]
pub struct Desk {
    pub context: Arc<Context>,
    pub read_index: Recipient<AskReadIndex>,
    pub invitation: Recipient<AcceptInvitation>,
    pub removal: Recipient<NoteRemoval>,
    pub way_back: Recipient<NoteWayBack>,
    pub join: Recipient<Join>,
    pub remove: Recipient<Remove>,
    pub transfer: Recipient<Transfer>,
}

impl Desk {
    /// The function that the peer listener calls for every request.
    pub fn into_serve(self) -> Serve {
        Arc::new(move |card: Card, purpose: Purpose, payload: Bytes| -> BoxFuture<'static, Bytes> {
            let desk = self.clone();
            Box::pin(async move {
                let response = match codec::decode::<Request>(&payload) {
                    Ok(request) => desk.answer(&card, purpose, request).await,
                    Err(error) => {
                        log::warn!("peer {}: a request cannot be read: {error}", card.name);
                        Err(RequestError::Refused { detail: error.to_string() })
                    }
                };
                let response = response.unwrap_or_else(Response::Failed);
                encoded(&response)
            })
        })
    }

    async fn answer(
        &self,
        card: &Card,
        purpose: Purpose,
        request: Request,
    ) -> Result<Response, RequestError> {
        if purpose == Purpose::Introduction && !request.open_to_strangers() {
            let detail = "only members may ask this".into();
            return Err(RequestError::Refused { detail });
        }
        if let Purpose::Member { expect } = purpose
            && expect != self.context.own_id()
        {
            let reason = "the node that was asked has begun a new life".into();
            return Err(RequestError::NotReady { reason });
        }
        match request {
            Request::Append(rpc) => {
                let raft = self.context.raft()?;
                // Heard when it speaks: the answer waits for the disk, and a slow one makes no leader disappear.
                if rpc.vote >= raft.metrics().borrow_watched().vote {
                    self.context.hear_leader();
                }
                Ok(Response::Append(raft.append_entries(rpc).await.map_err(fatal)?))
            }
            Request::Vote(rpc) => {
                self.keep_promises(rpc.leadership_transfer)?;
                Ok(Response::Vote(self.context.raft()?.vote(rpc).await.map_err(fatal)?))
            }
            Request::PreVote(rpc) => {
                self.keep_promises(rpc.leadership_transfer)?;
                Ok(Response::Vote(self.context.raft()?.pre_vote(rpc).await.map_err(fatal)?))
            }
            Request::TransferLeader(request) => {
                let raft = self.context.raft()?;
                let taken = raft.handle_transfer_leader(request).await.map_err(fatal)?;
                Ok(Response::TransferLeader(taken))
            }
            Request::SnapshotBegin => {
                // Whoever takes no part would only refuse it when all of it is there.
                self.context.raft()?;
                let begun = transfer::begin(&self.context.storage).await;
                begun.inspect_err(|error| not_installed(card, error))
            }
            Request::SnapshotPiece { transfer, sequence, piece } => {
                let taken = transfer::piece(&self.context.storage, transfer, sequence, piece).await;
                taken.inspect_err(|error| not_installed(card, error))
            }
            Request::SnapshotEnd { transfer, vote, meta } => {
                let ended = async {
                    let raft = self.context.raft()?;
                    log::info!("received a snapshot from {}", card.name);
                    transfer::end(&self.context.storage, &raft, transfer, vote, meta).await
                };
                ended.await.inspect_err(|error| not_installed(card, error))
            }
            Request::Write { operation, request_id, timeout_ms, trace } => {
                let timeout = Duration::from_millis(timeout_ms).min(LONGEST_REQUEST);
                let write = Write { operation, request_id, timeout, forward: false, trace };
                write::serve(&self.context, write, &card.name).await
            }
            Request::ReadIndex { timeout_ms } => {
                let asked = timeout(Duration::from_millis(timeout_ms), self.leader_read_index());
                let index = asked.await.map_err(|_| RequestError::NoLeader {
                    reason: "no quorum answered the leader in time".into(),
                })??;
                Ok(Response::ReadIndex { index })
            }
            Request::Join(join) => {
                let timeout = join.timeout.min(LONGEST_REQUEST);
                pass(&self.join, Join { timeout, ..join }).await
            }
            Request::Remove(remove) => {
                let timeout = remove.timeout.min(LONGEST_REQUEST);
                pass(&self.remove, Remove { timeout, ..remove }).await
            }
            Request::Transfer(transfer) => {
                let timeout = transfer.timeout.min(LONGEST_REQUEST);
                pass(&self.transfer, Transfer { timeout, ..transfer }).await
            }
            Request::Invite { cluster_id, replaces } => {
                let asked = self.invitation.send(AcceptInvitation { cluster_id, replaces }).await;
                Ok(Response::Invited { node_id: asked.map_err(closing)?? })
            }
            Request::Standing { node_id } => {
                let asks_for_itself = card.node_id == node_id;
                Ok(Response::Standing(self.standing(node_id, asks_for_itself).await))
            }
            Request::Removed { node_id } => {
                self.removal.send(NoteRemoval { node_id }).await.map_err(closing)?;
                Ok(Response::Done)
            }
            Request::WentBack { node_id, acknowledged } => {
                let note = NoteWayBack { node_id, acknowledged };
                self.way_back.send(note).await.map_err(closing)?;
                Ok(Response::Done)
            }
        }
    }

    /// A node that started just now does not know whom it followed a moment ago. A leader that reads by its lease counts on
    /// its not voting for another for a while, unless that leader itself wants it.
    fn keep_promises(&self, leadership_transfer: bool) -> Result<(), RequestError> {
        let is_young = self.context.started.elapsed() < self.context.timing.election_timeout_min;
        let may_have_promised =
            || self.context.log.load_full().is_some_and(|log| log.state().vote.is_some());
        match is_young && !leadership_transfer && may_have_promised() {
            true => Err(RequestError::NotReady { reason: "this node has just started".into() }),
            false => Ok(()),
        }
    }

    /// Only a leader answers; a follower would ask in a circle.
    async fn leader_read_index(&self) -> Round {
        let raft = self.context.raft()?;
        match self.context.leader(&raft) {
            Some((leader, _)) if leader == self.context.own_id() => {
                self.read_index.send(AskReadIndex).await.map_err(closing)?
            }
            _ => Err(RequestError::NoLeader { reason: "the node asked does not lead".into() }),
        }
    }

    /// Whether `node_id` is a member; certain only from a leader that a quorum confirms. Of a node that asks for itself
    /// the leader is asked: it may be one that came after the asker was removed, so that the asker does not know it.
    async fn standing(&self, node_id: NodeId, asks_for_itself: bool) -> MemberStanding {
        let Ok(raft) = self.context.raft() else { return MemberStanding::Unknown };
        let limit = self.context.timing.election_timeout_max;
        if confirm(&raft, limit).await.is_err() {
            let other = self.context.leader(&raft).filter(|(id, _)| *id != self.context.own_id());
            let Some((leader, node)) = other.filter(|_| asks_for_itself) else {
                return MemberStanding::Unknown;
            };
            let (peers, request) = (&self.context.peers, Request::Standing { node_id });
            return match peers.ask(leader, &node, Lane::Forward, &request, limit * 2).await {
                Ok(Response::Standing(standing)) => standing,
                _ => MemberStanding::Unknown,
            };
        }
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        // A removal that is not committed yet may never be.
        let known = metrics.membership_config.get_node(&node_id).is_some()
            || metrics.committed_membership_config.get_node(&node_id).is_some();
        match known {
            true => MemberStanding::Member,
            false => MemberStanding::NotMember,
        }
    }
}

/// A snapshot is sent again for as long as it is not installed, so that somebody should hear why.
fn not_installed(from: &Card, error: &RequestError) {
    log::warn!("a snapshot from {} is not installed: {error}", from.name);
}

/// Encodes a response; one that cannot be encoded becomes an error that can.
fn encoded(response: &Response) -> Bytes {
    codec::encode(response)
        .or_else(|error| {
            let detail = format!("the answer cannot be encoded: {error}");
            codec::encode(&Response::Failed(RequestError::Storage { detail }))
        })
        .map(Bytes::from)
        .unwrap_or_default()
}

async fn pass<M>(recipient: &Recipient<M>, message: M) -> Result<Response, RequestError>
where
    M: Message<Result = Result<(), RequestError>> + Send + 'static,
{
    recipient.send(message).await.map_err(closing)??;
    Ok(Response::Done)
}

fn closing(_: MailboxError) -> RequestError {
    RequestError::NotReady { reason: "this node is closing".into() }
}

fn fatal(error: impl std::fmt::Display) -> RequestError {
    RequestError::NotReady { reason: format!("consensus stopped: {error}") }
}
