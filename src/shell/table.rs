//! The table of commands: what completion offers, what `help` prints, what parsing allows.

use std::fmt::Write;
use std::ops::RangeInclusive;

/// A command. Words in capitals in `usage` say what an argument is: KEY, PREFIX and ID are completed from the server.
pub struct Spec {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    /// Its arguments, as `help` shows them.
    pub usage: &'static str,
    pub about: &'static str,
    pub options: &'static [Opt],
    pub arguments: RangeInclusive<usize>,
    pub examples: &'static [&'static str],
}

/// An option of a command.
pub struct Opt {
    pub name: &'static str,
    /// What follows it, if something does.
    pub value: Option<&'static str>,
    pub about: &'static str,
}

impl Spec {
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }

    /// Whether its words may be anything, in any number, which the usage tells.
    pub fn takes_anything(&self) -> bool {
        self.usage.contains('…')
    }
}

const fn flag(name: &'static str, about: &'static str) -> Opt {
    Opt { name, value: None, about }
}

const fn with(name: &'static str, value: &'static str, about: &'static str) -> Opt {
    Opt { name, value: Some(value), about }
}

const IF_REVISION: Opt = with("--if-revision", "N", "only if revision N wrote the key last");
const REVISION: Opt = with("--revision", "N", "as it was right after revision N");
const LIMIT: Opt = with("--limit", "N", "list at most N (100)");
const TTL: Opt = with("--ttl", "DURATION", "held so long after this falls silent (10s)");
const STALE: Opt = flag("--stale", "from the server's own state, which may be behind");

