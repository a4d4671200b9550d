//! The prompt: line editing, history, completion and colours, by `reedline`.

use std::borrow::Cow;

use reedline::{
    Color, ColumnarMenu, Completer, CompletionResult, DefaultHinter, Emacs, FileBackedHistory,
    Highlighter, KeyCode, KeyModifiers, MenuBuilder, Prompt, PromptEditMode, PromptHistorySearch,
    PromptHistorySearchStatus, Reedline, ReedlineEvent, ReedlineMenu, Signal, Span, StyledText,
    Suggestion, ValidationResult, Validator, default_emacs_keybindings,
};

use super::command::goes_on;
use super::exit::Failure;
use super::words::{SplitError, split};
use super::{files, print, table};
use crate::client::Status;

const MENU: &str = "completion";
const HISTORY_LINES: usize = 5_000;

pub struct Editor {
    line: Reedline,
}

impl Editor {
    pub fn new() -> Result<Editor, Failure> {
        let mut keys = default_emacs_keybindings();
        let complete = vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext];
        keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, ReedlineEvent::UntilFound(complete));
        keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
        let menu = ColumnarMenu::default().with_name(MENU);
        let mut line = Reedline::create()
            .with_completer(Box::new(Commands))
            .with_quick_completions(true)
            .with_partial_completions(true)
            .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
            .with_edit_mode(Box::new(Emacs::new(keys)))
            .with_hinter(Box::new(DefaultHinter::default().with_style(Color::DarkGray.normal())))
            .with_highlighter(Box::new(Commands))
            .with_validator(Box::new(Commands))
            // A line that begins with a blank is not remembered: a way to keep a secret out.
            .with_history_exclusion_prefix(Some(" ".to_owned()));
        match files::history_path().map(|path| FileBackedHistory::with_file(HISTORY_LINES, path)) {
            Some(Ok(history)) => line = line.with_history(Box::new(history)),
            Some(Err(why)) => print::note(&format!("no history: {why}")),
            None => print::note("no history: neither XDG_STATE_HOME nor HOME is set"),
        }
        Ok(Editor { line })
    }

    /// The next line; `None` when the person leaves. `status` is who answers at the moment.
    pub fn read_line(&mut self, status: Option<Status>) -> Result<Option<String>, Failure> {
        let prompt = Greeting { status };
        loop {
            match self.line.read_line(&prompt) {
                Ok(Signal::Success(line)) => return Ok(Some(line)),
                Ok(Signal::CtrlD) => return Ok(None),
                // Ctrl-C: an empty line again.
                Ok(_) => {}
                Err(why) => return Err(Failure::Terminal(why.to_string())),
            }
        }
    }
}

/// `node1 leader> `, or who does not answer.
struct Greeting {
    status: Option<Status>,
}

impl Prompt for Greeting {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        match &self.status {
            Some(status) => Cow::Owned(format!("{} {}", status.node_id, status.role)),
            None => Cow::Borrowed("no server"),
        }
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("… ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "nothing like ",
        };
        Cow::Owned(format!("({failing}history: {}) ", search.term))
    }

    fn get_prompt_color(&self) -> Color {
        match &self.status {
            Some(status) if status.is_leader => Color::Green,
            Some(_) => Color::Cyan,
            None => Color::Red,
        }
    }
}

/// What the editor knows of the commands.
struct Commands;

impl Completer for Commands {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        CompletionResult::fresh(complete(line, pos))
    }
}

/// Command names for the first word and after `help`, a command's options for a word with a dash.
fn complete(line: &str, pos: usize) -> Vec<Suggestion> {
    let typed = &line[..pos];
    let start = typed.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let (before, word) = (typed[..start].split_whitespace().collect::<Vec<_>>(), &typed[start..]);
    let suggest = |value: &str, about: &str| Suggestion {
        value: value.to_owned(),
        description: Some(about.to_owned()),
        span: Span::new(start, pos),
        append_whitespace: true,
        ..Suggestion::default()
    };
    match before[..] {
        [] | ["help"] => {
            let commands = table::COMMANDS.iter().filter(|spec| spec.name.starts_with(word));
            commands.map(|spec| suggest(spec.name, spec.about)).collect()
        }
        [command, ..] if word.starts_with('-') => {
            let options = table::find(command).map_or(&[][..], |spec| spec.options);
            let unused = options.iter().filter(|option| !before.contains(&option.name));
            let fitting = unused.filter(|option| option.name.starts_with(word));
            fitting.map(|option| suggest(option.name, option.about)).collect()
        }
        _ => Vec::new(),
    }
}

impl Highlighter for Commands {
    /// The command in green, in red when there is none of that name.
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        let mut styled = StyledText::new();
        let indent = line.len() - line.trim_start().len();
        let end = line[indent..].find(char::is_whitespace).map_or(line.len(), |at| indent + at);
        let (command, rest) = line.split_at(end);
        let known = table::find(command.trim_start());
        let begun =
            || table::COMMANDS.iter().any(|spec| spec.name.starts_with(command.trim_start()));
        let color = match known {
            Some(_) => Color::Green,
            None if rest.is_empty() && begun() => Color::Default,
            None => Color::Red,
        };
        styled.push((color.normal(), command.to_owned()));
        styled.push((Color::Default.normal(), rest.to_owned()));
        styled
    }
}

impl Validator for Commands {
    /// An open quote goes on in the next line, and a transaction until it is committed.
    fn validate(&self, line: &str) -> ValidationResult {
        match split(line.as_bytes()) {
            Err(SplitError::OpenQuote(_)) => ValidationResult::Incomplete,
            Ok(words) if goes_on(&words) => ValidationResult::Incomplete,
            _ => ValidationResult::Complete,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(line: &str) -> Vec<String> {
        complete(line, line.len()).into_iter().map(|suggestion| suggestion.value).collect()
    }

    #[test]
    fn commands_and_their_options_are_offered() {
        assert_eq!(offers("st"), ["status"]);
        assert_eq!(offers("help t"), ["ttl", "txn", "transfer"]);
        assert_eq!(offers("get k --m"), ["--meta"]);
        assert_eq!(
            offers("ls --start a --"),
            ["--limit", "--keys-only", "--reverse", "--end", "--revision", "--stale"]
        );
        assert_eq!(offers("get k"), Vec::<String>::new());
        assert_eq!(offers("").len(), table::COMMANDS.len());
    }

    #[test]
    fn an_open_quote_goes_on() {
        let open = |line| matches!(Commands.validate(line), ValidationResult::Incomplete);
        assert!(open("put k \"a"));
        assert!(!open("put k \"a\""));
        assert!(!open("put k \\q"));
        assert!(open("txn if a exists") && !open("txn if a exists\nthen get a\ncommit"));
    }
}
