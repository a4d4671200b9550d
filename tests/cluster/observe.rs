//! What operators look at. Every expression of the alerts and of the dashboard is read (`promql`), and every name and
//! label in it is one that the nodes of a real cluster give.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::harness::until;
use crate::promql::{self, Selector};

const ALERTS: &str = include_str!("../../deploy/prometheus/alerts.yml");
const DASHBOARD: &str = include_str!("../../deploy/grafana/conuredb.json");

/// What Prometheus itself adds to every sample, and the one metric that it makes.
const TARGET_LABELS: [&str; 2] = ["instance", "job"];
const MADE_BY_PROMETHEUS: [&str; 1] = ["up"];

/// The samples that some nodes gave: each name with the labels that it has.
type Samples = BTreeMap<String, BTreeSet<String>>;

fn add_samples(text: &str, samples: &mut Samples) {
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let end = line.find(['{', ' ']).expect("a sample");
        let labels = samples.entry(line[..end].to_owned()).or_default();
        if let Some((inside, _)) =
            line[end..].strip_prefix('{').and_then(|rest| rest.rsplit_once('}'))
        {
            // No value of ours holds a comma.
            let names = inside.split(',').filter_map(|pair| pair.split_once('='));
            labels.extend(names.map(|(name, _)| name.to_owned()));
        }
    }
}

/// The expressions of the alerts, by name.
fn alerts() -> Vec<(String, String)> {
    let rules = config::Config::builder()
        .add_source(config::File::from_str(ALERTS, config::FileFormat::Yaml))
        .build()
        .and_then(config::Config::try_deserialize::<Value>)
        .expect("YAML");
    let groups = rules["groups"].as_array().expect("groups").iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().expect("rules"));
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let alert = |rule: &Value| {
        for told in ["summary", "description"] {
            assert!(!text(&rule["annotations"][told]).is_empty(), "{rule} says no {told}");
        }
        assert!(
            ["info", "warning", "critical"].contains(&text(&rule["labels"]["severity"]).as_str())
        );
        (text(&rule["alert"]), text(&rule["expr"]))
    };
    rules.map(alert).collect()
}

/// The expressions of the dashboard, by the title of their panel.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("an expression");
            // What Grafana puts there by itself.
            let expression = expression.replace("$__rate_interval", "5m");
            found.push((title.to_owned(), expression));
        }
    }
    found
}

/// What is wrong with an expression.
fn complaints(name: &str, expression: &str, samples: &Samples) -> Vec<String> {
    let selectors = match promql::selectors(expression) {
        Ok(selectors) => selectors,
        Err(why) => return vec![format!("{name}: {expression}: {why}")],
    };
    let mut complaints = Vec::new();
    for Selector { metric, labels } in selectors {
        if MADE_BY_PROMETHEUS.contains(&metric.as_str()) {
            continue;
        }
        let Some(known) = samples.get(&metric) else {
            complaints.push(format!("{name}: no node gives {metric}"));
            continue;
        };
        for label in labels {
            if !known.contains(&label) && !TARGET_LABELS.contains(&label.as_str()) {
                complaints.push(format!("{name}: {metric} has no label {label}, it has {known:?}"));
            }
        }
    }
    complaints
}

#[tokio::test]
async fn alerts_and_dashboard_ask_for_what_the_nodes_give() {
    let cluster = Cluster::start(3, &[]).await;
    for node in &cluster.nodes {
        node.put("/kv/k", "v").await.is_ok();
        assert_eq!(node.get("/kv/k").await.status, 200);
        assert_eq!(node.get("/kv/none").await.status, 404);
    }
    let mut expressions = alerts();
    expressions.extend(panels());
    assert!(expressions.len() > 60, "only {} expressions were found", expressions.len());
    // What a leader knows of its peers is there in a moment.
    let wrong = until("all metrics", async || {
        let mut samples = Samples::new();
        for node in &cluster.nodes {
            add_samples(&node.get("/metrics").await.text(), &mut samples);
        }
        let wrong: Vec<String> = expressions
            .iter()
            .flat_map(|(name, expression)| complaints(name, expression, &samples))
            .collect();
        let awaits_peers = wrong.iter().any(|complaint| complaint.contains("conuredb_peer_"));
        (!awaits_peers).then_some(wrong)
    })
    .await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn metrics_tell_of_the_process_the_disk_and_the_work() {
    let cluster = Cluster::start(3, &[]).await;
    let leader = &cluster.nodes[cluster.leader().await];
    leader.put("/kv/k", "v").await.is_ok();
    leader.get("/kv/k").await;
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
        "conuredb_disk_free_bytes",
        "conuredb_raft_has_leader",
        "conuredb_raft_is_leader",
        "conuredb_raft_voters",
        "conuredb_keys",
        "conuredb_commit_duration_seconds_count",
        "conuredb_apply_duration_seconds_count",
        "conuredb_log_fsync_duration_seconds_count",
        "conuredb_raft_read_index_duration_seconds_count",
        "conuredb_applied_entries_total",
        "conuredb_http_connections",
    ] {
        let above_zero =
            until(name, async || leader.metric(name).await.filter(|value| *value > 0.0)).await;
        assert!(above_zero.is_finite(), "{name}");
    }
    assert_eq!(leader.metric("conuredb_keys").await, Some(1.0));
    assert_eq!(leader.metric("conuredb_raft_voters").await, Some(3.0));
}

#[tokio::test]
async fn threads_have_the_names_of_what_they_do() {
    let cluster = Cluster::start(1, &[]).await;
    cluster.leader().await;
    let pid = cluster.nodes[0].pid().expect("it runs").as_raw_nonzero();
    let name_of = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    };
    let tasks = || std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let wanted = ["checkpoint", "consensus", "http", "log", "scrub", "storage", "watch"];
    until("threads with names", async || {
        let names: BTreeSet<String> =
            tasks().filter_map(name_of).map(|name| name.trim_end().to_owned()).collect();
        wanted.iter().all(|name| names.contains(*name)).then_some(())
    })
    .await;
}
