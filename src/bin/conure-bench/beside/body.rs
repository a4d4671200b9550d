//! A reply whose body comes in pieces and may never end: `Transfer-Encoding: chunked`, read without
//! keeping more than a piece.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::error::ClientError;
use crate::cluster::http::Head;

const READ_BYTES: usize = 64 * 1024;

/// A body on its way.
pub struct Body {
    address: String,
    stream: TcpStream,
    buffer: BytesMut,
    /// Bytes of the present chunk that did not come out yet, its closing line end included.
    left: usize,
}

impl Body {
    /// Asks for `target` and reads the head of the answer.
    pub async fn open(address: &str, target: &str, accept: &str) -> Result<Body, ClientError> {
        let stream = TcpStream::connect(address).await;
        let stream = stream.map_err(|source| io_error(address, source))?;
        let buffer = BytesMut::with_capacity(READ_BYTES);
        let mut body = Body { address: address.to_owned(), stream, buffer, left: 0 };
        let request = format!("GET {target} HTTP/1.1\r\nHost: bench\r\nAccept: {accept}\r\n\r\n");
        let sent = body.stream.write_all(request.as_bytes()).await;
        sent.map_err(|source| body.failed(source))?;
        loop {
            if let Some(Head { status, len_bytes, .. }) = Head::of(&body.buffer, address)? {
                body.buffer.advance(len_bytes);
                if status != 200 {
                    let said = String::from_utf8_lossy(&body.buffer).into_owned();
                    return Err(ClientError::Refused { address: body.address, status, said });
                }
                return Ok(body);
            }
            body.read().await?;
        }
    }

    /// The next piece, as it came; `None` at the proper end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            if self.left > 2 && !self.buffer.is_empty() {
                let piece = self.buffer.split_to(self.buffer.len().min(self.left - 2));
                self.left -= piece.len();
                return Ok(Some(piece.freeze()));
            }
            if self.left > 0 && self.left <= 2 && self.buffer.len() >= self.left {
                self.buffer.advance(self.left);
                self.left = 0;
            }
            if self.left == 0 {
                let parsed = httparse::parse_chunk_size(&self.buffer);
                let parsed = parsed.map_err(|_| {
                    self.failed(io::Error::new(io::ErrorKind::InvalidData, "no chunk begins"))
                })?;
                if let httparse::Status::Complete((line_bytes, chunk_bytes)) = parsed {
                    self.buffer.advance(line_bytes);
                    if chunk_bytes == 0 {
                        return Ok(None);
                    }
                    self.left = chunk_bytes as usize + 2;
                    continue;
                }
            }
            self.read().await?;
        }
    }

    /// The error of a body that says or does something else than it should.
    pub fn refused(&self, said: &str) -> ClientError {
        ClientError::Refused { address: self.address.clone(), status: 200, said: said.to_owned() }
    }

    async fn read(&mut self) -> Result<(), ClientError> {
        self.buffer.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(ClientError::CutOff { address: self.address.clone() }),
            Ok(_) => Ok(()),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn failed(&self, source: io::Error) -> ClientError {
        io_error(&self.address, source)
    }
}

fn io_error(address: &str, source: io::Error) -> ClientError {
    ClientError::Io { address: address.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What comes out of a reply that is sent in pieces of `piece` bytes.
    async fn body_of(reply: &'static [u8], piece: usize) -> Result<Vec<u8>, ClientError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            // What is closed with something unread is reset.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut request).await.unwrap();
            }
            for piece in reply.chunks(piece) {
                stream.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut body = Body::open(&address, "/", "*/*").await?;
        let mut all = Vec::new();
        while let Some(piece) = body.next().await? {
            all.extend_from_slice(&piece);
        }
        server.await.unwrap();
        Ok(all)
    }

    #[tokio::test]
    async fn chunks_come_out_whole_however_they_came() {
        let reply = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\na\r\n\r\nb\r\nhello world\r\n0\r\n\r\n";
        for piece in [1, 2, 5, 7, reply.len()] {
            assert_eq!(body_of(reply, piece).await.unwrap(), b"a\r\nhello world", "{piece}");
        }
        let broken = body_of(&reply[..reply.len() - 5], 9).await;
        assert!(matches!(broken, Err(ClientError::CutOff { .. })), "{broken:?}");
        let refused = body_of(b"HTTP/1.1 429 Slow down\r\n\r\nno", 100).await;
        assert!(matches!(refused, Err(ClientError::Refused { status: 429, .. })), "{refused:?}");
    }
}
