//! The prompt: line editing, history, hints and the menu of completions, by `reedline`.

use std::borrow::Cow;

use reedline::{
    Color, ColumnarMenu, DefaultHinter, Emacs, FileBackedHistory, Hinter, History, KeyCode,
    KeyModifiers, MenuBuilder, Prompt, PromptEditMode, PromptHistorySearch,
    PromptHistorySearchStatus, Reedline, ReedlineEvent, ReedlineMenu, Signal, ValidationResult,
    Validator, default_emacs_keybindings,
};

use super::command::goes_on;
use super::complete::{Completions, FromServer};
use super::exit::Failure;
use super::extra::Vocabulary;
use super::paint::Painter;
use super::words::{SplitError, spans, split};
use super::{files, print};
use crate::client::Status;

const MENU: &str = "completion";
const HISTORY_LINES: usize = 5_000;

pub struct Editor {
    line: Reedline,
}

impl Editor {
    pub fn new(vocabulary: Vocabulary, known: FromServer) -> Result<Editor, Failure> {
        let mut keys = default_emacs_keybindings();
        let complete = vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext];
        keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, ReedlineEvent::UntilFound(complete));
        keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
        let menu = ColumnarMenu::default().with_name(MENU);
        let mut line = Reedline::create()
            .with_completer(Box::new(Completions { vocabulary: vocabulary.clone(), known }))
            .with_quick_completions(true)
            .with_partial_completions(true)
            .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
            .with_edit_mode(Box::new(Emacs::new(keys)))
            .with_hinter(Box::new(Hints::new(vocabulary.clone())))
            .with_highlighter(Box::new(Painter { vocabulary }))
            .with_validator(Box::new(WholeCommand))
            .with_ansi_colors(!print::no_color())
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

/// Asks the person at the terminal. Who leaves by Ctrl-C or Ctrl-D has answered nothing.
pub fn ask(question: &str) -> Result<String, Failure> {
    let asked = Reedline::create().read_line(&Question(question));
    match asked.map_err(|why| Failure::Terminal(why.to_string()))? {
        Signal::Success(answer) => Ok(answer.trim().to_owned()),
        _ => Ok(String::new()),
    }
}

/// `node1 leader> `, `node2 follower of node1> `, or what is missing.
struct Greeting {
    status: Option<Status>,
}

impl Greeting {
    /// The leader's name, as far as the node that answers knows one.
    fn leader(status: &Status) -> Option<&str> {
        let known = [status.leader_id.as_deref().unwrap_or_default(), &status.leader];
        known.into_iter().find(|leader| !leader.is_empty())
    }
}

impl Prompt for Greeting {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        let Some(status) = &self.status else { return Cow::Borrowed("no server") };
        let (node, role) = (&status.node_id, &status.role);
        Cow::Owned(match Greeting::leader(status) {
            _ if status.is_leader => format!("{node} {role}"),
            Some(leader) => format!("{node} {role} of {leader}"),
            None => format!("{node} {role}, no leader"),
        })
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
            Some(status) if Greeting::leader(status).is_some() => Color::Cyan,
            Some(_) => Color::Yellow,
            None => Color::Red,
        }
    }
}

/// A question as a prompt.
struct Question<'a>(&'a str);

impl Prompt for Question<'_> {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.0)
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_history_search_indicator(&self, _: PromptHistorySearch) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
}

const TXN_HINT: &str =
    "if KEY value = VALUE, then put …, else get …; commit does it, Ctrl-C gives it up";

/// Hints behind the cursor: how a line like this went on before, else which arguments are still to come.
struct Hints {
    before: DefaultHinter,
    vocabulary: Vocabulary,
}

impl Hints {
    fn new(vocabulary: Vocabulary) -> Hints {
        let before = DefaultHinter::default().with_style(Color::DarkGray.normal());
        Hints { before, vocabulary }
    }

    /// The arguments that the command still takes, once a blank ends the last word.
    fn usage(&self, line: &str) -> Option<String> {
        let words = spans(line);
        let is_between =
            line.ends_with(' ') && words.last().is_some_and(|span| span.end < line.len());
        let spec = self.vocabulary.find(&line[words.first()?.clone()])?;
        if spec.name == "txn" {
            // Enter leads to the next line of it, where nothing else says how it ends.
            let is_new_line = line.rsplit('\n').next().is_some_and(|last| last.trim().is_empty());
            return is_new_line.then(|| TXN_HINT.to_owned());
        }
        let options = words.iter().any(|span| line[span.clone()].starts_with('-'));
        if !is_between || options {
            return None;
        }
        let usage = spec.usage.split(" | ").next()?;
        let left: Vec<&str> = usage.split_whitespace().skip(words.len()).collect();
        Some(left.join(" ")).filter(|left| !left.is_empty())
    }
}

impl Hinter for Hints {
    fn handle(
        &mut self,
        line: &str,
        pos: usize,
        history: &dyn History,
        use_ansi_coloring: bool,
        cwd: &str,
    ) -> String {
        let before = self.before.handle(line, pos, history, use_ansi_coloring, cwd);
        // Without colours nobody could tell a hint that cannot be taken from what is typed.
        if !before.is_empty() || !use_ansi_coloring || pos < line.len() {
            return before;
        }
        let usage = self.usage(line).unwrap_or_default();
        Color::DarkGray.italic().paint(usage).to_string()
    }

    /// What the right arrow takes: usage is to be read, not to be taken.
    fn complete_hint(&self) -> String {
        self.before.complete_hint()
    }

    fn next_hint_token(&self) -> String {
        self.before.next_hint_token()
    }
}

/// Whether a line is a whole command.
struct WholeCommand;

impl Validator for WholeCommand {
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

    #[test]
    fn an_open_quote_goes_on() {
        let open = |line| matches!(WholeCommand.validate(line), ValidationResult::Incomplete);
        assert!(open("put k \"a"));
        assert!(!open("put k \"a\""));
        assert!(!open("put k \\q"));
        assert!(open("txn if a exists") && !open("txn if a exists\nthen get a\ncommit"));
    }

    #[test]
    fn the_prompt_tells_the_node_and_who_leads() {
        let status = |role: &str, leader: &str| Status {
            node_id: "node2".to_owned(),
            role: role.to_owned(),
            is_leader: role == "leader",
            leader_id: Some(leader.to_owned()),
            ..Status::default()
        };
        let prompt = |status| Greeting { status }.render_prompt_left().into_owned();
        assert_eq!(prompt(Some(status("leader", "node2"))), "node2 leader");
        assert_eq!(prompt(Some(status("follower", "node1"))), "node2 follower of node1");
        assert_eq!(prompt(Some(status("candidate", ""))), "node2 candidate, no leader");
        assert_eq!(prompt(None), "no server");
    }

    #[test]
    fn the_arguments_to_come_are_hinted() {
        let hint = |line: &str| Hints::new(Vocabulary::default()).usage(line).unwrap_or_default();
        assert_eq!(hint("put "), "KEY VALUE");
        assert_eq!(hint("put k "), "VALUE");
        assert_eq!(hint("scan "), "[PREFIX]");
        assert_eq!(hint("txn\n"), TXN_HINT);
        assert_eq!(hint("txn\nif a exists\n"), TXN_HINT);
        for line in
            ["txn", "txn\nif a ", "put", "put k", "put k v ", "get --stale ", "nothing ", ""]
        {
            assert_eq!(hint(line), "", "{line}");
        }
    }
}
