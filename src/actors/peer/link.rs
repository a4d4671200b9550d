//! The calling side: one kept connection to a peer with many requests in flight.
//!
//! A [`Link`] connects when it is first used and again whenever the connection is gone. Its task owns
//! the connection; callers queue requests (bounded by [`QUEUE_REQUESTS`]) and wait for the answer with
//! the same number. How a call failed tells whether the peer may have seen it:
//! [`LinkError::Unreachable`] was never sent, [`LinkError::Lost`] may have been.
//!
//! A peer that hangs, or a network that swallows packets, would keep a TCP connection busy with
//! retransmissions for minutes. So a connection on which nothing was heard for `STALL_LIMIT` while a
//! caller ran out of time is dropped and made anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::BufReader;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::Spawner;
use super::frame::{self, Frame, FrameError, Kind};
use super::handshake::{self, Card, Purpose, Secret};
use super::net::{Network, Stream};
use crate::env::Chance;
use crate::metrics::{Held, Metrics};

/// Requests that may wait for a connection or for the writer.
pub const QUEUE_REQUESTS: usize = 1024;

/// How long a TCP connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Silence after which a connection that made a caller wait in vain is taken for dead.
const STALL_LIMIT: Duration = Duration::from_secs(1);

/// Waiting callers from which on those that gave up are looked for.
const CLEAN_FROM: usize = 64;

/// A connection on which nobody asked anything for so long is closed, by the calling side alone, so that it never
/// happens under a request.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// What all links of a node share.
#[derive(Clone)]
pub struct Dialer {
    pub network: Arc<dyn Network>,
    pub spawner: Spawner,
    pub secret: Secret,
    pub chance: Arc<dyn Chance>,
    pub metrics: Arc<Metrics>,
    /// This node's card as of now; it changes when the node joins a cluster.
    pub card: Arc<dyn Fn() -> Card + Send + Sync>,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The request was never sent.
    #[error("cannot reach {address}: {reason}")]
    Unreachable { address: String, reason: String },
    /// The request was sent, or may have been, and no answer came.
    #[error("no answer from {address}: {reason}")]
    Lost { address: String, reason: String },
}

struct Call {
    payload: Bytes,
    reply: Reply,
}

/// Who waits for an answer.
struct Reply {
    to: oneshot::Sender<Result<Bytes, LinkError>>,
    /// Counts it for as long as it has a place, in the queue or among those that were sent.
    _held: Held,
}

impl Reply {
    fn send(self, answer: Result<Bytes, LinkError>) {
        let _ = self.to.send(answer); // nobody may wait any more
    }

    fn is_closed(&self) -> bool {
        self.to.is_closed()
    }
}

/// Waiters by request number. A `BTreeMap`, so that a simulation wakes them in a fixed order.
type Pending = Mutex<BTreeMap<u64, Reply>>;

/// A kept connection to one peer. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    address: Arc<str>,
    calls: mpsc::Sender<Call>,
    stalled: Arc<Notify>,
    metrics: Arc<Metrics>,
}

impl Link {
    /// Makes a link; connects when first called. Its task ends with the last clone.
    pub fn open(dialer: Dialer, address: &str, purpose: Purpose) -> Link {
        let (calls, queue) = mpsc::channel(QUEUE_REQUESTS);
        let stalled = Arc::new(Notify::new());
        let address: Arc<str> = address.into();
        let metrics = dialer.metrics.clone();
        let task = LinkTask {
            dialer: dialer.clone(),
            address: address.clone(),
            purpose,
            queue,
            stalled: stalled.clone(),
            reachable: true,
        };
        dialer.spawner.spawn(task.run());
        Link { address, calls, stalled, metrics }
    }

    /// Sends `payload` and waits for the answer until `deadline`.
    pub async fn call(&self, payload: Bytes, deadline: Instant) -> Result<Bytes, LinkError> {
        let address = self.address.to_string();
        let (to, answer) = oneshot::channel();
        let reply = Reply { to, _held: Held::new(&self.metrics.peer_requests) };
        match timeout_at(deadline, self.calls.send(Call { payload, reply })).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(LinkError::Unreachable { address, reason: "closing".into() }),
            Err(_) => {
                return Err(LinkError::Unreachable { address, reason: "queue is full".into() });
            }
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(LinkError::Lost { address, reason: "closing".into() }),
            Err(_) => {
                self.stalled.notify_one();
                Err(LinkError::Lost { address, reason: "out of time".into() })
            }
        }
    }

    pub fn address(&self) -> &str {
        &self.address
    }
}

struct LinkTask {
    dialer: Dialer,
    address: Arc<str>,
    purpose: Purpose,
    queue: mpsc::Receiver<Call>,
    stalled: Arc<Notify>,
    /// Whether the last attempt to connect succeeded: log lines tell changes, not repetitions.
    reachable: bool,
}

