//! The words of a transaction.
//!
//! ```text
//! txn
//!   if seat/1 absent             comparisons: all must hold for `then`
//!   if user/7 version >= 2
//!   then put seat/1 user/7       also with --ttl 30s or --lease ID
//!   then delete waiting/7        delete --prefix P, too
//!   else get seat/1              put, get, delete, scan PREFIX
//! commit
//! ```
//!
//! It is one command: the keywords part the clauses, and line ends are blanks like others. So it can be typed in
//! one line too, and given as arguments, where `commit` may be left out. A key that is called like a keyword is
//! put in quotes.

use std::iter::Peekable;
use std::vec::IntoIter;

use super::super::table::{self, Spec};
use super::super::words::{Word, escape};
use super::{Command, UsageError};
use crate::types::{
    Compare, Key, KeyRange, Lifetime, MAX_TXN_RANGE_ITEMS, Operand, Relation, Txn, TxnOp,
};

const CLAUSES: [&[u8]; 4] = [b"if", b"then", b"else", b"commit"];

fn is_bare(word: &Word, text: &[u8]) -> bool {
    word.bare && word.bytes == text
}

/// Whether the transaction has begun and `commit` is still to come.
pub fn goes_on(words: &[Word]) -> bool {
    let begins = words.first().is_some_and(|word| is_bare(word, b"txn"));
    let asks = words.iter().any(|word| is_bare(word, b"--help") || is_bare(word, b"-h"));
    begins && !asks && !words.last().is_some_and(|word| is_bare(word, b"commit"))
}

/// Reads the words after `txn`.
pub fn parse(spec: &'static Spec, words: IntoIter<Word>) -> Result<Command, UsageError> {
    let mut clauses = Clauses { spec, words: words.peekable() };
    let (mut compare, mut success, mut failure) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(word) = clauses.words.next() {
        match &word.bytes[..] {
            b"if" => compare.push(clauses.comparison()?),
            b"then" => success.push(clauses.operation()?),
            b"else" => failure.push(clauses.operation()?),
            b"--help" | b"-h" => return Ok(Command::Help(Some(spec.name))),
            b"commit" if clauses.words.peek().is_none() => break,
            other => {
                let other = escape(other);
                return Err(clauses.bad(format!("{other:?} begins no clause")));
            }
        }
    }
    let txn = Txn::new(compare, success, failure);
    txn.map(Command::Txn).map_err(|error| clauses.bad(error.to_string()))
}

struct Clauses {
    spec: &'static Spec,
    words: Peekable<IntoIter<Word>>,
}

impl Clauses {
    fn comparison(&mut self) -> Result<Compare, UsageError> {
        let key = self.key()?;
        let field = escape(&self.word("exists, absent, or a field to compare")?.bytes);
        let exists = |exists| (Relation::Equal, Operand::Exists(exists));
        let (is, to) = match field.as_str() {
            "exists" => exists(true),
            "absent" => exists(false),
            "value" => (self.relation()?, Operand::Value(self.word("a value")?.bytes.into())),
            "version" => (self.relation()?, Operand::Version(self.number()?)),
            "create_revision" => (self.relation()?, Operand::CreateRevision(self.number()?)),
            "mod_revision" => (self.relation()?, Operand::ModRevision(self.number()?)),
            _ => {
                return Err(self.bad(format!(
                    "{field:?} is none of exists, absent, value, version, create_revision, mod_revision"
                )));
            }
        };
        Ok(Compare { key, is, to })
    }

    fn operation(&mut self) -> Result<TxnOp, UsageError> {
        let name = escape(&self.word("put, get, delete or scan")?.bytes);
        Ok(match table::find(&name).map(|spec| spec.name) {
            Some("put") => {
                let (key, value) = (self.key()?, self.word("a value")?.bytes.into());
                let lifetime = self.lifetime()?;
                TxnOp::Put { key, value, lifetime }
            }
            Some("get") => TxnOp::Get { key: self.key()? },
            Some("delete") => {
                let range = match self.words.next_if(|word| is_bare(word, b"--prefix")) {
                    Some(_) => KeyRange::prefix(self.word("a prefix")?.bytes),
                    None => KeyRange::only(&self.key()?),
                };
                TxnOp::Delete { range }
            }
            Some("scan") => {
                let is_clause = |word: &Word| CLAUSES.iter().any(|clause| is_bare(word, clause));
                let prefix = self.words.next_if(|word| !is_clause(word));
                let range = KeyRange::prefix(prefix.map(|word| word.bytes).unwrap_or_default());
                let limit = MAX_TXN_RANGE_ITEMS;
                TxnOp::Range { range, limit, reverse: false, keys_only: false }
            }
            _ => return Err(self.bad(format!("{name:?} is none of put, get, delete, scan"))),
        })
    }

