//! What is drawn: operations over a few keys, so that they meet.

use proptest::prelude::*;

use crate::types::*;

#[derive(Debug, Clone)]
pub enum Transition {
    /// At a leader's clock, which may go back.
    Do(Operation, u64),
    Checkpoint,
    Crash,
    Install,
}

/// One that the store has come to, or the next but one.
fn revision(newest: Revision) -> impl Strategy<Value = Revision> {
    0..newest + 3
}

fn lifetime() -> impl Strategy<Value = Lifetime> {
    prop_oneof![
        6 => Just(Lifetime::Unbounded),
        3 => (1..60u64).prop_map(|ms| Lifetime::Ttl { ms }),
        3 => lease().prop_map(Lifetime::Lease),
    ]
}

/// A lease that is granted before it is used, by how many were granted after it; or one that is not.
fn lease() -> impl Strategy<Value = LeaseId> {
    (1..5u64).prop_map(|ago| LeaseId::new(ago).expect("not 0"))
}

/// Transactions over the same few keys. What would write a key twice is left out.
fn transactions(newest: Revision) -> impl Strategy<Value = Operation> {
    let key = || (0..24u8).prop_map(|n| Key::new(vec![n]).expect("one byte"));
    let range = || {
        (0..24u8, 0..24u8).prop_map(|(start, end)| KeyRange {
            start: vec![start].into(),
            end: Some(vec![end].into()),
        })
    };
    let operand = prop_oneof![
        any::<bool>().prop_map(Operand::Exists),
        (0..4u64).prop_map(Operand::Version),
        revision(newest).prop_map(Operand::ModRevision),
        revision(newest).prop_map(Operand::CreateRevision),
        proptest::collection::vec(any::<u8>(), 0..2).prop_map(|it| Operand::Value(it.into())),
    ];
    let is = (0..6usize).prop_map(|n| Relation::NAMES[n].1);
    let compare = (key(), is, operand).prop_map(|(key, is, to)| Compare { key, is, to });
    let operation = prop_oneof![
        3 => (key(), proptest::collection::vec(any::<u8>(), 0..2_000), lifetime()).prop_map(
            |(key, value, lifetime)| TxnOp::Put { key, value: value.into(), lifetime }
        ),
        2 => key().prop_map(|key| TxnOp::Get { key }),
        1 => (range(), 0..9usize, any::<bool>(), any::<bool>()).prop_map(
            |(range, limit, reverse, keys_only)| TxnOp::Range { range, limit, reverse, keys_only }
        ),
        1 => key().prop_map(|key| TxnOp::Delete { range: KeyRange::only(&key) }),
        1 => range().prop_map(|range| TxnOp::Delete { range }),
    ];
    let branch = || proptest::collection::vec(operation.clone(), 0..6);
    let parts = (proptest::collection::vec(compare, 0..3), branch(), branch());
    parts.prop_map(|(compare, success, failure)| {
        let valid = |operations: Vec<TxnOp>| {
            let mut kept = Vec::new();
            for operation in operations {
                kept.push(operation);
                if Txn::new(Vec::new(), kept.clone(), Vec::new()).is_err() {
                    kept.pop();
                }
            }
            kept
        };
        Operation::Txn(Txn::new(compare, valid(success), valid(failure)).expect("no key twice"))
    })
}

fn operations(newest: Revision) -> impl Strategy<Value = Operation> {
    let condition = prop_oneof![
        4 => Just(Condition::None),
        1 => Just(Condition::Absent),
        1 => Just(Condition::Present),
        1 => revision(newest).prop_map(Condition::ModRevision),
    ];
    let key = || (0..24u8).prop_map(|n| Key::new(vec![n]).expect("one byte"));
    let value = prop_oneof![
        9 => proptest::collection::vec(any::<u8>(), 0..200),
        1 => (any::<u8>(), 900..9_000usize).prop_map(|(byte, len)| vec![byte; len]),
    ];
    prop_oneof![
        8 => (key(), value, condition, lifetime()).prop_map(|(key, value, condition, lifetime)| {
            Operation::Put { key, value: value.into(), condition, lifetime }
        }),
        2 => Just(Operation::Expire),
        2 => (1..90u64).prop_map(|ttl_ms| Operation::LeaseGrant { ttl_ms }),
        1 => lease().prop_map(|id| Operation::LeaseKeepAlive { id }),
        1 => lease().prop_map(|id| Operation::LeaseRevoke { id }),
        4 => transactions(newest),
        3 => key().prop_map(|key| Operation::Delete { key, condition: Condition::None }),
        1 => (0..24u8, 0..24u8).prop_map(|(start, end)| Operation::DeleteRange {
            range: KeyRange { start: vec![start].into(), end: Some(vec![end].into()) },
        }),
    ]
}

/// What may happen to a store at a revision.
pub fn transitions(newest: Revision) -> impl Strategy<Value = Transition> {
    prop_oneof![
        12 => (operations(newest), 0..300u64).prop_map(|(operation, at)| Transition::Do(operation, at)),
        1 => Just(Transition::Checkpoint),
        1 => Just(Transition::Crash),
        1 => Just(Transition::Install),
    ]
}
