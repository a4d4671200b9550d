//! `conure-soak` as programs use it: through the real binaries, at a size for every day. Its usual size is sixty faults and fifty
//! thousand operations of released ones.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use serde_json::Value;

fn soak(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conure-soak"));
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
fn a_cluster_of_real_processes_keeps_its_promises_through_faults() {
    let kinds = "kill_leader,kill_all,pause,terminate,one_way_cut,member_removed_and_joined,wiped_disk,\
                 misrouted_clusters,old_backup";
    let output = soak(&["--faults=9", "--ops=1500", "--json", "--kinds", kinds]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", text(&output.stderr));
    let totals = last_line(&output);
    for zero in ["undecided", "violations", "lost", "duplicated"] {
        assert_eq!(totals[zero], 0, "{zero} in {said}");
    }
    assert_eq!(totals["faults"], 9);
    let met: BTreeSet<&str> =
        totals["faults_by_kind"].as_object().expect("kinds").keys().map(String::as_str).collect();
    assert_eq!(met, kinds.split(',').collect());
    assert!(totals["checked_ops"].as_u64().expect("a number") >= 1_500, "{said}");
    assert!(totals["acknowledged_writes"].as_u64().expect("a number") > 300, "{said}");
}

#[test]
fn failover_is_measured_in_all_three_ways() {
    let output = soak(&["failover", "--kills=1", "--json"]);
    let figures = last_line(&output);
    for way in ["kills", "terminations", "transfers"] {
        let it = &figures["failover"][way];
        assert_eq!(it["count"], 1, "{figures}");
        assert!(it["median_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{figures}");
    }
}

#[test]
fn what_cannot_be_run_is_told() {
    let output = soak(&["--program", "/nowhere/conure-db"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nowhere/conure-db"), "{}", text(&output.stderr));
    let output = soak(&["--kinds", "earthquake"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("power_cut"), "{}", text(&output.stderr));
}
