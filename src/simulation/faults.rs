//! What goes wrong in a run: which kinds, when and where, drawn from the seed.
//!
//! Each seed has a mix of its own: about half of the kinds, so that some runs have only lost
//! packets and others only disks, and a pace of its own. Most faults end by themselves after a while.
//!
//! Bits are flipped on one machine of a run, the same for all such faults, and in the log only in records that
//! later ones prove durable: the last flush before a crash cannot prove that it ended (`storage::log`), so
//! damage there looks like a write that was torn.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::client::{join, remove, transfer};
use super::net::Weather;
use super::operator::Operator;
use super::world::World;
use crate::env::Chance;
use crate::storage::disk::{Calls, Disk, Fault as DiskFault, MemDisk};
use crate::storage::kv;
use crate::storage::log::inspect;

/// How often the operator looks at the machines.
const TEND_EVERY: Duration = Duration::from_millis(100);

/// A call that fails, and has no effect or a part of it.
const FAILS: DiskFault = DiskFault::Error(std::io::ErrorKind::Other);

/// A kind of fault, under the name that reports count it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Crash,
    CrashAll,
    CrashInRecovery,
    CrashAtCall,
    Kill,
    Partition,
    OneWayCut,
    LinkCut,
    Reset,
    Loss,
    Delay,
    Pause,
    SlowDisk,
    ClockJump,
    ClockDrift,
    DiskFull,
    WriteError,
    SyncError,
    SyncForgets,
    ReadError,
    FlipPage,
    FlipLog,
    LoseDisk,
    Transfer,
    Members,
}

const KINDS: [(Kind, &str); 25] = [
    (Kind::Crash, "power_cut"),
    (Kind::CrashAll, "power_cut_of_all"),
    (Kind::CrashInRecovery, "power_cut_in_recovery"),
    (Kind::CrashAtCall, "power_cut_at_a_disk_call"),
    (Kind::Kill, "process_killed"),
    (Kind::Partition, "partition"),
    (Kind::OneWayCut, "one_way_cut"),
    (Kind::LinkCut, "link_cut"),
    (Kind::Reset, "connections_reset"),
    (Kind::Loss, "packet_loss"),
    (Kind::Delay, "slow_link"),
    (Kind::Pause, "node_paused"),
    (Kind::SlowDisk, "slow_disk"),
    (Kind::ClockJump, "clock_jump"),
    (Kind::ClockDrift, "clock_drift"),
    (Kind::DiskFull, "disk_full"),
    (Kind::WriteError, "write_error"),
    (Kind::SyncError, "fsync_error"),
    (Kind::SyncForgets, "fsync_forgets"),
    (Kind::ReadError, "read_error"),
    (Kind::FlipPage, "bit_flip_page"),
    (Kind::FlipLog, "bit_flip_log"),
    (Kind::LoseDisk, "disk_lost"),
    (Kind::Transfer, "leader_transfer"),
    (Kind::Members, "member_removed_and_joined"),
];

impl Kind {
    /// Whether it costs a machine what its disk held, so that the cluster can spare no other.
    fn hurts(self) -> bool {
        matches!(self, Kind::FlipPage | Kind::FlipLog | Kind::LoseDisk)
    }
}

/// What a seed has in store.
pub struct Plan {
    kinds: Vec<(Kind, &'static str)>,
    /// Longest time between two faults.
    pause: Duration,
    /// How long faults go on.
    lasts: Duration,
    /// The machine whose disk may be damaged.
    victim: usize,
}

/// How a fault that lasts ends.
enum End {
    Links,
    Pause(String),
    SlowDisk(String),
    Full(String),
}

impl Plan {
    pub fn draw(chance: &dyn Chance, machines: usize) -> Plan {
        let mut kinds: Vec<_> = KINDS.into_iter().filter(|_| chance.below(2) == 0).collect();
        if kinds.iter().any(|(kind, _)| kind.hurts()) {
            // Without a voter and with another damaged there would be no quorum.
            kinds.retain(|(kind, _)| *kind != Kind::Members);
        }
        if kinds.is_empty() {
            kinds.push(KINDS[0]);
        }
        Plan {
            kinds,
            pause: Duration::from_millis(200 + chance.below(1_500)),
            lasts: Duration::from_millis(3_000 + chance.below(5_000)),
            victim: chance.below(machines as u64) as usize,
        }
    }

    pub fn describe(&self) -> String {
        self.kinds.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
    }
}

/// Carries a plan out.
pub struct Faults<'a> {
    operator: &'a Operator,
    plan: Plan,
    ends: Vec<(Instant, End)>,
    /// Changes of members and leaders that wait for an answer.
    chores: FuturesUnordered<LocalBoxFuture<'static, ()>>,
}

