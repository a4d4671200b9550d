//! Entries on their way to a peer: several requests on the connection, answered in their order.
//!
//! openraft makes requests as there are entries, and by itself sends one when the one before was answered. A connection
//! keeps order and the peer answers in order, so that here a request leaves while others are under way, up to a
//! bound in number and in bytes. The peer makes durable at once what came meanwhile.
//!
//! A request without entries tells the peer what is committed. It is made when none has been under way for [`PATIENCE`]; else
//! the next one with entries says that, too. Where there are reads it does not wait, since openraft's question to a quorum is such a
//! request, and a follower's reads wait for what is committed. That none is under way is more than thrift. openraft takes an answer for one to every request that it has made and
//! that ends where the answered one does, and takes the time at which the last of them was made for one at which the peer
//! still followed. Leases and reads rest on that time. So a request without entries must not be made while one
//! that ends at the same entry is under way; should it happen, the answers to those before it are kept back, and its own
//! stands for them.
//!
//! The first answer that is not a plain success ends the stream. What was sent behind it may still arrive:
//! Raft bears that from any network.

use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{self, FuturesOrdered, Stream, StreamExt};
use openraft::base::BoxStream;
use openraft::errors::RPCError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendResult};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::types::{RaftLogId, TypeConfig, expected_bytes};

type Request = AppendEntriesRequest<TypeConfig>;
type Answer = std::result::Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>>;

/// What openraft is told of a request.
pub type Result = std::result::Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// Requests under way to one peer, at most.
const REQUESTS: usize = 32;

/// Bytes of entries under way to one peer from which on the next request waits: what a peer that hangs can hold.
const BYTES: usize = 8 * 1024 * 1024;

/// Time for the next entries to tell a peer what is committed, before a request of its own does: one client that writes
/// without a pause sends its next put sooner. A peer applies that much later, and promises nobody to be sooner.
pub const PATIENCE: Duration = Duration::from_millis(1);

/// What a request is about: the entry before its own, its last one, and the bytes of all.
#[derive(Clone, Copy)]
struct About {
    before: Option<RaftLogId>,
    last: Option<RaftLogId>,
    len_bytes: usize,
}

impl About {
    fn of(request: &Request) -> About {
        About {
            before: request.prev_log_id,
            last: request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id),
            len_bytes: expected_bytes(&request.entries),
        }
    }

    /// What openraft wants to know of an answer, and whether there can be more behind it.
    fn result(self, answer: Answer) -> (Result, bool) {
        let response = match answer {
            Ok(response) => response,
            Err(error) => return (Err(error), false),
        };
        let stops_short = matches!(
            &response,
            AppendEntriesResponse::PartialSuccess(upto) if *upto != self.last
        );
        let result = response.into_stream_result(self.before, self.last);
        let goes_on = result.is_ok() && !stops_short;
        (Ok(result), goes_on)
    }
}

struct Pipeline<S, F, A>
where
    A: Future,
{
    requests: Pin<Box<S>>,
    /// Whether there may be more of them.
    goes_on: bool,
    send: F,
    signals: Signals,
    patience: Duration,
    /// The index behind the last entry of the last request.
    requested_end: u64,
    /// When a request without entries may leave.
    tells_at: Instant,
    under_way: FuturesOrdered<A>,
    bytes_under_way: usize,
    /// So many answers are kept back.
    kept_back: usize,
}

/// What requests depend on besides openraft.
#[derive(Clone)]
pub struct Signals {
    /// The index behind the last entry of the log that the requests are made from.
    pub log_end: watch::Receiver<u64>,
    /// Until then requests without entries leave at once: reads go by their answers.
    pub hurry_until: watch::Receiver<Instant>,
}

