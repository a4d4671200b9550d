//! Which value each key of a database has, so that any of them can be checked, and which writes come next:
//! the same for every engine.

use std::hint::black_box;

use bytes::Bytes;

use crate::data::{Data, Rng};
use crate::engines::{Kind, Pair};
use crate::error::BenchError;

/// The generation of a key that was deleted.
const DELETED: u32 = u32::MAX;

/// One of several sequences of random numbers, for writes.
const WRITES: u64 = 1;

#[derive(Clone)]
pub struct Keeper {
    generations: Vec<u32>,
    next: u32,
    rng: Rng,
}

impl Keeper {
    /// Of a database as it was loaded.
    pub fn new(data: &Data) -> Keeper {
        let rng = Rng::new(data.seed, WRITES);
        // In memory from now on: what the system gives at the first write would count as the engine's.
        let mut generations = vec![DELETED; data.len()];
        black_box(&mut generations).fill(0);
        Keeper { generations, next: 1, rng }
    }

    /// `count` random overwrites, which the engine will hold from now on.
    pub fn overwrites(&mut self, data: &Data, count: usize) -> Vec<Pair> {
        let generation = self.next;
        self.next += 1;
        let mut draw = || {
            let number = self.rng.below(self.generations.len());
            self.generations[number] = generation;
            data.pair(number, generation)
        };
        (0..count).map(|_| draw()).collect()
    }

    /// The same, of keys that are there.
    pub fn overwrite_live(&mut self, data: &Data, count: usize) -> Vec<Pair> {
        let generation = self.next;
        self.next += 1;
        let mut draw = || loop {
            let number = self.rng.below(self.generations.len());
            if self.generations[number] != DELETED {
                self.generations[number] = generation;
                return data.pair(number, generation);
            }
        };
        (0..count).map(|_| draw()).collect()
    }

    /// Every second key, which the engine will not hold from now on.
    pub fn delete_half(&mut self, data: &Data) -> Vec<Bytes> {
        let delete = |(number, generation): (usize, &mut u32)| {
            *generation = DELETED;
            data.key_bytes(number)
        };
        self.generations.iter_mut().enumerate().step_by(2).map(delete).collect()
    }

    /// The numbers of the keys that are there.
    pub fn live(&self) -> impl Iterator<Item = usize> + '_ {
        let live = |(number, generation): (usize, &u32)| (*generation != DELETED).then_some(number);
        self.generations.iter().enumerate().filter_map(live)
    }

    /// Holds what `engine` gave for a key against what it should have.
    pub fn check(
        &self,
        data: &Data,
        number: usize,
        found: Option<&[u8]>,
        (engine, work): (Kind, &'static str),
    ) -> Result<(), BenchError> {
        let generation = self.generations[number];
        let what = match found {
            None if generation == DELETED => return Ok(()),
            Some(_) if generation == DELETED => "it was deleted and is there",
            None => "it is missing",
            Some(value) if *value == data.value(number, generation)[..] => return Ok(()),
            Some(_) => "it has another value",
        };
        Err(BenchError::WrongBytes { engine, work, key: data.key(number).to_vec(), what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{DataArgs, KeyShape};

    #[test]
    fn what_an_engine_should_not_hold_is_found() {
        let key_shape = KeyShape::Random;
        let args = DataArgs { keys: 1_000, value_bytes: 20, key_shape, cache_mib: 1, seed: 5 };
        let data = Data::new(&args);
        let mut keeper = Keeper::new(&data);
        let place = (Kind::Raw, "test");
        let old = data.value(3, 0);
        keeper.check(&data, 3, Some(&old), place).expect("as loaded");
        let newest: Vec<Pair> = (0..100).flat_map(|_| keeper.overwrites(&data, 100)).collect();
        let last = newest.iter().rev().find(|pair| *pair.key == *data.key(3));
        let last = last.expect("10,000 writes to 1,000 keys reach it");
        keeper.check(&data, 3, Some(&last.value), place).expect("as overwritten");
        keeper.check(&data, 3, Some(&old), place).expect_err("another value");
        keeper.check(&data, 3, None, place).expect_err("missing");

        assert_eq!(keeper.delete_half(&data).len(), 500);
        assert_eq!(keeper.live().count(), 500);
        keeper.check(&data, 4, None, place).expect("deleted");
        keeper.check(&data, 4, Some(&old), place).expect_err("deleted and there");
        keeper.overwrite_live(&data, 5_000);
        assert_eq!(keeper.live().count(), 500, "what was deleted stays so");
    }
}
