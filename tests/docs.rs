//! The pages say what the program does, where that can be asked of it: the settings and their defaults, the
//! metrics, the codes of errors, and where links lead.

mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use conuredb::config::{Cli, Config};
use conuredb::metrics::Metrics;
use settings::WITHOUT_DEFAULT;

const CONFIGURATION: &str = include_str!("../docs/CONFIGURATION.md");
const API: &str = include_str!("../docs/API.md");
const METRICS: &str = include_str!("../docs/METRICS.md");

/// The cells of every table row that begins with code.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`')
}

/// The keys that the program prints as YAML, dotted.
fn keys_of(yaml: &str) -> BTreeSet<String> {
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in yaml.lines() {
        let inside = line.starts_with("  ");
        let (name, rest) = line.trim_start_matches([' ', '#']).split_once(':').expect(line);
        match (inside, rest.is_empty()) {
            (false, true) => section = format!("{name}."),
            (false, false) => keys.extend([name.to_owned()]),
            (true, _) => keys.extend([format!("{section}{name}")]),
        }
    }
    keys
}

#[test]
fn the_table_of_settings_is_complete_and_its_defaults_are_in_force() {
    let mut defaults = String::new();
    let mut keys = BTreeSet::new();
    for row in rows(CONFIGURATION) {
        let [key, flag, variable, default, _meaning] = row[..] else { panic!("cells: {row:?}") };
        let key = code(key).expect("a key is code");
        assert!(keys.insert(key.to_owned()), "{key} stands twice");

        let flag = code(flag).expect("a flag is code");
        let own = format!("--{}", key.replace('_', "-"));
        let expected = if key.contains('.') { "--set" } else { &own };
        assert_eq!(flag.trim_end_matches("[=BOOL]"), expected);

        let named = format!("CONURE_{}", key.to_ascii_uppercase().replace('.', "__"));
        assert_eq!(code(variable), Some(&named[..]));

        match code(default) {
            Some(value) => defaults.push_str(&format!("{key}: \"{value}\"\n")),
            None => assert!(WITHOUT_DEFAULT.contains(&key), "{key}: its default is code"),
        }
    }
    assert_eq!(keys, keys_of(&Config::default().to_yaml()));

    let none = std::iter::empty();
    let read = Config::from_layers(Some(("docs", &defaults)), none, &Cli::default());
    let read = Config { origins: BTreeMap::new(), ..read.expect("the defaults are valid") };
    assert_eq!(read, Config::default());
}

#[test]
fn the_example_of_a_settings_file_is_valid() {
    let (_, rest) = CONFIGURATION.split_once("```yaml\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let none = std::iter::empty();
    Config::from_layers(Some(("docs", example)), none, &Cli::default()).expect("a valid example");
}

/// The rows of the tables of metrics, as the code registers them.
fn registered_metrics() -> BTreeSet<String> {
    let metrics = Metrics::new("0");
    // A family without a member is not told of.
    metrics.observe_request("kv", "GET", 200, Duration::ZERO);
    metrics.peers.observe_round_trip("node2", Duration::ZERO);
    metrics.peers.set_lag("node2", 0);
    let text = metrics.encode().expect("a string takes every write");
    let facts = |kind: &str| -> BTreeMap<String, String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(kind));
        lines.filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.into(), b.into())).collect()
    };
    let (kinds, units, abouts) = (facts("# TYPE "), facts("# UNIT "), facts("# HELP "));
    let row = |(name, kind): (&String, &String)| {
        let suffix = match kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let unit = units.get(name).map_or("", String::as_str);
        // The library ends it with a full stop.
        let about = abouts[name].trim_end_matches('.');
        format!("| `{name}{suffix}` | {kind} | {unit} | {about} |")
    };
    kinds.iter().map(row).collect()
}

#[test]
fn the_tables_of_metrics_are_what_the_code_registers() {
    let is_metric =
        |line: &&str| line.starts_with("| `conuredb_") || line.starts_with("| `process_");
    let told: BTreeSet<String> = METRICS.lines().filter(is_metric).map(str::to_owned).collect();
    let registered = registered_metrics();
    let (missing, extra): (Vec<_>, Vec<_>) =
        (registered.difference(&told).collect(), told.difference(&registered).collect());
    assert!(
        missing.is_empty() && extra.is_empty(),
        "docs/METRICS.md lacks {missing:#?} and has {extra:#?}"
    );
}

#[test]
fn every_code_of_an_error_is_described_with_its_status() {
    let source = include_str!("../src/http/error.rs");
    let codes: Vec<(&str, &str)> = source
        .lines()
        .filter_map(|line| {
            line.trim().strip_prefix("Code::")?.split_once("=> (")?.1.split_once(", \"")
        })
        .map(|(status, rest)| (status, rest.split_once('"').expect(rest).0))
        .collect();
    assert!(codes.len() > 20, "the table of codes was not found: {codes:?}");
    for (status, code) in codes {
        let row = format!("| {status} | ");
        let described =
            API.lines().any(|line| line.starts_with(&row) && line.contains(&format!("`{code}`")));
        assert!(described, "docs/API.md does not tell of {status} {code}");
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    for folder in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root.join(folder)).expect(folder);
        let paths = entries.map(|entry| entry.expect(folder).path());
        pages.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    for page in pages {
        let text = fs::read_to_string(&page).expect("a page");
        for link in
            text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link)
        {
            let file = link.split_once('#').map_or(link, |(file, _)| file);
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let target = page.parent().expect("a folder").join(file);
            assert!(target.exists(), "{}: there is no {link}", page.display());
        }
    }
}