impl<'a> Faults<'a> {
    pub fn new(operator: &'a Operator, plan: Plan) -> Faults<'a> {
        Faults { operator, plan, ends: Vec::new(), chores: FuturesUnordered::new() }
    }

    fn world(&self) -> &World {
        &self.operator.world
    }

    fn below(&self, bound: u64) -> u64 {
        self.world().chance.below(bound)
    }

    fn ms(&self, least: u64, more: u64) -> Duration {
        Duration::from_millis(least + self.below(more))
    }

    fn any(&self) -> String {
        let names = self.operator.names();
        names[self.below(names.len() as u64) as usize].clone()
    }

    /// Two machines.
    fn pair(&self) -> (String, String) {
        let names = self.operator.names();
        let one = self.below(names.len() as u64) as usize;
        let other = (one + 1 + self.below(names.len() as u64 - 1) as usize) % names.len();
        (names[one].clone(), names[other].clone())
    }

    fn victim(&self) -> String {
        self.operator.names()[self.plan.victim].clone()
    }

    /// Lets things go wrong until the plan is over, then ends what still lasts.
    pub async fn run(mut self) {
        let over = Instant::now() + self.plan.lasts;
        let mut next = Instant::now() + self.ms(50, self.plan.pause.as_millis() as u64);
        while Instant::now() < over {
            let look = (Instant::now() + TEND_EVERY).min(next).min(over);
            tokio::select! {
                biased;
                Some(()) = self.chores.next(), if !self.chores.is_empty() => {}
                () = sleep_until(look) => {}
            }
            self.end_what_is_due();
            if Instant::now() >= next {
                self.strike().await;
                next = Instant::now() + self.ms(20, self.plan.pause.as_millis() as u64);
            }
            self.operator.tend().await;
        }
        self.operator.end_faults();
        self.operator.start_all().await;
        while self.chores.next().await.is_some() {}
    }

    fn end_what_is_due(&mut self) {
        let now = Instant::now();
        let (due, later) =
            std::mem::take(&mut self.ends).into_iter().partition(|(at, _)| *at <= now);
        self.ends = later;
        let due: Vec<(Instant, End)> = due;
        for (_, end) in due {
            match end {
                End::Links => {
                    self.world().note("links heal");
                    self.world().network.heal();
                }
                End::Pause(name) => {
                    self.world().note(format_args!("{name} goes on"));
                    self.world().network.hold(&name, false);
                    self.world().hold(&name, false);
                }
                End::SlowDisk(name) => self.world().hold(&name, false),
                End::Full(name) => {
                    self.world().leave_room(&name, None);
                    self.operator.note_room(&name, false);
                }
            }
        }
    }

    fn end_after(&mut self, after: Duration, end: End) {
        self.ends.push((Instant::now() + after, end));
    }

    /// One fault.
    async fn strike(&mut self) {
        let (kind, name) = self.plan.kinds[self.below(self.plan.kinds.len() as u64) as usize];
        if self.inject(kind, name).await {
            self.operator.findings.fault(name);
        }
    }

    /// False when it had nothing to act on.
    async fn inject(&mut self, kind: Kind, called: &str) -> bool {
        let at = match kind.hurts() {
            true => self.victim(),
            false => self.any(),
        };
        self.world().note(format_args!("FAULT {called} ({at})"));
        match kind {
            Kind::Crash | Kind::Kill => {
                let down = self.ms(0, 2_500);
                self.operator.take_down(&at, kind == Kind::Crash, down);
            }
            Kind::CrashAll => {
                for name in self.operator.names() {
                    let down = self.ms(0, 600);
                    self.operator.take_down(&name, true, down);
                }
            }
            Kind::CrashInRecovery => {
                let (down, calls) = (self.ms(0, 500), self.below(60));
                self.operator.take_down(&at, true, down);
                self.operator.cut_recovery(&at, calls);
            }
            Kind::CrashAtCall => {
                let calls = self.below(30);
                return self.with_disk(&at, |disk| disk.cut_power_after(calls));
            }
            Kind::WriteError => return self.fail_call(&at, Calls::Write, FAILS),
            Kind::SyncError => return self.fail_call(&at, Calls::Sync, FAILS),
            Kind::SyncForgets => {
                return self.fail_call(&at, Calls::Sync, DiskFault::SyncForgets);
            }
            Kind::ReadError => return self.fail_call(&at, Calls::Read, FAILS),
            Kind::Partition | Kind::OneWayCut | Kind::LinkCut | Kind::Loss | Kind::Delay => {
                self.spoil_links(kind);
                let lasts = self.ms(100, 4_000);
                self.end_after(lasts, End::Links);
            }
            Kind::Reset => {
                let (one, other) = self.pair();
                self.world().network.reset(&one, &other);
            }
            Kind::Pause => {
                self.world().network.hold(&at, true);
                self.world().hold(&at, true);
                let lasts = self.ms(50, 2_000);
                self.end_after(lasts, End::Pause(at));
            }
            Kind::SlowDisk => {
                self.world().hold(&at, true);
                let lasts = self.ms(5, 400);
                self.end_after(lasts, End::SlowDisk(at));
            }
            Kind::ClockJump => {
                let by_ms = self.below(7_200_000) as i64 - 3_600_000;
                self.world().clock(&at).expect("a machine").jump(by_ms);
            }
            Kind::ClockDrift => {
                let ppm = self.below(200_000) as i64 - 100_000;
                self.world().clock(&at).expect("a machine").drift(ppm);
            }
            Kind::DiskFull => {
                self.world().leave_room(&at, Some(self.below(300 << 10)));
                self.operator.note_room(&at, true);
                let lasts = self.ms(300, 3_000);
                self.end_after(lasts, End::Full(at));
            }
            Kind::FlipPage => return self.flip_page(&at),
            Kind::FlipLog => return self.flip_log(&at),
            Kind::LoseDisk => self.operator.replace(&at).await,
            Kind::Transfer => {
                let (via, to) = self.pair();
                let world = self.world().clone();
                self.chore(async move {
                    let result = transfer(&world, &via, &to).await;
                    world.note(format_args!("transfer to {to}: {result:?}"));
                });
            }
            Kind::Members => self.change_members(),
        }
        true
    }

    fn with_disk(&self, name: &str, act: impl FnOnce(&MemDisk)) -> bool {
        if !self.world().runs(name) {
            return false;
        }
        act(&self.world().disk(name).expect("a machine"));
        self.operator.note_faulty(name);
        true
    }

    fn fail_call(&self, name: &str, calls: Calls, fault: DiskFault) -> bool {
        let nth = self.below(20);
        self.with_disk(name, |disk| disk.fail(calls, nth, fault))
    }

    fn spoil_links(&self, kind: Kind) {
        let network = &self.world().network;
        let (one, other) = self.pair();
        match kind {
            Kind::Partition => {
                // A random part of the machines, with at least one on each side.
                let names = self.operator.names();
                let inside = |name: &String| *name == one || (*name != other && self.below(2) == 0);
                let (ours, theirs): (Vec<_>, Vec<_>) = names.iter().partition(|name| inside(name));
                self.world().note(format_args!("apart: {ours:?} and {theirs:?}"));
                for (one, other) in
                    ours.iter().flat_map(|one| theirs.iter().map(move |it| (one, it)))
                {
                    network.cut(one, other);
                    network.cut(other, one);
                }
            }
            Kind::OneWayCut => network.cut(&one, &other),
            Kind::LinkCut => {
                network.cut(&one, &other);
                network.cut(&other, &one);
            }
            _ => {
                let weather = match kind {
                    Kind::Loss => {
                        Weather { lost_per_mille: 20 + self.below(300), ..Weather::default() }
                    }
                    _ => Weather { delay: self.ms(10, 400), ..Weather::default() },
                };
                network.spoil(&one, &other, weather);
            }
        }
    }

    /// Flips a bit in the file of the tree, half of the time with the node down, so that no cache hides it.
    fn flip_page(&self, name: &str) -> bool {
        self.take_down_to_flip(name);
        let disk = self.world().disk(name).expect("a machine");
        let Some(file) = disk.contents().remove(kv::FILE) else { return false };
        let offset = self.below(file.len() as u64);
        disk.flip_bit(kv::FILE, offset, self.below(8) as u8);
        self.operator.note_hurt(name);
        true
    }

    /// Flips a bit in a record of the log that later records prove durable.
    fn flip_log(&self, name: &str) -> bool {
        self.take_down_to_flip(name);
        let Some((file, offset)) = self.durable_record_byte(name) else { return false };
        let disk = self.world().disk(name).expect("a machine");
        disk.flip_bit(&file, offset, self.below(8) as u8);
        self.operator.note_hurt(name);
        true
    }

    fn take_down_to_flip(&self, name: &str) {
        if self.below(2) == 0 {
            let is_power_cut = self.below(2) == 0;
            let down = self.ms(0, 500);
            self.operator.take_down(name, is_power_cut, down);
        }
    }

    /// A byte of a record that a later one says is durable: a file, and an offset in it.
    fn durable_record_byte(&self, name: &str) -> Option<(String, u64)> {
        let disk = MemDisk::from_contents(self.world().disk(name)?.contents());
        let survey = inspect::survey(&disk).ok()?;
        let segments = survey.segments;
        let segment = segments.get(self.below(segments.len() as u64) as usize)?;
        let dump = inspect::dump(&disk, segment.sequence).ok()??;
        // The proof has to outlive a power cut as well: it lies itself in a record that is proven.
        let synced = dump.records.iter().map(|record| record.synced).max()?;
        let durable = dump.records.iter().filter(|record| record.number <= synced);
        let proven = durable.map(|record| record.synced).max()?;
        let last = dump.records.iter().rposition(|record| record.number <= proven)?;
        let begin = dump.records[0].offset;
        let end = dump.records[last].offset + 16;
        let file = segment.file.strip_prefix(&disk.locate(""))?.to_string();
        Some((file, begin + self.below(end - begin)))
    }

    /// Takes a member out and has it join again.
    fn change_members(&self) {
        let (at, name) = self.pair();
        let world = self.world().clone();
        let rest = self.ms(0, 1_500);
        self.chore(async move {
            let removed = remove(&world, &at, &name).await;
            world.note(format_args!("remove {name}: {removed:?}"));
            tokio::time::sleep(rest).await;
            let joined = join(&world, &at, &name).await;
            world.note(format_args!("join {name}: {joined:?}"));
        });
    }

    fn chore(&self, chore: impl Future<Output = ()> + 'static) {
        self.chores.push(chore.boxed_local());
    }
}
