//! The rules as tables, and what holds a file against them. Every list of exceptions carries reasons, and an
//! exception that nothing needs any more is itself against the rules.

use std::fmt;

use crate::Source;
use crate::imports::imports;
use crate::lexer::{Token, tokens};

/// Floor 0: what everybody may import, and what imports nothing above itself.
const GROUND: &[&str] =
    &["types", "error", "codec", "config", "metrics", "env", "logs", "plants", "threads"];

/// A module on top, and what it may import besides itself and the ground floor.
struct Room {
    name: &'static str,
    may: &'static [&'static str],
    /// Parts of what it may import that are closed to it all the same.
    but_not: &'static [&'static str],
    why: &'static str,
}

const ROOMS: &[Room] = &[
    Room {
        name: "storage",
        may: &[],
        but_not: &[],
        why: "it is synchronous and knows no actors, so that it can be tested and reasoned about alone",
    },
    Room {
        name: "actors",
        may: &["storage"],
        but_not: &[],
        why: "requests come down to it as messages, from whichever protocol",
    },
    Room {
        name: "http",
        may: &["actors::messages"],
        but_not: &["actors::messages::inside"],
        why: "messages are all it may know of the actors; those of `inside` pass between actors only",
    },
    Room {
        name: "client",
        may: &[],
        but_not: &[],
        why: "it knows a server by its HTTP contract, as a client in any language would",
    },
    Room {
        name: "shell",
        may: &["client"],
        but_not: &[],
        why: "it does what a user of the client can do",
    },
    Room {
        name: "os",
        may: &["storage", "actors", "client", "shell"],
        but_not: &[],
        why: "it stands behind traits of the floors below; only the binaries know it",
    },
    Room {
        name: "simulation",
        may: &["storage", "actors"],
        but_not: &[],
        why: "it stands in place of `os` behind the same traits; only its program and tests know it",
    },
    Room {
        name: "processes",
        may: &[],
        but_not: &[],
        why: "it knows a node as its operator does: by its command line and its signals",
    },
];

/// A family of crates, by the name all of it starts with, and the modules that may name it.
struct Confined {
    family: &'static str,
    homes: &'static [&'static str],
    why: &'static str,
}

const CONFINED: &[Confined] = &[
    Confined {
        family: "openraft",
        homes: &["actors::raft"],
        why: "the Raft library stays behind messages and can be replaced",
    },
    Confined {
        family: "bincode",
        homes: &["codec"],
        why: "it is no longer maintained: one module decodes with it, under a limit, and can replace it",
    },
    Confined {
        family: "actix_web",
        homes: &["http", "actors::http", "bin"],
        why: "only what serves HTTP knows how it is served",
    },
    Confined {
        family: "actix",
        homes: &["actors", "http", "os", "simulation", "bin"],
        why: "storage, client and shell run without an actor system",
    },
    Confined {
        family: "tokio",
        homes: &["actors", "http", "client", "shell", "os", "simulation", "processes", "bin"],
        why: "storage and the ground floor do not wait",
    },
    Confined {
        family: "reqwest",
        homes: &["client", "bin::conure-soak"],
        why: "there is one HTTP client, with one way to retry; conure-soak also sends what must not be retried",
    },
    Confined {
        family: "lmdb",
        homes: &["bin::conure-bench"],
        why: "other engines are measured, not used",
    },
    Confined {
        family: "redb",
        homes: &["bin::conure-bench"],
        why: "other engines are measured, not used",
    },
    Confined {
        family: "fjall",
        homes: &["bin::conure-bench"],
        why: "other engines are measured, not used",
    },
    Confined { family: "reedline", homes: &["shell"], why: "only a prompt edits lines" },
    Confined { family: "crossterm", homes: &["shell"], why: "only the shell draws on a terminal" },
    Confined {
        family: "indicatif",
        homes: &["shell"],
        why: "only a shell has somebody who waits and looks",
    },
];

/// More lines than the house's files have, and about as many as one can keep in mind.
const MOST_LINES: usize = 450;

/// Files that are longer all the same, each with its reason.
pub const OUTGROWN: &[(&str, &str)] = &[];

