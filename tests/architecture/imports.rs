//! Which modules of the crate a file names: by `use`, in groups, through `super`, through another name, or
//! inline in an expression.

use std::collections::BTreeMap;

use crate::lexer::{Spot, Token, tokens};

/// A path inside the crate that a file names. `path` starts at the crate's root, without `crate`; its last
/// name is `*` for everything in a module.
#[derive(Debug, PartialEq, Eq)]
pub struct Import {
    pub path: Vec<String>,
    pub line: usize,
}

/// The root of the crate as its own modules, and as binaries, call it.
const ROOTS: [&str; 2] = ["crate", "conuredb"];

/// What `text`, the file of `module`, names of the crate.
pub fn imports(module: &[String], text: &str) -> Vec<Import> {
    let spots = tokens(text);
    let mut reader = Reader {
        spots: &spots,
        at: 0,
        module: module.to_vec(),
        names: BTreeMap::new(),
        found: Vec::new(),
    };
    // The first round learns the names that `use` and `mod` introduce, wherever they stand in the file.
    reader.read();
    reader.at = 0;
    reader.found.clear();
    reader.read();
    reader.found
}

struct Reader<'a> {
    spots: &'a [Spot<'a>],
    at: usize,
    /// The module at this place of the file: `mod tests { … }` is one too.
    module: Vec<String>,
    /// Names that stand for something of the crate, with what they stand for.
    names: BTreeMap<String, Vec<String>>,
    found: Vec<Import>,
}

