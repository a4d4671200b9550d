//! The changes that the membership actor is asked for: joining, removal, transfer.

use std::collections::BTreeSet;

use tokio::sync::MutexGuard;
use tokio::time::{Instant, timeout_at};

use super::{CHANGE_LIMIT, Parts};
use crate::actors::messages::{Join, Member, Remove, RequestError, Transfer, name_of};
use crate::actors::raft::admin::{Admin, MemberChange, Peer};
use crate::actors::raft::rpc::Request;
use crate::types::{AskedBy, NodeId, is_node_name};

impl Parts {
    /// Finishes a change of voters whose leader went away between its two steps. Until then both the old and the
    /// new voters have to agree on everything.
    pub(super) async fn finish_joint(&self) {
        if !self.admin.is_joint() {
            return;
        }
        let Ok(_changing) = self.change.try_lock() else { return };
        let deadline = Instant::now() + CHANGE_LIMIT;
        match self.admin.change(MemberChange::Promote(BTreeSet::new()), deadline).await {
            Ok(()) => log::info!("finished a change of members that was left half done"),
            Err(error) => log::warn!("a change of members is half done: {error}"),
        }
    }

    /// Waits for its turn to change the membership.
    async fn begin_change(&self, deadline: Instant) -> Result<MutexGuard<'_, ()>, RequestError> {
        timeout_at(deadline, self.change.lock())
            .await
            .map_err(|_| RequestError::TimedOut { waiting_for: "another change of members".into() })
    }

    /// `POST /join`.
    pub(super) async fn join(self, join: Join) -> Result<(), RequestError> {
        check_name(&join.name)?;
        check_address(&join.raft_addr)?;
        let deadline = Instant::now() + join.timeout;
        if !self.admin.leads() {
            let timeout = Admin::inner_timeout(join.timeout);
            return self
                .admin
                .pass_on(Request::Join(Join { timeout, ..join.clone() }), join.timeout)
                .await;
        }
        log::info!("{} at {} joins request_id={}", join.name, join.raft_addr, name_of(&join.trace));
        let changing = self.begin_change(deadline).await?;
        self.admin.confirm_leadership().await?;
        let added = self.add(&join, deadline).await?;
        drop(changing);
        if join.voter {
            self.wait_for_vote(&added, deadline).await;
        }
        Ok(())
    }

    /// Makes the node a member; a learner if it was none.
    async fn add(&self, join: &Join, deadline: Instant) -> Result<Member, RequestError> {
        let own = (self.card)();
        let card = match join.name == own.name {
            true if join.raft_addr != own.raft_addr => {
                return Err(RequestError::NodeConflict {
                    detail: format!(
                        "{} leads this cluster at {}: give the node at {} a name of its own",
                        own.name, own.raft_addr, join.raft_addr
                    ),
                });
            }
            true => own.clone(),
            false => self.admin.introduce(&join.raft_addr).await?,
        };
        if card.name != join.name {
            return Err(RequestError::NodeConflict {
                detail: format!(
                    "the node at {} is {}, not {}: join it under its own name",
                    join.raft_addr, card.name, join.name
                ),
            });
        }
        let http_addr = match join.http_addr.is_empty() {
            true => card.http_addr.clone(),
            false => join.http_addr.clone(),
        };
        let member = Member {
            node_id: card.node_id,
            name: join.name.clone(),
            raft_addr: join.raft_addr.clone(),
            http_addr,
            voter: false,
        };
        let members = self.members();
        let known = members.iter().find(|present| present.node_id == card.node_id);
        if let Some(known) = known
            && card.cluster_id == own.cluster_id
        {
            if join.asked_by == AskedBy::Damaged {
                // What the node itself believes may be gone with its data.
                let wants_vote = known.voter || self.is_candidate(known.node_id);
                return self.replace(known, member, wants_vote, deadline).await;
            }
            // Another node answered where it says that it is, so whoever else is known to be there is so no more. The
            // leader asks nobody about itself.
            if join.name == own.name {
                refuse_taken_address(&members, &member)?;
            }
            return self.readdress(known, member, join.voter, deadline).await;
        }
        refuse_taken_address(&members, &member)?;
        if self.admin.was_removed(member.node_id, deadline).await? {
            // It may not have heard of it, and would not give up what it has for an invitation.
            self.admin.tell_removed(&member).await;
            if join.asked_by != AskedBy::Operator {
                return Err(does_not_come_back(&member));
            }
        }
        self.refuse_if_former_lives(&members, &member).await?;
        // Damaged before it was let in: no vote of it counts.
        let replaces = (join.asked_by == AskedBy::Damaged).then_some(member.node_id);
        self.let_in(member, replaces, join.voter, deadline).await
    }

    /// Invites a node, removes the former incarnations of its name, and adds it as a learner.
    pub(super) async fn let_in(
        &self,
        mut member: Member,
        replaces: Option<NodeId>,
        wants_vote: bool,
        deadline: Instant,
    ) -> Result<Member, RequestError> {
        let cluster_id = (self.card)().cluster_id;
        member.node_id = self.admin.invite(&member.raft_addr, cluster_id, replaces).await?;
        for former in self.members().iter().filter(|present| present.name == member.name) {
            if former.node_id == member.node_id {
                continue;
            }
            log::info!("{} came back as a new incarnation; the former one is removed", member.name);
            self.admin.change(MemberChange::Remove(former.node_id), deadline).await?;
        }
        let change = MemberChange::AddLearner { member: member.clone(), wants_vote };
        self.admin.change(change, deadline).await?;
        log::info!("{} joined as a learner", member.name);
        Ok(member)
    }

    /// Two living nodes of one name would push each other out forever.
    async fn refuse_if_former_lives(
        &self,
        members: &[Member],
        asked: &Member,
    ) -> Result<(), RequestError> {
        for former in members.iter().filter(|present| present.name == asked.name) {
            let answers = self.admin.introduce(&former.raft_addr).await;
            if answers.is_ok_and(|card| card.node_id == former.node_id) {
                return Err(RequestError::NodeConflict {
                    detail: format!(
                        "another node named {} is a member and answers at {}: give the one at {} a name of its own, or \
                         remove the other first",
                        former.name, former.raft_addr, asked.raft_addr
                    ),
                });
            }
        }
        Ok(())
    }

    /// A member that is there already: corrects its addresses if they changed.
    async fn readdress(
        &self,
        known: &Member,
        asked: Member,
        wants_vote: bool,
        deadline: Instant,
    ) -> Result<Member, RequestError> {
        let candidate = self.is_candidate(known.node_id);
        let same = known.raft_addr == asked.raft_addr && known.http_addr == asked.http_addr;
        if !same || (wants_vote && !known.voter && !candidate) {
            let wants_vote = wants_vote || known.voter || candidate;
            let change = MemberChange::Readdress { member: asked.clone(), wants_vote };
            self.admin.change(change, deadline).await?;
        }
        Ok(Member { voter: known.voter, ..asked })
    }

    /// Whether a member is a learner that shall become a voter.
    fn is_candidate(&self, node_id: NodeId) -> bool {
        let is_it = |peer: &Peer| peer.member.node_id == node_id;
        self.admin.peers().iter().any(|peer| is_it(peer) && peer.wants_vote)
    }

    /// Waits for the promotion that [`Parts::steer`] makes; it goes on when time is up. A learner that has to
    /// wait for another one is not waited for.
    async fn wait_for_vote(&self, added: &Member, deadline: Instant) {
        loop {
            let is_voter =
                self.members().iter().any(|member| member.node_id == added.node_id && member.voter);
            if is_voter || !self.admin.leads() || self.is_kept_waiting(added.node_id) {
                return;
            }
            self.steer().await;
            if !self.admin.context().pause(deadline).await {
                return;
            }
        }
    }

    /// `POST /remove`.
    pub(super) async fn remove(self, remove: Remove) -> Result<(), RequestError> {
        let deadline = Instant::now() + remove.timeout;
        if !self.admin.leads() {
            let timeout = Admin::inner_timeout(remove.timeout);
            let request = Request::Remove(Remove { timeout, ..remove.clone() });
            return self.admin.pass_on(request, remove.timeout).await;
        }
        let changing = self.begin_change(deadline).await?;
        self.admin.confirm_leadership().await?;
        let members = self.members();
        let member = find(&members, &remove.name)?;
        if member.voter && members.iter().filter(|member| member.voter).count() == 1 {
            return Err(RequestError::Refused {
                detail: format!(
                    "{} is the last voter: a cluster cannot be without one",
                    member.name
                ),
            });
        }
        if member.node_id == self.admin.context().own_id() {
            drop(changing);
            self.admin.step_aside(deadline).await?;
            let timeout = deadline.saturating_duration_since(Instant::now());
            return self
                .admin
                .pass_on(Request::Remove(Remove { timeout, ..remove }), timeout)
                .await;
        }
        self.admin.change(MemberChange::Remove(member.node_id), deadline).await?;
        log::info!("{} was removed request_id={}", member.name, name_of(&remove.trace));
        self.admin.tell_removed(&member).await;
        Ok(())
    }

    /// `POST /transfer`.
    pub(super) async fn transfer(self, transfer: Transfer) -> Result<(), RequestError> {
        let deadline = Instant::now() + transfer.timeout;
        let member = find(&self.members(), &transfer.name)?;
        if !member.voter {
            return Err(RequestError::Refused {
                detail: format!("{} is a learner and cannot lead", member.name),
            });
        }
        match self.admin.leads() {
            true if member.node_id == self.admin.context().own_id() => Ok(()),
            true => {
                log::info!("{} is to lead request_id={}", member.name, name_of(&transfer.trace));
                self.admin.hand_over(member.node_id, deadline).await
            }
            false => {
                let timeout = Admin::inner_timeout(transfer.timeout);
                let request = Request::Transfer(Transfer { timeout, ..transfer.clone() });
                self.admin.pass_on(request, transfer.timeout).await
            }
        }
    }
}

