//! What a transaction did, as JSON: a result for each operation of the branch that was taken, in its order.

use serde::Serialize;

use crate::http::item::{self, Item};
use crate::types::{Key, Revision, Txn, TxnOp, TxnResult};

/// The document.
#[derive(Serialize)]
pub struct TxnAnswer<'a> {
    succeeded: bool,
    revision: Revision,
    results: Vec<Answered<'a>>,
}

impl<'a> TxnAnswer<'a> {
    pub fn new(
        txn: &Txn,
        succeeded: bool,
        revision: Revision,
        results: &'a [TxnResult],
    ) -> TxnAnswer<'a> {
        let results = txn.branch(succeeded).iter().zip(results).map(Answered::new).collect();
        TxnAnswer { succeeded, revision, results }
    }
}

/// An upper bound of the document's length.
pub fn max_json_bytes(results: &[TxnResult]) -> usize {
    let item = |(key, record): &(Key, _)| Item::of(key, record, false).max_json_bytes();
    let result = |result: &TxnResult| match result {
        TxnResult::Found { items, .. } => items.iter().map(item).sum(),
        _ => 0,
    };
    results.iter().map(|it| item::max_json_bytes(0) + result(it)).sum()
}

/// What an operation did, as JSON.
#[derive(Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Answered<'a> {
    Put {
        create_revision: Revision,
        version: u64,
    },
    Get {
        #[serde(skip_serializing_if = "Read::is_no_item")]
        item: Read<Option<Item<'a>>>,
        #[serde(skip_serializing_if = "is_false")]
        too_large: bool,
        #[serde(skip_serializing_if = "is_false")]
        forgotten: bool,
    },
    Range {
        #[serde(skip_serializing_if = "Read::is_no_item")]
        items: Read<Vec<Item<'a>>>,
        #[serde(skip_serializing_if = "Read::is_no_item")]
        more: Read<bool>,
        #[serde(skip_serializing_if = "is_false")]
        forgotten: bool,
    },
    Delete {
        deleted: u64,
    },
}

/// What was read, if it is there to tell; an absent key is there to tell, as `null`.
#[derive(Serialize)]
#[serde(untagged)]
enum Read<T> {
    It(T),
    Nothing,
}

impl<T> Read<T> {
    fn is_no_item(&self) -> bool {
        matches!(self, Read::Nothing)
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl<'a> Answered<'a> {
    fn new((operation, result): (&TxnOp, &'a TxnResult)) -> Answered<'a> {
        let item = |key_only| move |(key, record): &'a (Key, _)| Item::of(key, record, key_only);
        match (operation, result) {
            (TxnOp::Put { .. }, TxnResult::Put { create_revision, version }) => {
                Answered::Put { create_revision: *create_revision, version: *version }
            }
            (TxnOp::Delete { .. }, TxnResult::Deleted { count }) => {
                Answered::Delete { deleted: *count }
            }
            (TxnOp::Range { keys_only, .. }, TxnResult::Found { items, has_more }) => {
                Answered::Range {
                    items: Read::It(items.iter().map(item(*keys_only)).collect()),
                    more: Read::It(*has_more),
                    forgotten: false,
                }
            }
            (TxnOp::Range { .. }, _) => {
                Answered::Range { items: Read::Nothing, more: Read::Nothing, forgotten: true }
            }
            (_, TxnResult::Found { items, has_more: false }) => Answered::Get {
                item: Read::It(items.first().map(item(false))),
                too_large: false,
                forgotten: false,
            },
            (_, TxnResult::Found { .. }) => {
                Answered::Get { item: Read::Nothing, too_large: true, forgotten: false }
            }
            // What is kept of a transaction are its writes; all else was a read.
            _ => Answered::Get { item: Read::Nothing, too_large: false, forgotten: true },
        }
    }
}
