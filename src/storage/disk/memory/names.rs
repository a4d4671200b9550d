//! The directory of a memory disk, and what a power cut leaves of it.
//!
//! Of the creations, renames and removals since the last sync of the directory any may be lost, each
//! as a whole and independently of the others: more than a journalling file system loses, and all
//! that the trait allows. Each is about a file, not about whatever has its name by then: a rename that
//! survives gives the new name to the file that was renamed, even if the creation of its old name was
//! lost, and a file never has two names.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use super::image::FileImage;
use super::{PowerCut, image};

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

    /// The same names of copies of the files.
    pub fn fork(&self) -> Names {
        let mut copies: HashMap<*const Mutex<FileImage>, Inode> = HashMap::new();
        let mut copy = |inode: &Inode| -> Inode {
            let copied = || Arc::new(Mutex::new(image(inode).clone()));
            copies.entry(Arc::as_ptr(inode)).or_insert_with(copied).clone()
        };
        let mut copy_all = |names: &BTreeMap<String, Inode>| {
            names.iter().map(|(name, inode)| (name.clone(), copy(inode))).collect()
        };
        let (live, durable) = (copy_all(&self.live), copy_all(&self.durable));
        let unsynced = self.unsynced.iter().map(|change| match change {
            NameChange::Name { name, inode } => {
                NameChange::Name { name: name.clone(), inode: copy(inode) }
            }
            NameChange::Remove { inode } => NameChange::Remove { inode: copy(inode) },
        });
        Names { live, durable, unsynced: unsynced.collect() }
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
