//! The directory of a memory disk, and what a power cut leaves of it.
//!
//! Of the creations, renames and removals since the last sync of the directory any may be lost, each
//! as a whole and independently of the others: more than a journalling file system loses, and all
//! that the trait allows.

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
    Create { name: String, inode: Inode },
    Rename { from: String, to: String },
    Remove { name: String },
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
    /// Has no effect when the name it is about is not there, because its creation was lost.
    fn apply(&self, names: &mut BTreeMap<String, Inode>) {
        match self {
            NameChange::Create { name, inode } => {
                names.insert(name.clone(), inode.clone());
            }
            NameChange::Rename { from, to } => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            NameChange::Remove { name } => {
                names.remove(name);
            }
        }
    }
}
