//! The membership actor: who belongs to the cluster, and how a node comes in and goes out.
//!
//! On the leader it carries out `/join`, `/remove` and `/transfer`, one change at a time, and promotes learners
//! that have caught up. On any node it passes these requests on to the leader. On a node outside it asks the
//! configured seeds to be let in; on a member it announces a changed address, and when no leader has been heard for
//! a while it asks whether it is still a member.
//!
//! Joining, seen from the leader:
//! 1. dial the address and learn who answers: name, incarnation, cluster;
//! 2. a name that is not the one asked for, or an address that another member has, is a conflict;
//! 3. a member with this incarnation only has its addresses corrected: the request is idempotent;
//! 4. otherwise invite it: it adopts this cluster or refuses because it holds data of another;
//! 5. a former incarnation of the name is removed, the new one added as a learner;
//! 6. when its log has caught up it becomes a voter, now or at a later tick.
//!
//! What a node knows by contact (who answers, who is silent) only advises; members change through the log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::messages::inside::Close;
use super::messages::{Join, Member, Remove, RequestError, Transfer};
use super::peer::handshake::Card;
use super::raft::admin::{Admin, MemberChange};
use super::raft::rpc::{MemberStanding, Request};
use super::raft::serve::NoteRemoval;
use crate::env::Chance;

/// How often the actor looks around.
const TICK: Duration = Duration::from_millis(250);

/// A learner that lacks no more entries than this is made a voter: a moment of replication.
const PROMOTE_LAG: u64 = 64;

/// Silence of all leaders after which a member asks whether it still is one.
const DOUBT_AFTER: Duration = Duration::from_secs(3);

/// Pause between rounds over the seeds: doubled up to the longest, a random part taken off.
const SEED_PAUSE_MIN: Duration = Duration::from_millis(250);
const SEED_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Time for one change of membership that nobody outside asked for.
const CHANGE_LIMIT: Duration = Duration::from_secs(5);

/// Asks a seed, over its HTTP API, to let this node in.
pub trait Seeds: Send + Sync + 'static {
    /// `POST /join` at `seed`. The error is for the log.
    fn join(&self, seed: &str, own: &Card) -> BoxFuture<'static, Result<(), String>>;
}

/// What the actor needs to know of its node.
#[derive(Clone)]
pub struct MembershipOptions {
    /// HTTP addresses of nodes to join through; empty for none.
    pub seeds: Vec<String>,
    /// This node as it presents itself.
    pub card: Arc<dyn Fn() -> Card + Send + Sync>,
}

/// See the module.
pub struct MembershipActor {
    parts: Parts,
    options: MembershipOptions,
    seeds: Arc<dyn Seeds>,
    chance: Arc<dyn Chance>,
    ticking: bool,
    seed_pause: Duration,
    next_seed_round: Instant,
}

/// What the actor's futures share.
#[derive(Clone)]
struct Parts {
    admin: Admin,
    removal: Recipient<NoteRemoval>,
    /// Held while a change is made; the next one waits.
    change: Arc<Mutex<()>>,
    card: Arc<dyn Fn() -> Card + Send + Sync>,
}

impl MembershipActor {
    pub fn new(
        admin: Admin,
        removal: Recipient<NoteRemoval>,
        options: MembershipOptions,
        seeds: Arc<dyn Seeds>,
        chance: Arc<dyn Chance>,
    ) -> MembershipActor {
        let parts = Parts { admin, removal, change: Arc::default(), card: options.card.clone() };
        MembershipActor {
            parts,
            options,
            seeds,
            chance,
            ticking: false,
            seed_pause: SEED_PAUSE_MIN,
            next_seed_round: Instant::now(),
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.ticking, true) {
            return;
        }
        if !self.options.seeds.is_empty() && Instant::now() >= self.next_seed_round {
            self.plan_seed_round();
            let asking =
                ask_seeds(self.parts.clone(), self.options.seeds.clone(), self.seeds.clone());
            ctx.spawn(asking.into_actor(self).map(|outside, actor, _| {
                if !outside {
                    actor.seed_pause = SEED_PAUSE_MIN;
                }
            }));
        }
        let looking = self.parts.clone().look_around().into_actor(self);
        ctx.spawn(looking.map(|(), actor, _| actor.ticking = false));
    }

