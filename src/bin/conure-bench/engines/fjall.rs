//! fjall: a log-structured merge tree, in Rust.

use std::path::Path;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};

use super::{
    Beside, Durability, Machine, Options, Order, Pair, Pinned, Seen, Tree, View, count_pairs,
};
use crate::error::Failure;

pub struct Fjall {
    db: Database,
    pairs: Keyspace,
    persist: Option<PersistMode>,
}

impl Fjall {
    pub fn open(dir: &Path, options: Options, durability: Durability) -> Result<Fjall, Failure> {
        let db = Database::builder(dir).cache_size(options.cache_bytes as u64).open()?;
        let pairs = db.keyspace("kv", KeyspaceCreateOptions::default)?;
        let persist = match durability {
            Durability::None => None,
            Durability::EachCommit => Some(PersistMode::SyncData),
        };
        Ok(Fjall { db, pairs, persist })
    }

    fn put(&self, pairs: impl Iterator<Item = Pair>) -> Result<(), Failure> {
        let mut batch = self.db.batch().durability(self.persist);
        for pair in pairs {
            batch.insert(&self.pairs, &pair.key[..], &pair.value[..]);
        }
        Ok(batch.commit()?)
    }

    fn pin_view(&self) -> FjallView<'_> {
        FjallView { snapshot: self.db.snapshot(), pairs: &self.pairs }
    }
}

impl Tree for Fjall {
    fn load(&mut self, pairs: &mut dyn Iterator<Item = Pair>, _: Order) -> Result<(), Failure> {
        // One by one: a batch is kept in memory, beside the memtable, until it is committed.
        for pair in pairs {
            self.pairs.insert(&pair.key[..], &pair.value[..])?;
        }
        self.settle()
    }

    fn view(&self) -> Result<Box<dyn View + '_>, Failure> {
        Ok(Box::new(self.pin_view()))
    }

    fn get_fresh(&self, key: &[u8], seen: Seen<'_>) -> Result<(), Failure> {
        View::get(&self.pin_view(), key, seen)
    }
}

struct FjallView<'a> {
    snapshot: Snapshot,
    pairs: &'a Keyspace,
}

impl View for FjallView<'_> {
    fn get(&self, key: &[u8], seen: Seen<'_>) -> Result<(), Failure> {
        if let Some(value) = self.snapshot.get(self.pairs, key)? {
            seen(&value);
        }
        Ok(())
    }

    fn scan(
        &self,
        start: &[u8],
        limit: usize,
        seen: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Failure> {
        for pair in self.snapshot.range(self.pairs, start..).take(limit) {
            let (key, value) = pair.into_inner()?;
            seen(&key, &value);
        }
        Ok(())
    }
}

impl Machine for Fjall {
    fn commit(&self, batch: &[Pair]) -> Result<(), Failure> {
        self.put(batch.iter().cloned())
    }

    fn delete(&self, keys: &[Bytes]) -> Result<(), Failure> {
        let mut batch = self.db.batch().durability(self.persist);
        for key in keys {
            batch.remove(&self.pairs, &key[..]);
        }
        Ok(batch.commit()?)
    }

    /// Syncs the journal, and brings what is in memory to the tree's own files.
    fn settle(&self) -> Result<(), Failure> {
        self.db.persist(PersistMode::SyncAll)?;
        Ok(self.pairs.rotate_memtable_and_wait()?)
    }

    fn compact(self: Box<Self>, _: Beside<'_>) -> Result<(), Failure> {
        Ok(self.pairs.major_compact()?)
    }

    fn read_all(&self) -> Result<usize, Failure> {
        count_pairs(&self.pin_view())
    }

    fn pin(&self) -> Result<Box<dyn Pinned + '_>, Failure> {
        Ok(Box::new(self.pin_view()))
    }

    fn get(&self, key: &[u8], seen: Seen<'_>) -> Result<(), Failure> {
        View::get(&self.pin_view(), key, seen)
    }
}
