//! The log: what is told, in which form, and both changeable while a node runs.
//!
//! [`env_logger`] filters and spells; it cannot be told another filter once it is set up. So a [`LogSwitch`] stands
//! in front: it passes each record to the logger of now, and a new filter makes a new one. Passing on costs a load
//! of a pointer, and only for records that the greatest level of all filters lets through.
//!
//! What is told of a request carries its id (see `http::trace`) and other facts behind the words, as `name=value`
//! without blanks. In JSON these are members of their own, so that a program need not take the line apart.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use log::{LevelFilter, Log, Metadata, Record};
use serde_json::{Map, Value};

/// Longest filter, in bytes, and the most directives in it: it is gone through for every record.
pub const MAX_FILTER_BYTES: usize = 4 * 1024;
pub const MAX_DIRECTIVES: usize = 64;

/// What others tell is told from another level on: openraft tells every step at info and every race it handles at
/// warn, actix every worker. A filter can name them and overrule this.
const QUIET: &str = "openraft=error,tracing=warn,actix_server=warn";

/// Says where lines go and how they are spelt.
type Setup = Box<dyn Fn(&mut env_logger::Builder) + Send + Sync>;

/// How a line is spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    /// One JSON object a line.
    Json,
}

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("it is empty")]
    Empty,
    #[error("it has {len_bytes} bytes, at most {MAX_FILTER_BYTES} are taken")]
    TooLong { len_bytes: usize },
    #[error("it has {count} directives, at most {MAX_DIRECTIVES} are taken")]
    TooMany { count: usize },
    /// `env_logger` itself takes a misspelt level for a target and then logs nothing; here a bare word has to be
    /// a level.
    #[error("{word:?} is no level (at byte {at})")]
    NoLevel { word: String, at: usize },
    #[error(
        "it has a second / at byte {at}; one may stand before the text that messages must hold"
    )]
    SecondSlash { at: usize },
}

/// Checks a filter: a level, or `target=level`, with commas between; `/text` behind all for a part of the message.
pub fn check_filter(filter: &str) -> Result<(), FilterError> {
    if filter.trim().is_empty() {
        return Err(FilterError::Empty);
    }
    if filter.len() > MAX_FILTER_BYTES {
        return Err(FilterError::TooLong { len_bytes: filter.len() });
    }
    let (directives, part) = filter.split_once('/').unwrap_or((filter, ""));
    if let Some(at) = part.find('/') {
        return Err(FilterError::SecondSlash { at: directives.len() + 1 + at });
    }
    let count = directives.split(',').count();
    if count > MAX_DIRECTIVES {
        return Err(FilterError::TooMany { count });
    }
    let mut at = 0;
    for directive in directives.split(',') {
        let level = directive.split_once('=').map_or(directive, |(_, level)| level);
        let word = level.trim();
        if word.parse::<LevelFilter>().is_err() {
            let before = directive.len() - level.trim_start().len();
            return Err(FilterError::NoLevel { word: word.to_owned(), at: at + before });
        }
        at += directive.len() + 1;
    }
    Ok(())
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct LogSwitch(Arc<Shared>);

struct Shared {
    setup: Setup,
    now: ArcSwap<Chosen>,
    /// Held while a filter is changed: the greatest level of all goes with it.
    changing: Mutex<()>,
    is_installed: AtomicBool,
}

struct Chosen {
    filter: String,
    logger: env_logger::Logger,
}

impl Chosen {
    fn new(filter: &str, setup: &Setup) -> Chosen {
        let mut builder = env_logger::Builder::new();
        builder.parse_filters(&format!("{QUIET},{filter}"));
        setup(&mut builder);
        Chosen { filter: filter.to_owned(), logger: builder.build() }
    }
}

impl LogSwitch {
    /// A log on standard error that is not the process's yet.
    pub fn new(filter: &str, format: LogFormat) -> Result<LogSwitch, FilterError> {
        LogSwitch::to(filter, move |builder| {
            match format {
                LogFormat::Text => builder.format_timestamp_millis(),
                LogFormat::Json => builder.format(json),
            };
        })
    }

    /// A log elsewhere or in another form, as `setup` says each time when there is another filter.
    pub fn to(
        filter: &str,
        setup: impl Fn(&mut env_logger::Builder) + Send + Sync + 'static,
    ) -> Result<LogSwitch, FilterError> {
        check_filter(filter)?;
        let setup: Setup = Box::new(setup);
        Ok(LogSwitch(Arc::new(Shared {
            now: ArcSwap::from_pointee(Chosen::new(filter, &setup)),
            setup,
            changing: Mutex::default(),
            is_installed: AtomicBool::new(false),
        })))
    }

    /// Makes it the log of this process; once.
    pub fn install(&self) -> Result<(), log::SetLoggerError> {
        log::set_boxed_logger(Box::new(self.clone()))?;
        self.0.is_installed.store(true, Ordering::Release);
        log::set_max_level(self.0.now.load().logger.filter());
        Ok(())
    }

    /// What is told now.
    pub fn filter(&self) -> String {
        self.0.now.load().filter.clone()
    }

    /// Has something else told from now on, until the process ends.
    pub fn set_filter(&self, filter: &str) -> Result<(), FilterError> {
        check_filter(filter)?;
        let chosen = Chosen::new(filter, &self.0.setup);
        let greatest = chosen.logger.filter();
        let _changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.now.store(Arc::new(chosen));
        if self.0.is_installed.load(Ordering::Acquire) {
            log::set_max_level(greatest);
        }
        Ok(())
    }
}

impl fmt::Debug for LogSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogSwitch").field(&self.filter()).finish()
    }
}

