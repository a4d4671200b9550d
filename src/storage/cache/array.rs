//! A growing array of numbers that is read without locks and never moves.
//!
//! Its buckets double in length, so twenty pointers reach any index that there can be, the place of
//! an index is a few instructions away, and what was handed out stays where it is. Memory of a
//! bucket is zeros that the system makes when they are first touched.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;

/// Numbers, all zero at first.
pub struct Array {
    buckets: [OnceLock<Box<[AtomicU32]>>; BUCKETS],
}

/// Length of the first bucket.
const FIRST: usize = 1 << 12;
/// So many that together they reach beyond every u32.
const BUCKETS: usize = 21;

/// Bucket `b` begins at index `first * (2^b - 1)`: returns the bucket of `index` and the place in it.
#[inline]
pub fn place(index: usize, first: usize) -> (usize, usize) {
    let shifted = index + first;
    let bucket = (shifted / first).ilog2() as usize;
    (bucket, shifted - (first << bucket))
}

impl Array {
    pub fn new() -> Array {
        Array { buckets: [const { OnceLock::new() }; BUCKETS] }
    }

    /// The number at `index`; none where nothing was ever written.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&AtomicU32> {
        let (bucket, at) = place(index, FIRST);
        self.buckets.get(bucket)?.get()?.get(at)
    }

    /// The number at `index`, for writing.
    pub fn at(&self, index: usize) -> &AtomicU32 {
        let (bucket, at) = place(index, FIRST);
        &self.buckets[bucket].get_or_init(|| zeros(FIRST << bucket))[at]
    }
}

fn zeros(len: usize) -> Box<[AtomicU32]> {
    // SAFETY: all bits zero are a valid `AtomicU32`.
    unsafe { Box::new_zeroed_slice(len).assume_init() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn every_index_has_a_place_of_its_own() {
        assert_eq!(place(0, 4), (0, 0));
        let mut expected = (0..6).flat_map(|bucket| (0..4 << bucket).map(move |at| (bucket, at)));
        for index in 0..200 {
            assert_eq!(Some(place(index, 4)), expected.next(), "index {index}");
        }
        assert!(place(u32::MAX as usize, FIRST).0 < BUCKETS);
    }

    #[test]
    fn numbers_stay_where_they_were_written() {
        let array = Array::new();
        let indexes = [0, 1, FIRST - 1, FIRST, 3 * FIRST, 100_000];
        for index in indexes {
            array.at(index).store(index as u32 + 1, Relaxed);
        }
        for index in indexes {
            assert_eq!(array.get(index).unwrap().load(Relaxed), index as u32 + 1);
        }
        assert_eq!(array.get(FIRST + 1).unwrap().load(Relaxed), 0);
        assert!(array.get(u32::MAX as usize).is_none());
    }
}
