//! What a seed came to, and the sum over many.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::world::World;

/// What was found so far in a run; shared by all that look.
#[derive(Clone, Default)]
pub struct Findings(Rc<RefCell<Found>>);

#[derive(Default)]
struct Found {
    violations: Vec<String>,
    lost: u64,
    duplicated: u64,
    undecided: u64,
    checked_ops: u64,
    faults: BTreeMap<&'static str, u64>,
    /// Nodes that refused a read because of what their disk holds, in which of their lives.
    complaints: BTreeSet<(String, u64)>,
}

impl Findings {
    /// A promise was broken.
    pub fn violation(&self, world: &World, what: impl std::fmt::Display) {
        world.note(format_args!("VIOLATION: {what}"));
        self.0.borrow_mut().violations.push(what.to_string());
    }

    /// An acknowledged write is gone.
    pub fn lost(&self, world: &World, what: impl std::fmt::Display) {
        world.note(format_args!("LOST: {what}"));
        self.0.borrow_mut().lost += 1;
    }

    /// A write was applied twice.
    pub fn duplicated(&self, world: &World, what: impl std::fmt::Display) {
        world.note(format_args!("DUPLICATED: {what}"));
        self.0.borrow_mut().duplicated += 1;
    }

    /// A history was too hard to judge.
    pub fn undecided(&self, world: &World, key: &str) {
        world.note(format_args!("UNDECIDED: {key}"));
        self.0.borrow_mut().undecided += 1;
    }

    pub fn checked(&self, ops: u64) {
        self.0.borrow_mut().checked_ops += ops;
    }

    pub fn fault(&self, kind: &'static str) {
        *self.0.borrow_mut().faults.entry(kind).or_default() += 1;
    }

    /// A node refused a read because of what its disk holds.
    pub fn complain(&self, node: &str, start: u64) {
        self.0.borrow_mut().complaints.insert((node.to_string(), start));
    }

    pub fn complains(&self, node: &str, start: u64) -> bool {
        self.0.borrow().complaints.contains(&(node.to_string(), start))
    }

    /// What a node refused is of no account any more: it has begun a new life.
    pub fn forget_complaints(&self, node: &str) {
        self.0.borrow_mut().complaints.retain(|(of, _)| of != node);
    }

    pub fn into_report(self, seed: u64, simulated_ms: u64) -> SeedReport {
        let found = self.0.borrow();
        SeedReport {
            seed,
            simulated_ms,
            faults_by_kind: found.faults.iter().map(|(kind, n)| (kind.to_string(), *n)).collect(),
            checked_ops: found.checked_ops,
            undecided: found.undecided,
            lost: found.lost,
            duplicated: found.duplicated,
            violations: found.violations.clone(),
            digest: String::new(),
        }
    }
}

/// What one seed came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedReport {
    pub seed: u64,
    pub simulated_ms: u64,
    pub faults_by_kind: BTreeMap<String, u64>,
    pub checked_ops: u64,
    pub undecided: u64,
    pub lost: u64,
    pub duplicated: u64,
    /// In words.
    pub violations: Vec<String>,
    /// A hash of the trace: two runs of a seed have the same.
    pub digest: String,
}

impl SeedReport {
    /// A seed whose run ended without a report.
    pub fn aborted(seed: u64, how: String) -> SeedReport {
        let mut report = Findings::default().into_report(seed, 0);
        report.violations.push(how);
        report
    }

    pub fn failed(&self) -> bool {
        !self.violations.is_empty() || self.undecided + self.lost + self.duplicated > 0
    }

    /// What is wrong, in a line.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        for (count, what) in [
            (self.lost, "acknowledged writes lost"),
            (self.duplicated, "writes applied twice"),
            (self.undecided, "histories undecided"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        parts.extend(self.violations.iter().cloned());
        parts.join("; ")
    }
}

/// The sum over seeds, as `--json` prints it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Totals {
    pub seeds: u64,
    pub simulated_hours: f64,
    pub faults: u64,
    pub faults_by_kind: BTreeMap<String, u64>,
    pub checked_ops: u64,
    pub undecided: u64,
    pub violations: u64,
    pub lost: u64,
    pub duplicated: u64,
    #[serde(skip)]
    simulated_ms: u64,
}

impl Totals {
    pub fn add(&mut self, seed: &SeedReport) {
        self.seeds += 1;
        self.simulated_ms += seed.simulated_ms;
        self.simulated_hours = (self.simulated_ms as f64 / 3_600.0).round() / 1_000.0;
        for (kind, count) in &seed.faults_by_kind {
            self.faults += count;
            *self.faults_by_kind.entry(kind.clone()).or_default() += count;
        }
        self.checked_ops += seed.checked_ops;
        self.undecided += seed.undecided;
        self.violations += seed.violations.len() as u64;
        self.lost += seed.lost;
        self.duplicated += seed.duplicated;
    }

    pub fn failed(&self) -> bool {
        self.undecided + self.violations + self.lost + self.duplicated > 0
    }
}
