//! The words of leases, locks and elections, and how long a put is to last.

use std::time::Duration;
use std::vec::IntoIter;

use super::super::table::Spec;
use super::super::words::{Word, escape};
use super::given::Given;
use super::{Command, UsageError};
use crate::types::{LeaseId, Lifetime};

/// How long a lock or a leadership is held after its holder fell silent, unless told otherwise.
const DEFAULT_TTL: Duration = Duration::from_secs(10);

/// What to do with a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lease {
    Grant(Duration),
    KeepAlive(LeaseId),
    Revoke(LeaseId),
    Show(LeaseId),
    List,
}

/// Reads the words after `lock`. Options stand before the name; all that follows it is the program's.
pub fn parse_lock(spec: &'static Spec, mut words: IntoIter<Word>) -> Result<Command, UsageError> {
    let mut given = Given { spec, arguments: Vec::new(), options: Vec::new() };
    let name = loop {
        let Some(word) = words.next() else {
            return Err(given.bad("a name is missing".to_owned()));
        };
        match &word.bytes[..] {
            b"--help" | b"-h" if word.bare => return Ok(Command::Help(Some(spec.name))),
            b"--" if word.bare => {
                break words.next().ok_or_else(|| given.bad("a name is missing".to_owned()))?;
            }
            option if word.bare && option.starts_with(b"-") => given.option(option, &mut words)?,
            _ => break word,
        }
    };
    let mut words = words.peekable();
    // As people write it who know it from other programs.
    words.next_if(|word| word.bare && word.bytes == b"--");
    let program: Vec<Vec<u8>> = words.map(|word| word.bytes).collect();
    if program.is_empty() {
        return Err(given.bad("a program to run is missing".to_owned()));
    }
    Ok(Command::Lock { name: name.bytes, ttl: given.ttl()?, program })
}

impl Given {
    /// How long a put is to last.
    pub(super) fn lifetime(&self) -> Result<Lifetime, UsageError> {
        match (self.duration("--ttl")?, self.value("--lease")) {
            (None, None) => Ok(Lifetime::Unbounded),
            (Some(ttl), None) => Ok(Lifetime::Ttl { ms: ttl.as_millis() as u64 }),
            (None, Some(id)) => Ok(Lifetime::Lease(self.lease_id(&id)?)),
            (Some(_), Some(_)) => Err(self.bad("--ttl and --lease exclude each other".to_owned())),
        }
    }

    pub(super) fn lease(&mut self) -> Result<Lease, UsageError> {
        let subject = if self.arguments.len() == 2 { self.arguments.pop() } else { None };
        let action = self.text()?;
        let missing = || self.bad(format!("lease {action} needs one more word"));
        let id = |word: Option<Word>| self.lease_id(&word.ok_or_else(missing)?.bytes);
        Ok(match action.as_str() {
            "grant" => {
                let text = escape(&subject.ok_or_else(missing)?.bytes);
                let ttl = humantime::parse_duration(&text);
                Lease::Grant(
                    ttl.map_err(|_| self.bad(format!("{text:?} is no duration such as 30s")))?,
                )
            }
            "keepalive" => Lease::KeepAlive(id(subject)?),
            "revoke" => Lease::Revoke(id(subject)?),
            "show" => Lease::Show(id(subject)?),
            "list" if subject.is_none() => Lease::List,
            "list" => return Err(self.bad("lease list stands alone".to_owned())),
            other => {
                return Err(
                    self.bad(format!("{other:?} is none of grant, keepalive, revoke, show, list"))
                );
            }
        })
    }

    pub(super) fn elect(&mut self) -> Result<Command, UsageError> {
        let value = if self.arguments.len() == 2 { self.arguments.pop() } else { None };
        match (self.flag("--observe"), value) {
            (true, None) => Ok(Command::Observe { name: self.key()? }),
            (true, Some(_)) => Err(self.bad("who observes says nothing of itself".to_owned())),
            (false, value) => {
                let value = value.map(|word| word.bytes).unwrap_or_default();
                Ok(Command::Campaign { ttl: self.ttl()?, name: self.key()?, value })
            }
        }
    }

    fn ttl(&self) -> Result<Duration, UsageError> {
        Ok(self.duration("--ttl")?.unwrap_or(DEFAULT_TTL))
    }

    fn lease_id(&self, id: &[u8]) -> Result<LeaseId, UsageError> {
        let id = escape(id);
        id.parse().map_err(|why| self.bad(format!("{id:?}: {why}")))
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
    fn all_behind_the_name_of_a_lock_belongs_to_its_program() {
        let lock = |ttl, program: &[&[u8]]| {
            let program = program.iter().map(|word| word.to_vec()).collect();
            Ok(Command::Lock { name: b"n".to_vec(), ttl: Duration::from_secs(ttl), program })
        };
        assert_eq!(read("lock n ls"), lock(10, &[b"ls"]));
        assert_eq!(
            read("lock n ls --ttl 3s --help -"),
            lock(10, &[b"ls", b"--ttl", b"3s", b"--help", b"-"])
        );
        assert_eq!(read("lock --ttl 3s n -- ls -- -l"), lock(3, &[b"ls", b"--", b"-l"]));
        assert_eq!(read("lock --ttl=3s -- n ls"), lock(3, &[b"ls"]));
        assert_eq!(read("lock --help"), Ok(Command::Help(Some("lock"))));
        for (line, why) in [
            ("lock", "a name is missing"),
            ("lock n", "a program to run is missing"),
            ("lock n --", "a program to run is missing"),
            ("lock --wait n ls", "no option --wait"),
            ("lock --ttl soon n ls", "no duration"),
        ] {
            let said = read(line).unwrap_err();
            assert!(said.contains(why), "{line}: {said}");
        }
    }

    #[test]
    fn leases_are_named_by_their_digits() {
        let id: LeaseId = "6c2b54f1f5e20b1d".parse().unwrap();
        assert_eq!(read("lease revoke 6C2B54F1F5E20B1D"), Ok(Command::Lease(Lease::Revoke(id))));
        assert_eq!(read("lease list"), Ok(Command::Lease(Lease::List)));
        let ttl = Duration::from_secs(90);
        assert_eq!(read("lease grant '1m 30s'"), Ok(Command::Lease(Lease::Grant(ttl))));
        let put = read("put k v --lease 6c2b54f1f5e20b1d");
        assert!(
            matches!(put, Ok(Command::Put { lifetime: Lifetime::Lease(its), .. }) if its == id)
        );
        for (line, why) in [
            ("lease", "an argument is missing"),
            ("lease grant", "needs one more word"),
            ("lease show xyz", "hexadecimal"),
            ("lease list 6c", "stands alone"),
            ("lease renew 6c", "none of grant"),
            ("put k v --lease 6c --ttl 3s", "exclude each other"),
            ("elect --observe n v", "says nothing of itself"),
        ] {
            let said = read(line).unwrap_err();
            assert!(said.contains(why), "{line}: {said}");
        }
    }
}
