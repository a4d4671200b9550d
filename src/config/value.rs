//! From what a person wrote to what a setting holds, and back.
//!
//! The environment and flags give text, YAML gives text, numbers, booleans and lists. Each reader takes
//! what is unambiguous and refuses the rest by saying what it got: `node_id: 007` is the number 7
//! to YAML, so a text setting does not take numbers.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use config::ValueKind;

use super::{FollowerMode, LogFormat, Secret};
use crate::logs;
use crate::types::is_node_name;

/// What is wrong with a value, put so that it can follow the key: "is 0, out of 1 to 9".
pub type Problem = String;

/// Plain text; empty text is no value.
pub fn text(raw: &ValueKind) -> Result<String, Problem> {
    match raw {
        ValueKind::String(text) if text.is_empty() => Err("is empty".to_owned()),
        ValueKind::String(text) => Ok(text.clone()),
        ValueKind::Nil => Err("has no value".to_owned()),
        ValueKind::Array(_) => Err("is a list".to_owned()),
        other => Err(format!("is {other} without quotes, which YAML reads as no text")),
    }
}

/// Text that one of the crate's own types parses.
pub fn parsed<T: FromStr<Err: Display>>(raw: &ValueKind) -> Result<T, Problem> {
    let text = text(raw)?;
    text.parse().map_err(|why| format!("is {text:?}: {why}"))
}

/// A number of things or bytes: 1048576, or 1MiB.
pub fn size<T: TryFrom<u64>>(raw: &ValueKind, range: RangeInclusive<u64>) -> Result<T, Problem> {
    let number = match raw {
        ValueKind::I64(number) => u64::try_from(*number).ok(),
        ValueKind::U64(number) => Some(*number),
        ValueKind::String(text) => parse_size(text),
        _ => text(raw).map(|_| None)?,
    };
    let number = number.ok_or_else(|| format!("is \"{raw}\", no whole number"))?;
    let fits = if range.contains(&number) { T::try_from(number).ok() } else { None };
    fits.ok_or_else(|| format!("is {number}, out of {} to {}", range.start(), range.end()))
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

pub fn duration(raw: &ValueKind, range: RangeInclusive<Duration>) -> Result<Duration, Problem> {
    if let ValueKind::I64(number) = raw {
        return Err(format!("is {number} without a unit"));
    }
    let text = text(raw)?;
    let duration = humantime::parse_duration(&text)
        .map_err(|why| format!("is {text:?}, no duration ({why})"))?;
    match range.contains(&duration) {
        true => Ok(duration),
        false => Err(format!(
            "is {text}, out of {} to {}",
            humantime::format_duration(*range.start()),
            humantime::format_duration(*range.end())
        )),
    }
}

/// A duration, or none at all.
pub fn age(raw: &ValueKind, range: RangeInclusive<Duration>) -> Result<Duration, Problem> {
    match duration(raw, Duration::ZERO..=*range.end())? {
        Duration::ZERO => Ok(Duration::ZERO),
        _ => duration(raw, range),
    }
}

pub fn boolean(raw: &ValueKind) -> Result<bool, Problem> {
    match raw {
        ValueKind::Boolean(yes) => Ok(*yes),
        ValueKind::String(text) if text == "true" => Ok(true),
        ValueKind::String(text) if text == "false" => Ok(false),
        _ => Err(format!("is \"{raw}\", neither true nor false")),
    }
}

/// A YAML list, or text with commas between the items.
pub fn list<T: FromStr<Err: Display>>(raw: &ValueKind) -> Result<Vec<T>, Problem> {
    match raw {
        ValueKind::Array(items) => items.iter().map(|item| parsed(&item.kind)).collect(),
        _ => text(raw)?
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| parsed(&ValueKind::String(item.to_owned())))
            .collect(),
    }
}

/// A node's name: it stands in URLs, log lines, metric labels and the peers' handshake.
pub fn node_name(raw: &ValueKind) -> Result<String, Problem> {
    let name = text(raw)?;
    match is_node_name(&name) {
        true => Ok(name),
        false => Err(format!("is {name:?}")),
    }
}

/// A filter of the log.
pub fn log_filter(raw: &ValueKind) -> Result<String, Problem> {
    let filter = text(raw)?;
    match logs::check_filter(&filter) {
        Ok(()) => Ok(filter),
        Err(error) => Err(format!("is {filter:?}, and {error}")),
    }
}

pub fn follower_mode(raw: &ValueKind) -> Result<FollowerMode, Problem> {
    match text(raw)?.as_str() {
        "forward" => Ok(FollowerMode::Forward),
        "redirect" => Ok(FollowerMode::Redirect),
        other => Err(format!("is {other:?}")),
    }
}

pub fn log_format(raw: &ValueKind) -> Result<LogFormat, Problem> {
    match text(raw)?.as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("is {other:?}")),
    }
}

/// A secret. Its text is in no message, also not when it is a wrong one.
pub fn secret(raw: &ValueKind) -> Result<Secret, Problem> {
    match raw {
        ValueKind::String(text) if !text.is_empty() => Ok(Secret::new(text.as_str())),
        ValueKind::String(_) | ValueKind::Nil => Err("is empty".to_owned()),
        _ => Err("is not quoted text".to_owned()),
    }
}

/// A value as YAML that the readers above read as the same value.
pub trait Yaml {
    fn yaml(&self) -> String;
}

/// Quoted as JSON, whose strings are YAML strings too: nothing in it can turn into another type.
fn quoted(value: impl Display) -> String {
    serde_json::Value::String(value.to_string()).to_string()
}

impl Yaml for String {
    fn yaml(&self) -> String {
        quoted(self)
    }
}

impl Yaml for PathBuf {
    fn yaml(&self) -> String {
        quoted(self.display())
    }
}

impl Yaml for super::HostPort {
    fn yaml(&self) -> String {
        quoted(self)
    }
}

impl Yaml for super::HttpAddr {
    fn yaml(&self) -> String {
        quoted(self)
    }
}

impl Yaml for Vec<super::HttpAddr> {
    fn yaml(&self) -> String {
        let items: Vec<String> = self.iter().map(Yaml::yaml).collect();
        format!("[{}]", items.join(", "))
    }
}

impl Yaml for Duration {
    fn yaml(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

impl Yaml for u64 {
    fn yaml(&self) -> String {
        self.to_string()
    }
}

impl Yaml for usize {
    fn yaml(&self) -> String {
        self.to_string()
    }
}

impl Yaml for bool {
    fn yaml(&self) -> String {
        self.to_string()
    }
}

impl Yaml for FollowerMode {
    fn yaml(&self) -> String {
        match self {
            FollowerMode::Forward => "forward".to_owned(),
            FollowerMode::Redirect => "redirect".to_owned(),
        }
    }
}

impl Yaml for LogFormat {
    fn yaml(&self) -> String {
        match self {
            LogFormat::Text => "text".to_owned(),
            LogFormat::Json => "json".to_owned(),
        }
    }
}
