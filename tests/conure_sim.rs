//! `conure-sim` as programs use it: through the real binary, with fewer seeds than it is made for.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use serde_json::Value;

/// Enough that every kind of fault happens and the tests stay within minutes; `conure-sim --seeds 2000` runs more.
const SEEDS: u64 = 200;

fn sim(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conure-sim"));
    command.args(arguments).output().expect("the program was built")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

fn last_line(output: &Output) -> Value {
    let last = text(&output.stdout).lines().last().expect("a last line");
    serde_json::from_str(last).expect("an object")
}

#[test]
fn hundreds_of_seeds_find_nothing_and_the_last_line_has_the_promised_form() {
    let output = sim(&["--seeds", &SEEDS.to_string(), "--json"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}");
    let totals = last_line(&output);
    let fields: BTreeSet<&str> = totals.as_object().unwrap().keys().map(String::as_str).collect();
    let promised = [
        "checked_ops",
        "duplicated",
        "faults",
        "faults_by_kind",
        "lost",
        "seeds",
        "simulated_hours",
        "undecided",
        "violations",
    ];
    assert_eq!(fields, BTreeSet::from(promised));
    for zero in ["undecided", "violations", "lost", "duplicated"] {
        assert_eq!(totals[zero], 0, "{zero}");
    }
    let count = |field: &str| totals[field].as_u64().expect("a number");
    assert_eq!(count("seeds"), SEEDS);
    let kinds = totals["faults_by_kind"].as_object().expect("kinds");
    assert!(kinds.len() >= 25, "some kinds of faults never happened: {kinds:?}");
    assert_eq!(kinds.values().filter_map(Value::as_u64).sum::<u64>(), count("faults"));
    assert!(count("checked_ops") > 100 * SEEDS, "the load hardly ran: {totals}");
}

#[test]
fn a_seed_gives_the_same_trace_in_another_process() {
    let output = sim(&["repeat", "--seeds", "6", "--from", "3", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stdout));
    assert_eq!(last_line(&output), serde_json::json!({"seeds": 6, "differ": 0}));
}

#[test]
fn one_seed_is_replayed_with_a_trace_for_people() {
    let output = sim(&["--seed", "5", "--trace"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}");
    for part in
        [" start n1\n", " FAULT ", " all faults end\n", " all are well\n", "nothing was found"]
    {
        assert!(said.contains(part), "{part:?} is missing in\n{said}");
    }
    let quiet = sim(&["--seed", "5"]);
    let summary = |said: &str| said.lines().rev().take(2).collect::<Vec<_>>().join("\n");
    assert_eq!(summary(text(&quiet.stdout)), summary(said), "printing changes nothing");
    assert_eq!(text(&quiet.stdout).lines().count(), 2);
}

#[cfg(not(feature = "planted-bugs"))]
#[test]
fn a_build_without_planted_bugs_names_the_one_that_has_them() {
    let output = sim(&["planted", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(
        said.contains("cargo run --release --features planted-bugs --bin conure-sim"),
        "{said}"
    );
}

#[cfg(feature = "planted-bugs")]
#[test]
fn every_planted_bug_is_found_and_named_with_its_seed() {
    let output = sim(&["planted", "--json"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert_eq!(last_line(&output), serde_json::json!({"planted": 20, "found": 20}));
    assert_eq!(said.matches(" by seed ").count(), 20, "{said}");
}
