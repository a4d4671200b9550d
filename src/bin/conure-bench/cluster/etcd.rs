//! An etcd cluster, from the program `etcd` in PATH with its default settings.
//!
//! It is asked through gRPC, by the crate h2 and three calls written down by hand: a generated client would need
//! a compiler for protocol files and would cost more for each call. Clients share connections, which is how etcd's
//! own load generator gets the most out of it: streams of one connection share system calls.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use prost::Message;
use tokio::net::TcpStream;

use super::args::System;
use super::client::Pair;
use super::conure::Nodes;
use super::error::{ClientError, ClusterError};
use super::process::{Process, free_ports, wait_ready};

/// Clients to a connection.
pub const CLIENTS_PER_CONNECTION: usize = 16;

/// The end of a range that has none.
const NO_END: &[u8] = &[0];

/// Before each gRPC message: a byte that says "not compressed", and its length.
const PREFIX_BYTES: usize = 5;

/// The fields that are used here of the messages of etcd's `rpc.proto` and `kv.proto`.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct PutRequest {
        #[prost(bytes = "bytes", tag = "1")]
        pub key: bytes::Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        pub value: bytes::Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct PutResponse {}

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct RangeRequest {
        #[prost(bytes = "bytes", tag = "1")]
        pub key: bytes::Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        pub range_end: bytes::Bytes,
        #[prost(int64, tag = "3")]
        pub limit: i64,
        #[prost(bool, tag = "7")]
        pub serializable: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct RangeResponse {
        #[prost(message, repeated, tag = "2")]
        pub kvs: Vec<KeyValue>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct KeyValue {
        #[prost(bytes = "bytes", tag = "1")]
        pub key: bytes::Bytes,
        #[prost(bytes = "bytes", tag = "5")]
        pub value: bytes::Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct StatusRequest {}

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ResponseHeader {
        #[prost(uint64, tag = "2")]
        pub member_id: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct StatusResponse {
        #[prost(message, optional, tag = "1")]
        pub header: Option<ResponseHeader>,
        #[prost(uint64, tag = "4")]
        pub leader: u64,
    }
}

/// Starts a cluster of `count` nodes.
pub async fn start(count: usize, dir: &Path) -> Result<Nodes, ClusterError> {
    let program = program()?;
    let ports = free_ports(2 * count)?;
    let (peer_ports, client_ports) = ports.split_at(count);
    let name = |index: usize| format!("etcd{}", index + 1);
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let members: Vec<String> = peer_ports
        .iter()
        .enumerate()
        .map(|(index, port)| format!("{}={}", name(index), url(*port)))
        .collect();
    let mut processes = Vec::new();
    for (index, (peer, client)) in peer_ports.iter().zip(client_ports).enumerate() {
        let name = name(index);
        let arguments = [
            ("name", name.clone()),
            ("data-dir", dir.join(&name).display().to_string()),
            ("listen-peer-urls", url(*peer)),
            ("initial-advertise-peer-urls", url(*peer)),
            ("listen-client-urls", url(*client)),
            ("advertise-client-urls", url(*client)),
            ("initial-cluster", members.join(",")),
            ("initial-cluster-state", "new".to_owned()),
            ("logger", "zap".to_owned()),
            ("log-level", "warn".to_owned()),
        ]
        .map(|(flag, value)| format!("--{flag}={value}"));
        processes.push(Process::start(&program, name, dir, &arguments)?);
    }
    let mut addresses: Vec<String> =
        client_ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut leader = 0;
    wait_ready(System::Etcd, &mut processes, async || {
        for (index, address) in addresses.iter().enumerate() {
            let status = status(address).await.map_err(|error| error.to_string())?;
            match (status.header, status.leader) {
                (_, 0) => return Err(format!("{address} knows of no leader")),
                (Some(header), known) if header.member_id == known => leader = index,
                _ => {}
            }
        }
        Ok(())
    })
    .await?;
    addresses.swap(0, leader);
    Ok(Nodes { processes, addresses })
}

fn program() -> Result<PathBuf, ClusterError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("etcd")).find(|it| it.is_file());
    found.ok_or(ClusterError::NotInstalled {
        program: "etcd in PATH",
        remedy: "install it (Debian, Ubuntu: `apt-get install etcd-server`), or leave --vs out",
    })
}

async fn status(address: &str) -> Result<proto::StatusResponse, ClientError> {
    let connection = Connection::open(address).await?;
    connection.call("/etcdserverpb.Maintenance/Status", &proto::StatusRequest {}).await
}

/// A connection that several clients may share.
#[derive(Clone)]
pub struct Connection {
    address: Arc<str>,
    sender: SendRequest<Bytes>,
}

impl Connection {
    /// Connects to `host:port`.
    pub async fn open(address: &str) -> Result<Connection, ClientError> {
        let failed = |source| ClientError::Io { address: address.to_owned(), source };
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let shaken = h2::client::handshake(stream).await;
        let (sender, connection) =
            shaken.map_err(|source| ClientError::Http2 { address: address.to_owned(), source })?;
        // How the connection ends, its requests are told.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { address: address.into(), sender })
    }

    pub async fn put(&self, key: &str, value: Bytes) -> Result<(), ClientError> {
        let request = proto::PutRequest { key: Bytes::copy_from_slice(key.as_bytes()), value };
        let _: proto::PutResponse = self.call("/etcdserverpb.KV/Put", &request).await?;
        Ok(())
    }

    pub async fn get(&self, key: &str, stale: bool) -> Result<Option<Bytes>, ClientError> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let request = proto::RangeRequest { key, serializable: stale, ..Default::default() };
        let found: proto::RangeResponse = self.call("/etcdserverpb.KV/Range", &request).await?;
        Ok(found.kvs.into_iter().next().map(|record| record.value))
    }

    pub async fn scan(&self, start: &str, limit: usize) -> Result<Vec<Pair>, ClientError> {
        let request = proto::RangeRequest {
            key: Bytes::copy_from_slice(start.as_bytes()),
            range_end: Bytes::from_static(NO_END),
            limit: limit as i64,
            serializable: false,
        };
        let found: proto::RangeResponse = self.call("/etcdserverpb.KV/Range", &request).await?;
        Ok(found.kvs.into_iter().map(|record| (record.key, record.value)).collect())
    }

    fn broken(&self, source: h2::Error) -> ClientError {
        ClientError::Http2 { address: self.address.to_string(), source }
    }

    fn not_grpc(&self, what: impl ToString) -> ClientError {
        ClientError::NotGrpc { address: self.address.to_string(), what: what.to_string() }
    }

    /// One unary call.
    async fn call<A: Message + Default>(
        &self,
        method: &'static str,
        message: &impl Message,
    ) -> Result<A, ClientError> {
        let mut frame = BytesMut::with_capacity(PREFIX_BYTES + message.encoded_len());
        frame.put_u8(0);
        frame.put_u32(message.encoded_len() as u32);
        message.encode(&mut frame).map_err(|error| self.not_grpc(error))?;
        let request = http::Request::post(format!("http://{}{method}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(|error| self.not_grpc(error))?;
        let mut sender = self.sender.clone().ready().await.map_err(|error| self.broken(error))?;
        let (answer, mut stream) =
            sender.send_request(request, false).map_err(|error| self.broken(error))?;
        stream.send_data(frame.freeze(), true).map_err(|error| self.broken(error))?;
        let (head, mut body) = answer.await.map_err(|error| self.broken(error))?.into_parts();
        let mut received = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.map_err(|error| self.broken(error))?;
            // The window this chunk took is open again.
            let released = body.flow_control().release_capacity(chunk.len());
            released.map_err(|error| self.broken(error))?;
            received.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await.map_err(|error| self.broken(error))?;
        // A call that failed at once has its status in the head.
        self.check(trailers.as_ref().unwrap_or(&head.headers))?;
        if received.len() < PREFIX_BYTES {
            return Err(self.not_grpc("an answer without a message"));
        }
        A::decode(received.split_off(PREFIX_BYTES)).map_err(|error| self.not_grpc(error))
    }

    fn check(&self, fields: &http::HeaderMap) -> Result<(), ClientError> {
        let text = |name| fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or("none");
        match text("grpc-status") {
            "0" => Ok(()),
            status => Err(ClientError::GrpcStatus {
                address: self.address.to_string(),
                status: status.to_owned(),
                said: text("grpc-message").to_owned(),
            }),
        }
    }
}
