//! `conure-bench` as programs use it: through the real binary, with few keys.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};

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
