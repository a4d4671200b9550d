//! The network between nodes as a trait.

use std::io;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connected byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Connects to and listens for other nodes.
pub trait Network: Send + Sync + 'static {
    /// Connects to `host:port`. A name is resolved anew at every call, so that a node that moved is
    /// found again.
    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>>;

    /// Listens on `host:port`; port 0 lets the system choose.
    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;
}

/// A listening socket.
pub trait Listener: Send {
    /// The next connection and, for messages, where it comes from.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>>;

    /// The address that was bound, with the port the system chose.
    fn local_address(&self) -> String;
}
