//! A range of any length as lines of JSON, made as the client reads them.
//!
//! A [`Lines`] is the body of a reply. The protocol layer asks it for the next piece when the socket has taken the
//! last one, so a slow reader slows the walk down and nothing piles up: a piece is some [`PIECE_BYTES`], or
//! one large entry, and is covered by the byte budget while it is held. Between two pieces there is no
//! iterator, only the place where the next one begins; and every other turn is left to the worker's other connections.
//!
//! A reader that stands still would keep an old state of the store, whose pages could not be used again. After
//! [`STALL`] the state is let go; the stream then ends like one that met a damaged page: with a line that has an
//! `error`, and without the mark by which HTTP tells a whole body from one that broke off.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use actix_web::rt;
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::admission::{Hold, Permit};
use super::cursor::Plan;
use super::error::{Code, Problem};
use super::item::{self, Item, Prefix};
use super::page::TURN_ENTRIES;
use crate::actors::messages::{RequestError, View};

/// A piece takes no further entry beyond this many bytes.
const PIECE_BYTES: usize = 32 * 1024;

/// How long a client may leave the next piece.
pub const STALL: Duration = Duration::from_secs(60);

/// The body of a reply. Keeps its place among the reads until it ends.
pub struct Lines {
    source: Arc<Mutex<Source>>,
    plan: Plan,
    /// Entries that may still come, when there is a limit.
    left: Option<usize>,
    /// Covers the piece that was given last.
    hold: Hold,
    gave_way: bool,
    state: State,
    _permit: Permit,
}

/// What is walked; shared with the task that lets it go.
struct Source {
    view: Option<Arc<dyn View>>,
    last_use: Instant,
}

enum State {
    Walking,
    Ended,
    /// The error was told; what follows is the break.
    Broken,
}

impl MessageBody for Lines {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, io::Error>>> {
        self.get_mut().poll(context)
    }
}

impl Lines {
    pub fn new(
        view: Arc<dyn View>,
        plan: Plan,
        limit: Option<usize>,
        hold: Hold,
        permit: Permit,
    ) -> Lines {
        let source = Source { view: Some(view), last_use: Instant::now() };
        let source = Arc::new(Mutex::new(source));
        rt::spawn(let_go(Arc::downgrade(&source)));
        let (state, gave_way) = (State::Walking, true);
        Lines { source, plan, left: limit, hold, gave_way, state, _permit: permit }
    }

    /// The next piece.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, io::Error>>> {
        match self.state {
            State::Ended => return Poll::Ready(None),
            State::Broken => {
                return Poll::Ready(Some(Err(io::Error::other("the range could not be read on"))));
            }
            State::Walking => {}
        }
        self.gave_way = !self.gave_way;
        if self.gave_way {
            // Not by waking itself: the runtime would go on some hundred times before it looks for what came
            // from outside. By this it is woken when the runtime has looked.
            let _ = pin!(yield_now()).poll(context);
            return Poll::Pending;
        }
        let view = {
            let mut source = lock(&self.source);
            source.last_use = Instant::now();
            source.view.clone()
        };
        let piece = match view {
            Some(view) => self.piece(&*view),
            None => Err(stalled()),
        };
        match piece {
            Ok(piece) if piece.is_empty() => Poll::Ready(None),
            Ok(piece) => Poll::Ready(Some(Ok(piece.into()))),
            Err(problem) => {
                self.state = State::Broken;
                let line = format!("{}\n", json!({ "error": problem.document() }));
                Poll::Ready(Some(Ok(line.into())))
            }
        }
    }

    /// Walks on for one piece; empty at the end.
    fn piece(&mut self, view: &dyn View) -> Result<Vec<u8>, Problem> {
        let Lines { plan: rest, left, hold, state, .. } = self;
        *hold = hold.another();
        let mut piece = Vec::new();
        let mut walk = rest.walk(view, rest.keys_only);
        for _ in 0..TURN_ENTRIES {
            if piece.len() >= PIECE_BYTES {
                break;
            }
            let entry = if *left == Some(0) { None } else { walk.next() };
            let Some(entry) = entry else {
                *state = State::Ended;
                break;
            };
            let (key, record) = entry.map_err(unreadable)?;
            let shared = rest.shared_prefix(&key);
            let item = Item::of(&key, &record, rest.keys_only);
            let entry_bytes = match &shared {
                Some(shared) => item::max_json_bytes(shared.len()),
                None => item.max_json_bytes(),
            };
            match piece.is_empty() {
                true => hold.grow(entry_bytes)?,
                false if hold.try_grow(piece.len() + entry_bytes) => {}
                false => break,
            }
            match &shared {
                Some(shared) => push_line(&mut piece, &Prefix(shared)),
                None => push_line(&mut piece, &item),
            }
            *left = left.map(|left| left - 1);
            rest.pass(&key, shared.as_ref());
            if shared.is_some() {
                walk = rest.walk(view, rest.keys_only);
            }
        }
        Ok(piece)
    }
}