impl LinkTask {
    async fn run(mut self) {
        while let Some(first) = self.queue.recv().await {
            if first.reply.is_closed() {
                continue;
            }
            match self.connect().await {
                Ok(stream) => {
                    self.note_reachable(None);
                    let _connection = Held::new(&self.dialer.metrics.peer_connections);
                    self.exchange(stream, first).await;
                }
                Err(reason) => self.refuse(first, reason),
            }
        }
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let connecting = self.dialer.network.connect(&self.address);
        let mut stream = timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| format!("no connection within {CONNECT_TIMEOUT:?}"))?
            .map_err(|error| error.to_string())?;
        let nonce = self.dialer.chance.next_u128();
        let card = (self.dialer.card)();
        handshake::call(&mut *stream, card, self.purpose, &self.dialer.secret, nonce)
            .await
            .map_err(|error| error.to_string())?;
        Ok(stream)
    }

    /// Fails the call that asked for the connection and all that queued up meanwhile.
    fn refuse(&mut self, first: Call, reason: String) {
        let error =
            LinkError::Unreachable { address: self.address.to_string(), reason: reason.clone() };
        first.reply.send(Err(error.clone()));
        while let Ok(call) = self.queue.try_recv() {
            call.reply.send(Err(error.clone()));
        }
        self.note_reachable(Some(reason));
    }

    fn note_reachable(&mut self, failure: Option<String>) {
        match (&failure, self.reachable) {
            (Some(reason), true) => log::warn!("peer {}: cannot connect: {reason}", self.address),
            (None, false) => log::info!("peer {}: connected again", self.address),
            _ => {}
        }
        self.reachable = failure.is_none();
    }

    /// Runs one connection until it breaks, stalls or is no longer wanted.
    async fn exchange(&mut self, stream: Box<dyn Stream>, first: Call) {
        let pending = Pending::default();
        let last_heard = Mutex::new(Instant::now());
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = BufReader::with_capacity(frame::READ_BUFFER_BYTES, reader);
        let ended: Result<(), FrameError> = tokio::select! {
            biased;
            ended = hear(&mut reader, &pending, &last_heard) => ended,
            ended = speak(&mut writer, &mut self.queue, &pending, first) => ended,
            () = stalls(&self.stalled, &last_heard) => {
                Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the peer does not answer").into())
            }
        };
        let reason = ended.err().map_or_else(|| "closing".to_string(), |error| error.to_string());
        log::debug!("peer {}: connection ended: {reason}", self.address);
        let waiting = std::mem::take(&mut *pending.lock().unwrap_or_else(PoisonError::into_inner));
        for reply in waiting.into_values() {
            let error =
                LinkError::Lost { address: self.address.to_string(), reason: reason.clone() };
            reply.send(Err(error));
        }
    }
}

/// Reads answers and hands them to their callers.
async fn hear(
    reader: &mut (impl tokio::io::AsyncRead + Unpin),
    pending: &Pending,
    last_heard: &Mutex<Instant>,
) -> Result<(), FrameError> {
    loop {
        let frame = frame::read(reader, frame::MAX_PAYLOAD_BYTES).await?;
        *last_heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let waiter = pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&frame.number);
        if let Some(reply) = waiter {
            reply.send(Ok(frame.payload));
        }
    }
}

/// Writes requests as they come. Ends without an error when the link is no longer wanted.
async fn speak(
    writer: &mut (impl tokio::io::AsyncWrite + Unpin),
    queue: &mut mpsc::Receiver<Call>,
    pending: &Pending,
    first: Call,
) -> Result<(), FrameError> {
    let mut number = 0;
    let mut next = Some(first);
    let mut buffer = BytesMut::new();
    let mut clean_at = CLEAN_FROM;
    loop {
        let call = match next.take() {
            Some(call) => Ok(Some(call)),
            None => timeout(IDLE_LIMIT, queue.recv()).await,
        };
        let call = match call {
            Ok(Some(call)) if call.reply.is_closed() => continue,
            Ok(Some(call)) => call,
            Ok(None) => return Ok(()),
            Err(_) if pending.lock().unwrap_or_else(PoisonError::into_inner).is_empty() => {
                return Ok(());
            }
            Err(_) => continue,
        };
        let mut queued = Some(call);
        while let Some(call) = queued {
            if !call.reply.is_closed() {
                number = frame::next_number(number);
                let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
                // Callers that gave up leave their place behind. It is taken back here when the table has
                // doubled, so that it holds about twice the live callers at most.
                if pending.len() >= clean_at {
                    pending.retain(|_, reply| !reply.is_closed());
                    clean_at = CLEAN_FROM.max(2 * pending.len());
                }
                pending.insert(number, call.reply);
                let frame = Frame { kind: Kind::Request, number, payload: call.payload };
                frame::put(&mut buffer, &frame)?;
            }
            queued = (buffer.len() < frame::BATCH_BYTES).then(|| queue.try_recv().ok()).flatten();
        }
        frame::write_all(writer, &mut buffer).await?;
    }
}

/// Returns when a caller ran out of time on a connection that has been silent.
async fn stalls(stalled: &Notify, last_heard: &Mutex<Instant>) {
    loop {
        stalled.notified().await;
        let heard = *last_heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.elapsed() >= STALL_LIMIT {
            return;
        }
    }
}
