//! Who this data directory is: the file `identity`.
//!
//! It holds what must survive from the first start on and belongs to no log: the node's name, its
//! incarnation ([`NodeId`], drawn once for each life of the data), the cluster it belongs to and where it
//! stands there. The file is 512 bytes or less, written whole to `identity.new`, synced and renamed, so that
//! a crash leaves the old one or the new one.
//!
//! Giving up a former life (joining another cluster, or coming back after a removal) takes several files.
//! [`Standing::Resetting`] is written first and cleared last; whoever opens the directory and finds it
//! wipes the rest again. See docs/FORMAT.md, "identity".

use std::io;
use std::sync::Arc;

use super::disk::Disk;
use crate::types::{ClusterId, MAX_NODE_NAME_BYTES, NodeId};

/// Name of the file.
pub const FILE: &str = "identity";
pub(super) const NEW_FILE: &str = "identity.new";

const MAGIC: [u8; 8] = *b"CONUREID";
const VERSION: u8 = 1;
/// Magic, version, standing, name length, cluster id, node id, and the checksum after the name.
const FIXED_BYTES: usize = 8 + 1 + 1 + 2 + 16 + 8 + 4;

/// Where the node stands with its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Belongs to no cluster yet, or was invited into one by its leader.
    Invited = 0,
    /// Founded the cluster and may have to finish founding it after a crash.
    Founder = 1,
    /// Was removed from the cluster and serves no more.
    Removed = 2,
    /// Gives up its former life; everything but this file is to be wiped.
    Resetting = 3,
    /// A backup is being restored here, and may be there in part; no node may run on it.
    Restoring = 4,
    /// Has lost what it acknowledged, as its leader found: it takes part no more.
    WentBack = 5,
    /// Found its data damaged, and cannot go on with them: it waits to be replaced by a new incarnation.
    Damaged = 6,
}

impl Standing {
    /// Whether a node that stands so may take part in consensus.
    pub fn takes_part(self) -> bool {
        !matches!(self, Standing::Removed | Standing::WentBack | Standing::Damaged)
    }
}

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub node_id: NodeId,
    pub cluster_id: ClusterId,
    pub standing: Standing,
}

/// Why the identity could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{file}: {source}")]
    Io { file: String, source: io::Error },
    #[error(
        "{file} is damaged ({what}): restore the data directory from a copy, or move it away and let this \
         node join its cluster again with an empty one"
    )]
    Damaged { file: String, what: &'static str },
    #[error(
        "{file} has format version {found}, this release reads version {VERSION}: run the newer release"
    )]
    Version { file: String, found: u8 },
    #[error(
        "{file} belongs to node \"{stored}\", but this node is configured as \"{configured}\": set node_id to \
         \"{stored}\", or give this node a data directory of its own"
    )]
    OtherNode { file: String, stored: String, configured: String },
    #[error(
        "{file} says that a backup was being restored here, which did not end: run `conure-db restore` again, or \
         empty the directory"
    )]
    HalfRestored { file: String },
}

impl Identity {
    /// Reads the identity of a data directory; `None` in an empty one.
    pub fn load(disk: &Arc<dyn Disk>) -> Result<Option<Identity>, IdentityError> {
        let file = disk.locate(FILE);
        let io = |source| IdentityError::Io { file: file.clone(), source };
        if !disk.list().map_err(io)?.iter().any(|name| name == FILE) {
            return Ok(None);
        }
        let handle = disk.open(FILE).map_err(io)?;
        let len = handle.len().map_err(io)?;
        if len > (FIXED_BYTES + MAX_NODE_NAME_BYTES) as u64 {
            return Err(IdentityError::Damaged { file, what: "too long" });
        }
        let mut bytes = vec![0; len as usize];
        handle.read_at(0, &mut bytes).map_err(io)?;
        decode(&bytes, &file).map(Some)
    }

    /// Replaces the identity, durably.
    pub fn store(&self, disk: &Arc<dyn Disk>) -> Result<(), IdentityError> {
        let write = || -> io::Result<()> {
            let bytes = encode(self);
            let file = disk.open(NEW_FILE)?;
            file.set_len(0)?;
            file.write_at(0, &bytes)?;
            file.sync_data()?;
            disk.rename(NEW_FILE, FILE)?;
            disk.sync_dir()
        };
        write().map_err(|source| IdentityError::Io { file: disk.locate(FILE), source })
    }
}

fn encode(identity: &Identity) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FIXED_BYTES + identity.name.len());
    bytes.extend(MAGIC);
    bytes.push(VERSION);
    bytes.push(identity.standing as u8);
    bytes.extend((identity.name.len() as u16).to_le_bytes());
    bytes.extend(identity.cluster_id.0.to_le_bytes());
    bytes.extend(identity.node_id.to_le_bytes());
    bytes.extend(identity.name.as_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8], file: &str) -> Result<Identity, IdentityError> {
    let damaged = |what| IdentityError::Damaged { file: file.into(), what };
    let take = |range: std::ops::Range<usize>| bytes.get(range).ok_or(damaged("too short"));
    if take(0..8)? != MAGIC {
        return Err(damaged("not an identity file"));
    }
    let version = take(8..9)?[0];
    if version != VERSION {
        return Err(IdentityError::Version { file: file.into(), found: version });
    }
    let (content, checksum) =
        bytes.split_at_checked(bytes.len().wrapping_sub(4)).ok_or(damaged("too short"))?;
    if crc32fast::hash(content).to_le_bytes() != checksum {
        return Err(damaged("its checksum does not match"));
    }
    let standing = match take(9..10)?[0] {
        0 => Standing::Invited,
        1 => Standing::Founder,
        2 => Standing::Removed,
        3 => Standing::Resetting,
        4 => Standing::Restoring,
        5 => Standing::WentBack,
        6 => Standing::Damaged,
        _ => return Err(damaged("unknown standing")),
    };
    let name_len = u16::from_le_bytes(array(take(10..12)?)) as usize;
    if content.len() != FIXED_BYTES - 4 + name_len {
        return Err(damaged("its length does not match"));
    }
    let name =
        String::from_utf8(take(36..36 + name_len)?.to_vec()).map_err(|_| damaged("bad name"))?;
    Ok(Identity {
        name,
        node_id: u64::from_le_bytes(array(take(28..36)?)),
        cluster_id: ClusterId(u128::from_le_bytes(array(take(12..28)?))),
        standing,
    })
}

/// The bytes of an integer; the caller took a range of exactly `N`.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("a range of N bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            name: "node-ü".into(),
            node_id: 0x0123_4567_89ab_cdef,
            cluster_id: ClusterId(u128::MAX - 5),
            standing: Standing::Founder,
        }
    }

    #[test]
    fn what_is_stored_is_loaded() {
        assert_eq!(decode(&encode(&identity()), "f").unwrap(), identity());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = encode(&identity());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged, "f").is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len], "f").is_err(), "cut at {len}");
        }
    }
}