fn push_line(piece: &mut Vec<u8>, entry: &impl Serialize) {
    serde_json::to_writer(&mut *piece, entry)
        .expect("memory takes every write, and map keys are strings");
    piece.push(b'\n');
}

fn unreadable(error: RequestError) -> Problem {
    Problem::new(Code::StorageFailed, error.to_string())
}

fn stalled() -> Problem {
    let detail = format!(
        "nothing was read for {} s, and the state is not kept any longer; go on behind the last key with start= \
         and revision=",
        STALL.as_secs()
    );
    Problem::new(Code::Timeout, detail)
}

/// Lets the state go when nobody asks for it any more; ends with the stream.
async fn let_go(source: Weak<Mutex<Source>>) {
    loop {
        let due = {
            let Some(source) = source.upgrade() else { return };
            let mut source = lock(&source);
            let due = source.last_use + STALL;
            if due <= Instant::now() {
                source.view = None;
                return;
            }
            due
        };
        sleep_until(due).await;
    }
}

/// The source is whole after every statement, so a panic elsewhere does not spoil it.
fn lock(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::admission::Admission;
    use super::super::options::HttpOptions;
    use super::super::page::tests::Keys;
    use super::super::pins::tests::Empty;
    use super::*;
    use crate::metrics::Metrics;
    use crate::types::{End, Record};

    fn lines(view: Arc<dyn View>) -> Lines {
        let admission = Admission::new(&HttpOptions::default(), Arc::new(Metrics::new("test")));
        let plan = Plan {
            range: Default::default(),
            reverse: false,
            keys_only: false,
            delimiter: None,
            prefix_len: 0,
        };
        let permit = admission.read().expect("a free place");
        Lines::new(view, plan, None, admission.hold(), permit)
    }

    /// The next piece, however often it gives way.
    fn next(lines: &mut Lines) -> Option<Result<Bytes, io::Error>> {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(piece) = lines.poll(&mut context) {
                return piece;
            }
        }
    }

    #[test]
    fn a_reader_that_stands_still_does_not_keep_the_state() {
        rt::System::new().block_on(async {
            tokio::time::pause();
            let view = Arc::new(Empty(1));
            let mut stalled = lines(view.clone());
            assert_eq!(Arc::strong_count(&view), 2);
            tokio::time::sleep(STALL + Duration::from_millis(2)).await;
            assert_eq!(Arc::strong_count(&view), 1, "it was let go");
            let line = next(&mut stalled).expect("a line").expect("no break yet");
            let line: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
            assert_eq!(line["error"]["code"], "timeout");
            assert!(next(&mut stalled).expect("a break").is_err());
            assert!(next(&mut lines(view)).is_none(), "an empty range ends without a line");
        });
    }

    #[test]
    fn a_stream_that_never_waits_lets_the_worker_look_for_what_comes_from_outside() {
        rt::System::new().block_on(async {
            let record = Record {
                value: vec![b'v'; 1_000].into(),
                create_revision: 1,
                mod_revision: 1,
                version: 1,
                end: End::Never,
            };
            let keys = (0..2_000).map(|n| (Bytes::from(format!("k{n:04}")), record.clone()));
            let view: Arc<dyn View> = Arc::new(Keys(keys.collect()));
            let polls = Rc::new(Cell::new(0));
            let counted = polls.clone();
            let streams = rt::spawn(async move {
                loop {
                    let mut stream = lines(view.clone());
                    let next = |context: &mut Context<'_>| {
                        counted.set(counted.get() + 1);
                        stream.poll(context)
                    };
                    let mut next = std::future::poll_fn(next);
                    while (&mut next).await.is_some() {}
                }
            });
            let (mut here, mut there) = tokio::net::UnixStream::pair().expect("two sockets");
            let reader = rt::spawn(async move { there.read_exact(&mut [0]).await });
            // The reader has found nothing then, and waits in earnest.
            yield_now().await;
            here.write_all(b"x").await.expect("room for a byte");
            let begun = polls.get();
            reader.await.expect("no panic").expect("the byte");
            let until_seen = polls.get() - begun;
            streams.abort();
            assert!(until_seen < 40, "{until_seen} polls");
        });
    }
}
