//! Watchers of overlapping prefixes, each of which has to get every event, and none twice.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::args::Work;
use super::body::Body;
use crate::cluster::client::Running;
use crate::cluster::conure;
use crate::cluster::error::{ClientError, ClusterError};
use crate::cluster::keys::Keys;

/// How many watchers of each length of prefix a write reaches.
const REACHED_OF_EACH_LENGTH: usize = 3;

/// How long the last events may take to come.
const LAST_EVENTS: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the name of an event begins with, in its own line; as long as the longest that is told apart.
const EVENT: &[u8] = b"event: ";
const PUT: &[u8] = b"event: put";

/// Watchers at work.
pub struct Watchers {
    tasks: JoinSet<ClientError>,
    watched: Vec<Watched>,
    /// How often each key had been written when they began.
    before: Vec<u32>,
}

/// What one of them sees: the keys from `first` on, below `end`.
struct Watched {
    prefix: String,
    first: usize,
    end: usize,
    events: Rc<Cell<u64>>,
}

impl Watchers {
    /// Connects them, evenly over all nodes, and waits until each has been told where it begins.
    pub async fn begin(
        count: usize,
        running: &Running,
        keys: &Keys,
    ) -> Result<Watchers, ClusterError> {
        let (tasks, before) = (JoinSet::new(), keys.generations());
        let mut watchers = Watchers { tasks, watched: Vec::with_capacity(count), before };
        let addresses = running.addresses();
        // A watch that is not told begins where its node stands, and a follower may be a moment behind what was acknowledged.
        let status = conure::page(&addresses[0], "/status").await;
        let status = status.map_err(|error| wrong(error.to_string()))?;
        let from = status["revision"].as_u64().unwrap_or(0) + 1;
        for (number, (prefix, first, end)) in prefixes(keys.len()).take(count).enumerate() {
            let address = &addresses[number % addresses.len()];
            let target = format!("/watch?prefix={prefix}&from_revision={from}");
            let failed = |source| ClusterError::Watch { prefix: prefix.clone(), source };
            let mut body =
                Body::open(address, &target, "text/event-stream").await.map_err(failed)?;
            body.next().await.map_err(failed)?;
            let events = Rc::new(Cell::new(0));
            watchers.tasks.spawn_local(count_events(body, events.clone()));
            watchers.watched.push(Watched { prefix, first, end, events });
        }
        Ok(watchers)
    }

    /// Waits until every watcher has every event of what was written; returns how many all have got.
    pub async fn end(mut self, keys: &Keys) -> Result<u64, ClusterError> {
        let sums = sums_of_writes(&self.before, &keys.generations());
        let missing = |watched: &Watched| {
            let Watched { prefix, first, end, events } = watched;
            let (writes, events) = (sums[*end] - sums[*first], events.get());
            writes.checked_sub(events).ok_or_else(|| {
                wrong(format!("a watcher of {prefix} got {events} events of {writes} writes"))
            })
        };
        let deadline = Instant::now() + LAST_EVENTS;
        loop {
            if let Some(ended) = self.tasks.try_join_next() {
                let source =
                    ended.unwrap_or_else(|died| std::panic::resume_unwind(died.into_panic()));
                return Err(ClusterError::Watch { prefix: "(one of them)".into(), source });
            }
            let all = self.watched.iter().map(missing).sum::<Result<u64, _>>()?;
            if all == 0 {
                return Ok(self.watched.iter().map(|watched| watched.events.get()).sum());
            }
            if Instant::now() > deadline {
                return Err(wrong(format!("{all} events did not come within {LAST_EVENTS:?}")));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

fn wrong(what: String) -> ClusterError {
    ClusterError::Beside { work: Work::Watch.name(), what }
}

/// Prefixes, the shortest first, and which keys each has: of every length as many as that a write reaches
/// a few of them, and then those of a single key over and over.
fn prefixes(keys: usize) -> impl Iterator<Item = (String, usize, usize)> {
    let longest = Keys::DIGITS;
    (0..=longest).flat_map(move |length| {
        let block = 10_usize.pow((longest - length) as u32);
        let blocks = keys.div_ceil(block);
        let often = if length == longest { usize::MAX } else { REACHED_OF_EACH_LENGTH };
        // Lengths at which all keys have the same digits say nothing new.
        let often = if blocks == 1 && length > 0 && length < longest { 0 } else { often };
        (0..often).flat_map(move |_| {
            (0..blocks).map(move |number| {
                let name = Keys::name(number * block);
                let prefix = name[..name.len() - (longest - length)].to_owned();
                (prefix, number * block, ((number + 1) * block).min(keys))
            })
        })
    })
}

/// How often the keys below each number were written between two counts.
fn sums_of_writes(before: &[u32], after: &[u32]) -> Vec<u64> {
    let writes = before.iter().zip(after).map(|(before, after)| u64::from(after - before));
    let sums = writes.scan(0, |sum, writes| {
        *sum += writes;
        Some(*sum)
    });
    std::iter::once(0).chain(sums).collect()
}

/// Counts events until the stream breaks, which it never should.
async fn count_events(mut body: Body, events: Rc<Cell<u64>>) -> ClientError {
    // What the line that has not ended begins with.
    let mut line: Vec<u8> = Vec::with_capacity(PUT.len());
    loop {
        let piece = match body.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => return body.refused("the end of the events"),
            Err(error) => return error,
        };
        for (number, part) in piece.split(|&byte| byte == b'\n').enumerate() {
            if number > 0 {
                if line.starts_with(PUT) {
                    events.set(events.get() + 1);
                } else if line.starts_with(EVENT) {
                    return body.refused(&String::from_utf8_lossy(&line));
                }
                line.clear();
            }
            let room = PUT.len() - line.len();
            line.extend_from_slice(&part[..part.len().min(room)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_a_few_prefixes_of_each_length() {
        let keys = 2_345;
        let prefixes: Vec<_> = prefixes(keys).take(3 + 9 + 72 + 705 + 10).collect();
        assert_eq!(prefixes[0], ("bench-".to_owned(), 0, keys));
        assert_eq!(prefixes[3], ("bench-0000000".to_owned(), 0, 1_000));
        assert_eq!(prefixes[5], ("bench-0000002".to_owned(), 2_000, keys));
        for number in [0, 999, 1_000, 2_344] {
            let name = Keys::name(number);
            let reached = |(prefix, first, end): &&(String, usize, usize)| {
                let is_in = name.starts_with(prefix.as_str());
                assert_eq!(is_in, (*first..*end).contains(&number), "{prefix} {name}");
                is_in
            };
            let reached = prefixes.iter().filter(reached).count();
            assert!((12..=13).contains(&reached), "{name}: {reached}");
        }
        assert_eq!(sums_of_writes(&[1, 1, 1], &[1, 3, 2]), [0, 0, 2, 3]);
    }
}
