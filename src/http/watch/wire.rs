//! Events as text. What watchers share is spelt once: an event without its `id`, and a batch of them.

use bytes::Bytes;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::super::error::Problem;
use super::super::item;
use crate::actors::messages::{Batch, Event};
use crate::types::{Record, Revision};

/// How long a browser waits before it connects again, in milliseconds.
const RETRY_MS: u32 = 1_000;

/// Small events are joined to parts of about this size; a larger one is a part of its own, and is not copied.
const PART_BYTES: usize = 32 * 1024;

/// What a stream begins with.
pub fn head(next: Revision) -> Bytes {
    format!("retry: {RETRY_MS}\nid: {}\n\n", next - 1).into()
}

/// A sign of life that says how far the watch has come.
pub fn heartbeat(through: Revision) -> Bytes {
    format!(": heartbeat\nid: {through}\n\n").into()
}

/// Why the stream ends here, and where to go on.
pub fn error(problem: Problem, through: Revision) -> Bytes {
    let document = problem.with("resume_from", through + 1).document();
    format!("event: error\ndata: {document}\n\n").into()
}

/// The events of a batch, in parts. An `id` follows the last event of each revision that is whole.
pub fn parts(batch: &Batch) -> Vec<Bytes> {
    let (mut parts, mut part) = (Vec::new(), Vec::new());
    let following = batch.events.iter().skip(1).map(|event| event.revision);
    let following = following.map(Some).chain([None]);
    for (event, next) in batch.events.iter().zip(following) {
        let text = event.wire(batch.with_previous, |event| spell(event, batch.with_previous));
        if text.len() >= PART_BYTES {
            parts.extend([Bytes::from(std::mem::take(&mut part)), text]);
        } else {
            part.extend_from_slice(&text);
        }
        let is_last = next != Some(event.revision) && event.revision <= batch.through;
        if is_last {
            part.extend_from_slice(format!("id: {}\n", event.revision).as_bytes());
        }
        part.push(b'\n');
        if part.len() >= PART_BYTES {
            parts.push(Bytes::from(std::mem::take(&mut part)));
        }
    }
    parts.push(part.into());
    parts
}

/// An event without its `id` and the empty line that ends it.
fn spell(event: &Event, with_previous: bool) -> Bytes {
    let mut text = format!("event: {}\ndata: ", event.kind.name()).into_bytes();
    let data = Data { event, with_previous };
    serde_json::to_writer(&mut text, &data).expect("memory takes every write, and names are text");
    text.push(b'\n');
    text.into()
}

struct Data<'a> {
    event: &'a Event,
    with_previous: bool,
}

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Event { key, record, revision, previous, .. } = self.event;
        let mut map = serializer.serialize_map(None)?;
        item::bytes_entry(&mut map, ["key", "key_base64"], key.as_bytes())?;
        match record {
            Some(record) => item::record_entries(&mut map, record)?,
            None => map.serialize_entry("mod_revision", revision)?,
        }
        if self.with_previous {
            map.serialize_entry("previous", &previous.as_ref().map(Previous))?;
        }
        map.end()
    }
}

/// What was there before; its key is the event's.
struct Previous<'a>(&'a Record);

impl Serialize for Previous<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        item::record_entries(&mut map, self.0)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::actors::messages::ChangeKind;
    use crate::types::{End, Key};

    fn put(revision: Revision, key: &'static [u8], value: Vec<u8>) -> Arc<Event> {
        let record = Record {
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            end: End::Never,
            value: value.into(),
        };
        let key = Key::new(key).expect("a key");
        Arc::new(Event::new(revision, ChangeKind::Put, key, Some(record), None))
    }

    fn text(events: Vec<Arc<Event>>, through: Revision) -> String {
        let batch = Batch::new(events, through, false, false);
        String::from_utf8(parts(&batch).concat()).expect("text")
    }

    fn ids(text: &str) -> Vec<&str> {
        let blocks = text.split_terminator("\n\n");
        blocks.map(|block| block.split_once("\nid: ").map_or("", |(_, id)| id)).collect()
    }

    #[test]
    fn an_id_stands_where_a_watch_can_be_resumed_and_nowhere_else() {
        let events = || vec![put(3, b"a", vec![]), put(4, b"a", vec![]), put(4, b"b", vec![])];
        assert_eq!(ids(&text(events(), 4)), ["3", "", "4"]);
        assert_eq!(ids(&text(events(), 3)), ["3", "", ""], "more may come of revision 4");
    }

    #[test]
    fn an_event_is_spelt_as_documented() {
        assert_eq!(
            text(vec![put(7, b"k", b"two\nlines".to_vec())], 7),
            "event: put\ndata: {\"key\":\"k\",\"value\":\"two\\nlines\",\"mod_revision\":7,\
             \"create_revision\":7,\"version\":1}\nid: 7\n\n"
        );
        let key = Key::new(&b"\xff"[..]).expect("a key");
        let gone = Event::new(8, ChangeKind::Delete, key, None, None);
        let batch = Batch::new(vec![Arc::new(gone)], 8, true, false);
        assert_eq!(
            parts(&batch).concat(),
            b"event: delete\ndata: {\"key_base64\":\"/w==\",\"mod_revision\":8,\"previous\":null}\nid: 8\n\n"
        );
    }

    #[test]
    fn a_large_event_is_a_part_of_its_own_and_shared() {
        let events = vec![put(1, b"a", vec![]), put(2, b"b", vec![b'x'; 3 * PART_BYTES])];
        let large = events[1].wire(false, |event| spell(event, false));
        let batch = Batch::new(events, 2, false, false);
        let parts = parts(&batch);
        assert!(parts.iter().any(|part| part.as_ptr() == large.as_ptr()), "it was copied");
    }
}