/// Files with unsafe code, each with its reason.
pub const UNSAFE: &[(&str, &str)] = &[
    (
        "src/storage/cache.rs",
        "readers get pages by the epochs' promise instead of a count that all processors share",
    ),
    (
        "src/storage/cache/array.rs",
        "a page table of zeros that the system makes when they are touched",
    ),
    ("src/storage/cache/frames.rs", "huge pages, which no safe interface gives"),
    ("src/storage/cache/writer.rs", "the writer's own frames, in the same memory"),
];

/// What stands for work that is still to be done, in code and in comments.
const MARKS: &[&str] = &["TODO", "FIXME", "XXX", "HACK"];
const MACROS: &[&str] = &["dbg", "todo", "unimplemented"];

/// Where a file breaks a rule, and which.
#[derive(Debug)]
pub struct Violation {
    path: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}:{}: {}", self.path, self.line, self.rule)
    }
}

impl Source {
    fn violation(&self, line: usize, rule: String) -> Violation {
        Violation { path: self.path.clone(), line, rule }
    }
}

/// Whether `path` is `module` or lies inside it.
fn is_inside(path: &[String], module: &str) -> bool {
    let names: Vec<&str> = module.split("::").collect();
    path.len() >= names.len() && names.iter().zip(path).all(|(name, part)| name == part)
}

/// Whether `path`, which ends in `*`, brings `module` along.
fn sweeps_in(path: &[String], module: &str) -> bool {
    let around = path.strip_suffix(&["*".to_owned()]);
    around.is_some_and(|around| module.starts_with(&format!("{}::", around.join("::"))))
}

/// What `source` imports although it stands above it. Binaries and tests may import anything.
pub fn imports_upwards(source: &Source) -> Vec<Violation> {
    let Some(module) = source.module() else { return Vec::new() };
    let Some(top) = module.first().filter(|top| *top != "bin") else { return Vec::new() };
    let room = ROOMS.iter().find(|room| room.name == top);
    if room.is_none() && !GROUND.contains(&top.as_str()) {
        let rule = format!("`{top}` stands on no floor: give it a room in {}", file!());
        return vec![source.violation(1, rule)];
    }
    let (may, but_not, why) = match room {
        Some(room) => (room.may, room.but_not, room.why),
        None => (&[][..], &[][..], "the ground floor stands on nothing"),
    };
    let is_open = |path: &[String]| {
        let open = is_inside(path, top) || GROUND.iter().chain(may).any(|at| is_inside(path, at));
        let closed = but_not.iter().any(|at| is_inside(path, at) || sweeps_in(path, at));
        open && !closed
    };
    imports(&module, &source.text)
        .iter()
        .filter(|import| !is_open(&import.path))
        .map(|import| {
            let path = import.path.join("::");
            source.violation(import.line, format!("`{top}` may not import `{path}`: {why}"))
        })
        .collect()
}

/// Crates that `source` names although they are confined to other modules.
pub fn crates_outside_their_rooms(source: &Source) -> Vec<Violation> {
    let Some(module) = source.module() else { return Vec::new() };
    let mut violations = Vec::new();
    for spot in tokens(&source.text) {
        let Token::Word(word) = spot.token else { continue };
        let of_family = |confined: &&Confined| {
            let rest = word.strip_prefix(confined.family);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        };
        // The first that fits: `actix_web` has rules of its own beside those of `actix`.
        let Some(confined) = CONFINED.iter().find(of_family) else { continue };
        if !confined.homes.iter().any(|home| is_inside(&module, home)) {
            let (homes, why) = (confined.homes.join(", "), confined.why);
            let rule = format!("`{word}` may be named in {homes} only: {why}");
            violations.push(source.violation(spot.line, rule));
        }
    }
    violations
}

/// Files of more than [`MOST_LINES`] that are not excepted, and exceptions without need.
pub fn outgrown(sources: &[Source], excepted: &[(&str, &str)]) -> Vec<Violation> {
    let too_long = |source: &Source| {
        let lines = source.text.lines().count();
        let rule = format!("{lines} lines are more than {MOST_LINES}: it holds more than one idea");
        (lines > MOST_LINES).then(|| source.violation(lines, rule))
    };
    with_exceptions(sources, excepted, too_long)
}

