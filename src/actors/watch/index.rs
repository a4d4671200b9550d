//! Which ranges a key is in: an interval tree in an array.
//!
//! Ranges are sorted by where they start. The middle one of any part of the array is the root of that part, and knows
//! which range of the part reaches furthest; a search leaves out every part that ends below the key, and
//! all that starts above it. So a search among `n` ranges of which `k` hold the key looks at about `k log n` of
//! them at most, and at about `log n` when none does; memory is that of the ranges.
//!
//! Ranges come and go by an insertion into the array; how far they reach is computed anew before the next search
//! ([`RangeIndex::refresh`]), once for all that came and went: some microseconds for a thousand.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::types::KeyRange;

/// Ranges, each once, and what stands for them.
#[derive(Default)]
pub struct RangeIndex<T> {
    entries: Vec<(KeyRange, T)>,
    /// For the root of each part: which entry of the part reaches furthest.
    furthest: Vec<usize>,
    /// Whether ranges came or went since `furthest` was computed.
    is_stale: bool,
}

impl<T> RangeIndex<T> {
    pub fn get(&self, range: &KeyRange) -> Option<&T> {
        self.find(range).ok().map(|at| &self.entries[at].1)
    }

    /// Adds a range that is not there.
    pub fn insert(&mut self, range: KeyRange, value: T) {
        let Err(at) = self.find(&range) else { return };
        self.entries.insert(at, (range, value));
        self.is_stale = true;
    }

    pub fn remove(&mut self, range: &KeyRange) {
        let Ok(at) = self.find(range) else { return };
        self.entries.remove(at);
        self.is_stale = true;
    }

    /// Makes the index ready for searches after it was changed.
    pub fn refresh(&mut self) {
        if self.is_stale {
            self.furthest = vec![0; self.entries.len()];
            self.measure(0, self.entries.len());
            self.is_stale = false;
        }
    }

    /// Whether a range holds `key`. The index must be fresh.
    pub fn holds(&self, key: &[u8]) -> bool {
        let mut found = false;
        self.search(0, self.entries.len(), key, &mut |_| {
            found = true;
            false
        });
        found
    }

    /// Visits what stands for the ranges that hold `key`. The index must be fresh.
    pub fn visit(&self, key: &[u8], mut visit: impl FnMut(&T)) {
        self.search(0, self.entries.len(), key, &mut |value| {
            visit(value);
            true
        });
    }

    fn find(&self, range: &KeyRange) -> Result<usize, usize> {
        self.entries.binary_search_by(|(entry, _)| {
            entry.start.cmp(&range.start).then_with(|| order_of_ends(&entry.end, &range.end))
        })
    }

    fn measure(&mut self, from: usize, to: usize) -> Option<usize> {
        if from == to {
            return None;
        }
        let root = from.midpoint(to);
        let sides = [self.measure(from, root), self.measure(root + 1, to)];
        let further = |a: usize, b: usize| {
            let ends = order_of_ends(&self.entries[a].0.end, &self.entries[b].0.end);
            if ends == Ordering::Less { b } else { a }
        };
        self.furthest[root] = sides.into_iter().flatten().fold(root, further);
        Some(self.furthest[root])
    }

    /// Says whether to go on.
    fn search(
        &self,
        from: usize,
        to: usize,
        key: &[u8],
        visit: &mut impl FnMut(&T) -> bool,
    ) -> bool {
        debug_assert!(!self.is_stale, "a search in an index that was changed");
        if from == to {
            return true;
        }
        let root = from.midpoint(to);
        let reaches = |at: usize| self.entries[at].0.end.as_ref().is_none_or(|end| key < &end[..]);
        if !reaches(self.furthest[root]) {
            return true;
        }
        let (range, value) = &self.entries[root];
        self.search(from, root, key, visit)
            && (key < &range.start[..]
                || (!reaches(root) || visit(value)) && self.search(root + 1, to, key, visit))
    }
}

/// No end is above all.
fn order_of_ends(a: &Option<Bytes>, b: &Option<Bytes>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.cmp(b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Short byte strings of few bytes, so that ranges overlap; 0xff among them, where prefixes have no end.
    fn bytes() -> impl Strategy<Value = Bytes> {
        let byte = prop::sample::select(vec![0, b'a', b'b', 0xff]);
        prop::collection::vec(byte, 0..4).prop_map(Bytes::from)
    }

    fn range() -> impl Strategy<Value = KeyRange> {
        let one_key = bytes().prop_map(|start| {
            let end = start.iter().copied().chain([0]).collect::<Vec<u8>>();
            KeyRange { start, end: Some(end.into()) }
        });
        let any = (bytes(), prop::option::of(bytes()));
        let any = any.prop_map(|(start, end)| KeyRange { start, end });
        prop_oneof![bytes().prop_map(KeyRange::prefix), one_key, any]
    }

    proptest! {
        /// The model asks every range.
        #[test]
        fn a_search_finds_what_asking_each_range_finds(
            steps in prop::collection::vec((range(), prop::bool::weighted(0.7), bytes()), 1..60),
        ) {
            let mut index = RangeIndex::default();
            let mut model: BTreeMap<(Bytes, Option<Bytes>), usize> = BTreeMap::new();
            for (number, (range, adds, key)) in steps.into_iter().enumerate() {
                let name = (range.start.clone(), range.end.clone());
                prop_assert_eq!(index.get(&range), model.get(&name));
                if !adds {
                    index.remove(&range);
                    model.remove(&name);
                } else if index.get(&range).is_none() {
                    index.insert(range, number);
                    model.insert(name, number);
                }
                index.refresh();
                let mut found = Vec::new();
                index.visit(&key, |value| found.push(*value));
                found.sort_unstable();
                let holds = |start: &Bytes, end: &Option<Bytes>| {
                    KeyRange { start: start.clone(), end: end.clone() }.contains(&key)
                };
                let asked = model.iter().filter(|((start, end), _)| holds(start, end));
                let mut expected: Vec<usize> = asked.map(|(_, number)| *number).collect();
                expected.sort_unstable();
                prop_assert_eq!(index.holds(&key), !expected.is_empty());
                prop_assert_eq!(found, expected);
            }
        }
    }
}
