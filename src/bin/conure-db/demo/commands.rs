//! What the shell of a demo can do to its nodes.

use std::sync::Arc;
use std::time::Duration;

use conuredb::client::Client;
use conuredb::shell::{Done, Extra, Spec, columns};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::cluster::Cluster;

/// How long a node may take to say what it is.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

pub struct Commands {
    cluster: Arc<Cluster>,
    client: Client,
}

static COMMANDS: &[Spec] = &[
    Spec {
        name: "nodes",
        aliases: &[],
        usage: "nodes",
        about: "list the nodes of this demo: which run, who leads, who cannot reach whom",
        options: &[],
        arguments: 0..=0,
        examples: &["nodes"],
    },
    Spec {
        name: "kill",
        aliases: &[],
        usage: "kill ID",
        about: "end a node where it stands, as kill -9 would; ID is node2, or 2",
        options: &[],
        arguments: 1..=1,
        examples: &["kill 1", "kill node1"],
    },
    Spec {
        name: "start",
        aliases: &[],
        usage: "start ID",
        about: "start a node that was killed, on its data",
        options: &[],
        arguments: 1..=1,
        examples: &["start 1"],
    },
    Spec {
        name: "partition",
        aliases: &["cut"],
        usage: "partition ID [ID]",
        about: "cut the network between two nodes, or between one and all others; clients still reach it",
        options: &[],
        arguments: 1..=2,
        examples: &["partition 1", "partition 1 3"],
    },
    Spec {
        name: "heal",
        aliases: &[],
        usage: "heal",
        about: "mend the network between all nodes",
        options: &[],
        arguments: 0..=0,
        examples: &["heal"],
    },
];

impl Commands {
    pub fn new(cluster: Arc<Cluster>, client: Client) -> Commands {
        Commands { cluster, client }
    }

    async fn nodes(&self) -> Done {
        let (mut rows, mut nodes) = (Vec::new(), Vec::new());
        for number in 0..self.cluster.count() {
            let (name, url) = (self.cluster.name(number), self.cluster.url(number));
            let runs = self.cluster.runs(number).await;
            let status = match runs {
                true => self.client.status_of(&url, LOOK_LIMIT).await.ok(),
                false => None,
            };
            let role = status.map_or_else(|| "-".to_owned(), |status| status.role);
            let apart = self.apart_from(number);
            let state = if runs { "runs" } else { "is killed" };
            let dir = self.cluster.data_dir(number).display().to_string();
            nodes.push(json!({
                "id": name, "runs": runs, "role": role, "http_address": url, "cut_from": apart, "data_dir": dir,
            }));
            let apart = if apart.is_empty() { "-".to_owned() } else { apart.join(" ") };
            rows.push(vec![name.to_owned(), state.to_owned(), role, apart, url, dir]);
        }
        let headings = ["NODE", "STATE", "ROLE", "CUT FROM", "HTTP", "DATA"];
        let text = columns::table(&headings, &rows).trim_end().to_owned();
        Done { text, json: Value::from(nodes) }
    }

    async fn kill(&self, id: &str) -> Result<Done, String> {
        let number = self.number(id)?;
        self.cluster
            .kill(number)
            .await
            .map_err(|error| format!("{error}; `start {id}` starts it"))?;
        let (name, left) = (self.cluster.name(number), self.running().await);
        let all = self.cluster.count();
        let outlook = match left * 2 > all {
            true => format!("{left} of {all} nodes go on"),
            false => format!(
                "{left} of {all} nodes are no majority: nothing is written until one more starts"
            ),
        };
        let text = format!("{name} is killed; {outlook}. `start {id}` brings it back");
        Ok(Done { text, json: json!({ "killed": name, "running": left }) })
    }

    async fn start(&self, id: &str) -> Result<Done, String> {
        let number = self.number(id)?;
        self.cluster.start(number).await?;
        let name = self.cluster.name(number);
        let text = format!("{name} runs again, on what it had, and fetches what it missed");
        Ok(Done { text, json: json!({ "started": name, "running": self.running().await }) })
    }

    fn partition(&self, ids: &[String]) -> Result<Done, String> {
        let numbers = ids.iter().map(|id| self.number(id)).collect::<Result<Vec<_>, _>>()?;
        let others = |one: usize| (0..self.cluster.count()).filter(move |other| *other != one);
        let (one, apart): (usize, Vec<usize>) = match numbers[..] {
            [one] => (one, others(one).collect()),
            [one, other] if one != other => (one, vec![other]),
            _ => {
                return Err(
                    "a node cannot be parted from itself; name two, or one alone".to_owned()
                );
            }
        };
        for other in &apart {
            self.cluster.links.cut(one, *other);
        }
        let names: Vec<&str> = apart.iter().map(|other| self.cluster.name(*other)).collect();
        let name = self.cluster.name(one);
        let text =
            format!("{name} and {} cannot reach each other; `heal` mends it", names.join(", "));
        Ok(Done { text, json: json!({ "node": name, "cut_from": names }) })
    }

    fn heal(&self) -> Done {
        self.cluster.links.heal();
        Done { text: "all nodes reach each other".to_owned(), json: json!({ "healed": true }) }
    }

    async fn running(&self) -> usize {
        let mut running = 0;
        for number in 0..self.cluster.count() {
            running += usize::from(self.cluster.runs(number).await);
        }
        running
    }

    /// The names of the nodes that one is cut from.
    fn apart_from(&self, number: usize) -> Vec<&str> {
        let cuts = self.cluster.links.cuts().into_iter();
        let others = cuts.filter_map(|(one, other)| match number {
            _ if number == one => Some(other),
            _ if number == other => Some(one),
            _ => None,
        });
        others.map(|other| self.cluster.name(other)).collect()
    }

    /// The node called `id`, which may be its number alone.
    fn number(&self, id: &str) -> Result<usize, String> {
        let is_it =
            |number: &usize| id == self.cluster.name(*number) || id == (number + 1).to_string();
        let found = (0..self.cluster.count()).find(is_it);
        found.ok_or_else(|| format!("there is no node {id:?}; `nodes` lists those of this demo"))
    }
}

impl Extra for Commands {
    fn commands(&self) -> &'static [Spec] {
        COMMANDS
    }

    fn run(
        &self,
        command: &'static str,
        arguments: Vec<String>,
    ) -> BoxFuture<'_, Result<Done, String>> {
        Box::pin(async move {
            match (command, &arguments[..]) {
                ("nodes", []) => Ok(self.nodes().await),
                ("kill", [id]) => self.kill(id).await,
                ("start", [id]) => self.start(id).await,
                ("partition", ids) => self.partition(ids),
                ("heal", []) => Ok(self.heal()),
                _ => unreachable!("{command} of the table is done nowhere with {arguments:?}"),
            }
        })
    }
}
