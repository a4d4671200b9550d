//! A data directory made of a backup, for a cluster that begins with it.
//!
//! The directory gets an identity of its own and a store with all that the backup holds: records, their revisions and
//! deadlines, the past, sessions. What it does not keep is the log that led there, and who belonged to the
//! cluster: the new one has one member, this node, and its log begins behind the last index that the
//! state holds. So a node that joins it later gets a snapshot, as it has to: no log tells what the backup held.
//!
//! Sessions stay, since a client may still repeat a write of before: it gets the outcome that is in the state, and a
//! write that came after the backup is done again. Deadlines stay as they are, so what would have expired meanwhile
//! does so at once.
//!
//! # Order of writes
//!
//! ```text
//! identity says "restoring"   no node starts here; the next restore begins by removing what this one left
//! the store, whole, synced and named
//! identity says "founder"     the directory is one of a node like others
//! ```

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;

use super::file::{About, BackupError, BackupReader};
use super::{Import, ImportError};
use crate::storage::disk::Disk;
use crate::storage::error::StorageError;
use crate::storage::identity::{self, Identity, IdentityError, Standing};
use crate::storage::store::StoreOptions;
use crate::types::{ClusterId, NodeId};

/// Who the restored directory shall be.
#[derive(Debug, Clone)]
pub struct NewNode {
    pub name: String,
    pub node_id: NodeId,
    pub cluster_id: ClusterId,
    /// The membership entry that has this node alone; opaque here.
    pub membership: Bytes,
}

/// Why a backup was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(
        "{directory} is not empty, it holds {found}: a backup is restored into an empty directory, so that nothing \
         is lost; move what is there away, or name another directory"
    )]
    NotEmpty { directory: String, found: String },
    #[error("the backup cannot be restored: {0}")]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("{directory}: {source}")]
    Directory { directory: String, source: io::Error },
}

/// Restores a backup into an empty directory. After an error the directory is as empty as it was.
pub fn restore(
    disk: &Arc<dyn Disk>,
    options: StoreOptions,
    node: &NewNode,
    backup: impl Read,
) -> Result<About, RestoreError> {
    claim(disk)?;
    let mut reader = BackupReader::open(backup).map_err(RestoreError::Backup)?;
    let mut identity = Identity {
        name: node.name.clone(),
        node_id: node.node_id,
        cluster_id: node.cluster_id,
        standing: Standing::Restoring,
    };
    let restored = identity.store(disk).map_err(RestoreError::Identity).and_then(|()| {
        build(disk, options, &node.membership, &mut reader)?;
        identity.standing = Standing::Founder;
        Ok(identity.store(disk)?)
    });
    match restored {
        Ok(()) => Ok(*reader.about()),
        Err(error) => {
            // If that fails as well, the identity still says what the directory is.
            let _ = clear(disk, |_| true);
            Err(error)
        }
    }
}

/// Sees to it that nothing is in the directory but what an unfinished restore left, and removes that.
fn claim(disk: &Arc<dyn Disk>) -> Result<(), RestoreError> {
    let directory = |source| RestoreError::Directory { directory: disk.locate(""), source };
    let names = disk.list().map_err(directory)?;
    // An identity that was being written and has not got its name yet says nothing.
    let found = names.iter().find(|name| *name != identity::NEW_FILE);
    let Some(found) = found else { return Ok(()) };
    let standing = Identity::load(disk).ok().flatten().map(|identity| identity.standing);
    if standing != Some(Standing::Restoring) {
        let (directory, found) = (disk.locate(""), found.clone());
        return Err(RestoreError::NotEmpty { directory, found });
    }
    clear(disk, |name| name != identity::FILE).map_err(directory)
}

fn clear(disk: &Arc<dyn Disk>, goes: impl Fn(&str) -> bool) -> io::Result<()> {
    // The identity last: as long as it is there, it says what the rest is.
    let (last, first): (Vec<String>, Vec<String>) =
        disk.list()?.into_iter().filter(|name| goes(name)).partition(|name| name == identity::FILE);
    first.iter().try_for_each(|name| disk.remove(name))?;
    disk.sync_dir()?;
    last.iter().try_for_each(|name| disk.remove(name))?;
    disk.sync_dir()
}

/// Makes the store.
fn build(
    disk: &Arc<dyn Disk>,
    options: StoreOptions,
    membership: &[u8],
    reader: &mut BackupReader<impl Read>,
) -> Result<(), RestoreError> {
    let mut import = Import::on(disk, options, 0)?;
    reader.each_piece(|number, piece| import.take_piece(number, piece))?;
    import.begin_anew(membership)?;
    import.finish().map_err(|error| match error {
        ImportError::Storage(error) => RestoreError::Storage(error),
        error => {
            let what = error.to_string();
            RestoreError::Backup(BackupError::Damaged { offset: 0, what })
        }
    })?;
    Ok(import.place()?)
}
