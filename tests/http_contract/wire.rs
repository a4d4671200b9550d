//! A server on a real socket, and requests to it.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use actix_web::dev::ServerHandle;
use conuredb::http::{self, HttpOptions, State};
use conuredb::metrics::Metrics;

pub use crate::client::{Client, Reply, request};
use crate::fake::Fake;

/// A server with its fake node. Both end with the test.
pub struct Server {
    pub fake: Arc<Fake>,
    pub metrics: Arc<Metrics>,
    pub address: SocketAddr,
    pub handle: ServerHandle,
    /// Whether replies are held against the document.
    is_checked: bool,
}

impl Server {
    pub fn start() -> Server {
        Server::with(HttpOptions::default())
    }

    pub fn with(options: HttpOptions) -> Server {
        let fake = Fake::new();
        Server::over(fake, options)
    }

    /// A further server over the same node, as after a restart.
    pub fn over(fake: Arc<Fake>, options: HttpOptions) -> Server {
        let metrics = Arc::new(Metrics::new("test"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State::new(fake.gateway(), metrics.clone(), options);
        let server = http::server(state, vec![listener], 1).unwrap();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Server { fake, metrics, address, handle, is_checked: true }
    }

    /// A server whose node may say what no node says.
    pub fn unchecked() -> Server {
        Server { is_checked: false, ..Server::start() }
    }

    pub async fn connect(&self) -> Client {
        match self.is_checked {
            true => Client::to(self.address).await,
            false => Client::unchecked(self.address).await,
        }
    }

    /// Sends one request without a body on a connection of its own.
    pub async fn call(&self, method: &str, target: &str) -> Reply {
        self.request(method, target, &[], None).await
    }

    pub async fn get(&self, target: &str) -> Reply {
        self.call("GET", target).await
    }

    pub async fn put(&self, target: &str, body: &[u8]) -> Reply {
        self.request("PUT", target, &[], Some(body)).await
    }

    pub async fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[&str],
        body: Option<&[u8]>,
    ) -> Reply {
        let mut client = self.connect().await;
        client.send(&request(method, target, headers, body)).await;
        client.reply_to(method).await
    }
}