/// Files with `unsafe` that are not excepted, and exceptions without need.
pub fn unsafe_code(sources: &[Source], excepted: &[(&str, &str)]) -> Vec<Violation> {
    let is_unsafe = |source: &Source| {
        let spots = tokens(&source.text);
        let spot = spots.iter().find(|spot| spot.token == Token::Word("unsafe"))?;
        Some(source.violation(spot.line, "unsafe code needs a reason in this test".to_owned()))
    };
    with_exceptions(sources, excepted, is_unsafe)
}

fn with_exceptions(
    sources: &[Source],
    excepted: &[(&str, &str)],
    breaks: impl Fn(&Source) -> Option<Violation>,
) -> Vec<Violation> {
    let is_excepted = |source: &&Source| excepted.iter().any(|(path, _)| *path == source.path);
    let (known, others): (Vec<&Source>, Vec<&Source>) = sources.iter().partition(is_excepted);
    let mut violations: Vec<Violation> = others.into_iter().filter_map(&breaks).collect();
    for (path, reason) in excepted {
        let is_needed = known.iter().any(|source| source.path == *path && breaks(source).is_some());
        if !is_needed {
            let rule = format!("is an exception ({reason}) that it does not need any more");
            violations.push(Violation { path: (*path).to_owned(), line: 1, rule });
        }
    }
    violations
}

