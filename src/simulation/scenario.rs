//! A seed from the founding of its cluster to the verdict.
//!
//! Three or five nodes found a cluster; clients load it while things go wrong; then all faults end, and within
//! `CONVERGENCE_LIMIT` of simulated time every node has to be a voter, ready, and level with the leader, no record may
//! outlive its deadline, and every watcher has to have caught up. Then everything is read from every node, the
//! nodes' states are compared byte for byte (records, sessions, membership, history), and what clients and watchers
//! saw is held against the history that they share.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::bounds;
use super::chronicle::Chronicle;
use super::client::{are_well, join, status, view};
use super::faults::{Faults, Plan};
use super::operator::Operator;
use super::report::{Findings, SeedReport};
use super::scribe::Scribe;
use super::sentinel::Sentinel;
use super::watchers::Watchers;
use super::workload::{Load, Workload};
use super::world::{Listener, World};
use crate::actors::messages::Consistency;
use crate::env::{Chance, Clock};
use crate::storage::backup::Export;
use crate::types::Retention;

/// Within this time after the last fault a cluster is well again.
const CONVERGENCE_LIMIT: Duration = Duration::from_secs(10);

/// Load that goes on after the last fault.
const LOAD_AFTER: Duration = Duration::from_millis(500);

/// A founding takes a few elections; one that takes longer is a failure.
const FOUNDING_LIMIT: Duration = Duration::from_secs(30);

/// By so much a record may outlive its deadline on a cluster that is well: a look of the leader's, and a write.
const MOST_OVERDUE_MS: u64 = 1_000;

/// How often the last reads are tried: a damaged disk may show itself only then, and records go on expiring.
const VERIFY_ATTEMPTS: u32 = 6;

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs a seed. The trace, told to `listener` line by line, has everything that happened.
pub fn run(seed: u64, listener: Listener) -> SeedReport {
    let (mut report, trace) = World::run_before(listener, seed, |world| async move {
        let findings = Findings::default();
        scenario(&world, &findings).await;
        findings.into_report(seed, world.elapsed().as_millis() as u64)
    });
    let digest = Sha256::digest(trace.as_bytes());
    report.digest = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    report
}

async fn scenario(world: &World, findings: &Findings) {
    let machines = if world.chance.below(4) == 0 { 5 } else { 3 };
    let plan = Plan::draw(&*world.chance, machines);
    let load = draw_load(&*world.chance);
    world.note(format_args!("{machines} machines, {load:?}, faults: {}", plan.describe()));
    let operator = Operator::new(world, findings);
    for number in 1..=machines {
        let retention = draw_retention(&*world.chance, load.forgets);
        operator.set_up(&format!("n{number}"), retention).await;
    }
    if !converge(&operator, FOUNDING_LIMIT).await {
        return findings.violation(world, "no cluster was founded");
    }
    let workload = Workload::new(world, findings, load, operator.names.clone());
    let names = operator.names.clone();
    let watchers = Watchers::new(world, findings, load, names);
    let scribe = Scribe::default();
    let sentinel = Sentinel::new(&operator, &scribe, load.watchers);
    let faults = async {
        Faults::new(&operator, plan).run().await;
        sleep(LOAD_AFTER).await;
        workload.stop();
        watchers.stop();
        converge(&operator, CONVERGENCE_LIMIT).await
    };
    let work = futures_util::future::join3(faults, workload.run(), watchers.run());
    let (is_well, (), ()) = sentinel.watch_while(work).await;
    if !is_well {
        let what = format!("not well within {CONVERGENCE_LIMIT:?} of the last fault");
        return findings.violation(world, format!("{what}: {}", tell(&operator).await));
    }
    if !end_what_is_due(&operator).await {
        findings.violation(world, "records outlive their deadlines, or the past its retention");
    }
    if let Some(revision) = newest_revision(&operator).await {
        watchers.catch_up(revision, CONVERGENCE_LIMIT).await;
    }
    if let Some(chronicle) = verify(&operator, &workload, &scribe).await {
        bounds::look_at_rest(&operator);
        workload.judge(&chronicle);
        watchers.judge(&chronicle);
    }
}

fn draw_load(chance: &dyn Chance) -> Load {
    Load {
        clients: 2 + chance.below(7) as usize,
        groups: 2 + chance.below(4) as usize,
        pause: Duration::from_millis(10 + chance.below(120)),
        watchers: 1 + chance.below(4) as usize,
        forgets: chance.below(3) == 0,
    }
}

/// How much of the past a node is set to keep: so little that some of it goes, and differently from node to node, so that
/// each leader sets another retention. More than happens between two looks of the [`Scribe`].
fn draw_retention(chance: &dyn Chance, forgets: bool) -> Retention {
    match forgets {
        false => Retention::default(),
        true => Retention {
            changes: 250 + chance.below(500),
            bytes: (300 << 10) + chance.below(1 << 20),
            age_ms: None,
        },
    }
}

/// Waits until all nodes are well, and sees to them meanwhile. A node that is replaced gets the time anew.
async fn converge(operator: &Operator, limit: Duration) -> bool {
    let begun = Instant::now();
    loop {
        operator.tend().await;
        let names = operator.names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let is_sound = !operator.awaits_repair();
        if is_sound && are_well(&operator.world, &names, names.len()).await && are_level(operator) {
            operator.world.note("all are well");
            return true;
        }
        let since = operator.replaced_at().map_or(begun, |at| at.max(begun));
        if since.elapsed() > limit {
            return false;
        }
        readmit(operator).await;
        sleep(LOOK_EVERY).await;
    }
}

