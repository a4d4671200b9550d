//! Requests to one node, and what their answers must be.

use reqwest::{Method, header::HeaderMap};
use serde_json::Value;

use crate::harness::{Node, until};

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The code of a problem document, empty for anything else.
    pub fn code(&self) -> String {
        match self.header("content-type") {
            "application/problem+json" => {
                self.json()["code"].as_str().unwrap_or_default().to_owned()
            }
            _ => String::new(),
        }
    }

    /// Requires what the original answers to a change: 200 and `OK`.
    #[track_caller]
    pub fn is_ok(&self) -> &Reply {
        assert_eq!((self.status, self.text().as_str()), (200, "OK\n"));
        self
    }

    /// Requires a problem of this status and code, whose words contain `says`.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str, says: &str) -> &Reply {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{}", self.text());
        let detail = self.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains(says), "{detail:?} does not say {says:?}");
        self
    }
}

impl Node {
    /// Sends a request; an error is one of the connection, not of the answer.
    pub async fn request(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> reqwest::Result<Reply> {
        let body = body.into();
        // As curl does; the library says nothing of an empty body, and a PUT without one is refused.
        let is_empty = body.as_bytes().is_some_and(<[u8]>::is_empty) && method == Method::PUT;
        let mut request = self.http.request(method, self.url() + target).body(body);
        if is_empty {
            request = request.header("content-length", "0");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Reply { status, headers, body: response.bytes().await?.into() })
    }

    pub async fn try_get(&self, target: &str) -> reqwest::Result<Reply> {
        self.request(Method::GET, target, &[], "").await
    }

    pub async fn get(&self, target: &str) -> Reply {
        self.answered(self.try_get(target).await)
    }

    /// Asks until the answer has this status: on a busy machine a leader may be lost for a moment.
    pub async fn get_until(&self, status: u16, target: &str) -> Reply {
        until(&format!("{status} for {target}"), async || {
            self.try_get(target).await.ok().filter(|reply| reply.status == status)
        })
        .await
    }

    pub async fn try_put(
        &self,
        target: &str,
        body: impl Into<reqwest::Body>,
    ) -> reqwest::Result<Reply> {
        self.request(Method::PUT, target, &[], body).await
    }

    pub async fn put(&self, target: &str, body: impl Into<reqwest::Body>) -> Reply {
        self.answered(self.try_put(target, body).await)
    }

    pub async fn delete(&self, target: &str) -> Reply {
        self.answered(self.request(Method::DELETE, target, &[], "").await)
    }

    pub async fn post(&self, target: &str, body: &str) -> Reply {
        let json = [("content-type", "application/json")];
        self.answered(self.request(Method::POST, target, &json, body.to_owned()).await)
    }

    /// The value of a metric without labels; `None` where there is none, or no answer.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.try_get("/metrics").await.ok()?.text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.parse().ok()
    }

    /// The first entry that the node's log still has.
    pub async fn first_log_index(&self) -> Option<u64> {
        self.get("/raft/stats").await.json()["first_log_index"].as_u64()
    }

    /// `POST /join` as the original is told: the other node's name and raft address, no more.
    pub async fn join(&self, other: &Node) -> Reply {
        let (id, address) = (&other.name, other.raft_addr());
        self.post("/join", &format!(r#"{{"ID":"{id}","RaftAddr":"{address}"}}"#)).await
    }

    pub async fn remove(&self, name: &str) -> Reply {
        self.post("/remove", &format!(r#"{{"ID":"{name}"}}"#)).await
    }

    pub async fn transfer(&self, name: &str) -> Reply {
        self.post("/transfer", &format!(r#"{{"ID":"{name}"}}"#)).await
    }

    #[track_caller]
    fn answered(&self, reply: reqwest::Result<Reply>) -> Reply {
        reply.unwrap_or_else(|error| panic!("{} gives no answer: {error:?}", self.name))
    }
}
