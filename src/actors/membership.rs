//! The membership actor: who belongs to the cluster, and how a node comes in and goes out.
//!
//! On the leader it carries out `/join`, `/remove` and `/transfer`, one change at a time, promotes learners
//! that have caught up, and does what else the [`autopilot`] is told to. On any node it passes these requests on to
//! the leader. On a node outside it asks the configured seeds to be let in; on a member it announces a changed address, and
//! when no leader has been heard for a while it asks whether it is still a member. A leader looks for a member that moved
//! where it was, so that one hears nothing, and asks its fellow members to pass the announcement on.
//!
//! Joining, seen from the leader:
//! 1. dial the address and learn who answers: name, incarnation, cluster;
//! 2. a name that is not the one asked for, or an address that another member has, is a conflict;
//! 3. a member with this incarnation only has its addresses corrected: the request is idempotent;
//! 4. an incarnation that was removed comes back only when an operator asks for it, not by itself;
//! 5. otherwise invite it: it adopts this cluster or refuses because it holds data of another;
//! 6. a former incarnation of the name is removed, the new one added as a learner;
//! 7. when its log has caught up it becomes a voter, now or at a later tick.
//!
//! What a node knows by contact (who answers, who is silent) only advises; members change through the log.

pub mod autopilot;
mod changes;
mod damage;

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use self::autopilot::Rules;
use super::messages::inside::Close;
use super::messages::{Join, Member, Remove, RequestError, Transfer};
use super::peer::handshake::Card;
use super::raft::admin::Admin;
use super::raft::expulsion::NoteRemoval;
use super::raft::rpc::MemberStanding;
use crate::env::Chance;
use crate::types::{AskedBy, NodeId};

/// How often the actor looks around.
const TICK: Duration = Duration::from_millis(250);

/// Silence of all leaders after which a member asks whether it still is one.
const DOUBT_AFTER: Duration = Duration::from_secs(3);

/// How long a member that could not announce its new address waits before it tries again.
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(1);

/// Pause between rounds over the seeds: doubled up to the longest, a random part taken off.
const SEED_PAUSE_MIN: Duration = Duration::from_millis(250);
const SEED_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Time for one change of membership that nobody outside asked for.
const CHANGE_LIMIT: Duration = Duration::from_secs(5);

/// Asks a seed, over its HTTP API, to let this node in.
pub trait Seeds: Send + Sync + 'static {
    /// `POST /join` at `seed`. The error is for the log.
    fn join(
        &self,
        seed: &str,
        own: &Card,
        voter: bool,
        asked_by: AskedBy,
    ) -> BoxFuture<'static, Result<(), String>>;
}

/// What the actor needs to know of its node.
#[derive(Clone)]
pub struct MembershipOptions {
    /// HTTP addresses of nodes to join through; empty for none.
    pub seeds: Vec<String>,
    /// This node as it presents itself.
    pub card: Arc<dyn Fn() -> Card + Send + Sync>,
    pub rules: Rules,
}

/// See the module.
pub struct MembershipActor {
    parts: Parts,
    options: MembershipOptions,
    seeds: Arc<dyn Seeds>,
    chance: Arc<dyn Chance>,
    ticking: bool,
    asking_seeds: bool,
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
    rules: Rules,
    /// Since when this node, leading, has looked for an answer of each member.
    watched: Arc<std::sync::Mutex<BTreeMap<NodeId, Instant>>>,
    asked: Arc<std::sync::Mutex<damage::Asked>>,
    /// Until when this node, which moved and could not announce it, tries no more.
    announce_at: Arc<std::sync::Mutex<Option<Instant>>>,
}

