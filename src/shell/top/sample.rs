//! A look at all members, and what happened between two of them.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::client::{Client, ClientError, Member, Observation, Samples};

const REQUESTS: &str = "conuredb_http_requests_total";
const LATENCY: &str = "conuredb_http_request_duration_seconds_bucket";

/// Routes whose requests are the store's work, and not questions about the node.
const WORK: [&str; 2] = ["route=\"kv\"", "route=\"txn\""];

/// What each member said, in the members' order.
pub struct Look {
    members: Vec<(Member, Result<Observation, String>)>,
}

/// A member, as `top` shows it. What is not known is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    pub node: String,
    pub http: String,
    /// Why there is nothing else.
    pub silence: Option<String>,
    pub role: String,
    pub term: u64,
    /// Entries behind the leader, as the leader counts them.
    pub lag: Option<u64>,
    pub applied_index: u64,
    pub revision: u64,
    pub reads_per_second: Option<f64>,
    pub writes_per_second: Option<f64>,
    pub p50: Option<Duration>,
    pub p99: Option<Duration>,
    /// Of the database file and the log.
    pub disk_bytes: u64,
}

impl Look {
    /// Asks whichever server answers who the members are, and then all of them at once, each for `limit` at most.
    pub async fn at_all(client: &Client, limit: Duration) -> Result<Look, ClientError> {
        let members = client.members().await?;
        let asked = members.servers.into_iter().map(async |member| {
            let said = match member.http_address.as_str() {
                "" => Err("it has told no HTTP address".to_owned()),
                server => client.look_at(server, limit).await.map_err(|error| reason(&error)),
            };
            (member, said)
        });
        Ok(Look { members: join_all(asked).await })
    }

    /// A row for each member; what is counted, since the look `before`.
    pub fn since(&self, before: &Look) -> Vec<Row> {
        let seen = self.members.iter().filter_map(|(_, said)| said.as_ref().ok());
        let leader = seen.filter(|seen| seen.status.is_leader).max_by_key(|seen| seen.status.term);
        let lag_of = |name: &str| leader.and_then(|leader| leader.stats.peers.get(name)?.lag);
        let earlier: BTreeMap<&str, &Observation> = before
            .members
            .iter()
            .filter_map(|(member, said)| Some((member.id.as_str(), said.as_ref().ok()?)))
            .collect();
        let row = |(member, said): &(Member, Result<Observation, String>)| {
            let known = Row {
                node: member.id.clone(),
                http: member.http_address.clone(),
                lag: lag_of(&member.id),
                ..Row::default()
            };
            match said {
                Err(why) => Row { silence: Some(why.clone()), ..known },
                Ok(now) => {
                    let between =
                        earlier.get(member.id.as_str()).and_then(|then| Between::new(then, now));
                    let rate = |reads| between.as_ref().map(|between| between.rate(reads));
                    let latency = |share| between.as_ref()?.latency(share);
                    Row {
                        role: now.status.role.clone(),
                        term: now.status.term,
                        applied_index: now.status.applied_index,
                        revision: now.status.revision,
                        reads_per_second: rate(true),
                        writes_per_second: rate(false),
                        p50: latency(0.5),
                        p99: latency(0.99),
                        disk_bytes: now.status.db_bytes + now.stats.log_bytes,
                        ..known
                    }
                }
            }
        };
        self.members.iter().map(row).collect()
    }
}

/// Two looks at one life of a node.
struct Between<'a> {
    then: &'a Samples,
    now: &'a Samples,
    seconds: f64,
}

