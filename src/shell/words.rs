//! From a line to words, and from bytes to text that reads as a word: any bytes can be typed.
//!
//! ```text
//! put greeting "hello world"     words end at blanks; quotes keep them
//! put 'a\b' "two\nlines"         '…' takes everything as it is, "…" knows escapes
//! put bin\x00key \xff\xfe        so does a word without quotes
//! ```
//!
//! Escapes are `\n \r \t \0 \\ \' \"`, a backslash before a blank, and `\xNN` for any byte; another
//! letter after a backslash is an error and not that letter, so that new ones can come. [`quote`] is
//! the inverse of [`split`]. Left out: variables, globs and everything else of a Unix shell.

use std::fmt::Write;
use std::ops::Range;

/// A word of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub bytes: Vec<u8>,
    /// Typed without quotes and escapes. Only such a word can be an option, so that `put k "--x"`
    /// stores what it says.
    pub bare: bool,
}

/// Why a line has no words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    #[error("the quote {0} is not closed")]
    OpenQuote(char),
    #[error("the line ends with a backslash; for a backslash itself write \\\\")]
    LoneBackslash,
    #[error("\\{0} is no escape; there are \\n \\r \\t \\0 \\\\ \\' \\\" and \\xNN, such as \\x00")]
    UnknownEscape(String),
}

/// The words of `line`.
pub fn split(line: &[u8]) -> Result<Vec<Word>, SplitError> {
    let mut rest = line.iter().copied();
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    while let Some(byte) = rest.next() {
        if byte.is_ascii_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert(Word { bytes: Vec::new(), bare: true });
        match byte {
            b'\'' => {
                word.bare = false;
                loop {
                    match rest.next().ok_or(SplitError::OpenQuote('\''))? {
                        b'\'' => break,
                        byte => word.bytes.push(byte),
                    }
                }
            }
            b'"' => {
                word.bare = false;
                loop {
                    match rest.next().ok_or(SplitError::OpenQuote('"'))? {
                        b'"' => break,
                        b'\\' => word.bytes.push(escaped(&mut rest)?),
                        byte => word.bytes.push(byte),
                    }
                }
            }
            b'\\' => {
                word.bare = false;
                word.bytes.push(escaped(&mut rest)?);
            }
            byte => word.bytes.push(byte),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Where the words of a line stand, as far as it is typed: an open quote goes to the end.
pub fn spans(line: &str) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    let mut begin = None;
    let mut quote = None;
    let mut bytes = line.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (quote, byte) {
            (None, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c') => {
                spans.extend(begin.take().map(|begin| begin..at));
                continue;
            }
            (None, b'\'' | b'"') => quote = Some(byte),
            (None | Some(b'"'), b'\\') => drop(bytes.next()),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
        begin.get_or_insert(at);
    }
    spans.extend(begin.map(|begin| begin..line.len()));
    spans
}

/// The one word that `text` is or begins to be, with its quote closed. None when it ends inside an escape.
pub fn begun(text: &str) -> Option<Word> {
    let mut words = match split(text.as_bytes()) {
        Err(SplitError::OpenQuote(quote)) => split(format!("{text}{quote}").as_bytes()),
        words => words,
    };
    let word = words.as_mut().ok()?.pop();
    Some(word.unwrap_or(Word { bytes: Vec::new(), bare: true }))
}

/// The byte that the rest of an escape stands for.
fn escaped(rest: &mut impl Iterator<Item = u8>) -> Result<u8, SplitError> {
    let byte = rest.next().ok_or(SplitError::LoneBackslash)?;
    Ok(match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'0' => 0,
        b'\\' | b'\'' | b'"' | b' ' => byte,
        b'x' => {
            let digits: Vec<u8> = rest.take(2).collect();
            let text = String::from_utf8_lossy(&digits).into_owned();
            match (digits.len(), u8::from_str_radix(&text, 16)) {
                (2, Ok(value)) if digits[0] != b'+' => value,
                _ => return Err(SplitError::UnknownEscape(format!("x{text}"))),
            }
        }
        other => return Err(SplitError::UnknownEscape(other.escape_ascii().to_string())),
    })
}

/// `bytes` as one word that [`split`] reads as the same bytes, and no option.
pub fn quote(bytes: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._/:@%+=,-".contains(byte);
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.starts_with('-') && bytes.iter().all(plain) => {
            text.to_owned()
        }
        _ => format!("\"{}\"", escape(bytes).replace('"', "\\\"")),
    }
}

