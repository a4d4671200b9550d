//! How far a long command is, on standard error while that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A line that shows bytes, and of how many where that is known. Gone when the command ends.
pub struct Progress(ProgressBar);

impl Progress {
    /// `total_bytes` of what is read or written, if it is known. Where standard error is no terminal nothing is shown.
    pub fn new(what: &'static str, total_bytes: Option<u64>) -> Progress {
        let (bar, template) = match total_bytes {
            Some(total) => {
                (ProgressBar::new(total), "{msg} {wide_bar} {bytes} of {total_bytes}, {eta} left")
            }
            None => (ProgressBar::new_spinner(), "{msg} {bytes}, {bytes_per_sec}"),
        };
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.expect("the template names fields that there are"));
        bar.set_message(what);
        Progress(bar)
    }

    pub fn set(&self, done_bytes: u64) {
        self.0.set_position(done_bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
