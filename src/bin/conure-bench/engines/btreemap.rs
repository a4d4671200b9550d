//! `BTreeMap` of the standard library: what a tree in memory costs, without files, pages or snapshots.
//!
//! It is loaded and read only. A lock would be its snapshot, so opening a view is not measured on it as
//! the cost of one: nothing writes meanwhile, and a view is a borrow.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::{Order, Pair, Seen, Tree, View};
use crate::error::Failure;

#[derive(Default)]
pub struct Map {
    pairs: BTreeMap<Bytes, Vec<u8>>,
}

impl Tree for Map {
    fn load(&mut self, pairs: &mut dyn Iterator<Item = Pair>, _: Order) -> Result<(), Failure> {
        // Copies, as an engine makes them.
        self.pairs
            .extend(pairs.map(|pair| (Bytes::copy_from_slice(&pair.key), pair.value.to_vec())));
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn View + '_>, Failure> {
        Ok(Box::new(self))
    }

    fn get_fresh(&self, key: &[u8], seen: Seen<'_>) -> Result<(), Failure> {
        View::get(&self, key, seen)
    }
}

impl View for &Map {
    fn get(&self, key: &[u8], seen: Seen<'_>) -> Result<(), Failure> {
        if let Some(value) = self.pairs.get(key) {
            seen(value);
        }
        Ok(())
    }

    fn scan(
        &self,
        start: &[u8],
        limit: usize,
        seen: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Failure> {
        let range = (Bound::Included(start), Bound::Unbounded);
        self.pairs.range::<[u8], _>(range).take(limit).for_each(|(key, value)| seen(key, value));
        Ok(())
    }
}
