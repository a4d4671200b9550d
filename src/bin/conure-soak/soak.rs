//! Rounds: clients at work, faults one after the other, each mended, and a verdict. A round is as long as its histories
//! fit into memory with ease; the cluster is the same for all of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use conuredb::processes::LOOK_EVERY;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::Failure;
use crate::cli::{CommonArgs, SoakArgs};
use crate::disks::Disk;
use crate::faults::Faults;
use crate::findings::Findings;
use crate::fleet::{Around, Fleet};
use crate::judge::judge;
use crate::kinds::{Deck, Kind};
use crate::network::Network;
use crate::tools::Tools;
use crate::watchers::Watchers;
use crate::workload::Workload;

/// Faults of a round.
const ROUND_FAULTS: u64 = 20;

/// Operations of a round, at least, when there is nothing but time to end it.
const ROUND_OPS: u64 = 15_000;

/// How long clients may be without any answer while all nodes are well.
const PROGRESS_LIMIT: Duration = Duration::from_secs(60);

/// Checkpoints every few thousand writes and a short log, so that who was away gets a snapshot now and then;
/// segments that fit a small disk; elections that a busy machine does not start by itself (a heartbeat has three quarters
/// of its interval, and debug builds beside a load of twenty have missed 75 ms for a minute).
const FLAGS: &[&str] = &[
    "--set=raft.checkpoint_log_bytes=1MiB",
    "--set=raft.keep_log_entries=200",
    "--set=storage.log_segment_bytes=12MiB",
    "--set=raft.heartbeat_interval=300ms",
    "--set=raft.election_timeout_min=1000ms",
    "--set=raft.election_timeout_max=2000ms",
];

/// How far a run goes.
struct Goal {
    faults: u64,
    ops: u64,
    until: Option<Instant>,
}

impl Goal {
    fn rounds(&self) -> u64 {
        match self.until {
            Some(_) => u64::MAX,
            None => self.faults.div_ceil(ROUND_FAULTS).max(1),
        }
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() > until)
    }

    /// Faults and operations of this round of so many.
    fn share(&self, round: u64) -> (u64, u64) {
        if self.until.is_some() {
            return (ROUND_FAULTS, ROUND_OPS);
        }
        let part = |all: u64| all * (round + 1) / self.rounds() - all * round / self.rounds();
        (part(self.faults), part(self.ops))
    }
}

/// Whether nothing was found.
pub async fn run(common: &CommonArgs, args: &SoakArgs) -> Result<bool, Failure> {
    let seed = args.seed.unwrap_or_else(rand::random);
    let count = usize::from(common.nodes);
    let findings = Arc::new(Findings::new(seed, count as u64));
    findings.say(format_args!("seed {seed}, {count} nodes, {} clients", args.clients));
    let tools = Tools::look();
    let kinds = possible(args, &tools, &findings);
    let mut around = Around { network: Some(Network::open(count).await?), ..Around::default() };
    if kinds.iter().any(|kind| kind.needs_disks()) {
        around.disks = (0..count).map(|_| Disk::make()).collect::<Result<_, _>>()?;
    }
    let clocks = tools.clocks.as_deref().ok().filter(|_| kinds.contains(&Kind::ClockJump));
    let mut fleet = Fleet::found(&common.program()?, count, FLAGS, around, clocks).await?;
    findings.say(format_args!("{count} voters, {} kinds of faults", kinds.len()));

    let mut chance = StdRng::seed_from_u64(seed);
    let mut deck = Deck::new(kinds);
    let goal = Goal {
        faults: args.faults,
        ops: args.ops,
        until: args.duration().map(|duration| Instant::now() + duration),
    };
    let mut round = 0;
    while round < goal.rounds() && !goal.is_over() {
        let load = Arc::new(Workload::new(&fleet, &findings, round));
        let watchers = match Watchers::start(&fleet, &load.prefix).await {
            Ok(watchers) => watchers,
            Err(error) => {
                findings.violation(error);
                break;
            }
        };
        let clients = load.start(usize::from(args.clients), chance.random())?;
        let done =
            faults_of(&mut fleet, &findings, &load, &mut deck, &mut chance, (&goal, round)).await;
        load.stop(clients).await;
        let judged = match done {
            Ok(()) => judge(&fleet, &load, &watchers, &findings).await,
            failed => failed,
        };
        // A cluster that does not become well is what this program looks for.
        if let Err(error) = judged {
            findings.violation(error);
            break;
        }
        round += 1;
    }
    let totals = findings.sum();
    if totals.failed() {
        println!("{}\nlogs and data are kept in {}", fleet.last_words(), fleet.keep());
    }
    let faults: Vec<String> =
        totals.faults_by_kind.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    findings.say(format_args!("{} faults: {}", totals.faults, faults.join(", ")));
    findings.say(format_args!(
        "{} operations checked, {} writes acknowledged; {} violations, {} lost, {} duplicated, {} undecided",
        totals.checked_ops, totals.acknowledged_writes, totals.violations, totals.lost, totals.duplicated, totals.undecided
    ));
    if common.json {
        println!("{}", serde_json::to_string(&totals)?);
    }
    Ok(!totals.failed())
}

