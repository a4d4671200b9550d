//! The colours of a line while it is typed.
//!
//! The command is green, red when there is none of its name; options are cyan, red when the command has none of that
//! name; quoted words are yellow; the keywords of a transaction are blue.

use reedline::{Color, Highlighter, StyledText};

use super::extra::Vocabulary;
use super::table::Spec;
use super::words::spans;

/// The words that part a transaction.
pub const TXN_WORDS: [&str; 4] = ["if", "then", "else", "commit"];

pub struct Painter {
    pub vocabulary: Vocabulary,
}

impl Highlighter for Painter {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        let mut styled = StyledText::new();
        let mut painted = 0;
        let words = spans(line);
        let spec = words.first().and_then(|span| self.vocabulary.find(&line[span.clone()]));
        for (number, span) in words.iter().enumerate() {
            let word = &line[span.clone()];
            let color = match number {
                0 => self.of_command(spec, word, span.end == line.len()),
                _ => of_word(spec, word, span.end == line.len()),
            };
            styled.push((Color::Default.normal(), line[painted..span.start].to_owned()));
            styled.push((color.normal(), word.to_owned()));
            painted = span.end;
        }
        styled.push((Color::Default.normal(), line[painted..].to_owned()));
        styled
    }
}

impl Painter {
    fn of_command(&self, spec: Option<&Spec>, word: &str, is_being_typed: bool) -> Color {
        let begins_one = || self.vocabulary.all().any(|spec| spec.name.starts_with(word));
        match spec {
            Some(_) => Color::Green,
            None if is_being_typed && begins_one() => Color::Default,
            None => Color::Red,
        }
    }
}

fn of_word(spec: Option<&Spec>, word: &str, is_being_typed: bool) -> Color {
    if word.starts_with(['"', '\'']) {
        return Color::Yellow;
    }
    let is_txn = spec.is_some_and(|spec| spec.name == "txn");
    if is_txn && TXN_WORDS.contains(&word) {
        return Color::Blue;
    }
    if is_txn || !word.starts_with('-') {
        return Color::Default;
    }
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    let own = spec.map_or(&[][..], |spec| spec.options).iter().map(|option| option.name);
    let mut known = own.chain(["--", "-o", "--output", "--help", "-h"]);
    match known.clone().any(|option| option == name) {
        true => Color::Cyan,
        false if is_being_typed && known.any(|option| option.starts_with(name)) => Color::Default,
        false => Color::Red,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a line that are not in the terminal's own colour.
    fn painted(line: &str) -> Vec<(String, Color)> {
        let styled = Painter { vocabulary: Vocabulary::default() }.highlight(line, line.len());
        let text: String = styled.buffer.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(text, line, "painting keeps every letter");
        let words = styled.buffer.into_iter().filter_map(|(style, text)| {
            style.foreground.filter(|color| *color != Color::Default).map(|color| (text, color))
        });
        words.collect()
    }

    #[test]
    fn a_line_shows_what_is_known_of_it() {
        let line = |words: &[(&str, Color)]| -> Vec<(String, Color)> {
            words.iter().map(|(word, color)| (word.to_string(), *color)).collect()
        };
        let (green, red, cyan) = (Color::Green, Color::Red, Color::Cyan);
        assert_eq!(painted("  get k --meta "), line(&[("get", green), ("--meta", cyan)]));
        assert_eq!(painted("gett k"), line(&[("gett", red)]));
        assert_eq!(painted("ge"), line(&[]));
        assert_eq!(painted("get k --mtea x"), line(&[("get", green), ("--mtea", red)]));
        assert_eq!(painted("put k \"a b"), line(&[("put", green), ("\"a b", Color::Yellow)]));
        assert_eq!(painted("txn if a exists"), line(&[("txn", green), ("if", Color::Blue)]));
    }
}