/// Sends `requests` by `send`, those without entries with so much `patience`, and gives what openraft wants to know of the answers.
pub fn run<'a, S, F, A>(
    requests: S,
    signals: Signals,
    patience: Duration,
    send: F,
) -> BoxStream<'a, Result>
where
    S: Stream<Item = Request> + Send + 'a,
    F: Fn(Request) -> A + Send + 'a,
    A: Future<Output = Answer> + Send + 'a,
{
    let send = move |about: About, request| {
        let answer = send(request);
        async move { (about, answer.await) }
    };
    let pipeline = Pipeline {
        requests: Box::pin(requests),
        goes_on: true,
        send,
        signals,
        patience,
        requested_end: 0,
        tells_at: Instant::now(),
        under_way: FuturesOrdered::new(),
        bytes_under_way: 0,
        kept_back: 0,
    };
    Box::pin(stream::unfold(Some(pipeline), async |pipeline| {
        let mut pipeline = pipeline?;
        let (result, goes_on) = pipeline.next_result().await?;
        Some((result, goes_on.then_some(pipeline)))
    }))
}

impl<S, F, A> Pipeline<S, F, A>
where
    S: Stream<Item = Request>,
    F: Fn(About, Request) -> A,
    A: Future<Output = (About, Answer)>,
{
    /// What the next answer amounts to, while requests leave; `None` after the last.
    async fn next_result(&mut self) -> Option<(Result, bool)> {
        loop {
            let is_idle = self.under_way.is_empty();
            let has_room = self.under_way.len() < REQUESTS && self.bytes_under_way < BYTES;
            let is_due = self.is_due();
            tokio::select! {
                biased;
                Some((about, answer)) = self.under_way.next() => {
                    self.bytes_under_way -= about.len_bytes;
                    self.tells_at = Instant::now() + self.patience;
                    let (result, goes_on) = about.result(answer);
                    let is_kept_back = self.kept_back > 0 && goes_on;
                    self.kept_back = self.kept_back.saturating_sub(1);
                    if !is_kept_back {
                        return Some((result, goes_on));
                    }
                }
                request = self.requests.next(), if self.goes_on && has_room && is_due => {
                    match request {
                        Some(request) => self.begin(request),
                        None => self.goes_on = false,
                    }
                }
                Ok(()) = self.signals.log_end.changed(), if self.goes_on && !is_due => {}
                Ok(()) = self.signals.hurry_until.changed(), if self.goes_on && !is_due && is_idle => {}
                () = sleep_until(self.tells_at), if self.goes_on && !is_due && is_idle => {}
                else => return None,
            }
        }
    }

    /// Whether openraft's next request may leave, by what it can be.
    fn is_due(&mut self) -> bool {
        let has_entries = *self.signals.log_end.borrow_and_update() > self.requested_end;
        let mut may_tell = || {
            let now = Instant::now();
            now >= self.tells_at || now < *self.signals.hurry_until.borrow_and_update()
        };
        has_entries || self.under_way.is_empty() && may_tell()
    }

    fn begin(&mut self, request: Request) {
        let about = About::of(&request);
        if request.entries.is_empty() {
            self.kept_back = self.under_way.len();
        }
        self.requested_end = about.last.map_or(0, |id| id.index + 1);
        self.bytes_under_way += about.len_bytes;
        self.under_way.push_back((self.send)(about, request));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::FutureExt;
    use openraft::EntryPayload;
    use openraft::raft::StreamAppendError;
    use tokio::sync::{mpsc, oneshot};
    use tokio::time::advance;

    use super::*;
    use crate::actors::raft::types::{Entry, Vote, raft_log_id};
    use crate::types::LogId;

    fn at(index: u64) -> RaftLogId {
        raft_log_id(LogId { term: 1, index })
    }

    /// A request for the entries behind `before`, up to `last`.
    fn request(before: u64, last: u64) -> Request {
        let entry = |index| Entry { log_id: at(index), payload: EntryPayload::Blank };
        Request {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(at(before)),
            entries: (before + 1..=last).map(entry).collect(),
            leader_commit: None,
        }
    }

    type Reply = oneshot::Sender<Answer>;

    /// A peer that answers when it is told to.
    struct Peer {
        requests: mpsc::UnboundedSender<Request>,
        log_end: watch::Sender<u64>,
        hurry_until: watch::Sender<Instant>,
        /// What arrived, by the index before it and the number of entries.
        arrived: Arc<Mutex<Vec<(u64, usize)>>>,
        replies: Arc<Mutex<Vec<Option<Reply>>>>,
        answers: BoxStream<'static, Result>,
    }

    impl Peer {
        fn new() -> Peer {
            let (requests, mut queue) = mpsc::unbounded_channel();
            let (arrived, replies) =
                <(Arc<Mutex<Vec<_>>>, Arc<Mutex<Vec<Option<Reply>>>>)>::default();
            let noted = (arrived.clone(), replies.clone());
            let send = move |request: Request| {
                let (reply, answer) = oneshot::channel();
                let before = request.prev_log_id.map_or(0, |id| id.index);
                noted.0.lock().unwrap().push((before, request.entries.len()));
                noted.1.lock().unwrap().push(Some(reply));
                async move { answer.await.expect("a peer that lives") }
            };
            let requests_of = stream::poll_fn(move |cx| queue.poll_recv(cx));
            let log_end = watch::Sender::new(0);
            let hurry_until = watch::Sender::new(Instant::now());
            let signals =
                Signals { log_end: log_end.subscribe(), hurry_until: hurry_until.subscribe() };
            let answers = run(requests_of, signals, PATIENCE, send);
            Peer { requests, log_end, hurry_until, arrived, replies, answers }
        }

        /// One that has just acknowledged the first entries, and is to be told that they are committed.
        fn to_be_told() -> Peer {
            let mut peer = Peer::new();
            peer.ask(request(0, 2));
            assert_eq!(peer.acknowledged(), None);
            peer.answer(0, Success);
            assert_eq!(peer.acknowledged(), Some(2));
            peer.ask(request(2, 2));
            peer
        }

        fn ask(&self, request: Request) {
            let end = request.entries.last().map_or(0, |entry| entry.log_id.index + 1);
            self.log_end
                .send_if_modified(|log_end| std::mem::replace(log_end, end.max(*log_end)) < end);
            self.requests.send(request).unwrap();
        }

        /// Answers the nth request that arrived.
        fn answer(&self, nth: usize, response: AppendEntriesResponse<TypeConfig>) {
            let reply = self.replies.lock().unwrap()[nth].take().expect("one answer to each");
            assert!(reply.send(Ok(response)).is_ok());
        }

        /// What openraft is told now; `None` when nothing.
        fn told(&mut self) -> Option<Option<Result>> {
            self.answers.next().now_or_never()
        }

        fn acknowledged(&mut self) -> Option<u64> {
            match self.told() {
                Some(Some(Ok(Ok(upto)))) => upto.map(|id| id.index),
                None => None,
                other => panic!("told {other:?}"),
            }
        }

        fn arrived(&self) -> Vec<(u64, usize)> {
            self.arrived.lock().unwrap().clone()
        }
    }

    use AppendEntriesResponse::{Conflict, PartialSuccess, Success};

    #[tokio::test(start_paused = true)]
    async fn requests_leave_while_others_are_under_way_and_their_answers_keep_their_order() {
        let mut peer = Peer::new();
        (0..3).for_each(|n| peer.ask(request(n, n + 1)));
        assert_eq!(peer.acknowledged(), None);
        assert_eq!(peer.arrived(), [(0, 1), (1, 1), (2, 1)]);
        peer.answer(1, Success);
        assert_eq!(peer.acknowledged(), None, "the first is not answered");
        peer.answer(0, Success);
        assert_eq!([peer.acknowledged(), peer.acknowledged()], [Some(1), Some(2)]);
        assert_eq!(peer.acknowledged(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_without_entries_is_not_asked_for_while_others_are_under_way() {
        let mut peer = Peer::new();
        peer.ask(request(0, 2));
        peer.ask(request(2, 2));
        assert_eq!(peer.acknowledged(), None);
        assert_eq!(peer.arrived(), [(0, 2)]);
        peer.answer(0, Success);
        assert_eq!([peer.acknowledged(), peer.acknowledged()], [Some(2), None]);
        assert_eq!(peer.arrived(), [(0, 2)], "entries may come that tell the same");
        advance(PATIENCE).await;
        assert_eq!(peer.acknowledged(), None);
        assert_eq!(peer.arrived(), [(0, 2), (2, 0)]);
        peer.ask(request(2, 3));
        assert_eq!(peer.acknowledged(), None);
        assert_eq!(peer.arrived().last(), Some(&(2, 1)), "entries wait for nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn the_patience_ends_by_itself() {
        let mut peer = Peer::to_be_told();
        let told = tokio::time::timeout(2 * PATIENCE, peer.answers.next());
        assert!(told.await.is_err(), "the peer has not answered");
        assert_eq!(peer.arrived(), [(0, 2), (2, 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_waits_where_there_are_reads() {
        let mut peer = Peer::to_be_told();
        assert_eq!([peer.acknowledged(), peer.acknowledged()], [None, None]);
        assert_eq!(peer.arrived(), [(0, 2)]);
        peer.hurry_until.send_replace(Instant::now() + PATIENCE / 2);
        assert_eq!(peer.acknowledged(), None);
        assert_eq!(peer.arrived(), [(0, 2), (2, 0)]);
        peer.answer(1, Success);
        assert_eq!(peer.acknowledged(), Some(2));
        peer.ask(request(2, 2));
        assert_eq!(peer.acknowledged(), None);
        assert_eq!(peer.arrived().len(), 3, "the hurry goes on");
        peer.answer(2, Success);
        advance(PATIENCE / 2).await;
        assert_eq!(peer.acknowledged(), Some(2));
        peer.ask(request(2, 2));
        assert_eq!(peer.acknowledged(), None);
        assert_eq!(peer.arrived().len(), 3, "the hurry is over");
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_to_one_without_entries_stands_for_those_before_it() {
        let mut peer = Peer::new();
        peer.ask(request(0, 2));
        peer.log_end.send_replace(9); // entries that openraft does not know of yet
        peer.ask(request(2, 2));
        assert_eq!(peer.acknowledged(), None);
        assert_eq!(peer.arrived(), [(0, 2), (2, 0)]);
        peer.answer(0, Success);
        assert_eq!(peer.acknowledged(), None, "it would be taken for an answer to both");
        peer.answer(1, Success);
        assert_eq!([peer.acknowledged(), peer.acknowledged()], [Some(2), None]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_hangs_holds_a_bounded_number_of_requests() {
        let mut peer = Peer::new();
        (0..2 * REQUESTS as u64).for_each(|n| peer.ask(request(n, n + 1)));
        assert_eq!(peer.acknowledged(), None);
        assert_eq!(peer.arrived().len(), REQUESTS);
        peer.answer(0, Success);
        assert_eq!([peer.acknowledged(), peer.acknowledged()], [Some(1), None]);
        assert_eq!(peer.arrived().len(), REQUESTS + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_answer_that_is_no_plain_success_is_the_last() {
        let conflict = |told: &Option<Option<Result>>| match told {
            Some(Some(Ok(Err(StreamAppendError::Conflict(at))))) => Some(at.index),
            _ => None,
        };
        for response in [Conflict, PartialSuccess(Some(at(5)))] {
            let mut peer = Peer::new();
            peer.ask(request(4, 6));
            peer.ask(request(6, 7));
            assert_eq!(peer.acknowledged(), None);
            let is_conflict = matches!(response, Conflict);
            peer.answer(0, response);
            let told = peer.told();
            match is_conflict {
                true => assert_eq!(conflict(&told), Some(4), "{told:?}"),
                false => assert!(matches!(told, Some(Some(Ok(Ok(Some(id))))) if id.index == 5)),
            }
            assert!(matches!(peer.told(), Some(None)), "the stream has ended");
        }
    }
}
