//! From the change index to mailboxes: each change is read once, matched once, and shared by all who want it.
//!
//! Watchers of the same range are a group, found by key ([`super::index`]). A round walks the changes that any group
//! wants; of others it reads no more than the key. It hands the events of some hundred changes to a group as one
//! batch: what a watcher costs, it costs for each batch and not for each event.

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::WatcherId;
use super::index::RangeIndex;
use super::mailbox::Mailbox;
use super::share::Held;
use crate::actors::messages::{Batch, Event, RequestError};
use crate::storage::kv::{Change, ChangeStep, KvSnapshot, PastError};
use crate::types::{KeyRange, Revision};

/// Events, and bytes of them, after which a round hands out what it has.
const FLUSH_EVENTS: usize = 512;
const FLUSH_BYTES: usize = 256 * 1024;

/// Bytes of all events that wait for watchers. Beyond it the watcher is cut for whom most waits. What the wire makes
/// of an event comes on top, about as much again.
pub const MAX_HELD_BYTES: usize = 128 * 1024 * 1024;

/// Who gets batches.
pub struct Member {
    pub id: WatcherId,
    pub previous: bool,
    pub mailbox: Arc<Mailbox>,
}

/// Those who watch the same range.
struct Group {
    range: KeyRange,
    members: Vec<Member>,
    /// Events of this round that were not handed out yet.
    pending: Vec<Arc<Event>>,
    /// The revision of the last event, while more may come of it.
    open: Option<Revision>,
}

/// Names a group in the index.
type GroupId = u64;

/// All groups.
#[derive(Default)]
pub struct Fanout {
    index: RangeIndex<GroupId>,
    groups: BTreeMap<GroupId, Group>,
    last_group: GroupId,
    /// Members that want what was there before.
    wants_previous: usize,
    held: Held,
}

/// What a round did.
#[derive(Debug, Default)]
pub struct Spread {
    /// How often a stream was woken.
    pub woken: u32,
    /// How many watchers were cut.
    pub cut: u64,
}

/// A round under way.
#[derive(Default)]
struct Round {
    /// Groups with pending events, and those that are open.
    touched: Vec<GroupId>,
    events: usize,
    len_bytes: usize,
    spread: Spread,
}

impl Fanout {
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub fn join(&mut self, range: &KeyRange, member: Member) {
        let id = self.index.get(range).copied().unwrap_or_else(|| {
            self.last_group += 1;
            self.index.insert(range.clone(), self.last_group);
            self.last_group
        });
        self.wants_previous += usize::from(member.previous);
        let group = self.groups.entry(id).or_insert_with(|| Group::new(range.clone()));
        group.members.push(member);
    }

    /// Does nothing for one who is not there.
    pub fn leave(&mut self, range: &KeyRange, id: WatcherId) {
        let Some(&group_id) = self.index.get(range) else { return };
        let Some(group) = self.groups.get_mut(&group_id) else { return };
        if let Some(at) = group.members.iter().position(|member| member.id == id) {
            let member = group.members.swap_remove(at);
            self.wants_previous -= usize::from(member.previous);
        }
        if group.members.is_empty() {
            self.groups.remove(&group_id);
            self.index.remove(range);
        }
    }

    /// Ends the feeds of all members.
    pub fn end_all(&mut self, reason: &RequestError) {
        let members = self.groups.values().flat_map(|group| &group.members);
        members.for_each(|member| member.mailbox.end(reason.clone()));
        let (held, last_group) = (self.held.clone(), self.last_group);
        *self = Fanout { held, last_group, ..Fanout::default() };
    }

