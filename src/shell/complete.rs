//! What the Tab key offers: commands, their options, and keys and nodes that the server has.
//!
//! What a word stands for is read from the command's usage: `KEY` and `PREFIX` are keys of the store, `ID` a node. The
//! server is asked for a few keys only, of its own state, and for a moment only: typing never waits longer than that,
//! and where nobody answers nothing is offered.

use std::ops::Range;
use std::time::Duration;

use reedline::{Completer, CompletionResult, Span, Suggestion};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::extra::Vocabulary;
use super::output;
use super::paint::TXN_WORDS;
use super::table::Spec;
use super::words::{begun, quote, spans};
use crate::client::{Client, ReadOptions, Scan};

/// How long a key press may wait for a server.
const WAIT: Duration = Duration::from_millis(150);

/// Most keys that are offered.
const MOST_KEYS: usize = 50;

/// Operations of a transaction, after `then` and `else`.
const TXN_OPERATIONS: [&str; 4] = ["put", "get", "delete", "scan"];

/// What a server can tell.
pub trait Known: Send {
    /// Keys that begin with `prefix`, in order.
    fn keys(&self, prefix: &[u8]) -> Vec<Vec<u8>>;

    /// The names of the nodes.
    fn nodes(&self) -> Vec<String>;
}

/// Asks the server that the shell talks to.
pub struct FromServer {
    client: Client,
    runtime: Handle,
}

impl FromServer {
    pub fn new(client: Client, runtime: Handle) -> FromServer {
        FromServer { client, runtime }
    }
}

impl Known for FromServer {
    fn keys(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        let scan = Scan {
            prefix: prefix.to_vec().into(),
            keys_only: true,
            limit: Some(MOST_KEYS),
            read: ReadOptions { stale: true, ..ReadOptions::default() },
            ..Scan::default()
        };
        let asked = self.runtime.block_on(async { timeout(WAIT, self.client.scan(&scan)).await });
        let Ok(Ok(page)) = asked else { return Vec::new() };
        page.items.into_iter().take(MOST_KEYS).map(|item| item.key.to_vec()).collect()
    }

    fn nodes(&self) -> Vec<String> {
        let asked = self.runtime.block_on(async { timeout(WAIT, self.client.members()).await });
        let Ok(Ok(members)) = asked else { return Vec::new() };
        members.servers.into_iter().map(|member| member.id).collect()
    }
}

/// The completer of the prompt.
pub struct Completions<K> {
    pub vocabulary: Vocabulary,
    pub known: K,
}

impl<K: Known> Completer for Completions<K> {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        CompletionResult::fresh(self.offers(&line[..pos]))
    }
}

/// What the word that is being typed is.
#[derive(Clone, Copy)]
enum Kind {
    Command,
    Option(&'static Spec),
    Key,
    Prefix,
    Node,
    /// One of these.
    Of(&'static [&'static str]),
    /// Nothing that could be offered.
    Other,
}

impl<K: Known> Completions<K> {
    /// What `typed`, all up to the cursor, can go on with.
    fn offers(&self, typed: &str) -> Vec<Suggestion> {
        let mut words = spans(typed);
        let last = match words.pop_if(|span| span.end == typed.len()) {
            Some(span) => span,
            None => typed.len()..typed.len(),
        };
        let before: Vec<&str> = words.iter().map(|span| &typed[span.clone()]).collect();
        let word = &typed[last.clone()];
        match self.kind(&before, word) {
            Kind::Command => {
                let fitting = self.vocabulary.all().filter(|spec| spec.name.starts_with(word));
                fitting.map(|spec| offer(spec.name, Some(spec.about), &last)).collect()
            }
            Kind::Option(spec) => {
                let unused = spec.options.iter().filter(|option| !before.contains(&option.name));
                let fitting = unused.filter(|option| option.name.starts_with(word));
                let output = "--output";
                let mut offers: Vec<Suggestion> =
                    fitting.map(|option| offer(option.name, Some(option.about), &last)).collect();
                if output.starts_with(word) && !before.contains(&output) && !before.contains(&"-o")
                {
                    offers.push(offer(output, Some("json, table or plain"), &last));
                }
                offers
            }
            Kind::Key => self.keys(word, &last, true),
            Kind::Prefix => self.keys(word, &last, false),
            Kind::Node => {
                let nodes = self.known.nodes().into_iter().filter(|node| node.starts_with(word));
                nodes.map(|node| offer(&node, None, &last)).collect()
            }
            Kind::Of(words) => {
                let fitting = words.iter().filter(|known| known.starts_with(word));
                fitting.map(|known| offer(known, None, &last)).collect()
            }
            Kind::Other => Vec::new(),
        }
    }

    fn keys(&self, word: &str, at: &Range<usize>, is_whole: bool) -> Vec<Suggestion> {
        let Some(typed) = begun(word) else { return Vec::new() };
        let keys = self.known.keys(&typed.bytes).into_iter();
        keys.map(|key| {
            let offered = offer(&quote(&key), None, at);
            // A prefix may be meant to go on, a key is done.
            Suggestion { append_whitespace: is_whole, ..offered }
        })
        .collect()
    }

