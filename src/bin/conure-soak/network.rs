//! The network between nodes: every connection to a peer goes through a relay here, which knows who called.
//!
//! A node tells its peers the address of its door. Behind the door a connection has two directions, and each follows
//! the link from the node that sends to the one that receives: while a link is cut its bytes wait, as they do when
//! packets are lost and sent again, and so does news of the other side's end. A one-way cut stops requests one way
//! and answers the other. Who called is found in `/proc`: the socket of the caller's port belongs to one of our processes.
//!
//! Left out: a stream cannot lose, duplicate or reorder its bytes, as TCP does not. Connections that break, and the
//! several that two nodes have, are what makes requests come twice or out of turn. In a real one-way cut
//! acknowledgements are lost too, so that the open direction stops when the sender's buffer is full; here it goes on.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use conuredb::processes::NodeProcess;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Failure;

/// Bytes that are on their way at a time, besides those in the system's buffers.
const CHUNK_BYTES: usize = 64 * 1024;

/// How bytes travel from one node to another.
#[derive(Clone, Copy, Default)]
struct Weather {
    is_cut: bool,
    delay: Duration,
    /// Connections from before this number changed are broken.
    resets: u64,
}

pub struct Network {
    shared: Arc<Shared>,
    doors: Vec<SocketAddr>,
    /// Ends with the network.
    _tasks: JoinSet<()>,
}

struct Shared {
    /// `links[from][to]`.
    links: Vec<Vec<watch::Sender<Weather>>>,
    /// Who really is behind a door.
    routes: Vec<watch::Sender<Option<String>>>,
    /// The process of each node, while it runs.
    pids: Mutex<Vec<Option<i32>>>,
}

impl Network {
    /// Doors for so many nodes; nobody is behind them yet.
    pub async fn open(nodes: usize) -> Result<Network, Failure> {
        let links = (0..nodes).map(|_| (0..nodes).map(|_| watch::Sender::default()).collect());
        let shared = Arc::new(Shared {
            links: links.collect(),
            routes: (0..nodes).map(|_| watch::Sender::default()).collect(),
            pids: Mutex::new(vec![None; nodes]),
        });
        let (mut doors, mut tasks) = (Vec::new(), JoinSet::new());
        for node in 0..nodes {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            doors.push(listener.local_addr()?);
            tasks.spawn(shared.clone().answer(listener, node));
        }
        Ok(Network { shared, doors, _tasks: tasks })
    }

    /// The address that peers of this node are told.
    pub fn door(&self, node: usize) -> String {
        self.doors[node].to_string()
    }

    /// Lets a node's door lead to this address.
    pub fn route(&self, node: usize, address: String) {
        self.shared.routes[node].send_replace(Some(address));
    }

    /// Takes note of who runs, to know callers by their process.
    pub fn meet(&self, node: usize, process: &NodeProcess) {
        let pid = process.pid().map(|pid| pid.as_raw_nonzero().get());
        self.shared.pids.lock().unwrap_or_else(PoisonError::into_inner)[node] = pid;
    }

    fn change(&self, from: usize, to: usize, change: impl FnOnce(&mut Weather)) {
        self.shared.links[from][to].send_modify(change);
    }

    /// Lets nothing of what `from` sends reach `to`.
    pub fn cut(&self, from: usize, to: usize) {
        self.change(from, to, |weather| weather.is_cut = true);
    }

    pub fn slow(&self, from: usize, to: usize, delay: Duration) {
        self.change(from, to, |weather| weather.delay = delay);
    }

    /// Breaks the connections between two nodes, whoever made them.
    pub fn reset(&self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            self.change(from, to, |weather| weather.resets += 1);
        }
    }

    /// Ends all cuts and delays; what waited arrives.
    pub fn heal(&self) {
        let nodes = self.doors.len();
        for (from, to) in (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to))) {
            self.change(from, to, |weather| {
                *weather = Weather { resets: weather.resets, ..Weather::default() }
            });
        }
    }
}

impl Shared {
    /// Takes what comes to a node's door.
    async fn answer(self: Arc<Self>, listener: TcpListener, node: usize) {
        let mut relays = JoinSet::new();
        loop {
            let accepted = listener.accept().await;
            // Finished ones are forgotten, so that the set does not grow.
            while relays.try_join_next().is_some() {}
            if let Ok((caller, from)) = accepted {
                relays.spawn(self.clone().relay(caller, from, node));
            }
        }
    }

