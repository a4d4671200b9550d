//! Which keys the clients ask for, and what was written under them.
//!
//! Each key is written by one client only, which knows its last value: so every answer can be compared byte for byte,
//! during a round and after it.

use std::cell::RefCell;

use bytes::Bytes;

use super::args::Dist;
use super::client::Pair;
use crate::data::{Rng, Values};

/// All keys of a system, and how often each was written.
pub struct Keys {
    values: Values,
    /// By key; 0 for a key that was never written.
    generations: RefCell<Vec<u32>>,
    /// Whether the system was empty: nodes that ran before may have keys of earlier runs.
    is_new: bool,
}

impl Keys {
    /// Of a system that `is_new`, or of one that may have keys of earlier runs.
    pub fn new(count: u32, value_bytes: u32, seed: u64, is_new: bool) -> Keys {
        Keys {
            values: Values::new(value_bytes as usize, seed),
            generations: RefCell::new(vec![0; count as usize]),
            is_new,
        }
    }

    pub fn len(&self) -> usize {
        self.generations.borrow().len()
    }

    /// Digits at the end of every name.
    pub const DIGITS: usize = 10;

    pub fn name(number: usize) -> String {
        format!("bench-{number:0digits$}", digits = Self::DIGITS)
    }

    /// How often each was written.
    pub fn generations(&self) -> Vec<u32> {
        self.generations.borrow().clone()
    }

    /// What the next write of a key stores.
    pub fn next_value(&self, number: usize) -> Bytes {
        self.values.value(number, self.generations.borrow()[number] + 1)
    }

    /// That write was acknowledged.
    pub fn note_written(&self, number: usize) {
        self.generations.borrow_mut()[number] += 1;
    }

    /// Compares what was read with what was written last.
    pub fn check(&self, number: usize, found: Option<&Bytes>) -> Result<(), String> {
        let generation = self.generations.borrow()[number];
        let expected = (generation > 0).then(|| self.values.value(number, generation));
        match (found, expected) {
            (None, None) => Ok(()),
            (Some(_), None) if !self.is_new => Ok(()),
            (Some(_), None) => Err("a value that nobody wrote".into()),
            (Some(found), Some(expected)) if *found == expected => Ok(()),
            (None, Some(_)) => Err(format!("nothing, after {generation} acknowledged writes")),
            (Some(found), Some(_)) => Err(format!(
                "{} bytes that are not those of its write number {generation}",
                found.len()
            )),
        }
    }

    /// Compares what a scan of `limit` keys gave with what it had to give: these keys, in their order, and none else.
    pub fn check_scan(&self, first: usize, limit: usize, found: &[Pair]) -> Result<(), String> {
        let expected = first..self.len().min(first + limit);
        let found = match self.is_new {
            true => found,
            false => &found[..found.len().min(expected.len())],
        };
        if found.len() != expected.len() {
            return Err(format!("{} keys, and not {}", found.len(), expected.len()));
        }
        for (number, (key, value)) in expected.zip(found) {
            if *key != Keys::name(number) {
                return Err(format!("{key:?} stands where {} belongs", Keys::name(number)));
            }
            self.check(number, Some(value))
                .map_err(|what| format!("{}: {what}", Keys::name(number)))?;
        }
        Ok(())
    }
}

/// Draws the numbers of keys for one of `clients` clients: those that are its own.
pub struct Draw {
    rng: Rng,
    dist: Dist,
    keys: usize,
    client: usize,
    clients: usize,
}

impl Draw {
    pub fn new(rng: Rng, dist: Dist, keys: usize, client: usize, clients: usize) -> Draw {
        Draw { rng, dist, keys, client, clients }
    }

    pub fn next(&mut self) -> usize {
        // Keys of a client: client, client + clients, client + 2 * clients …
        let own = (self.keys - self.client).div_ceil(self.clients);
        let rank = match self.dist {
            Dist::Uniform => self.rng.below(own),
            Dist::Zipf => {
                // The inverse of the continuous distribution with density 1/x from 1 to own + 1.
                let uniform = self.rng.next() as f64 / u64::MAX as f64;
                let rank = ((own + 1) as f64).powf(uniform) - 1.0;
                (rank as usize).min(own - 1)
            }
        };
        rank * self.clients + self.client
    }

    /// An even choice of two.
    pub fn coin(&mut self) -> bool {
        self.rng.next().is_multiple_of(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_draw_all_keys_and_none_draws_those_of_another() {
        let drawn = |client| {
            let mut draw = Draw::new(Rng::new(1, client as u64), Dist::Uniform, 10, client, 3);
            (0..1_000).map(|_| draw.next()).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(drawn(0), [0, 3, 6, 9].into());
        assert_eq!(drawn(1), [1, 4, 7].into());
        assert_eq!(drawn(2), [2, 5, 8].into());
    }

    #[test]
    fn zipf_asks_for_the_first_ranks_most() {
        let mut draw = Draw::new(Rng::new(7, 0), Dist::Zipf, 1_000, 0, 1);
        let mut counts = [0u32; 1_000];
        (0..100_000).for_each(|_| counts[draw.next()] += 1);
        // ln 2 / ln 1001 and ln (11 / 10) / ln 1001 of 100,000.
        assert!((9_500..10_600).contains(&counts[0]), "{}", counts[0]);
        assert!((1_200..1_600).contains(&counts[9]), "{}", counts[9]);
    }

    #[test]
    fn a_lost_an_old_and_a_foreign_value_are_told_from_the_last_one() {
        let keys = Keys::new(2, 32, 1, true);
        keys.check(0, None).unwrap();
        let first = keys.next_value(0);
        keys.check(0, Some(&first)).unwrap_err();
        keys.note_written(0);
        keys.check(0, Some(&first)).unwrap();
        keys.check(0, None).unwrap_err();
        let second = keys.next_value(0);
        keys.note_written(0);
        keys.check(0, Some(&first)).unwrap_err();
        keys.check(0, Some(&second)).unwrap();
    }

    #[test]
    fn what_an_earlier_run_left_is_wrong_only_where_there_was_none() {
        let (first, second) = (Keys::new(2, 32, 1, true), Keys::new(2, 32, 2, false));
        let left = first.next_value(0);
        first.check(0, Some(&left)).unwrap_err();
        second.check(0, Some(&left)).unwrap();
        second.note_written(0);
        second.check(0, Some(&left)).unwrap_err();
        second.note_written(1);
        let pair = |number| (Bytes::from(Keys::name(number)), second.values.value(number, 1));
        second.check_scan(1, 2, &[pair(1), pair(2)]).unwrap();
        second.check_scan(1, 2, &[]).unwrap_err();
    }

    #[test]
    fn a_scan_has_all_keys_in_their_order_and_each_with_its_value() {
        let keys = Keys::new(5, 32, 1, true);
        let pair = |number| (Bytes::from(Keys::name(number)), keys.next_value(number));
        let pairs: Vec<Pair> = (0..5).map(pair).collect();
        (0..5).for_each(|number| keys.note_written(number));
        keys.check_scan(1, 3, &pairs[1..4]).unwrap();
        keys.check_scan(3, 3, &pairs[3..]).unwrap();
        keys.check_scan(1, 3, &pairs[1..3]).unwrap_err();
        keys.check_scan(0, 3, &pairs[1..4]).unwrap_err();
        let other = [pairs[1].clone(), (pairs[2].0.clone(), pairs[3].1.clone())];
        keys.check_scan(1, 2, &other).unwrap_err();
    }
}