/// `bytes` as text that is safe on a terminal and of one line: what is no readable character stands as
/// an escape.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let as_hex = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            write!(text, "\\x{byte:02x}").expect("a string takes all that is written");
        }
    };
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\\' => text.push_str("\\\\"),
                safe if is_safe(safe) => text.push(safe),
                other => as_hex(&mut text, other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        as_hex(&mut text, chunk.invalid());
    }
    text
}

/// Whether a terminal shows the character and does nothing else: no control character, none that turns
/// the direction of writing, which makes text look like another.
pub fn is_safe(character: char) -> bool {
    let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !character.is_control() && !turns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Vec<Vec<u8>> {
        split(line.as_bytes()).unwrap().into_iter().map(|word| word.bytes).collect()
    }

    #[test]
    fn blanks_part_words_and_quotes_join_them() {
        assert_eq!(words("  put a\tb  "), [&b"put"[..], b"a", b"b"]);
        assert_eq!(words("a\"b c\"'d e'f"), [b"ab cd ef"]);
        assert_eq!(words("'' \"\""), [b"", b""]);
        assert_eq!(words(""), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn escapes_make_any_byte_and_single_quotes_know_none() {
        assert_eq!(
            words(r#"\x00\xFf "\n\r\t\0\\\"" \' a\ b"#),
            [&b"\x00\xff"[..], b"\n\r\t\0\\\"", b"'", b"a b"]
        );
        assert_eq!(words(r"'\x00\'"), [br"\x00\"]);
    }

    #[test]
    fn only_a_word_without_quotes_and_escapes_is_bare() {
        let bare = |line: &str| split(line.as_bytes()).unwrap()[0].bare;
        assert!(bare("--limit"));
        assert!(!bare("\"--limit\""));
        assert!(!bare("-'-limit'"));
        assert!(!bare(r"\x2d-limit"));
    }

    #[test]
    fn what_is_unfinished_or_unknown_is_an_error() {
        let error = |line: &str| split(line.as_bytes()).unwrap_err();
        assert_eq!(error("'a"), SplitError::OpenQuote('\''));
        assert_eq!(error("\"a"), SplitError::OpenQuote('"'));
        assert_eq!(error("a\\"), SplitError::LoneBackslash);
        assert_eq!(error(r"\q"), SplitError::UnknownEscape("q".to_owned()));
        for digits in ["", "0", "g0", "+1", "é"] {
            assert_eq!(
                error(&format!("\\x{digits}")),
                SplitError::UnknownEscape(format!("x{digits}"))
            );
        }
    }

    #[test]
    fn nothing_that_acts_on_a_terminal_is_shown_raw() {
        assert_eq!(escape(b"a\x1b[31m\x7f\xc2\x9b\xff"), r"a\x1b[31m\x7f\xc2\x9b\xff");
        assert_eq!(escape("käse \u{202e}".as_bytes()), r"käse \xe2\x80\xae");
        assert_eq!(quote(b"a/b-c_1.2"), "a/b-c_1.2");
        assert_eq!(quote(b"--limit"), "\"--limit\"");
        assert_eq!(quote(b""), "\"\"");
        assert_eq!(quote(b"say \"x\""), r#""say \"x\"""#);
    }

    #[test]
    fn a_word_that_is_being_typed_is_known_by_its_beginning() {
        let last = |line: &str| {
            let span = spans(line).pop().unwrap();
            (span.start, begun(&line[span]).map(|word| word.bytes))
        };
        assert_eq!(last("get use"), (4, Some(b"use".to_vec())));
        assert_eq!(last("get \"two wo"), (4, Some(b"two wo".to_vec())));
        assert_eq!(last("get 'two wo"), (4, Some(b"two wo".to_vec())));
        assert_eq!(last(r"get two\ wo"), (4, Some(b"two wo".to_vec())));
        assert_eq!(last(r"get a\"), (4, None));
    }

    proptest! {
        #[test]
        fn the_spans_of_a_line_are_its_words(line: String) {
            if let Ok(words) = split(line.as_bytes()) {
                let in_spans: Vec<Word> =
                    spans(&line).into_iter().filter_map(|span| begun(&line[span])).collect();
                prop_assert_eq!(in_spans, words);
            }
        }

        #[test]
        fn what_is_quoted_is_read_as_the_same_word(bytes: Vec<u8>, more: Vec<u8>) {
            let line = format!("{} {}", quote(&bytes), quote(&more));
            let read = split(line.as_bytes()).unwrap();
            prop_assert_eq!(read.len(), 2);
            prop_assert_eq!(&read[0].bytes, &bytes);
            prop_assert_eq!(&read[1].bytes, &more);
            prop_assert!(!read[0].bytes.starts_with(b"-") || !read[0].bare);
        }

        #[test]
        fn no_line_makes_it_panic(line: Vec<u8>) {
            let _ = split(&line);
        }
    }
}
