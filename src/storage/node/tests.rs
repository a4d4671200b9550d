//! Nodes against a sorted map of what was put into them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::storage::page::{self, PageKind};

const AT: PageRef = PageRef { number: 7, birth: 3, span: 1 };

fn leaf(cells: &[Cell<'_>]) -> Vec<u8> {
    let mut bytes = vec![0; PAGE_BYTES];
    page::init(&mut bytes, PageKind::Leaf, AT);
    NodeMut::fill(&mut bytes, 0, cells);
    bytes
}

fn branch(keys: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0; PAGE_BYTES];
    page::init(&mut bytes, PageKind::Branch, AT);
    let child = |number| PageRef { number, birth: 2, span: 1 };
    let cells: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(nth, key)| Cell { key, payload: Payload::Child(child(100 + nth as u64)) })
        .collect();
    NodeMut::fill(&mut bytes, 1, &cells);
    bytes
}

/// Keys that share prefixes, tie in their heads and end inside of them.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(&b""[..]),
        Just(&b"\0"[..]),
        Just(&b"\0\0\0\0"[..]),
        Just(&b"a"[..]),
        Just(&b"abcd"[..]),
        Just(&b"abce"[..]),
        Just(&b"\xff"[..]),
    ];
    (proptest::collection::vec(piece, 0..4), proptest::collection::vec(any::<u8>(), 0..2))
        .prop_map(|(pieces, tail)| [pieces.concat(), tail].concat())
}

proptest! {
    #[test]
    fn a_leaf_finds_what_a_map_finds(
        prefix in prop_oneof![Just(""), Just("p"), Just("/a/long/path/")],
        entries in proptest::collection::btree_map(keys(), proptest::collection::vec(any::<u8>(), 0..9), 1..40),
        probes in proptest::collection::vec(keys(), 20),
        removed in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
    ) {
        let whole = |key: &[u8]| [prefix.as_bytes(), key].concat();
        let mut map: BTreeMap<Vec<u8>, Vec<u8>> =
            entries.into_iter().map(|(key, value)| (whole(&key), value)).collect();
        let cells: Vec<_> =
            map.iter().map(|(key, value)| Cell { key, payload: Payload::Inline(value) }).collect();
        prop_assert!(node_bytes(0, &cells) <= PAGE_BYTES);
        let mut bytes = leaf(&cells);
        prop_assert_eq!(Node::of(&bytes).used_bytes(), node_bytes(0, &cells));
        let first = map.keys().next().unwrap().clone();
        for index in removed {
            let key = map.keys().nth(index.index(map.len())).unwrap().clone();
            if key == first {
                continue; // keeps a leaf from becoming empty
            }
            let value = map.remove(&key).unwrap();
            let slot = Node::of(&bytes).search(&key).unwrap();
            NodeMut::of(&mut bytes).remove(slot);
            if value.len().is_multiple_of(2) {
                // Back again, with another value.
                let value = [&value[..], b"again"].concat();
                let cell = Cell { key: &key, payload: Payload::Inline(&value) };
                prop_assert!(Node::of(&bytes).has_room_for(&cell, 0));
                NodeMut::of(&mut bytes).insert(slot, &cell);
                map.insert(key, value);
            }
        }
        prop_assert_eq!(Node::validate(&bytes), Ok(()));
        let node = Node::of(&bytes);
        let keys = node.keys();
        let found: BTreeMap<_, _> = node
            .cells(&keys)
            .map(|cell| match cell.payload {
                Payload::Inline(value) => (cell.key.to_vec(), value.to_vec()),
                other => panic!("{other:?}"),
            })
            .collect();
        prop_assert_eq!(&found, &map);
        for probe in probes.iter().map(|key| whole(key)).chain(map.keys().cloned()).chain(probes.clone()) {
            let place = map.range(..probe.clone()).count();
            let expected = if map.contains_key(&probe) { Ok(place) } else { Err(place) };
            prop_assert_eq!(node.search(&probe), expected, "{:?}", probe);
        }
    }

    #[test]
    fn a_branch_leads_to_the_last_child_not_above(
        prefix in prop_oneof![Just(""), Just("/a/long/path/")],
        separators in proptest::collection::btree_set(keys(), 1..40),
        probes in proptest::collection::vec(keys(), 20),
    ) {
        let whole = |key: &[u8]| [prefix.as_bytes(), key].concat();
        let separators: Vec<_> =
            separators.iter().filter(|key| !key.is_empty()).map(|key| whole(key)).collect();
        prop_assume!(!separators.is_empty());
        let mut all = vec![&b""[..]];
        all.extend(separators.iter().map(|key| &key[..]));
        let bytes = branch(&all);
        prop_assert_eq!(Node::validate(&bytes), Ok(()));
        let node = Node::of(&bytes);
        for probe in probes.iter().map(|key| whole(key)).chain(separators.clone()).chain(probes.clone()) {
            let slot = separators.iter().filter(|separator| **separator <= probe).count();
            prop_assert_eq!(node.child_slot(&probe), slot, "{:?}", probe);
            prop_assert_eq!(node.child(slot).number, 100 + slot as u64);
        }
        for (slot, key) in all.iter().enumerate() {
            prop_assert_eq!(&node.key(slot), key);
        }
    }

    #[test]
    fn a_damaged_node_is_refused_or_safe_to_read(
        flips in proptest::collection::vec((28..PAGE_BYTES, any::<u8>()), 1..4),
    ) {
        let keys: Vec<Vec<u8>> = (0..30_u8).map(|n| vec![b'k', n, n, n, n, n]).collect();
        let page = PageRef { number: 9, birth: 1, span: 1 };
        let cells: Vec<_> = keys
            .iter()
            .enumerate()
            .map(|(nth, key)| Cell {
                key,
                payload: match nth % 3 {
                    0 => Payload::Outline { head: b"head", len_bytes: 3_000, page },
                    _ => Payload::Inline(b"value"),
                },
            })
            .collect();
        let mut bytes = leaf(&cells);
        prop_assert_eq!(Node::validate(&bytes), Ok(()));
        flips.iter().for_each(|&(at, with)| bytes[at] ^= with);
        if Node::validate(&bytes).is_ok() {
            let node = Node::of(&bytes);
            let keys = node.keys();
            prop_assert_eq!(node.cells(&keys).count(), node.count());
            let _ = node.search(b"k\x05\x05\x05");
        }
    }
}

#[test]
fn values_are_replaced_in_place_and_out_of_it() {
    let page = PageRef { number: 9, birth: 1, span: 1 };
    let mut bytes = leaf(&[
        Cell { key: b"aa", payload: Payload::Inline(b"one") },
        Cell { key: b"ab", payload: Payload::Inline(b"two") },
    ]);
    for payload in [
        Payload::Inline(b"six"),
        Payload::Inline(b"seven"),
        Payload::Outline { head: b"he", len_bytes: 2_000, page },
        Payload::Inline(b""),
    ] {
        NodeMut::of(&mut bytes).set_value(1, &Cell { key: b"ab", payload });
        assert_eq!(Node::validate(&bytes), Ok(()));
        assert_eq!(Node::of(&bytes).payload(1), payload);
        assert_eq!(Node::of(&bytes).payload(0), Payload::Inline(b"one"));
    }
}
