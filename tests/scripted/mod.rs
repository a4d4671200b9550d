//! An HTTP server that says what a test tells it to, and remembers what it was asked.
//!
//! It does what no proper server does: breaks connections, falls silent, answers without end. A script
//! is a closure from request to [`Answer`]; [`store`] is a script that behaves like a small node.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The bytes of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<Vec<u8>> {
        let (_, query) = self.target.split_once('?')?;
        let value = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")))?;
        Some(percent_encoding::percent_decode_str(value).collect())
    }
}

#[derive(Clone, Debug)]
pub enum Answer {
    Say {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// Says that, but breaks off behind so many bytes of the body.
    Cut(Box<Answer>, usize),
    /// Closes the connection without a word.
    Break,
    /// Says nothing and keeps the connection.
    Silence,
    /// A body without end and without a length.
    Endless,
}

impl Answer {
    pub fn ok(body: impl Into<Vec<u8>>) -> Answer {
        Answer::Say { status: 200, headers: Vec::new(), body: body.into() }
    }

    pub fn json(body: serde_json::Value) -> Answer {
        Answer::ok(body.to_string())
    }

    /// A problem document.
    pub fn problem(status: u16, code: &str, applied: &str) -> Answer {
        let body = json!({ "status": status, "code": code, "detail": format!("scripted {code}"), "applied": applied });
        Answer::Say { status, headers: Vec::new(), body: body.to_string().into() }
    }

    pub fn cut_at(self, len_bytes: usize) -> Answer {
        Answer::Cut(Box::new(self), len_bytes)
    }

    pub fn with(mut self, name: &'static str, value: impl ToString) -> Answer {
        if let Answer::Say { headers, .. } = &mut self {
            headers.push((name, value.to_string()));
        }
        self
    }
}

/// A running server; it ends when this is dropped.
pub struct Server {
    pub url: String,
    seen: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    #[allow(clippy::disallowed_methods, reason = "tests talk through real sockets")]
    pub async fn start(script: impl FnMut(&Request) -> Answer + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(script));
        let requests = seen.clone();
        let task = tokio::spawn(async move {
            // The connections end with the task, as those of a killed node do.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (script, requests) = (script.clone(), requests.clone());
                connections.spawn(async move {
                    let answer = |request: &Request| {
                        requests.lock().unwrap().push(request.clone());
                        script.lock().unwrap()(request)
                    };
                    let _ = serve(stream, answer).await;
                });
            }
        });
        Server { url, seen, task }
    }

    /// What it was asked, but for the members, which clients ask for when they like.
    pub fn seen(&self) -> Vec<Request> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|request| request.target != "/raft/config").cloned().collect()
    }

    /// Closes the port and every connection.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The address of a port on which nobody listens.
#[allow(clippy::disallowed_methods, reason = "tests talk through real sockets")]
pub async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

async fn serve(
    mut stream: TcpStream,
    mut answer: impl FnMut(&Request) -> Answer,
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
        let mut lines = head.split("\r\n");
        let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let mut request = Request {
            method: first.next().unwrap_or_default(),
            target: first.next().unwrap_or_default(),
            ..Request::default()
        };
        let headers = lines.filter_map(|line| line.split_once(": "));
        request.headers =
            headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
        let end = head_end + 4 + length;
        while buffer.len() < end {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        request.body = buffer[head_end + 4..end].to_vec();
        buffer.drain(..end);

        let (answer, cut_at) = match answer(&request) {
            Answer::Cut(answer, len_bytes) => (*answer, Some(len_bytes)),
            answer => (answer, None),
        };
        match answer {
            Answer::Say { status, headers, body } => {
                let mut reply =
                    format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {}\r\n", body.len());
                for (name, value) in headers {
                    reply.push_str(&format!("{name}: {value}\r\n"));
                }
                let said = &body[..cut_at.unwrap_or(body.len())];
                stream.write_all(&[reply.as_bytes(), b"\r\n", said].concat()).await?;
                if cut_at.is_some() {
                    return Ok(());
                }
            }
            Answer::Cut(..) => unreachable!("an answer is cut once"),
            Answer::Break => return Ok(()),
            Answer::Silence => std::future::pending().await,
            Answer::Endless => {
                stream.write_all(b"HTTP/1.1 200 Scripted\r\n\r\n").await?;
                loop {
                    stream.write_all(&[0; 64 * 1024]).await?;
                }
            }
        }
    }
}

