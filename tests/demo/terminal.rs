//! A program in a real terminal: tmux, without its user's settings.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::PATIENCE;

const COLUMNS: &str = "150";
const LINES: &str = "45";

/// The end of the program is to be seen: its screen stays, with the exit status.
const SETTINGS: &str = "set-option -g remain-on-exit on\n";

/// Pause between two looks at the screen.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long what is tried again may take each time.
const MOMENT: Duration = Duration::from_secs(2);

/// A terminal with one program in it. Dropped, it is closed, which hangs the program up.
pub struct Terminal {
    home: TempDir,
}

impl Terminal {
    /// Opens one and runs `program` with these variables beside those that a terminal has.
    pub fn run(program: &[&str], variables: &[(&str, &str)]) -> Terminal {
        let terminal = Terminal { home: tempfile::tempdir().expect("a temporary directory") };
        std::fs::write(terminal.home.path().join("conf"), SETTINGS).expect("a file");
        let home = format!("HOME={}", terminal.home.path().display());
        let mut words = vec!["new-session", "-d", "-x", COLUMNS, "-y", LINES, "-e", &home];
        let variables: Vec<String> =
            variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        for variable in &variables {
            words.extend(["-e", variable]);
        }
        words.extend(program);
        let output = terminal.tmux(&words);
        assert!(output.status.success(), "tmux: {}", String::from_utf8_lossy(&output.stderr));
        terminal
    }

    fn tmux(&self, words: &[&str]) -> Output {
        let mut tmux = Command::new("tmux");
        tmux.arg("-u").arg("-f").arg(self.home.path().join("conf"));
        tmux.arg("-S").arg(self.home.path().join("socket"));
        tmux.env_remove("TMUX").env_remove("NO_COLOR").env("TERM", "xterm-256color").args(words);
        tmux.output().unwrap_or_else(|error| panic!("this test needs tmux: {error}"))
    }

    /// Types text, as it is.
    pub fn types(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Presses keys by their names: Enter, Tab, C-c.
    pub fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a line and Enter.
    pub fn enter(&self, line: &str) {
        self.types(line);
        self.press(&["Enter"]);
    }

    /// What the screen shows, and what has left it at the top.
    pub fn screen(&self) -> String {
        let shown = self.tmux(&["capture-pane", "-p", "-J", "-S", "-500"]).stdout;
        String::from_utf8_lossy(&shown).trim_end().to_owned()
    }

    /// What the screen shows, with the escape sequences that colour it.
    pub fn colored(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p", "-e"]).stdout).into_owned()
    }

    /// Waits until the screen shows what `is_there` looks for.
    pub fn until(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if is_there(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what} on\n{screen}\n");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Whether `text` is on the screen within a moment. For what may have to be tried again.
    pub fn comes_to_show(&self, text: &str) -> bool {
        let deadline = Instant::now() + MOMENT;
        loop {
            if self.screen().contains(text) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until `text` is on the screen.
    pub fn shows(&self, text: &str) -> String {
        self.until(text, |screen| screen.contains(text))
    }

    /// The process in the terminal.
    pub fn pid(&self) -> i32 {
        self.asks("#{pane_pid}").parse().expect("a number")
    }

    /// Waits for the end of the program, and tells its exit status.
    pub fn ended(&self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A pane is dead when its terminal is closed; how the program ended is known a moment later.
            if let Ok(status) = self.asks("#{pane_dead_status}").parse() {
                return status;
            }
            let signal = self.asks("#{pane_dead_signal}");
            assert_eq!(signal, "", "the program was ended by a signal:\n{}\n", self.screen());
            assert!(Instant::now() < deadline, "the program goes on:\n{}\n", self.screen());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn asks(&self, format: &str) -> String {
        let said = self.tmux(&["display-message", "-p", format]).stdout;
        String::from_utf8_lossy(&said).trim().to_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
