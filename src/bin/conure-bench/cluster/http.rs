//! A client for ConureDB that costs little: one connection, one request at a time, one write and usually one
//! read for each, and nothing kept but two buffers.
//!
//! It takes what conure-bench needs of HTTP/1.1 and no more: answers with a Content-Length.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::Pair;
use super::error::ClientError;

/// Header fields of an answer: a few more than a node sends.
const MOST_FIELDS: usize = 32;

/// An answer.
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

/// A page of a range, as far as it is looked at.
#[derive(Deserialize)]
struct Page {
    items: Vec<Item>,
}

/// What is no text comes as base64.
#[derive(Deserialize)]
struct Item {
    key: String,
    value: Option<String>,
    value_base64: Option<String>,
}

impl Item {
    fn pair(self) -> Result<Pair, String> {
        let value = match (self.value, self.value_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(base64)) => STANDARD.decode(base64).map_err(|error| error.to_string())?,
            _ => return Err(format!("{} has not one value", self.key)),
        };
        Ok((self.key.into(), value.into()))
    }
}

/// See the module.
pub struct HttpClient {
    address: String,
    stream: TcpStream,
    out: Vec<u8>,
    buffer: BytesMut,
}

impl HttpClient {
    /// Connects to `host:port`.
    pub async fn connect(address: &str) -> Result<HttpClient, ClientError> {
        let failed = |source| ClientError::Io { address: address.to_owned(), source };
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (out, buffer) = (Vec::with_capacity(1024), BytesMut::with_capacity(8 * 1024));
        Ok(HttpClient { address: address.to_owned(), stream, out, buffer })
    }

    pub async fn put(&mut self, key: &str, value: &[u8]) -> Result<(), ClientError> {
        let answer = self.ask("PUT", format_args!("/kv/{key}"), Some(value)).await?;
        match answer.status {
            200 => Ok(()),
            _ => Err(self.refused(answer)),
        }
    }

    pub async fn get(&mut self, key: &str, stale: bool) -> Result<Option<Bytes>, ClientError> {
        let stale = if stale { "?stale=true" } else { "" };
        let answer = self.ask("GET", format_args!("/kv/{key}{stale}"), None).await?;
        match answer.status {
            200 => Ok(Some(answer.body)),
            404 => Ok(None),
            _ => Err(self.refused(answer)),
        }
    }

    pub async fn scan(&mut self, start: &str, limit: usize) -> Result<Vec<Pair>, ClientError> {
        let target = format_args!("/kv?start={start}&limit={limit}");
        let answer = self.ask("GET", target, None).await?;
        if answer.status != 200 {
            return Err(self.refused(answer));
        }
        let page: Result<Page, _> = serde_json::from_slice(&answer.body);
        let page = page.map_err(|error| error.to_string());
        let pairs = page.and_then(|page| page.items.into_iter().map(Item::pair).collect());
        pairs.map_err(|what| ClientError::NotAPage { address: self.address.clone(), what })
    }

    /// Gets any resource of the node.
    pub async fn page(&mut self, target: &str) -> Result<Answer, ClientError> {
        self.ask("GET", format_args!("{target}"), None).await
    }

    /// Sends something to any resource of the node, which has to take it.
    pub async fn send(
        &mut self,
        method: &str,
        target: &str,
        body: &[u8],
    ) -> Result<Bytes, ClientError> {
        let answer = self.ask(method, format_args!("{target}"), Some(body)).await?;
        match answer.status {
            200..300 => Ok(answer.body),
            _ => Err(self.refused(answer)),
        }
    }

    fn refused(&self, answer: Answer) -> ClientError {
        ClientError::Refused {
            address: self.address.clone(),
            status: answer.status,
            said: String::from_utf8_lossy(&answer.body).into_owned(),
        }
    }

    fn failed(&self, source: io::Error) -> ClientError {
        ClientError::Io { address: self.address.clone(), source }
    }

    async fn ask(
        &mut self,
        method: &str,
        target: std::fmt::Arguments<'_>,
        body: Option<&[u8]>,
    ) -> Result<Answer, ClientError> {
        use std::io::Write;

        self.out.clear();
        let written = write!(self.out, "{method} {target} HTTP/1.1\r\nHost: bench\r\n");
        let written = written.and_then(|()| match body {
            Some(body) => write!(self.out, "Content-Length: {}\r\n\r\n", body.len()),
            None => write!(self.out, "\r\n"),
        });
        written.map_err(|source| self.failed(source))?;
        self.out.extend_from_slice(body.unwrap_or_default());
        let sent = self.stream.write_all(&self.out).await;
        sent.map_err(|source| self.failed(source))?;
        loop {
            if let Some(Head { status, len_bytes, body_bytes }) =
                Head::of(&self.buffer, &self.address)?
                && self.buffer.len() >= len_bytes + body_bytes
            {
                self.buffer.advance(len_bytes);
                return Ok(Answer { status, body: self.buffer.split_to(body_bytes).freeze() });
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(ClientError::CutOff { address: self.address.clone() }),
                Ok(_) => {}
                Err(source) => return Err(self.failed(source)),
            }
        }
    }
}

/// The head of an answer.
pub struct Head {
    pub status: u16,
    pub len_bytes: usize,
    /// What it announces; 0 where it announces nothing.
    pub body_bytes: usize,
}

impl Head {
    /// That of the answer which `bytes` begin with, once it is there whole.
    pub fn of(bytes: &[u8], address: &str) -> Result<Option<Head>, ClientError> {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let parsed = response.parse(bytes);
        let parsed = parsed
            .map_err(|source| ClientError::NotHttp { address: address.to_owned(), source })?;
        let httparse::Status::Complete(len_bytes) = parsed else { return Ok(None) };
        let announced = response
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case("content-length"))
            .and_then(|field| std::str::from_utf8(field.value).ok()?.trim().parse().ok());
        let status = response.code.unwrap_or(0);
        Ok(Some(Head { status, len_bytes, body_bytes: announced.unwrap_or(0) }))
    }
}
