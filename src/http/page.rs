//! Walks a range and writes a page of it, in memory that does not depend on the range.
//!
//! A page ends with the range, at its limit of entries, at [`PAGE_BYTES`] of JSON, when the byte budget
//! of the node gives no more, or when its time is up; a page that ended early says where the next one
//! begins. It holds at least one entry if there is one, whatever its size, so that a scan always gets
//! on. An entry is a record, or, with a delimiter, a prefix that keys share; the walk leaps over those
//! keys instead of reading them.
//!
//! The walk runs on the worker that also serves other connections. It gives way to them every
//! [`TURN_ENTRIES`] entries and after every large one.

use actix_web::HttpRequest;
use bytes::Bytes;
use serde::Serialize;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::admission::Hold;
use super::cursor::Plan;
use super::error::{Code, Problem};
use super::item::{self, Item, Prefix};
use crate::actors::messages::{RequestError, Scan, View};
use crate::types::{Key, KeyRange};

/// A page takes no further entry beyond this many bytes.
pub const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// Entries between two turns of the worker's other connections.
pub const TURN_ENTRIES: usize = 64;

/// An entry of this size ends the turn.
pub const LARGE_BYTES: usize = 64 * 1024;

/// A page: `{"items":[…]` and, with a delimiter, `,"common_prefixes":[…]`, without what follows.
pub struct Page {
    pub json: Vec<u8>,
    /// What is left of the scan.
    pub next: Option<Plan>,
}

/// Why there is no page.
pub enum PageError {
    Node(RequestError),
    Refused(Problem),
}

impl PageError {
    pub fn into_problem(self, request: &HttpRequest) -> Problem {
        match self {
            PageError::Node(error) => Problem::from_node(error, request),
            PageError::Refused(problem) => problem,
        }
    }
}

impl From<RequestError> for PageError {
    fn from(error: RequestError) -> PageError {
        PageError::Node(error)
    }
}

/// Writes the next page of `plan`, of at most `limit` entries.
pub async fn build(
    view: &dyn View,
    plan: Plan,
    limit: usize,
    deadline: Instant,
    hold: &mut Hold,
) -> Result<Page, PageError> {
    let mut writer = Writer::new();
    let mut rest = plan;
    let mut is_full = false;
    let mut walk = rest.walk(view, rest.keys_only);
    while !is_full && let Some(entry) = walk.next() {
        let (key, record) = entry?;
        let shared = rest.shared_prefix(&key);
        let item = Item::of(&key, &record, rest.keys_only);
        let entry_bytes = match &shared {
            Some(shared) => item::max_json_bytes(shared.len()),
            None => item.max_json_bytes(),
        };
        if writer.entries == 0 {
            hold.grow(entry_bytes).map_err(PageError::Refused)?;
        } else if !hold.try_grow(writer.len_bytes() + entry_bytes) {
            is_full = true;
            continue;
        }
        match &shared {
            Some(shared) => writer.prefix(shared),
            None => writer.item(&item),
        }
        rest.pass(&key, shared.as_ref());
        if shared.is_some() {
            walk = rest.walk(view, rest.keys_only);
        }
        is_full = writer.entries >= limit || writer.len_bytes() >= PAGE_BYTES;
        if writer.entries.is_multiple_of(TURN_ENTRIES) || entry_bytes >= LARGE_BYTES {
            yield_now().await;
            is_full |= Instant::now() >= deadline;
        }
    }
    let has_more = is_full && rest.walk(view, true).next().transpose()?.is_some();
    Ok(Page { json: writer.finish(rest.delimiter.is_some()), next: has_more.then_some(rest) })
}

/// Counts the keys of a range; fails when the time is up.
pub async fn count(view: &dyn View, range: &KeyRange, deadline: Instant) -> Result<u64, PageError> {
    let mut count = 0_u64;
    if range.is_empty() {
        return Ok(count);
    }
    for entry in view.scan(range, false, true) {
        entry?;
        count += 1;
        if count.is_multiple_of(TURN_ENTRIES as u64) {
            yield_now().await;
            if Instant::now() >= deadline {
                let detail = format!("counted {count} keys and ran out of time; count parts of it");
                return Err(PageError::Refused(Problem::new(Code::Timeout, detail)));
            }
        }
    }
    Ok(count)
}

