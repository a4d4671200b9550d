//! A client of whichever system, and a system that runs.

use std::path::Path;

use bytes::Bytes;

use super::args::{ClusterArgs, Spread, System};
use super::conure::{self, Nodes};
use super::error::{ClientError, ClusterError};
#[cfg(feature = "bench-peers")]
use super::etcd;
use super::http::HttpClient;
use super::process::Process;

/// A system whose nodes answer.
pub struct Running {
    pub system: System,
    nodes: Nodes,
}

impl Running {
    /// Starts a system's nodes in `dir`, or takes those that are given.
    pub async fn start(
        system: System,
        args: &ClusterArgs,
        dir: &Path,
    ) -> Result<Running, ClusterError> {
        let count = usize::from(args.nodes);
        let nodes = match system {
            System::Conure if !args.target.is_empty() => conure::attach(&args.target).await?,
            System::Conure => conure::start(count, dir).await?,
            #[cfg(feature = "bench-peers")]
            System::Etcd => etcd::start(count, dir).await?,
            #[cfg(not(feature = "bench-peers"))]
            System::Etcd => return Err(ClusterError::NotBuilt),
        };
        Ok(Running { system, nodes })
    }

    /// The nodes that were started here.
    pub fn processes(&self) -> &[Process] {
        &self.nodes.processes
    }

    /// Where the nodes answer, the leader first.
    pub fn addresses(&self) -> &[String] {
        &self.nodes.addresses
    }

    /// Connects `count` clients to the nodes that `spread` names.
    pub async fn clients(&self, count: usize, spread: Spread) -> Result<Vec<Client>, ClusterError> {
        let addresses = match spread {
            Spread::Leader => &self.nodes.addresses[..1],
            // A cluster of one has no follower.
            Spread::Follower => {
                self.nodes.addresses.get(1..2).unwrap_or(&self.nodes.addresses[..1])
            }
            Spread::All => &self.nodes.addresses[..],
        };
        let connected = self.connect(count, addresses).await;
        connected.map_err(|source| ClusterError::Request {
            system: self.system,
            doing: "connecting before",
            key: "(none)".into(),
            source,
        })
    }

    async fn connect(&self, count: usize, to: &[String]) -> Result<Vec<Client>, ClientError> {
        let mut clients = Vec::with_capacity(count);
        match self.system {
            System::Conure => {
                for number in 0..count {
                    let client = HttpClient::connect(&to[number % to.len()]).await?;
                    clients.push(Client::Http(Box::new(client)));
                }
            }
            #[cfg(feature = "bench-peers")]
            System::Etcd => {
                let number = count.div_ceil(etcd::CLIENTS_PER_CONNECTION).max(to.len()).min(count);
                let mut connections = Vec::with_capacity(number);
                for number in 0..number {
                    connections.push(etcd::Connection::open(&to[number % to.len()]).await?);
                }
                let shared = connections.iter().cycle().take(count);
                clients.extend(shared.map(|connection| Client::Grpc(connection.clone())));
            }
            #[cfg(not(feature = "bench-peers"))]
            System::Etcd => {}
        }
        Ok(clients)
    }
}

/// A key and its value.
pub type Pair = (Bytes, Bytes);

/// Asks one thing at a time.
pub enum Client {
    Http(Box<HttpClient>),
    #[cfg(feature = "bench-peers")]
    Grpc(etcd::Connection),
}

impl Client {
    pub async fn put(&mut self, key: &str, value: Bytes) -> Result<(), ClientError> {
        match self {
            Client::Http(client) => client.put(key, &value).await,
            #[cfg(feature = "bench-peers")]
            Client::Grpc(connection) => connection.put(key, value).await,
        }
    }

    /// `stale`: from the node's own state.
    pub async fn get(&mut self, key: &str, stale: bool) -> Result<Option<Bytes>, ClientError> {
        match self {
            Client::Http(client) => client.get(key, stale).await,
            #[cfg(feature = "bench-peers")]
            Client::Grpc(connection) => connection.get(key, stale).await,
        }
    }

    /// The first `limit` keys from `start` on.
    pub async fn scan(&mut self, start: &str, limit: usize) -> Result<Vec<Pair>, ClientError> {
        match self {
            Client::Http(client) => client.scan(start, limit).await,
            #[cfg(feature = "bench-peers")]
            Client::Grpc(connection) => connection.scan(start, limit).await,
        }
    }
}
