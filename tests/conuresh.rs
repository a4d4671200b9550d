//! The shell as scripts use it: through the real binary, one-shot and from a pipe.

mod scripted;

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use scripted::{Answer, Request, Server, nobody, store};
use serde_json::{Value, json};

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
    // Words of the command line itself are words like others behind a command.
    assert!(shell.run(&["put", "man", "completions"]).status.success());
    assert_eq!(text(&shell.run(&["get", "man"]).stdout), "completions");
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
        "error: line 1: there is no key none\n\
         hint: `scan` lists the keys that there are, `scan PREFIX` some of them\n\
         error: line 3: the quote ' is not closed\n\
         hint: close it, or write \\' or \\\" for a quote that belongs to the word\n\
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
    assert!(text(&output.stderr).starts_with("error: line 1: there is no key none\n"));
    assert_eq!(text(&output.stderr).matches("error:").count(), 1, "{output:?}");
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn every_answer_can_be_json_with_names_that_stay() {
    let shell = Shell::new();
    let json = |arguments: &[&str]| -> Vec<Value> {
        let output = shell.run(&[arguments, &["-o", "json"]].concat());
        assert_eq!((text(&output.stderr), output.status.code()), ("", Some(0)), "{arguments:?}");
        let lines = text(&output.stdout).lines();
        lines.map(|line| serde_json::from_str(line).expect("a document a line")).collect()
    };
    let one = |arguments: &[&str]| json(arguments).pop().expect("a document");
    assert_eq!(
        one(&["put", "a", "1"]),
        json!({ "revision": 1, "create_revision": 1, "version": 1 })
    );
    shell.feed(&["put", "b", "-"], b"\xff");
    let record =
        json!({ "key": "a", "value": "1", "create_revision": 1, "mod_revision": 1, "version": 1 });
    assert_eq!(one(&["get", "a"]), record);
    assert_eq!(one(&["get", "a", "--meta"]), record);
    let scanned = json(&["scan"]);
    assert_eq!(scanned[0], record);
    assert_eq!((&scanned[1]["key"], &scanned[1]["value_base64"]), (&json!("b"), &json!("/w==")));
    assert_eq!(one(&["ttl", "a"]), json!({ "key": "a", "ttl_ms": null, "lease": null }));
    assert_eq!(one(&["delete", "a"]), json!({ "deleted": 1, "revision": 3 }));
    assert_eq!(one(&["delete", "--prefix", "b"]), json!({ "deleted": 1, "revision": 4 }));
    let status = one(&["status"]);
    assert_eq!(
        (&status["node_id"], &status["term"], &status["db_bytes"]),
        (&json!("node1"), &json!(3), &json!(8192))
    );
    assert_eq!(
        (&status["compacting"], &status["compactions"], &status["oldest_revision"]),
        (&json!(false), &json!(2), &json!(0))
    );
    assert_eq!(one(&["members"])["servers"][0]["is_leader"], true);
    assert_eq!(one(&["join", "n", "h:1"]), json!({ "message": "OK" }));
    let help = one(&["help"]);
    let names: Vec<&str> =
        help.as_array().unwrap().iter().filter_map(|spec| spec["name"].as_str()).collect();
    assert!(names.contains(&"history") && names.contains(&"top"), "{names:?}");
    assert_eq!(one(&["help", "get"])["usage"], "get KEY");

    // The flag says it for all, a command for itself.
    let output = shell.feed(&["-o", "json"], b"put k v\nget k -o plain\nget none\n");
    assert_eq!(text(&output.stdout).lines().nth(1), Some("v"));
    let error: Value = serde_json::from_str(text(&output.stderr)).expect("one document");
    assert_eq!((&error["exit_code"], &error["line"]), (&json!(4), &json!(3)));
    assert_eq!(error["error"], "there is no key none");
    let output = shell.run(&["remove", "node9", "-o", "json"]);
    let error: Value = serde_json::from_str(text(&output.stderr)).expect("one document");
    assert_eq!(
        (&error["code"], &error["hint"]),
        (&json!("unknown_node"), &json!("`members` lists the nodes"))
    );
}

#[test]
fn a_table_has_columns_under_headings() {
    let shell = Shell::new();
    shell.feed(&[], b"put a 1\nput long/key 2\n");
    assert_eq!(
        text(&shell.run(&["scan", "-o", "table"]).stdout),
        "KEY       VALUE\na         1\nlong/key  2\n"
    );
    assert_eq!(
        text(&shell.run(&["--output=table", "scan", "--keys-only"]).stdout),
        "KEY\na\nlong/key\n"
    );
}

