//! What can be wrong with a configuration.
//!
//! Each error names the key, where its value came from, and how to mend it; [`ConfigErrors`] holds all
//! of them at once, so that a person mends a file in one go and not by restarting once per line.
//! No error carries the value of a secret.

use std::fmt;
use std::io;

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "cannot read {path}, named by {origin}: {source}; mend the path or the file's permissions"
    )]
    Unreadable { path: String, origin: String, source: io::Error },

    #[error("file {path} is not YAML of `key: value` lines: {source}")]
    NotYaml { path: String, source: Box<dyn std::error::Error + Send + Sync> },

    #[error("{origin}: there is no setting {key:?}; {}", suggestion(*.nearest))]
    UnknownKey { key: String, origin: String, nearest: Option<&'static str> },

    #[error("{origin}: {key} is given twice; remove one of them")]
    Duplicate { key: &'static str, origin: String },

    #[error("{origin}: {key} {problem}; give it {good}")]
    BadValue {
        key: &'static str,
        origin: String,
        problem: String,
        /// What a good value looks like, with an example.
        good: &'static str,
    },

    /// Settings that are fine alone and impossible together.
    #[error("{}: {problem}; {mend}", join_keys(.keys))]
    Conflict {
        /// Each key with where its value came from.
        keys: Vec<(&'static str, String)>,
        problem: String,
        mend: &'static str,
    },
}

/// Everything that is wrong; never empty.
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if nth > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> ConfigErrors {
        ConfigErrors(vec![error])
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    match nearest {
        Some(key) => format!("did you mean {key:?}?"),
        None => "`conure-db --check-config` lists all settings".to_owned(),
    }
}

fn join_keys(keys: &[(&str, String)]) -> String {
    let named: Vec<String> = keys.iter().map(|(key, origin)| format!("{key} ({origin})")).collect();
    named.join(", ")
}
