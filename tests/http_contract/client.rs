//! A client that sends exactly the bytes it is given, and holds what comes back against the document.

use std::collections::VecDeque;
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::document;

/// The bytes of a request.
pub fn request(method: &str, target: &str, headers: &[&str], body: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(format!("{header}\r\n").as_bytes());
    }
    if let Some(body) = body {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body.unwrap_or_default());
    bytes
}

/// What was asked on a connection and not answered yet.
#[derive(Default)]
struct Sent {
    /// What of it was not read yet.
    bytes: Vec<u8>,
    /// Bytes of a body that are still to come.
    body_bytes: usize,
    requests: VecDeque<(String, String)>,
    /// Nothing is known of what follows: it was no HTTP, or a body in chunks.
    is_lost: bool,
}

impl Sent {
    fn note(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        while !self.is_lost {
            let body_bytes = self.body_bytes.min(self.bytes.len());
            self.bytes.drain(..body_bytes);
            self.body_bytes -= body_bytes;
            let end = self.bytes.windows(4).position(|window| window == b"\r\n\r\n");
            let Some(end) = end.filter(|_| self.body_bytes == 0) else { return };
            let head: Vec<u8> = self.bytes.drain(..end + 4).collect();
            self.head(&String::from_utf8_lossy(&head));
        }
    }

    fn head(&mut self, head: &str) {
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let (Some(method), Some(target), Some(_)) = (words.next(), words.next(), words.next())
        else {
            self.is_lost = true;
            return;
        };
        self.requests.push_back((method, target));
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            match (name.to_ascii_lowercase().as_str(), value.parse()) {
                ("content-length", Ok(len_bytes)) => self.body_bytes = len_bytes,
                ("content-length" | "transfer-encoding", _) => self.is_lost = true,
                _ => {}
            }
        }
    }
}

/// One connection.
pub struct Client {
    pub stream: BufReader<TcpStream>,
    /// What of a stream of events came that was not asked for yet.
    pending: Vec<u8>,
    sent: Sent,
    /// The path whose answer comes as a stream.
    stream_of: String,
}

impl Client {
    /// A connection whose replies are held against the document.
    pub async fn to(address: SocketAddr) -> Client {
        Client {
            stream: BufReader::new(TcpStream::connect(address).await.unwrap()),
            pending: Vec::new(),
            sent: Sent::default(),
            stream_of: String::new(),
        }
    }

    pub async fn unchecked(address: SocketAddr) -> Client {
        let mut client = Client::to(address).await;
        client.sent.is_lost = true;
        client
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.sent.note(bytes);
        self.stream.write_all(bytes).await.unwrap();
    }

    pub async fn reply(&mut self) -> Reply {
        self.reply_to("GET").await
    }

    pub async fn reply_to(&mut self, method: &str) -> Reply {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).await.unwrap();
            match line.trim_end() {
                "" => break,
                text => lines.push(text.to_owned()),
            }
        }
        assert!(!lines.is_empty(), "the connection was closed without a reply");
        let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
        let fields = lines[1..].iter().map(|line| line.split_once(": ").unwrap());
        let headers: Vec<(String, String)> =
            fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        let mut reply = Reply { status, headers, body: Vec::new() };
        let announced = reply.header("content-length").map_or(0, |len| len.parse().unwrap());
        if method != "HEAD" {
            reply.body = vec![0; announced];
            self.stream.read_exact(&mut reply.body).await.unwrap();
        }
        if reply.status != 100
            && let Some((method, target)) = self.sent.requests.pop_front()
        {
            document::check(&method, &target, &reply);
            self.stream_of = target.split('?').next().unwrap_or_default().to_owned();
        }
        reply
    }

    /// The next block of a stream of events: its lines, up to the empty one; `None` at the end of the stream.
    pub async fn block(&mut self) -> Option<Vec<String>> {
        while !self.pending.windows(2).any(|pair| pair == b"\n\n") {
            let mut size = String::new();
            self.stream.read_line(&mut size).await.unwrap();
            let len = usize::from_str_radix(size.trim_end(), 16).expect("the size of a chunk");
            let mut chunk = vec![0; len + 2];
            self.stream.read_exact(&mut chunk).await.unwrap();
            if len == 0 {
                return None;
            }
            self.pending.extend_from_slice(&chunk[..len]);
        }
        let end = self.pending.windows(2).position(|pair| pair == b"\n\n").unwrap();
        let block: Vec<u8> = self.pending.drain(..end + 2).collect();
        let block = String::from_utf8(block).unwrap();
        let lines: Vec<String> = block.trim_end().lines().map(str::to_owned).collect();
        for data in lines.iter().filter_map(|line| line.strip_prefix("data: ")) {
            let data = serde_json::from_str(data).expect("JSON");
            document::check_item(&self.stream_of, "text/event-stream", &data);
        }
        Some(lines)
    }

    /// A reply in chunks, whose end must be there.
    pub async fn chunked_reply(&mut self) -> Reply {
        let reply = self.whole_reply("GET").await;
        assert_eq!(reply.header("transfer-encoding"), Some("chunked"), "{reply:?}");
        reply
    }

    /// A reply with all of its body, however that comes.
    pub async fn whole_reply(&mut self, method: &str) -> Reply {
        let reply = self.reply_to(method).await;
        match reply.header("transfer-encoding") {
            Some(_) if method != "HEAD" => self.rest_of(reply).await,
            _ => reply,
        }
    }

    /// Reads the chunks of a reply.
    async fn rest_of(&mut self, mut reply: Reply) -> Reply {
        loop {
            let mut size = String::new();
            self.stream.read_line(&mut size).await.unwrap();
            let size = usize::from_str_radix(size.trim_end(), 16).expect("a chunk begins");
            let mut chunk = vec![0; size + 2];
            self.stream.read_exact(&mut chunk).await.unwrap();
            chunk.truncate(size);
            reply.body.extend(chunk);
            if size == 0 {
                break;
            }
        }
        let media_type = reply.header("content-type").unwrap_or_default();
        if media_type == "application/x-ndjson" {
            for line in reply.text().lines() {
                let line = serde_json::from_str(line).expect("JSON");
                document::check_item(&self.stream_of, media_type, &line);
            }
        }
        reply
    }

    /// Whether the server has nothing more to say and closed the connection.
    pub async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        // A reset is an end as well.
        self.stream.read_to_end(&mut rest).await.is_err() || rest.is_empty()
    }
}

/// A reply, as it came.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(have, _)| have == name);
        let (_, value) = found.next()?;
        assert!(found.next().is_none(), "{name} is there twice");
        Some(value)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// Checks a problem document: status and code agree, and all it must have is there.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) -> serde_json::Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert!(self.header("x-conure-served-by").is_some(), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert!(problem["type"].is_string() && problem["title"].is_string());
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        assert!(problem["retryable"].is_boolean());
        assert!(problem["applied"] == "no" || problem["applied"] == "unknown");
        let retry_after = matches!(status, 429 | 503 | 507).then_some("1");
        assert_eq!(self.header("retry-after"), retry_after);
        problem
    }
}
