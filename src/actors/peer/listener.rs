//! The answering side: accepts peers, checks who they are, serves their requests.
//!
//! Bounds: [`MAX_CONNECTIONS`] at a time, a handshake within its time limit and a few KiB, and per connection at
//! most [`MAX_IN_FLIGHT`] requests and [`MAX_IN_FLIGHT_BYTES`] of payload being served. When a bound is
//! reached the connection is not read, and TCP slows the caller down. A stranger costs one log line. A
//! connection that is silent for [`SILENCE_LIMIT`] is taken for dead: callers close idle ones long before.
//!
//! Who has not proven the secret yet has a place of another kind, of which there are [`MAX_HANDSHAKES`]; when they are
//! taken, the next to come takes the place of the one that came first. A peer needs its place for two round trips, so
//! strangers who fill all of them and say nothing keep each other out and not the peers.
//!
//! A member's connection lives as long as this node's identity: when the node is reset, every
//! connection made to its former self is closed. An introduction outlives it, since it is what
//! changes it, and its answer has to arrive.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use tokio::io::BufReader;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::Spawner;
use super::frame::{self, Frame, FrameError, Kind};
use super::handshake::{self, Card, Purpose, Secret};
use super::net::{Listener, Stream};
use crate::env::Chance;
use crate::metrics::{Held, Metrics};

/// Connections of peers held at a time: four for each of 64.
pub const MAX_CONNECTIONS: usize = 256;

/// Handshakes under way at a time.
pub const MAX_HANDSHAKES: usize = 64;

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
    /// Hears of each member that connects.
    pub met: Arc<dyn Fn(&Card) + Send + Sync>,
    pub metrics: Arc<Metrics>,
}

impl Answerer {
    /// Accepts connections until the node closes.
    pub async fn run(self, mut listener: Box<dyn Listener>) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        // In the order in which they came. A handshake ends when its sender is dropped.
        let mut strangers: VecDeque<oneshot::Sender<()>> = VecDeque::new();
        let mut is_crowded = false;
        loop {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    log::warn!("peer listener {}: {error}", listener.local_address());
                    // Out of file descriptors, most likely: give the system a moment.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            strangers.retain(|stranger| !stranger.is_closed());
            let was_crowded = std::mem::replace(&mut is_crowded, strangers.len() >= MAX_HANDSHAKES);
            if is_crowded {
                strangers.pop_front();
            }
            if is_crowded && !was_crowded {
                log::warn!(
                    "more than {MAX_HANDSHAKES} at a time that prove no secret, {from} among them: the oldest are let go"
                );
            }
            let (stranger, let_go) = oneshot::channel();
            strangers.push_back(stranger);
            let (answerer, places) = (self.clone(), places.clone());
            self.spawner.spawn(answerer.connection(stream, from, let_go, places));
        }
    }

    async fn connection(
        mut self,
        mut stream: Box<dyn Stream>,
        from: String,
        let_go: oneshot::Receiver<()>,
        places: Arc<Semaphore>,
    ) {
        let own = self.card.borrow_and_update().clone();
        // Before the handshake: a reset during it makes the connection one to a former self.
        let born_as = own.node_id;
        let nonce = self.chance.next_u128();
        let answering = handshake::answer(&mut *stream, own, &self.secret, nonce);
        let known = tokio::select! {
            biased;
            known = answering => known,
            _ = let_go => {
                log::debug!("peer connection from {from} refused: others came while it proved nothing");
                return;
            }
        };
        let (card, purpose) = match known {
            Ok(known) => known,
            Err(error) => {
                log::warn!("peer connection from {from} refused: {error}");
                return;
            }
        };
        let Ok(_place) = places.try_acquire_owned() else {
            log::warn!(
                "peer connection from {from} refused: {MAX_CONNECTIONS} peers are connected"
            );
            return;
        };
        if purpose != Purpose::Introduction {
            (self.met)(&card);
        }
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
                let held = Held::new(&self.metrics.peer_serving);
                let answers = answers.clone();
                self.spawner.spawn(async move {
                    let payload = serving.await;
                    // The connection may be gone; then nobody waits for the answer.
                    let _ = answers
                        .send(Frame { kind: Kind::Response, number: frame.number, payload })
                        .await;
                    drop((place, room, held));
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
