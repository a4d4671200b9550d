//! Whether the disk has room, and what this node does when it has none.
//!
//! ```text
//!            a call finds the disk full:              the log cannot go on
//!            the reserve is given back                even so
//!   Enough ─────────────────────────────▶ Reserve ◀──────────────────────▶ Exhausted
//!      ▲       puts are refused              │       deletes are, too            │
//!      └─────────────────────────────────────┴────────────────────────────────────┘
//!            there is room: the reserve is taken again
//! ```
//!
//! Whoever meets a full disk, the log actor or the storage actor, says so here and tries again. The log
//! actor looks every second whether there is room. Reads go on in every state. What is refused is
//! refused by the leader, before it is proposed: a follower without room does not stop the cluster, it
//! only acknowledges nothing that its log has not taken.
//!
//! A snapshot that a node needs comes out of the reserve, too.
//!
//! Left out: a leader that is full does not look for a follower that is not. A snapshot that takes longer than a look at
//! the disk may find the reserve taken again, where the old state has much room inside its file; it fails, and comes
//! again, until there is room for both.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use super::messages::RequestError;
use crate::metrics::Metrics;
use crate::storage::disk::Disk;
use crate::storage::reserve::Reserve;
use crate::types::{Operation, TxnOp};

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Room {
    Enough,
    /// What the reserve had held, for deletes and for what consensus needs.
    Reserve,
    /// Not even that.
    Exhausted,
}

