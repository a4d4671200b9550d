//! The answering side: accepts peers, checks who they are, serves their requests.
//!
//! Bounds: [`MAX_CONNECTIONS`] at a time, a handshake within its time limit and a few KiB, and per connection at
//! most [`MAX_IN_FLIGHT`] requests and [`MAX_IN_FLIGHT_BYTES`] of payload being served. When a bound is
//! reached the connection is not read, and TCP slows the caller down. A stranger costs one log line. A
//! connection that is silent for [`SILENCE_LIMIT`] is taken for dead: callers close idle ones long before.
//!
//! A member's connection lives as long as this node's identity: when the node is reset, every
//! connection made to its former self is closed. An introduction outlives it, since it is what
//! changes it, and its answer has to arrive.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use tokio::io::BufReader;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::Spawner;
use super::frame::{self, Frame, FrameError, Kind};
use super::handshake::{self, Card, Purpose, Secret};
use super::net::{Listener, Stream};
use crate::env::Chance;

/// Connections held at a time: three for each of 64 peers, and room for strangers.
pub const MAX_CONNECTIONS: usize = 256;

/// Requests of one connection that are served at a time.
pub const MAX_IN_FLIGHT: usize = 1024;

/// Payload bytes of one connection that are held at a time. A single larger request is served
/// alone.
pub const MAX_IN_FLIGHT_BYTES: usize = 64 * 1024 * 1024;

/// Silence after which the caller is taken to be gone without a word (its machine lost power): well above
/// the time after which a living caller closes an idle connection.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(180);

/// Answers a request. The card says who asks; the purpose bounds what may be asked.
pub type Serve = Arc<dyn Fn(Card, Purpose, Bytes) -> BoxFuture<'static, Bytes> + Send + Sync>;

/// What the answering side of a node needs.
#[derive(Clone)]
pub struct Answerer {
    pub spawner: Spawner,
    pub secret: Secret,
    pub chance: Arc<dyn Chance>,
    /// This node's card, as it is now.
    pub card: watch::Receiver<Card>,
    pub serve: Serve,
}

impl Answerer {
    /// Accepts connections until the node closes.
    pub async fn run(self, mut listener: Box<dyn Listener>) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    log::warn!("peer listener {}: {error}", listener.local_address());
                    // Out of file descriptors, most likely: give the system a moment.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let answerer = self.clone();
            self.spawner.spawn(async move {
                answerer.connection(stream, from).await;
                drop(place);
            });
        }
    }

    async fn connection(mut self, mut stream: Box<dyn Stream>, from: String) {
        let own = self.card.borrow_and_update().clone();
        // Before the handshake: a reset during it makes the connection one to a former self.
        let born_as = own.node_id;
        let nonce = self.chance.next_u128();
        let (card, purpose) = match handshake::answer(&mut *stream, own, &self.secret, nonce).await
        {
            Ok(known) => known,
            Err(error) => {
                log::warn!("peer connection from {from} refused: {error}");
                return;
            }
        };
        let name = card.name.clone();
        let mut changed = self.card.clone();
        let reborn = async {
            let _ = changed.wait_for(|card| card.node_id != born_as).await;
        };
        let ended = tokio::select! {
            biased;
            () = reborn, if purpose != Purpose::Introduction => Err(FrameError::Closed),
            ended = self.requests(stream, card, purpose) => ended,
        };
        match ended {
            Ok(()) | Err(FrameError::Closed) => log::debug!("peer {name} ({from}): closed"),
            Err(FrameError::Io(error)) => log::debug!("peer {name} ({from}): {error}"),
            Err(error) => log::warn!("peer {name} ({from}): connection closed: {error}"),
        }
    }

    /// Reads requests and serves each in a task of its own; one writer sends the answers.
    async fn requests(
        &self,
        stream: Box<dyn Stream>,
        card: Card,
        purpose: Purpose,
    ) -> Result<(), FrameError> {
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = BufReader::with_capacity(frame::READ_BUFFER_BYTES, reader);
        let (answers, mut queue) = mpsc::channel::<Frame>(MAX_IN_FLIGHT);
        let write = async {
            let mut buffer = BytesMut::new();
            while let Some(first) = queue.recv().await {
                let mut next = Some(first);
                while let Some(frame) = next {
                    frame::put(&mut buffer, &frame)?;
                    let room = buffer.len() < frame::BATCH_BYTES;
                    next = room.then(|| queue.try_recv().ok()).flatten();
                }
                frame::write_all(&mut writer, &mut buffer).await?;
            }
            Ok(())
        };
        let read = async {
            let places = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
            let bytes = Arc::new(Semaphore::new(MAX_IN_FLIGHT_BYTES));
            loop {
                let header = frame::read_header(&mut reader, frame::MAX_PAYLOAD_BYTES);
                let announced =
                    timeout(SILENCE_LIMIT, header).await.map_err(|_| FrameError::Closed)??;
                let held = announced.len_bytes.min(MAX_IN_FLIGHT_BYTES) as u32;
                // Neither semaphore is ever closed.
                let place = places.clone().acquire_owned().await.map_err(|_| FrameError::Closed)?;
                let room =
                    bytes.clone().acquire_many_owned(held).await.map_err(|_| FrameError::Closed)?;
                let frame = frame::read_payload(&mut reader, announced).await?;
                if frame.kind != Kind::Request {
                    return Err(FrameError::UnknownKind(frame.kind as u8));
                }
                let serving = (self.serve)(card.clone(), purpose, frame.payload);
                let answers = answers.clone();
                self.spawner.spawn(async move {
                    let payload = serving.await;
                    // The connection may be gone; then nobody waits for the answer.
                    let _ = answers
                        .send(Frame { kind: Kind::Response, number: frame.number, payload })
                        .await;
                    drop((place, room));
                });
            }
        };
        tokio::select! {
            biased;
            ended = write => ended,
            ended = read => ended,
        }
    }
}
