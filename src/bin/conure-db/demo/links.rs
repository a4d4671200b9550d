//! The network between the nodes of a demo: real sockets whose connections can be cut by pair.
//!
//! A cut behaves as a firewall that drops packets: what is under way waits, a new connection gets no answer, nobody is
//! told. When it is healed, what waited arrives, as TCP would send it again; most callers have given up by then, and
//! connect anew. Only the calling side of a connection is watched, which sees both directions of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};

use conuredb::actors::peer::net::{Listener, Network, Stream};
use conuredb::os::net::{TcpNetwork, listen_on};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

/// What one direction of a connection holds back at most, beside what the system buffers.
const HELD_BYTES: usize = 64 * 1024;

/// Two nodes by their numbers, the lower first.
type Pair = (usize, usize);

fn pair(one: usize, other: usize) -> Pair {
    (one.min(other), one.max(other))
}

/// Who is where, and which pairs are cut. Clones share both.
#[derive(Clone)]
pub struct Links {
    nodes: Arc<BTreeMap<String, usize>>,
    cuts: Arc<watch::Sender<BTreeSet<Pair>>>,
}

impl Links {
    /// Links between nodes at these addresses; a node's number is its place in the list.
    pub fn new(addresses: impl Iterator<Item = String>) -> Links {
        let nodes = addresses.enumerate().map(|(number, address)| (address, number)).collect();
        Links { nodes: Arc::new(nodes), cuts: Arc::new(watch::channel(BTreeSet::new()).0) }
    }

    pub fn cut(&self, one: usize, other: usize) {
        self.cuts.send_modify(|cuts| {
            cuts.insert(pair(one, other));
        });
    }

    pub fn heal(&self) {
        self.cuts.send_replace(BTreeSet::new());
    }

    /// The pairs that are cut, in order.
    pub fn cuts(&self) -> Vec<(usize, usize)> {
        self.cuts.borrow().iter().copied().collect()
    }

    /// The network as node `number` sees it, with the socket that is bound for it already, if there is one.
    pub fn of(&self, number: usize, socket: Option<TcpListener>) -> Arc<dyn Network> {
        Arc::new(LinksOf { links: self.clone(), number, socket: Mutex::new(socket) })
    }
}

struct LinksOf {
    links: Links,
    number: usize,
    socket: Mutex<Option<TcpListener>>,
}

impl Network for LinksOf {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let Some(&other) = self.links.nodes.get(address) else {
            return TcpNetwork.connect(address);
        };
        let gate = Gate { pair: pair(self.number, other), cuts: self.links.cuts.subscribe() };
        let address = address.to_owned();
        Box::pin(async move {
            gate.clone().passed().await;
            Ok(gated(TcpNetwork.connect(&address).await?, gate))
        })
    }

    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        match socket {
            Some(socket) => Box::pin(async move { listen_on(socket) }),
            None => TcpNetwork.listen(address),
        }
    }
}

/// Open while its pair is not cut.
#[derive(Clone)]
struct Gate {
    pair: Pair,
    cuts: watch::Receiver<BTreeSet<Pair>>,
}

impl Gate {
    /// Waits while the pair is cut.
    async fn passed(&mut self) {
        let pair = self.pair;
        // It fails when the demo is over, and then nobody is kept apart any more.
        let _ = self.cuts.wait_for(|cuts| !cuts.contains(&pair)).await;
    }
}

/// The other end of a pipe through which `inner` is reached while the gate is open. The two tasks end with either
/// end, and with the runtime of the node that connected.
fn gated(inner: Box<dyn Stream>, gate: Gate) -> Box<dyn Stream> {
    let (near, far) = tokio::io::duplex(HELD_BYTES);
    let (from_node, to_node) = tokio::io::split(far);
    let (from_peer, to_peer) = tokio::io::split(inner);
    tokio::spawn(carry(from_node, to_peer, gate.clone()));
    tokio::spawn(carry(from_peer, to_node, gate));
    Box::new(near)
}

/// Carries bytes while the gate is open, until an end closes or fails.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut gate: Gate) {
    let mut held = vec![0; HELD_BYTES];
    while let Ok(len_bytes @ 1..) = from.read(&mut held).await {
        gate.passed().await;
        if to.write_all(&held[..len_bytes]).await.is_err() {
            return;
        }
    }
    gate.passed().await;
    let _ = to.shutdown().await;
}
