//! Reads the body of a request, with a bound on the memory it takes.
//!
//! A body is refused by its `Content-Length` before a byte is kept, or, when it comes in chunks, as
//! soon as it passes the cap. What the client still sends is then read and thrown away: a small
//! rest before the reply, so that the connection can go on; a large one after it, for
//! [`super::LINGER`], so that the client gets to see the reply rather than a reset, and then the
//! connection closes (see [`super::reply`]).

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::web::Payload;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use super::admission::Hold;
use super::error::{Code, Problem};
use super::options::HttpOptions;
use super::trace;

/// What is read and thrown away of a body nobody wanted, so that the connection can go on. Beyond it,
/// closing is cheaper than reading.
const DISCARD_BYTES: usize = 64 * 1024;

/// How long such a body may take to come. It delays the reply, and only to clients that are late.
const DISCARD_TIME: Duration = Duration::from_millis(500);

/// The body of a request, as far as it has not been read.
pub struct RequestBody {
    payload: Payload,
    /// Whether the head speaks of a body at all, be it an empty one.
    is_announced: bool,
    /// `Content-Length`; `None` for chunks.
    len_bytes: Option<u64>,
    /// Nothing more is to be had: the body ended, broke or came too slowly. The payload must not be
    /// asked again, it would never answer.
    is_over: bool,
}

impl RequestBody {
    pub fn new(request: &HttpRequest, payload: Payload) -> RequestBody {
        let headers = request.headers();
        let length = headers.get(header::CONTENT_LENGTH);
        RequestBody {
            payload,
            is_announced: length.is_some() || headers.contains_key(header::TRANSFER_ENCODING),
            // The parser refused anything that is not one plain number.
            len_bytes: length.and_then(|length| length.to_str().ok()?.trim().parse().ok()),
            is_over: false,
        }
    }

    pub fn is_announced(&self) -> bool {
        self.is_announced
    }

    /// Reads all of it, within its cap and `timeout`. `hold` grows with it.
    pub async fn read(
        &mut self,
        cap: Cap,
        timeout: Duration,
        hold: &mut Hold,
    ) -> Result<Bytes, Problem> {
        let announced = match self.len_bytes.map(usize::try_from) {
            None => 0,
            Some(Ok(announced)) if announced <= cap.bytes => announced,
            Some(_) => return Err(cap.exceeded()),
        };
        hold.grow(announced)?;
        let arrive = async {
            let mut body = BytesMut::with_capacity(announced);
            while let Some(chunk) = self.next().await {
                let chunk = chunk.map_err(|error| {
                    Problem::new(Code::BadBody, format!("the body did not arrive whole: {error}"))
                })?;
                let len_bytes = body.len() + chunk.len();
                if len_bytes > cap.bytes {
                    return Err(cap.exceeded());
                }
                hold.grow(len_bytes)?;
                body.extend_from_slice(&chunk);
            }
            Ok(body.freeze())
        };
        let Ok(body) = trace::reading(tokio::time::timeout(timeout, arrive)).await else {
            self.is_over = true;
            let timeout = humantime::format_duration(timeout);
            let detail = format!("the body did not arrive within {timeout}");
            return Err(Problem::new(Code::RequestTimeout, detail));
        };
        body
    }

    /// Reads what is left of a small body, so that a refusal does not cost the client its connection.
    pub async fn discard(&mut self) {
        if self.len_bytes.is_some_and(|announced| announced > DISCARD_BYTES as u64) {
            return;
        }
        let rest = async {
            let mut left = DISCARD_BYTES;
            while let Some(Ok(chunk)) = self.next().await {
                match left.checked_sub(chunk.len()) {
                    Some(still_left) => left = still_left,
                    None => return,
                }
            }
        };
        // Whether it ended is seen by the protocol layer, which keeps the connection or closes it.
        let _ = tokio::time::timeout(DISCARD_TIME, rest).await;
    }

    /// The unread rest, for the reply to carry along.
    pub fn into_rest(self) -> Payload {
        self.payload
    }

    async fn next(&mut self) -> Option<Result<Bytes, PayloadError>> {
        if self.is_over {
            return None;
        }
        let chunk = self.payload.next().await;
        self.is_over = !matches!(chunk, Some(Ok(_)));
        chunk
    }
}

/// How long a value or document may be.
#[derive(Clone, Copy)]
pub struct Cap {
    pub bytes: usize,
    /// Which setting says so, for those who can change it.
    hint: Option<&'static str>,
}

impl Cap {
    pub const fn fixed(bytes: usize) -> Cap {
        Cap { bytes, hint: None }
    }

    pub fn of_values(options: &HttpOptions) -> Cap {
        let hint = Some("limits.max_value_bytes is the limit of a value");
        Cap { bytes: options.max_value_bytes, hint }
    }

    pub fn of_transactions(options: &HttpOptions) -> Cap {
        let hint = Some("limits.max_txn_bytes is the limit of a transaction");
        Cap { bytes: options.max_txn_bytes, hint }
    }

    /// The refusal of what is longer.
    pub fn exceeded(self) -> Problem {
        let detail = format!("at most {} bytes are taken here", self.bytes);
        let problem = Problem::new(Code::ValueTooLarge, detail).with("max_bytes", self.bytes);
        match self.hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}
