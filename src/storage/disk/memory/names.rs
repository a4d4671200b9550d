//! The directory of a memory disk, and what a power cut leaves of it.
//!
//! Of the creations, renames and removals since the last sync of the directory any may be lost, each
//! as a whole and independently of the others: more than a journalling file system loses, and all
//! that the trait allows. Each is about a file, not about whatever has its name by then: a rename that
//! survives gives the new name to the file that was renamed, even if the creation of its old name was
//! lost, and a file never has two names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::PowerCut;
use super::image::FileImage;

pub(super) type Inode = Arc<Mutex<FileImage>>;

/// Names and their files.
pub(super) struct Names {
    live: BTreeMap<String, Inode>,
    durable: BTreeMap<String, Inode>,
    /// What makes the durable names the live ones, oldest first.
    unsynced: Vec<NameChange>,
}

pub(super) enum NameChange {
    /// The file has this name: it was created, or renamed.
    Name { name: String, inode: Inode },
    /// The file has no name.
    Remove { inode: Inode },
}

impl Names {
    /// Names that are durable.
    pub fn durable(names: BTreeMap<String, Inode>) -> Names {
        Names { live: names.clone(), durable: names, unsynced: Vec::new() }
    }

    pub fn live(&self) -> &BTreeMap<String, Inode> {
        &self.live
    }

    pub fn change(&mut self, change: NameChange) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }

    pub fn sync(&mut self) {
        self.durable = self.live.clone();
        self.unsynced.clear();
    }

    pub fn crash(&mut self, cut: &mut PowerCut<'_>) {
        for change in self.unsynced.drain(..) {
            if cut.keeps_name_change() {
                change.apply(&mut self.durable);
            }
        }
        self.live = self.durable.clone();
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, Inode>) {
        let (NameChange::Name { inode, .. } | NameChange::Remove { inode }) = self;
        names.retain(|_, other| !Arc::ptr_eq(other, inode));
        if let NameChange::Name { name, inode } = self {
            names.insert(name.clone(), inode.clone());
        }
    }
}
