//! A range as one stream of records, however many: in flat memory, at one revision, over broken connections.
//!
//! The server sends a record a line and walks on as they are taken. When the connection breaks, the stream goes on
//! behind the last record, at the same or at another server, at the revision that it began with. That revision must
//! still be kept then: a stream of a busy store that breaks late may end with `revision_trimmed`.
//! [`Client::items`](super::Client::items) walks in pages, which ask for no long connection.

use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use reqwest::header::ACCEPT;
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use super::Client;
use super::call::Call;
use super::error::{Applied, ClientError, Problem};
use super::kv::{Item, Scan, range_target};
use super::lines::{LineReader, LineTooLong};
use crate::types::Revision;

/// A server that says nothing for so long while a stream waits for it is given up.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// Records of a range; see [`Client::stream`].
pub struct Records {
    client: Client,
    /// What is left of it.
    scan: Scan,
    connection: Option<Connection>,
    /// Connections in a row that brought nothing, and since when.
    barren: u32,
    since: Instant,
    is_over: bool,
}

struct Connection {
    server: String,
    response: reqwest::Response,
    lines: LineReader,
}

/// A line of the stream.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Error { error: Problem },
    Item(Item),
}

impl Client {
    /// Streams the records of a range. `scan.limit` is that of all of them, and there is no cursor.
    pub fn stream(&self, scan: Scan) -> Records {
        let scan = Scan { cursor: None, ..scan };
        let (client, connection) = (self.clone(), None);
        Records { client, scan, connection, barren: 0, since: Instant::now(), is_over: false }
    }
}

impl Records {
    /// The next record; `None` at the end of the range, and after an error.
    pub async fn next(&mut self) -> Result<Option<Item>, ClientError> {
        if self.is_over || self.scan.limit == Some(0) {
            return Ok(None);
        }
        let found = self.find().await;
        self.is_over = !matches!(found, Ok(Some(_)));
        if let Ok(Some(item)) = &found {
            self.pass(&item.key);
        }
        found
    }

    /// The records as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Item, ClientError>> {
        futures_util::stream::unfold(self, async |mut records| match records.next().await {
            Ok(Some(item)) => Some((Ok(item), records)),
            Ok(None) => None,
            Err(error) => Some((Err(error), records)),
        })
    }

    /// The revision that is read; `None` before the first record.
    pub fn revision(&self) -> Option<Revision> {
        self.scan.read.revision
    }

    /// May be given up at any point: what was received stays.
    async fn find(&mut self) -> Result<Option<Item>, ClientError> {
        loop {
            let Some(connection) = &mut self.connection else {
                self.connection = Some(self.connect().await?);
                continue;
            };
            let Connection { server, response, lines } = connection;
            let bad = |what: String| {
                let (server, applied) = (server.clone(), Applied::No);
                ClientError::BadReply { server, what, applied }
            };
            match lines.next_line() {
                Ok(Some(line)) => match serde_json::from_slice(&line) {
                    Ok(Line::Item(item)) => return Ok(Some(item)),
                    Ok(Line::Error { error: mut problem }) => {
                        if !problem.retryable {
                            problem.server = server.clone();
                            let applied = Applied::No;
                            return Err(ClientError::Refused {
                                problem: Box::new(problem),
                                applied,
                            });
                        }
                        self.lose()?;
                    }
                    Err(why) => return Err(bad(format!("a line of a range: {why}"))),
                },
                Ok(None) => match timeout(LONGEST_SILENCE, response.chunk()).await {
                    Ok(Ok(Some(chunk))) => lines.push(&chunk),
                    Ok(Ok(None)) if !lines.is_in_line() => return Ok(None),
                    Ok(Ok(None)) => return Err(bad("a range that ends within a line".to_owned())),
                    Ok(Err(_)) | Err(_) => self.lose()?,
                },
                Err(LineTooLong) => return Err(bad("a line without an end".to_owned())),
            }
        }
    }

    /// Gives a connection up, and the stream when there has been no other for so long.
    fn lose(&mut self) -> Result<(), ClientError> {
        let lost = self.connection.take();
        let after = self.since.elapsed();
        match lost {
            Some(Connection { server, .. }) if after >= self.client.shared.options.timeout => {
                Err(ClientError::Silent { server, after })
            }
            _ => Ok(()),
        }
    }

    /// Leaves a record behind.
    fn pass(&mut self, key: &Bytes) {
        (self.barren, self.since) = (0, Instant::now());
        self.scan.limit = self.scan.limit.map(|limit| limit - 1);
        match self.scan.reverse {
            true => self.scan.end = Some(key.clone()),
            false => {
                let behind: Vec<u8> = key.iter().copied().chain([0]).collect();
                self.scan.start = Some(behind.into());
            }
        }
    }

    async fn connect(&mut self) -> Result<Connection, ClientError> {
        if self.barren > 0 {
            tokio::time::sleep(self.client.shared.pauses.draw(self.barren - 1)).await;
        }
        self.barren += 1;
        let call = Call::get(range_target(&self.scan));
        let call = &call.header(ACCEPT, "application/x-ndjson");
        let options = &self.client.shared.options;
        let client = &self.client;
        let open = |server: String, _| async move {
            let response = client.head_of(&server, call).await?;
            Ok((server, response))
        };
        let (server, response) = client.call_by(call, open).await?;
        let named = response.headers().get("x-conure-revision");
        let revision = named.and_then(|text| text.to_str().ok()?.parse().ok());
        let Some(revision) = revision else {
            let what = "a range without a revision".to_owned();
            return Err(ClientError::BadReply { server, what, applied: Applied::No });
        };
        self.scan.read.revision = Some(revision);
        // A key and a value, each byte of which may be spelt with six.
        let lines = LineReader::new(options.max_reply_bytes);
        Ok(Connection { server, response, lines })
    }
}
