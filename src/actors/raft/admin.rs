//! Changes of the membership, and of who leads: the mechanisms. What is changed when is decided by
//! [`crate::actors::membership`], which sees none of openraft's types.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use tokio::time::{Instant, timeout, timeout_at};

use super::context::Context;
use super::peers::{Lane, PeerError, ask};
use super::read::{confirm, wait_applied};
use super::rpc::{MemberStanding, Request, Response};
use super::state_machine::stored_members;
use super::types::{PeerNode, Raft, members};
use super::write::inner_timeout;
use crate::actors::messages::{Join, Member, RequestError};
use crate::actors::peer::handshake::{Card, Purpose, call};
use crate::actors::peer::link::Link;
use crate::types::{ClusterId, NodeId};

/// How long a node that is asked to introduce itself, or is told something, may take.
const INTRODUCTION_LIMIT: Duration = Duration::from_secs(3);

/// A change of the membership; each is one or two log entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// Adds a learner that shall become a voter when caught up, if `wants_vote`.
    AddLearner { member: Member, wants_vote: bool },
    /// Makes learners voters.
    Promote(BTreeSet<NodeId>),
    /// Corrects a member's addresses.
    Readdress { member: Member, wants_vote: bool },
    /// Makes a voter a learner, which stays a candidate.
    Demote(NodeId),
    /// Takes a member out, voter or not.
    Remove(NodeId),
}

/// The administrative side of a running Raft, shared with the membership actor.
#[derive(Clone)]
pub struct Admin {
    context: Arc<Context>,
}

/// A member, as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub member: Member,
    /// Whether it is the leader.
    pub leads: bool,
    /// A learner that shall become a voter.
    pub wants_vote: bool,
    /// Entries it lacks; `None` before its first answer. Counted from the commit index: what is still on
    /// its way to everybody is nobody's lag.
    pub lag: Option<u64>,
    /// Time since it answered last: the longest if it has not answered since this node leads, none for the leader itself.
    pub silent_for: Duration,
}

fn node(member: &Member, wants_vote: bool) -> PeerNode {
    PeerNode {
        name: member.name.clone(),
        raft_addr: member.raft_addr.clone(),
        http_addr: member.http_addr.clone(),
        wants_vote,
    }
}

/// The change in openraft's terms. A removed voter leaves the membership at once, a demoted one stays as a
/// learner; a learner is removed by another name.
fn change_of(raft: &Raft, change: MemberChange) -> ChangeMembers<NodeId, PeerNode> {
    match change {
        MemberChange::AddLearner { member, wants_vote } => {
            ChangeMembers::AddNodes(BTreeMap::from([(member.node_id, node(&member, wants_vote))]))
        }
        MemberChange::Promote(ids) => ChangeMembers::AddVoterIds(ids),
        MemberChange::Readdress { member, wants_vote } => {
            ChangeMembers::SetNodes(BTreeMap::from([(member.node_id, node(&member, wants_vote))]))
        }
        MemberChange::Demote(id) => ChangeMembers::RemoveVoters(BTreeSet::from([id])),
        MemberChange::Remove(id) => match raft.voter_ids().any(|voter| voter == id) {
            true => ChangeMembers::RemoveVoters(BTreeSet::from([id])),
            false => ChangeMembers::RemoveNodes(BTreeSet::from([id])),
        },
    }
}

