//! redb: a copy-on-write B-tree in one file, in Rust.

use std::path::Path;

use bytes::Bytes;
use redb::{
    Database, Durability as Promise, ReadOnlyTable, ReadableDatabase, TableDefinition,
    WriteTransaction,
};

use super::{
    Beside, Durability, Machine, Options, Order, Pair, Pinned, Seen, Tree, View, count_pairs,
};
use crate::error::Failure;

const TABLE: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("kv");

pub struct Redb {
    db: Database,
    promise: Promise,
}

impl Redb {
    pub fn open(dir: &Path, options: Options, durability: Durability) -> Result<Redb, Failure> {
        let mut builder = Database::builder();
        builder.set_cache_size(options.cache_bytes);
        let db = builder.create(dir.join("data.redb"))?;
        let promise = match durability {
            Durability::None => Promise::None,
            Durability::EachCommit => Promise::Immediate,
        };
        Ok(Redb { db, promise })
    }

    fn begin(&self, promise: Promise) -> Result<WriteTransaction, Failure> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(promise)?;
        Ok(txn)
    }

    fn put(&self, pairs: impl Iterator<Item = Pair>) -> Result<(), Failure> {
        let txn = self.begin(self.promise)?;
        let mut table = txn.open_table(TABLE)?;
        for pair in pairs {
            table.insert(&pair.key[..], &pair.value[..])?;
        }
        drop(table);
        Ok(txn.commit()?)
    }

    fn pin_view(&self) -> Result<RedbView, Failure> {
        Ok(RedbView { table: self.db.begin_read()?.open_table(TABLE)? })
    }
}

impl Tree for Redb {
    fn load(&mut self, pairs: &mut dyn Iterator<Item = Pair>, _: Order) -> Result<(), Failure> {
        self.put(pairs)?;
        self.settle()
    }

    fn view(&self) -> Result<Box<dyn View + '_>, Failure> {
        Ok(Box::new(self.pin_view()?))
    }

    fn get_fresh(&self, key: &[u8], seen: Seen<'_>) -> Result<(), Failure> {
        View::get(&self.pin_view()?, key, seen)
    }
}

struct RedbView {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

impl View for RedbView {
    fn get(&self, key: &[u8], seen: Seen<'_>) -> Result<(), Failure> {
        if let Some(value) = self.table.get(key)? {
            seen(value.value());
        }
        Ok(())
    }

    fn scan(
        &self,
        start: &[u8],
        limit: usize,
        seen: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Failure> {
        for pair in self.table.range::<&[u8]>(start..)?.take(limit) {
            let (key, value) = pair?;
            seen(key.value(), value.value());
        }
        Ok(())
    }
}

impl Machine for Redb {
    fn commit(&self, batch: &[Pair]) -> Result<(), Failure> {
        self.put(batch.iter().cloned())
    }

    fn delete(&self, keys: &[Bytes]) -> Result<(), Failure> {
        let txn = self.begin(self.promise)?;
        let mut table = txn.open_table(TABLE)?;
        for key in keys {
            table.remove(&key[..])?;
        }
        drop(table);
        Ok(txn.commit()?)
    }

    /// A durable commit takes those before it along.
    fn settle(&self) -> Result<(), Failure> {
        Ok(self.begin(Promise::Immediate)?.commit()?)
    }

    fn compact(mut self: Box<Self>, _: Beside<'_>) -> Result<(), Failure> {
        while self.db.compact()? {}
        Ok(())
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
