//! The shell at a terminal: prompt, completion, colours, questions, `top`, and what Ctrl-C ends.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::terminal::Terminal;
use crate::{PATIENCE, Place};

const CONURE_DB: &str = env!("CARGO_BIN_EXE_conure-db");
const CONURESH: &str = env!("CARGO_BIN_EXE_conuresh");

/// Whether the last line is a prompt that waits, of a node that knows a leader.
fn waits(screen: &str) -> bool {
    let last = last_line(screen);
    last.ends_with("leader>") && !is_lost(screen) || last.contains(" follower of ")
}

/// Whether the prompt is one of nobody, or of a node without a leader: it looks again with the next line.
fn is_lost(screen: &str) -> bool {
    let last = last_line(screen);
    last.ends_with("no server>") || last.ends_with("no leader>")
}

fn last_line(screen: &str) -> &str {
    screen.lines().last().unwrap_or_default().trim_end()
}

/// Waits for a prompt. On a busy machine one may show that nobody answered in time; Enter makes the next.
fn at_prompt(terminal: &Terminal) -> String {
    loop {
        let screen = terminal.until("a prompt", |screen| waits(screen) || is_lost(screen));
        if waits(&screen) {
            return screen;
        }
        terminal.press(&["Enter"]);
        terminal.until("the next prompt", |now| now != screen);
    }
}

/// Presses Tab until the line is completed to `line`: a server that is slow to answer has offered nothing.
fn completes(terminal: &Terminal, line: &str) {
    let mut tries = 0;
    while !terminal.comes_to_show(line) {
        assert!(tries < 30, "{line} is not offered on\n{}", terminal.screen());
        tries += 1;
        // Escape closes the menu of nothing.
        terminal.press(&["Escape"]);
        terminal.press(&["Tab"]);
    }
}

fn demo(place: &Place) -> Terminal {
    let terminal = Terminal::run(&[CONURE_DB, "demo"], &[("TMPDIR", place.path())]);
    at_prompt(&terminal);
    terminal
}

/// The URL of a node, as the demo told it.
fn url_of(terminal: &Terminal, node: &str) -> String {
    let screen = terminal.screen();
    let line = screen.lines().find(|line| line.starts_with(node)).expect("the demo's addresses");
    line.split_whitespace().nth(1).expect("a URL").to_owned()
}

