//! Transactions: comparisons, and what to do when all of them hold, and when one does not.
//!
//! Operations take effect in their order and each sees what those before it did (as in etcd). All that is
//! written is one revision. A branch writes a key once: what a put stores is not overwritten or deleted by
//! another operation of its branch. So a revision does one thing to a key, which is what the change index,
//! watches and the history of a key tell. Deletes may overlap: the second finds nothing.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Key, KeyRange, Lifetime, Record, Revision};

/// Most operations that a node may be configured to take in one list of a transaction. What each of them
/// wrote is kept for a retry, so they bound the sessions.
pub const MAX_TXN_OPS: usize = 1_024;

/// Most records that one range of a transaction reads.
pub const MAX_TXN_RANGE_ITEMS: usize = 1_000;

/// What the reads of one transaction may take together: keys, values and [`ITEM_OVERHEAD_BYTES`] each. It is
/// read while the transaction is applied, on every node, and held until the reply is sent.
pub const MAX_TXN_RESULT_BYTES: usize = 1024 * 1024;

/// What a record counts beside its key and value.
pub const ITEM_OVERHEAD_BYTES: usize = 64;

/// A checked transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Txn(Parts);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Parts {
    compare: Vec<Compare>,
    success: Vec<TxnOp>,
    failure: Vec<TxnOp>,
}

/// Why operations are no transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TxnError {
    #[error(
        "{branch}[{at}] writes key {key}, which {branch}[{put_at}] puts: a transaction that puts a key does \
         nothing else to it"
    )]
    WrittenTwice { branch: &'static str, at: usize, put_at: usize, key: Key },
}

impl Txn {
    pub fn new(
        compare: Vec<Compare>,
        success: Vec<TxnOp>,
        failure: Vec<TxnOp>,
    ) -> Result<Txn, TxnError> {
        check_branch("success", &success)?;
        check_branch("failure", &failure)?;
        Ok(Txn(Parts { compare, success, failure }))
    }

    pub fn compare(&self) -> &[Compare] {
        &self.0.compare
    }

    /// What is done when the comparisons hold, and when they do not.
    pub fn branch(&self, succeeded: bool) -> &[TxnOp] {
        if succeeded { &self.0.success } else { &self.0.failure }
    }

    /// All operations, of both branches.
    pub fn operations(&self) -> impl Iterator<Item = &TxnOp> {
        self.0.success.iter().chain(&self.0.failure)
    }

    /// Bytes of the client's keys and values in it.
    pub fn payload_bytes(&self) -> usize {
        let compared = self.0.compare.iter().map(|compare| {
            let value = if let Operand::Value(value) = &compare.to { value.len() } else { 0 };
            compare.key.as_bytes().len() + value
        });
        let operated = self.operations().map(|operation| match operation {
            TxnOp::Put { key, value, .. } => key.as_bytes().len() + value.len(),
            TxnOp::Get { key } => key.as_bytes().len(),
            TxnOp::Range { range, .. } | TxnOp::Delete { range } => range.payload_bytes(),
        });
        compared.chain(operated).sum()
    }
}

impl TryFrom<Parts> for Txn {
    type Error = TxnError;

    fn try_from(parts: Parts) -> Result<Txn, TxnError> {
        Txn::new(parts.compare, parts.success, parts.failure)
    }
}

impl From<Txn> for Parts {
    fn from(txn: Txn) -> Parts {
        txn.0
    }
}

fn check_branch(branch: &'static str, operations: &[TxnOp]) -> Result<(), TxnError> {
    let mut puts: BTreeMap<&[u8], usize> = BTreeMap::new();
    let twice = |at, put_at, key: &Key| {
        let (at, put_at) = if at > put_at { (at, put_at) } else { (put_at, at) };
        TxnError::WrittenTwice { branch, at, put_at, key: key.clone() }
    };
    for (at, operation) in operations.iter().enumerate() {
        if let TxnOp::Put { key, .. } = operation
            && let Some(put_at) = puts.insert(key.as_bytes(), at)
        {
            return Err(twice(at, put_at, key));
        }
    }
    for (at, operation) in operations.iter().enumerate() {
        let TxnOp::Delete { range } = operation else { continue };
        let first =
            puts.range::<[u8], _>((Bound::Included(&range.start[..]), Bound::Unbounded)).next();
        if let Some((key, &put_at)) = first.filter(|(key, _)| range.contains(key)) {
            let key = Key::new(Bytes::copy_from_slice(key)).expect("a put has a key");
            return Err(twice(at, put_at, &key));
        }
    }
    Ok(())
}

/// What must hold of a key's record, as it is before the transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    pub key: Key,
    pub is: Relation,
    pub to: Operand,
}

/// How a field of the record, on the left, stands to the operand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    #[default]
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Which field, and what it is compared with. Numbers of an absent key are 0; it has no value, and
/// no comparison with one holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operand {
    Value(Bytes),
    Version(u64),
    CreateRevision(Revision),
    ModRevision(Revision),
    Exists(bool),
}

impl Relation {
    /// All, with what clients call them.
    pub const NAMES: [(&'static str, Relation); 6] = [
        ("=", Relation::Equal),
        ("!=", Relation::NotEqual),
        ("<", Relation::Less),
        ("<=", Relation::LessOrEqual),
        (">", Relation::Greater),
        (">=", Relation::GreaterOrEqual),
    ];

    pub fn name(self) -> &'static str {
        Relation::NAMES[self as usize].0
    }

