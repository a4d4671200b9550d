//! `conure-db demo`, and the prompt, as people meet them: commands from a pipe, HTTP from outside, a real terminal.
//!
//! ```text
//! terminal.rs    a terminal (tmux) that a program runs in: keys, and what the screen shows
//! prompt.rs      the shell at that terminal
//! ```
#![allow(clippy::disallowed_methods)] // real clocks, files and processes are the point

mod prompt;
mod terminal;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long anything may take on a busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A demo's place for temporary data, which has to be empty after it.
pub struct Place(TempDir);

impl Place {
    pub fn empty() -> Place {
        Place(tempfile::tempdir().expect("a temporary directory"))
    }

    pub fn path(&self) -> &str {
        self.0.path().to_str().expect("a path of text")
    }

    fn left_behind(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("the directory");
        entries.map(|entry| entry.expect("an entry").path().display().to_string()).collect()
    }

    pub fn assert_empty(&self) {
        assert_eq!(self.left_behind(), Vec::<String>::new(), "left behind");
    }

    fn demo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conure-db"));
        command.env_clear().env("TMPDIR", self.0.path()).arg("demo").args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a demo with these commands on its standard input.
    fn feed(&self, arguments: &[&str], commands: &str) -> Output {
        let mut child = self.demo(arguments).spawn().expect("the binary runs");
        let mut stdin = child.stdin.take().expect("its input");
        stdin.write_all(commands.as_bytes()).expect("it reads");
        drop(stdin);
        child.wait_with_output().expect("it ends")
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// Ends with its test.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("a signal to a process of our own");
    }

    /// The exit status, once it has ended by itself.
    fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().expect("a child of ours") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The URLs that the demo tells, in the order of its nodes.
    fn urls(&mut self) -> Vec<String> {
        let mut lines = BufReader::new(self.0.stdout.take().expect("its output")).lines();
        let mut urls = Vec::new();
        for line in lines.by_ref() {
            let line = line.expect("text");
            if line.starts_with("try") {
                return urls;
            }
            urls.extend(
                line.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned),
            );
        }
        panic!("the demo ended before it told its addresses");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_was_acknowledged_survives_the_death_of_one_node_after_the_other() {
    let place = Place::empty();
    let commands = "put color blue\nkill 1\nget color\nput color green\nstart 1\nkill node2\nget color\n\
                    kill 2\nkill 4\nstart 3\nnodes -o json\n";
    let output = place.feed(&[], commands);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(
        lines[..7],
        [
            "OK revision 1",
            "node1 is killed; 2 of 3 nodes go on. `start 1` brings it back",
            "blue",
            "OK revision 2",
            "node1 runs again, on what it had, and fetches what it missed",
            "node2 is killed; 2 of 3 nodes go on. `start node2` brings it back",
            "green",
        ],
        "{stdout}{stderr}"
    );
    let nodes: serde_json::Value = serde_json::from_str(lines[7]).expect("JSON");
    let runs = |number: usize| nodes[number]["runs"].as_bool();
    assert_eq!([runs(0), runs(1), runs(2)], [Some(true), Some(false), Some(true)]);
    for said in [
        "error: line 8: node2 does not run; `start 2` starts it",
        "error: line 9: there is no node \"4\"; `nodes` lists those of this demo",
        "error: line 10: node3 runs already",
    ] {
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
    assert_eq!(output.status.code(), Some(1));
    place.assert_empty();
}

#[test]
fn a_node_that_is_cut_off_serves_no_old_value_and_comes_back() {
    let place = Place::empty();
    let commands =
        "put a 1\npartition 1\nput a 2\nget a\nnodes -o json\nheal\nput a 3\nget a\nnodes\n";
    let output = place.feed(&[], commands);
    let stdout = text(&output.stdout);
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "OK revision 1",
            "node1 and node2, node3 cannot reach each other; `heal` mends it",
            "OK revision 2",
            "2"
        ],
        "{output:?}"
    );
    let nodes: serde_json::Value = serde_json::from_str(lines[4]).expect("JSON");
    assert_eq!(nodes[0]["cut_from"], serde_json::json!(["node2", "node3"]));
    assert_eq!(nodes[2]["cut_from"], serde_json::json!(["node1"]));
    // Without a majority node1 does not lead, whatever it did before.
    assert_ne!(nodes[0]["role"], "leader");
    assert_eq!(lines[5..8], ["all nodes reach each other", "OK revision 3", "3"], "{output:?}");
    assert!(lines[8].starts_with("NODE "), "{stdout}");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    place.assert_empty();
}

#[test]
fn without_a_shell_it_serves_until_ctrl_c_and_leaves_nothing() {
    let place = Place::empty();
    let mut demo = Running(place.demo(&["--no-shell"]).spawn().expect("the binary runs"));
    let urls = demo.urls();
    assert_eq!(urls.len(), 3);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let http =
            reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
        let put = http.put(format!("{}/kv/greeting", urls[0])).body("hello").send().await;
        assert_eq!(put.expect("an answer").status(), 200);
        let got = http.get(format!("{}/kv/greeting", urls[2])).send().await.expect("an answer");
        assert_eq!(got.text().await.expect("a body"), "hello");
    });
    demo.signal(Signal::INT);
    assert_eq!(demo.ended(), Some(130));
    place.assert_empty();
}

#[test]
fn kept_data_is_that_of_nodes_that_were_closed() {
    let place = Place::empty();
    let mut demo = Running(
        place.demo(&["--no-shell", "--keep", "--nodes=1"]).spawn().expect("the binary runs"),
    );
    assert_eq!(demo.urls().len(), 1);
    demo.signal(Signal::TERM);
    assert_eq!(demo.ended(), Some(143));
    let kept = place.left_behind().pop().expect("a directory");
    let data = format!("{kept}/node1");
    let check =
        Command::new(env!("CARGO_BIN_EXE_conure-db")).args(["check", "--data-dir", &data]).output();
    let check = check.expect("the binary runs");
    assert_eq!(check.status.code(), Some(0), "{}", text(&check.stdout));
    let log = std::fs::read_to_string(format!("{kept}/log")).expect("a log");
    assert!(log.contains(" node1 conuredb::"), "a line of the log names its node: {log}");
}

#[test]
fn a_killed_node_writes_nothing_more_and_a_closed_one_its_state() {
    let revision_in_store = |commands: &str| {
        let place = Place::empty();
        let output = place.feed(&["--keep", "--nodes=1"], commands);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let data = format!("{}/node1", place.left_behind().pop().expect("a directory"));
        let check = Command::new(env!("CARGO_BIN_EXE_conure-db"))
            .args(["check", "--json", "--data-dir", &data])
            .output()
            .expect("the binary runs");
        assert_eq!(check.status.code(), Some(0), "{check:?}");
        let found: serde_json::Value = serde_json::from_slice(&check.stdout).expect("JSON");
        found["store"]["revision"].as_u64()
    };
    assert_eq!(revision_in_store("put a 1\n"), Some(1));
    // What was acknowledged is in the log alone, where the next start finds it.
    assert_eq!(revision_in_store("put a 1\nkill 1\n"), Some(0));
}