impl Plan {
    /// Walks what is left; an empty range is not handed to the store.
    pub fn walk<'a>(&self, view: &'a dyn View, keys_only: bool) -> Scan<'a> {
        match self.range.is_empty() {
            true => Box::new(std::iter::empty()),
            false => view.scan(&self.range, self.reverse, keys_only),
        }
    }

    /// What `key` shares with others: all up to the first delimiter after the prefix.
    pub fn shared_prefix(&self, key: &Key) -> Option<Bytes> {
        let delimiter = self.delimiter.as_ref()?;
        let key = key.clone().into_bytes();
        let tail = key.get(self.prefix_len..)?;
        let at = tail.windows(delimiter.len()).position(|window| window == delimiter)?;
        Some(key.slice(..self.prefix_len + at + delimiter.len()))
    }

    /// Leaves behind `key`, and with `shared` every key that begins so.
    pub fn pass(&mut self, key: &Key, shared: Option<&Bytes>) {
        let key = key.clone().into_bytes();
        match (shared, self.reverse) {
            (None, true) => self.range.end = Some(key),
            (Some(shared), true) => self.range.end = Some(shared.clone()),
            (None, false) => {
                let successor = key.iter().copied().chain([0]).collect::<Vec<u8>>();
                self.range.start = Bytes::from(successor);
            }
            (Some(shared), false) => match KeyRange::prefix(shared.clone()).end {
                Some(end) => self.range.start = end,
                // No key is above a prefix of 0xff bytes only: an empty range is left.
                None => self.range.end = Some(self.range.start.clone()),
            },
        }
    }
}

/// The two lists of a page as JSON text.
struct Writer {
    items: Vec<u8>,
    prefixes: Vec<u8>,
    entries: usize,
}

impl Writer {
    fn new() -> Writer {
        let (items, prefixes) = (b"{\"items\":[".to_vec(), b",\"common_prefixes\":[".to_vec());
        Writer { items, prefixes, entries: 0 }
    }

    fn len_bytes(&self) -> usize {
        self.items.len() + self.prefixes.len()
    }

    fn item(&mut self, item: &Item<'_>) {
        append(&mut self.items, item);
        self.entries += 1;
    }

    fn prefix(&mut self, prefix: &Bytes) {
        append(&mut self.prefixes, &Prefix(prefix));
        self.entries += 1;
    }

    fn finish(self, with_prefixes: bool) -> Vec<u8> {
        let mut json = self.items;
        json.push(b']');
        if with_prefixes {
            json.extend(self.prefixes);
            json.push(b']');
        }
        json
    }
}

pub fn append(list: &mut Vec<u8>, entry: &impl Serialize) {
    if list.last() != Some(&b'[') {
        list.push(b',');
    }
    serde_json::to_writer(list, entry).expect("memory takes every write, and map keys are strings");
}

