//! Rust's words and marks, with comments and literals left out: in `"// crate::http"` nothing is named.

/// A word (identifier, keyword or number), the path separator, or any other single character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    Word(&'a str),
    Separator,
    Mark(char),
}

/// A token and its line, from 1.
#[derive(Clone, Copy, Debug)]
pub struct Spot<'a> {
    pub token: Token<'a>,
    pub line: usize,
}

pub fn tokens(text: &str) -> Vec<Spot<'_>> {
    let mut spots = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let mut found = None;
        let len = if let Some(len) = comment_len(rest).or_else(|| literal_len(rest)) {
            len
        } else if is_word(first) {
            let raw = if rest.starts_with("r#") { 2 } else { 0 };
            let len = raw + word_len(&rest[raw..]);
            found = Some(Token::Word(&rest[raw..len]));
            len
        } else if rest.starts_with("::") {
            found = Some(Token::Separator);
            2
        } else {
            found = (!first.is_whitespace()).then_some(Token::Mark(first));
            first.len_utf8()
        };
        spots.extend(found.map(|token| Spot { token, line }));
        line += rest[..len].matches('\n').count();
        rest = &rest[len..];
    }
    spots
}

fn is_word(char: char) -> bool {
    char == '_' || char.is_alphanumeric()
}

fn word_len(text: &str) -> usize {
    text.find(|char| !is_word(char)).unwrap_or(text.len())
}

/// The length of the comment that `text` starts with. Block comments nest.
fn comment_len(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    let mut at = text.starts_with("/*").then_some(2)?;
    let mut depth = 1;
    while depth > 0 && at < text.len() {
        let rest = &text.as_bytes()[at..];
        (depth, at) = match rest {
            [b'/', b'*', ..] => (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth - 1, at + 2),
            _ => (depth, at + 1),
        };
    }
    Some(at)
}

/// The length of the string, character or lifetime that `text` starts with, its prefix included.
fn literal_len(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""]
        .into_iter()
        .find(|prefix| {
            let rest = text.strip_prefix(prefix).unwrap_or("");
            let raw = prefix.ends_with('r') && rest.trim_start_matches('#').starts_with('"');
            raw || rest.starts_with(['"', '\''])
        })?
        .len();
    let rest = &text[prefix..];
    let len = match rest.as_bytes()[0] {
        b'\'' => quote_len(rest),
        _ if text[..prefix].ends_with('r') => raw_string_len(rest),
        _ => string_len(rest),
    };
    Some(prefix + len)
}

fn string_len(text: &str) -> usize {
    let mut escaped = false;
    let end = text[1..].find(|char| match char {
        _ if escaped => {
            escaped = false;
            false
        }
        '\\' => {
            escaped = true;
            false
        }
        char => char == '"',
    });
    end.map_or(text.len(), |end| 1 + end + 1)
}

fn raw_string_len(text: &str) -> usize {
    let hashes = text.len() - text.trim_start_matches('#').len();
    let end = format!("\"{}", &text[..hashes]);
    let start = hashes + 1;
    text[start..].find(&end).map_or(text.len(), |at| start + at + end.len())
}

/// A character such as `'x'` or `'\''`, or else a lifetime such as `'static`.
fn quote_len(text: &str) -> usize {
    let inside = &text[1..];
    let Some(first) = inside.chars().next() else { return 1 };
    if first == '\\' {
        // The escaped character may be a quote itself.
        return inside[2..].find('\'').map_or(text.len(), |end| 1 + 2 + end + 1);
    }
    match inside[first.len_utf8()..].starts_with('\'') {
        true => 1 + first.len_utf8() + 1,
        false => 1 + word_len(inside),
    }
}

#[test]
fn comments_and_literals_are_left_out() {
    let text = r##"
        // one
        /* two /* deep */ still two */
        let a = "three \" four"; let b = br#"five " six"#; let c = '"'; let d = '\'';
        fn f<'seven>(x: &'static str) -> r#type { b'e'; 'x' }
    "##;
    let words: Vec<&str> = tokens(text)
        .iter()
        .filter_map(|spot| match spot.token {
            Token::Word(word) => Some(word),
            _ => None,
        })
        .collect();
    assert_eq!(
        words,
        ["let", "a", "let", "b", "let", "c", "let", "d", "fn", "f", "x", "str", "type"]
    );
}

#[test]
fn tokens_know_their_lines() {
    let spots = tokens("a\n\"x\ny\" ::b\n/*\n*/ c");
    let lines: Vec<_> = spots.iter().map(|spot| (spot.token, spot.line)).collect();
    let word = |name| Token::Word(name);
    assert_eq!(lines, [(word("a"), 1), (Token::Separator, 3), (word("b"), 3), (word("c"), 5)]);
}