impl<'a> Reader<'a> {
    fn token(&self, ahead: usize) -> Option<Token<'a>> {
        self.spots.get(self.at + ahead).map(|spot| spot.token)
    }

    fn word(&self, ahead: usize) -> Option<&'a str> {
        match self.token(ahead) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn takes(&mut self, token: Token) -> bool {
        let takes = self.token(0) == Some(token);
        self.at += usize::from(takes);
        takes
    }

    /// Reads on until the end of the file or of the inline module.
    fn read(&mut self) {
        let mut depth = 0;
        while let Some(token) = self.token(0) {
            match token {
                Token::Word("use") => {
                    self.at += 1;
                    let absolute = self.takes(Token::Separator);
                    self.use_tree(if absolute { vec!["".to_owned()] } else { Vec::new() });
                }
                Token::Word("mod") => {
                    let Some(name) = self.word(1) else { break };
                    let mut inner = self.module.clone();
                    inner.push(name.to_owned());
                    self.names.insert(name.to_owned(), inner.clone());
                    self.at += 2;
                    if self.takes(Token::Mark('{')) {
                        let outer = std::mem::replace(&mut self.module, inner);
                        self.read();
                        self.module = outer;
                    }
                }
                Token::Word(_) if self.token(1) == Some(Token::Separator) => self.inline_path(),
                Token::Mark('{') => {
                    depth += 1;
                    self.at += 1;
                }
                Token::Mark('}') => {
                    self.at += 1;
                    if depth == 0 {
                        return;
                    }
                    depth -= 1;
                }
                _ => self.at += 1,
            }
        }
    }

    /// One path of a `use`, or all of a group's: `a::{b as c, d::*}`.
    fn use_tree(&mut self, mut path: Vec<String>) {
        let line = self.spots.get(self.at).map_or(0, |spot| spot.line);
        loop {
            if self.takes(Token::Mark('{')) {
                while !self.takes(Token::Mark('}')) && self.at < self.spots.len() {
                    self.use_tree(path.clone());
                    self.takes(Token::Mark(','));
                }
                return;
            }
            if self.takes(Token::Mark('*')) {
                path.push("*".to_owned());
            } else if let Some(word) = self.word(0) {
                // `a::{self}` names `a`.
                if word != "self" || path.is_empty() {
                    path.push(word.to_owned());
                }
                self.at += 1;
            } else {
                // Not Rust, or a macro's pattern: go on behind it.
                self.at += 1;
                return;
            }
            if !self.takes(Token::Separator) {
                break;
            }
        }
        let mut name = path.last().cloned();
        if self.takes(Token::Word("as")) {
            name = self.word(0).map(str::to_owned);
            self.at += 1;
        }
        if let (Some(path), Some(name)) = (self.note(&path, line), name) {
            // A type need not be followed further: to import it was to name it.
            if name.starts_with(char::is_lowercase) {
                self.names.insert(name, path);
            }
        }
    }

    /// A path in an expression, a type or an attribute.
    fn inline_path(&mut self) {
        let line = self.spots[self.at].line;
        let starts_here = self.at == 0 || self.spots[self.at - 1].token != Token::Separator;
        let mut path = Vec::new();
        while let Some(word) = self.word(0) {
            path.push(word.to_owned());
            self.at += 1;
            if !self.takes(Token::Separator) {
                break;
            }
        }
        // What follows `<T>::` or `::` belongs to a type or to another crate.
        if starts_here {
            self.note(&path, line);
        }
    }

    /// Remembers `path` as found when it leads into the crate, and tells where.
    fn note(&mut self, path: &[String], line: usize) -> Option<Vec<String>> {
        let path = self.resolve(path)?;
        self.found.push(Import { path: path.clone(), line });
        Some(path)
    }

    fn resolve(&self, path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let mut from = match first.as_str() {
            root if ROOTS.contains(&root) => Vec::new(),
            "self" => self.module.clone(),
            "super" => self.module.split_last()?.1.to_vec(),
            name => self.names.get(name)?.clone(),
        };
        let ups = rest.iter().take_while(|name| *name == "super").count();
        from.truncate(from.len().saturating_sub(ups));
        from.extend_from_slice(&rest[ups..]);
        Some(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths that a file of `http::kv` names.
    fn named(text: &str) -> Vec<String> {
        let module = ["http".to_owned(), "kv".to_owned()];
        imports(&module, text).iter().map(|import| import.path.join("::")).collect()
    }

    #[test]
    fn groups_are_taken_apart() {
        let text = "use crate::{actors::{self, messages::{Read, inside::Close}}, types::*};";
        assert_eq!(
            named(text),
            ["actors", "actors::messages::Read", "actors::messages::inside::Close", "types::*"]
        );
    }

    #[test]
    fn super_counts_from_where_it_stands() {
        assert_eq!(named("use super::super::actors::node;"), ["actors::node"]);
        assert_eq!(
            named("mod tests { use super::super::State; } use super::page;"),
            ["http::State", "http::page"]
        );
        assert_eq!(named("fn f() { if x { super::reply::ok() } }"), ["http::reply::ok"]);
    }

    #[test]
    fn inline_paths_are_seen() {
        assert_eq!(named("fn f() -> crate::actors::raft::Term { todo() }"), ["actors::raft::Term"]);
        assert_eq!(named("log::info!(\"{}\", conuredb::os::NAME);"), ["os::NAME"]);
        assert_eq!(named("struct A(pub(crate) Vec<crate::types::Key>);"), ["types::Key"]);
    }

    #[test]
    fn other_names_are_followed() {
        let text = "use crate::actors as cast; fn f() { cast::raft::vote() }";
        assert_eq!(named(text), ["actors", "actors::raft::vote"]);
        let text = "fn f() { messages::inside::ask() } use crate::actors::messages;";
        assert_eq!(named(text), ["actors::messages::inside::ask", "actors::messages"]);
        assert_eq!(named("mod page; use page::Page;"), ["http::kv::page::Page"]);
    }

    #[test]
    fn other_crates_are_no_imports() {
        let text =
            "use std::{io, fmt as f}; use ::log::info; io::stdin(); <T as Into<u8>>::into(x)";
        assert!(named(text).is_empty(), "{:?}", named(text));
    }

    #[test]
    fn lines_are_those_of_the_path() {
        let text = "// crate::os\nuse crate::{\n    types::Key,\n    actors::node,\n};\n";
        let lines: Vec<usize> = imports(&[], text).iter().map(|import| import.line).collect();
        assert_eq!(lines, [3, 4]);
    }
}