#[test]
fn all_keys_are_removed_only_when_that_is_said() {
    let shell = Shell::new();
    shell.feed(&[], b"put a 1\nput b 2\n");
    for output in [shell.run(&["delete", "--prefix", ""]), shell.feed(&[], b"delete --prefix ''\n")]
    {
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains("hint: add --yes if that is meant"), "{output:?}");
    }
    assert_eq!(text(&shell.run(&["delete", "--prefix", "", "--yes"]).stdout), "OK deleted 2\n");
}

#[test]
fn top_prints_one_table_for_a_script() {
    // Two nodes: one that says all of it, one that is gone.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let gone = runtime.block_on(nobody());
    let url = Arc::new(Mutex::new(String::new()));
    let (own, other) = (url.clone(), gone.clone());
    let mut asked = 0;
    let server = runtime.block_on(Server::start(move |request: &Request| {
        match request.target.as_str() {
            "/raft/config" => Answer::json(json!({ "leader": "h:1", "servers": [
                { "id": "node1", "address": "h:1", "suffrage": "voter", "http_address": *own.lock().unwrap() },
                { "id": "node2", "address": "h:2", "suffrage": "voter", "http_address": other },
            ]})),
            "/status" => Answer::json(json!({
                "node_id": "node1", "role": "leader", "is_leader": true, "term": 7, "applied_index": 40,
                "revision": 30, "db_bytes": 1024
            })),
            "/raft/stats" => Answer::json(json!({
                "log_bytes": 1024, "peers": { "node2": { "match_index": 37, "lag": 3 } }
            })),
            "/metrics" => {
                asked += 1000;
                Answer::ok(format!(
                    "conuredb_http_requests_total{{route=\"kv\",method=\"PUT\",status=\"200\"}} {asked}\n"
                ))
            }
            _ => Answer::problem(404, "not_found", "no"),
        }
    }));
    *url.lock().unwrap() = server.url.clone();
    let top = |form: &str| {
        feed(command(&server.url, &["top", "--once", "--every", "100ms", "-o", form]), b"")
    };
    let output = top("json");
    let looked: Value = serde_json::from_str(text(&output.stdout)).expect("a document");
    let (first, second) = (&looked["members"][0], &looked["members"][1]);
    assert_eq!(
        (&first["id"], &first["role"], &first["term"]),
        (&json!("node1"), &json!("leader"), &json!(7))
    );
    assert_eq!((&first["reachable"], &first["disk_bytes"]), (&json!(true), &json!(2048)));
    assert_eq!(first["reads_per_second"], 0.0);
    assert!(first["writes_per_second"].as_f64().unwrap() > 0.0, "{first}");
    assert_eq!((&second["reachable"], &second["lag"]), (&json!(false), &json!(3)));
    let output = top("table");
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert!(lines[0].starts_with("NODE   ROLE"), "{lines:?}");
    assert!(lines[1].starts_with("node1  leader") && lines[1].contains("2.0 KiB"), "{lines:?}");
    assert!(lines[2].starts_with("node2  not reachable  -     3"), "{lines:?}");
    let live = feed(command(&server.url, &["top"]), b"");
    assert_eq!(live.status.code(), Some(2), "{live:?}");
    assert!(text(&live.stderr).contains("hint: `top --once` prints one table"));
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

#[test]
#[allow(clippy::disallowed_methods, reason = "what the shell left in its file is looked at")]
fn a_backup_that_broke_off_leaves_the_one_before() {
    let mut breaks = false;
    let shell = Shell::against(move |request: &Request| {
        if request.target != "/backup" {
            return Answer::problem(404, "not_found", "no");
        }
        let backup = Answer::ok("all of it").with("X-Conure-Revision", 7);
        let backup = backup.with("X-Conure-Applied-Index", 9);
        match std::mem::replace(&mut breaks, true) {
            false => backup,
            true => backup.cut_at(3),
        }
    });
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.backup");
    let path = path.to_str().unwrap();
    let saved = shell.run(&["backup", path]);
    assert_eq!(text(&saved.stdout), format!("OK revision 7, 9 bytes in {path}\n"));
    let broken = shell.run(&["backup", path]);
    assert_eq!(broken.status.code(), Some(3), "{broken:?}");
    assert_eq!(std::fs::read(path).unwrap(), b"all of it");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1, "and nothing beside it");
    let piped = Shell::against(|_: &Request| {
        Answer::ok("all").with("X-Conure-Revision", 7).with("X-Conure-Applied-Index", 9)
    })
    .run(&["backup", "-"]);
    assert_eq!(
        (&piped.stdout[..], text(&piped.stderr)),
        (&b"all"[..], "OK revision 7, 3 bytes in -\n")
    );
}
