//! What checksums call whole and no draw has written.

use super::*;

#[test]
fn a_damaged_root_is_refused() {
    let at = page(5, 9);
    let good = |number: u64, free: u32| {
        let mut entry = vec![0; PageRef::ENCODED_BYTES + 4];
        page(number, 9).encode(&mut entry);
        entry[PageRef::ENCODED_BYTES..].copy_from_slice(&free.to_le_bytes());
        entry
    };
    let end = GROUP_PAGES + 10;
    let decode = |payload: &[u8], end| Freemap::decode_root(at, payload, end).map(|_| ());
    let payload = [good(6, 30_000), vec![0; PageRef::ENCODED_BYTES], vec![10, 0, 0, 0]].concat();
    decode(&payload, end).unwrap();
    for cut in 0..payload.len() {
        decode(&payload[..cut], end).unwrap_err();
    }
    decode(&payload, end - 10).unwrap_err();
    decode(&payload, end - 1).unwrap_err();
    decode(&payload, u64::MAX).unwrap_err();
    let refused = |first: Vec<u8>| decode(&[first, good(7, 5)].concat(), end).unwrap_err();
    decode(&[good(6, 30_000), good(7, 5)].concat(), end).unwrap();
    let found = refused(good(6, 32_513));
    assert!(found.contains("32513 free pages in group 0"), "{found}");
    refused(vec![0; PageRef::ENCODED_BYTES + 4]);
    for number in [1, 5, 7, end] {
        let found = refused(good(number, 5));
        assert!(found.contains("behind the end 32522"), "{found}");
    }
    let mut long = good(6, 5);
    long[PageRef::ENCODED_BYTES - 4] = 2;
    refused(long);
    let at = page(end, 9);
    assert!(Freemap::decode_root(at, &payload, end).is_err(), "the root itself");
}

#[test]
fn a_damaged_group_is_refused() {
    let mut pages = Pages::default();
    let mut map = full(100);
    let drawn = checkpoint(&mut map, &mut pages, 1);
    let root = drawn.root.unwrap().0;
    let (at, good) = drawn.pages.into_iter().next().unwrap();
    let mut refused = |damage: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = good.clone();
        damage(&mut payload);
        pages.written.insert(at.number, (at, payload));
        let mut map = pages.open(root, drawn.end);
        match map.ensure_loaded(page(9, 1), &pages) {
            Err(StorageError::Corrupt { found, .. }) => found,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(&|payload| payload.push(0)).contains("4065 bytes"));
    assert!(refused(&|payload| payload.truncate(4_056)).contains("4056 bytes"));
    assert!(refused(&|payload| payload[4_063] = 0x80).contains("page 32511 behind the end 104"));
    assert!(refused(&|payload| payload[3] = 0x7f).contains("1 free pages where the root counts 0"));
    let map_page_free = Freemap::decode_root(root, &[0; 24], drawn.end);
    assert!(map_page_free.is_err());
}

#[test]
fn a_group_that_frees_a_meta_page_or_the_map_is_refused() {
    let mut pages = Pages::default();
    let mut map = full(100);
    map.free(page(50, 1));
    map.free(page(51, 1));
    map.free(page(52, 1));
    let drawn = checkpoint(&mut map, &mut pages, 1);
    let root = drawn.root.unwrap().0;
    let (at, good) = drawn.pages.into_iter().next().unwrap();
    assert_eq!((root.number, at.number), (50, 51));
    let swapped = |gone: usize| {
        let mut payload = good.clone();
        payload[gone / 8] &= !(1 << (gone % 8));
        payload[52 / 8] |= 1 << (52 % 8);
        payload
    };
    pages.written.insert(at.number, (at, swapped(1)));
    let refused = pages.open(root, drawn.end).load_all(&pages).unwrap_err().to_string();
    assert!(refused.contains("the meta pages as free"), "{refused}");
    pages.written.insert(at.number, (at, swapped(51)));
    let mut map = pages.open(root, drawn.end);
    map.ensure_loaded(page(9, 1), &pages).unwrap();
    map.free(page(9, 1));
    let refused = map.draw(2, &pages).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("a page of the map that it counts as free"), "{refused}");
    assert_eq!(map.root(), Some(root));
}

#[test]
fn a_page_behind_the_end_is_refused() {
    let mut map = full(10);
    let refused = map.ensure_loaded(extent(10, 3), &Pages::default()).unwrap_err();
    assert!(refused.is_corrupt() && refused.to_string().contains("behind the end 12"));
}