    fn key(&mut self) -> Result<Key, UsageError> {
        let word = self.word("a key")?;
        Key::new(word.bytes).map_err(|error| self.bad(error.to_string()))
    }

    fn relation(&mut self) -> Result<Relation, UsageError> {
        let word = escape(&self.word("= != < <= > or >=")?.bytes);
        let known = Relation::NAMES.iter().find(|(name, _)| *name == word);
        known
            .map(|(_, relation)| *relation)
            .ok_or_else(|| self.bad(format!("{word:?} is none of = != < <= > >=")))
    }

    fn number(&mut self) -> Result<u64, UsageError> {
        let word = escape(&self.word("a number")?.bytes);
        word.parse().map_err(|_| self.bad(format!("{word:?} is no whole number")))
    }

    /// What follows a put: `--ttl DURATION`, `--lease ID` or neither.
    fn lifetime(&mut self) -> Result<Lifetime, UsageError> {
        if self.words.next_if(|word| is_bare(word, b"--ttl")).is_some() {
            let word = escape(&self.word("a duration")?.bytes);
            return match humantime::parse_duration(&word) {
                Ok(ttl) => Ok(Lifetime::Ttl { ms: ttl.as_millis() as u64 }),
                Err(_) => Err(self.bad(format!("{word:?} is no duration, such as 30s"))),
            };
        }
        if self.words.next_if(|word| is_bare(word, b"--lease")).is_some() {
            let word = escape(&self.word("a lease")?.bytes);
            let id = word.parse().map_err(|why| self.bad(format!("{word:?}: {why}")))?;
            return Ok(Lifetime::Lease(id));
        }
        Ok(Lifetime::Unbounded)
    }

    fn word(&mut self, what: &str) -> Result<Word, UsageError> {
        self.words.next().ok_or_else(|| self.bad(format!("{what} is missing")))
    }

    fn bad(&self, problem: String) -> UsageError {
        UsageError::Bad { command: self.spec.name, problem, usage: self.spec.usage }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::words::split;
    use super::*;

    fn read(line: &str) -> Result<Command, String> {
        let command = super::super::parse(split(line.as_bytes()).unwrap());
        command.map(|command| command.unwrap()).map_err(|why| why.to_string())
    }

    #[test]
    fn lines_and_one_line_are_the_same_transaction() {
        let lines = "txn\n if a value = \"x y\"\n if b absent\n then put a z --ttl 9s\n then scan\n else rm --prefix a\ncommit\n";
        let line = "txn if a value = \"x y\" if b absent then put a z --ttl 9s then scan else rm --prefix a";
        let key = |text: &'static str| Key::new(text).unwrap();
        let operand = |to, text| Compare { key: key(text), is: Relation::Equal, to };
        let (limit, reverse, keys_only) = (MAX_TXN_RANGE_ITEMS, false, false);
        let expected = Txn::new(
            vec![operand(Operand::Value("x y".into()), "a"), operand(Operand::Exists(false), "b")],
            vec![
                TxnOp::Put {
                    key: key("a"),
                    value: "z".into(),
                    lifetime: Lifetime::Ttl { ms: 9_000 },
                },
                TxnOp::Range { range: KeyRange::default(), limit, reverse, keys_only },
            ],
            vec![TxnOp::Delete { range: KeyRange::prefix("a") }],
        );
        assert_eq!(read(lines), Ok(Command::Txn(expected.unwrap())));
        assert_eq!(read(line), read(lines));
    }

    #[test]
    fn a_transaction_goes_on_until_it_is_committed() {
        let goes_on = |line: &str| goes_on(&split(line.as_bytes()).unwrap());
        assert!(
            goes_on("txn") && goes_on("txn if a exists\n") && goes_on("txn then put a 'commit'")
        );
        assert!(
            !goes_on("txn then get a\ncommit") && !goes_on("get txn") && !goes_on("txn --help")
        );
    }

    #[test]
    fn what_is_no_transaction_says_why() {
        for (line, why) in [
            ("txn get a", "\"get\" begins no clause"),
            ("txn if a", "exists, absent, or a field to compare is missing"),
            ("txn if a size = 3", "\"size\" is none of exists"),
            ("txn if a version == 3", "\"==\" is none of ="),
            ("txn if a version = x", "\"x\" is no whole number"),
            ("txn then put a", "a value is missing"),
            ("txn then get ''", "a key has at least one byte"),
            ("txn then status", "\"status\" is none of put"),
            ("txn commit then get a", "\"commit\" begins no clause"),
            ("txn then put a 1 then put a 2", "success[1] writes key a"),
        ] {
            let said = read(line).unwrap_err();
            assert!(said.contains(why), "{line}: {said}");
        }
    }
}