impl Admin {
    pub fn new(context: Arc<Context>) -> Admin {
        Admin { context }
    }

    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Whether this node leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.leader().is_some_and(|member| member.node_id == self.context.own_id())
    }

    pub fn leader(&self) -> Option<Member> {
        self.context.members().leader
    }

    /// Has a quorum confirm that this node leads.
    pub async fn confirm_leadership(&self) -> Result<(), RequestError> {
        let raft = self.context.raft()?;
        confirm(&raft, self.context.timing.election_timeout_max).await.map(|_| ())
    }

    /// Proposes a change and waits until it is committed. A change that is under way is waited for.
    pub async fn change(
        &self,
        change: MemberChange,
        deadline: Instant,
    ) -> Result<(), RequestError> {
        loop {
            let raft = self.context.raft()?;
            // A task of its own: a change of voters has two steps, and the second has to be proposed
            // also when nobody waits for it any more.
            let proposed = change_of(&raft, change.clone());
            let stays = matches!(change, MemberChange::Demote(_));
            let proposing =
                tokio::spawn(async move { raft.change_membership(proposed, stays).await });
            let proposed = timeout_at(deadline, proposing).await;
            let proposed = proposed.map(|ended| {
                ended.unwrap_or(Err(RaftError::Fatal(openraft::errors::Fatal::Stopped)))
            });
            let reason = match proposed {
                Ok(Ok(_)) => return Ok(()),
                // The first of two steps may be committed.
                Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                    return Err(RequestError::OutcomeUnknown { reason: "leadership moved".into() });
                }
                Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                    error @ (ChangeMembershipError::InProgress(_)
                    | ChangeMembershipError::UncommittedLeaderLog(_)),
                )))) => error.to_string(),
                Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => {
                    return Err(RequestError::Refused { detail: error.to_string() });
                }
                Ok(Err(error)) => {
                    return Err(RequestError::OutcomeUnknown { reason: error.to_string() });
                }
                Err(_) => {
                    let reason = "no quorum acknowledged the change of membership in time".into();
                    return Err(RequestError::OutcomeUnknown { reason });
                }
            };
            if !self.context.pause(deadline).await {
                return Err(RequestError::TimedOut { waiting_for: reason });
            }
        }
    }

    /// Whether the membership is between two sets of voters (joint consensus).
    pub fn is_joint(&self) -> bool {
        self.context.raft.load_full().is_some_and(|raft| {
            let metrics = raft.metrics();
            metrics.borrow_watched().membership_config.get_joint_config().len() > 1
        })
    }

    /// All members as this node sees them if it leads; else none.
    pub fn peers(&self) -> Vec<Peer> {
        let Some(raft) = self.context.raft.load_full() else { return Vec::new() };
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let (Some(replication), Some(heard)) = (&metrics.replication, &metrics.heartbeat) else {
            return Vec::new();
        };
        let committed = metrics.local_committed.map_or(0, |id| id.index);
        let peer = |member: Member| {
            let id = member.node_id;
            let node = metrics.membership_config.get_node(&id);
            let answered = heard.get(&id).and_then(|at| at.as_ref()).map(|at| at.elapsed());
            let leads = id == metrics.id;
            Peer {
                leads,
                wants_vote: !member.voter && node.is_some_and(|node| node.wants_vote),
                lag: replication
                    .get(&id)
                    .and_then(|matched| matched.as_ref())
                    .map(|matched| committed.saturating_sub(matched.index)),
                silent_for: match leads {
                    true => Duration::ZERO,
                    false => answered.unwrap_or(Duration::MAX),
                },
                member,
            }
        };
        members(&metrics.membership_config).into_iter().map(peer).collect()
    }

    /// The silence up to which a member counts as answering.
    pub fn answers_within(&self) -> Duration {
        self.context.timing.election_timeout_max * 2
    }

    /// Asks whoever answers at `address` who it is.
    pub async fn introduce(&self, address: &str) -> Result<Card, RequestError> {
        let dialer = self.context.peers.dialer();
        let unreachable = |reason: String| RequestError::NotReady {
            reason: format!(
                "no node can be reached at {address}: {reason}; is one running there, and is that its Raft address?"
            ),
        };
        let meeting = async {
            let mut stream = dialer
                .network
                .connect(address)
                .await
                .map_err(|error| unreachable(error.to_string()))?;
            let nonce = dialer.chance.next_u128();
            let card = (dialer.card)();
            call(&mut *stream, card, Purpose::Introduction, &dialer.secret, nonce)
                .await
                .map_err(|error| unreachable(error.to_string()))
        };
        let met = timeout(INTRODUCTION_LIMIT, meeting).await;
        met.unwrap_or_else(|_| Err(unreachable(format!("no answer within {INTRODUCTION_LIMIT:?}"))))
    }

    /// Invites the node at `address` into this cluster, maybe in place of a damaged incarnation; answers with its
    /// incarnation here.
    pub async fn invite(
        &self,
        address: &str,
        cluster_id: ClusterId,
        replaces: Option<NodeId>,
    ) -> Result<NodeId, RequestError> {
        let link = Link::open(self.context.peers.dialer().clone(), address, Purpose::Introduction);
        // A new life means wiping files: give it longer than a word.
        let limit = INTRODUCTION_LIMIT * 3;
        match ask(&link, &Request::Invite { cluster_id, replaces }, limit).await {
            Ok(Response::Invited { node_id }) => Ok(node_id),
            Ok(_) => Err(RequestError::Refused { detail: PeerError::Mismatch.to_string() }),
            Err(PeerError::Failed(error)) => Err(error),
            Err(error) => Err(RequestError::NotReady { reason: error.to_string() }),
        }
    }

    /// Passes a request on to the leader.
    pub async fn pass_on(&self, request: Request, timeout: Duration) -> Result<(), RequestError> {
        let raft = self.context.raft()?;
        let Some((leader, node)) = self.context.leader(&raft) else {
            let reason = "an election is under way, or no quorum is reachable".into();
            return Err(RequestError::NoLeader { reason });
        };
        match self.context.peers.ask(leader, &node, Lane::Forward, &request, timeout).await {
            Ok(Response::Done) => Ok(()),
            Ok(_) => Err(RequestError::OutcomeUnknown { reason: PeerError::Mismatch.to_string() }),
            Err(PeerError::Failed(error)) => Err(error),
            Err(error) if error.surely_unsent() => {
                Err(RequestError::NoLeader { reason: error.to_string() })
            }
            Err(error) => Err(RequestError::OutcomeUnknown { reason: error.to_string() }),
        }
    }

    /// The members as this node knows them, also while it takes no part.
    pub fn known_members(&self) -> Vec<Member> {
        match self.context.raft.load().is_some() {
            true => self.context.members().members,
            false => stored_members(&self.context.reader.snapshot()).unwrap_or_default(),
        }
    }

    /// Has the others carry out a join: the first that does not refuse it.
    pub async fn ask_to_join(&self, members: &[Member], join: &Join) -> Result<(), RequestError> {
        let (own, timeout) = (self.context.own_id(), Admin::inner_timeout(join.timeout));
        let request = Request::Join(Join { timeout, ..join.clone() });
        let mut refusal = RequestError::NoLeader { reason: "there is no other member".into() };
        for member in members.iter().filter(|member| member.node_id != own) {
            let (peers, node) = (&self.context.peers, node(member, false));
            match peers.ask(member.node_id, &node, Lane::Forward, &request, join.timeout).await {
                Ok(Response::Done) => return Ok(()),
                Err(PeerError::Failed(error)) => refusal = error,
                Ok(_) => {}
                Err(error) => refusal = RequestError::NotReady { reason: error.to_string() },
            }
        }
        Err(refusal)
    }

    /// Whether this incarnation was a member and is none any more, as the log up to the membership that this node has
    /// says.
    pub async fn was_removed(
        &self,
        node_id: NodeId,
        deadline: Instant,
    ) -> Result<bool, RequestError> {
        let metrics = self.context.raft()?.metrics();
        let changed = metrics.borrow_watched().membership_config.log_id().map(|id| id.index);
        if let Some(index) = changed {
            wait_applied(&self.context, index, deadline).await?;
        }
        let known = self.context.reader.snapshot().was_removed(node_id);
        known.map_err(|error| RequestError::Storage { detail: error.to_string() })
    }

    /// Tells a node that it was removed. It may be down; then it finds out by asking.
    pub async fn tell_removed(&self, member: &Member) {
        let request = Request::Removed { node_id: member.node_id };
        let peers = &self.context.peers;
        let told = peers
            .ask(member.node_id, &node(member, false), Lane::Forward, &request, INTRODUCTION_LIMIT)
            .await;
        if let Err(error) = told {
            log::info!("{} was removed and could not be told: {error}", member.name);
        }
    }

    /// Asks all other members whether this node is still one; they ask the leader. `NotMember` only when a
    /// confirmed leader says so.
    pub async fn ask_standing(&self) -> MemberStanding {
        let own = self.context.own_id();
        for member in self.known_members() {
            if member.node_id == own {
                continue;
            }
            let request = Request::Standing { node_id: own };
            let asked = self
                .context
                .peers
                .ask(
                    member.node_id,
                    &node(&member, false),
                    Lane::Forward,
                    &request,
                    INTRODUCTION_LIMIT,
                )
                .await;
            match asked {
                Ok(Response::Standing(MemberStanding::Unknown)) | Err(_) => {}
                Ok(Response::Standing(standing)) => return standing,
                Ok(_) => {}
            }
        }
        MemberStanding::Unknown
    }

    /// Moves leadership to `to`.
    pub async fn hand_over(&self, to: NodeId, deadline: Instant) -> Result<(), RequestError> {
        let raft = self.context.raft()?;
        hand_over(&self.context, &raft, to, deadline).await
    }

    /// Gives leadership to the most up-to-date other voter, if this node leads.
    pub async fn step_aside(&self, deadline: Instant) -> Result<(), RequestError> {
        let raft = self.context.raft()?;
        step_aside(&self.context, &raft, deadline).await;
        match self.leads() {
            true => Err(RequestError::NotReady { reason: "no other voter could take over".into() }),
            false => Ok(()),
        }
    }

    /// What a node gives the next one of its time.
    pub fn inner_timeout(timeout: Duration) -> Duration {
        inner_timeout(timeout)
    }
}