    fn plan_seed_round(&mut self) {
        let pause = self.seed_pause;
        let shorter = self.chance.below(pause.as_millis() as u64 / 2);
        self.next_seed_round = Instant::now() + pause - Duration::from_millis(shorter);
        self.seed_pause = (pause * 2).min(SEED_PAUSE_MAX);
    }
}

/// Asks one seed after the other to be let in. False when this node is a member already.
async fn ask_seeds(parts: Parts, addresses: Vec<String>, seeds: Arc<dyn Seeds>) -> bool {
    let card = (parts.card)();
    if parts.own_member().is_some() {
        return false;
    }
    for seed in addresses {
        match seeds.join(&seed, &card).await {
            Ok(()) => {
                log::info!("joined the cluster through {seed}");
                return false;
            }
            Err(reason) => log::info!("cannot join through {seed} yet: {reason}"),
        }
    }
    true
}

impl Parts {
    fn members(&self) -> Vec<Member> {
        self.admin.context().members().members
    }

    fn own_member(&self) -> Option<Member> {
        let own = self.admin.context().own_id();
        self.members().into_iter().find(|member| member.node_id == own)
    }

    async fn look_around(self) {
        if self.admin.leads() {
            self.promote().await;
        }
        self.announce().await;
        self.doubt().await;
    }

