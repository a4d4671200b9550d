//! `top`: all members of the cluster, side by side, again and again.
//!
//! Each member is asked itself, so that one that is cut off from the others is seen as it sees itself, and one that gives
//! no answer is seen to give none. What is counted (requests, their latency) is the difference between two looks.
//!
//! ```text
//! top.rs        the loop: looks, keys, the terminal's other screen
//! sample.rs     a look at all members, and what lies between two
//! ```

mod sample;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{
    self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use crossterm::{execute, queue};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::columns;
use super::exit::Failure;
use super::output::Output;
use super::run::Session;
use sample::{Look, Row};

/// How long a member may take to answer: longer than a stall of a busy machine, shorter than a person's patience.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// How often the keyboard is looked at.
const KEYS_EVERY: Duration = Duration::from_millis(100);

const HEADINGS: [&str; 12] = [
    "NODE", "ROLE", "TERM", "LAG", "APPLIED", "REVISION", "READ/S", "WRITE/S", "P50", "P99",
    "DISK", "HTTP",
];

impl Session {
    pub(super) async fn top(&self, once: bool, every: Duration) -> Result<(), Failure> {
        if once {
            let limit = self.client.timeout();
            let first = Look::at_all(&self.client, limit).await?;
            tokio::time::sleep(every).await;
            let rows = Look::at_all(&self.client, limit).await?.since(&first);
            return self.answer(
                || table(&rows),
                || json!({ "members": rows.iter().map(Row::json).collect::<Vec<_>>() }),
            );
        }
        if self.output == Output::Json || !self.terminal {
            return Err(Failure::NoTerminal);
        }
        let screen = Screen::enter()?;
        let mut keys = Keys::watch();
        let mut before: Option<Look> = None;
        loop {
            let next = Instant::now() + every;
            let look = tokio::select! {
                look = Look::at_all(&self.client, ANSWER_LIMIT) => look,
                () = keys.quit() => return Ok(()),
            };
            match look {
                Ok(look) => {
                    let rows = look.since(before.as_ref().unwrap_or(&look));
                    screen.draw(&table(&rows))?;
                    before = Some(look);
                }
                Err(error) => screen.draw(&format!("{error}\n"))?,
            }
            tokio::select! {
                () = sleep_until(next) => {}
                () = keys.quit() => return Ok(()),
            }
        }
    }
}

fn table(rows: &[Row]) -> String {
    columns::table(&HEADINGS, &rows.iter().map(Row::cells).collect::<Vec<_>>())
}

/// The terminal's other screen; left when dropped.
struct Screen;

impl Screen {
    fn enter() -> Result<Screen, Failure> {
        enable_raw_mode().map_err(broken)?;
        // From here on the drop puts back what has been changed.
        let screen = Screen;
        execute!(io::stdout(), EnterAlternateScreen, Hide).map_err(broken)?;
        Ok(screen)
    }

    /// Shows `text` from the top, cut to the terminal.
    fn draw(&self, text: &str) -> Result<(), Failure> {
        let (columns, lines) = terminal::size().map_err(broken)?;
        let mut out = io::stdout().lock();
        let footer = "q leaves";
        let shown = text.lines().take(usize::from(lines).saturating_sub(2)).chain(["", footer]);
        queue!(out, MoveTo(0, 0)).map_err(broken)?;
        for (number, line) in shown.enumerate() {
            let line: String = line.chars().take(columns.into()).collect();
            queue!(out, MoveTo(0, number as u16), Clear(ClearType::CurrentLine)).map_err(broken)?;
            write!(out, "{line}").map_err(broken)?;
        }
        queue!(out, Clear(ClearType::FromCursorDown)).map_err(broken)?;
        out.flush().map_err(broken)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave_screen();
    }
}

fn broken(why: io::Error) -> Failure {
    Failure::Terminal(why.to_string())
}

/// Puts the terminal back as it was. Does nothing to one that was not changed, and to what is none.
pub fn leave_screen() {
    if terminal::is_raw_mode_enabled().unwrap_or(false) {
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

/// A thread that reads the keyboard until this is dropped. Raw mode makes of Ctrl-C a key like others.
struct Keys {
    quits: mpsc::Receiver<()>,
    is_over: Arc<AtomicBool>,
    reader: Option<tokio::task::JoinHandle<()>>,
}

impl Keys {
    fn watch() -> Keys {
        let (quit, quits) = mpsc::channel(1);
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let reader = tokio::task::spawn_blocking(move || {
            while !over.load(Ordering::Relaxed) {
                match event::poll(KEYS_EVERY)
                    .and_then(|has_one| has_one.then(event::read).transpose())
                {
                    Ok(Some(Event::Key(key))) if leaves(&key) => drop(quit.try_send(())),
                    Ok(_) => {}
                    // The terminal is gone.
                    Err(_) => {
                        let _ = quit.try_send(());
                        return;
                    }
                }
            }
        });
        Keys { quits, is_over, reader: Some(reader) }
    }

    /// Resolves when the person wants to leave; the keyboard is not read any more then.
    async fn quit(&mut self) {
        self.quits.recv().await;
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.await;
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn leaves(key: &KeyEvent) -> bool {
    let is_ctrl_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind != KeyEventKind::Release
        && (is_ctrl_c || matches!(key.code, KeyCode::Char('q' | 'Q') | KeyCode::Esc))
}