async fn hand_over(
    context: &Context,
    raft: &Raft,
    to: NodeId,
    deadline: Instant,
) -> Result<(), RequestError> {
    let stopped =
        |error: &dyn std::fmt::Display| RequestError::NotReady { reason: error.to_string() };
    raft.trigger().transfer_leader(to).await.map_err(|error| stopped(&error))?;
    loop {
        if context.leader(raft).is_some_and(|(leader, _)| leader == to) {
            return Ok(());
        }
        if !context.pause(deadline).await {
            let waiting_for = "the other node to take over leadership".into();
            return Err(RequestError::TimedOut { waiting_for });
        }
    }
}

/// Gives leadership to the most up-to-date other voter, if this node leads and there is one.
pub async fn step_aside(context: &Context, raft: &Raft, deadline: Instant) {
    let best = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let Some(replication) = &metrics.replication else { return };
        members(&metrics.membership_config)
            .into_iter()
            .filter(|member| member.voter && member.node_id != metrics.id)
            .max_by_key(|member| {
                let matched = replication.get(&member.node_id).and_then(|matched| matched.as_ref());
                matched.map(|matched| matched.index)
            })
    };
    let Some(best) = best else { return };
    match hand_over(context, raft, best.node_id, deadline).await {
        Ok(()) => log::info!("handed leadership over to {}", best.name),
        Err(error) => log::warn!("could not hand leadership over to {}: {error}", best.name),
    }
}
