//! The consistency check of an open store: its newest root, walked whole (`walk.rs`).
//!
//! Tests run it after every commit. It reads the whole file on the writer's side; for a directory that
//! no node runs on, [`super::inspect`] checks the log and the rest as well, and names everything.

use crate::storage::error::StorageError;
use crate::storage::root::TreeId;
use crate::storage::store::Store;
use crate::storage::walk::Walk;

/// What a sound store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    pub entries: u64,
    pub leaves: u64,
    pub branches: u64,
    /// Values that lie in pages of their own.
    pub values: u64,
    /// Bytes used in leaves and branches, and bytes those take.
    pub node_used_bytes: u64,
    pub node_bytes: u64,
}

impl Store {
    /// Checks the newest root. The first thing wrong is the error.
    pub fn check(&mut self) -> Result<CheckReport, StorageError> {
        self.draft.space.load_all(&*self.pager)?;
        let in_flight = self.in_flight.iter().flat_map(|flight| flight.pages.iter());
        let mut walk = Walk::new(&self.pager, self.dirty.iter().chain(in_flight).collect());
        let mut report = CheckReport::default();
        for id in TreeId::all() {
            let shape = walk.tree(id, self.root().tree(id));
            let nodes = shape.total();
            report.entries += shape.entries;
            report.leaves += shape.leaves();
            report.branches += shape.branches();
            report.values += shape.values;
            report.node_used_bytes += nodes.used_bytes;
            report.node_bytes += nodes.node_bytes;
        }
        walk.account(self.space());
        match walk.into_damages().0.into_iter().next() {
            None => Ok(report),
            Some(damage) => Err(damage.error),
        }
    }
}