pub static COMMANDS: &[Spec] = &[
    Spec {
        name: "put",
        aliases: &["set"],
        usage: "put KEY VALUE | put KEY --file FILE | put KEY -",
        about: "store a value under a key; - reads it from standard input (from the command line only)",
        options: &[
            with("--file", "FILE", "the value is what the file holds"),
            with("--ttl", "DURATION", "the key expires after it, such as 30s"),
            with("--lease", "ID", "the key ends with this lease"),
            flag("--if-absent", "only if there is no such key"),
            IF_REVISION,
        ],
        arguments: 1..=2,
        examples: &[
            "put greeting \"hello world\"",
            "put lock/1 me --if-absent",
            "put logo.png --file logo.png",
            "put session/1 me --ttl 30s",
            "put service/a 10.0.0.7 --lease 6c2b54f1f5e20b1d",
            "put bin\\x00key \"two\\nlines\"",
        ],
    },
    Spec {
        name: "get",
        aliases: &[],
        usage: "get KEY",
        about: "print the value of a key; into a pipe or file exactly its bytes",
        options: &[
            STALE,
            REVISION,
            flag("--meta", "print revisions and size too"),
            with("--out", "FILE", "write the bytes to a file"),
        ],
        arguments: 1..=1,
        examples: &[
            "get greeting",
            "get greeting --meta",
            "get greeting --revision 7",
            "get logo.png --out logo.png",
        ],
    },
    Spec {
        name: "delete",
        aliases: &["del", "rm"],
        usage: "delete KEY | delete --prefix PREFIX",
        about: "remove a key, or at once all keys with a prefix",
        options: &[
            with("--prefix", "PREFIX", "remove every key that begins with it"),
            IF_REVISION,
            flag("--yes", "do not ask before every key is removed (--prefix \"\")"),
        ],
        arguments: 0..=1,
        examples: &[
            "delete greeting",
            "delete greeting --if-revision 7",
            "delete --prefix tmp/",
            "delete --prefix \"\" --yes",
        ],
    },
    Spec {
        name: "scan",
        aliases: &["ls"],
        usage: "scan [PREFIX]",
        about: "list keys and values in order, one a line with a tab between",
        options: &[
            LIMIT,
            flag("--keys-only", "list no values"),
            flag("--reverse", "last key first"),
            with("--start", "KEY", "begin at this key"),
            with("--end", "KEY", "stop before this key"),
            REVISION,
            STALE,
        ],
        arguments: 0..=1,
        examples: &[
            "scan",
            "scan user/ --limit 10",
            "scan --start b --end d --keys-only --reverse",
        ],
    },
    Spec {
        name: "ttl",
        aliases: &[],
        usage: "ttl KEY",
        about: "print how long a key has still to live",
        options: &[],
        arguments: 1..=1,
        examples: &["ttl session/1"],
    },
    Spec {
        name: "cas",
        aliases: &[],
        usage: "cas KEY OLD NEW",
        about: "store NEW under a key if its value is OLD (compare and swap)",
        options: &[],
        arguments: 3..=3,
        examples: &["cas state idle busy", "cas counter 41 42"],
    },
    Spec {
        name: "txn",
        aliases: &[],
        usage: "txn [if KEY FIELD RELATION VALUE | if KEY exists|absent]… [then|else put|get|delete|scan …]… commit",
        about: "do all of `then` at once if every `if` holds, else all of `else`; in as many lines as you like",
        options: &[],
        arguments: 0..=0,
        examples: &[
            "txn if seat/1 absent then put seat/1 me else get seat/1 commit",
            "txn if a version >= 2 if b value = \"x y\" then delete a then delete --prefix b/ commit",
            "txn if a mod_revision = 7 then put a 1 then scan a/ commit",
        ],
    },
    Spec {
        name: "history",
        aliases: &[],
        usage: "history KEY",
        about: "list what became of a key, newest first: revision, put or delete, value",
        options: &[LIMIT, REVISION, STALE],
        arguments: 1..=1,
        examples: &["history greeting", "history greeting --revision 40 --limit 3"],
    },
    Spec {
        name: "diff",
        aliases: &[],
        usage: "diff FROM TO [PREFIX]",
        about: "list what differs between two revisions: - what was, + what is",
        options: &[],
        arguments: 2..=3,
        examples: &["diff 40 42", "diff 40 42 user/"],
    },
    Spec {
        name: "watch",
        aliases: &[],
        usage: "watch KEY | watch --prefix PREFIX",
        about: "show changes as they come, one a line: revision, what, key, value; Ctrl-C ends it",
        options: &[
            with("--prefix", "PREFIX", "of every key that begins with it; of all with \"\""),
            with("--from", "N", "begin with revision N"),
            flag("--prev", "show the value before as well"),
        ],
        arguments: 0..=1,
        examples: &[
            "watch greeting",
            "watch --prefix user/ --prev",
            "watch --prefix \"\" --from 1",
        ],
    },
    Spec {
        name: "lease",
        aliases: &[],
        usage: "lease grant TTL | lease keepalive ID | lease revoke ID | lease show ID | lease list",
        about: "a time to live that keys share (`put --lease`): grant it, keep it alive, end it, look at it",
        options: &[],
        arguments: 1..=2,
        examples: &[
            "lease grant 30s",
            "lease keepalive 6c2b54f1f5e20b1d",
            "lease revoke 6c2b54f1f5e20b1d",
            "lease show 6c2b54f1f5e20b1d",
            "lease list",
        ],
    },
    Spec {
        name: "lock",
        aliases: &[],
        usage: "lock [--ttl DURATION] NAME COMMAND [ARGUMENT]…",
        about: "wait for a lock and run a program while it is held, with CONURE_FENCING_TOKEN and CONURE_LOCK_KEY in its environment; its exit code is the program's",
        options: &[TTL],
        arguments: 2..=usize::MAX,
        examples: &[
            "lock deploy ./deploy.sh production",
            "lock --ttl 30s backup tar czf all.tgz .",
        ],
    },
    Spec {
        name: "elect",
        aliases: &[],
        usage: "elect NAME [VALUE] | elect --observe NAME",
        about: "campaign to lead, say so when elected, and lead until Ctrl-C; or show who leads as that changes",
        options: &[flag("--observe", "show who leads, and do not campaign"), TTL],
        arguments: 1..=2,
        examples: &["elect scheduler host-7", "elect --observe scheduler"],
    },
    Spec {
        name: "status",
        aliases: &[],
        usage: "status",
        about: "show how the node that is asked sees itself and the leader",
        options: &[],
        arguments: 0..=0,
        examples: &["status"],
    },
    Spec {
        name: "members",
        aliases: &[],
        usage: "members",
        about: "list the nodes of the cluster",
        options: &[],
        arguments: 0..=0,
        examples: &["members"],
    },
    Spec {
        name: "join",
        aliases: &[],
        usage: "join ID RAFT_ADDR",
        about: "add a node; it votes once it has caught up",
        options: &[
            with("--http-addr", "URL", "where clients reach the node"),
            flag("--nonvoter", "a copy of the data that does not vote"),
        ],
        arguments: 2..=2,
        examples: &["join node2 127.0.0.1:7002 --http-addr http://127.0.0.1:8082"],
    },
    Spec {
        name: "remove",
        aliases: &[],
        usage: "remove ID",
        about: "remove a node from the cluster for good",
        options: &[],
        arguments: 1..=1,
        examples: &["remove node2"],
    },
    Spec {
        name: "transfer",
        aliases: &[],
        usage: "transfer ID",
        about: "make a node the leader",
        options: &[],
        arguments: 1..=1,
        examples: &["transfer node2"],
    },
    Spec {
        name: "backup",
        aliases: &[],
        usage: "backup FILE",
        about: "save the whole store to a file, while writes go on; - is standard output. `conure-db restore` restores it",
        options: &[STALE],
        arguments: 1..=1,
        examples: &["backup conuredb.backup", "backup - --stale"],
    },
    Spec {
        name: "export",
        aliases: &[],
        usage: "export FILE",
        about: "write keys and values as lines of JSON, of one revision; - is standard output",
        options: &[with("--prefix", "PREFIX", "those that begin with it, not all")],
        arguments: 1..=1,
        examples: &["export all.ndjson", "export --prefix user/ -"],
    },
    Spec {
        name: "import",
        aliases: &[],
        usage: "import FILE",
        about: "store the keys and values of such lines; - reads standard input (from the command line only)",
        options: &[with("--from-line", "N", "go on where an import stopped")],
        arguments: 1..=1,
        examples: &["import all.ndjson", "import all.ndjson --from-line 4097"],
    },
    Spec {
        name: "compact",
        aliases: &[],
        usage: "compact",
        about: "have the node that is asked make its file smaller, and wait for that",
        options: &[flag("--no-wait", "only begin")],
        arguments: 0..=0,
        examples: &["compact"],
    },
    Spec {
        name: "log-level",
        aliases: &[],
        usage: "log-level [FILTER]",
        about: "show what the node that is asked logs, or have it log something else until it ends",
        options: &[],
        arguments: 0..=1,
        examples: &["log-level", "log-level debug", "log-level info,conuredb::storage=debug"],
    },
    Spec {
        name: "help",
        aliases: &["?"],
        usage: "help [COMMAND]",
        about: "list the commands, or tell about one",
        options: &[],
        arguments: 0..=1,
        examples: &["help scan"],
    },
    Spec {
        name: "exit",
        aliases: &["quit"],
        usage: "exit",
        about: "leave the shell (also Ctrl-D)",
        options: &[],
        arguments: 0..=0,
        examples: &["exit"],
    },
    Spec {
        name: "top",
        aliases: &[],
        usage: "top",
        about: "watch all members live: role, term, lag, requests, latency, disk; q or Ctrl-C ends it",
        options: &[
            flag("--once", "print one table, of what happens during one interval"),
            with("--every", "DURATION", "time between two looks (1s)"),
        ],
        arguments: 0..=0,
        examples: &["top", "top --every 5s", "top --once", "top --once -o json"],
    },
];

