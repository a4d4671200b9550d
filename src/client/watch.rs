//! A watch that outlives its connections: each change once and in order, over whichever server answers.
//!
//! The server says with each revision that is complete, and now and then in silence, where the watch can be resumed.
//! When a connection ends, the next one begins there, at the same or at another server. What came of a revision
//! before the connection ended in the middle of it comes again and is left out: events of a revision come in
//! the same order from every server.
//!
//! A watch ends with an error when its position is no longer kept (`revision_trimmed`: read again and begin anew), or
//! when no server is found for as long as [`super::ClientOptions::timeout`].

use bytes::Bytes;
use futures_util::{Stream, stream};
use serde::Deserialize;
use tokio::time::timeout;

use super::call::Call;
use super::error::{Applied, ClientError, Problem};
use super::events::{Block, EventReader};
use super::kv::{Item, Target};
use super::{Client, LONGEST_SILENCE};
use crate::types::Revision;

/// What to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    pub keys: Keys,
    /// The first revision to tell of. `None`: the next one that the server comes to.
    pub from: Option<Revision>,
    /// Whether events tell what was there before.
    pub previous: bool,
}

/// Keys to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    One(Bytes),
    /// All that begin so; an empty one for all keys.
    Prefix(Bytes),
    /// From the first, below the second.
    Range(Bytes, Option<Bytes>),
}

impl Watch {
    /// Watches `keys` from now on.
    pub fn of(keys: Keys) -> Watch {
        Watch { keys, from: None, previous: false }
    }
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
    /// Its time was up, or that of its lease.
    Expire,
}

impl EventKind {
    fn of_name(name: &str) -> Option<EventKind> {
        Some(match name {
            "put" => EventKind::Put,
            "delete" => EventKind::Delete,
            "expire" => EventKind::Expire,
            _ => return None,
        })
    }

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Put => "put",
            EventKind::Delete => "delete",
            EventKind::Expire => "expire",
        }
    }
}

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    /// The record as it was put; of a key that is gone, nothing but the revision of that.
    pub item: Item,
    /// What was there before, if that was asked for; its key is left empty.
    pub previous: Option<Item>,
}

#[derive(Deserialize)]
struct WireEvent {
    #[serde(flatten)]
    item: Item,
    previous: Option<Item>,
}

/// See [`Client::watch`].
pub struct Watcher {
    client: Client,
    watch: Watch,
    connection: Option<Connection>,
    /// Events told since the position `watch.from`, all of one revision.
    told: usize,
    /// So many of them come again over this connection.
    known: usize,
    /// Connections in a row that told of nothing new.
    barren: u32,
    is_over: bool,
}

struct Connection {
    server: String,
    response: reqwest::Response,
    events: EventReader,
}

impl Client {
    /// Watches keys: [`Watcher::next`] waits for each event.
    pub fn watch(&self, watch: Watch) -> Watcher {
        Watcher {
            client: self.clone(),
            watch,
            connection: None,
            told: 0,
            known: 0,
            barren: 0,
            is_over: false,
        }
    }
}

impl Watcher {
    /// The next event; `None` after an error.
    pub async fn next(&mut self) -> Option<Result<Event, ClientError>> {
        if self.is_over {
            return None;
        }
        let event = self.find().await;
        self.is_over = event.is_err();
        Some(event)
    }

    /// The events as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Event, ClientError>> {
        stream::unfold(self, async |mut watcher| Some((watcher.next().await?, watcher)))
    }

    /// The first revision that was not told of as a whole, once a server has named it: where another watch can go on.
    pub fn position(&self) -> Option<Revision> {
        self.watch.from
    }

    /// May be given up at any point: what was received stays.
    async fn find(&mut self) -> Result<Event, ClientError> {
        loop {
            let Some(connection) = &mut self.connection else {
                self.connection = Some(self.connect().await?);
                continue;
            };
            let server = connection.server.clone();
            let bad =
                |what| ClientError::BadReply { server: server.clone(), what, applied: Applied::No };
            match connection.events.next_block() {
                Ok(Some(block)) if block.event == "error" => {
                    if let Some(error) = settled(&server, &block).map_err(bad)? {
                        return Err(error);
                    }
                    // Another server may have room, or stay.
                    let servers = &self.client.shared.servers;
                    servers.keep(&servers.after(&server));
                    self.connection = None;
                }
                Ok(Some(block)) => {
                    if let Some(event) = self.take(&block).map_err(bad)? {
                        self.barren = 0;
                        return Ok(event);
                    }
                }
                Ok(None) => match timeout(LONGEST_SILENCE, connection.response.chunk()).await {
                    Ok(Ok(Some(chunk))) => connection.events.push(&chunk),
                    _ => self.connection = None,
                },
                Err(_) => return Err(bad("an event without an end".to_owned())),
            }
        }
    }

    /// Takes a block: what it says of the position, and its event unless that was told before.
    fn take(&mut self, block: &Block) -> Result<Option<Event>, String> {
        let event = match &block.event[..] {
            "" => None,
            name => {
                let kind = EventKind::of_name(name);
                let kind = kind.ok_or_else(|| format!("an event named {name:?}"))?;
                let WireEvent { item, previous } =
                    serde_json::from_str(&block.data).map_err(|why| format!("an event: {why}"))?;
                Some(Event { kind, item, previous })
            }
        };
        let is_known = event.is_some() && self.known > 0;
        if is_known {
            self.known -= 1;
        } else if event.is_some() {
            self.told += 1;
        }
        if !block.id.is_empty() {
            let id: Revision = block.id.parse().map_err(|_| format!("the id {:?}", block.id))?;
            self.watch.from = Some(id + 1);
            if self.known == 0 {
                self.told = 0;
            }
        }
        Ok(event.filter(|_| !is_known))
    }

    async fn connect(&mut self) -> Result<Connection, ClientError> {
        let call = Call::get(self.target());
        let options = &self.client.shared.options;
        if self.barren > 0 {
            tokio::time::sleep(self.client.shared.pauses.draw(self.barren - 1)).await;
        }
        self.barren += 1;
        let (client, call) = (&self.client, &call);
        let open = |server: String, _| async move {
            let response = client.head_of(&server, call).await?;
            // An event has up to two values.
            let events = EventReader::new(options.max_reply_bytes.saturating_mul(2));
            Ok(Connection { server, response, events })
        };
        let connection = client.call_by(call, open).await?;
        self.known = self.told;
        Ok(connection)
    }

    fn target(&self) -> Target {
        let target = Target::at("/watch");
        let mut target = match &self.watch.keys {
            Keys::One(key) => target.and("key", key),
            Keys::Prefix(prefix) => target.and("prefix", prefix),
            Keys::Range(start, None) => target.and("start", start),
            Keys::Range(start, Some(end)) => target.and("start", start).and("end", end),
        };
        if let Some(from) = self.watch.from {
            target = target.and("from_revision", from.to_string().as_bytes());
        }
        match self.watch.previous {
            true => target.and("prev", b"true"),
            false => target,
        }
    }
}

/// What the last event of a stream means, unless the watch can go on elsewhere or later.
fn settled(server: &str, block: &Block) -> Result<Option<ClientError>, String> {
    let problem: Result<Problem, _> = serde_json::from_str(&block.data);
    let mut problem = problem.map_err(|why| format!("an error event: {why}"))?;
    problem.server = server.to_owned();
    let applied = Applied::No;
    Ok((!problem.retryable).then(|| ClientError::Refused { problem: Box::new(problem), applied }))
}
