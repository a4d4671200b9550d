//! What one node says of itself, asked once and of no other: for whoever looks at every member of a cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::Client;
use super::call::{Call, Failure, Reply};
use super::cluster::{Members, Status};
use super::error::ClientError;
use super::servers::base_url;

/// A node at one moment.
#[derive(Clone, Debug)]
pub struct Observation {
    pub status: Status,
    pub stats: Stats,
    pub metrics: Samples,
    /// When it was complete, for what is counted between two of them.
    pub at: Instant,
}

/// What Raft counts, as far as it is of use to a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Stats {
    pub last_log_index: u64,
    pub log_bytes: u64,
    /// On the leader: how far each of the others has got, by its name.
    pub peers: BTreeMap<String, Peer>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Peer {
    pub match_index: Option<u64>,
    /// Entries of the leader's log that it does not have yet.
    pub lag: Option<u64>,
}

/// Metrics of a node: the value of each series, by its name and labels as `/metrics` writes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    series: BTreeMap<String, f64>,
}

impl Samples {
    /// Reads the text of `/metrics`. Lines that are no samples are skipped.
    pub fn read(text: &str) -> Samples {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            // Labels may hold blanks; the value holds none. Exemplars come behind " # ".
            let line = line.split(" # ").next()?;
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Samples { series: samples.collect() }
    }

    /// All series of a metric: their labels, each as `name="value"`, and the value.
    pub fn of<'a>(&'a self, metric: &'a str) -> impl Iterator<Item = (Vec<&'a str>, f64)> {
        self.series.iter().filter_map(move |(series, value)| {
            let labels = match series.strip_prefix(metric)? {
                "" => "",
                rest => rest.strip_prefix('{')?.strip_suffix('}')?,
            };
            Some((labels.split(',').collect(), *value))
        })
    }
}

impl Client {
    /// What the node at `server` says of itself, within `limit`.
    pub async fn look_at(&self, server: &str, limit: Duration) -> Result<Observation, ClientError> {
        let status = async { self.ask(server, "/status", limit).await?.json() };
        let stats = async { self.ask(server, "/raft/stats", limit).await?.json() };
        let metrics = async {
            let reply = self.ask(server, "/metrics", limit).await?;
            Ok(Samples::read(&String::from_utf8_lossy(&reply.body)))
        };
        let (status, stats, metrics) = tokio::try_join!(status, stats, metrics)?;
        Ok(Observation { status, stats, metrics, at: Instant::now() })
    }

    /// How the node at `server` sees itself and the leader, within `limit`.
    pub async fn status_of(&self, server: &str, limit: Duration) -> Result<Status, ClientError> {
        self.ask(server, "/status", limit).await?.json()
    }

    /// Who belongs to the cluster as the node at `server` knows it, within `limit`.
    pub async fn members_of(&self, server: &str, limit: Duration) -> Result<Members, ClientError> {
        self.ask(server, "/raft/config", limit).await?.json()
    }

    async fn ask(
        &self,
        server: &str,
        path: &'static str,
        limit: Duration,
    ) -> Result<Reply, ClientError> {
        let (server, call) = (base_url(server)?, Call::get(path));
        let answer = self.attempt(server.clone(), &call, Instant::now() + limit).await;
        answer.map_err(|Failure { error, .. }| match error {
            ClientError::Unreachable { source, applied, .. } => {
                ClientError::Unreachable { tried: vec![server], source, applied }
            }
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_metric_and_labels() {
        let samples = Samples::read(
            "# TYPE a counter\na_total{route=\"kv\",method=\"GET\"} 3\na_total{route=\"txn\"} 4.5\nab 7\na 1\n# EOF\n",
        );
        let of = |metric| samples.of(metric).collect::<Vec<_>>();
        assert_eq!(
            of("a_total"),
            [(vec!["route=\"kv\"", "method=\"GET\""], 3.0), (vec!["route=\"txn\""], 4.5)]
        );
        assert_eq!(of("a"), [(vec![""], 1.0)]);
        assert_eq!(of("b"), []);
    }
}