    /// Makes learners voters that have caught up.
    async fn promote(&self) {
        let ready: BTreeSet<_> = self
            .admin
            .candidates()
            .into_iter()
            .filter(|learner| learner.lag.is_some_and(|lag| lag <= PROMOTE_LAG))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|learner| {
                log::info!("{} has caught up and becomes a voter", learner.name);
                learner.node_id
            })
            .collect();
        if ready.is_empty() {
            return;
        }
        let Ok(_changing) = self.change.try_lock() else { return };
        let deadline = Instant::now() + CHANGE_LIMIT;
        if let Err(error) = self.admin.change(MemberChange::Promote(ready), deadline).await {
            log::warn!("no promotion this time: {error}");
        }
    }

    /// A member whose configured addresses are not those the cluster holds says so to the leader.
    async fn announce(&self) {
        let card = (self.card)();
        let Some(own) = self.own_member() else { return };
        if (own.raft_addr == card.raft_addr && own.http_addr == card.http_addr)
            || self.admin.leader().is_none()
        {
            return;
        }
        let join = Join {
            name: card.name,
            raft_addr: card.raft_addr,
            http_addr: card.http_addr,
            voter: own.voter,
            timeout: CHANGE_LIMIT,
        };
        match self.clone().join(join).await {
            Ok(()) => log::info!("announced this node's new address"),
            Err(error) => log::warn!("cannot announce this node's new address yet: {error}"),
        }
    }

    /// Cut off for long, a member asks whether it was removed meanwhile.
    async fn doubt(&self) {
        let context = self.admin.context();
        if self.own_member().is_none() || context.staleness() < DOUBT_AFTER || self.admin.leads() {
            return;
        }
        if self.admin.ask_standing().await == MemberStanding::NotMember {
            let node_id = context.own_id();
            let _ = self.removal.send(NoteRemoval { node_id }).await;
        }
    }

    async fn join(self, join: Join) -> Result<(), RequestError> {
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
        let changing = self.change.lock().await;
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
        let mut member = Member {
            node_id: card.node_id,
            name: join.name.clone(),
            raft_addr: join.raft_addr.clone(),
            http_addr,
            voter: false,
        };
        let members = self.members();
        refuse_taken_address(&members, &member)?;
        let known = members.iter().find(|present| present.node_id == card.node_id);
        if let Some(known) = known
            && card.cluster_id == own.cluster_id
        {
            return self.readdress(known, member, join.voter, deadline).await;
        }
        member.node_id = self.admin.invite(&join.raft_addr, own.cluster_id).await?;
        for former in members.iter().filter(|present| present.name == member.name) {
            if former.node_id == member.node_id {
                continue;
            }
            log::info!("{} came back as a new incarnation; the former one is removed", member.name);
            self.admin.change(MemberChange::Remove(former.node_id), deadline).await?;
        }
        let change = MemberChange::AddLearner { member: member.clone(), wants_vote: join.voter };
        self.admin.change(change, deadline).await?;
        log::info!("{} joined as a learner", member.name);
        Ok(member)
    }

    /// A member that is there already: corrects its addresses if they changed.
    async fn readdress(
        &self,
        known: &Member,
        asked: Member,
        wants_vote: bool,
        deadline: Instant,
    ) -> Result<Member, RequestError> {
        let candidate =
            self.admin.candidates().iter().any(|learner| learner.node_id == known.node_id);
        let same = known.raft_addr == asked.raft_addr && known.http_addr == asked.http_addr;
        if !same || (wants_vote && !known.voter && !candidate) {
            let wants_vote = wants_vote || known.voter;
            let change = MemberChange::Readdress { member: asked.clone(), wants_vote };
            self.admin.change(change, deadline).await?;
        }
        Ok(Member { voter: known.voter, ..asked })
    }

    /// Waits for the promotion that [`Parts::promote`] makes; it goes on when time is up.
    async fn wait_for_vote(&self, added: &Member, deadline: Instant) {
        loop {
            let is_voter =
                self.members().iter().any(|member| member.node_id == added.node_id && member.voter);
            if is_voter || !self.admin.leads() {
                return;
            }
            self.promote().await;
            if !self.admin.context().pause(deadline).await {
                return;
            }
        }
    }

    async fn remove(self, remove: Remove) -> Result<(), RequestError> {
        let deadline = Instant::now() + remove.timeout;
        if !self.admin.leads() {
            let timeout = Admin::inner_timeout(remove.timeout);
            let request = Request::Remove(Remove { timeout, ..remove.clone() });
            return self.admin.pass_on(request, remove.timeout).await;
        }
        let changing = self.change.lock().await;
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
        log::info!("{} was removed", member.name);
        self.admin.tell_removed(&member).await;
        Ok(())
    }

    async fn transfer(self, transfer: Transfer) -> Result<(), RequestError> {
        let deadline = Instant::now() + transfer.timeout;
        let member = find(&self.members(), &transfer.name)?;
        if !member.voter {
            return Err(RequestError::Refused {
                detail: format!("{} is a learner and cannot lead", member.name),
            });
        }
        match self.admin.leads() {
            true if member.node_id == self.admin.context().own_id() => Ok(()),
            true => self.admin.hand_over(member.node_id, deadline).await,
            false => {
                let timeout = Admin::inner_timeout(transfer.timeout);
                let request = Request::Transfer(Transfer { timeout, ..transfer.clone() });
                self.admin.pass_on(request, transfer.timeout).await
            }
        }
    }
}

fn find(members: &[Member], name: &str) -> Result<Member, RequestError> {
    members.iter().find(|member| member.name == name).cloned().ok_or_else(|| {
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        RequestError::UnknownNode { name: name.into(), members: names.join(", ") }
    })
}

/// A node name: 1 to 64 of `A-Z a-z 0-9 . _ -`.
fn check_name(name: &str) -> Result<(), RequestError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match name.len() {
        1..=64 if name.bytes().all(plain) => Ok(()),
        _ => Err(RequestError::Refused {
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

impl Actor for MembershipActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, |actor, ctx| actor.tick(ctx));
    }
}

impl Handler<Join> for MembershipActor {
    type Result = ResponseFuture<Result<(), RequestError>>;

    fn handle(&mut self, message: Join, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.parts.clone().join(message))
    }
}

impl Handler<Remove> for MembershipActor {
    type Result = ResponseFuture<Result<(), RequestError>>;

    fn handle(&mut self, message: Remove, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.parts.clone().remove(message))
    }
}

impl Handler<Transfer> for MembershipActor {
    type Result = ResponseFuture<Result<(), RequestError>>;

    fn handle(&mut self, message: Transfer, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.parts.clone().transfer(message))
    }
}

impl Handler<Close> for MembershipActor {
    type Result = ();

    fn handle(&mut self, _: Close, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
