//! What is packaged: the unit, the example of a settings file, completions, manual pages, the list of the package's files.
#![allow(clippy::disallowed_methods)] // real files and programs are the point

mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use clap::Parser;
use conuredb::config::{Cli, Config};
use settings::WITHOUT_DEFAULT;

const UNIT: &str = include_str!("../deploy/systemd/conure-db.service");
const EXAMPLE: &str = include_str!("../deploy/conure-db.example.yml");
const MANIFEST: &str = include_str!("../Cargo.toml");

/// Most that `systemd-analyze security` may find open, of 10.0; its own word for less than this is "OK".
const MOST_EXPOSURE: &str = "2.0";

/// The values of a key of the unit, in their order.
fn unit_values(key: &str) -> Vec<&'static str> {
    UNIT.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// The example with its settings in force, one section and key a line: `section.key: value`.
fn settings() -> Vec<(String, String)> {
    let mut section = String::new();
    let mut settings = Vec::new();
    for line in EXAMPLE.lines() {
        let is_inside = line.starts_with("  ");
        let line = line.trim_start();
        match line.strip_prefix('#') {
            None if line.is_empty() => {}
            None => section = line.strip_suffix(':').expect("a section stands alone").to_owned(),
            Some(said) if said.is_empty() || said.starts_with(' ') => {}
            Some(setting) => {
                let (key, value) = setting.split_once(": ").expect(line);
                let key = if is_inside { format!("{section}.{key}") } else { key.to_owned() };
                settings.push((key, value.to_owned()));
            }
        }
    }
    settings
}

fn load(yaml: &str) -> Config {
    let none = std::iter::empty();
    let config = Config::from_layers(Some(("example", yaml)), none, &Cli::default());
    let config = config.unwrap_or_else(|errors| panic!("{yaml}{errors}"));
    Config { origins: BTreeMap::new(), ..config }
}

#[test]
fn the_example_as_it_stands_changes_nothing() {
    assert_eq!(load(EXAMPLE), Config::default());
}

#[test]
fn the_example_tells_of_every_setting_and_its_default() {
    let settings = settings();
    let mut defaults = String::new();
    for (key, value) in &settings {
        match WITHOUT_DEFAULT.contains(&key.as_str()) {
            true => drop(load(&format!("{key}: {value}\n"))),
            false => defaults.push_str(&format!("{key}: {value}\n")),
        }
    }
    assert_eq!(load(&defaults), Config::default());

    let told: BTreeSet<&str> = settings.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(told.len(), settings.len(), "a setting stands twice");
    for key in Config::keys() {
        assert!(told.contains(key), "deploy/conure-db.example.yml does not tell of {key}");
    }
}

#[test]
fn the_unit_calls_the_program_as_it_can_be_called() {
    let [command] = unit_values("ExecStart")[..] else { panic!("one command") };
    let words: Vec<&str> = command.split_whitespace().collect();
    let cli = Cli::try_parse_from(&words).expect("flags that there are");
    let config = cli.config.expect("a settings file");
    assert!(
        MANIFEST.contains(&format!("conf-files = [\"{config}\"]")),
        "{config} is in the package"
    );
    assert!(MANIFEST.contains("\"target/release/conure-db\", \"usr/bin/\""));
    assert_eq!(words[0], "/usr/bin/conure-db");
    // ./data is in the directory that systemd makes for the node.
    let [state] = unit_values("StateDirectory")[..] else { panic!("one directory") };
    assert_eq!(unit_values("WorkingDirectory"), [format!("%S/{state}")]);
    assert!(Config::default().data_dir.is_relative());
    // More time than the node takes for its requests.
    let [stop] = unit_values("TimeoutStopSec")[..] else { panic!("one limit") };
    let stop = humantime::parse_duration(stop).expect("a duration");
    assert!(stop > Config::default().timeouts.shutdown * 2);
}