/// The command with this name or alias.
pub fn find(name: &str) -> Option<&'static Spec> {
    COMMANDS.iter().find(|spec| spec.is_called(name))
}

/// Commands, a line each.
pub fn overview(commands: impl Iterator<Item = &'static Spec>) -> String {
    let mut text = String::from("Commands:\n");
    for spec in commands {
        line(&mut text, spec.name, spec.about);
    }
    text.push_str(
        "\nEvery command takes `-o json`, `-o table` or `-o plain`: the form of its answer.\n\
         Words are quoted as in a shell: \"two words\", 'as it is', escapes \\n \\t \\\\ \\xNN.\n\
         `help COMMAND` tells more, with examples.\n",
    );
    text
}

/// One command: usage, options, examples.
pub fn describe(spec: &Spec) -> String {
    let mut text = format!("{}\n\nUsage: {}\n", spec.about, spec.usage);
    if !spec.aliases.is_empty() {
        text.push_str(&format!("Also called: {}\n", spec.aliases.join(", ")));
    }
    if !spec.options.is_empty() {
        text.push_str("\nOptions:\n");
    }
    for option in spec.options {
        let name = [option.name, option.value.unwrap_or_default()].join(" ");
        line(&mut text, &name, option.about);
    }
    text.push_str("\nExamples:\n");
    for example in spec.examples {
        text.push_str(&format!("  {example}\n"));
    }
    text
}

fn line(text: &mut String, name: &str, about: &str) {
    writeln!(text, "  {name:<16}  {about}").expect("a string takes all that is written");
}

#[cfg(test)]
mod tests {
    use super::super::extra::Vocabulary;
    use super::super::words::split;
    use super::*;

    #[test]
    fn every_example_is_a_command() {
        for spec in COMMANDS {
            for example in spec.examples {
                let words = split(example.as_bytes()).unwrap();
                let asked = Vocabulary::default().read(words);
                assert!(asked.unwrap_or_else(|why| panic!("{example}: {why}")).is_some());
            }
        }
    }

    #[test]
    fn names_and_aliases_are_distinct() {
        let mut names: Vec<_> =
            COMMANDS.iter().flat_map(|spec| spec.aliases.iter().chain([&spec.name])).collect();
        names.sort();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
