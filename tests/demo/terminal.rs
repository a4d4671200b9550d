//! A program in a real terminal: tmux, without its user's settings.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::PATIENCE;

const COLUMNS: &str = "150";
const LINES: &str = "45";

/// Runs the program that its arguments are, notes which process that is, and shows its exit status in the end. tmux
/// itself does not always learn it. Ctrl-C is the program's: the shells outlive it.
const SCRIPT: &str = "trap : INT; sh -c 'echo $$ >\"$HOME/pid\"; exec \"$@\"' sh \"$@\"; code=$?; \
                      case $(stty -a) in *-icrnl*|*-icanon*|*' -echo '*) stty sane; echo \"$MISUSED\";; esac; \
                      echo \"ended with $code\"; exec cat";

/// What is shown when the program leaves the terminal in other modes than it found.
const MISUSED: &str = "the terminal is not as it was";

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
        let home = format!("HOME={}", terminal.home.path().display());
        let misused = format!("MISUSED={MISUSED}");
        let mut words = vec!["new-session", "-d", "-x", COLUMNS, "-y", LINES];
        words.extend(["-e", &home, "-e", &misused]);
        let variables: Vec<String> =
            variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        for variable in &variables {
            words.extend(["-e", variable]);
        }
        words.extend(["sh", "-c", SCRIPT, "sh"]);
        words.extend(program);
        let output = terminal.tmux(&words);
        assert!(output.status.success(), "tmux: {}", String::from_utf8_lossy(&output.stderr));
        terminal
    }

    fn tmux(&self, words: &[&str]) -> Output {
        let mut tmux = Command::new("tmux");
        tmux.args(["-u", "-f", "/dev/null", "-S"]).arg(self.home.path().join("socket"));
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

    /// The process of the program.
    pub fn pid(&self) -> i32 {
        let noted = std::fs::read_to_string(self.home.path().join("pid")).expect("a noted process");
        noted.trim().parse().expect("a number")
    }

    /// Waits for the end of the program, and tells its exit status.
    pub fn ended(&self) -> i32 {
        let told = |screen: &str| -> Option<i32> {
            screen.lines().last()?.rsplit_once("ended with ")?.1.trim().parse().ok()
        };
        let screen = self.until("the end of the program", |screen| told(screen).is_some());
        assert!(!screen.contains(MISUSED), "{screen}");
        told(&screen).expect("an exit status")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