    /// Tells of all changes of `state` from `from` on.
    pub fn spread(&mut self, state: &KvSnapshot, from: Revision) -> Result<Spread, PastError> {
        self.index.refresh();
        let mut walk = state.changes(from, self.wants_previous > 0)?;
        let mut round = Round::default();
        loop {
            match walk.next_wanted(|key| self.index.holds(key))? {
                ChangeStep::Change(change) => self.collect(change, &mut round),
                ChangeStep::Nothing => {}
                ChangeStep::End => break,
            }
            if round.events >= FLUSH_EVENTS || round.len_bytes >= FLUSH_BYTES {
                let through = walk.through(|key| self.index.holds(key));
                self.flush(through?, &mut round);
            }
        }
        self.flush(state.revision(), &mut round);
        self.sweep();
        Ok(round.spread)
    }

    fn collect(&mut self, change: Change, round: &mut Round) {
        let Change { revision, key, kind, record, previous } = change;
        let event = Event::new(revision, kind, key, record, previous);
        let len_bytes = event.len_bytes();
        let event = Arc::new(event.counted(self.held.share(len_bytes)));
        round.events += 1;
        round.len_bytes += len_bytes;
        let groups = &mut self.groups;
        self.index.visit(event.key.as_bytes(), |id| {
            let Some(group) = groups.get_mut(id) else { return };
            if group.pending.is_empty() && group.open.is_none() {
                round.touched.push(*id);
            }
            group.pending.push(event.clone());
        });
    }

    /// Hands out what is pending: all of the revisions up to `through`, perhaps a part of the next.
    fn flush(&mut self, through: Revision, round: &mut Round) {
        (round.events, round.len_bytes) = (0, 0);
        let Fanout { groups, wants_previous, .. } = self;
        let spread = &mut round.spread;
        round.touched.retain(|id| {
            let Some(group) = groups.get_mut(id) else { return false };
            let events = std::mem::take(&mut group.pending);
            let last = events.last().map(|event| event.revision).or(group.open);
            group.open = last.filter(|last| *last > through);
            // An empty batch says that an open revision is over.
            if !events.is_empty() || group.open.is_none() {
                group.deliver(events, through, spread, wants_previous);
            }
            group.open.is_some()
        });
        self.keep_to_budget(round);
    }

    /// Cuts those for whom most waits, until all that waits is within its bound.
    fn keep_to_budget(&mut self, round: &mut Round) {
        while self.held.bytes() > MAX_HELD_BYTES {
            let members = self.groups.iter().flat_map(|(id, group)| {
                let places = group.members.iter().enumerate();
                places.map(|(at, member)| (member.mailbox.len_bytes(), *id, at))
            });
            let Some((1.., id, at)) = members.max_by_key(|(len_bytes, ..)| *len_bytes) else {
                return;
            };
            let Some(group) = self.groups.get_mut(&id) else { return };
            group.members.swap_remove(at).cut(&mut round.spread, &mut self.wants_previous);
        }
    }

    /// Forgets groups whose members were all cut.
    fn sweep(&mut self) {
        let index = &mut self.index;
        self.groups.retain(|_, group| {
            if group.members.is_empty() {
                index.remove(&group.range);
            }
            !group.members.is_empty()
        });
    }
}

impl Group {
    fn new(range: KeyRange) -> Group {
        Group { range, members: Vec::new(), pending: Vec::new(), open: None }
    }

    fn deliver(
        &mut self,
        events: Vec<Arc<Event>>,
        through: Revision,
        spread: &mut Spread,
        wants_previous: &mut usize,
    ) {
        let batch = |previous| {
            let events = events.clone();
            LazyCell::new(move || Arc::new(Batch::new(events, through, previous, false)))
        };
        let (plain, with_previous) = (batch(false), batch(true));
        let slow = self.members.extract_if(.., |member| {
            let batch = if member.previous { &with_previous } else { &plain };
            spread.woken += 1;
            member.mailbox.push(batch).is_err()
        });
        let slow: Vec<Member> = slow.collect();
        slow.into_iter().for_each(|member| member.cut(spread, wants_previous));
    }
}

impl Member {
    fn cut(self, spread: &mut Spread, wants_previous: &mut usize) {
        *wants_previous -= usize::from(self.previous);
        spread.cut += 1;
        self.mailbox.end(RequestError::SlowWatcher);
    }
}
