//! A network in memory: streams with delays, hosts that go away, and links that are bad.
//!
//! A connection is two pipes with a pump for each direction. A pump carries bytes in the chunks they were
//! written in, after a random delay, and holds them back while its direction is cut, as TCP does with
//! packets that are lost. When a host goes away, its connections end on both sides; a reset ends those
//! between two hosts with whatever is under way in them. A lost packet is a chunk that comes later, by the
//! time after which TCP sends it again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};

use crate::actors::peer::net::{Listener, Network, Stream};
use crate::env::Chance;

/// Bytes a direction of a connection holds before its writer waits.
const PIPE_BYTES: usize = 64 * 1024;

/// Connections that wait to be accepted.
const BACKLOG: usize = 64;

/// Longest delay of a chunk on a good link. A few of these make an election timeout.
const DELAY_MAX: Duration = Duration::from_millis(8);

/// After so long TCP sends a lost packet again (the least on Linux).
const RETRANSMIT_AFTER: Duration = Duration::from_millis(200);

type Accepted = (Box<dyn Stream>, String);

/// From one host to another.
type Way = (String, String);

/// What a bad link does to a chunk.
#[derive(Clone, Copy, Default)]
pub struct Weather {
    /// Up to so much later.
    pub delay: Duration,
    /// So many of a thousand are lost at first.
    pub lost_per_mille: u64,
}

#[derive(Default)]
struct State {
    listeners: BTreeMap<String, mpsc::Sender<Accepted>>,
    cuts: BTreeSet<Way>,
    /// Hosts that stand still: nothing enters or leaves them.
    held: BTreeSet<String>,
    weather: BTreeMap<Way, Weather>,
    /// Per host, how often it went away. A connection lives in one life of both its hosts.
    lives: BTreeMap<String, u64>,
    /// Per pair of hosts in order, how often their connections were reset.
    resets: BTreeMap<Way, u64>,
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

/// One direction of a connection.
#[derive(Clone)]
struct Line {
    way: Way,
    /// The lives of both ends and the resets between them when it was made.
    made: (u64, u64, u64),
}

impl State {
    fn life(&self, host: &str) -> u64 {
        self.lives.get(host).copied().unwrap_or(0)
    }

    fn epoch(&self, (from, to): &Way) -> (u64, u64, u64) {
        let pair = if from < to { (from.clone(), to.clone()) } else { (to.clone(), from.clone()) };
        let resets = self.resets.get(&pair).copied().unwrap_or(0);
        (self.life(from), self.life(to), resets)
    }

    fn is_up(&self, line: &Line) -> bool {
        self.epoch(&line.way) == line.made
    }

    fn is_open(&self, way: &Way) -> bool {
        !self.cuts.contains(way) && !self.held.contains(&way.0) && !self.held.contains(&way.1)
    }
}

impl SimNetwork {
    pub fn new(chance: Arc<dyn Chance>) -> SimNetwork {
        let (state, changes) = (Arc::default(), Arc::new(watch::channel(0).0));
        SimNetwork { state, changes, chance }
    }

    pub fn host(&self, host: &str) -> Arc<HostNetwork> {
        Arc::new(HostNetwork { network: self.clone(), host: host.into() })
    }

    /// Ends all connections and listeners of a host.
    pub fn kill(&self, host: &str) {
        self.change(|state| {
            *state.lives.entry(host.into()).or_default() += 1;
            state.held.remove(host);
            state.listeners.retain(|address, _| host_of(address) != host);
        });
    }

    /// Cuts the direction from one host to another.
    pub fn cut(&self, from: &str, to: &str) {
        self.change(|state| {
            state.cuts.insert((from.into(), to.into()));
        });
    }

    /// Makes the link between two hosts bad, both ways.
    pub fn spoil(&self, one: &str, other: &str, weather: Weather) {
        self.change(|state| {
            for way in [(one.to_string(), other.to_string()), (other.into(), one.into())] {
                state.weather.insert(way, weather);
            }
        });
    }

    /// Ends all connections between two hosts; new ones can be made at once.
    pub fn reset(&self, one: &str, other: &str) {
        let (low, high) = if one < other { (one, other) } else { (other, one) };
        self.change(|state| *state.resets.entry((low.into(), high.into())).or_default() += 1);
    }

    /// Lets a host stand still, or go on: what is under way waits.
    pub fn hold(&self, host: &str, is_held: bool) {
        self.change(|state| {
            match is_held {
                true => state.held.insert(host.into()),
                false => state.held.remove(host),
            };
        });
    }

    /// Ends all cuts and bad links.
    pub fn heal(&self) {
        self.change(|state| {
            state.cuts.clear();
            state.weather.clear();
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no call panics while it holds the network")
    }

    fn line(&self, from: &str, to: &str) -> Line {
        let way = (from.to_string(), to.to_string());
        let made = self.lock().epoch(&way);
        Line { way, made }
    }

    fn delay(&self, way: &Way) -> Duration {
        let weather = self.lock().weather.get(way).copied().unwrap_or_default();
        let longest = DELAY_MAX + weather.delay;
        let mut delay = Duration::from_micros(self.chance.below(longest.as_micros() as u64));
        while weather.lost_per_mille > 0 && self.chance.below(1000) < weather.lost_per_mille {
            delay += RETRANSMIT_AFTER;
        }
        delay
    }

    /// Waits until the direction is open. False when the connection ended meanwhile.
    async fn passable(&self, line: &Line) -> bool {
        let mut changes = self.changes.subscribe();
        loop {
            {
                let state = self.lock();
                if !state.is_up(line) {
                    return false;
                }
                if state.is_open(&line.way) {
                    return true;
                }
            }
            if changes.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Carries bytes one way until either end closes or the connection ends.
    async fn pump(
        self,
        mut reader: ReadHalf<DuplexStream>,
        mut writer: WriteHalf<DuplexStream>,
        line: Line,
    ) {
        let mut buffer = vec![0; PIPE_BYTES];
        let mut changes = self.changes.subscribe();
        loop {
            let read = tokio::select! {
                biased;
                _ = changes.changed() => {
                    if !self.lock().is_up(&line) { break }
                    continue;
                }
                read = reader.read(&mut buffer) => read,
            };
            let Ok(read @ 1..) = read else { break };
            tokio::time::sleep(self.delay(&line.way)).await;
            if !self.passable(&line).await || writer.write_all(&buffer[..read]).await.is_err() {
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
            let there = network.line(&from, host_of(&address));
            let back = network.line(host_of(&address), &from);
            tokio::time::sleep(network.delay(&there.way)).await;
            if !network.passable(&there).await || !network.passable(&back).await {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let listener = network.lock().listeners.get(&address).cloned();
            let listener = listener.ok_or(io::Error::from(io::ErrorKind::ConnectionRefused))?;
            let (near, near_pump) = tokio::io::duplex(PIPE_BYTES);
            let (far, far_pump) = tokio::io::duplex(PIPE_BYTES);
            let (near_read, near_write) = tokio::io::split(near_pump);
            let (far_read, far_write) = tokio::io::split(far_pump);
            tokio::spawn(network.clone().pump(near_read, far_write, there));
            tokio::spawn(network.clone().pump(far_read, near_write, back));
            let far: Box<dyn Stream> = Box::new(far);
            let accepted = listener.send((far, from)).await;
            accepted.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            let near: Box<dyn Stream> = Box::new(near);
            Ok(near)
        })
    }

    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        self.network.lock().listeners.insert(address.into(), sender);
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
