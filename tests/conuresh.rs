//! The shell as scripts use it: through the real binary, one-shot and from a pipe.

mod scripted;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use scripted::{Answer, Request, Server, nobody, store};

struct Shell {
    runtime: tokio::runtime::Runtime,
    server: Server,
}

impl Shell {
    fn new() -> Shell {
        Shell::against(store(2))
    }

    fn against(script: impl FnMut(&Request) -> Answer + Send + 'static) -> Shell {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let server = runtime.block_on(Server::start(script));
        Shell { runtime, server }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        command(&self.server.url, arguments)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.feed(arguments, b"")
    }

    /// Runs the shell with `input` on its standard input.
    fn feed(&self, arguments: &[&str], input: &[u8]) -> Output {
        feed(self.command(arguments), input)
    }
}

fn command(server: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conuresh"));
    command.env("CONURE_SERVER", server).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn feed(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    std::thread::scope(|threads| {
        threads.spawn(move || stdin.write_all(&input));
        child.wait_with_output().unwrap()
    })
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn what_is_put_comes_out_byte_for_byte() {
    let shell = Shell::new();
    let all: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let put = shell.feed(&["put", "k", "-"], &all);
    assert_eq!((text(&put.stdout), put.status.code()), ("OK revision 1\n", Some(0)));
    let get = shell.run(&["get", "k"]);
    assert!(get.stdout == all && get.stderr.is_empty() && get.status.success());

    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let out = shell.run(&["get", "k", "--out", path]);
    assert_eq!(text(&out.stdout), format!("OK 100000 bytes in {path}\n"));
    assert!(shell.run(&["put", "file", "--file", path]).status.success());
    assert!(shell.run(&["get", "file"]).stdout == all);
}

#[test]
fn arguments_are_taken_as_the_system_gives_them() {
    let shell = Shell::new();
    for value in ["two words", r"a\n'b'", "", "--stale"] {
        assert!(shell.run(&["put", "--", "k", value]).status.success());
        assert_eq!(text(&shell.run(&["get", "k"]).stdout), value);
    }
}

#[test]
fn every_way_to_fail_has_its_exit_code_and_says_what_to_do() {
    let shell = Shell::new();
    shell.run(&["put", "k", "v"]);
    for (arguments, code, says) in [
        (&["get", "none"][..], 4, "there is no key none"),
        (&["put", "k", "v", "--if-absent"], 5, "condition_failed"),
        (&["put", "k", "v", "--if-revision", "9"], 5, "condition_failed"),
        (&["remove", "node9"], 4, "unknown_node"),
        (&["get"], 2, "usage: get KEY"),
        (&["fetch", "k"], 2, "`help` lists them"),
        (&["put", "k", "--file", "/nowhere/f"], 1, "cannot read /nowhere/f: No such file"),
        (&["get", "k", "--out", "/nowhere/f"], 1, "cannot write /nowhere/f: No such file"),
        (&["--timeout", "x"], 2, "invalid value 'x'"),
        (&["--server", "ftp://h:1", "status"], 2, "write it as http://host:port"),
        (&["--server", ",", "status"], 2, "no server is named"),
    ] {
        let output = shell.run(arguments);
        assert!(text(&output.stderr).contains(says), "{arguments:?}: {output:?}");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
    }
    let nobody = shell.runtime.block_on(nobody());
    let output = feed(command(&nobody, &["--timeout", "300ms", "get", "k"]), b"");
    assert!(text(&output.stderr).contains("no server can be reached"), "{output:?}");
    assert_eq!(output.status.code(), Some(3));
    let output = feed(command(&nobody, &["help", "get"]), b"");
    assert!(text(&output.stdout).contains("get greeting --meta"));
}

#[test]
fn an_unknown_outcome_has_an_exit_code_of_its_own() {
    let shell = Shell::against(|_: &Request| Answer::problem(504, "timeout", "unknown"));
    let output = shell.run(&["--timeout", "300ms", "put", "k", "v"]);
    assert!(text(&output.stderr).contains("read before writing again"), "{output:?}");
    assert_eq!(output.status.code(), Some(6));
}

#[test]
fn a_pipe_of_commands_is_done_line_by_line() {
    let shell = Shell::new();
    let commands = br#"
# a comment
put greeting "hello world"
put bin\x00key '\x00' --if-absent
set "two\nlines" \xff\xfe
get greeting
get bin\x00key
scan
del greeting
del greeting
quit
put never v
"#;
    let output = shell.feed(&[], commands);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(
        text(&output.stdout),
        "OK revision 1\nOK revision 2\nOK revision 3\nhello world\n\\x00\n\
         bin\\x00key\t\\\\x00\ngreeting\thello world\ntwo\\nlines\t\\xff\\xfe\n\
         OK deleted 1\nOK deleted 0, there was no such key\n"
    );
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(shell.run(&["get", "never"]).status.code(), Some(4));
}

#[test]
fn a_failing_line_is_named_and_the_rest_is_done_unless_asked_otherwise() {
    let shell = Shell::new();
    let commands = b"get none\nput a 1\nput b 'open\nput c -\nget a";
    let output = shell.feed(&[], commands);
    assert_eq!(text(&output.stdout), "OK revision 1\n1\n");
    assert_eq!(
        text(&output.stderr),
        "error: line 1: there is no key none\nerror: line 3: the quote ' is not closed\n\
         error: line 4: `put KEY -` reads standard input, which holds the commands here; use --file\n"
    );
    assert_eq!(output.status.code(), Some(4));
    let output = shell.feed(&["-e"], commands);
    assert_eq!(text(&output.stdout), "");
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn a_scan_follows_pages_to_its_limit_and_tells_that_there_is_more() {
    let shell = Shell::new();
    shell.feed(&[], b"put a 1\nput b/1 2\nput b/2 3\nput b/3 4\nput b/4 5\nput c 6\n");
    let scan = |arguments: &[&str]| {
        let output = shell.run(&[&["scan"], arguments].concat());
        (text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
    };
    assert_eq!(scan(&["b/"]), ("b/1\t2\nb/2\t3\nb/3\t4\nb/4\t5\n".to_owned(), String::new()));
    assert_eq!(scan(&["--keys-only", "--reverse", "--limit=3"]).0, "c\nb/4\nb/3\n");
    assert!(scan(&["--limit", "5"]).1.contains("more keys follow these 5"));
    assert_eq!(scan(&["--start", "b/2", "--end", "b/4", "--stale"]).0, "b/2\t3\nb/3\t4\n");
    assert_eq!(scan(&["zzz"]), (String::new(), String::new()));
    assert_eq!(text(&shell.run(&["delete", "--prefix", "b/"]).stdout), "OK deleted 4\n");
}

#[test]
fn the_cluster_is_shown_and_changed() {
    let shell = Shell::new();
    let status = shell.run(&["status"]);
    assert!(text(&status.stdout).contains("role           leader\n"), "{}", text(&status.stdout));
    assert_eq!(
        text(&shell.run(&["members"]).stdout),
        "NODE   RAFT            HTTP  SUFFRAGE\nnode1  127.0.0.1:7001        voter     leader\n"
    );
    let join = ["join", "node2", "h:7002", "--http-addr", "http://h:8082", "--nonvoter"];
    assert_eq!(text(&shell.run(&join).stdout), "OK\n");
    let joined = shell.server.seen().pop().unwrap();
    assert_eq!(
        text(&joined.body),
        r#"{"HttpAddr":"http://h:8082","ID":"node2","RaftAddr":"h:7002","Suffrage":"nonvoter"}"#
    );
    shell.run(&["put", "k", "value"]);
    let meta = shell.run(&["get", "k", "--meta"]);
    assert!(
        text(&meta.stdout).contains("mod_revision     1\nversion          1\nbytes            5\n")
    );
}

#[test]
fn a_reader_that_leaves_is_a_normal_end() {
    let shell = Shell::new();
    for arguments in [&["get", "k"][..], &["scan"], &["status"], &["help"]] {
        shell.feed(&["put", "k", "-"], &vec![b'x'; 1_000_000]);
        let mut child = shell.command(arguments).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
    }
    let mut child = shell.command(&[]).spawn().unwrap();
    drop(child.stdout.take());
    let _ = child.stdin.take().unwrap().write_all(b"get none\nget k\nget k\n");
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stderr), "error: line 1: there is no key none\n");
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn several_servers_may_be_named_and_the_live_one_is_found() {
    let shell = Shell::new();
    let nobody = shell.runtime.block_on(nobody());
    let both = format!("{nobody},{}", shell.server.url);
    let output = feed(command(&both, &["put", "k", "v"]), b"");
    assert_eq!(text(&output.stdout), "OK revision 1\n");
    let output = shell.run(&["--server", &nobody, "--server", &shell.server.url, "get", "k"]);
    assert_eq!(text(&output.stdout), "v");
}

#[test]
fn help_lists_commands_and_exit_codes() {
    let shell = Shell::new();
    let help = shell.run(&["--help"]);
    let help = text(&help.stdout);
    for line in ["  scan ", "  4  there is no such key", "--server <URL>", "CONURE_SERVER"] {
        assert!(help.contains(line), "{line}: {help}");
    }
    assert!(text(&shell.run(&["--version"]).stdout).starts_with("conuresh "));
    assert!(text(&shell.run(&["get", "--help"]).stdout).contains("Usage: get KEY"));
}

#[test]
fn a_watch_prints_a_line_for_each_change_until_it_can_go_on_nowhere() {
    let events = "id: 4\n\nevent: put\ndata: {\"key\":\"a\\tb\",\"value\":\"new\",\"mod_revision\":5,\
                  \"create_revision\":1,\"version\":2,\"previous\":{\"value\":\"old\"}}\nid: 5\n\n\
                  event: delete\ndata: {\"key\":\"c\",\"mod_revision\":6,\"previous\":null}\nid: 6\n\n";
    let shell = Shell::against(move |request| match request.target.as_str() {
        "/watch?prefix=&prev=true" => Answer::ok(events),
        "/watch?prefix=&from_revision=7&prev=true" => {
            Answer::problem(410, "revision_trimmed", "no")
        }
        _ => Answer::problem(404, "not_found", "no"),
    });
    let output = shell.run(&["watch", "--prefix", "", "--prev"]);
    assert_eq!(text(&output.stdout), "5\tput\ta\\tb\tnew\twas\told\n6\tdelete\tc\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("revision_trimmed"), "{}", text(&output.stderr));
}
