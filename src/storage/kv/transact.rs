//! Transactions: comparisons with the state before, then the operations of one branch, each of which sees what
//! those before it wrote.
//!
//! Everything here happens while one log entry is applied, so nothing comes between. What is read is bounded, by
//! constants and not by settings: the outcome is part of the replicated state where the request has an id.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::batch::Batch;
use super::layout::{self, BadBytes, StoredRecord};
use super::{KV, bad};
use crate::plants::{Plant, planted};
use crate::storage::cursor::Lent;
use crate::storage::error::StorageError;
use crate::types::{
    Compare, Condition, ITEM_OVERHEAD_BYTES, Key, KeyRange, MAX_TXN_RANGE_ITEMS,
    MAX_TXN_RESULT_BYTES, Outcome, Record, Txn, TxnOp, TxnResult,
};

/// A range that is read.
struct Reading<'a> {
    range: &'a KeyRange,
    limit: usize,
    reverse: bool,
    keys_only: bool,
}

impl Batch<'_> {
    pub(super) fn transact(&mut self, txn: &Txn) -> Result<Outcome, StorageError> {
        let mut succeeded = true;
        for compare in txn.compare() {
            succeeded = succeeded && self.holds(compare)?;
        }
        let puts = txn.branch(succeeded).iter().filter_map(|operation| match operation {
            TxnOp::Put { key, lifetime, .. } => Some((key, *lifetime)),
            TxnOp::Get { .. } | TxnOp::Range { .. } | TxnOp::Delete { .. } => None,
        });
        if let Some(refusal) = self.refuses(puts)? {
            return Ok(refusal);
        }
        let mut left_bytes = MAX_TXN_RESULT_BYTES;
        let mut results = Vec::new();
        for operation in txn.branch(succeeded) {
            match self.claims(operation, results.is_empty()) {
                Some(claimed) => results.push(claimed),
                None => results.push(self.carry_out(operation, &mut left_bytes)?),
            }
        }
        Ok(Outcome::Txn { succeeded, revision: self.facts.revision, results })
    }

    /// What a planted bug says was done, of a put that is not the first operation.
    fn claims(&self, operation: &TxnOp, is_first: bool) -> Option<TxnResult> {
        let is_left_out = planted(Plant::TxnAppliesHalf) && operation.adds() && !is_first;
        let create_revision = self.facts.revision;
        is_left_out.then_some(TxnResult::Put { create_revision, version: 1 })
    }

    fn holds(&self, compare: &Compare) -> Result<bool, StorageError> {
        let key = compare.key.as_bytes();
        let stored = match compare.reads_value() {
            true => self.stored(key)?,
            false => self.head(key)?,
        };
        Ok(compare.holds(stored.and_then(StoredRecord::live).as_ref()))
    }

    fn carry_out(
        &mut self,
        operation: &TxnOp,
        left_bytes: &mut usize,
    ) -> Result<TxnResult, StorageError> {
        match operation {
            TxnOp::Put { key, value, lifetime } => {
                match self.put(key, value, *lifetime, Condition::None)? {
                    Outcome::Put { create_revision, version, .. } => {
                        Ok(TxnResult::Put { create_revision, version })
                    }
                    other => unreachable!("a put without a condition is done, not {other:?}"),
                }
            }
            TxnOp::Get { key } => {
                let range = &KeyRange::only(key);
                let reading = Reading { range, limit: 1, reverse: false, keys_only: false };
                self.read(reading, left_bytes)
            }
            TxnOp::Range { range, limit, reverse, keys_only } => {
                let limit = *limit.min(&MAX_TXN_RANGE_ITEMS);
                let (reverse, keys_only) = (*reverse, *keys_only);
                self.read(Reading { range, limit, reverse, keys_only }, left_bytes)
            }
            TxnOp::Delete { range } => Ok(TxnResult::Deleted { count: self.delete_range(range)? }),
        }
    }

    /// Reads until a limit is met. A value that does not fit is not even read.
    fn read(
        &self,
        reading: Reading<'_>,
        left_bytes: &mut usize,
    ) -> Result<TxnResult, StorageError> {
        let Reading { range, limit, reverse, keys_only } = reading;
        let (mut items, mut has_more) = (Vec::new(), false);
        if range.is_empty() {
            return Ok(TxnResult::Found { items, has_more });
        }
        let read = |entry: Lent<'_>| {
            let head = match layout::decode_record_head(&mut entry.head()) {
                Ok(head) if head.is_deleted => return ControlFlow::Continue(()),
                Ok(head) => head,
                Err(damage) => return ControlFlow::Break(Err(bad(damage))),
            };
            let value_bytes = if keys_only { 0 } else { entry.value_len() };
            let item_bytes = entry.key.len() + value_bytes + ITEM_OVERHEAD_BYTES;
            has_more = items.len() >= limit || item_bytes > *left_bytes;
            if has_more {
                return ControlFlow::Break(Ok(()));
            }
            *left_bytes -= item_bytes;
            match item(&entry, head, keys_only) {
                Ok(item) => items.push(item),
                Err(error) => return ControlFlow::Break(Err(error)),
            }
            ControlFlow::Continue(())
        };
        let mut walk = self.txn.range(KV, range.clone())?;
        let ended = if reverse { walk.visit_back(read)? } else { walk.visit(read)? };
        ended.unwrap_or(Ok(()))?;
        Ok(TxnResult::Found { items, has_more })
    }
}

fn item(
    entry: &Lent<'_>,
    head: StoredRecord,
    keys_only: bool,
) -> Result<(Key, Record), StorageError> {
    let record = match keys_only {
        true => Record { value: Bytes::new(), ..head.record },
        false => layout::decode_record(entry.value()?).map_err(bad)?.record,
    };
    let key = Key::new(Bytes::copy_from_slice(entry.key));
    Ok((key.map_err(|_| bad(BadBytes("a key has a bad length")))?, record))
}