#[test]
fn systemd_takes_the_unit_and_finds_little_open() {
    if !Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_ok_and(|said| said.status.success())
    {
        println!("not checked here: there is no systemd-analyze");
        return;
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let unit = home.path().join("conure-db.service");
    // The verifier looks for the program, which is not installed here.
    let here = UNIT.replace("/usr/bin/conure-db", env!("CARGO_BIN_EXE_conure-db"));
    fs::write(&unit, here).expect("a file");
    let analyze = |arguments: &[&str]| {
        let said =
            Command::new("systemd-analyze").args(arguments).arg(&unit).output().expect("it runs");
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&said.stdout),
            String::from_utf8_lossy(&said.stderr)
        );
        (said.status.success(), text)
    };
    let (is_sound, said) = analyze(&["verify", "--man=no"]);
    let about_it: Vec<&str> =
        said.lines().filter(|line| line.contains("conure-db.service")).collect();
    assert!(is_sound && about_it.is_empty(), "{said}");
    let threshold = format!("--threshold={}", MOST_EXPOSURE.replace('.', ""));
    let (is_closed, said) = analyze(&["security", "--offline=true", "--no-pager", &threshold]);
    assert!(is_closed, "{said}");
}

#[test]
fn the_package_names_files_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (_, rest) = MANIFEST.split_once("\nassets = [\n").expect("a list of files");
    let (assets, _) = rest.split_once("\n]\n").expect("its end");
    let script = fs::read_to_string(root.join("deploy/deb.sh")).expect("the script");
    for asset in assets.lines() {
        let source = asset.trim().trim_start_matches("[\"").split('"').next().expect(asset);
        match source.strip_prefix("target/") {
            None => assert!(root.join(source).exists(), "{source}"),
            Some(built) if built.starts_with("release/") => {
                let program = format!("[[bin]]\nname = \"{}\"\n", &built["release/".len()..]);
                assert!(MANIFEST.contains(&program), "{source}");
            }
            Some(page) => {
                assert!(page.starts_with("package/") && script.contains("pages=target/package"))
            }
        }
    }
}

/// What a program prints, and that it was content.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env_remove("CONURE_CONFIG")
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn both_programs_print_completions_that_shells_can_read() {
    let home = tempfile::tempdir().expect("a temporary directory");
    for (program, words) in [
        (env!("CARGO_BIN_EXE_conure-db"), ["demo", "check", "--raft-addr", "--no-shell"]),
        (env!("CARGO_BIN_EXE_conuresh"), ["history", "--if-absent", "--server", "transfer"]),
    ] {
        for shell in ["bash", "zsh", "fish"] {
            let script = said(program, &["completions", shell]);
            // Fish writes options without their dashes.
            let known = |word: &str| script.contains(word.trim_start_matches('-'));
            assert!(words.iter().all(|word| known(word)), "{program} {shell}");
            let file = home.path().join("script");
            fs::write(&file, script).expect("a file");
            // Only bash is on every machine.
            let reads = |shell: &str| Command::new(shell).arg("-n").arg(&file).output();
            match reads(shell) {
                Ok(read) => assert!(read.status.success(), "{shell}: {read:?}"),
                Err(_) => assert_ne!(shell, "bash", "bash is missing"),
            }
        }
    }
}

#[test]
fn both_programs_write_manual_pages_of_all_their_commands() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let directory = home.path().to_str().expect("a path of text");
    for program in [env!("CARGO_BIN_EXE_conure-db"), env!("CARGO_BIN_EXE_conuresh")] {
        assert!(said(program, &["man"]).contains(".SH SYNOPSIS"));
        said(program, &["man", "--out", directory]);
    }
    for page in [
        "conure-db",
        "conure-db-check",
        "conure-db-demo",
        "conuresh",
        "conuresh-txn",
        "conuresh-top",
    ] {
        let text = fs::read_to_string(home.path().join(format!("{page}.1"))).expect(page);
        assert!(text.contains(".SH NAME"), "{page}");
    }
    let shell = fs::read_to_string(home.path().join("conuresh.1")).expect("a page");
    assert!(shell.contains("CONURE_SERVER"), "{shell}");
    let put = fs::read_to_string(home.path().join("conuresh-put.1")).expect("a page");
    assert!(put.contains("if\\-absent") && put.contains("greeting"), "{put}");
}
