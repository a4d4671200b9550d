//! The house keeps its floors: this test reads the sources as text and fails where a file imports what
//! stands above it, where a crate is named outside its rooms, where a file has outgrown its idea, and where
//! something unfinished is left behind.
//!
//! Read `rules.rs` first: the tables there are the architecture. `imports.rs` finds which modules a file
//! names, however it names them, and `lexer.rs` lets both see code without comments and literals.
//!
//! Known gaps: a re-export is believed (what `actors::messages` publishes is a message, wherever it was
//! defined), and names that a macro would put together are not seen. Nothing here does that.

mod imports;
mod lexer;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};

use rules::Violation;

/// A source file: its path from the root of the project, with slashes, and its text.
pub struct Source {
    pub path: String,
    pub text: String,
}

impl Source {
    /// The module that a file under `src` is: `src/actors/raft/mod.rs` is `actors::raft`. The file of a
    /// binary is `bin::<name>`, `src/lib.rs` is the root and has no name. None for a file elsewhere.
    pub fn module(&self) -> Option<Vec<String>> {
        let inside = self.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        let mut names: Vec<String> = inside.split('/').map(str::to_owned).collect();
        if matches!(names.last().map(String::as_str), Some("mod" | "lib")) {
            names.pop();
        }
        Some(names)
    }
}

/// All Rust files under `src` and `tests`, in order of their paths.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["src", "tests"] {
        collect(&root.join(folder), &mut paths);
    }
    paths.sort();
    assert!(paths.len() > 10, "only {} Rust files under {}", paths.len(), root.display());
    let read = |path: &PathBuf| {
        let inside = path.strip_prefix(root).unwrap().to_str().unwrap();
        Source { path: inside.to_owned(), text: fs::read_to_string(path).unwrap() }
    };
    paths.iter().map(read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn assert_none(violations: Vec<Violation>) {
    let lines: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(lines.is_empty(), "{} against the rules:\n{}\n", lines.len(), lines.join("\n"));
}

#[test]
fn imports_point_down() {
    assert_none(sources().iter().flat_map(rules::imports_upwards).collect());
}

#[test]
fn crates_are_named_in_their_rooms_only() {
    assert_none(sources().iter().flat_map(rules::crates_outside_their_rooms).collect());
}

#[test]
fn files_hold_one_idea_each() {
    assert_none(rules::outgrown(&sources(), rules::OUTGROWN));
}

#[test]
fn nothing_is_unsafe_or_left_unfinished() {
    assert_none(rules::unsafe_code(&sources(), rules::UNSAFE));
    assert_none(sources().iter().flat_map(rules::left_unfinished).collect());
}

#[test]
fn a_file_knows_its_module() {
    let module = |path: &str| Source { path: path.to_owned(), text: String::new() }.module();
    let names = |path: &str| module(path).map(|names| names.join("::"));
    assert_eq!(names("src/lib.rs").as_deref(), Some(""));
    assert_eq!(names("src/client.rs").as_deref(), Some("client"));
    assert_eq!(names("src/actors/mod.rs").as_deref(), Some("actors"));
    assert_eq!(names("src/actors/raft/read.rs").as_deref(), Some("actors::raft::read"));
    assert_eq!(names("src/bin/conure-db.rs").as_deref(), Some("bin::conure-db"));
    assert_eq!(names("tests/simulation/main.rs"), None);
}