#[cfg(test)]
pub mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::ops::Bound;
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::admission::Admission;
    use super::super::options::HttpOptions;
    use super::*;
    use crate::actors::messages::{History, LeaseKeys, Leases, NotKept};
    use crate::metrics::Metrics;
    use crate::types::{End, Lease, LeaseId, Record, Revision};

    /// A state of these keys.
    pub struct Keys(pub BTreeMap<Bytes, Record>);

    impl View for Keys {
        fn revision(&self) -> Revision {
            1
        }

        fn get(&self, key: &Key) -> Result<Option<Record>, RequestError> {
            Ok(self.0.get(key.as_bytes()).cloned())
        }

        fn scan(&self, range: &KeyRange, reverse: bool, _: bool) -> Scan<'_> {
            let end = range.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
            let found = self.0.range((Bound::Included(range.start.clone()), end));
            let found = found.map(|(key, record)| {
                let key = Key::new(key.clone()).expect("the map holds keys");
                Ok((key, record.clone()))
            });
            if reverse { Box::new(found.rev()) } else { Box::new(found) }
        }

        fn in_passing(&self) -> Arc<dyn View> {
            Arc::new(Keys(self.0.clone()))
        }

        fn at(&self, _: Revision) -> Result<Arc<dyn View>, NotKept> {
            Err(NotKept::Trimmed { oldest: 1 })
        }

        fn oldest_revision(&self) -> Revision {
            1
        }

        fn history(&self, _: &Key) -> Result<Box<dyn History>, RequestError> {
            Err(RequestError::NotReady { reason: "these keys have no history".into() })
        }

        fn lease(&self, _: LeaseId) -> Result<Option<Lease>, RequestError> {
            Ok(None)
        }

        fn leases(&self, _: Option<LeaseId>) -> Leases {
            Box::new(std::iter::empty())
        }

        fn lease_keys(&self, _: LeaseId, _: Option<&Key>) -> LeaseKeys {
            Box::new(std::iter::empty())
        }
    }

    /// Short keys of few bytes, so that prefixes are shared; 0xff among them, where ranges end.
    fn key() -> impl Strategy<Value = Bytes> {
        let byte = prop::sample::select(vec![b'/', b'a', 0xfe, 0xff]);
        prop::collection::vec(byte, 1..6).prop_map(Bytes::from)
    }

    /// How an entry spells its key, and in which form: the text `////` is the base64 of `ff ff ff`.
    fn name(entry: &Value, field: &str) -> String {
        match entry.get(field) {
            Some(text) => format!("text {text}"),
            None => format!("base64 {}", entry[format!("{field}_base64")]),
        }
    }

    /// All entries of a scan, page by page: keys as they are, shared prefixes with a mark before.
    async fn walk(view: &Keys, mut plan: Plan, limit: usize) -> Vec<String> {
        let metrics = Arc::new(Metrics::new("test"));
        let admission = Admission::new(&HttpOptions::default(), metrics);
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut entries = Vec::new();
        loop {
            let mut hold = admission.hold();
            let page = build(view, plan, limit, deadline, &mut hold).await.ok().expect("a page");
            let page_json = String::from_utf8(page.json).expect("text") + "}";
            let json: Value = serde_json::from_str(&page_json).expect("JSON");
            let items = json["items"].as_array().expect("a list");
            let empty = Vec::new();
            let prefixes = json["common_prefixes"].as_array().unwrap_or(&empty);
            assert!(items.len() + prefixes.len() <= limit);
            entries.extend(items.iter().map(|item| name(item, "key")));
            entries.extend(prefixes.iter().map(|prefix| format!("+{}", name(prefix, "prefix"))));
            match page.next {
                Some(rest) => plan = rest,
                None => return entries,
            }
            assert!(items.len() + prefixes.len() > 0, "a page that is not the last gets on");
        }
    }

    proptest! {
        #[test]
        fn pages_of_any_size_join_to_what_the_range_holds(
            keys in prop::collection::btree_set(key(), 0..40),
            prefix in prop::option::of(key()),
            start in prop::option::of(key()),
            end in prop::option::of(key()),
            delimiter in prop::option::of(key().prop_map(|key| key.slice(..1))),
            reverse in any::<bool>(),
            limit in 1..8_usize,
        ) {
            let prefix = prefix.unwrap_or_default();
            let between = KeyRange { start: start.unwrap_or_default(), end };
            let range = KeyRange::prefix(prefix.clone()).intersect(&between);
            let record = Record {
                create_revision: 1,
                mod_revision: 1,
                version: 1,
                end: End::Never,
                value: Bytes::new(),
            };
            let view = Keys(keys.iter().map(|key| (key.clone(), record.clone())).collect());

            // The model: every key of the range, those that share a prefix taken together.
            let mut items = BTreeSet::new();
            let mut shared = BTreeSet::new();
            for key in keys.iter().filter(|key| key.starts_with(&prefix) && between.contains(key)) {
                let tail = &key[prefix.len()..];
                let at = delimiter.as_ref().and_then(|d| tail.iter().position(|byte| *byte == d[0]));
                match at {
                    Some(at) => shared.insert(key.slice(..=prefix.len() + at)),
                    None => items.insert(key.clone()),
                };
            }
            let plan = Plan { range, reverse, keys_only: true, delimiter, prefix_len: prefix.len() };
            let rt = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let entries = rt.block_on(walk(&view, plan, limit));

            let spell = |bytes: &Bytes| {
                let key = Key::new(bytes.clone()).expect("a key");
                let item = serde_json::to_value(Item::of(&key, &record, true)).expect("JSON");
                name(&item, "key")
            };
            let expected: BTreeSet<String> = items
                .iter()
                .map(spell)
                .chain(shared.iter().map(|prefix| format!("+{}", spell(prefix))))
                .collect();
            prop_assert_eq!(entries.len(), expected.len(), "nothing twice: {:?}", entries);
            prop_assert_eq!(entries.into_iter().collect::<BTreeSet<_>>(), expected);
        }
    }
}