    async fn relay(self: Arc<Self>, caller: TcpStream, from: SocketAddr, node: usize) {
        // A stranger (another cluster's node) has clear weather.
        let clear = watch::Sender::<Weather>::default();
        let (there, back) = match self.caller(from) {
            Some(from) => (self.links[from][node].subscribe(), self.links[node][from].subscribe()),
            None => (clear.subscribe(), clear.subscribe()),
        };
        let mut route = self.routes[node].subscribe();
        let Ok(address) = route.wait_for(Option::is_some).await.map(|address| address.clone())
        else {
            return;
        };
        // Nobody behind the door: the caller's connection closes.
        let Ok(answerer) = TcpStream::connect(address.unwrap_or_default()).await else { return };
        let delays = caller.set_nodelay(true).and_then(|()| answerer.set_nodelay(true));
        let (from_caller, to_caller) = caller.into_split();
        let (from_answerer, to_answerer) = answerer.into_split();
        if delays.is_ok() {
            // Either end, and any break, ends both directions.
            tokio::select! {
                _ = pump(from_caller, to_answerer, there) => {}
                _ = pump(from_answerer, to_caller, back) => {}
            }
        }
    }

    /// Which of our nodes has a socket with this port on its side.
    fn caller(&self, from: SocketAddr) -> Option<usize> {
        let socket = format!(
            "socket:[{}]",
            inode_of_port(&fs::read_to_string("/proc/net/tcp").ok()?, from.port())?
        );
        let pids = self.pids.lock().unwrap_or_else(PoisonError::into_inner).clone();
        pids.into_iter().position(|pid| pid.is_some_and(|pid| has_open(pid, &socket)))
    }
}

/// The inode of the connected socket with this local port, in the words of `/proc/net/tcp`.
fn inode_of_port(table: &str, port: u16) -> Option<&str> {
    let end = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // 01 is ESTABLISHED; after a connection's end its port may be somebody else's.
        let is_it = fields.get(1)?.ends_with(&end) && fields.get(3) == Some(&"01");
        is_it.then(|| fields.get(9).copied()).flatten()
    })
}

fn has_open(pid: i32, socket: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    links.into_iter().any(|target| target.as_os_str() == socket)
}

/// Carries one direction of a connection.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    let born = weather.borrow().resets;
    let mut breaking = weather.clone();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let len = tokio::select! {
            read = from.read(&mut chunk) => read?,
            _ = breaking.wait_for(|now| now.resets != born) => return Ok(()),
        };
        let passing = weather.wait_for(|now| !now.is_cut || now.resets != born).await;
        let Ok(now) = passing.map(|now| *now) else { return Ok(()) };
        if now.resets != born || len == 0 {
            return Ok(());
        }
        tokio::time::sleep(now.delay).await;
        to.write_all(&chunk[..len]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_leads_to_its_connected_socket() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0\n   \
            1: 0100007F:A0B1 0100007F:1F90 06 00000000:00000000 03:00000F9A 00000000     0        0 0 3 0\n   \
            2: 0100007F:A0B1 0100007F:1B59 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 20 4 30 10 -1\n";
        assert_eq!(inode_of_port(table, 0xa0b1), Some("4711"));
        assert_eq!(inode_of_port(table, 0x1f90), None, "it listens");
    }

    #[tokio::test]
    async fn a_cut_stops_one_direction_and_healing_lets_what_waited_arrive() {
        let network = Network::open(2).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        network.route(1, listener.local_addr().unwrap().to_string());
        // This process is node 0, and so the caller.
        network.shared.pids.lock().unwrap()[0] = Some(std::process::id() as i32);
        let mut caller = TcpStream::connect(network.door(1)).await.unwrap();
        let (mut answerer, _) = listener.accept().await.unwrap();
        let mut byte = [0];
        caller.write_all(b"a").await.unwrap();
        answerer.read_exact(&mut byte).await.unwrap();

        network.cut(0, 1);
        caller.write_all(b"b").await.unwrap();
        answerer.write_all(b"c").await.unwrap();
        caller.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"c", "the other direction is open");
        let waiting =
            tokio::time::timeout(Duration::from_millis(200), answerer.read_exact(&mut byte)).await;
        assert!(waiting.is_err(), "a byte passed a cut");
        network.heal();
        answerer.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"b");

        network.reset(0, 1);
        assert_eq!(caller.read(&mut byte).await.unwrap_or(0), 0, "the connection is broken");
    }
}