/// The kinds that were asked for and that this machine allows.
fn possible(args: &SoakArgs, tools: &Tools, findings: &Findings) -> Vec<Kind> {
    use clap::ValueEnum;
    let asked = match args.kinds.is_empty() {
        true => Kind::value_variants(),
        false => &args.kinds,
    };
    let mut possible = Vec::new();
    for kind in asked {
        match kind.missing(tools) {
            None => possible.push(*kind),
            Some(missing) => findings.skipped(*kind, missing),
        }
    }
    possible
}

/// The faults of a round, spread over its operations.
async fn faults_of(
    fleet: &mut Fleet,
    findings: &Arc<Findings>,
    load: &Arc<Workload>,
    deck: &mut Deck,
    chance: &mut StdRng,
    (goal, round): (&Goal, u64),
) -> Result<(), Failure> {
    let (faults, ops) = goal.share(round);
    for number in 0..faults {
        progress(load, ops * number / faults).await?;
        let Some(kind) = deck.draw(chance) else { break };
        if goal.is_over() {
            return Ok(());
        }
        let begun = Instant::now();
        let what = Faults { fleet, findings, load, chance }.inject(kind).await;
        let what = what.map_err(|error| format!("{}: {error}", kind.name()))?;
        let hurt = begun.elapsed();
        fleet
            .become_well()
            .await
            .map_err(|error| format!("after {} {what}: {error}", kind.name()))?;
        findings.fault(kind);
        let took = (hurt.as_secs_f64(), (begun.elapsed() - hurt).as_secs_f64());
        findings.say(format_args!(
            "{} {what}: {:.1} s, and {:.1} s until all were well",
            kind.name(),
            took.0,
            took.1
        ));
    }
    progress(load, ops).await
}

/// Waits until the clients have come so far. Standing still while all nodes are well is a finding.
async fn progress(load: &Workload, ops: u64) -> Result<(), Failure> {
    let (mut seen, mut moved) = (load.operations(), Instant::now());
    while seen < ops {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = load.operations();
        if now > seen {
            (seen, moved) = (now, Instant::now());
        } else if moved.elapsed() > PROGRESS_LIMIT {
            return Err(format!(
                "all nodes are well, and no client had an answer for {PROGRESS_LIMIT:?}"
            )
            .into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_share_all_faults_and_operations() {
        for (faults, ops) in [(60, 50_000), (7, 1_000), (0, 10), (41, 3)] {
            let goal = Goal { faults, ops, until: None };
            let shares: Vec<(u64, u64)> =
                (0..goal.rounds()).map(|round| goal.share(round)).collect();
            assert_eq!(shares.iter().map(|share| share.0).sum::<u64>(), faults);
            assert_eq!(shares.iter().map(|share| share.1).sum::<u64>(), ops);
            assert!(shares.iter().all(|share| share.0 <= ROUND_FAULTS));
        }
    }
}