/// Shared by the actors of a node.
pub struct Space {
    disk: Arc<dyn Disk>,
    /// Held while files are made or removed, by actors that wait for the disk anyway.
    reserve: Mutex<Reserve>,
    /// A [`Room`].
    room: AtomicU8,
    metrics: Arc<Metrics>,
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Space {
    /// Takes a reserve of so many bytes. A node whose disk is full from the start begins without one.
    pub fn open(
        disk: Arc<dyn Disk>,
        reserve_bytes: u64,
        metrics: Arc<Metrics>,
    ) -> io::Result<Space> {
        let mut reserve = Reserve::new(disk.clone(), reserve_bytes);
        let taken = reserve.take();
        let space = Space {
            disk,
            reserve: Mutex::new(reserve),
            room: AtomicU8::new(Room::Enough as u8),
            metrics,
        };
        match taken {
            Err(error) if is_full(&error) => {
                space.note_full(&error);
            }
            result => result?,
        }
        Ok(space)
    }

    pub fn room(&self) -> Room {
        let room = self.room.load(Ordering::Acquire);
        let rooms = [Room::Enough, Room::Reserve, Room::Exhausted];
        rooms.into_iter().find(|known| *known as u8 == room).expect("only rooms are stored")
    }

    fn enter(&self, room: Room) {
        self.room.store(room as u8, Ordering::Release);
        self.metrics.storage_full.set(u64::from(room != Room::Enough));
    }

    /// Why this node, as the leader, does not take such a write now.
    pub fn refuses(&self, operation: &Operation) -> Option<RequestError> {
        let detail = match (self.room(), operation) {
            (Room::Enough, _) => return None,
            (
                Room::Reserve,
                Operation::Delete { .. }
                | Operation::DeleteRange { .. }
                | Operation::Expire
                | Operation::Retain(_)
                | Operation::LeaseKeepAlive { .. }
                | Operation::LeaseRevoke { .. },
            ) => return None,
            (Room::Reserve, Operation::Txn(txn)) if !txn.operations().any(TxnOp::adds) => {
                return None;
            }
            (
                Room::Reserve,
                Operation::Put { .. } | Operation::Txn(_) | Operation::LeaseGrant { .. },
            ) => "reads and deletes go on; delete keys, or free space on the leader's disk",
            (Room::Exhausted, _) => {
                "the reserve for deletes is used up, too; reads go on; free space on the leader's disk"
            }
        };
        Some(RequestError::StorageFull { detail: detail.into() })
    }

    /// A call found the disk full. Whether there is room now that was not there, so that it may be tried
    /// again at once.
    pub fn note_full(&self, error: &dyn std::fmt::Display) -> bool {
        let mut reserve = self.lock();
        if self.room() == Room::Enough {
            self.enter(Room::Reserve);
            log::error!(
                "the disk is full: {error}. While this node leads, puts are refused with storage_full; reads and \
                 deletes go on, from a reserve of {} bytes. Delete keys, or free space; it clears by itself",
                reserve.len_bytes()
            );
        }
        reserve.give_back().unwrap_or_else(|error| {
            log::error!("the reserve cannot be given back: {error}");
            false
        })
    }

    /// The log has no room, the reserve being given back.
    pub fn note_exhausted(&self, error: &dyn std::fmt::Display) {
        if self.room() != Room::Exhausted {
            self.enter(Room::Exhausted);
            log::error!(
                "the disk is full and the reserve used up: {error}. This node acknowledges no entry until there is \
                 room; reads go on"
            );
        }
    }

    /// The log was written.
    pub fn note_written(&self) {
        if self.room() == Room::Exhausted {
            self.enter(Room::Reserve);
            log::info!("the log goes on: deletes are taken again");
        }
    }

    /// Takes the reserve again if there is room for it, and for as much again: on the disk, or in pages of
    /// the database file that are free.
    pub fn look(&self) {
        let mut reserve = self.lock();
        if self.room() == Room::Enough {
            return;
        }
        let needed_bytes = reserve.len_bytes();
        let (file, live) = (self.metrics.db_file_bytes.get(), self.metrics.db_live_bytes.get());
        let reusable_bytes = file.saturating_sub(live);
        let taken = self.disk.free_bytes().and_then(|free_bytes| {
            let spare_bytes = free_bytes.checked_sub(needed_bytes);
            match spare_bytes {
                Some(spare) if spare.saturating_add(reusable_bytes) >= needed_bytes => {
                    reserve.take().map(|()| true)
                }
                _ => Ok(false),
            }
        });
        match taken {
            Ok(false) => {}
            Ok(true) => {
                self.enter(Room::Enough);
                log::info!("the disk has room again: all writes are taken");
            }
            // Somebody was faster.
            Err(error) if is_full(&error) => {}
            Err(error) => log::error!("the reserve cannot be taken: {error}"),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Reserve> {
        self.reserve.lock().expect("no call panics while it holds the reserve")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::MemDisk;
    use crate::types::{Condition, Key, KeyRange, LeaseId, Lifetime, Txn};

    fn space(disk: &MemDisk) -> Space {
        let metrics = Arc::new(Metrics::new("test"));
        Space::open(Arc::new(disk.clone()), 100, metrics).expect("a disk that works")
    }

    fn refused(space: &Space) -> [bool; 7] {
        let key = || Key::new("k").expect("a key");
        let condition = Condition::default;
        let (value, lifetime) = (|| "v".into(), Lifetime::Unbounded);
        let put = Operation::Put { key: key(), value: value(), condition: condition(), lifetime };
        let delete = Operation::Delete { key: key(), condition: condition() };
        let range =
            Operation::DeleteRange { range: KeyRange { start: Default::default(), end: None } };
        let txn = |op| Operation::Txn(Txn::new(vec![], vec![op], vec![]).expect("one operation"));
        let puts = txn(TxnOp::Put { key: key(), value: value(), lifetime });
        let deletes = txn(TxnOp::Delete { range: KeyRange::only(&key()) });
        let grant = Operation::LeaseGrant { ttl_ms: 1 };
        let keep = Operation::LeaseKeepAlive { id: LeaseId::new(1).expect("not 0") };
        [put, puts, grant, keep, delete, range, deletes]
            .map(|operation| space.refuses(&operation).is_some())
    }

    #[test]
    fn a_full_disk_refuses_puts_then_all_writes_and_clears_by_itself() {
        let disk = MemDisk::new();
        disk.set_capacity(Some(300));
        let space = space(&disk);
        assert_eq!((space.room(), refused(&space)), (Room::Enough, [false; 7]));
        let file = disk.open("other").unwrap();
        file.allocate(200).unwrap();

        assert!(space.note_full(&"no room"), "the reserve is room");
        assert!(!space.note_full(&"no room"), "but only once");
        assert_eq!(
            (space.room(), refused(&space)),
            (Room::Reserve, [true, true, true, false, false, false, false])
        );
        assert_eq!(space.metrics.storage_full.get(), 1);
        file.allocate(300).unwrap();
        space.note_exhausted(&"no room");
        assert_eq!((space.room(), refused(&space)), (Room::Exhausted, [true; 7]));
        space.look();
        assert_eq!(space.room(), Room::Exhausted);
        space.note_written();
        assert_eq!(space.room(), Room::Reserve);

        file.set_len(101).unwrap();
        space.look();
        assert_eq!(space.room(), Room::Reserve, "the reserve would fit, and nothing else");
        space.metrics.db_file_bytes.set(1);
        space.look();
        assert_eq!(space.room(), Room::Enough, "one byte of the database file can be used again");
        assert_eq!((space.metrics.storage_full.get(), refused(&space)), (0, [false; 7]));
        assert_eq!(disk.free_bytes().unwrap(), 99, "the reserve is held");
    }

    #[test]
    fn a_node_may_start_on_a_full_disk() {
        let disk = MemDisk::new();
        disk.set_capacity(Some(99));
        let space = space(&disk);
        assert_eq!(space.room(), Room::Reserve);
        disk.set_capacity(None);
        space.look();
        assert_eq!(space.room(), Room::Enough);
    }
}