impl MembershipActor {
    pub fn new(
        admin: Admin,
        removal: Recipient<NoteRemoval>,
        options: MembershipOptions,
        seeds: Arc<dyn Seeds>,
        chance: Arc<dyn Chance>,
    ) -> MembershipActor {
        let (card, rules) = (options.card.clone(), options.rules);
        let parts = Parts {
            admin,
            removal,
            change: Arc::default(),
            card,
            rules,
            watched: Arc::default(),
            asked: Arc::default(),
            announce_at: Arc::default(),
        };
        MembershipActor {
            parts,
            options,
            seeds,
            chance,
            ticking: false,
            asking_seeds: false,
            seed_pause: SEED_PAUSE_MIN,
            next_seed_round: Instant::now(),
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.ticking, true) {
            return;
        }
        let is_time = Instant::now() >= self.next_seed_round;
        if is_time && !std::mem::replace(&mut self.asking_seeds, true) {
            self.plan_seed_round();
            let asking =
                ask_seeds(self.parts.clone(), self.options.seeds.clone(), self.seeds.clone());
            ctx.spawn(asking.into_actor(self).map(|goes_on, actor, _| {
                actor.asking_seeds = false;
                if !goes_on {
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

/// Asks one seed after the other to be let in; a member that moved asks its fellow members, and then the seeds, to tell
/// where it is. False when this node is a member already that a leader knows the way to, or was removed: who was sent
/// away comes back only when somebody joins it again.
/// An answer may be lost, so it is waited for only while this node has reason to ask.
async fn ask_seeds(parts: Parts, addresses: Vec<String>, seeds: Arc<dyn Seeds>) -> bool {
    let card = (parts.card)();
    if !parts.has_to_ask() {
        return false;
    }
    // That a member moved is no reason to replace it if it is damaged too: `damage` asks for that, if it is told to.
    let (asks_as, done, undone) = match parts.is_outside() {
        true => (parts.asks_as(), "joined the cluster", "join the cluster"),
        false => {
            (AskedBy::Node, "announced this node's new address", "announce this node's new address")
        }
    };
    for seed in parts.fellows_if_moved().chain(addresses) {
        let answer = tokio::select! {
            biased;
            () = parts.while_it_has_to_ask() => return false,
            answer = seeds.join(&seed, &card, parts.asks_for_vote(), asks_as) => answer,
        };
        match answer {
            Ok(()) => {
                log::info!("{done} through {seed}");
                return false;
            }
            Err(reason) => log::info!("cannot {undone} through {seed} yet: {reason}"),
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

    /// Whether this node is no member, and may become one; or is one, and cannot know whose.
    fn is_outside(&self) -> bool {
        let context = self.admin.context();
        let has_lost_all = context.is_damaged() && self.admin.known_members().is_empty();
        self.own_member().is_none() && (context.takes_part() || has_lost_all)
    }

    /// As whom this node asks to be let in.
    fn asks_as(&self) -> AskedBy {
        match self.admin.context().is_damaged() {
            true => AskedBy::Damaged,
            false => AskedBy::Node,
        }
    }

    /// Whether the cluster holds other addresses of this member than it has.
    fn has_moved(&self, own: &Member) -> bool {
        let card = (self.card)();
        own.raft_addr != card.raft_addr || own.http_addr != card.http_addr
    }

    /// Where the other members of one that moved take requests.
    fn fellows_if_moved(&self) -> impl Iterator<Item = String> + use<> {
        let own = self.own_member().filter(|own| self.has_moved(own));
        let others = own.map(|own| {
            self.members().into_iter().filter(move |member| member.node_id != own.node_id)
        });
        others.into_iter().flatten().map(|member| member.http_addr)
    }

    /// Whether no leader finds this node: it is none of its members, or one that moved.
    fn has_to_ask(&self) -> bool {
        let is_lost = || self.own_member().is_some_and(|own| self.has_moved(&own));
        let takes_part = self.admin.context().takes_part();
        self.is_outside() || takes_part && self.admin.leader().is_none() && is_lost()
    }

    async fn while_it_has_to_ask(&self) {
        while self.has_to_ask() {
            sleep(TICK).await;
        }
    }

    /// A member that moved stays what it is.
    fn asks_for_vote(&self) -> bool {
        self.own_member().is_none_or(|own| own.voter)
    }

    async fn look_around(self) {
        if self.admin.leads() {
            self.finish_joint().await;
        }
        self.steer().await;
        self.announce().await;
        self.doubt().await;
        self.ask_to_be_replaced().await;
    }

    /// A member whose configured addresses are not those the cluster holds says so to the leader.
    async fn announce(&self) {
        let card = (self.card)();
        let Some(own) = self.own_member() else { return };
        let is_early = self.announce_at().is_some_and(|at| Instant::now() < at);
        if is_early || !self.has_moved(&own) || self.admin.leader().is_none() {
            return;
        }
        let join = Join {
            name: card.name,
            raft_addr: card.raft_addr,
            http_addr: card.http_addr,
            voter: own.voter,
            asked_by: AskedBy::Node,
            timeout: CHANGE_LIMIT,
            trace: None,
        };
        match self.clone().join(join).await {
            Ok(()) => log::info!("announced this node's new address"),
            Err(error) => {
                log::warn!("cannot announce this node's new address yet: {error}");
                *self.announce_at() = Some(Instant::now() + ANNOUNCE_PAUSE);
            }
        }
    }

    fn announce_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.announce_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cut off for long, a member asks whether it was removed meanwhile.
    async fn doubt(&self) {
        let context = self.admin.context();
        let silence = context.staleness().unwrap_or_else(|| context.started.elapsed());
        if self.own_member().is_none() || silence < DOUBT_AFTER || self.admin.leads() {
            return;
        }
        if self.admin.ask_standing().await == MemberStanding::NotMember {
            let node_id = context.own_id();
            let _ = self.removal.send(NoteRemoval { node_id }).await;
        }
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
