//! Requests that are sent once, to one node: what curl would get.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Failure;

/// A client with connections of its own.
#[derive(Clone)]
pub struct Http(reqwest::Client);

/// An answer, read to its end.
pub struct Reply {
    pub status: u16,
    headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is none.
#[derive(Debug)]
pub enum Lost {
    /// Nobody took the connection.
    Unsent,
    /// The request may have arrived.
    Unanswered,
}

impl Http {
    /// A client that waits so long for an answer.
    pub fn new(limit: Duration) -> Result<Http, Failure> {
        let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true);
        Ok(Http(client.timeout(limit).build()?))
    }

    pub async fn send(
        &self,
        method: Method,
        url: String,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> Result<Reply, Lost> {
        let mut request = self.0.request(method.clone(), url);
        if method != Method::GET {
            // The library says nothing of an empty body, and a node cannot tell it from a forgotten one.
            request = request.header("content-length", body.len()).body(body);
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let response = request.send().await.map_err(|error| match error.is_connect() {
            true => Lost::Unsent,
            false => Lost::Unanswered,
        })?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.map_err(|_| Lost::Unanswered)?;
        Ok(Reply { status, headers, body })
    }

    pub async fn get(&self, url: String) -> Result<Reply, Lost> {
        self.send(Method::GET, url, &[], Bytes::new()).await
    }

    /// A document; `None` while the node gives none.
    pub async fn document<T: DeserializeOwned>(&self, url: String) -> Option<T> {
        let reply = self.get(url).await.ok().filter(|reply| reply.status == 200)?;
        serde_json::from_slice(&reply.body).ok()
    }

    /// A change that an operator makes.
    pub async fn post(&self, url: String, body: Value) -> Result<Reply, Lost> {
        let json = [("content-type", "application/json".to_owned())];
        self.send(Method::POST, url, &json, Bytes::from(body.to_string())).await
    }
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header that holds a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.headers.get(name)?.to_str().ok()?.parse().ok()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether a refusal says that it had no effect.
    pub fn was_refused(&self) -> bool {
        self.json()["applied"] == "no"
    }
}