impl<'a> Between<'a> {
    /// None without time between them, and when the node was started anew: it counts from zero again.
    fn new(then: &'a Observation, now: &'a Observation) -> Option<Between<'a>> {
        let seconds = now.at.saturating_duration_since(then.at).as_secs_f64();
        let total = |samples: &Samples| samples.of(REQUESTS).map(|(_, value)| value).sum::<f64>();
        let is_one_life = total(&now.metrics) >= total(&then.metrics);
        (seconds > 0.0 && is_one_life).then_some(Between {
            then: &then.metrics,
            now: &now.metrics,
            seconds,
        })
    }

    /// Reads or writes a second.
    fn rate(&self, reads: bool) -> f64 {
        let count = |samples: &Samples| -> f64 {
            let of_kind = |labels: &[&str]| {
                let is_read =
                    labels.contains(&"method=\"GET\"") || labels.contains(&"method=\"HEAD\"");
                is_work(labels) && is_read == reads
            };
            samples.of(REQUESTS).filter(|(labels, _)| of_kind(labels)).map(|(_, value)| value).sum()
        };
        (count(self.now) - count(self.then)) / self.seconds
    }

    /// The bound below which this share of the requests was answered. None without requests, and when they
    /// took longer than the last bound.
    fn latency(&self, share: f64) -> Option<Duration> {
        let counts = |samples: &Samples| -> Vec<(f64, f64)> {
            let mut counts: Vec<(f64, f64)> = Vec::new();
            for (labels, value) in samples.of(LATENCY).filter(|(labels, _)| is_work(labels)) {
                let Some(bound) = labels.iter().find_map(|label| bound(label)) else { continue };
                match counts.iter_mut().find(|(known, _)| *known == bound) {
                    Some((_, count)) => *count += value,
                    None => counts.push((bound, value)),
                }
            }
            counts.sort_by(|(one, _), (other, _)| one.total_cmp(other));
            counts
        };
        let then: Vec<(f64, f64)> = counts(self.then);
        let earlier =
            |at: f64| then.iter().find(|(bound, _)| *bound == at).map_or(0.0, |(_, count)| *count);
        let now: Vec<(f64, f64)> = counts(self.now)
            .into_iter()
            .map(|(bound, count)| (bound, count - earlier(bound)))
            .collect();
        let all = now.last().map(|(_, count)| *count).filter(|all| *all > 0.0)?;
        let (bound, _) = now.iter().find(|(_, count)| *count >= all * share)?;
        bound.is_finite().then(|| Duration::from_secs_f64(*bound))
    }
}

fn is_work(labels: &[&str]) -> bool {
    labels.iter().any(|label| WORK.contains(label))
}

/// The bound of a bucket, from its label.
fn bound(label: &str) -> Option<f64> {
    match label.strip_prefix("le=\"")?.strip_suffix('"')? {
        "+Inf" => Some(f64::INFINITY),
        number => number.parse().ok(),
    }
}

/// Why a member gives no answer, in few words.
fn reason(error: &ClientError) -> String {
    match error {
        ClientError::Unreachable { .. } => "not reachable".to_owned(),
        ClientError::Lost { .. } | ClientError::Silent { .. } => "no answer".to_owned(),
        other => other.to_string(),
    }
}

impl Row {
    pub fn cells(&self) -> Vec<String> {
        let dash = || "-".to_owned();
        let lag = self.lag.map_or_else(dash, |lag| lag.to_string());
        if let Some(why) = &self.silence {
            let nothing = || dash();
            return vec![
                self.node.clone(),
                why.clone(),
                nothing(),
                lag,
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                self.http.clone(),
            ];
        }
        let rate = |rate: Option<f64>| rate.map_or_else(dash, |rate| format!("{rate:.0}"));
        let time = |time: Option<Duration>| time.map_or_else(dash, |time| format!("{time:.1?}"));
        vec![
            self.node.clone(),
            self.role.clone(),
            self.term.to_string(),
            lag,
            self.applied_index.to_string(),
            self.revision.to_string(),
            rate(self.reads_per_second),
            rate(self.writes_per_second),
            time(self.p50),
            time(self.p99),
            size(self.disk_bytes),
            self.http.clone(),
        ]
    }