    fn kind(&self, before: &[&str], word: &str) -> Kind {
        let Some((name, before)) = before.split_first() else { return Kind::Command };
        let Some(spec) = self.vocabulary.find(name) else { return Kind::Other };
        match spec.name {
            "help" => return Kind::Command,
            "txn" => return in_txn(before),
            _ => {}
        }
        if let Some(previous) = before.last() {
            if matches!(*previous, "-o" | "--output") {
                return Kind::Of(&output::NAMES);
            }
            let option = spec.options.iter().find(|option| option.name == *previous);
            match option.and_then(|option| option.value) {
                // An ID of something else than a node.
                Some("ID") => return Kind::Other,
                Some(value) => return kind_of(value),
                None => {}
            }
        }
        match word.starts_with('-') {
            true => Kind::Option(spec),
            false => place_of(spec, before).map_or(Kind::Other, kind_of),
        }
    }
}

/// What stands in the usage where the next argument after `before` would.
fn place_of(spec: &'static Spec, before: &[&str]) -> Option<&'static str> {
    let mut arguments = 0;
    let mut words = before.iter();
    while let Some(word) = words.next() {
        let is_option = word.starts_with('-') && word.len() > 1;
        let option = spec.options.iter().find(|option| option.name == *word);
        if option.is_some_and(|option| option.value.is_some()) || matches!(*word, "-o" | "--output")
        {
            words.next();
        } else if !is_option {
            arguments += 1;
        }
    }
    let usage = spec.usage.split('|').next().unwrap_or_default();
    usage.split_whitespace().nth(1 + arguments)
}

/// What a word of a usage, `KEY` or `[PREFIX]`, asks for.
fn kind_of(word: &str) -> Kind {
    match word.trim_matches(['[', ']', '…']) {
        "KEY" => Kind::Key,
        "PREFIX" => Kind::Prefix,
        "ID" => Kind::Node,
        _ => Kind::Other,
    }
}

fn in_txn(before: &[&str]) -> Kind {
    match before.last() {
        Some(&"then" | &"else") => Kind::Of(&TXN_OPERATIONS),
        Some(&"if" | &"put" | &"get" | &"delete") => Kind::Key,
        Some(&"scan" | &"--prefix") => Kind::Prefix,
        _ => Kind::Of(&TXN_WORDS),
    }
}

fn offer(value: &str, about: Option<&str>, at: &Range<usize>) -> Suggestion {
    Suggestion {
        value: value.to_owned(),
        description: about.map(str::to_owned),
        span: Span::new(at.start, at.end),
        append_whitespace: true,
        ..Suggestion::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::COMMANDS;
    use super::*;

    struct Few;

    impl Known for Few {
        fn keys(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
            let all = [&b"user/1"[..], b"user/2", b"two words", b"\xff"];
            all.into_iter().filter(|key| key.starts_with(prefix)).map(<[u8]>::to_vec).collect()
        }

        fn nodes(&self) -> Vec<String> {
            vec!["node1".to_owned(), "node2".to_owned()]
        }
    }

    fn offers(line: &str) -> Vec<String> {
        let completions = Completions { vocabulary: Vocabulary::default(), known: Few };
        completions.offers(line).into_iter().map(|offered| offered.value).collect()
    }

    #[test]
    fn commands_and_their_options_are_offered() {
        assert_eq!(offers("st"), ["status"]);
        assert_eq!(offers("help t"), ["ttl", "txn", "transfer", "top"]);
        assert_eq!(offers("get k --m"), ["--meta"]);
        assert_eq!(offers("ls --start a --o"), ["--output"]);
        assert_eq!(offers("get k -o j"), ["json"]);
        assert_eq!(offers("").len(), COMMANDS.len());
        assert!(!offers("ls --start a --").contains(&"--start".to_owned()));
        assert_eq!(offers("nothing k"), Vec::<String>::new());
    }

    #[test]
    fn keys_are_offered_where_a_command_takes_one() {
        for line in [
            "get us",
            "get --stale us",
            "delete --prefix us",
            "scan us",
            "scan --limit 3 us",
            "diff 1 2 us",
            "watch --prefix us",
            "txn if us",
            "txn then put us",
            "get k --output json\tus",
        ] {
            let expected: &[&str] =
                if line.starts_with("get k") { &[] } else { &["user/1", "user/2"] };
            assert_eq!(offers(line), expected, "{line}");
        }
        assert_eq!(offers("put us va"), Vec::<String>::new());
        assert_eq!(offers("diff us"), Vec::<String>::new());
        assert_eq!(offers("remove "), ["node1", "node2"]);
    }

    #[test]
    fn what_is_offered_reads_as_the_key_that_it_is() {
        assert_eq!(offers("get tw"), ["\"two words\""]);
        assert_eq!(offers("get \"two w"), ["\"two words\""]);
        assert_eq!(offers(r"get \xff"), [r#""\xff""#]);
        assert_eq!(offers("get 'us"), ["user/1", "user/2"]);
    }

    #[test]
    fn a_transaction_goes_on_with_what_may_follow() {
        assert_eq!(offers("txn "), TXN_WORDS);
        assert_eq!(offers("txn then "), TXN_OPERATIONS);
        assert_eq!(offers("txn if a exists th"), ["then"]);
    }
}
