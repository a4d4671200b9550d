//! `conure-bench` as programs use it: through the real binary, with few keys.
#![allow(clippy::disallowed_methods)] // real processes and their files are the point

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The names that the form promises, and that it has beside them.
const WORKS: [&str; 25] = [
    "get_1t",
    "get_2t",
    "snapget_1t",
    "snapget_2t",
    "scan100_1t",
    "scan100_2t",
    "fullscan",
    "load_random",
    "load_sorted",
    "apply100_nosync",
    "log_append1",
    "log_append100",
    "log_apply100_p50",
    "file_random",
    "file_sorted",
    "write_amp",
    "growth_churn",
    "growth_reader",
    "reopen_kill",
    "reopen_replay",
    "compact_ratio",
    "apply_p99_checkpoint",
    "snapshot_pin",
    "snapshot_stream",
    "rss_peak",
];

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conure-bench"));
    command.args(["storage", "--keys=2000", "--rounds=1"]).args(arguments);
    command.output().expect("the program was built")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn the_last_line_has_every_work_in_the_promised_form() {
    let dir = tempfile::tempdir().unwrap();
    let output = bench(&["--peers=btreemap", "--json", "--dir", dir.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let last = text(&output.stdout).lines().last().expect("a last line");
    let report: BTreeMap<String, Value> = serde_json::from_str(last).expect("an object");
    assert_eq!(report.keys().collect::<Vec<_>>(), ["ratios", "results"]);

    let mut own = BTreeSet::new();
    for row in report["results"].as_array().expect("an array") {
        let row = row.as_object().expect("an object");
        let fields: BTreeSet<&str> = row.keys().map(String::as_str).collect();
        assert_eq!(fields, BTreeSet::from(["engine", "unit", "value", "work"]));
        let value = row["value"].as_f64().expect("a number");
        assert!(value >= 0.0, "{row:?}");
        assert!(row["unit"].as_str().is_some_and(|unit| !unit.is_empty()), "{row:?}");
        if row["engine"] == "conure" {
            own.insert(row["work"].as_str().expect("a name"));
        }
    }
    assert_eq!(own, BTreeSet::from(WORKS));

    for (work, peers) in report["ratios"].as_object().expect("an object") {
        assert!(WORKS.contains(&work.as_str()), "{work}");
        for (peer, ratio) in peers.as_object().expect("an object") {
            assert!(ratio.as_f64().is_some_and(|ratio| ratio > 0.0), "{work} {peer} {ratio}");
        }
    }
    assert!(report["ratios"]["get_1t"]["btreemap"].is_number());
    assert!(report["ratios"]["log_append1"]["raw"].is_number());
    assert_eq!(dir.path().read_dir().unwrap().count(), 0, "files are left behind");
}

#[test]
fn only_the_works_asked_for_are_done_and_a_table_shows_them() {
    let output = bench(&["--works", "fullscan,load_random", "--key-shape", "path"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows: Vec<&str> = text(&output.stdout)
        .lines()
        .filter_map(|row| row.split_whitespace().nth(1))
        .filter(|cell| WORKS.contains(cell))
        .collect();
    assert_eq!(rows, ["fullscan", "load_random"]);
}

#[cfg(not(feature = "bench-peers"))]
#[test]
fn a_peer_that_is_not_built_in_is_refused_with_the_remedy() {
    let output = bench(&["--peers", "lmdb,redb,fjall"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--features bench-peers"), "{}", text(&output.stderr));
}

fn cluster(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conure-bench"));
    command.args(["cluster", "--rounds=1", "--dir"]).arg(dir);
    command.args(arguments);
    command
}

/// Processes that were started with something below this directory.
fn processes_in(dir: &Path) -> usize {
    let dir = dir.to_str().expect("text").as_bytes();
    let processes = fs::read_dir("/proc").expect("a list of processes");
    let lines = processes.filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    lines.filter(|line| line.windows(dir.len()).any(|part| part == dir)).count()
}

#[test]
fn a_cluster_is_started_measured_verified_and_removed() {
    for op in ["put", "get", "get-stale", "mixed", "scan"] {
        let dir = tempfile::tempdir().unwrap();
        let load = ["--op", op, "--ops=500", "--keys=200", "--clients=8"];
        let arguments = [&load[..], &["--spread=all", "--dist=zipf", "--json"]].concat();
        let output = cluster(dir.path(), &arguments).output().expect("the program was built");
        assert!(output.status.success(), "{op}: {}", text(&output.stderr));
        let last = text(&output.stdout).lines().last().expect("a last line");
        let report: BTreeMap<String, Value> = serde_json::from_str(last).expect("an object");
        assert_eq!(report.keys().collect::<Vec<_>>(), ["ratios", "results"]);
        assert_eq!(report["ratios"], serde_json::json!({}), "nothing to compare with");
        let row = &report["results"][0];
        assert_eq!((row["system"].as_str(), row["op"].as_str()), (Some("conure"), Some(op)));
        for field in ["throughput_per_s", "p50_us", "p99_us", "client_cpu_us_per_op", "rss_bytes"] {
            assert!(row[field].as_f64().is_some_and(|value| value > 0.0), "{op} {field}: {row}");
        }
        assert!(row["p50_us"].as_f64() <= row["p99_us"].as_f64(), "{op}: {row}");
        assert_eq!(dir.path().read_dir().unwrap().count(), 0, "{op}: files are left behind");
        assert_eq!(processes_in(dir.path()), 0, "{op}: nodes are left behind");
    }
}

#[test]
fn works_run_beside_the_clients_and_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_conure-bench"));
    command.args(["beside", "--rounds=1", "--keys=1000", "--seconds=1", "--clients=4"]);
    command.args(["--watchers=50", "--json", "--dir"]).arg(dir.path());
    let output = command.output().expect("the program was built");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let last = text(&output.stdout).lines().last().expect("a last line");
    let report: Value = serde_json::from_str(last).expect("an object");
    let rows = report["results"].as_array().expect("rows");
    let works: Vec<&str> = rows.iter().filter_map(|row| row["work"].as_str()).collect();
    assert_eq!(works, ["stream", "backup", "watch", "compact", "join"]);
    for row in rows {
        for field in ["puts_per_s_alone", "puts_per_s", "throughput_ratio", "p99_ratio"] {
            assert!(row[field].as_f64().is_some_and(|value| value > 0.0), "{field}: {row}");
        }
        // What was deleted is in the history yet, of so small a store: there is nothing to give back.
        let rate = row["work_per_s"].as_f64().expect("a rate");
        assert!(rate > 0.0 || row["work"] == "compact", "{row}");
    }
    assert_eq!(processes_in(dir.path()), 0, "nodes are left behind");
}

#[test]
fn ctrl_c_leaves_neither_nodes_nor_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = cluster(dir.path(), &["--op=get", "--keys=20000", "--seconds=600"]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the program was built");
    // Kept until the end: a program whose words nobody takes any more does not end by the signal.
    let mut said = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let loading = said.by_ref().map_while(Result::ok).find(|line| line.contains("loading"));
    assert!(loading.is_some(), "it ended before it did anything");
    assert!(processes_in(dir.path()) >= 3, "the nodes run");
    kill_process(Pid::from_child(&child), Signal::INT).expect("a signal to a child of ours");
    assert_eq!(child.wait().expect("a child of ours").code(), Some(1));
    assert_eq!(dir.path().read_dir().unwrap().count(), 0, "files are left behind");
    assert_eq!(processes_in(dir.path()), 0, "nodes are left behind");
}

#[test]
fn more_clients_than_keys_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output = cluster(dir.path(), &["--clients=300", "--keys=200"])
        .output()
        .expect("the program was built");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--keys"), "{}", text(&output.stderr));
}

#[cfg(not(feature = "bench-peers"))]
#[test]
fn etcd_without_its_client_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    for asked in ["--vs=etcd", "--target=etcd"] {
        let output = cluster(dir.path(), &[asked]).output().expect("the program was built");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{asked}: {said}");
        assert!(said.contains("--features bench-peers"), "{asked}: {said}");
    }
}