impl Log for LogSwitch {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.now.load().logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.0.now.load().logger.log(record);
    }

    fn flush(&self) {}
}

/// A record as one JSON object.
fn json(out: &mut env_logger::fmt::Formatter, record: &Record<'_>) -> io::Result<()> {
    let mut line = Map::new();
    let message = record.args().to_string();
    let (words, facts) = facts_behind(&message);
    for (name, value) in facts {
        let number = value.parse::<u64>().map(Value::from);
        line.insert(name.to_owned(), number.unwrap_or_else(|_| value.into()));
    }
    line.insert("time".to_owned(), out.timestamp_millis().to_string().into());
    line.insert("level".to_owned(), record.level().as_str().into());
    line.insert("target".to_owned(), record.target().into());
    line.insert("message".to_owned(), words.into());
    writeln!(out, "{}", Value::Object(line))
}

/// The words of a message, and what stands behind them as `name=value`.
fn facts_behind(message: &str) -> (&str, Vec<(&str, &str)>) {
    let (mut words, mut facts) = (message, Vec::new());
    while let Some((before, last)) = words.rsplit_once(' ') {
        let Some((name, value)) = last.split_once('=') else { break };
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if !is_name {
            break;
        }
        facts.push((name, value));
        words = before;
    }
    (words, facts)
}

#[cfg(test)]
mod tests {
    use log::Level;

    use super::*;

    fn tells(switch: &LogSwitch, target: &str, level: Level) -> bool {
        switch.enabled(&Metadata::builder().target(target).level(level).build())
    }

    #[test]
    fn a_filter_is_checked_and_the_place_of_a_mistake_named() {
        for good in
            ["info", "off", "warn,conuredb::http=debug", " info , a = trace ", "info/needle"]
        {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        let no_level = |word: &str, at| Err(FilterError::NoLevel { word: word.to_owned(), at });
        assert_eq!(check_filter("inof"), no_level("inof", 0));
        assert_eq!(check_filter("info,conuredb=trac"), no_level("trac", 14));
        assert_eq!(check_filter("info, ,warn"), no_level("", 6));
        assert_eq!(check_filter("conuredb=debug,openraft"), no_level("openraft", 15));
        assert_eq!(check_filter("a=b=info"), no_level("b=info", 2));
        assert_eq!(check_filter("info/a/b"), Err(FilterError::SecondSlash { at: 6 }));
        assert_eq!(check_filter(" "), Err(FilterError::Empty));
        assert!(check_filter(&"info,".repeat(MAX_DIRECTIVES)).is_err());
        let count = MAX_DIRECTIVES + 1;
        assert_eq!(
            check_filter(&vec!["info"; count].join(",")),
            Err(FilterError::TooMany { count })
        );
        let long = format!("info/{}", "x".repeat(MAX_FILTER_BYTES));
        assert_eq!(check_filter(&long), Err(FilterError::TooLong { len_bytes: long.len() }));
    }

    #[test]
    fn facts_stand_behind_the_words() {
        assert_eq!(
            facts_behind("slow ms=12 key=a=b"),
            ("slow", vec![("key", "a=b"), ("ms", "12")])
        );
        assert_eq!(facts_behind("x = 1, y=2"), ("x = 1,", vec![("y", "2")]));
        for plain in ["no facts", "a =1", "ends with A=1", "key=only", ""] {
            assert_eq!(facts_behind(plain), (plain, vec![]), "{plain}");
        }
    }

    #[test]
    fn a_new_filter_takes_effect_at_once_and_a_bad_one_changes_nothing() {
        let switch = LogSwitch::new("info", LogFormat::Text).expect("a filter");
        assert!(tells(&switch, "conuredb::storage", Level::Info));
        assert!(!tells(&switch, "conuredb::storage", Level::Debug));
        assert!(!tells(&switch, "openraft::core", Level::Warn));
        switch.set_filter("warn,conuredb::storage=debug,openraft=info").expect("a filter");
        assert!(tells(&switch, "conuredb::storage::kv", Level::Debug));
        assert!(!tells(&switch, "conuredb::http", Level::Info));
        assert!(tells(&switch, "openraft::core", Level::Info), "a filter overrules what is quiet");
        assert!(switch.set_filter("loud").is_err());
        assert_eq!(switch.filter(), "warn,conuredb::storage=debug,openraft=info");
    }
}
