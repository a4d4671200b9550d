//! The id of a request, and where its time goes.
//!
//! A request brings its id in `X-Request-Id`, or gets one here. It goes back in the reply's header and in problem
//! documents, into what is logged of the request, and with a write to the leader, so that the lines of several nodes
//! can be put together.
//!
//! What belongs to a request is found through the task that answers it, so that no handler has to pass it on.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderValue;
use tokio::time::Instant;

use super::headers::REQUEST_ID;

/// Longest id that is taken from a request, in bytes.
const MAX_ID_BYTES: usize = 128;

tokio::task_local! {
    static CURRENT: Rc<Current>;
}

/// Makes the ids of requests that bring none: unique in this process by a counter, among processes by a number that
/// was drawn at its start.
pub struct Ids {
    base: u64,
    last: AtomicU64,
}

impl Ids {
    pub fn new(base: u64) -> Ids {
        Ids { base, last: AtomicU64::new(0) }
    }

    fn next(&self) -> Arc<str> {
        let nth = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        format!("{:016x}-{nth:x}", self.base).into()
    }
}

/// A request that is being answered.
pub struct Current {
    pub id: Arc<str>,
    body: Cell<Duration>,
    node: Cell<Duration>,
}

impl Current {
    pub fn of(request: &HttpRequest, ids: &Ids) -> Rc<Current> {
        let given = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
        let id = given.filter(|id| is_sane(id)).map_or_else(|| ids.next(), Arc::from);
        Rc::new(Current { id, body: Cell::default(), node: Cell::default() })
    }

    /// Its id as a header.
    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.id).expect("an id is visible ASCII")
    }

    /// How long its body took to arrive.
    pub fn body_time(&self) -> Duration {
        self.body.get()
    }

    /// How long the node took to answer what the request asked of it.
    pub fn node_time(&self) -> Duration {
        self.node.get()
    }

    /// Answers the request as this one.
    pub async fn scope<F: Future>(self: Rc<Current>, answer: F) -> F::Output {
        CURRENT.scope(self, answer).await
    }
}

/// Ids go to logs and headers as they are.
fn is_sane(id: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@~".contains(&byte);
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(fits)
}

/// The id of the request that is being answered.
pub fn id() -> Option<Arc<str>> {
    CURRENT.try_with(|current| current.id.clone()).ok()
}

/// Waits for the node, on the request's account.
pub async fn asking<F: Future>(question: F) -> F::Output {
    timed(question, |current| &current.node).await
}

/// Waits for the request's body.
pub async fn reading<F: Future>(body: F) -> F::Output {
    timed(body, |current| &current.body).await
}

async fn timed<F: Future>(wait: F, account: fn(&Current) -> &Cell<Duration>) -> F::Output {
    let begun = Instant::now();
    let output = wait.await;
    // Outside a request, in a test of a part, nobody asks.
    let _ = CURRENT.try_with(|current| {
        let account = account(current);
        account.set(account.get() + begun.elapsed());
    });
    output
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_sane_id_is_kept_and_another_replaced() {
        let ids = Ids::new(0xabc);
        let id = |given: &str| {
            let request = TestRequest::default().insert_header((REQUEST_ID, given));
            Current::of(&request.to_http_request(), &ids).id.to_string()
        };
        let longest = "x".repeat(MAX_ID_BYTES);
        for given in ["7f3a", "req-1.2:3/4", &longest] {
            assert_eq!(id(given), given);
        }
        let made = ["", "two words", "a\"b", "a\\b", "ä", &format!("{longest}x")].map(id);
        for (nth, made) in made.iter().enumerate() {
            assert_eq!(*made, format!("0000000000000abc-{:x}", nth + 1));
        }
    }

    #[actix_web::test]
    async fn waiting_is_put_to_the_request_that_waits() {
        tokio::time::pause();
        let request = TestRequest::default().to_http_request();
        let current = Current::of(&request, &Ids::new(1));
        let second = Duration::from_secs(1);
        current
            .clone()
            .scope(async {
                reading(tokio::time::sleep(second)).await;
                asking(tokio::time::sleep(2 * second)).await;
                asking(tokio::time::sleep(second)).await;
                assert_eq!(id(), Some("0000000000000001-1".into()));
            })
            .await;
        let second = second.as_secs();
        let times = [current.body_time(), current.node_time()].map(|time| time.as_secs());
        assert_eq!((times, id()), ([second, 3 * second], None));
    }
}
