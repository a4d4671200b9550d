//! What a person sees: values made safe for a terminal, tables, errors in colour.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use reedline::Color;

use super::exit::Failure;
use super::output::Output;
use super::words::{escape, is_safe};
use super::{columns, json};
use crate::client::{Event, Item, LeaseInfo, Member, Members, Status, Version};

/// Most bytes of one value that `get` shows on a terminal, and `scan` in one line of it.
const SHOWN_VALUE_BYTES: usize = 64 * 1024;
const SHOWN_LINE_BYTES: usize = 200;

/// A value for a terminal: text as it is, other bytes escaped, their number with them.
pub fn value(bytes: &[u8]) -> String {
    let shown = cut(bytes, SHOWN_VALUE_BYTES);
    let safe = |text: &str| text.chars().all(|c| is_safe(c) || c == '\n' || c == '\t');
    let mut text = match std::str::from_utf8(shown) {
        Ok(text) if safe(text) => text.to_owned(),
        _ => {
            let mut text = escape(shown);
            write!(text, "\n({} bytes, not text; `--out FILE` keeps them)", bytes.len())
                .expect(STRING);
            text
        }
    };
    if shown.len() < bytes.len() {
        write!(text, "\n… ({} bytes in all; `--out FILE` keeps them)", bytes.len()).expect(STRING);
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// A line of a scan. What is not shown on a terminal is counted.
pub fn item(item: &Item, terminal: bool) -> String {
    let mut line = escape(&item.key);
    push_value(&mut line, item.value.as_deref(), terminal);
    line.push('\n');
    line
}

/// The cells of a scan: key, and value if there is one.
pub fn item_cells(item: &Item) -> Vec<String> {
    let mut cells = vec![escape(&item.key)];
    cells.extend(item.value.as_deref().map(cell));
    cells
}

/// The cells of a history: revision, what happened, value if there is one.
pub fn version_cells(version: &Version) -> Vec<String> {
    let mut cells = vec![version.revision.to_string(), version.kind.name().to_owned()];
    cells.extend(version.value.as_deref().map(cell));
    cells
}

/// A value in a cell.
fn cell(value: &[u8]) -> String {
    let mut text = String::new();
    push_shown(&mut text, value, true);
    text
}

/// A line of a history.
pub fn version(version: &Version, terminal: bool) -> String {
    let kind = version.kind.name();
    let mut line = format!("{}\t{kind}", version.revision);
    push_value(&mut line, version.value.as_deref(), terminal);
    line.push('\n');
    line
}

/// Adds a value to a line, if there is one.
fn push_value(line: &mut String, value: Option<&[u8]>, terminal: bool) {
    if let Some(value) = value {
        line.push('\t');
        push_shown(line, value, terminal);
    }
}

/// Adds a value in one line, a long one on a terminal cut and counted.
fn push_shown(line: &mut String, value: &[u8], terminal: bool) {
    let shown = if terminal { cut(value, SHOWN_LINE_BYTES) } else { value };
    line.push_str(&escape(shown));
    if shown.len() < value.len() {
        write!(line, "… ({} bytes)", value.len()).expect(STRING);
    }
}

/// A line of a watch: revision, what happened, the key, the value if there is one; what was there before in the
/// end, if it was asked for.
pub fn event(event: &Event, terminal: bool) -> String {
    let Event { kind, item, previous } = event;
    let mut line = format!("{}\t{}\t{}", item.mod_revision, kind.name(), escape(&item.key));
    push_value(&mut line, item.value.as_deref(), terminal);
    if let Some(value) = previous.as_ref().and_then(|previous| previous.value.as_deref()) {
        line.push_str("\twas");
        push_value(&mut line, Some(value), terminal);
    }
    line.push('\n');
    line
}

/// The first `most` bytes, less a character that would be cut in two.
fn cut(bytes: &[u8], most: usize) -> &[u8] {
    if bytes.len() <= most {
        return bytes;
    }
    let begins_character = |at: &usize| bytes[*at] & 0xc0 != 0x80;
    let at = (most - 3..=most).rev().find(begins_character).unwrap_or(most);
    &bytes[..at]
}

pub fn record(item: &Item) -> String {
    let value = item.value.as_deref().unwrap_or_default();
    let lease = item.lease.map(|id| format!("lease            {id}\n")).unwrap_or_default();
    format!(
        "key              {}\ncreate_revision  {}\nmod_revision     {}\nversion          {}\nbytes            {}\n{lease}",
        escape(&item.key),
        item.create_revision,
        item.mod_revision,
        item.version,
        value.len()
    )
}

pub fn status(status: &Status) -> String {
    let unknown = || "(unknown)".to_owned();
    let leader = status.leader_id.clone().or_else(|| Some(status.leader.clone()));
    let mut rows = vec![
        ("node", status.node_id.clone()),
        ("role", status.role.clone()),
        ("leader", leader.filter(|leader| !leader.is_empty()).unwrap_or_else(unknown)),
        ("term", status.term.to_string()),
        ("commit index", status.commit_index.to_string()),
        ("applied index", status.applied_index.to_string()),
        ("revision", status.revision.to_string()),
        ("oldest kept", status.oldest_revision.to_string()),
    ];
    rows.extend(status.cluster_id.clone().map(|id| ("cluster", id)));
    rows.push(("version", status.version.clone()));
    let compacting = match (status.compacting, status.compactions) {
        (true, _) => ", being compacted".to_owned(),
        (false, 0) => String::new(),
        (false, 1) => ", compacted once since the node started".to_owned(),
        (false, times) => format!(", compacted {times} times since the node started"),
    };
    rows.push((
        "database",
        format!("{} bytes, {} of them in use{compacting}", status.db_bytes, status.db_bytes_live),
    ));
    rows.iter().map(|(name, value)| format!("{name:<13}  {}\n", escape(value.as_bytes()))).collect()
}

pub fn members(members: &Members) -> String {
    let text = |text: &str| escape(text.as_bytes());
    let row = |member: &Member| -> Vec<String> {
        let Member { id, address, http_address, suffrage } = member;
        let leader = if members.is_led_by(member) { "leader" } else { "" };
        vec![text(id), text(address), text(http_address), text(suffrage), leader.to_owned()]
    };
    let rows: Vec<Vec<String>> = members.servers.iter().map(row).collect();
    columns::table(&["NODE", "RAFT", "HTTP", "SUFFRAGE", ""], &rows)
}

/// Leases, one a line: id, time to live, what is left of it, how many keys.
pub fn leases(leases: &[LeaseInfo]) -> String {
    let line = |lease: &LeaseInfo| {
        let [ttl, left] = [lease.ttl, lease.left].map(humantime::format_duration);
        format!("{}\tttl {ttl}\tleft {left}\tkeys {}\n", lease.id, lease.keys)
    };
    leases.iter().map(line).collect()
}

/// Tells of a failure on standard error, after the number of its line if it has one. A reader of the
/// output that left needs no words.
pub fn failure(failure: &Failure, line: Option<u64>, output: Option<Output>) {
    if failure.is_broken_pipe() {
        return;
    }
    if output == Some(Output::Json) {
        return note(&json::failure(failure, line).to_string());
    }
    let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    note(&format!("{} {place}{}", paint(Color::Red, "error:"), lines_kept(&failure.to_string())));
    if let Some(next) = failure.next_step() {
        note(&format!("{} {next}", paint(Color::Cyan, "hint:")));
    }
}

/// Tells something beside the output.
pub fn note(text: &str) {
    // Where standard error is closed there is nobody left to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

pub fn welcome() {
    note(&format!(
        "conuresh {}: `help` lists the commands, Ctrl-D leaves.",
        env!("CARGO_PKG_VERSION")
    ));
}

/// Text of a server, with nothing in it that acts on a terminal.
fn lines_kept(text: &str) -> String {
    text.chars().map(|c| if is_safe(c) || c == '\n' { c } else { '\u{fffd}' }).collect()
}

/// Whether somebody asked for no colours (<https://no-color.org>).
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// In colour where standard error is a terminal and nobody asked for none.
fn paint(color: Color, text: &str) -> String {
    match io::stderr().is_terminal() && !no_color() {
        true => color.bold().paint(text).to_string(),
        false => text.to_owned(),
    }
}

const STRING: &str = "a string takes all that is written";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_it_is_and_other_bytes_escaped_with_their_number() {
        assert_eq!(value(b"two\nlines"), "two\nlines\n");
        assert_eq!(value(b"ends\n"), "ends\n");
        assert_eq!(value(b""), "\n");
        assert_eq!(
            value(b"\x1b[2J\xff"),
            "\\x1b[2J\\xff\n(5 bytes, not text; `--out FILE` keeps them)\n"
        );
    }

    #[test]
    fn a_long_value_is_cut_between_characters_and_counted() {
        let long = "é".repeat(SHOWN_VALUE_BYTES);
        let shown = value(long.as_bytes());
        assert!(shown.starts_with("éé") && !shown.contains('\\'));
        assert!(
            shown.ends_with("(131072 bytes in all; `--out FILE` keeps them)\n"),
            "{}",
            &shown[shown.len() - 80..]
        );
        assert_eq!(cut("aé".as_bytes(), 3), "aé".as_bytes());
        let text = format!("{}é", "a".repeat(9));
        assert_eq!(cut(text.as_bytes(), 10), b"aaaaaaaaa");
    }

    #[test]
    fn status_tells_what_is_kept_and_how_often_the_file_was_compacted() {
        let now = Status { db_bytes: 8192, db_bytes_live: 4096, ..Status::default() };
        let last = |now: &Status| status(now).lines().last().map(str::to_owned);
        assert_eq!(last(&now).as_deref(), Some("database       8192 bytes, 4096 of them in use"));
        let now = Status { compactions: 2, oldest_revision: 7, ..now };
        assert!(
            last(&now)
                .is_some_and(|line| line.ends_with("compacted 2 times since the node started"))
        );
        assert!(status(&now).contains("\noldest kept    7\n"));
        let now = Status { compacting: true, ..now };
        assert!(last(&now).is_some_and(|line| line.ends_with("in use, being compacted")));
    }

    #[test]
    fn a_scan_has_one_line_for_each_key_whatever_is_in_it() {
        let of = |value: &[u8]| Item {
            key: "a\tb".into(),
            value: Some(value.to_vec().into()),
            create_revision: 1,
            mod_revision: 1,
            version: 1,
            expires_at_ms: None,
            lease: None,
        };
        assert_eq!(item(&of(b"x\ny"), false), "a\\tb\tx\\ny\n");
        assert_eq!(
            item(&of(&[b'v'; 300]), true),
            format!("a\\tb\t{}… (300 bytes)\n", "v".repeat(200))
        );
        assert_eq!(item(&of(&[b'v'; 300]), false), format!("a\\tb\t{}\n", "v".repeat(300)));
        assert_eq!(item(&Item { value: None, ..of(b"") }, true), "a\\tb\n");
    }
}
