//! Who runs the machines: restarts nodes that died, and holds it against the database when a node gives up or refuses its
//! disk although nothing was done to it.
//!
//! A node whose disk is damaged is replaced by itself, as a new incarnation; the operator does no more than start it. Where
//! it cannot start it gets an empty disk, under the old name, and joins by its seeds.
//!
//! At most one machine of a run is ever damaged, since a cluster of three survives no more than that.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::report::Findings;
use super::surroundings::{CLOCK_RATES, by_clock, options};
use super::world::World;
use crate::actors::node::NodeOptions;
use crate::storage::disk::{Disk, MemDisk};
use crate::storage::identity::{Identity, Standing};
use crate::types::{NodeId, Retention};

/// How long a node that gave up stays down.
const RESTART_AFTER: Duration = Duration::from_millis(300);

/// How often a start is tried before a machine is taken for lost.
const STARTS: u32 = 20;

/// What the operator knows of a machine.
#[derive(Default)]
struct Post {
    /// How much of the past its node is set to keep.
    retention: Retention,
    /// When the node is to be started, while it does not run.
    due: Option<Instant>,
    /// The incarnation whose data were damaged: it is right to refuse them.
    hurt: Option<NodeId>,
    /// Calls of its disk were made to fail: it is right to give up.
    is_faulty: bool,
    /// Its disk has no room, and may need some to start.
    is_full: bool,
    /// The next start loses its power after so many calls of the disk.
    cut_after: Option<u64>,
    /// Starts that failed in a row.
    failed_starts: u32,
}

/// Whether a node's last words ask for an empty disk. They are made for people, who have nothing else.
fn is_about_damage(reason: &str) -> bool {
    reason.contains("damaged")
}

/// Who a disk says that it is, and how it stands.
fn incarnation(disk: MemDisk) -> Option<(NodeId, Standing)> {
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let identity = Identity::load(&disk).ok()??;
    Some((identity.node_id, identity.standing))
}

/// See the module.
#[derive(Clone)]
pub struct Operator {
    pub world: World,
    pub findings: Findings,
    posts: Rc<RefCell<BTreeMap<String, Post>>>,
    /// The machines, in order; clients know them by this list.
    pub names: Rc<RefCell<Vec<String>>>,
    /// When the last machine was replaced.
    replaced_at: Rc<RefCell<Option<Instant>>>,
}

impl Operator {
    pub fn new(world: &World, findings: &Findings) -> Operator {
        Operator {
            world: world.clone(),
            findings: findings.clone(),
            posts: Rc::default(),
            names: Rc::default(),
            replaced_at: Rc::default(),
        }
    }

    pub fn names(&self) -> Vec<String> {
        self.names.borrow().clone()
    }

    pub fn replaced_at(&self) -> Option<Instant> {
        *self.replaced_at.borrow()
    }

    /// Sets a machine up and starts its node.
    pub async fn set_up(&self, name: &str, retention: Retention) {
        let post = Post { retention, ..Post::default() };
        self.posts.borrow_mut().insert(name.to_string(), post);
        self.start(name).await;
        self.names.borrow_mut().push(name.to_string());
    }

    fn with<T>(&self, name: &str, change: impl FnOnce(&mut Post) -> T) -> T {
        change(self.posts.borrow_mut().get_mut(name).expect("a machine that was set up"))
    }

    /// How much of the past the node on a machine is set to keep.
    pub fn retention(&self, name: &str) -> Retention {
        self.with(name, |post| post.retention)
    }

    pub fn note_hurt(&self, name: &str) {
        // Also of a disk that has no power.
        let disk = self.world.disk(name).map(|disk| MemDisk::from_contents(disk.contents()));
        let incarnation = disk.and_then(incarnation).map(|(node_id, _)| node_id);
        self.with(name, |post| post.hurt = incarnation);
    }

    /// Whether a machine's data were damaged, and still are. They are not once it has begun a new life.
    fn is_hurt(&self, name: &str) -> bool {
        let Some(hurt) = self.with(name, |post| post.hurt) else { return false };
        match self.world.disk(name).and_then(incarnation) {
            Some((now, standing)) if now != hurt && standing != Standing::Resetting => {
                self.world.note(format_args!("{name} has begun a new life"));
                self.with(name, |post| post.hurt = None);
                self.findings.forget_complaints(name);
                self.findings.fault("damaged_node_replaced");
                *self.replaced_at.borrow_mut() = Some(Instant::now());
                false
            }
            _ => true,
        }
    }

    /// Whether a node that has met what is damaged is still to be replaced.
    pub fn awaits_repair(&self) -> bool {
        self.names().iter().any(|name| self.is_hurt(name) && self.world.is_damaged(name))
    }

    pub fn note_faulty(&self, name: &str) {
        self.with(name, |post| post.is_faulty = true);
    }

    pub fn note_room(&self, name: &str, is_full: bool) {
        self.with(name, |post| post.is_full = is_full);
    }

