//! LMDB 0.9, through the crate `lmdb-rkv`. It is older than `heed`, but its interface has no `unsafe` in
//! it; between both and the same C library there is nothing that takes time.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use lmdb::{
    Cursor, Database, DatabaseFlags, Environment, EnvironmentFlags, Error, RoTransaction,
    Transaction, WriteFlags,
};

use super::{Beside, Durability, Machine, Order, Pair, Pinned, Seen, Tree, View, count_pairs};
use crate::error::Failure;

/// Address space for the file: more than any run needs, and nothing until it is used.
const MAP_BYTES: usize = 256 << 30;

pub struct Lmdb {
    env: Environment,
    database: Database,
    dir: PathBuf,
}

impl Lmdb {
    /// Synced by hand, at the end of the load.
    pub fn open_tree(dir: &Path) -> Result<Lmdb, Failure> {
        Lmdb::open(dir, EnvironmentFlags::NO_SYNC)
    }

    pub fn open_machine(dir: &Path, durability: Durability) -> Result<Lmdb, Failure> {
        // Else a thread has one view at a time, and the held one would be in the way of gets.
        let views = EnvironmentFlags::NO_TLS;
        match durability {
            Durability::None => Lmdb::open(dir, views | EnvironmentFlags::NO_SYNC),
            Durability::EachCommit => Lmdb::open(dir, views),
        }
    }

    fn open(dir: &Path, flags: EnvironmentFlags) -> Result<Lmdb, Failure> {
        let env = Environment::new().set_map_size(MAP_BYTES).set_flags(flags).open(dir)?;
        let database = env.create_db(None, DatabaseFlags::empty())?;
        Ok(Lmdb { env, database, dir: dir.to_owned() })
    }

    fn pin_view(&self) -> Result<LmdbView<'_>, Failure> {
        Ok(LmdbView { txn: self.env.begin_ro_txn()?, database: self.database })
    }
}

impl Tree for Lmdb {
    fn load(&mut self, pairs: &mut dyn Iterator<Item = Pair>, order: Order) -> Result<(), Failure> {
        let flags = match order {
            Order::Random => WriteFlags::empty(),
            Order::Sorted => WriteFlags::APPEND,
        };
        let mut txn = self.env.begin_rw_txn()?;
        for pair in pairs {
            txn.put(self.database, &pair.key, &pair.value, flags)?;
        }
        txn.commit()?;
        Ok(self.env.sync(true)?)
    }

    fn view(&self) -> Result<Box<dyn View + '_>, Failure> {
        Ok(Box::new(self.pin_view()?))
    }

    fn get_fresh(&self, key: &[u8], seen: Seen<'_>) -> Result<(), Failure> {
        View::get(&self.pin_view()?, key, seen)
    }
}

struct LmdbView<'a> {
    txn: RoTransaction<'a>,
    database: Database,
}

impl View for LmdbView<'_> {
    fn get(&self, key: &[u8], seen: Seen<'_>) -> Result<(), Failure> {
        match self.txn.get(self.database, &key) {
            Ok(value) => seen(value),
            Err(Error::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn scan(
        &self,
        start: &[u8],
        limit: usize,
        seen: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Failure> {
        let mut cursor = self.txn.open_ro_cursor(self.database)?;
        // An empty key is none to LMDB.
        let pairs = if start.is_empty() { cursor.iter_start() } else { cursor.iter_from(start) };
        for pair in pairs.take(limit) {
            let (key, value) = pair?;
            seen(key, value);
        }
        Ok(())
    }
}

impl Machine for Lmdb {
    fn commit(&self, batch: &[Pair]) -> Result<(), Failure> {
        let mut txn = self.env.begin_rw_txn()?;
        for pair in batch {
            txn.put(self.database, &pair.key, &pair.value, WriteFlags::empty())?;
        }
        Ok(txn.commit()?)
    }

    fn delete(&self, keys: &[Bytes]) -> Result<(), Failure> {
        let mut txn = self.env.begin_rw_txn()?;
        for key in keys {
            txn.del(self.database, key, None)?;
        }
        Ok(txn.commit()?)
    }

    fn settle(&self) -> Result<(), Failure> {
        Ok(self.env.sync(true)?)
    }

    /// What `mdb_copy -c` does: all pairs in order into a new file, which takes the place of the old one.
    fn compact(self: Box<Self>, _: Beside<'_>) -> Result<(), Failure> {
        let copy_dir = self.dir.join("copy");
        std::fs::create_dir(&copy_dir)?;
        let mut copy = Lmdb::open_tree(&copy_dir)?;
        let mut failed = None;
        {
            let txn = self.env.begin_ro_txn()?;
            let mut cursor = txn.open_ro_cursor(self.database)?;
            let mut pairs = cursor.iter_start().map_while(|pair| {
                let (key, value) = pair.map_err(|error| failed = Some(error)).ok()?;
                let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
                Some(Pair { key, value })
            });
            copy.load(&mut pairs, Order::Sorted)?;
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        // Both closed first: the lock file tells of the old file, and has to go with it.
        let dir = self.dir.clone();
        drop((copy, self));
        std::fs::rename(copy_dir.join("data.mdb"), dir.join("data.mdb"))?;
        std::fs::remove_file(dir.join("lock.mdb"))?;
        Ok(std::fs::remove_dir_all(&copy_dir)?)
    }

    fn read_all(&self) -> Result<usize, Failure> {
        count_pairs(&self.pin_view()?)
    }

    fn pin(&self) -> Result<Box<dyn Pinned + '_>, Failure> {
        Ok(Box::new(self.pin_view()?))
    }

    fn get(&self, key: &[u8], seen: Seen<'_>) -> Result<(), Failure> {
        View::get(&self.pin_view()?, key, seen)
    }
}
