//! TCP between nodes.

use std::io;
use std::net::SocketAddr;

use futures_util::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream, lookup_host};

use crate::actors::peer::net::{Listener, Network, Stream};

/// Real sockets. Names are resolved at every connect, each address tried in turn.
pub struct TcpNetwork;

impl Network for TcpNetwork {
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let address = address.to_string();
        Box::pin(async move {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for candidate in lookup_host(&address).await? {
                match TcpStream::connect(candidate).await {
                    Ok(stream) => {
                        // Requests are small and waited for: never hold them back.
                        stream.set_nodelay(true)?;
                        let stream: Box<dyn Stream> = Box::new(stream);
                        return Ok(stream);
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }

    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let address = address.to_string();
        Box::pin(async move {
            let socket = match address.strip_prefix(':') {
                // No host: every interface, by IPv6 where there is one, since that takes IPv4 too.
                Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
                    Ok(socket) => socket,
                    Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await?,
                },
                None => TcpListener::bind(&address).await?,
            };
            let bound = socket.local_addr()?;
            let listener: Box<dyn Listener> = Box::new(OsListener { socket, bound });
            Ok(listener)
        })
    }
}

/// A listener on a socket that is bound already. For whoever has to tell others the port before there is a node.
pub fn listen_on(socket: std::net::TcpListener) -> io::Result<Box<dyn Listener>> {
    let bound = socket.local_addr()?;
    socket.set_nonblocking(true)?;
    Ok(Box::new(OsListener { socket: TcpListener::from_std(socket)?, bound }))
}

struct OsListener {
    socket: TcpListener,
    bound: SocketAddr,
}

impl Listener for OsListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>> {
        Box::pin(async {
            let (stream, from) = self.socket.accept().await?;
            stream.set_nodelay(true)?;
            let stream: Box<dyn Stream> = Box::new(stream);
            Ok((stream, from.to_string()))
        })
    }

    fn local_address(&self) -> String {
        self.bound.to_string()
    }
}