    /// Cuts a machine's power, or kills its node, and starts it again after a while.
    pub fn take_down(&self, name: &str, is_power_cut: bool, restart_after: Duration) {
        match is_power_cut {
            true => self.world.crash(name),
            false => self.world.kill(name),
        }
        let due = Some(Instant::now() + restart_after);
        self.with(name, |post| *post = Post { due, is_faulty: false, cut_after: None, ..*post });
    }

    /// Has the power go again while the node recovers, after so many calls of the disk.
    pub fn cut_recovery(&self, name: &str, calls: u64) {
        self.with(name, |post| post.cut_after = Some(calls));
    }

    /// Takes a machine's disk away and starts it with an empty one.
    pub async fn replace(&self, name: &str) {
        self.world.crash(name);
        self.world.lose_disk(name);
        self.findings.fault("machine_replaced");
        *self.replaced_at.borrow_mut() = Some(Instant::now());
        self.with(name, |post| *post = Post { retention: post.retention, ..Post::default() });
        Box::pin(self.start(name)).await;
    }

    /// Looks after all machines once.
    pub async fn tend(&self) {
        for name in self.names() {
            let gave_up = self.world.gave_up(&name);
            // It may have given up in the life that has just ended.
            let was_hurt = gave_up.is_some() && self.with(&name, |post| post.hurt.is_some());
            let is_hurt = self.is_hurt(&name) || was_hurt;
            let start = self.world.starts(&name);
            let complains = self.world.runs(&name) && self.findings.complains(&name, start);
            let is_faulty = self.with(&name, |post| post.is_faulty);
            match &gave_up {
                Some(reason) => self.world.note(format_args!("{name} gave up: {reason}")),
                None if complains && !is_hurt => {
                    self.world.note(format_args!("{name} refuses reads"));
                }
                None => {
                    self.start_if_due(&name).await;
                    continue;
                }
            }
            let reason = gave_up.as_deref().unwrap_or("a read was refused");
            if !is_hurt && (!is_faulty || is_about_damage(reason)) {
                let what = format!("{name} gave up and nothing was done to it: {reason}");
                self.findings.violation(&self.world, what);
            }
            // A power cut also if only a call failed: what was not synced may be gone.
            let is_power_cut = is_faulty && self.world.chance.below(2) == 0;
            self.take_down(&name, is_power_cut, RESTART_AFTER);
        }
    }

    async fn start_if_due(&self, name: &str) {
        let due = self.with(name, |post| post.due);
        if due.is_some_and(|due| due <= Instant::now()) && !self.world.runs(name) {
            self.start(name).await;
        }
    }

    /// Starts all nodes that are down.
    pub async fn start_all(&self) {
        for name in self.names() {
            self.with(&name, |post| post.cut_after = None);
            if !self.world.runs(&name) {
                self.start(&name).await;
            }
        }
    }

    async fn start(&self, name: &str) {
        let names = self.names();
        let seeds: Vec<&str> =
            names.iter().map(String::as_str).filter(|other| *other != name).collect();
        let (cut_after, retention) =
            self.with(name, |post| (post.cut_after.take(), post.retention));
        if let Some(calls) = cut_after
            && let Some(disk) = self.world.disk(name)
        {
            disk.cut_power_after(calls);
            self.note_faulty(name);
        }
        let (slowest, fastest) = CLOCK_RATES.into_inner();
        let rate = slowest + self.world.chance.below(u64::from(fastest - slowest) + 1) as u32;
        let options = options(name, &seeds);
        let timing = by_clock(options.timing, rate);
        let options = NodeOptions { retention, timing, ..options };
        let Err(error) = self.world.try_start(name, options).await else {
            self.with(name, |post| *post = Post { due: None, failed_starts: 0, ..*post });
            return;
        };
        self.world.note(format_args!("{name} does not start: {error}"));
        let is_hurt = self.is_hurt(name);
        let (is_faulty, is_full, failed) = self.with(name, |post| {
            post.failed_starts += 1;
            (post.is_faulty, post.is_full, post.failed_starts)
        });
        let is_damaged = is_about_damage(&error.to_string());
        if is_damaged && is_hurt {
            return Box::pin(self.replace(name)).await;
        } else if is_full && !is_damaged {
            self.world.leave_room(name, None);
            self.note_room(name, false);
        } else if !is_faulty || is_damaged || failed > STARTS {
            let what = format!("{name} does not start and nothing was done to it: {error}");
            self.findings.violation(&self.world, what);
            return Box::pin(self.replace(name)).await;
        }
        self.take_down(name, is_faulty, RESTART_AFTER);
    }

    /// Everything that was done to the machines ends: full disks get room, no further call fails.
    pub fn end_faults(&self) {
        for name in self.names() {
            self.world.hold(&name, false);
            self.world.network.hold(&name, false);
            if self.with(&name, |post| std::mem::take(&mut post.is_full)) {
                self.world.leave_room(&name, None);
            }
            if let Some(disk) = self.world.disk(&name) {
                disk.clear_faults();
            }
        }
        self.world.network.heal();
        self.world.note("all faults end");
    }
}