/// Sixty lines come at once, all but the first while commands run, as when they are pasted or typed by somebody who does not
/// wait. None may be lost. A program under a lock has the terminal as it was, and what follows it goes to the prompt again.
#[test]
fn what_is_typed_while_a_command_runs_is_done_next() {
    let place = Place::empty();
    let terminal = demo(&place);
    let lines: String = (1..=60).map(|nth| format!("put many/{nth} value{nth}\r")).collect();
    terminal.types(&lines);
    terminal.shows("OK revision 60");
    let screen = at_prompt(&terminal);
    for nth in 1..=60 {
        assert!(screen.contains(&format!("OK revision {nth}\n")), "{nth} on\n{screen}");
    }
    terminal.enter("get many/37");
    terminal.shows("value37");

    at_prompt(&terminal);
    terminal.enter("lock seat -- sh -c 'read line; echo heard $line; stty -a'");
    terminal.until("the lock", |screen| screen.contains("sh -c") && !waits(screen));
    terminal.enter("a line");
    terminal.shows("heard a line");
    let screen = terminal.until("its modes", |now| now.contains("echoke") && waits(now));
    let modes: Vec<&str> = screen.split_whitespace().collect();
    assert!(["icrnl", "icanon", "echo"].iter().all(|mode| modes.contains(mode)), "{screen}");
    terminal.types("put last 1\rget last\r");
    terminal.until("the last two", |screen| screen.contains("> get last\n1"));
    terminal.press(&["C-d"]);
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn the_prompt_edits_completes_asks_and_follows_a_failover() {
    let place = Place::empty();
    let terminal = demo(&place);

    // A quote goes on in the next line.
    terminal.enter("put greeting/1 \"hello");
    terminal.enter("world\"");
    terminal.shows("OK revision 1");

    // Keys are completed from the server: there is one that begins so.
    at_prompt(&terminal);
    terminal.types("get gre");
    terminal.press(&["Tab"]);
    completes(&terminal, "get greeting/1");
    terminal.press(&["Enter"]);
    terminal.shows("hello\nworld");

    // A transaction goes on until it is committed.
    at_prompt(&terminal);
    terminal.enter("txn");
    terminal.enter("if seat absent");
    terminal.enter("then put seat me");
    terminal.enter("commit");
    terminal.shows("OK then, revision 2");

    // Columns for a person.
    at_prompt(&terminal);
    terminal.enter("scan");
    terminal.shows("KEY         VALUE\ngreeting/1  hello\\nworld\nseat        me");

    // Everything at once is asked for, and Ctrl-C means no.
    at_prompt(&terminal);
    terminal.enter("delete --prefix ''");
    terminal.shows("Type yes to go on:");
    terminal.press(&["C-c"]);
    terminal.shows("nothing was removed");
    at_prompt(&terminal);
    terminal.enter("delete --prefix ''");
    terminal.until("the question again", |screen| {
        screen.matches("Type yes to go on:").count() == 2 && !waits(screen)
    });
    terminal.enter("yes");
    terminal.shows("OK deleted 2");

    // A watch ends by Ctrl-C, and the prompt is there again.
    at_prompt(&terminal);
    terminal.enter("watch --prefix '' --from 1");
    terminal.until("the last event", |screen| {
        let last = screen.lines().last().unwrap_or_default();
        last.split_whitespace().eq(["3", "delete", "seat"])
    });
    terminal.press(&["C-c"]);
    at_prompt(&terminal);

    // Errors say what to do next.
    terminal.enter("get nothing");
    terminal.shows("hint: `scan` lists the keys that there are");

    // All members, live; the dead one stays in the table.
    at_prompt(&terminal);
    terminal.enter("kill 1");
    terminal.shows("node1 is killed; 2 of 3 nodes go on");
    // The client goes on at another node, which learns that node1 does not lead any more.
    loop {
        let screen = at_prompt(&terminal);
        let last = last_line(&screen);
        if !last.starts_with("node1") && !last.ends_with("of node1>") {
            break;
        }
        terminal.press(&["Enter"]);
    }
    terminal.enter("top");
    terminal.until("the members", |screen| {
        screen.contains("READ/S") && screen.contains("not reachable") && screen.contains("q leaves")
    });
    terminal.press(&["q"]);
    at_prompt(&terminal);

    terminal.enter("exit");
    assert_eq!(terminal.ended(), 0);
    place.assert_empty();
}

#[test]
fn a_signal_at_the_prompt_leaves_nothing_behind() {
    let place = Place::empty();
    let terminal = demo(&place);
    terminal.types("put half a com");
    let pid = Pid::from_raw(terminal.pid()).expect("a process");
    kill_process(pid, Signal::TERM).expect("a signal to a process of our own");
    assert_eq!(terminal.ended(), 143);
    place.assert_empty();
}

/// Whether a process has not ended: one that nobody waited for has.
fn is_running(pid: Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid()));
    status.is_ok_and(|status| !status.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

#[test]
fn a_terminal_that_is_closed_takes_the_demo_along() {
    let place = Place::empty();
    let keeping = Terminal::run(&[CONURE_DB, "demo", "--keep"], &[("TMPDIR", place.path())]);
    at_prompt(&keeping);
    let pid = Pid::from_raw(keeping.pid()).expect("a process");
    drop(keeping);
    // It has nobody to tell where the data is, and ends all the same.
    let deadline = Instant::now() + PATIENCE;
    while is_running(pid) {
        assert!(Instant::now() < deadline, "the demo outlives its terminal");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn colours_are_for_those_who_want_them() {
    let place = Place::empty();
    let demo = demo(&place);
    let url = url_of(&demo, "node2");
    let shell = |variables: &[(&str, &str)]| {
        let terminal = Terminal::run(&[CONURESH, "--server", &url], variables);
        at_prompt(&terminal);
        // A known command, an unknown option, a quoted word.
        terminal.types("put --nonsense \"k v\" ");
        terminal.shows("put --nonsense \"k v\"");
        terminal
    };
    let (green, red, yellow) = ("\x1b[32mput", "\x1b[31m--nonsense", "\x1b[33m\"k v\"");
    let colored = shell(&[]).colored();
    for painted in [green, red, yellow] {
        assert!(colored.contains(painted), "{painted:?}: {colored:?}");
    }
    let plain = shell(&[("NO_COLOR", "1")]).colored();
    assert!(!plain.contains("\x1b[3"), "{plain:?}");
}
