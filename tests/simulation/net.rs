//! A network in memory: streams with delays, hosts that go away, and cuts between hosts.
//!
//! A connection is two pipes with a pump for each direction. A pump carries bytes in the chunks they were
//! written in, after a random delay, and holds them back while its direction is cut, as TCP does with
//! packets that are lost. When a host goes away, its connections end on both sides.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use conuredb::actors::peer::net::{Listener, Network, Stream};
use conuredb::env::Chance;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};

/// Bytes a direction of a connection holds before its writer waits.
const PIPE_BYTES: usize = 64 * 1024;

/// Longest delay of a chunk. A few of these make an election timeout.
const DELAY_MAX: Duration = Duration::from_millis(8);

type Accepted = (Box<dyn Stream>, String);

struct State {
    listeners: BTreeMap<String, mpsc::Sender<Accepted>>,
    cuts: BTreeSet<(String, String)>,
    /// Per host, how often it went away. A connection lives in one life of both its hosts.
    lives: BTreeMap<String, u64>,
}

/// The network between all hosts.
#[derive(Clone)]
pub struct SimNetwork {
    state: Arc<Mutex<State>>,
    /// Bumped at every change, so that held pumps look again.
    changes: Arc<watch::Sender<u64>>,
    chance: Arc<dyn Chance>,
}

/// The network as one host sees it. Addresses are `host:port`.
pub struct HostNetwork {
    network: SimNetwork,
    host: String,
}

impl SimNetwork {
    pub fn new(chance: Arc<dyn Chance>) -> SimNetwork {
        let state =
            State { listeners: BTreeMap::new(), cuts: BTreeSet::new(), lives: BTreeMap::new() };
        SimNetwork {
            state: Arc::new(Mutex::new(state)),
            changes: Arc::new(watch::channel(0).0),
            chance,
        }
    }

    pub fn host(&self, host: &str) -> Arc<HostNetwork> {
        Arc::new(HostNetwork { network: self.clone(), host: host.into() })
    }

    /// Ends all connections and listeners of a host.
    pub fn kill(&self, host: &str) {
        let mut state = self.state.lock().unwrap();
        *state.lives.entry(host.into()).or_default() += 1;
        state.listeners.retain(|address, _| host_of(address) != host);
        drop(state);
        self.changes.send_modify(|change| *change += 1);
    }

    /// Cuts the direction from one host to another.
    pub fn cut(&self, from: &str, to: &str) {
        self.state.lock().unwrap().cuts.insert((from.into(), to.into()));
    }

    /// Ends all cuts.
    pub fn heal(&self) {
        self.state.lock().unwrap().cuts.clear();
        self.changes.send_modify(|change| *change += 1);
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        self.state.lock().unwrap().cuts.contains(&(from.into(), to.into()))
    }

    fn life(&self, host: &str) -> u64 {
        self.state.lock().unwrap().lives.get(host).copied().unwrap_or(0)
    }

    fn delay(&self) -> Duration {
        Duration::from_micros(self.chance.below(DELAY_MAX.as_micros() as u64))
    }

    /// Waits until the direction is not cut. False when a host went away.
    async fn passable(&self, from: &(String, u64), to: &(String, u64)) -> bool {
        let mut changes = self.changes.subscribe();
        loop {
            if self.life(&from.0) != from.1 || self.life(&to.0) != to.1 {
                return false;
            }
            if !self.is_cut(&from.0, &to.0) {
                return true;
            }
            if changes.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Carries bytes one way until either end closes or a host goes away.
    async fn pump(
        self,
        mut reader: ReadHalf<DuplexStream>,
        mut writer: WriteHalf<DuplexStream>,
        from: (String, u64),
        to: (String, u64),
    ) {
        let mut buffer = vec![0; PIPE_BYTES];
        let mut changes = self.changes.subscribe();
        loop {
            let read = tokio::select! {
                biased;
                _ = changes.changed() => {
                    if self.life(&from.0) != from.1 || self.life(&to.0) != to.1 { break }
                    continue;
                }
                read = reader.read(&mut buffer) => read,
            };
            let Ok(read @ 1..) = read else { break };
            tokio::time::sleep(self.delay()).await;
            if !self.passable(&from, &to).await || writer.write_all(&buffer[..read]).await.is_err()
            {
                break;
            }
        }
        let _ = writer.shutdown().await;
    }
}

fn host_of(address: &str) -> &str {
    address.split(':').next().unwrap_or(address)
}

impl Network for HostNetwork {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let network = self.network.clone();
        let (from, address) = (self.host.clone(), address.to_string());
        Box::pin(async move {
            tokio::time::sleep(network.delay()).await;
            let to = host_of(&address).to_string();
            let from = (from.clone(), network.life(&from));
            let to = (to.clone(), network.life(&to));
            if !network.passable(&from, &to).await || !network.passable(&to, &from).await {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let listener = network.state.lock().unwrap().listeners.get(&address).cloned();
            let listener = listener.ok_or(io::Error::from(io::ErrorKind::ConnectionRefused))?;
            let (near, near_pump) = tokio::io::duplex(PIPE_BYTES);
            let (far, far_pump) = tokio::io::duplex(PIPE_BYTES);
            let (near_read, near_write) = tokio::io::split(near_pump);
            let (far_read, far_write) = tokio::io::split(far_pump);
            tokio::spawn(network.clone().pump(near_read, far_write, from.clone(), to.clone()));
            tokio::spawn(network.clone().pump(far_read, near_write, to, from.clone()));
            let far: Box<dyn Stream> = Box::new(far);
            let accepted = listener.send((far, from.0)).await;
            accepted.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            let near: Box<dyn Stream> = Box::new(near);
            Ok(near)
        })
    }

    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (sender, receiver) = mpsc::channel(64);
        self.network.state.lock().unwrap().listeners.insert(address.into(), sender);
        let listener: Box<dyn Listener> =
            Box::new(SimListener { address: address.into(), receiver });
        Box::pin(async move { Ok(listener) })
    }
}

struct SimListener {
    address: String,
    receiver: mpsc::Receiver<Accepted>,
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Accepted>> {
        Box::pin(async {
            match self.receiver.recv().await {
                Some(accepted) => Ok(accepted),
                // The host went away; whoever accepts is about to be dropped.
                None => std::future::pending().await,
            }
        })
    }

    fn local_address(&self) -> String {
        self.address.clone()
    }
}