/// Whoever asks for itself may not know that it was let in and removed since.
fn does_not_come_back(removed: &Member) -> RequestError {
    RequestError::Refused {
        detail: format!(
            "{} was removed from this cluster and does not come back by itself: join it again by POST /join, or \
             start it with an empty data directory",
            removed.name
        ),
    }
}

fn find(members: &[Member], name: &str) -> Result<Member, RequestError> {
    members.iter().find(|member| member.name == name).cloned().ok_or_else(|| {
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        RequestError::UnknownNode { name: name.into(), members: names.join(", ") }
    })
}

fn check_name(name: &str) -> Result<(), RequestError> {
    match is_node_name(name) {
        true => Ok(()),
        false => Err(RequestError::Refused {
            detail: format!(
                "{name:?} is not a node name: use 1 to 64 letters, digits, dots, dashes and underscores"
            ),
        }),
    }
}

fn check_address(address: &str) -> Result<(), RequestError> {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
        Some(port) if port > 0 && address.len() <= 255 => Ok(()),
        _ => Err(RequestError::Refused {
            detail: format!("{address:?} is not an address: give host:port, as in 10.0.0.2:7001"),
        }),
    }
}

fn refuse_taken_address(members: &[Member], asked: &Member) -> Result<(), RequestError> {
    match members
        .iter()
        .find(|member| member.raft_addr == asked.raft_addr && member.name != asked.name)
    {
        None => Ok(()),
        Some(holder) => Err(RequestError::NodeConflict {
            detail: format!(
                "{} is the address of {}; remove that one first",
                asked.raft_addr, holder.name
            ),
        }),
    }
}
