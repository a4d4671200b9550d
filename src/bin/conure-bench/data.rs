//! Keys and values, all from one seed: every engine gets the same, and so does every process of a run.
//!
//! A value is a slice of one pool of random bytes, chosen by its key's number and its *generation* (0 as
//! loaded, then counted up by each overwrite). So it costs nothing to make and a comparison to check, and
//! does not compress within a page.

use bytes::{Bytes, BytesMut};

use crate::cli::{DataArgs, KeyShape};
use crate::engines::Pair;

/// Length of a key of random bytes.
const RANDOM_KEY_BYTES: usize = 24;

/// The pool has at least this many bytes, and several values' worth when they are large.
const POOL_BYTES: usize = 4 << 20;

/// SplitMix64: fast enough not to be seen in what is measured, and the same everywhere.
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    /// One of several sequences of a seed.
    pub fn new(seed: u64, sequence: u64) -> Rng {
        Rng(mix(seed ^ mix(sequence)))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Evenly from `0..bound`, as far as a multiplication can (the error is below `bound / 2^64`).
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

/// A permutation of the numbers of 64 bits.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The values of numbered keys.
pub struct Values {
    pool: Bytes,
    value_bytes: usize,
    seed: u64,
}

impl Values {
    pub fn new(value_bytes: usize, seed: u64) -> Values {
        Values::drawn_by(Rng::new(seed, 0), value_bytes, seed)
    }

    fn drawn_by(mut rng: Rng, value_bytes: usize, seed: u64) -> Values {
        let mut pool = BytesMut::new();
        while pool.len() < POOL_BYTES.max(4 * value_bytes) {
            pool.extend_from_slice(&rng.next().to_le_bytes());
        }
        Values { pool: pool.freeze(), value_bytes, seed }
    }

    /// The value of this key in its `generation`.
    pub fn value(&self, number: usize, generation: u32) -> Bytes {
        let drawn = mix(self.seed ^ mix((number as u64) << 32 | u64::from(generation)));
        self.slice_of_pool(drawn, self.value_bytes)
    }

    fn slice_of_pool(&self, drawn: u64, len: usize) -> Bytes {
        let start = (drawn % (self.pool.len() - len) as u64) as usize;
        self.pool.slice(start..start + len)
    }
}

/// The keys by number, and the values.
pub struct Data {
    keys: Bytes,
    /// Where each key ends in `keys`.
    ends: Vec<usize>,
    values: Values,
    pub seed: u64,
}

impl Data {
    pub fn new(args: &DataArgs) -> Data {
        let mut rng = Rng::new(args.seed, 0);
        let mut keys = BytesMut::new();
        let mut ends = Vec::with_capacity(args.keys as usize);
        for number in 0..u64::from(args.keys) {
            match args.key_shape {
                KeyShape::Random => {
                    let words: [u64; RANDOM_KEY_BYTES / 8] = std::array::from_fn(|_| rng.next());
                    words.iter().for_each(|word| keys.extend_from_slice(&word.to_be_bytes()));
                }
                KeyShape::Path => keys.extend_from_slice(path(number, &mut rng).as_bytes()),
            }
            ends.push(keys.len());
        }
        let values = Values::drawn_by(rng, args.value_bytes as usize, args.seed);
        Data { keys: keys.freeze(), ends, values, seed: args.seed }
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn value_bytes(&self) -> usize {
        self.values.value_bytes
    }

    fn key_range(&self, number: usize) -> std::ops::Range<usize> {
        number.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[number]
    }

    pub fn key(&self, number: usize) -> &[u8] {
        &self.keys[self.key_range(number)]
    }

    pub fn key_bytes(&self, number: usize) -> Bytes {
        self.keys.slice(self.key_range(number))
    }

    /// The value of this key in its `generation`.
    pub fn value(&self, number: usize, generation: u32) -> Bytes {
        self.values.value(number, generation)
    }

    /// Bytes that are no value, of a length below that of the pool.
    pub fn random_bytes(&self, number: usize, len: usize) -> Bytes {
        self.values.slice_of_pool(mix(number as u64), len)
    }

    pub fn pair(&self, number: usize, generation: u32) -> Pair {
        Pair { key: self.key_bytes(number), value: self.value(number, generation) }
    }

    /// The numbers of all keys in the order of their bytes.
    pub fn sorted(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..self.len() as u32).collect();
        numbers.sort_unstable_by(|&a, &b| self.key(a as usize).cmp(self.key(b as usize)));
        numbers
    }

    /// Bytes of these keys and their values.
    pub fn payload_bytes(&self, numbers: impl Iterator<Item = usize>) -> u64 {
        numbers.map(|number| (self.key_range(number).len() + self.value_bytes()) as u64).sum()
    }
}

/// A path as applications make them: few beginnings, and a name that is unique because `number` is.
fn path(number: u64, rng: &mut Rng) -> String {
    const KINDS: [&str; 4] = ["invoices", "attachments", "audit-records", "preferences"];
    const LEAVES: [&str; 3] = ["meta.json", "content.json", "versions/0001/content.json"];
    let (tenant, project) = (rng.below(200), rng.below(50));
    let (kind, leaf) = (KINDS[rng.below(KINDS.len())], LEAVES[rng.below(LEAVES.len())]);
    let name = mix(number);
    format!("/tenants/{tenant:04}/projects/{project:04}/{kind}/{name:016x}/{leaf}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn data(key_shape: KeyShape) -> Data {
        Data::new(&DataArgs { keys: 5_000, value_bytes: 150, key_shape, cache_mib: 1, seed: 3 })
    }

    #[test]
    fn keys_are_unique_and_as_long_as_promised() {
        for (shape, lengths) in [(KeyShape::Random, 24..=24), (KeyShape::Path, 60..=100)] {
            let data = data(shape);
            let keys: HashSet<&[u8]> = (0..data.len()).map(|number| data.key(number)).collect();
            assert_eq!(keys.len(), 5_000);
            for key in keys {
                assert!(lengths.contains(&key.len()), "{}", key.escape_ascii());
            }
        }
    }

    #[test]
    fn a_seed_gives_the_same_again_and_generations_differ() {
        let (a, b) = (data(KeyShape::Path), data(KeyShape::Path));
        for number in [0, 7, 4_999] {
            assert_eq!((a.key(number), a.value(number, 2)), (b.key(number), b.value(number, 2)));
            assert_ne!(a.value(number, 2), a.value(number, 3));
        }
    }
}
