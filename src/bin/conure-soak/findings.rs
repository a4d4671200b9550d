//! What was found, what was done, and the figures of a run.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::kinds::Kind;

/// Shared by all that look.
pub struct Findings {
    begun: Instant,
    totals: Mutex<Totals>,
}

/// The figures, as `--json` prints them.
#[derive(Default, Serialize, Clone)]
pub struct Totals {
    pub seed: u64,
    pub nodes: u64,
    pub seconds: u64,
    pub faults: u64,
    pub faults_by_kind: BTreeMap<&'static str, u64>,
    /// Kinds that this machine does not allow, and what is missing.
    pub skipped: BTreeMap<&'static str, String>,
    pub checked_ops: u64,
    pub acknowledged_writes: u64,
    pub undecided: u64,
    pub violations: u64,
    pub lost: u64,
    pub duplicated: u64,
}

impl Findings {
    pub fn new(seed: u64, nodes: u64) -> Findings {
        let totals = Totals { seed, nodes, ..Totals::default() };
        Findings { begun: Instant::now(), totals: Mutex::new(totals) }
    }

    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line for whoever watches.
    pub fn say(&self, what: impl Display) {
        println!("{:8.1} s  {what}", self.begun.elapsed().as_secs_f64());
    }

    pub fn violation(&self, what: impl Display) {
        self.say(format_args!("VIOLATION: {what}"));
        self.totals().violations += 1;
    }

    /// An acknowledged write is gone.
    pub fn lost(&self, what: impl Display) {
        self.say(format_args!("LOST: {what}"));
        self.totals().lost += 1;
    }

    /// A write was applied twice.
    pub fn duplicated(&self, what: impl Display) {
        self.say(format_args!("DUPLICATED: {what}"));
        self.totals().duplicated += 1;
    }

    /// A history was too hard to judge.
    pub fn undecided(&self, key: &str) {
        self.say(format_args!("UNDECIDED: {key}"));
        self.totals().undecided += 1;
    }

    pub fn checked(&self, ops: u64) {
        self.totals().checked_ops += ops;
    }

    pub fn acknowledged(&self, writes: u64) {
        self.totals().acknowledged_writes += writes;
    }

    pub fn fault(&self, kind: Kind) {
        let mut totals = self.totals();
        totals.faults += 1;
        *totals.faults_by_kind.entry(kind.name()).or_default() += 1;
    }

    pub fn skipped(&self, kind: Kind, missing: String) {
        self.say(format_args!("skipping {}: {missing}", kind.name()));
        self.totals().skipped.insert(kind.name(), missing);
    }

    pub fn sum(&self) -> Totals {
        Totals { seconds: self.begun.elapsed().as_secs(), ..self.totals().clone() }
    }
}

impl Totals {
    pub fn failed(&self) -> bool {
        self.undecided + self.violations + self.lost + self.duplicated > 0
    }
}
