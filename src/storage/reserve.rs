//! Room that is kept for the time when there is none.
//!
//! A disk that is full must not stop a node: its log has to take the deletes that make room again, a
//! vote, a change of membership, and the tree a checkpoint after which log and old pages can go. So a
//! node holds a file of real blocks and nothing in it. When the disk is full it is removed, and what it
//! held is there for the log and the tree; when there is room it is made again.
//!
//! The file means nothing: not its content, and not even that it is there. A crash may leave it cut
//! short, so taking it reserves all of its blocks again, which costs nothing where they are there.

use std::io;
use std::sync::Arc;

use super::disk::Disk;

/// The name of the file.
pub const FILE: &str = "reserve";

/// See the module.
pub struct Reserve {
    disk: Arc<dyn Disk>,
    len_bytes: u64,
    held: bool,
}

impl Reserve {
    /// A reserve of so many bytes, not taken yet.
    pub fn new(disk: Arc<dyn Disk>, len_bytes: u64) -> Reserve {
        Reserve { disk, len_bytes, held: false }
    }

    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Takes the reserve if it is not held. A failure leaves nothing behind, as far as that can be helped.
    pub fn take(&mut self) -> io::Result<()> {
        if self.held {
            return Ok(());
        }
        let take = || {
            let file = self.disk.open(FILE)?;
            file.allocate(self.len_bytes)?;
            file.sync_data()?;
            self.disk.sync_dir()
        };
        if let Err(error) = take() {
            // The space matters more than a second error about the same disk.
            let _ = self.disk.remove(FILE);
            return Err(error);
        }
        self.held = true;
        Ok(())
    }

    /// Gives the reserve back; whether there was something to give.
    pub fn give_back(&mut self) -> io::Result<bool> {
        if !std::mem::take(&mut self.held) {
            return Ok(false);
        }
        self.disk.remove(FILE)?;
        self.disk.sync_dir()?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::{Calls, Fault, MemDisk};

    #[test]
    fn it_takes_its_room_and_gives_it_back_as_often_as_asked() {
        let disk = MemDisk::new();
        disk.set_capacity(Some(1000));
        let mut reserve = Reserve::new(Arc::new(disk.clone()), 600);
        for _ in 0..2 {
            reserve.take().unwrap();
            reserve.take().unwrap();
            assert_eq!(disk.free_bytes().unwrap(), 400);
            assert!(reserve.give_back().unwrap());
            assert!(!reserve.give_back().unwrap());
            assert_eq!(disk.free_bytes().unwrap(), 1000);
        }
    }

    #[test]
    fn what_cannot_be_taken_whole_is_not_taken() {
        let disk = MemDisk::new();
        disk.set_capacity(Some(1000));
        let mut reserve = Reserve::new(Arc::new(disk.clone()), 1001);
        assert_eq!(reserve.take().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.list().unwrap(), Vec::<String>::new());
        let mut reserve = Reserve::new(Arc::new(disk.clone()), 500);
        disk.fail(Calls::Sync, 0, Fault::Error(io::ErrorKind::Other));
        assert!(reserve.take().is_err());
        assert_eq!(disk.free_bytes().unwrap(), 1000);
        assert!(!reserve.give_back().unwrap());
    }

    #[test]
    fn one_that_a_crash_cut_short_is_made_whole() {
        let disk = MemDisk::new();
        disk.open(FILE).unwrap().allocate(10).unwrap();
        Reserve::new(Arc::new(disk.clone()), 500).take().unwrap();
        assert_eq!(disk.contents()[FILE].len(), 500);
    }
}
