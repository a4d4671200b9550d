//! What passes between a watch and the node: the question, and the events that answer it.
//!
//! Events are shared: a change that a thousand watchers asked for is one [`Event`], and those who asked for the same
//! keys get the same [`Batch`]. How it looks on the wire is made by whoever needs it first, once
//! ([`Event::wire`], [`Batch::wire`]); this floor does not know how that is spelt.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use futures_util::Stream;

use super::{ChangeKind, RequestError};
use crate::actors::watch::Share;
use crate::types::{Key, KeyRange, Record, Revision};

/// Asks to be told of the changes of a range, from this node's own applied state: all of them are committed, and
/// they may come later than on other nodes.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Watching, RequestError>")]
pub struct Watch {
    pub range: KeyRange,
    /// The first revision to tell of; one that is still to come is waited for. `None`: the next one.
    pub from: Option<Revision>,
    /// Whether events carry the record that was there before.
    pub previous: bool,
    /// How long to be silent before an empty batch says how far this watch has come.
    pub progress_every: Duration,
}

/// The answer to [`Watch`].
pub struct Watching {
    /// Revision of the node's state.
    pub revision: Revision,
    /// The first revision that the feed tells of.
    pub next: Revision,
    pub feed: Feed,
}

/// Batches in order; after an error it ends. A watch lasts as long as its feed.
pub type Feed = Pin<Box<dyn Stream<Item = Result<Arc<Batch>, RequestError>> + Send>>;

/// A change, as watchers are told of it.
pub struct Event {
    pub revision: Revision,
    pub kind: ChangeKind,
    pub key: Key,
    /// What was put; nothing of a delete.
    pub record: Option<Record>,
    /// What was there before, if a watcher asked for that.
    pub previous: Option<Record>,
    /// Counts the event among what is held for watchers.
    _share: Option<Share>,
    plain: OnceLock<Bytes>,
    with_previous: OnceLock<Bytes>,
}

impl Event {
    pub fn new(
        revision: Revision,
        kind: ChangeKind,
        key: Key,
        record: Option<Record>,
        previous: Option<Record>,
    ) -> Event {
        let (plain, with_previous) = (OnceLock::new(), OnceLock::new());
        Event { revision, kind, key, record, previous, _share: None, plain, with_previous }
    }

    /// Has `share` end with the event.
    pub(in crate::actors) fn counted(self, share: Share) -> Event {
        Event { _share: Some(share), ..self }
    }

    /// Bytes that it keeps in memory, what `wire` makes aside.
    pub fn len_bytes(&self) -> usize {
        let of = |record: &Option<Record>| record.as_ref().map_or(0, |record| record.value.len());
        size_of::<Event>() + self.key.as_bytes().len() + of(&self.record) + of(&self.previous)
    }

    /// The event on the wire, with the record before or without, made once.
    pub fn wire(&self, with_previous: bool, make: impl FnOnce(&Event) -> Bytes) -> Bytes {
        let place = if with_previous { &self.with_previous } else { &self.plain };
        place.get_or_init(|| make(self)).clone()
    }
}

/// Events in order, for all who asked for the same.
pub struct Batch {
    pub events: Vec<Arc<Event>>,
    /// The last revision of which nothing comes after this batch: where a watch can be resumed. The last events may
    /// be of the revision after it.
    pub through: Revision,
    /// Whether the watchers asked for what was there before.
    pub with_previous: bool,
    /// Whether it was read for one watcher alone, and is not among what the node holds for all.
    pub is_own: bool,
    len_bytes: usize,
    wire: OnceLock<Vec<Bytes>>,
}

impl Batch {
    pub fn new(
        events: Vec<Arc<Event>>,
        through: Revision,
        with_previous: bool,
        is_own: bool,
    ) -> Batch {
        let len_bytes = events.iter().map(|event| event.len_bytes()).sum();
        Batch { events, through, with_previous, is_own, len_bytes, wire: OnceLock::new() }
    }

    /// As [`Event::len_bytes`].
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// The batch on the wire, made once.
    pub fn wire(&self, make: impl FnOnce(&Batch) -> Vec<Bytes>) -> &[Bytes] {
        self.wire.get_or_init(|| make(self))
    }
}