    fn holds<T: Ord + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Relation::Equal => left == right,
            Relation::NotEqual => left != right,
            Relation::Less => left < right,
            Relation::LessOrEqual => left <= right,
            Relation::Greater => left > right,
            Relation::GreaterOrEqual => left >= right,
        }
    }
}

impl Compare {
    /// Whether it holds of the key's `record`.
    pub fn holds(&self, record: Option<&Record>) -> bool {
        let number =
            |field: fn(&Record) -> u64, to: &u64| self.is.holds(&record.map_or(0, field), to);
        match &self.to {
            Operand::Value(to) => record.is_some_and(|it| self.is.holds(&it.value[..], &to[..])),
            Operand::Version(to) => number(|record| record.version, to),
            Operand::CreateRevision(to) => number(|record| record.create_revision, to),
            Operand::ModRevision(to) => number(|record| record.mod_revision, to),
            Operand::Exists(to) => self.is.holds(&record.is_some(), to),
        }
    }

    /// Whether it needs the record's value, and not its numbers alone.
    pub fn reads_value(&self) -> bool {
        matches!(self.to, Operand::Value(_))
    }
}

/// An operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnOp {
    Put {
        key: Key,
        value: Bytes,
        lifetime: Lifetime,
    },
    Get {
        key: Key,
    },
    /// At most `limit` records, and at most [`MAX_TXN_RANGE_ITEMS`].
    Range {
        range: KeyRange,
        limit: usize,
        reverse: bool,
        keys_only: bool,
    },
    Delete {
        range: KeyRange,
    },
}

impl TxnOp {
    /// Whether it needs room.
    pub fn adds(&self) -> bool {
        matches!(self, TxnOp::Put { .. })
    }
}

/// What an operation of a transaction did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TxnResult {
    /// `revision` is that of the transaction.
    Put {
        create_revision: Revision,
        version: u64,
    },
    /// Of a get: its record, or nothing. `has_more`: not all that was there is in it, because of a limit.
    Found {
        items: Vec<(Key, Record)>,
        has_more: bool,
    },
    Deleted {
        count: u64,
    },
    /// A read, when the transaction is answered again from what is kept of it.
    Forgotten,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::new(Bytes::copy_from_slice(text.as_bytes())).expect("a short key")
    }

    fn put(text: &str) -> TxnOp {
        TxnOp::Put { key: key(text), value: Bytes::new(), lifetime: Lifetime::Unbounded }
    }

    fn delete(prefix: &'static str) -> TxnOp {
        TxnOp::Delete { range: KeyRange::prefix(prefix) }
    }

    #[test]
    fn a_branch_that_puts_a_key_does_nothing_else_to_it() {
        let new = |success: Vec<TxnOp>| Txn::new(Vec::new(), success, vec![put("a")]);
        assert!(new(vec![put("a"), TxnOp::Get { key: key("a") }, put("b")]).is_ok());
        assert!(new(vec![delete("a"), delete("a"), put("b")]).is_ok());
        for (operations, at, put_at) in [
            (vec![put("b"), put("a"), put("a")], 2, 1),
            (vec![put("ab"), delete("a")], 1, 0),
            (vec![delete("a"), put("ab")], 1, 0),
            (vec![put("0"), put("ab"), delete("z"), delete("")], 3, 0),
        ] {
            match new(operations) {
                Err(TxnError::WrittenTwice { branch, at: its_at, put_at: its_put, .. }) => {
                    assert_eq!((branch, its_at, its_put), ("success", at, put_at));
                }
                Ok(txn) => panic!("{txn:?}"),
            }
        }
    }

    #[test]
    fn a_transaction_is_checked_also_when_decoded() {
        let good = Txn::new(Vec::new(), vec![put("a")], Vec::new()).expect("a transaction");
        let bytes = crate::codec::encode(&good).expect("it is short");
        assert_eq!(crate::codec::decode::<Txn>(&bytes).expect("as it was"), good);
        let bad =
            Parts { compare: Vec::new(), success: vec![put("a"), put("a")], failure: Vec::new() };
        let bytes = crate::codec::encode(&bad).expect("it is short");
        assert!(crate::codec::decode::<Txn>(&bytes).is_err());
    }

    #[test]
    fn an_absent_key_has_numbers_of_zero_and_no_value() {
        let holds = |is, to: Operand| Compare { key: key("k"), is, to }.holds(None);
        assert!(holds(Relation::Equal, Operand::ModRevision(0)));
        assert!(holds(Relation::Less, Operand::Version(1)));
        assert!(holds(Relation::Equal, Operand::Exists(false)));
        assert!(holds(Relation::NotEqual, Operand::Exists(true)));
        for (_, is) in Relation::NAMES {
            assert!(!holds(is, Operand::Value(Bytes::new())), "{is:?}");
        }
    }

    #[test]
    fn relations_are_named_in_their_order() {
        for (name, relation) in Relation::NAMES {
            assert_eq!(relation.name(), name);
            let [less, equal, greater] =
                [(1, 2), (2, 2), (3, 2)].map(|(left, right)| relation.holds(&left, &right));
            assert_eq!(less, name == "<" || name == "<=" || name == "!=");
            assert_eq!(equal, name.contains('=') && name != "!=");
            assert_eq!(greater, name == ">" || name == ">=" || name == "!=");
        }
    }
}