/// Marks of unfinished work, also in comments, and macros that stand for it.
pub fn left_unfinished(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    // This file and its tests have to name what they look for.
    if source.path == file!() {
        return violations;
    }
    for (index, line) in source.text.lines().enumerate() {
        let mut words = line.split(|char: char| !char.is_alphanumeric() && char != '_');
        if let Some(mark) = words.find(|word| MARKS.contains(word)) {
            let rule = format!("{mark}: finish it, or open an issue");
            violations.push(source.violation(index + 1, rule));
        }
    }
    for pair in tokens(&source.text).windows(2) {
        if let [Token::Word(word), Token::Mark('!')] = [pair[0].token, pair[1].token]
            && MACROS.contains(&word)
        {
            violations
                .push(source.violation(pair[0].line, format!("{word}! is for the desk only")));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    fn goes_up(path: &str, text: &str) -> bool {
        !imports_upwards(&source(path, text)).is_empty()
    }

    fn is_outside(path: &str, text: &str) -> bool {
        !crates_outside_their_rooms(&source(path, text)).is_empty()
    }

    #[test]
    fn each_floor_may_import_what_is_below() {
        for (path, text) in [
            ("src/types.rs", "use crate::codec::Codec; use std::io;"),
            ("src/config/layers.rs", "use super::error::ConfigError; use crate::config::Cli;"),
            ("src/storage/kv.rs", "use crate::storage::btree; use crate::types::Key;"),
            ("src/actors/raft/mod.rs", "use crate::storage::log::Log; use super::messages;"),
            ("src/http/kv.rs", "use crate::actors::messages::{Gateway, Read}; use super::reply;"),
            ("src/client.rs", "mod call; use crate::types::{Key, Value}; use call::Call;"),
            ("src/shell/run.rs", "use crate::client::Client; use super::exit;"),
            ("src/os/net.rs", "use crate::actors::peer::net::Network;"),
            ("src/bin/conure-db.rs", "use conuredb::{os, http, actors::node::Node};"),
            ("tests/simulation/main.rs", "use conuredb::os::OsClock;"),
            ("src/lib.rs", "pub mod actors; pub use actors::node::Node;"),
        ] {
            assert!(!goes_up(path, text), "{path}: {text}");
        }
    }

    #[test]
    fn no_floor_may_import_what_is_above() {
        for (path, text) in [
            ("src/types.rs", "use crate::storage::kv::Store;"),
            ("src/codec.rs", "fn f() { crate::actors::node::stop() }"),
            ("src/config/layers.rs", "use super::super::client::Client;"),
            ("src/storage/kv.rs", "use crate::{types::Key, actors::messages::Read};"),
            ("src/storage/log/tests.rs", "mod deep { use super::super::super::super::actors; }"),
            ("src/actors/node.rs", "use crate::http::State;"),
            ("src/actors/raft/mod.rs", "use crate::client as peer;"),
            ("src/actors/mod.rs", "use crate::os::OsClock;"),
            ("src/http/kv.rs", "use crate::storage::kv::Snapshot;"),
            ("src/http/kv.rs", "use crate::actors::node::Node;"),
            ("src/http/kv.rs", "use crate::actors::messages::inside::Close;"),
            ("src/http/kv.rs", "use crate::actors::messages; fn f(x: messages::inside::Close) {}"),
            ("src/http/kv.rs", "use crate::actors::messages::*;"),
            ("src/http/kv.rs", "use crate::*;"),
            ("src/client/call.rs", "use crate::http::route;"),
            ("src/shell.rs", "use crate::actors::messages::Read;"),
            ("src/os/seeds.rs", "use crate::http::State;"),
            ("src/shell.rs", "#[test] fn t() { let x: crate::os::OsClock; }"),
        ] {
            assert!(goes_up(path, text), "{path}: {text}");
        }
    }

    #[test]
    fn a_new_module_needs_a_room() {
        assert!(goes_up("src/helpers.rs", ""));
    }

    #[test]
    fn crates_stay_in_their_rooms() {
        assert!(!is_outside("src/actors/raft/types.rs", "use openraft::Raft;"));
        assert!(!is_outside("src/actors/log.rs", "// openraft asks for this\nuse tokio::sync;"));
        assert!(!is_outside("src/actors/http.rs", "use actix_web::dev::ServerHandle;"));
        assert!(!is_outside("src/storage/kv.rs", "let tokios = actixes(\"tokio\");"));
        assert!(is_outside("src/actors/log.rs", "use openraft_rt::AsyncRuntime;"));
        assert!(is_outside("src/actors/log.rs", "fn f(x: openraft::Vote) {}"));
        assert!(is_outside("src/actors/raft_like.rs", "use openraft as raft;"));
        assert!(is_outside("src/actors/node.rs", "use actix_web::web;"));
        assert!(is_outside("src/storage/disk/file.rs", "use tokio::fs;"));
        assert!(is_outside("src/storage/kv.rs", "#[derive(actix::Message)] struct A;"));
        assert!(is_outside("src/storage/log.rs", "use bincode::encode_to_vec;"));
    }

    #[test]
    fn a_long_file_needs_a_reason_and_only_a_long_one() {
        let long = [source("src/a.rs", &"\n".repeat(MOST_LINES + 1))];
        let short = [source("src/a.rs", &"\n".repeat(MOST_LINES))];
        let excepted = [("src/a.rs", "a table")];
        assert_eq!(outgrown(&long, &[]).len(), 1);
        assert_eq!(outgrown(&long, &excepted).len(), 0);
        assert_eq!(outgrown(&short, &[]).len(), 0);
        assert_eq!(outgrown(&short, &excepted).len(), 1);
        assert_eq!(outgrown(&[], &excepted).len(), 1);
    }

    #[test]
    fn unsafe_code_needs_a_reason() {
        let found = |text| unsafe_code(&[source("src/a.rs", text)], &[]).len();
        assert_eq!(found("fn f() { unsafe { g() } }"), 1);
        assert_eq!(found("// unsafe\n#![forbid(unsafe_code)]"), 0);
    }

    #[test]
    fn unfinished_work_is_found() {
        let found = |text: &str| left_unfinished(&source("src/a.rs", text)).len();
        assert_eq!(found("fn f() {} // TODO: more"), 1);
        assert_eq!(found("/// FIXME\nfn f() { todo!(\"later\") }"), 2);
        assert_eq!(found("fn f() { dbg!(1); std::unimplemented!() }"), 2);
        assert_eq!(found("fn todo() { let todo = !0; } // \"dbg!\" in TODOS"), 0);
    }
}
