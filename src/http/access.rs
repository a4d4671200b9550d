//! What is logged of requests: each at debug level, and at warn those that took long.
//!
//! A line names the request by its id, method and route, the key by its length and its beginning, and says where the
//! time went: until the body was there, and while the node was asked. Values are never logged, nor are the texts of
//! queries, which may hold them. Time ends with the head of the reply: a watch is not slow because it lasts.
//!
//! When all is slow, lines about it would make it slower: in a second there are [`MAX_SLOW_LINES`], and the next
//! says how many were left out. The metric counts all.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use actix_web::HttpRequest;
use tokio::time::Instant;

use super::State;
use super::route::method_label;
use super::trace::Current;

/// Lines about slow requests in one second.
const MAX_SLOW_LINES: u32 = 20;

/// Characters of a key that are told, as it was written in the request.
const KEY_CHARS: usize = 64;

const ACCESS: &str = "conuredb::http::access";
const SLOW: &str = "conuredb::http::slow";

/// A request that was answered.
pub struct Finished<'a> {
    pub request: &'a HttpRequest,
    pub current: &'a Current,
    pub route: &'static str,
    /// What the path says for its parameter, and how that is called.
    pub rest: Option<&'a str>,
    pub named: &'static str,
    pub status: u16,
    pub elapsed: Duration,
}

impl Finished<'_> {
    /// Logs it, if it is to be.
    pub fn tell(&self, state: &State) {
        if log::log_enabled!(target: ACCESS, log::Level::Debug) {
            self.line(ACCESS, log::Level::Debug, "answered", state);
        }
        let limit = state.options.slow_request;
        if limit.is_zero() || self.elapsed < limit {
            return;
        }
        state.metrics.http_slow_requests.inc();
        if let Some(left_out) = state.slow_lines.take(Instant::now()) {
            if left_out > 0 {
                log::warn!(target: SLOW, "{left_out} more requests were slow");
            }
            self.line(SLOW, log::Level::Warn, "slow", state);
        }
    }

    fn line(&self, target: &str, level: log::Level, what: &str, state: &State) {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let client = self.request.peer_addr().map_or_else(String::new, |from| from.to_string());
        let key = Spelt::of(self.rest, self.request.uri().query());
        log::log!(
            target: target,
            level,
            "{what} request_id={} method={} route={} {named}={} {named}_bytes={} status={} ms={} body_ms={} node_ms={} \
             served_by={} client={client}",
            self.current.id,
            method_label(self.request.method()),
            self.route,
            key.text,
            key.len_bytes,
            self.status,
            ms(self.elapsed),
            ms(self.current.body_time()),
            ms(self.current.node_time()),
            state.options.node_name,
            named = self.named,
        );
    }
}

/// How a request wrote its key, or the prefix of its range.
struct Spelt {
    text: String,
    len_bytes: usize,
}

impl Spelt {
    fn of(rest: Option<&str>, query: Option<&str>) -> Spelt {
        let in_query = || {
            let mut pairs = query.unwrap_or_default().split('&');
            pairs.find_map(|pair| pair.strip_prefix("key=").or(pair.strip_prefix("prefix=")))
        };
        let written = rest.or_else(in_query).unwrap_or_default();
        // It may be no proper spelling of anything: the request may have been refused for that.
        let escapes = written.bytes().filter(|byte| *byte == b'%').count();
        let mut text = written.chars().take(KEY_CHARS).flat_map(char::escape_default).collect();
        if written.chars().nth(KEY_CHARS).is_some() {
            text = format!("{text}…");
        }
        Spelt { text, len_bytes: written.len().saturating_sub(2 * escapes) }
    }
}

/// Bounds the lines of a second.
#[derive(Default)]
pub struct SlowLines(Mutex<Second>);

#[derive(Default)]
struct Second {
    begun: Option<Instant>,
    told: u32,
    left_out: u64,
}

impl SlowLines {
    /// Whether there may be another line now; if so, how many were left out before it.
    fn take(&self, now: Instant) -> Option<u64> {
        let mut second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if second.begun.is_none_or(|begun| now >= begun + Duration::from_secs(1)) {
            second.begun = Some(now);
            second.told = 0;
        }
        if second.told >= MAX_SLOW_LINES {
            second.left_out += 1;
            return None;
        }
        second.told += 1;
        Some(std::mem::take(&mut second.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_by_its_length_and_its_beginning_and_a_value_never() {
        let spelt = |rest, query| {
            let Spelt { text, len_bytes } = Spelt::of(rest, query);
            (text, len_bytes)
        };
        let is = |text: &str, len_bytes| (text.to_owned(), len_bytes);
        assert_eq!(spelt(Some("a%2fb"), None), is("a%2fb", 3));
        assert_eq!(spelt(None, Some("value=secret&key=k")), is("k", 1));
        assert_eq!(spelt(None, Some("prefix=user/&limit=1")), is("user/", 5));
        assert_eq!(spelt(None, Some("value=secret")), is("", 0));
        assert_eq!(spelt(Some("%%%"), None), is("%%%", 0));
        let (text, len_bytes) = spelt(Some(&"k".repeat(4_096)), None);
        assert_eq!((text.chars().count(), len_bytes), (KEY_CHARS + 1, 4_096));
    }

    #[test]
    fn lines_about_slow_requests_are_bounded_and_say_what_is_missing() {
        let (lines, begun) = (SlowLines::default(), Instant::now());
        let told = (0..50).filter(|_| lines.take(begun).is_some()).count();
        assert_eq!(told, MAX_SLOW_LINES as usize);
        let later = begun + Duration::from_secs(1);
        assert_eq!(lines.take(later), Some(30));
        assert_eq!(lines.take(later), Some(0));
    }
}