/// A small node: a map of keys with revisions, scans in pages of `page_items`, one member.
pub fn store(page_items: usize) -> impl FnMut(&Request) -> Answer + Send + 'static {
    let mut keys: BTreeMap<Vec<u8>, (Vec<u8>, u64)> = BTreeMap::new();
    let mut revision = 0u64;
    move |request| {
        let key = request.parameter("key");
        let path = request.target.split('?').next().unwrap_or_default();
        match (request.method.as_str(), path, key) {
            (_, "/kv", Some(key)) => one(&mut keys, &mut revision, request, key),
            ("GET", "/kv", None) => page(&keys, revision, request, page_items),
            ("DELETE", "/kv", None) => {
                let prefix = request.parameter("prefix").unwrap();
                let before = keys.len();
                keys.retain(|key, _| !key.starts_with(&prefix));
                revision += 1;
                Answer::json(json!({ "deleted": before - keys.len(), "revision": revision }))
            }
            ("GET", "/status", _) => Answer::json(json!({
                "node_id": "node1", "role": "leader", "is_leader": true, "leader": "127.0.0.1:7001",
                "leader_id": "node1", "leader_http": null, "term": 3, "commit_index": 9,
                "applied_index": 9, "revision": revision, "cluster_id": "c0", "version": "0.1.0",
                "db_bytes": 8192, "db_bytes_live": 4096, "compacting": false, "compactions": 2,
                "oldest_revision": 0, "of_a_later_version": true
            })),
            ("GET", "/raft/config", _) => Answer::json(json!({
                "leader": "127.0.0.1:7001",
                "servers": [{ "id": "node1", "address": "127.0.0.1:7001", "suffrage": "voter", "http_address": "" }]
            })),
            ("POST", "/join" | "/transfer", _) => Answer::ok("OK\n"),
            ("POST", "/remove", _) => Answer::problem(404, "unknown_node", "no"),
            _ => Answer::problem(404, "not_found", "no"),
        }
    }
}

type Keys = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

fn one(keys: &mut Keys, revision: &mut u64, request: &Request, key: Vec<u8>) -> Answer {
    let present = keys.get(&key).map(|(_, revision)| *revision);
    let matches = match (request.header("if-match"), request.header("if-none-match")) {
        (Some(tag), _) => present.is_some_and(|revision| tag == format!("\"{revision}\"")),
        (None, Some(_)) => request.method == "GET" || present.is_none(),
        (None, None) => true,
    };
    if !matches {
        return Answer::problem(412, "condition_failed", "no");
    }
    match request.method.as_str() {
        "PUT" => {
            *revision += 1;
            keys.insert(key, (request.body.clone(), *revision));
            Answer::json(
                json!({ "revision": *revision, "create_revision": *revision, "version": 1 }),
            )
            .with("X-Conure-Revision", *revision)
        }
        "DELETE" => {
            let deleted = u64::from(keys.remove(&key).is_some());
            *revision += deleted;
            Answer::ok("OK\n")
                .with("X-Conure-Deleted", deleted)
                .with("X-Conure-Revision", *revision)
        }
        _ => match keys.get(&key) {
            None => Answer::problem(404, "key_not_found", "no"),
            Some((value, revision)) if request.header("accept") == Some("application/json") => {
                Answer::json(record(&key, Some(value), *revision))
            }
            Some((value, revision)) => {
                Answer::ok(value.clone()).with("ETag", format!("\"{revision}\""))
            }
        },
    }
}

fn page(keys: &Keys, revision: u64, request: &Request, page_items: usize) -> Answer {
    let prefix = request.parameter("prefix").unwrap_or_default();
    let text = |name| request.parameter(name).map(|bytes| String::from_utf8(bytes).unwrap());
    let limit = text("limit").map_or(100, |limit| limit.parse().unwrap()).min(page_items);
    let skip: usize = text("cursor").map_or(0, |cursor| cursor.parse().unwrap());
    let keys_only = text("keys_only").is_some();
    let mut listed: Vec<_> = keys
        .iter()
        .filter(|(key, _)| key.starts_with(&prefix))
        .filter(|(key, _)| request.parameter("start").is_none_or(|start| **key >= start))
        .filter(|(key, _)| request.parameter("end").is_none_or(|end| **key < end))
        .collect();
    if text("reverse").is_some() {
        listed.reverse();
    }
    let items: Vec<_> = listed
        .iter()
        .skip(skip)
        .take(limit)
        .map(|(key, (value, revision))| record(key, Some(value).filter(|_| !keys_only), *revision))
        .collect();
    let next = skip + items.len();
    let next = (next < listed.len()).then(|| next.to_string());
    Answer::json(json!({ "items": items, "next": next, "revision": revision }))
}

fn record(key: &[u8], value: Option<&Vec<u8>>, revision: u64) -> serde_json::Value {
    use base64::Engine;
    let mut record = json!({ "create_revision": revision, "mod_revision": revision, "version": 1 });
    let mut put = |name: &str, bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => record[name] = json!(text),
        Err(_) => {
            let base64 = base64::engine::general_purpose::STANDARD.encode(bytes);
            record[format!("{name}_base64")] = json!(base64);
        }
    };
    put("key", key);
    if let Some(value) = value {
        put("value", value);
    }
    record
}