/// Has a node that was removed join again.
async fn readmit(operator: &Operator) {
    let world = &operator.world;
    for name in operator.names() {
        let Some(status) = status(world, &name).await else { continue };
        if !status.not_ready.iter().any(|reason| reason.contains("removed")) {
            continue;
        }
        let others = operator.names();
        for at in others.iter().filter(|at| **at != name) {
            if join(world, at, &name).await.is_ok() {
                world.note(format_args!("{name} joined again"));
                break;
            }
        }
    }
}

/// Whether all nodes have applied the same entries.
fn are_level(operator: &Operator) -> bool {
    let names = operator.names();
    let applied = |name: &String| operator.world.state(name).map(|state| state.applied());
    let first = applied(&names[0]);
    first.is_some() && names.iter().all(|name| applied(name) == first)
}

/// How each node stands, for a message.
async fn tell(operator: &Operator) -> String {
    let mut lines = Vec::new();
    for name in operator.names() {
        lines.push(match status(&operator.world, &name).await {
            None => format!("{name} does not answer"),
            Some(status) => format!(
                "{name}: {:?} in term {}, leader {}, applied {} of {}, {} members, {}",
                status.role,
                status.term,
                status.leader.map_or("unknown".into(), |leader| leader.name),
                status.applied_index,
                status.commit_index,
                status.member_count,
                status.not_ready.join(", ")
            ),
        });
    }
    lines.join("; ")
}

/// Waits until no record and no lease has outlived its deadline, by the leader's clock, for long, and the past is kept as
/// the leader is set to.
async fn end_what_is_due(operator: &Operator) -> bool {
    let deadline = Instant::now() + CONVERGENCE_LIMIT;
    while Instant::now() < deadline {
        let overdue_ms = overdue_ms(operator).await;
        let has_ended = overdue_ms.is_some_and(|overdue_ms| overdue_ms <= MOST_OVERDUE_MS);
        if has_ended && keeps_what_it_should(operator).await == Some(true) {
            return true;
        }
        operator.tend().await;
        sleep(LOOK_EVERY).await;
    }
    false
}

/// For how long the next record to expire should have been gone.
async fn overdue_ms(operator: &Operator) -> Option<u64> {
    let world = &operator.world;
    let leader = status(world, &operator.names()[0]).await?.leader?.name;
    let state = world.state(&leader)?;
    let now_ms = world.clock(&leader)?.unix_ms().max(state.clock_ms());
    let deadline_ms = state.next_deadline_ms().ok()?;
    Some(deadline_ms.map_or(0, |deadline_ms| now_ms.saturating_sub(deadline_ms)))
}

/// Whether the leader's settings of the past are in force, and no more is kept than they allow.
async fn keeps_what_it_should(operator: &Operator) -> Option<bool> {
    let world = &operator.world;
    let leader = status(world, &operator.names()[0]).await?.leader?.name;
    let state = world.state(&leader)?;
    let in_force = state.retention().ok()?;
    let keeps_too_much = state.keeps_too_much(state.clock_ms()).ok()?;
    Some(in_force == operator.retention(&leader) && !keeps_too_much)
}

/// The revision that the cluster has come to.
async fn newest_revision(operator: &Operator) -> Option<u64> {
    for name in operator.names() {
        if let Ok(read) = view(&operator.world, &name, Consistency::Linearizable).await {
            return Some(read.view.revision());
        }
    }
    None
}

/// Reads everything from every node, compares their states, and reads the history that they share. A disk that was
/// damaged may show it only now; then the machine is replaced and all is read again.
async fn verify(operator: &Operator, workload: &Workload, scribe: &Scribe) -> Option<Chronicle> {
    let findings = &operator.findings;
    let world = &operator.world;
    for _ in 0..VERIFY_ATTEMPTS {
        let mut all_read = true;
        for name in operator.names() {
            all_read &= workload.read_all(&name).await;
        }
        if all_read && let Some(hashes) = state_hashes(operator) {
            world.note(format_args!("states: {hashes:?}"));
            if hashes.iter().any(|(_, hash)| *hash != hashes[0].1) {
                findings.violation(world, format!("nodes differ in state: {hashes:?}"));
            }
            let name = &hashes[0].0;
            scribe.look(operator);
            match Chronicle::read(&world.state(name)?, &scribe.deeds()) {
                Ok(chronicle) => return Some(chronicle),
                Err(error) if error.is_about_storage() => {
                    world.note(format_args!("the history of {name}: {error}"));
                    findings.complain(name, world.starts(name));
                }
                Err(error) => {
                    findings.violation(world, format!("the history of {name}: {error}"));
                    return None;
                }
            }
        }
        scribe.look(operator);
        operator.tend().await;
        if !converge(operator, CONVERGENCE_LIMIT).await {
            findings.violation(world, format!("not well again: {}", tell(operator).await));
            return None;
        }
    }
    findings.violation(world, "the states of the nodes cannot be read");
    None
}

/// A hash of each node's whole state; `None` when one cannot be read, or they are not level.
fn state_hashes(operator: &Operator) -> Option<Vec<(String, String)>> {
    if !are_level(operator) {
        return None;
    }
    let mut hashes = Vec::new();
    for name in operator.names() {
        let mut export = Export::new(operator.world.state(&name)?);
        let mut hasher = Sha256::new();
        loop {
            match export.next_piece() {
                Ok(Some(piece)) => hasher.update(&piece),
                Ok(None) => break,
                Err(error) => {
                    operator.world.note(format_args!("the state of {name}: {error}"));
                    operator.findings.complain(&name, operator.world.starts(&name));
                    return None;
                }
            }
        }
        let hash = hasher.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        hashes.push((name, hash));
    }
    Some(hashes)
}