    pub fn json(&self) -> Value {
        let Row { node, http, silence, role, term, lag, applied_index, revision, .. } = self;
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        match silence {
            Some(why) => {
                json!({ "id": node, "http_address": http, "reachable": false, "error": why, "lag": lag })
            }
            None => json!({
                "id": node, "http_address": http, "reachable": true, "role": role, "term": term, "lag": lag,
                "applied_index": applied_index, "revision": revision,
                "reads_per_second": self.reads_per_second, "writes_per_second": self.writes_per_second,
                "p50_seconds": seconds(self.p50), "p99_seconds": seconds(self.p99),
                "disk_bytes": self.disk_bytes,
            }),
        }
    }
}

/// Bytes as a person reads them.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::client::{Peer, Stats, Status};

    fn seen(role: &str, at: Instant, metrics: &str) -> Observation {
        let peer = |lag| Peer { match_index: Some(1), lag: Some(lag) };
        let peers = BTreeMap::from([("node2".to_owned(), peer(0)), ("node3".to_owned(), peer(7))]);
        Observation {
            status: Status {
                role: role.to_owned(),
                is_leader: role == "leader",
                term: 4,
                db_bytes: 4096,
                ..Status::default()
            },
            stats: Stats { log_bytes: 4096, peers, ..Stats::default() },
            metrics: Samples::read(metrics),
            at,
        }
    }

    fn look(said: Vec<Result<Observation, String>>) -> Look {
        let member = |number| Member { id: format!("node{number}"), ..Member::default() };
        Look { members: (1..).map(member).zip(said).collect() }
    }

    fn metrics(gets: u64, puts: u64, quick: u64, all: u64) -> String {
        format!(
            "{REQUESTS}{{route=\"kv\",method=\"GET\",status=\"200\"}} {gets}\n\
             {REQUESTS}{{route=\"kv\",method=\"PUT\",status=\"200\"}} {puts}\n\
             {REQUESTS}{{route=\"status\",method=\"GET\",status=\"200\"}} 1000\n\
             {LATENCY}{{le=\"0.001\",route=\"kv\"}} {quick}\n{LATENCY}{{le=\"0.1\",route=\"kv\"}} {all}\n\
             {LATENCY}{{le=\"+Inf\",route=\"kv\"}} {all}\n"
        )
    }

    #[test]
    fn what_is_counted_is_what_came_between_two_looks() {
        let then = Instant::now();
        let now = then + Duration::from_secs(2);
        let before = look(vec![Ok(seen("leader", then, &metrics(10, 5, 10, 15)))]);
        let after = look(vec![Ok(seen("leader", now, &metrics(30, 6, 29, 36)))]);
        let row = &after.since(&before)[0];
        assert_eq!((row.reads_per_second, row.writes_per_second), (Some(10.0), Some(0.5)));
        // 19 of 21 were quick.
        assert_eq!(row.p50, Some(Duration::from_millis(1)));
        assert_eq!(row.p99, Some(Duration::from_millis(100)));
        assert_eq!(row.disk_bytes, 8192);

        let first = &after.since(&after)[0];
        assert_eq!((first.reads_per_second, first.p99), (None, None));
        let restarted = look(vec![Ok(seen("leader", now, &metrics(1, 0, 0, 0)))]);
        assert_eq!(restarted.since(&before)[0].reads_per_second, None);
    }

    #[test]
    fn lag_is_what_the_leader_says_and_a_silent_member_stays_in_the_table() {
        let now = Instant::now();
        let all = look(vec![
            Ok(seen("leader", now, "")),
            Ok(seen("follower", now, "")),
            Err("not reachable".to_owned()),
        ]);
        let rows = all.since(&all);
        assert_eq!(rows.iter().map(|row| row.lag).collect::<Vec<_>>(), [None, Some(0), Some(7)]);
        assert_eq!(rows[2].cells()[..4], ["node3", "not reachable", "-", "7"]);
        assert_eq!(rows[2].json()["reachable"], false);
        assert_eq!(rows[0].json()["role"], "leader");
    }
}
